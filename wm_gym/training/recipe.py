"""How worlds of a kind are trained: stages, one after the other, each of which can be resumed.

A recipe says what there is to train and in which order. Who runs it shows progress, saves, stops
and goes on: `Run`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import nn

from wm_gym.data import Dataset, WindowBatch, Windows
from wm_gym.data.windows import Batches
from wm_gym.models.logged import Logged
from wm_gym.models.protocol import GlobalModel, LocalModel
from wm_gym.numbers import check_least
from wm_gym.training.encoding import Encode
from wm_gym.training.trainer import Loss, Model, Optimisation


@dataclass(frozen=True, kw_only=True)
class Training:
    """What can be chosen of any training run; a recipe's own settings are added to these."""

    data: Path
    """Folder of the dataset to learn from."""

    out: Path
    """Folder for the model, its checkpoints and curves; a run that is in it goes on."""

    test: Path | None = None
    """Dataset that pictures compare real and predicted frames of; without it that of --data."""

    starts: int = 1024
    """Logged frames to keep with the model, which its episodes can begin from."""

    start_windows: int | None = None
    """How many of these are windows of as many frames as the model looks back on, the others being
    first frames; without it half of them."""

    logged: int = 512
    """Logged sequences to keep with the model, for agents that train its local model further."""

    save_minutes: float = 3.0
    """Minutes from one saved checkpoint and picture to the next."""

    def __post_init__(self) -> None:
        check_least(1, starts=self.starts, logged=self.logged)
        check_least(0, save_minutes=self.save_minutes)
        if self.start_windows is not None and not 0 <= self.start_windows <= self.starts:
            raise ValueError(
                f"start_windows is {self.start_windows}, expected 0 to the {self.starts} starts"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage(Generic[Model]):
    """One part that is trained, and where its checkpoint is."""

    folder: Path
    make: Callable[[], Model]
    """Its first weights are drawn by the stage's seed."""

    optimisation: Optimisation
    batches: Batches[Any]
    loss: Loss[Any]
    learned_from: Mapping[str, nn.Module] = field(default_factory=dict)
    """Parts before it, by name."""

    picture: Callable[[Model], np.ndarray] | None = None
    """What to look at while it trains."""


@runtime_checkable
class Run(Protocol):
    """What a recipe asks of whoever runs it."""

    @property
    def dataset(self) -> Dataset: ...

    @property
    def device(self) -> torch.device: ...

    def trained(self, stage: Stage[Model]) -> Model:
        """To its end, from where it stopped."""

    def taken(self, stage: Stage[Model]) -> Model:
        """As another run left it in this stage's folder, whatever it learned from."""

    def encoded(
        self, name: str, folder: Path, model: nn.Module, encode: Encode
    ) -> Float32[np.ndarray, "n d"]:
        """The whole dataset, by row; kept, under the name of the weights that made it."""

    def windows(self, optimisation: Optimisation, length: int) -> Windows:
        """Of the dataset, as this optimisation draws them; different in each process."""

    def film(self, *, length: int, count: int) -> WindowBatch:
        """Windows to look at, always the same."""

    @property
    def filmed(self) -> Dataset:
        """Where these come from."""

    def say(self, text: str) -> None: ...

    def tell_rewards(
        self, part: str, said: Float[np.ndarray, "n"], true: Float[np.ndarray, "n"], *, rare: bool
    ) -> None:
        """How far off the rewards are that a part says."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What a recipe ends with."""

    global_model: GlobalModel[Any]
    local_model: LocalModel
    logged: Logged
    facts: Mapping[str, Any]
    """More for the model's card."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    kind: str
    """As in `wm_gym.models.kinds`."""

    presets: Mapping[str, tuple[str, Training]]
    """Name to what it is for and the settings, whose class says what more can be chosen."""

    learns_from: Mapping[str, tuple[str, ...]]
    """Each stage's folder, in the order of training, to those of all stages that it learns from."""

    check: Callable[[Any, Dataset], None]
    """ValueError for what would otherwise fail hours later."""

    train: Callable[[Any, Run], Trained]
    foreign: Callable[[Any], frozenset[str]] = lambda settings: frozenset()
    """Stages that these settings take from another run, whose checkpoints here are not looked
    at."""

    @property
    def settings(self) -> type[Training]:
        return type(next(iter(self.presets.values()))[1])
