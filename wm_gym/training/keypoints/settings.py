"""What can be chosen of a training run of a keypoint world, and what is in reach of a dataset."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from wm_gym.data import Dataset, Windows
from wm_gym.data.absence import system_of
from wm_gym.numbers import check_least
from wm_gym.systems.cells import cell_of, cells_fit
from wm_gym.training.keypoints.denoiser import Dreaming
from wm_gym.training.keypoints.local_model import Filtering
from wm_gym.training.recipe import Training
from wm_gym.training.trainer import Optimisation

CONTEXT = 4
"""Frames to look back on where no record says."""


@dataclass(frozen=True, kw_only=True)
class KeypointTraining(Training):
    autoencoder_of: Path | None = None
    """Folder of another run whose trained autoencoder is used instead of training one."""

    patch: int | None = None
    """Pictures are cut into squares of this many pixels; without it about 16 along a side."""

    context: int | None = None
    """Last frames that predict the next one; without it the environment's number, or else 4."""

    keypoints: int = 16
    """Keypoints that the autoencoder describes a frame by; their positions are the latent."""

    channels: int = 64
    """Channels of the autoencoder's convolutions, a multiple of 8."""

    width: int = 512
    """Units in a layer of the global model, which predicts the next latent by diffusion."""

    blocks: int = 4
    """Residual blocks of the global model."""

    action_encoding: Literal["linear", "two-hot"] = "two-hot"
    """How the global model is told each number of an action: as it is, or as shares of bins."""

    autoencoder: Optimisation = field(
        default_factory=lambda: Optimisation(updates=10_000, learning_rate=1.5e-3)
    )
    """Part 1 of 6: frames to keypoints, and back."""

    global_model: Optimisation = field(
        default_factory=lambda: Optimisation(updates=24_000, batch_size=1024)
    )
    """Part 2 of 6: the diffusion model that predicts the next latent."""

    dreaming: Dreaming = field(default_factory=Dreaming)
    refining: Optimisation = field(
        default_factory=lambda: Optimisation(updates=2_500, batch_size=512, learning_rate=3e-4)
    )
    """Part 3 of 6: the global model learns further, from its own predictions in a row."""

    rollout: int = 10
    """Steps in a row that the global model predicts in part 3, each from its last prediction."""

    heads: Optimisation = field(
        default_factory=lambda: Optimisation(updates=6_000, batch_size=1024)
    )
    """Part 4 of 6: predict reward, task progress, the end of episodes and errors."""

    eye: Optimisation = field(
        default_factory=lambda: Optimisation(
            updates=8_000, batch_size=128, learning_rate=2e-3, ema=0.99
        )
    )
    """Part 5 of 6: the local model's own encoder of frames."""

    local_model: Optimisation = field(
        default_factory=lambda: Optimisation(updates=5_000, batch_size=256)
    )
    """Part 6 of 6: the local model, a recurrent model that gradients flow through."""

    filtering: Filtering = field(default_factory=Filtering)
    sequence: int = 12
    """Frames in a row of each sample that the local model learns from."""

    memory: int = 128
    """Size of the local model's recurrent memory."""

    local_width: int = 384
    """Units in a layer of the local model."""

    @property
    def rehearsed(self) -> int:
        """Frames of a logged window that is kept with the model."""
        return 4 * self.sequence

    def __post_init__(self) -> None:
        Training.__post_init__(self)
        for name in (
            "keypoints", "channels", "width", "blocks", "rollout", "memory", "local_width",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if (self.context or 2) < 1 or (self.patch or 1) < 1:
            raise ValueError(f"context is {self.context}, patch {self.patch}, expected at least 1")
        for part in (self.dreaming, self.filtering):
            for name, value in asdict(part).items():
                if isinstance(value, float):
                    check_least(-math.inf if name == "sigma_mean" else 0, **{name: value})
        if self.sequence < 2:
            raise ValueError(f"sequence is {self.sequence}, expected at least 2 frames")


def check_data(config: KeypointTraining, dataset: Dataset) -> None:
    """Says what would fail hours later."""
    context, (height, width, _) = context_of(config, dataset), dataset.spec.picture
    longest = max(context + config.rollout, context + config.sequence, config.rehearsed)
    try:
        Windows(dataset, length=longest, batch_size=1, seed=0)
    except ValueError as error:
        raise ValueError(f"{error}, by a smaller --rollout and --sequence") from error
    patch = patch_of(config, dataset)
    if height % patch or width % patch:
        raise ValueError(
            f"patch is {patch}, expected a divisor of the frame's {height}×{width}: "
            + _way_out(height, width, patch)
        )
    if config.patch is None and not cells_fit(height, width):
        raise ValueError(
            f"pictures of {height}×{width} have no square cells but those of {patch} pixels: log "
            "or import them at another size, such as 96×96"
        )
    if config.test is not None and (test := Dataset.open(config.test)).spec.picture != (
        dataset.spec.picture
    ):
        raise ValueError(f"{test.folder} has other pictures than {dataset.folder}")


def _way_out(height: int, width: int, patch: int) -> str:
    """What to do where cells of this side do not fit on the pictures."""
    sides = [patch * max(1, round(side / patch)) for side in (height, width)]
    other = f"log or import pictures of another size, such as {sides[0]}×{sides[1]}"
    if not cells_fit(height, width):
        return other
    common = math.gcd(height, width)
    fitting = [n for n in range(1, common + 1) if common % n == 0]
    return f"give --patch {cell_of(height, width)} (of {fitting}, which fit), or {other}"


def context_of(config: KeypointTraining, dataset: Dataset) -> int:
    if config.context is not None:
        return config.context
    system = system_of(dataset)
    return CONTEXT if system is None else system.context


def patch_of(config: KeypointTraining, dataset: Dataset) -> int:
    height, width, _ = dataset.spec.picture
    return cell_of(height, width) if config.patch is None else config.patch


UNSET = Path()
"""The dataset and the folder, which no preset knows."""

PRESETS = {
    "tiny": (
        "Seconds on a CPU; used by the tests.",
        KeypointTraining(
            data=UNSET, out=UNSET, patch=8, keypoints=4, channels=16, width=32,
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
        KeypointTraining(
            data=UNSET, out=UNSET,
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
        KeypointTraining(data=UNSET, out=UNSET),
    ),
    "gpu": (
        "Minutes on a large GPU.",
        KeypointTraining(
            data=UNSET, out=UNSET, channels=128, width=1024,
            autoencoder=Optimisation(updates=20_000, batch_size=512, learning_rate=1.5e-3),
            global_model=Optimisation(updates=50_000, batch_size=4096),
            refining=Optimisation(updates=10_000, batch_size=2048, learning_rate=3e-4),
            heads=Optimisation(updates=10_000, batch_size=4096),
            eye=Optimisation(updates=10_000, batch_size=512, learning_rate=2e-3, ema=0.99),
            local_model=Optimisation(updates=15_000, batch_size=1024),
        ),
    ),
}  # fmt: skip
