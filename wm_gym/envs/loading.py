"""Which world model computes, where, and how precisely."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from wm_gym.models.world_model import DTYPES, WorldModel, fast_bfloat16
from wm_gym.systems import System


def loaded(
    world_model: str | Path | WorldModel | None, *, device: str, dtype: str, deterministic: bool
) -> WorldModel:
    """A packaged name, a folder or a Hub id, on its device; a WorldModel stays as it is."""
    if not isinstance(deterministic, (bool, np.bool_)):
        raise ValueError(f"deterministic is {deterministic!r}, expected True or False")
    chosen_device = _device(device)
    chosen_dtype = _dtype(dtype, chosen_device, bool(deterministic))
    model = _model(world_model, device, dtype, chosen_device, chosen_dtype)
    if deterministic and model.dtype != torch.float32:
        raise ValueError(f"deterministic=True computes in float32, the WorldModel in {model.dtype}")
    return model


def check_sizes(model: WorldModel, frame_shape: tuple[int, ...], action_size: int, of: str) -> None:
    spec = model.spec
    if (spec.frame_shape, spec.action_size) != (frame_shape, action_size):
        raise ValueError(
            f"the world model has frames {spec.frame_shape} and {spec.action_size} action "
            f"numbers, expected {frame_shape} and {action_size} of {of}"
        )


def check_tasks(model: WorldModel, system: System) -> None:
    """A model of one task may be of a system with several, of which it knows the first."""
    if (known := model.spec.tasks) not in (1, of := len(system.tasks)):
        raise ValueError(
            f"the world model knows {known} tasks, expected 1 or the {of} of system {system.name!r}"
        )


def _model(
    world_model: Any,
    device: str,
    dtype: str,
    chosen_device: torch.device,
    chosen_dtype: torch.dtype,
) -> WorldModel:
    if isinstance(world_model, WorldModel):
        if device != "auto" and chosen_device != world_model.device:
            raise ValueError(
                f"device is {device!r}, but the WorldModel is on {world_model.device}: move it"
            )
        if dtype != "auto" and chosen_dtype != world_model.dtype:
            raise ValueError(
                f"dtype is {dtype!r}, but the WorldModel computes in {world_model.dtype}: cast it"
            )
        return world_model
    return WorldModel.from_pretrained(world_model).to(chosen_device).cast(chosen_dtype)


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        probe = torch.zeros(1, device=chosen)
        probe.item()  # there is nothing in a "meta" one
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"device {device!r} is not to be had here: {reason}") from error
    return probe.device  # with its number


def _dtype(dtype: str, device: torch.device, deterministic: bool) -> torch.dtype:
    if dtype not in ("auto", *DTYPES):
        raise ValueError(f"dtype is {dtype!r}, expected 'auto' or one of {sorted(DTYPES)}")
    if deterministic and dtype == "bfloat16":
        raise ValueError("deterministic=True computes in float32, not dtype='bfloat16'")
    if dtype == "auto":
        return torch.bfloat16 if fast_bfloat16(device) and not deterministic else torch.float32
    return DTYPES[dtype]
