"""Dreaming environments: `WM-PushT-v0`, and `WM-v0` of any model folder."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from wm_gym.data import Dataset
from wm_gym.envs.dream_world import (
    DreamWorld,
    LoggedStarts,
    Sampling,
    StartSource,
    explain_memory,
)
from wm_gym.envs.real import check_obs_type, horizon_of, refuse, rules_of
from wm_gym.envs.single import WorldEnv
from wm_gym.envs.vector import WorldVectorEnv
from wm_gym.models.world_model import DTYPES, WorldModel, fast_bfloat16
from wm_gym.systems import System, system_named


class DreamEnv(WorldEnv):
    """A dream, e.g. `gym.make("WM-PushT-v0")`."""

    def __init__(
        self,
        world_model: str | Path | WorldModel,
        *,
        system: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        denoising_steps: int | None = None,
        horizon: int | None = None,
        success_threshold: float | None = None,
        terminate_on_success: bool = False,
        obs_type: str = "pixels",
        render_mode: str | None = None,
        starts: str | Path = "packaged",
        deterministic: bool = False,
        **unknown: Any,
    ) -> None:
        refuse(unknown, DreamEnv)
        check_obs_type(obs_type)
        world = dream_world(
            world_model, 1, system=system, device=device, dtype=dtype, starts=starts,
            denoising_steps=denoising_steps, deterministic=deterministic,
        )  # fmt: skip
        rules = rules_of(world.system, horizon, success_threshold, terminate_on_success)
        super().__init__(world, rules, render_mode=render_mode)


class DreamVectorEnv(WorldVectorEnv):
    """N dreams in one batch, e.g. `gym.make_vec("WM-PushT-v0", num_envs=64)`."""

    def __init__(
        self,
        world_model: str | Path | WorldModel,
        num_envs: int = 1,
        *,
        system: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        denoising_steps: int | None = None,
        horizon: int | None = None,
        max_episode_steps: int | None = None,
        success_threshold: float | None = None,
        terminate_on_success: bool = False,
        obs_type: str = "pixels",
        render_mode: str | None = None,
        starts: str | Path = "packaged",
        deterministic: bool = False,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **unknown: Any,
    ) -> None:
        refuse(unknown, DreamVectorEnv)
        check_obs_type(obs_type)
        horizon = horizon_of(num_envs, horizon, max_episode_steps)
        world = dream_world(
            world_model, num_envs, system=system, device=device, dtype=dtype, starts=starts,
            denoising_steps=denoising_steps, deterministic=deterministic,
        )  # fmt: skip
        rules = rules_of(world.system, horizon, success_threshold, terminate_on_success)
        super().__init__(world, rules, render_mode=render_mode, autoreset_mode=autoreset_mode)


def dream_world(
    world_model: str | Path | WorldModel,
    num_envs: int,
    *,
    system: str | None,
    device: str,
    dtype: str,
    denoising_steps: int | None,
    starts: str | Path,
    deterministic: bool,
) -> DreamWorld:
    """The world behind a dreaming environment, every choice checked."""
    if not isinstance(deterministic, (bool, np.bool_)):
        raise ValueError(f"deterministic is {deterministic!r}, expected True or False")
    chosen_device = _device(device)
    chosen_dtype = _dtype(dtype, chosen_device, deterministic)
    model = _model(world_model, device, dtype, chosen_device, chosen_dtype)
    if deterministic and model.dtype != torch.float32:
        raise ValueError(f"deterministic=True computes in float32, the WorldModel in {model.dtype}")
    record = _record(model, system)
    steps = model.card.denoising_steps if denoising_steps is None else denoising_steps
    whole = isinstance(steps, (int, np.integer)) and not isinstance(steps, bool)
    if not (whole and 1 <= steps <= 100):
        raise ValueError(f"denoising_steps is {steps!r}, expected a whole number from 1 to 100")
    sampling = Sampling(denoising_steps=int(steps), deterministic=bool(deterministic))
    with explain_memory(num_envs):
        return DreamWorld(
            record, model, num_envs, sampling=sampling, starts=_starts(model, starts)
        )  # fmt: skip


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


def _record(model: WorldModel, system: str | None) -> System:
    """Of the system that the model dreams of, which the environment's id may prescribe."""
    if system is not None and model.card.system != system:
        raise ValueError(
            f"the world model dreams of {model.card.system!r}, expected {system!r}; "
            "'WM-v0' dreams of any system"
        )
    record = system_named(model.card.system)
    if (model.frame_shape, model.action_size) != (record.frame_shape, record.action_size):
        raise ValueError(
            f"the world model has frames {model.frame_shape} and {model.action_size} action "
            f"numbers, expected {record.frame_shape} and {record.action_size} of {record.name!r}"
        )
    return record


def _starts(model: WorldModel, starts: str | Path) -> StartSource:
    if not isinstance(starts, (str, Path)):
        raise TypeError(f"starts is {starts!r}, expected 'packaged' or a dataset's folder")
    if starts != "packaged":
        dataset = Dataset.open(starts)
        if dataset.spec.picture != model.frame_shape:
            raise ValueError(
                f"starts: {starts} has pictures of shape {dataset.spec.picture}, "
                f"expected {model.frame_shape}"
            )
        if dataset.spec.action_size != model.action_size:
            raise ValueError(
                f"starts: {starts} has actions of {dataset.spec.action_size} numbers, "
                f"expected {model.action_size}"
            )
        if (of := dataset.spec.robot_type) != model.card.system:
            raise ValueError(f"starts: {starts} is of {of!r}, expected {model.card.system!r}")
        return LoggedStarts(dataset, model.context)
    if model.starts is None:
        raise ValueError("the world model has no starts of its own: give starts='path/to/dataset'")
    return model.starts
