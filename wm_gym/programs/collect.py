"""`wm-gym collect`: log a dataset."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from wm_gym.data import Dataset
from wm_gym.data.card import card_text, dataset_card
from wm_gym.data.collect import Recipe, collect_episodes
from wm_gym.programs.card import write_card
from wm_gym.programs.progress import Bar

_PUSH_CUBE: dict[str, Any] = {
    "env_id": "Real-PushCube-v0", "steps": 200, "proprioception": True
}  # fmt: skip

PRESETS = {
    "push-t-play": (
        "What the packaged world model learns from: 500 k frames of play.",
        Recipe(episodes=3312, seed=0),
    ),
    "push-t-test": (
        "Play that is never trained on.",
        Recipe(episodes=200, seed=1_000_000, split="test"),
    ),
    "push-t-random": (
        "Random actions alone, for fidelity tests.",
        Recipe(episodes=100, seed=2_000_000, split="random", behaviours=("smooth", "noisy")),
    ),
    "push-t-expert": (
        "A planner that solves the task: for imitation and fidelity tests.",
        Recipe(episodes=200, seed=3_000_000, split="expert", behaviours=("expert",)),
    ),
    "push-cube-play": (
        "12 hours of a Go2 that plays with a cube: 216 k frames.",
        Recipe(seed=10_000_000, episodes=1080, **_PUSH_CUBE),
    ),
    "push-cube-test": (
        "Play with a cube that is never trained on.",
        Recipe(seed=11_000_000, episodes=100, split="test", **_PUSH_CUBE),
    ),
    "push-cube-expert": (
        "A controller that knows the true state and brings the cube in.",
        Recipe(seed=12_000_000, episodes=100, split="expert", behaviours=("expert",), **_PUSH_CUBE),
    ),
    "push-cube-away": (
        "The cube leaves the picture for 1, 3, 6 or 12 s, and is looked at again.",
        Recipe(
            seed=13_000_000, episodes=330, split="away", scenario="push-cube-away", **_PUSH_CUBE
        ),
    ),
    "push-cube-choices": (
        "Five ways to go on from one moment close to the cube, each tried in truth.",
        Recipe(
            seed=14_000_000,
            episodes=400,
            split="choices",
            scenario="push-cube-choices",
            **_PUSH_CUBE,
        ),
    ),
    "push-cube-floor": (
        "The same state twice, under the same actions and other noise.",
        Recipe(
            seed=15_000_000, episodes=120, split="floor", scenario="push-cube-floor", **_PUSH_CUBE
        ),
    ),
    "any": ("Any Gymnasium id.", Recipe(env_id=tyro.MISSING)),
}


@dataclass(frozen=True, kw_only=True)
class Job:
    out: Path
    """Folder to write the dataset into; one that is unfinished goes on."""

    recipe: Recipe
    workers: int | None = None
    """How many processes to use; all cores without it. The data does not depend on it."""


if TYPE_CHECKING:
    JobOfPreset = Job
else:
    JobOfPreset = tyro.extras.subcommand_type_from_defaults(
        {name: Job(out=tyro.MISSING, recipe=recipe) for name, (_, recipe) in PRESETS.items()},
        {name: text for name, (text, _) in PRESETS.items()},
    )


@tyro.conf.configure(tyro.conf.OmitArgPrefixes)
def collect(job: JobOfPreset) -> None:
    """Log a dataset on all cores; the same command goes on where a stopped one was."""
    recipe, out = job.recipe, job.out
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # else it complains into the bar
    staged = recipe.scenario is not None  # and nobody knows how long
    unit, each = ("episode", 1) if staged else ("frame", recipe.steps + 1)
    bar = Bar(total=each * recipe.episodes, unit=unit, unit_scale=True, desc=f"logging {out}")
    with bar:
        there = recipe.episodes
        for logged in collect_episodes(recipe, out, workers=job.workers):
            there -= 1
            bar.update(1 if staged else logged.frames)
        bar.set_description(f"packed {out}, {there} episodes were there already")
    dataset = Dataset.open(out)
    covered = dataset_card(dataset)
    print(card_text(covered))
    print(f"card: {write_card(dataset, covered)}")
