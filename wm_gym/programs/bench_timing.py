"""How `wm-gym bench` times things: in turn, round after round, so that none has the best of it."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_gym.programs.progress import Bar

Step = Callable[[], int]
"""Does something and says how many environment steps that was."""

WARM_UP = 3
"""Steps before each measurement, unless they are so slow that one will do."""


@dataclass(frozen=True)
class Speed:
    """Of one thing: what each round gave, and how long each step took in seconds."""

    steps_per_second: list[float]
    times: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.steps_per_second)

    @property
    def span(self) -> str:
        low, high = min(self.steps_per_second), max(self.steps_per_second)
        digits = 0 if low >= 100 else 1
        return f"{low:,.{digits}f}–{high:,.{digits}f}"

    def milliseconds(self, share: float) -> float:
        """Within which this share of the steps was done."""
        return 1e3 * float(np.quantile(self.times, share))

    def figures(self) -> dict[str, Any]:
        return {
            "steps_per_second": self.steps_per_second,
            "median_ms": self.milliseconds(0.5),
            "p99_ms": self.milliseconds(0.99),
        }


def in_turns(
    rows: Mapping[str, Step], *, seconds: float, rounds: int, title: str
) -> dict[str, Speed]:
    """Each step function for that long, all of them in each round."""
    speeds = {name: Speed([], []) for name in rows}
    bar = Bar(total=rounds * len(rows), desc=title)
    with bar:
        for _ in range(rounds):
            for name, step in rows.items():
                per_second, times = measured(step, seconds)
                speeds[name].steps_per_second.append(per_second)
                speeds[name].times.extend(times)
                bar.update()
    return speeds


def measured(step: Step, seconds: float) -> tuple[float, list[float]]:
    """Steps per second after warming up, and the time of each call."""
    begin = time.perf_counter()
    for _ in range(WARM_UP):
        step()
        if time.perf_counter() - begin > seconds:
            break
    count, times = 0, list[float]()
    begin = now = time.perf_counter()
    while now - begin < seconds:
        count += step()
        times.append(time.perf_counter() - now)
        now += times[-1]
    return count / (now - begin), times
