"""`wm-gym train`: train a world model on a dataset, part by part."""

import copy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import tyro
from accelerate import Accelerator

from wm_gym.data import Dataset
from wm_gym.data.origin import origin_of
from wm_gym.models.folder import WORLD_MODEL
from wm_gym.models.world_model import Card, WorldModel
from wm_gym.programs.train_checks import check_checkpoints, remove_half_written
from wm_gym.programs.train_run import TrainingRun, precision
from wm_gym.training.recipe import Recipe, Training
from wm_gym.training.recipes import recipe_of, recipes
from wm_gym.training.starts import choose_starts


def named(default: Recipe, *others: Recipe) -> dict[str, tuple[str, Training]]:
    """Presets of all these kinds; the default kind's have no prefix."""
    more = {f"{r.kind}-{name}": preset for r in others for name, preset in r.presets.items()}
    return {**default.presets, **more}


PRESETS: Mapping[str, tuple[str, Training]] = named(*recipes())


def asking(preset: Training) -> Training:
    """The same, for which the command line has to give the dataset and the folder."""
    asked = copy.copy(preset)
    for name in ("data", "out"):
        object.__setattr__(asked, name, tyro.MISSING)  # which is no Path
    return asked


if TYPE_CHECKING:
    TrainOfPreset = Training
else:
    TrainOfPreset = tyro.extras.subcommand_type_from_defaults(
        {name: asking(preset) for name, (_, preset) in PRESETS.items()},
        {name: text for name, (text, _) in PRESETS.items()},
    )


def train(config: Annotated[TrainOfPreset, tyro.conf.arg(name="")]) -> None:
    """Train a diffusion world model; the same command goes on where a run stopped."""
    dataset, recipe = Dataset.open(config.data), recipe_of(config)
    recipe.check(config, dataset)
    check_checkpoints(recipe, config, dataset)
    remove_half_written(recipe, config.out)
    run = TrainingRun(config, dataset, Accelerator(mixed_precision=precision()), recipe.learns_from)
    trained = recipe.train(config, run)
    if not run.accelerator.is_main_process:
        return
    world_model = WorldModel(
        trained.global_model, trained.local_model,
        card=Card(
            system=dataset.spec.robot_type or "",
            facts={**_facts(config, dataset), **trained.facts},
            origin=origin_of(dataset),
        ),
        starts=choose_starts(
            dataset, trained.global_model.spec, count=config.starts, seed=0,
            windows=config.start_windows,
        ),
        logged=trained.logged,
    )  # fmt: skip
    world_model.save_pretrained(config.out / WORLD_MODEL)
    print(f"world model: {config.out / WORLD_MODEL}")


def _facts(config: Training, dataset: Dataset) -> dict[str, Any]:
    """Where the model comes from, for its card."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "dataset": {
            "name": config.data.name,
            "hash": dataset.hash,
            "frames": dataset.num_frames,
            "fps": dataset.spec.fps,
        },
        "command": " ".join([_program(), *sys.argv[1:]]),
        "commit": commit or "unknown",
        "torch": torch.__version__,
    }


def _program() -> str:
    """How to call what is running: `wm-gym`, or a script that trains."""
    script, here = Path(sys.argv[0]).absolute(), Path.cwd()
    if script.stem == "wm-gym" or script.parts[-3:] == ("wm_gym", "programs", "__main__.py"):
        return "wm-gym"
    return f"python {script.relative_to(here) if script.is_relative_to(here) else script.name}"
