"""`wm-gym bench`: how fast things are, on this machine, in one run."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

import tyro

from wm_gym.programs.bench_dream import Dreams, bench_compiled, bench_dream
from wm_gym.programs.bench_gradient import Gradients, bench_gradient
from wm_gym.programs.bench_loading import bench_loading
from wm_gym.programs.bench_memory import Pasts, bench_memory
from wm_gym.programs.bench_profile import bench_profile
from wm_gym.programs.bench_systems import bench_systems
from wm_gym.programs.machine import machine

Part = Literal["systems", "loading", "dream", "compiled", "profile", "gradient", "memory"]


class Timing(TypedDict):
    seconds: float
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Bench:
    parts: tuple[Part, ...] = ("systems", "loading")
    """What to measure, one or more; all of it takes half an hour."""

    seconds: float = 3.0
    """Seconds to measure each thing for, in each of the rounds."""

    rounds: int = 5
    """How often to measure all of them in turn; medians are printed, with the range."""

    episodes: int = 24
    """How many episodes to log, to measure the loading of data."""

    dreams: Dreams = field(default_factory=Dreams)
    gradients: Gradients = field(default_factory=Gradients)
    pasts: Pasts = field(default_factory=Pasts)
    """What the speed of a world model with memory is measured after."""

    out: Path | None = None
    """JSON file to write the figures to; without it they are only printed."""

    def __post_init__(self) -> None:
        if not (0 < self.seconds < math.inf and self.rounds >= 1):
            raise ValueError(
                f"seconds is {self.seconds} and rounds {self.rounds}, expected both above 0"
            )
        if self.episodes < 1:
            raise ValueError(f"episodes is {self.episodes}, expected at least 1")
        if self.out is not None and self.out.is_dir():
            raise ValueError(f"out is {self.out}, which is a folder, expected a file for figures")


@tyro.conf.configure(tyro.conf.OmitArgPrefixes)
def bench(config: Bench) -> None:
    """Measure the speed of systems, of loading data and of dreams; prints tables."""
    figures: dict[str, Any] = {}
    timing: Timing = {"seconds": config.seconds, "rounds": config.rounds}
    if "systems" in config.parts:
        figures["systems"] = bench_systems(**timing)
    if "loading" in config.parts:
        figures["loading"] = bench_loading(**timing, episodes=config.episodes)
    if "dream" in config.parts:
        figures["dream"] = bench_dream(config.dreams, **timing)
    if "compiled" in config.parts:
        figures["compiled"] = bench_compiled(config.dreams, **timing)
    if "profile" in config.parts:
        figures["profile"] = bench_profile(config.dreams, **timing)
    if "gradient" in config.parts:
        figures["gradient"] = bench_gradient(config.dreams, config.gradients, **timing)
    if "memory" in config.parts:
        figures["memory"] = bench_memory(config.dreams, config.pasts, **timing)
    if config.out is not None:
        said = {"machine": machine(), **asdict(config), "out": None, **figures}
        config.out.parent.mkdir(parents=True, exist_ok=True)
        config.out.write_text(json.dumps(said, indent=1))
