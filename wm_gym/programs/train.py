"""`wm-gym train`: train a world model on a dataset, part by part."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import tyro
from accelerate import Accelerator

from wm_gym.data import Dataset
from wm_gym.models.folder import WORLD_MODEL
from wm_gym.models.world_model import Card, WorldModel
from wm_gym.programs.train_checks import check_checkpoints, remove_half_written
from wm_gym.programs.train_config import Train, check_data, origin_of
from wm_gym.programs.train_parts import Run, precision
from wm_gym.programs.train_sizes import check_sizes
from wm_gym.training.local_model import choose_logged
from wm_gym.training.starts import choose_starts
from wm_gym.training.trainer import Optimisation

PRESETS = {
    "tiny": (
        "Seconds on a CPU; used by the tests.",
        Train(
            data=tyro.MISSING, out=tyro.MISSING, patch=8, keypoints=4, channels=16, width=32,
            blocks=1, starts=8,
            autoencoder=Optimisation(updates=20, batch_size=8, warmup=5),
            global_model=Optimisation(updates=20, batch_size=8, warmup=5),
            refining=Optimisation(updates=5, batch_size=8, warmup=2), rollout=3,
            heads=Optimisation(updates=20, batch_size=8, warmup=5),
            eye=Optimisation(updates=20, batch_size=8, warmup=5),
            local_model=Optimisation(updates=20, batch_size=8, warmup=5),
            sequence=3, memory=12, local_width=32, logged=8,
        ),
    ),
    "quick": (
        "Half an hour on two cores: a first look at a world of your own.",
        Train(
            data=tyro.MISSING, out=tyro.MISSING,
            autoencoder=Optimisation(updates=4_000, learning_rate=1.5e-3),
            global_model=Optimisation(updates=8_000, batch_size=512),
            refining=Optimisation(updates=1_000, batch_size=256, learning_rate=3e-4),
            heads=Optimisation(updates=2_500, batch_size=512),
            eye=Optimisation(updates=3_000, batch_size=128, learning_rate=2e-3, ema=0.99),
            local_model=Optimisation(updates=2_500, batch_size=128),
        ),
    ),
    "cpu": (
        "Two hours on two cores; the packaged model.",
        Train(data=tyro.MISSING, out=tyro.MISSING),
    ),
    "gpu": (
        "Minutes on a large GPU.",
        Train(
            data=tyro.MISSING, out=tyro.MISSING, channels=128, width=1024,
            autoencoder=Optimisation(updates=20_000, batch_size=512, learning_rate=1.5e-3),
            global_model=Optimisation(updates=50_000, batch_size=4096),
            refining=Optimisation(updates=10_000, batch_size=2048, learning_rate=3e-4),
            heads=Optimisation(updates=10_000, batch_size=4096),
            eye=Optimisation(updates=10_000, batch_size=512, learning_rate=2e-3, ema=0.99),
            local_model=Optimisation(updates=15_000, batch_size=1024),
        ),
    ),
}  # fmt: skip

if TYPE_CHECKING:
    TrainOfPreset = Train
else:
    TrainOfPreset = tyro.extras.subcommand_type_from_defaults(
        {name: preset for name, (_, preset) in PRESETS.items()},
        {name: text for name, (text, _) in PRESETS.items()},
    )


def train(config: Annotated[TrainOfPreset, tyro.conf.arg(name="")]) -> None:
    """Train a diffusion world model; the same command goes on where a run stopped."""
    dataset = Dataset.open(config.data)
    check_data(config, dataset)
    check_sizes(config, dataset)
    check_checkpoints(config, dataset)
    remove_half_written(config)
    run = Run(config, dataset, Accelerator(mixed_precision=precision()))
    autoencoder = run.autoencoder()
    latents = run.latents(autoencoder)
    global_model = run.global_model(autoencoder, latents)
    unrefined, global_model = global_model, run.refined(global_model, autoencoder, latents)
    heads = run.heads(global_model, latents)
    seeing = run.eye(autoencoder, heads, latents)
    embedding = run.embedding(seeing)
    local_model = run.local_model(seeing, global_model, latents, embedding)
    if not run.accelerator.is_main_process:
        return
    context = global_model.config.context
    world_model = WorldModel(
        autoencoder, global_model, heads, local_model,
        card=Card(
            system=dataset.spec.robot_type or "",
            facts={**_facts(config, dataset), "refined": global_model is not unrefined},
            origin=origin_of(dataset),
        ),
        starts=choose_starts(dataset, count=config.starts, context=context, seed=0),
        logged=choose_logged(
            dataset, embedding, count=config.logged, length=config.rehearsed, seed=0
        ),
    )  # fmt: skip
    world_model.save_pretrained(config.out / WORLD_MODEL)
    print(f"world model: {config.out / WORLD_MODEL}")


def _facts(config: Train, dataset: Dataset) -> dict[str, Any]:
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
