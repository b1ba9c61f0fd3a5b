"""What can be chosen of a training run."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from wm_gym.data import Dataset, Windows
from wm_gym.data.pixels import cell_of, cells_fit
from wm_gym.programs.options import check_least
from wm_gym.systems import Origin, registered_systems, system_named
from wm_gym.systems.origin import LONGEST_TEXT, registered_as_logged
from wm_gym.training.global_model import Dreaming
from wm_gym.training.local_model import Filtering
from wm_gym.training.trainer import Optimisation

CONTEXT = 4
"""Frames to look back on where no record says."""


@dataclass(frozen=True, kw_only=True)
class Train:
    data: Path
    """The dataset to learn from."""

    out: Path
    """Where the model, its checkpoints, curves and pictures go; a run that is there goes on."""

    test: Path | None = None
    """A dataset to film, real above dream; without it the one to learn from."""

    autoencoder_of: Path | None = None
    """Another run whose autoencoder to take instead of training one: for comparisons."""

    patch: int | None = None
    """Pixels of a cell's side; without it about a sixteenth of the picture's."""

    context: int | None = None
    """Frames to look back on; without it the system's own number, 4 where nobody registered it."""

    keypoints: int = 16
    """Of the autoencoder; the latent is their positions."""

    channels: int = 64
    """Of the autoencoder."""

    width: int = 512
    """Of the global model."""

    blocks: int = 4
    """Of the global model."""

    action_encoding: Literal["linear", "two-hot"] = "two-hot"
    starts: int = 1024
    """How many real moments to keep with the model, to begin dreams from."""

    autoencoder: Optimisation = field(
        default_factory=lambda: Optimisation(updates=10_000, learning_rate=1.5e-3)
    )
    global_model: Optimisation = field(
        default_factory=lambda: Optimisation(updates=24_000, batch_size=1024)
    )
    dreaming: Dreaming = field(default_factory=Dreaming)
    refining: Optimisation = field(
        default_factory=lambda: Optimisation(updates=2_500, batch_size=512, learning_rate=3e-4)
    )
    """The global model goes on to learn from its own rollouts, once it is good."""

    rollout: int = 10
    """How many latents in a row it then predicts, each from what it predicted before."""

    heads: Optimisation = field(
        default_factory=lambda: Optimisation(updates=6_000, batch_size=1024)
    )
    eye: Optimisation = field(
        default_factory=lambda: Optimisation(
            updates=8_000, batch_size=128, learning_rate=2e-3, ema=0.99
        )
    )
    local_model: Optimisation = field(
        default_factory=lambda: Optimisation(updates=5_000, batch_size=256)
    )
    filtering: Filtering = field(default_factory=Filtering)
    sequence: int = 12
    """Frames in a row that the local model learns from at once."""

    memory: int = 128
    """Numbers that the local model remembers by."""

    local_width: int = 384
    """Of the local model's dynamics."""

    logged: int = 512
    """How many logged windows to keep with the model, to rehearse from."""

    save_minutes: float = 3.0
    """How often to save a checkpoint and a picture."""

    @property
    def rehearsed(self) -> int:
        """Frames of a logged window that is kept with the model."""
        return 4 * self.sequence

    def __post_init__(self) -> None:
        for name in (
            "keypoints", "channels", "width", "blocks", "starts", "rollout", "memory",
            "local_width", "logged",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if (self.context or 2) < 1 or (self.patch or 1) < 1:
            raise ValueError(f"context is {self.context}, patch {self.patch}, expected at least 1")
        check_least(0, save_minutes=self.save_minutes)
        for part in (self.dreaming, self.filtering):
            for name, value in asdict(part).items():
                if isinstance(value, float):
                    check_least(-math.inf if name == "sigma_mean" else 0, **{name: value})
        if self.sequence < 2:
            raise ValueError(f"sequence is {self.sequence}, expected at least 2 frames")


def check_data(config: Train, dataset: Dataset) -> None:
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


def context_of(config: Train, dataset: Dataset) -> int:
    if config.context is not None:
        return config.context
    name = dataset.spec.robot_type or ""
    return system_named(name).context if name in registered_systems() else CONTEXT


def patch_of(config: Train, dataset: Dataset) -> int:
    height, width, _ = dataset.spec.picture
    return cell_of(height, width) if config.patch is None else config.patch


def origin_of(dataset: Dataset) -> Origin | None:
    """What a dream needs to know of a system that nobody registered, or not as it was logged:
    resized, or with actions that are held."""
    spec = dataset.spec
    origin = Origin(
        fps=spec.fps,
        horizon=int(dataset.index["length"].max()) - 1,
        task=str(dataset.index["task"][0])[:LONGEST_TEXT],
        has_reward=spec.has_reward,
        has_coverage="coverage" in spec.facts,
        bounds=spec.bounds,
    )
    record = registered_as_logged(
        spec.robot_type or "", origin, frame_shape=spec.picture, action_size=spec.action_size
    )
    return origin if record is None or not origin.has_coverage else None
