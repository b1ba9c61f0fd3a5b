"""A kind of world model: which parts it is made of, and how they are put together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from wm_gym.models.protocol import GlobalModel, LocalModel


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of weights, and the only class that is built for it.

    Settings of that class's constructor are in config.json; it keeps them in `config`. Their
    defaults tell what they can be (`wm_gym.models.folder`).
    """

    make: type[nn.Module]
    label: str
    """The class's name in config.json; it stays when the class is renamed."""

    later: frozenset[str] = frozenset()
    """Settings that came later: they are kept where they are not the default alone, so that
    folders without need no newer wm_gym."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """All that loading, saving, training and reports need to know of it."""

    name: str
    parts: Mapping[str, Part]
    """Name of a file to what is in it, in the order in which they are trained."""

    assembled: Callable[[Mapping[str, nn.Module]], tuple[GlobalModel[Any], LocalModel]]
    """Both models, of its parts; ValueError where they disagree."""

    parts_of: Callable[[GlobalModel[Any], LocalModel], Mapping[str, nn.Module]]
    """And back; empty where these are no models of this kind."""

    curves: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """What a report shows of a training: a part's folder to the name of a score and its words."""

    timed: Mapping[str, Callable[[Any, Any], object]] = field(default_factory=dict)
    """What `wm-gym bench` times inside a step: words to a function of a world model and a batch."""

    @property
    def files(self) -> Mapping[str, str]:
        return {name: f"{name}.safetensors" for name in self.parts}
