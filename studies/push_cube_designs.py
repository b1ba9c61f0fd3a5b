"""Which memory dreams Push Cube: each design learns for as long, on the same codes, and is judged
by the same looks away and the same choices. Prints a table; a design that is done stays as it is.
All are warped for as many updates before.

    python studies/push_cube_designs.py --tokenizer-of out/push-cube --minutes 20
"""

import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

FEW = "--kept", "2"
DESIGNS = {
    "kept frames, landmarks, a GRU": (),
    "two kept frames, landmarks, a GRU": FEW,
    "kept frames, a GRU": ("--points", "1", "--directions", "1"),
    "kept frames, landmarks, hardly a GRU": ("--memory", "16"),
    "two kept frames, a GRU": (*FEW, "--points", "1", "--directions", "1"),
    "nobody expects what odometry finds": ("--remembering.motion", "0"),
    "8 steps ahead": ("--remembering.ahead", "8", "--sequence", "48"),
    "memory of 4 frames": (
        *FEW, "--prefill", "4", "--remembering.seen", "4", "--sequence", "44",
    ),
    "memory of 96 frames": (
        "--kept", "25", "--apart", "4", "--prefill", "96", "--remembering.seen", "96",
        "--sequence", "136",
    ),
}  # fmt: skip
"""By name: what differs from the usual settings, of which the first is one."""

AWAY, CHOICES = "push-cube-away", "push-cube-choices"
RETURNS, STEPS = ("away 1 s", "away 3 s", "away 6 s", "away 12 s"), ("15", "50")
HEAD = (
    "design", "seed", "updates", *(f"there, {name}, %" for name in RETURNS),
    "off, away 3 s, m: median / mean / worst tenth", "best of five, %",
    *(f"cube off at {step}, m" for step in STEPS), *(f"heading off at {step}, °" for step in STEPS),
)  # fmt: skip

PACED = 60
"""Updates that a design's speed is measured by."""


@dataclass(frozen=True, kw_only=True)
class Study:
    tokenizer_of: Path
    """Folder of a training whose tokenizer all designs use."""

    minutes: float = 20.0
    """Minutes that the dynamics of each learn for."""

    designs: tuple[str, ...] = tuple(DESIGNS)
    """Which to compare."""

    data: Path = Path("data/push-cube-play")
    test: Path = Path("data/push-cube-test")
    out: Path = Path("out/designs")
    """Folder for trainings, figures and the table."""

    seeds: tuple[int, ...] = (0,)
    """Of weights and batches; each design learns once with each."""

    def __post_init__(self) -> None:
        if unknown := set(self.designs) - set(DESIGNS):
            raise ValueError(f"no designs {sorted(unknown)}; there are {sorted(DESIGNS)}")
        if not 0 < self.minutes < math.inf:
            raise ValueError(f"minutes is {self.minutes}, expected more than 0")


def study(config: Study) -> None:
    rows = []
    for name in config.designs:
        for seed in config.seeds:
            file = config.out / _folder(name, seed) / "judged" / "fidelity.json"
            if not file.exists():
                _train(config, name, seed)
                _judge(config, name, seed)
            rows.append(
                row_of(name, seed, json.loads(file.read_text()), _updates(config, name, seed))
            )
            print(table(rows), flush=True)
    (config.out / "designs.md").write_text(table(rows) + "\n")


def _folder(name: str, seed: int) -> str:
    return f"{name.replace(',', '').replace(' ', '-')}-{seed}"


def _train(config: Study, name: str, seed: int) -> None:
    """Its number of updates is what it does in that many minutes on this machine."""
    out = config.out / _folder(name, seed)
    pace = out / "pace.json"
    if not pace.exists():
        begun = time.perf_counter()
        _run(_training(config, name, seed, out / "paced", 1, heads=1, warp=1))
        without = time.perf_counter() - begun
        begun = time.perf_counter()
        _run(_training(config, name, seed, out / "paced-more", 1 + PACED, heads=1, warp=1))
        pace.parent.mkdir(parents=True, exist_ok=True)
        pace.write_text(json.dumps((time.perf_counter() - begun - without) / PACED))
    _run(_training(config, name, seed, out, _updates(config, name, seed), heads=400, warp=1500))


def _updates(config: Study, name: str, seed: int) -> int:
    pace = config.out / _folder(name, seed) / "pace.json"
    return round(60 * config.minutes / json.loads(pace.read_text()))


def _training(
    config: Study, name: str, seed: int, out: Path, updates: int, heads: int, warp: int
) -> tuple[str, ...]:
    return (
        "train", "memory-full", "--data", str(config.data), "--test", str(config.test),
        "--tokenizer-of", str(config.tokenizer_of), "--out", str(out), "--starts", "8",
        "--start-windows", "4", "--dynamics.updates", str(updates), "--dynamics.seed", str(seed),
        "--warp.updates", str(warp), "--heads.updates", str(heads), "--local-model.updates", "1",
        *DESIGNS[name],
    )  # fmt: skip


def _judge(config: Study, name: str, seed: int) -> None:
    out = config.out / _folder(name, seed)
    judged = "--rollouts", "100", "--transitions", "100", "--filmed", "3"
    _run(("evaluate", str(out / "world-model"), *judged, "--out", str(out / "judged")))


def _run(arguments: tuple[str, ...]) -> None:
    subprocess.run([sys.executable, "-m", "wm_gym.programs", *arguments], check=True)


def row_of(name: str, seed: int, told: Mapping[str, Any], updates: int) -> tuple[str, ...]:
    memory, learned = told["memory"], told["behaviours"]["test"]["figures"]
    returns, choices = memory["returns"][AWAY], memory["choices"][CHOICES]
    there = [_share(each["present"]) for group, each in returns.items() if group in RETURNS]
    off = returns[RETURNS[1]]["off"]
    return (
        name, str(seed), f"{updates:,}", *there,
        f"{off['median']['value']:.2f} / {off['mean']:.2f} / {off['ninth_decile']:.2f}",
        _share(choices["best"]),
        *(f"{learned['cube'][step]['median']['value']:.2f}" for step in STEPS),
        *(f"{learned['heading'][step]['median']['value']:.0f}" for step in STEPS),
    )  # fmt: skip


def _share(found: Mapping[str, float]) -> str:
    value, low, high = (100 * found[name] for name in ("value", "low", "high"))
    return f"{value:.0f} ({low:.0f}–{high:.0f})"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """In Markdown."""
    lines = [HEAD, ("---", *("---:" for _ in HEAD[1:])), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    study(tyro.cli(Study))
