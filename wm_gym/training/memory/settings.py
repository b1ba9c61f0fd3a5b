"""What can be chosen when a world with memory is trained, and what is in reach of a dataset."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from wm_gym.data import Dataset
from wm_gym.data.absence import system_of
from wm_gym.data.origin import origin_of
from wm_gym.models.folder import LARGEST_PART
from wm_gym.models.memory.dynamics import Dynamics
from wm_gym.models.memory.kind import MEMORY
from wm_gym.models.memory.tokenizer import Tokenizer
from wm_gym.models.on_paper import check_could_load
from wm_gym.models.world_model import Card
from wm_gym.numbers import check_least
from wm_gym.training.memory.dynamics import Remembering
from wm_gym.training.memory.local_model import Following
from wm_gym.training.memory.tokenizer import Tokenizing
from wm_gym.training.recipe import Training
from wm_gym.training.rewards import reward_scale
from wm_gym.training.trainer import Optimisation


@dataclass(frozen=True, kw_only=True)
class MemoryTraining(Training):
    tokenizer_of: Path | None = None
    """Folder of another run whose trained tokenizer is used instead of training one."""

    starts: int = 304
    """Logged moments to keep with the model, which its episodes can begin from."""

    start_windows: int | None = 48
    """How many of these are windows of --prefill frames; the others are single first frames."""

    logged: int = 64
    """Logged sequences to keep with the model, for agents that train its local model further."""

    prefill: int = 32
    """Real frames that a dream begins from, at most."""

    cell_channels: int = 16
    """Numbers that the tokenizer describes a cell of 16 × 16 pixels by."""

    channels: int = 64
    """Channels of the tokenizer's convolutions, a multiple of 8."""

    memory: int = 256
    """Size of the global model's recurrent state, a multiple of 16."""

    points: int = 32
    """Landmarks of the global model's memory that have a place."""

    directions: int = 8
    """Landmarks of the global model's memory that are infinitely far off."""

    kept: int = 12
    """Frames that the global model's memory keeps; at least 2."""

    apart: int = 3
    """Moments between these, but for the last one."""

    recent: int = 8
    """How many of the last actions a camera's motion is told from; at least 2."""

    width: int = 512
    """Units in a layer between memory and pictures."""

    painter_channels: int = 64
    """Channels of the denoiser's convolutions, a multiple of 8."""

    blocks: int = 2
    """Residual blocks of the denoiser."""

    action_encoding: Literal["linear", "two-hot"] = "linear"
    """How the global model is told each number of an action: as it is, or as shares of bins."""

    tokenizer: Optimisation = field(
        default_factory=lambda: Optimisation(updates=6_000, batch_size=5, warmup=200)
    )
    """Part 1 of 5: frames to codes, and back; codes that can be foreseen."""

    tokenizing: Tokenizing = field(default_factory=Tokenizing)
    tokenizer_sequence: int = 24
    """Frames in a row of each sample that the tokenizer learns from."""

    warp: Optimisation = field(
        default_factory=lambda: Optimisation(
            updates=1_500, batch_size=64, learning_rate=2e-3, warmup=50
        )
    )
    """Part 2 of 5: the dynamics' first weights, by what one frame says of views near it."""

    dynamics: Optimisation = field(
        default_factory=lambda: Optimisation(updates=18_000, batch_size=32, weight_decay=0.01)
    )
    """Part 3 of 5: the memory, and the diffusion model of what is seen from there."""

    remembering: Remembering = field(default_factory=Remembering)
    sequence: int = 80
    """Frames in a row of each sample that the dynamics learn from, at most."""

    heads: Optimisation = field(default_factory=lambda: Optimisation(updates=1_500, batch_size=32))
    """Part 4 of 5: predict reward, task progress, the end of episodes and errors."""

    rollout: int = 24
    """Steps in a row that the global model dreams, for its heads to judge; --judged sequences are
    at least two frames longer."""

    judged: int = 64
    """Frames in a row of each sample that the heads learn from."""

    local_model: Optimisation = field(
        default_factory=lambda: Optimisation(updates=2_000, batch_size=32)
    )
    """Part 5 of 5: the local model, a recurrent model that gradients flow through."""

    following: Following = field(default_factory=Following)
    local_sequence: int = 64
    """Frames in a row of each sample that the local model learns from."""

    local_memory: int = 256
    """Size of the local model's recurrent memory, a multiple of 16."""

    local_width: int = 256
    """Units in a layer of the local model."""

    local_head_width: int = 192
    """Units in a layer of the local model's heads."""

    head_width: int = 128
    """Units in a layer of the heads."""

    def __post_init__(self) -> None:
        Training.__post_init__(self)
        check_least(
            1, prefill=self.prefill, cell_channels=self.cell_channels, channels=self.channels,
            memory=self.memory, points=self.points, directions=self.directions, apart=self.apart,
            width=self.width, painter_channels=self.painter_channels, blocks=self.blocks,
            rollout=self.rollout, local_memory=self.local_memory, local_width=self.local_width,
            local_head_width=self.local_head_width, head_width=self.head_width,
            seen=self.remembering.seen, moments=self.remembering.moments,
            steps=self.following.steps,
        )  # fmt: skip
        check_least(
            3, tokenizer_sequence=self.tokenizer_sequence, sequence=self.sequence,
            judged=self.judged, local_sequence=self.local_sequence,
        )  # fmt: skip
        check_least(2, recent=self.recent, kept=self.kept, ahead=self.remembering.ahead)
        for part in (self.tokenizing, self.remembering, self.following):
            for name, value in asdict(part).items():
                if isinstance(value, float):
                    check_least(-math.inf if name == "sigma_mean" else 0, **{name: value})


def sizes_of(config: MemoryTraining, dataset: Dataset) -> dict[str, dict[str, Any]]:
    """What each part is made with, as far as settings and dataset tell."""
    mean, scale = reward_scale(torch.from_numpy(dataset.reward))
    proprio, acts = len(dataset.spec.proprio_names), {"action_size": dataset.spec.action_size}
    tasks = {"tasks": len(dataset.tasks)}
    sees = {
        "frame_shape": dataset.spec.picture,
        "proprio_size": proprio,
        "cell_channels": config.cell_channels,
        "channels": config.channels,
    }
    with torch.device("meta"):
        tokenizer = Tokenizer(**sees)
    thinks = {
        **tasks,
        **acts,
        "cells": tokenizer.cells,
        "cell_channels": config.cell_channels,
        "proprio_size": proprio,
        "memory": config.memory,
        "points": config.points,
        "directions": config.directions,
        "kept": config.kept,
        "apart": config.apart,
        "recent": config.recent,
        "width": config.width,
        "channels": config.painter_channels,
        "blocks": config.blocks,
        "prefill": config.prefill,
        "action_encoding": config.action_encoding,
    }
    with torch.device("meta"):
        dynamics = Dynamics(**thinks)
    known = {"latent_size": tokenizer.latent_size, **tasks}
    return {
        "tokenizer": sees,
        "dynamics": thinks,
        "heads": {
            **known,
            "context_size": dynamics.context_size,
            "width": config.head_width,
            "reward_mean": mean,
            "reward_scale": scale,
            "ends": bool(dataset.ended.any()),
        },
        "local_model": {
            **known,
            **acts,
            "memory": config.local_memory,
            "width": config.local_width,
            "head_width": config.local_head_width,
            "reward_mean": mean,
            "reward_scale": scale,
        },
    }


def camera_of(dataset: Dataset) -> tuple[tuple[float, ...], ...]:
    """As its system tells, where that is known here."""
    system = system_of(dataset)
    return () if system is None else system.camera


def check(config: MemoryTraining, dataset: Dataset) -> None:
    """Says what would fail hours later."""
    if (longest := int(dataset.index["length"].max())) < 4:
        raise ValueError(f"the longest episode has {longest} frames, expected at least 4")
    if config.test is not None and (test := Dataset.open(config.test)).spec.picture != (
        dataset.spec.picture
    ):
        raise ValueError(f"{test.folder} has other pictures than {dataset.folder}")
    sizes = sizes_of(config, dataset)
    try:
        card = Card(system=dataset.spec.robot_type or "", origin=origin_of(dataset))
        check_could_load(MEMORY, sizes, card)
        kept = 4 * config.logged * config.local_sequence * sizes["heads"]["latent_size"]
        if kept > LARGEST_PART:
            raise ValueError(
                f"{config.logged} logged windows of {config.local_sequence} frames take {kept:,} "
                f"bytes, expected up to {LARGEST_PART:,}: choose a smaller --logged"
            )
    except ValueError as error:
        raise ValueError(
            f"a model of these settings and this dataset could not be saved: {error}"
        ) from error


UNSET = Path()
"""The dataset and the folder, which no preset knows."""

_FEW = Optimisation(updates=12, batch_size=4, warmup=2)

PRESETS = {
    "tiny": (
        "Seconds on a CPU; used by the tests.",
        MemoryTraining(
            data=UNSET, out=UNSET, cell_channels=4, channels=16, memory=16, points=4,
            directions=2, kept=3, apart=2, recent=2, width=32, painter_channels=16, blocks=1,
            prefill=8, starts=8, start_windows=4, logged=8, tokenizer=_FEW, tokenizer_sequence=6,
            warp=_FEW, dynamics=_FEW, sequence=16, heads=_FEW, judged=12, rollout=4,
            head_width=32, local_head_width=32, local_model=_FEW,
            local_sequence=10, local_memory=16, local_width=32,
        ),
    ),
    "quick": (
        "About an hour on one core: a first look at a world whose camera moves.",
        MemoryTraining(
            data=UNSET, out=UNSET,
            tokenizer=Optimisation(updates=2_500, batch_size=5, warmup=200),
            warp=Optimisation(updates=600, batch_size=64, learning_rate=2e-3, warmup=50),
            dynamics=Optimisation(updates=2_000, batch_size=32, weight_decay=0.01),
            heads=Optimisation(updates=400, batch_size=32),
            local_model=Optimisation(updates=500, batch_size=32),
        ),
    ),
    "full": (
        "About three and a half hours on two cores.",
        MemoryTraining(data=UNSET, out=UNSET),
    ),
}  # fmt: skip
