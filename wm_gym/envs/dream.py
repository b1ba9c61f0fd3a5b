"""Dreaming environments: `WM-PushT-v0`, and `WM-v0` of any model folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from jaxtyping import Float
from torch import Tensor

from wm_gym.data import Dataset
from wm_gym.envs.dream_starts import LoggedStarts, StartSource
from wm_gym.envs.dream_world import DreamWorld, Sampling
from wm_gym.envs.dreams import Dreams
from wm_gym.envs.gradient import GradientHook, GradStep
from wm_gym.envs.loading import check_sizes, check_tasks, loaded
from wm_gym.envs.memory import explain_memory
from wm_gym.envs.real import check_obs_type, horizon_of, refuse, rules_of
from wm_gym.envs.single import WorldEnv
from wm_gym.envs.vector import WorldVectorEnv
from wm_gym.models.protocol import Surrogate
from wm_gym.models.world_model import WorldModel
from wm_gym.systems import System, task_index


class DreamEnv(WorldEnv):
    """A dream, e.g. `gym.make("WM-PushT-v0")`."""

    def __init__(
        self,
        world_model: str | Path | WorldModel | None = None,
        *,
        system: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        denoising_steps: int | None = None,
        horizon: int | None = None,
        success_threshold: float | None = None,
        terminate_on_success: bool = False,
        ends: bool = True,
        obs_type: str = "pixels",
        task: int | str | None = None,
        render_mode: str | None = None,
        gradient: str = "surrogate",
        starts: str | Path = "packaged",
        deterministic: bool = False,
        **unknown: Any,
    ) -> None:
        refuse(unknown, DreamEnv)
        check_obs_type(obs_type)
        world = dream_world(
            world_model, 1, system=system, device=device, dtype=dtype, starts=starts,
            denoising_steps=denoising_steps, deterministic=deterministic, obs_type=obs_type,
            ends=ends, task=task,
        )  # fmt: skip
        self._hook = GradientHook(world, gradient)
        rules = rules_of(world.system, horizon, success_threshold, terminate_on_success)
        super().__init__(world, rules, render_mode=render_mode)

    @property
    def world_model(self) -> WorldModel:
        """Which dreams."""
        return self._hook.world.model

    @property
    def dreams(self) -> Dreams:
        """All that the next steps depend on, as tensors."""
        return self._hook.world.now

    @property
    def surrogate(self) -> Surrogate:
        """What lends its gradients."""
        return self._hook.surrogate

    def begin_window(self, *, gradient: str | None = None) -> Float[Tensor, "*obs"]:
        """The current observation, detached: cuts the graph and keeps the episode going."""
        self._episodes.check_begun()
        self._episodes.settle()
        return self._hook.begin_window(gradient)[0]

    def step_with_grad(self, action: Float[Tensor, "a"]) -> GradStep:
        """The same step as `step`, differentiable in the action and all since `begin_window`."""
        assert self.action_space.shape is not None
        acted = self._hook.checked(action, self.action_space.shape, "action_space.shape")[None]
        self._episodes.check_begun()
        move = self._hook.move(acted)
        _, terminated, truncated = self._stepped(move)
        none, ended, cut = (np.array([each]) for each in (False, terminated, truncated))
        return move.step(none, ended, cut, self._info()).single()

    def refresh(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """Train what gives the gradients on new experience; no value of `step` changes by it."""
        return self._hook.refresh(batch)


class DreamVectorEnv(WorldVectorEnv):
    """N dreams in one batch, e.g. `gym.make_vec("WM-PushT-v0", num_envs=64)`."""

    def __init__(
        self,
        world_model: str | Path | WorldModel | None = None,
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
        ends: bool = True,
        obs_type: str = "pixels",
        task: int | str | None = None,
        render_mode: str | None = None,
        gradient: str = "surrogate",
        starts: str | Path = "packaged",
        deterministic: bool = False,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        staggered: bool = False,
        **unknown: Any,
    ) -> None:
        refuse(unknown, DreamVectorEnv)
        check_obs_type(obs_type)
        horizon = horizon_of(num_envs, horizon, max_episode_steps)
        world = dream_world(
            world_model, num_envs, system=system, device=device, dtype=dtype, starts=starts,
            denoising_steps=denoising_steps, deterministic=deterministic, obs_type=obs_type,
            ends=ends, task=task,
        )  # fmt: skip
        self._hook = GradientHook(world, gradient)
        rules = rules_of(world.system, horizon, success_threshold, terminate_on_success)
        super().__init__(
            world, rules, render_mode=render_mode, autoreset_mode=autoreset_mode,
            staggered=staggered,
        )  # fmt: skip

    @property
    def can_terminate(self) -> bool:
        """Whether there can be any end but that of time."""
        return self._hook.world.ends or self._episodes.rules.terminate_on_success

    @property
    def world_model(self) -> WorldModel:
        """Which dreams."""
        return self._hook.world.model

    @property
    def dreams(self) -> Dreams:
        """All that the next steps depend on, as tensors."""
        return self._hook.world.now

    @property
    def surrogate(self) -> Surrogate:
        """What lends its gradients."""
        return self._hook.surrogate

    def begin_window(self, *, gradient: str | None = None) -> Float[Tensor, "b *obs"]:
        """The current observations, detached: cuts the graph and keeps the episodes going."""
        self._episodes.check_begun()
        self._episodes.settle()
        return self._hook.begin_window(gradient)

    def step_with_grad(self, action: Float[Tensor, "b a"]) -> GradStep:
        """The same step as `step`, differentiable in the action and all since `begin_window`."""
        shape = self.action_space.shape
        assert shape is not None
        acted = self._hook.checked(action, shape, "(num_envs, *single_action_space.shape)")
        self._episodes.check_begun()
        move = self._hook.move(acted)
        went = self._stepped(move)
        return move.step(went.begun, went.terminated, went.truncated, went.info)

    def refresh(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """Train what gives the gradients on new experience; no value of `step` changes by it."""
        return self._hook.refresh(batch)


def dream_world(
    world_model: str | Path | WorldModel | None,
    num_envs: int,
    *,
    system: str | None,
    device: str,
    dtype: str,
    denoising_steps: int | None,
    starts: str | Path,
    deterministic: bool,
    obs_type: str,
    ends: bool,
    task: int | str | None,
) -> DreamWorld:
    """The world behind a dreaming environment, every choice checked."""
    model = loaded(world_model, device=device, dtype=dtype, deterministic=deterministic)
    record = _record(model, system)
    steps = model.card.denoising_steps if denoising_steps is None else denoising_steps
    whole = isinstance(steps, (int, np.integer)) and not isinstance(steps, bool)
    if not (whole and 1 <= steps <= 100):
        raise ValueError(f"denoising_steps is {steps!r}, expected a whole number from 1 to 100")
    if not isinstance(ends, (bool, np.bool_)):
        raise ValueError(f"ends is {ends!r}, expected True or False")
    sampling = Sampling(
        denoising_steps=int(steps), deterministic=bool(deterministic), obs_type=obs_type,
        ends=bool(ends),
    )  # fmt: skip
    if obs_type == "dict" and not model.spec.proprio_size:
        raise ValueError(
            "obs_type='dict' has proprioception beside pixels, which this world model does not "
            "dream: ask for 'pixels' or 'latent'"
        )
    wanted = None if task is None else task_index(record.tasks, task)
    with explain_memory(num_envs):
        return DreamWorld(
            record, model, num_envs, sampling=sampling, starts=_starts(model, starts), task=wanted
        )


def _record(model: WorldModel, system: str | None) -> System:
    """Of the system that the model dreams of, which the environment's id may prescribe."""
    if system is not None and model.card.system != system:
        raise ValueError(
            f"the world model dreams of {model.card.system!r}, expected {system!r}; "
            "'WM-v0' dreams of any system"
        )
    record = model.system
    check_sizes(model, record.frame_shape, record.action_size, repr(record.name))
    check_tasks(model, record)
    return record


def _starts(model: WorldModel, starts: str | Path) -> StartSource:
    if not isinstance(starts, (str, Path)):
        raise TypeError(f"starts is {starts!r}, expected 'packaged' or a dataset's folder")
    if starts != "packaged":
        dataset = Dataset.open(starts)
        if dataset.spec.picture != model.spec.frame_shape:
            raise ValueError(
                f"starts: {starts} has pictures of shape {dataset.spec.picture}, "
                f"expected {model.spec.frame_shape}"
            )
        if dataset.spec.action_size != model.spec.action_size:
            raise ValueError(
                f"starts: {starts} has actions of {dataset.spec.action_size} numbers, "
                f"expected {model.spec.action_size}"
            )
        felt, wanted = len(dataset.spec.proprio_names), model.spec.proprio_size
        if wanted not in (0, felt):
            raise ValueError(
                f"starts: {starts} has proprioception of {felt} numbers, expected {wanted}"
            )
        if (of := dataset.spec.robot_type) != model.card.system:
            raise ValueError(f"starts: {starts} is of {of!r}, expected {model.card.system!r}")
        return LoggedStarts(dataset, model.spec)
    if model.starts is None:
        raise ValueError("the world model has no starts of its own: give starts='path/to/dataset'")
    return model.starts
