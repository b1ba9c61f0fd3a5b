"""What can be chosen of a training run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from wm_gym.data import Dataset, Windows
from wm_gym.systems import system_named
from wm_gym.training.global_model import Dreaming
from wm_gym.training.local_model import Filtering
from wm_gym.training.trainer import Optimisation


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

    patch: int = 6
    """Pixels of a cell's side."""

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
            "patch", "keypoints", "channels", "width", "blocks", "starts", "rollout", "memory",
            "local_width", "logged",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.sequence < 2:
            raise ValueError(f"sequence is {self.sequence}, expected at least 2 frames")


def check_data(config: Train, dataset: Dataset) -> None:
    """Says what would fail hours later."""
    system = system_named(dataset.spec.robot_type or "")
    if "coverage" not in dataset.spec.facts:
        raise ValueError(f"{dataset.folder} does not log 'coverage', which the heads learn")
    longest = max(
        system.context + config.rollout, system.context + config.sequence, config.rehearsed
    )
    Windows(dataset, length=longest, batch_size=1, seed=0)
    if config.test is not None and (test := Dataset.open(config.test)).spec.picture != (
        dataset.spec.picture
    ):
        raise ValueError(f"{test.folder} has other pictures than {dataset.folder}")
