"""Real systems behind the shells: `Real-PushT-v0` and its like."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from wm_gym.envs.episodes import Rules
from wm_gym.envs.single import WorldEnv
from wm_gym.envs.vector import WorldVectorEnv
from wm_gym.envs.world import OBS_TYPES, SimulatedWorld, World
from wm_gym.systems import System, system_named, task_index


class RealEnv(WorldEnv):
    """A real system's stand-in, e.g. `gym.make("Real-PushT-v0")`."""

    def __init__(
        self,
        system: str,
        simulator: str,
        *,
        obs_type: str = "pixels",
        task: int | str | None = None,
        world_model: Any = None,
        device: str = "auto",
        dtype: str = "auto",
        deterministic: bool = False,
        horizon: int | None = None,
        success_threshold: float | None = None,
        terminate_on_success: bool = False,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        """`options` are what the system's record names, as `noise` of Push Cube."""
        record = system_named(system)
        check_options(record, options, RealEnv)
        rules = rules_of(record, horizon, success_threshold, terminate_on_success)
        world = real_world(
            record, simulator, 1, obs_type=obs_type, task=task, world_model=world_model,
            device=device, dtype=dtype, deterministic=deterministic, options=options,
        )  # fmt: skip
        super().__init__(world, rules, render_mode=render_mode)


class RealVectorEnv(WorldVectorEnv):
    """N of them in one process, e.g. `gym.make_vec("Real-PushT-v0", num_envs=8)`."""

    def __init__(
        self,
        system: str,
        simulator: str,
        num_envs: int = 1,
        *,
        obs_type: str = "pixels",
        task: int | str | None = None,
        world_model: Any = None,
        device: str = "auto",
        dtype: str = "auto",
        deterministic: bool = False,
        horizon: int | None = None,
        max_episode_steps: int | None = None,
        success_threshold: float | None = None,
        terminate_on_success: bool = False,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        staggered: bool = False,
        **options: Any,
    ) -> None:
        """`options` are what the system's record names, as `noise` of Push Cube."""
        record = system_named(system)
        check_options(record, options, RealVectorEnv)
        horizon = horizon_of(num_envs, horizon, max_episode_steps)
        rules = rules_of(record, horizon, success_threshold, terminate_on_success)
        world = real_world(
            record, simulator, num_envs, obs_type=obs_type, task=task, world_model=world_model,
            device=device, dtype=dtype, deterministic=deterministic, options=options,
        )  # fmt: skip
        super().__init__(
            world, rules, render_mode=render_mode, autoreset_mode=autoreset_mode,
            staggered=staggered,
        )  # fmt: skip


def real_world(
    record: System,
    simulator: str,
    num_envs: int,
    *,
    obs_type: str,
    task: int | str | None,
    world_model: Any,
    device: str,
    dtype: str,
    deterministic: bool,
    options: Mapping[str, Any],
) -> World:
    """Simulators, shown as they are or as a world model's filter sees them; as in dreams, that is a
    packaged name, a folder, a Hub id or a WorldModel."""
    check_obs_type(obs_type)
    if obs_type == "dict" and not record.proprio_size:
        raise ValueError(
            f"obs_type='dict' has proprioception beside pixels, which {record.name!r} does not "
            "have: ask for 'pixels'"
        )
    wanted = None if task is None else task_index(record.tasks, task)
    world = SimulatedWorld(
        record, simulator, num_envs, obs_type=obs_type, task=wanted, options=options
    )
    if obs_type != "latent":
        if world_model is not None:
            raise ValueError(
                f"world_model is for obs_type='latent', which it filters; came {obs_type!r}"
            )
        if (device, dtype, deterministic) != ("auto", "auto", False):
            raise ValueError(
                f"device, dtype and deterministic are for obs_type='latent'; came {obs_type!r}"
            )
        return world
    name = record.world_model if world_model is None else world_model
    if name is None:
        raise ValueError(
            f"obs_type='latent' needs a world_model: none is packaged for {record.name!r}"
        )
    from wm_gym.envs.latent_world import LatentWorld  # PyTorch, which pixels do without
    from wm_gym.envs.loading import loaded

    model = loaded(name, device=device, dtype=dtype, deterministic=deterministic)
    return LatentWorld(world, model, exact=bool(deterministic))


def rules_of(
    record: System,
    horizon: int | None,
    success_threshold: float | None,
    terminate_on_success: bool,
) -> Rules:
    """The system's own rules, where nothing else was asked for."""
    own = record.success_thresholds
    each = own if success_threshold is None else (success_threshold,) * len(own)
    steps = record.horizon if horizon is None else horizon
    return Rules(
        horizon=int(steps) if isinstance(steps, np.integer) else steps,
        success_thresholds=each,
        asked=success_threshold is not None,
        terminate_on_success=terminate_on_success,
    )


def horizon_of(num_envs: int, horizon: int | None, max_episode_steps: int | None) -> int | None:
    """Of a vector environment, where the horizon has an alias."""
    if isinstance(num_envs, bool) or not isinstance(num_envs, (int, np.integer)) or num_envs < 1:
        raise ValueError(f"num_envs is {num_envs!r}, expected a whole number, at least 1")
    if None not in (horizon, max_episode_steps) and horizon != max_episode_steps:
        raise ValueError(
            f"horizon={horizon} and its alias max_episode_steps={max_episode_steps} disagree"
        )
    return max_episode_steps if horizon is None else horizon


def check_obs_type(obs_type: str) -> None:
    if obs_type not in OBS_TYPES:
        raise ValueError(f"obs_type is {obs_type!r}, expected one of {OBS_TYPES}")


def check_options(record: System, options: Mapping[str, Any], shell: type) -> None:
    """That they are the record's, and of the kind that it says."""
    refuse({k: v for k, v in options.items() if k not in record.options}, shell, record.options)
    for name, value in options.items():
        kind = type(record.options[name])
        if type(value) is not kind and not (kind is bool and isinstance(value, np.bool_)):
            expected = "True or False" if kind is bool else f"a value of type {kind.__name__}"
            raise ValueError(f"{name} is {value!r}, expected {expected}")


def refuse(unknown: Mapping[str, Any], shell: type, more: Iterable[str] = ()) -> None:
    """Say what was expected in place of an unknown keyword."""
    if unknown:
        signature = inspect.signature(shell).parameters.values()
        names = [*(p.name for p in signature if p.kind is p.KEYWORD_ONLY), *more]
        raise TypeError(f"unknown argument {', '.join(unknown)}; expected some of {names}")
