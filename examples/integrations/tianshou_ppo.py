"""Tianshou's PPO in the dream.

python examples/integrations/tianshou_ppo.py
"""

import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.wrappers.vector import DictInfoToList
from tianshou.algorithm import PPO
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, CollectStats, VectorReplayBuffer
from tianshou.env import BaseVectorEnv
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
from torch.distributions import Distribution, Independent, Normal

import wm_gym  # noqa: F401  registers the environments


@dataclass(frozen=True, kw_only=True)
class Settings:
    total_timesteps: int = 8192
    num_envs: int = 16
    """Dreams in one batch."""

    rollout: int = 32
    """Steps of each dream between two updates."""

    learning_rate: float = 3e-4
    env_id: str = "WM-PushT-v0"
    """WM-v0 takes a model folder of any system."""

    world_model: str = "push-t"
    """A packaged name, or a model folder."""

    seed: int = 0


class BatchedVectorEnv(BaseVectorEnv):
    """A Gymnasium vector environment made with `autoreset_mode="Disabled"`, for Tianshou, which
    resets what has ended itself. (Its own vector environments step one environment each.)"""

    def __init__(self, env: Any) -> None:
        self.env, self.env_num, self.is_async, self.is_closed = env, env.num_envs, False, False

    def get_env_attr(self, key: str, id: Any = None) -> list[Any]:
        return [self.env.unwrapped.get_attr(key)[i] for i in self._wrap_id(id)]

    def reset(self, env_id: Any = None, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._wrap_id(env_id)
        kwargs["options"] = {"reset_mask": np.isin(np.arange(self.env_num), chosen)}
        obs, infos = DictInfoToList(self.env).reset(**kwargs)
        return obs[chosen], np.array(infos)[chosen]

    def step(self, action: Any, id: Any = None) -> tuple[np.ndarray, ...]:
        chosen = self._wrap_id(id)
        assert len(chosen) == self.env_num, "collect steps (n_step), not episodes (n_episode)"
        *told, infos = DictInfoToList(self.env).step(np.asarray(action))
        return *told, np.array([info | {"env_id": i} for i, info in enumerate(infos)])


def main(config: Settings) -> None:
    torch.manual_seed(config.seed)
    env = gym.make_vec(
        config.env_id, num_envs=config.num_envs, world_model=config.world_model,
        obs_type="latent", autoreset_mode="Disabled", staggered=True,
    )  # fmt: skip
    algorithm, per_update = ppo(env, config), config.num_envs * config.rollout
    collector = Collector[CollectStats](
        algorithm, BatchedVectorEnv(env), VectorReplayBuffer(per_update, config.num_envs)
    )
    collector.reset(gym_reset_kwargs={"seed": config.seed})
    begun = time.perf_counter()
    result = algorithm.run_training(
        OnPolicyTrainerParams(
            training_collector=collector, collection_step_num_env_steps=per_update,
            epoch_num_steps=config.total_timesteps, max_epochs=1,
            update_step_num_repetitions=4, batch_size=per_update // 4, verbose=False,
        )
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    print(
        f"tianshou {version('tianshou')}, ppo: {result.train_step:,} steps in {seconds:.1f} s; "
        f"{result.train_episode} episodes"
    )


def ppo(env: gym.vector.VectorEnv[Any, Any, Any], config: Settings) -> PPO:
    size, actions = env.single_observation_space.shape, env.single_action_space.shape

    def network() -> Net:
        return Net(state_shape=size, hidden_sizes=[128, 128], activation=torch.nn.Tanh)

    policy = ProbabilisticActorPolicy(
        actor=ContinuousActorProbabilistic(
            preprocess_net=network(), action_shape=actions, unbounded=True
        ),
        dist_fn=gaussian, action_space=env.single_action_space, action_scaling=False,
        action_bound_method=None,  # the environment clips
    )  # fmt: skip
    return PPO(
        policy=policy, critic=ContinuousCritic(preprocess_net=network()),
        optim=AdamOptimizerFactory(lr=config.learning_rate), max_grad_norm=0.5, ent_coef=0.0,
    )  # fmt: skip


def gaussian(mean_and_std: tuple[torch.Tensor, torch.Tensor]) -> Distribution:
    return Independent(Normal(*mean_and_std), 1)


if __name__ == "__main__":
    main(tyro.cli(Settings))
