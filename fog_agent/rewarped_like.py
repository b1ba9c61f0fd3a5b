"""Any differentiable environment, under the names of DiffRL and rewarped.

Agents that were written for those (SHAC, SAPO and their like) find `initialize_trajectory`,
`clear_grad` and `extras["obs_before_reset"]` here, over any `DifferentiableEnv`.

Mind how they bootstrap where an episode ends. Many go by its length: less than `episode_length` is
taken for failure, after which nothing more is earned. That is right only where nothing but failure
ends an episode early. Where success does, or where episodes are cut short, go by
`extras["terminated"]` instead: bootstrap from `obs_before_reset` unless it is True.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium.spaces import Box
from jaxtyping import Bool, Float
from torch import Tensor

from fog_agent.abilities import known_horizon, needed_snapshots
from fog_agent.protocol import DifferentiableEnv, Snapshots, check_env

Step: TypeAlias = tuple[
    Float[Tensor, "b *obs"], Float[Tensor, "b"], Bool[Tensor, "b"], dict[str, Tensor | None]
]
"""Observations, rewards, whose episode ended in this step, and extras."""


class RewarpedLike:
    """`env` must begin episodes anew in the step that ends them; it is reset at once."""

    def __init__(
        self,
        env: DifferentiableEnv,
        *,
        no_grad: bool = False,
        episode_length: int | None = None,
        seed: int | None = None,
    ) -> None:
        """`episode_length` is the environment's own, unless it does not tell."""
        check_env(env)
        self.env, self.no_grad = env, no_grad
        self.episode_length = _length(env, episode_length)
        env.reset(seed=seed)
        self.device = env.begin_window().device

    @property
    def num_envs(self) -> int:
        return self.env.num_envs

    @property
    def obs_space(self) -> Box:
        """Of one environment."""
        return self.env.single_observation_space

    @property
    def act_space(self) -> Box:
        return self.env.single_action_space

    observation_space, action_space = obs_space, act_space

    @property
    def num_obs(self) -> int:
        return int(np.prod(self.obs_space.shape))

    @property
    def num_act(self) -> int:
        return int(np.prod(self.act_space.shape))

    num_observations, num_actions = num_obs, num_act

    @property
    def max_episode_steps(self) -> int:
        return self.episode_length

    max_episode_length = max_episode_steps

    @property
    def requires_grad(self) -> bool:
        return not self.no_grad

    def reset(
        self, env_ids: Tensor | Sequence[int] | None = None, clear_grad: bool = False
    ) -> Float[Tensor, "b *obs"]:
        """Of these environments, or of all; it cuts the graph of all, `clear_grad` or not."""
        if env_ids is None:
            self.env.reset()
        elif which := [int(i) for i in env_ids]:
            mask = np.zeros(self.num_envs, bool)
            mask[which] = True
            self.env.reset(options={"reset_mask": mask})
        return self.initialize_trajectory()

    def step(self, actions: Float[Tensor, "b a"]) -> Step:
        """`obs_before_reset` is of all environments, and None where no episode ended; DiffRL's
        `episode_end` is True where one terminated, not where time is up."""
        with torch.no_grad() if self.no_grad else nullcontext():
            out = self.env.step_with_grad(actions)
        ended = out.terminated | out.truncated
        extras = {
            "terminated": out.terminated,
            "truncated": out.truncated,
            "obs_before_reset": out.final_obs if bool(ended.any()) else None,
            "episode_end": out.terminated,
        }
        return out.obs, out.reward, ended, extras

    def initialize_trajectory(self) -> Float[Tensor, "b *obs"]:
        """The current observations: cuts the graph and keeps the episodes going."""
        return self.env.begin_window()

    def clear_grad(self, checkpoint: dict[str, Any] | None = None) -> None:
        """Cut the graph, here or back where the checkpoint was taken."""
        if checkpoint is not None:
            self._snapshots().set_state(checkpoint["state"])
        self.env.begin_window()

    def get_checkpoint(self, detach: bool = False) -> dict[str, Any]:
        """Without any graph, asked for or not."""
        return {"state": self._snapshots().get_state()}

    def _snapshots(self) -> Snapshots:
        return needed_snapshots(self.env, "it cannot be taken back to a checkpoint")


def _length(env: DifferentiableEnv, asked: int | None) -> int:
    length = known_horizon(env) if asked is None else asked
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ValueError(
            f"episode_length is {length!r}, expected a whole number, at least 1; give "
            "episode_length=..., for the environment does not tell"
        )
    return length
