"""What the settings of both agents have in common, and how they are checked."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Literal, Protocol

from torch import nn

Activation = Literal["silu", "tanh", "relu"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "tanh": nn.Tanh, "relu": nn.ReLU}


class Settings(Protocol):
    """What the agent itself goes by; all else is Stable-Baselines3's."""

    @property
    def gamma(self) -> float: ...

    @property
    def normalise_obs(self) -> bool: ...

    @property
    def normalise_reward(self) -> bool: ...

    @property
    def clip_obs(self) -> float: ...

    @property
    def decay_samples(self) -> int | None: ...


def network(hidden: Sequence[int], activation: Activation) -> dict[str, Any]:
    """As `policy_kwargs`."""
    return {"net_arch": list(hidden), "activation_fn": _ACTIVATIONS[activation]}


def check_timesteps(total_timesteps: Any) -> None:
    number = isinstance(total_timesteps, Real) and not isinstance(total_timesteps, bool)
    if not (number and total_timesteps >= 1):
        raise ValueError(f"total_timesteps is {total_timesteps!r}, expected at least 1")


def check_whole(config: Any, least: Mapping[str, int]) -> None:
    for name, bound in least.items():
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < bound:
            raise ValueError(f"{name} is {value!r}, expected a whole number, at least {bound}")


def check_positive(config: Any, names: Sequence[str]) -> None:
    for name in names:
        if not 0 < (value := getattr(config, name)) < math.inf:
            raise ValueError(f"{name} is {value}, expected more than 0")


def check_share(config: Any, names: Sequence[str]) -> None:
    for name in names:
        if not 0 <= (value := getattr(config, name)) <= 1:
            raise ValueError(f"{name} is {value}, expected 0 to 1")


def check_network(hidden: Sequence[int], activation: str) -> None:
    if not hidden or any(not isinstance(width, int) or width < 1 for width in hidden):
        raise ValueError(f"hidden is {hidden}, expected the widths of one layer or more")
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}, expected one of {list(_ACTIVATIONS)}")


def check_decay(decay_samples: int | None) -> None:
    if decay_samples is not None and not decay_samples > 0:
        raise ValueError(f"decay_samples is {decay_samples}, expected more than 0, or None")
