"""A kind of world model: which parts it is made of, and how they are put together."""

from collections.abc import Callable, Mapping, Sequence
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

    summary: str
    """What it is, for a model card: "A diffusion model of …"."""

    fresh: Callable[[tuple[int, int, int], int, int, bool], tuple[GlobalModel[Any], LocalModel]]
    """Both models, untrained, for frames of this shape, actions of so many numbers and so many
    frames to look back on: as large as they are by default, or tiny."""

    curves: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What a model card shows of a training: each stage's folder to the score that is drawn; where
    a log has none of it, to the next."""

    unit: str = ""
    """Of uncertainty, where it can be said in few words."""

    timed: Callable[[Any, Any], Sequence[tuple[object, str, str]]] = lambda *_: ()
    """What `wm-gym bench` times inside a step, of both models: an object, its method, a word."""

    flops: Callable[[Any, Any], Mapping[str, int]] = lambda *_: {}
    """Floating point operations of one frame, by the same words."""

    @property
    def files(self) -> Mapping[str, str]:
        return {name: f"{name}.safetensors" for name in self.parts}
