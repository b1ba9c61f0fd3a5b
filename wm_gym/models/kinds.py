"""The registry of kinds of world models: the only classes that a folder can ask for.

A package of other kinds names a module that registers them as an entry point of the group
`wm_gym.kinds`; without one, it is to be imported before it is needed.
"""

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from wm_gym.models.keypoints.kind import KEYPOINTS
from wm_gym.models.kind import Kind
from wm_gym.models.memory.kind import MEMORY

if TYPE_CHECKING:
    from wm_gym.models.world_model import WorldModel

DEFAULT = KEYPOINTS.name
"""Of folders that name none."""

_KINDS = {kind.name: kind for kind in (KEYPOINTS, MEMORY)}


@cache
def plug_in() -> None:
    """Let installed packages register their kinds, once."""
    for each in entry_points(group="wm_gym.kinds"):
        each.load()


def kinds() -> list[str]:
    plug_in()
    return sorted(_KINDS)


def register_kind(kind: Kind) -> None:
    """Make worlds of this kind load, save, train and be told of. Registering anew replaces it."""
    if not kind.name.isidentifier():
        raise ValueError(f"the kind's name is {kind.name!r}, expected a word such as 'tokens'")
    _KINDS[kind.name] = kind


def kind_named(name: str) -> Kind:
    if name not in _KINDS:
        plug_in()
    if name not in _KINDS:
        raise ValueError(
            f"kind {name!r} is not registered here, expected one of {kinds()}; "
            "whoever made the world model has a package that calls wm_gym.models.kinds."
            "register_kind: import it first"
        )
    return _KINDS[name]


def kind_of(world_model: "WorldModel") -> Kind:
    for kind in _KINDS.values():
        if kind.parts_of(world_model.global_model, world_model.local_model):
            return kind
    raise ValueError(
        f"a world model of {type(world_model.global_model).__name__} and "
        f"{type(world_model.local_model).__name__} is of no kind that is registered here: "
        f"{kinds()}; register it by wm_gym.models.kinds.register_kind"
    )
