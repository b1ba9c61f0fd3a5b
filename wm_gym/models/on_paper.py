"""A model that is still to be trained, checked as a folder is checked at loading: on the meta
device, where it takes no memory."""

import inspect
import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from wm_gym.models.folder import LARGEST_PART, check_part, part_of
from wm_gym.models.kind import Kind, Part
from wm_gym.models.world_model import Card, WorldModel

Settings = Mapping[str, Mapping[str, Any]]
"""Each part's name to what it is made with; the rest are its defaults."""


def check_could_load(kind: Kind, settings: Settings, card: Card) -> None:
    """ValueError where no folder with parts of these settings, and this card, could be loaded."""
    described = {name: _described(part, settings[name]) for name, part in kind.parts.items()}
    for name, part in described.items():
        check_part(name, part, kind.parts[name])
    if not isinstance(card.system, str):
        raise ValueError(f"system is {card.system!r}, expected a str")
    with torch.device("meta"):
        parts = {name: part_of(part, kind.parts[name]) for name, part in described.items()}
    for name, model in parts.items():
        if (size := _bytes(model)) > LARGEST_PART:
            raise ValueError(f"{name} would have {size:,} bytes, expected up to {LARGEST_PART:,}")
    model = WorldModel(*kind.assembled(parts), card=card)
    if card.origin is not None:
        model.system  # noqa: B018  # which its origin suffices for


def _described(known: Part, settings: Mapping[str, Any]) -> dict[str, Any]:
    """As config.json describes the part."""
    parameters = inspect.signature(known.make).parameters
    config = {key: each.default for key, each in parameters.items()} | dict(settings)
    described: dict[str, Any] = json.loads(json.dumps({"class": known.label, "config": config}))
    return described


def _bytes(model: nn.Module) -> int:
    return sum(4 * math.prod(tensor.shape) for tensor in model.state_dict().values())
