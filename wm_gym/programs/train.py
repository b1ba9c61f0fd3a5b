"""`wm-gym train`: train a global model on a dataset."""

import io
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import tyro
from accelerate import Accelerator
from accelerate.utils import set_seed
from PIL import Image
from tqdm import tqdm

from wm_gym.data import Dataset, WindowBatch, Windows
from wm_gym.data.files import write_atomically
from wm_gym.models.global_model import GlobalModel
from wm_gym.systems import system_named
from wm_gym.training.checkpoint import load_checkpoint, save_checkpoint
from wm_gym.training.global_model import GlobalTrainer, GlobalTraining, GlobalUpdate
from wm_gym.training.rollout import filmstrip

CHECKPOINT, CURVE, PICTURE, MODEL = "checkpoint.pt", "curve.jsonl", "rollout.png", "global"
FILMED = (0, 1, 2, 5, 10, 15, 30, 50)
"""Frames after the context that the filmstrip shows."""


@dataclass(frozen=True, kw_only=True)
class Train:
    data: Path
    """The dataset to learn from."""

    out: Path
    """Where the model, its checkpoint, its curve and pictures go; a run that is there goes on."""

    test: Path | None = None
    """A dataset to film: real above dream."""

    channels: tuple[int, ...] = (64, 128, 256)
    """Of the U-Net, from fine to coarse."""

    layers: int = 1
    """Residual blocks at each resolution."""

    patch: int = 6
    """Pixels of a cell's side."""

    action_encoding: Literal["linear", "two-hot"] = "two-hot"
    training: GlobalTraining = field(default_factory=GlobalTraining)
    save_minutes: float = 3.0
    """How often to save a checkpoint and a picture."""


PRESETS = {
    "tiny": (
        "Seconds on a CPU; used by the tests.",
        Train(
            data=tyro.MISSING, out=tyro.MISSING, channels=(16, 32), patch=8,
            training=GlobalTraining(updates=20, batch_size=8, warmup=5, decay=5),
        ),
    ),
    "cpu": (
        "Hours on two cores.",
        Train(data=tyro.MISSING, out=tyro.MISSING, channels=(64, 128)),
    ),
    "gpu": (
        "Minutes on a large GPU.",
        Train(
            data=tyro.MISSING, out=tyro.MISSING, channels=(128, 256, 384), layers=2,
            training=GlobalTraining(batch_size=512, updates=60_000),
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


def train(config: TrainOfPreset) -> None:
    """Train a diffusion model of the next frame; the same command goes on where a run stopped."""
    dataset = Dataset.open(config.data)
    accelerator = Accelerator(mixed_precision=_precision())
    set_seed(config.training.seed)  # a program may: for the first weights
    trainer = GlobalTrainer(_model(config, dataset), config.training, accelerator)
    film = _film(config, trainer)
    checkpoint = config.out / CHECKPOINT
    if checkpoint.exists():
        trainer.load_state_dict(load_checkpoint(checkpoint))
    bar = tqdm(
        total=config.training.updates, initial=trainer.step, unit="step", disable=None,
        desc=f"training {config.out}",
    )  # fmt: skip
    saved, recent = time.monotonic(), list[GlobalUpdate]()
    try:
        for update in trainer.train(dataset):
            recent.append(update)
            bar.update()
            if len(recent) % 20 == 0:
                bar.set_postfix(_means(recent[-20:]))
            if time.monotonic() - saved > 60 * config.save_minutes:
                _save(config, trainer, recent, film)
                saved, recent = time.monotonic(), []
    finally:
        bar.close()
        _save(config, trainer, recent, film)
    if accelerator.is_main_process:
        trainer.average.save_pretrained(config.out / MODEL)
        print(f"model: {config.out / MODEL}")


def _model(config: Train, dataset: Dataset) -> GlobalModel:
    model = GlobalModel(
        frame_shape=dataset.spec.picture,
        action_size=dataset.spec.action_size,
        context=system_named(dataset.spec.robot_type or "").context,
        patch=config.patch,
        channels=config.channels,
        layers=config.layers,
        action_encoding=config.action_encoding,
    )
    return model.to(memory_format=torch.channels_last)


def _precision() -> str:
    """bf16 where the machine multiplies it fast."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else "no"


def _means(updates: list[GlobalUpdate]) -> dict[str, float]:
    rows = [asdict(update) for update in updates]
    return {name: float(f"{np.nanmean([row[name] for row in rows]):.3g}") for name in rows[0]}


def _film(config: Train, trainer: GlobalTrainer) -> WindowBatch | None:
    """Four windows to film, always the same."""
    if config.test is None:
        return None
    length = trainer.average.config.context + FILMED[-1]
    return Windows(Dataset.open(config.test), length=length, batch_size=4, seed=0).batch(0)


def _save(
    config: Train, trainer: GlobalTrainer, recent: list[GlobalUpdate], film: WindowBatch | None
) -> None:
    if not (recent and trainer.accelerator.is_main_process):
        return
    save_checkpoint(config.out / CHECKPOINT, trainer.state_dict())
    line = {"time": time.time(), **_means(recent), "step": trainer.step}
    with (config.out / CURVE).open("a") as file:
        file.write(json.dumps(line) + "\n")
    if film is not None:
        png = io.BytesIO()
        Image.fromarray(filmstrip(trainer.average, film, shown=FILMED)).save(png, "png")
        write_atomically(config.out / PICTURE, png.getvalue())
