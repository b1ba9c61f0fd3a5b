"""skrl's PPO in the dream.

python examples/integrations/skrl_ppo.py
"""

import time
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import skrl
import torch
import tyro
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from torch import Tensor, nn

import wm_gym  # noqa: F401  registers the environments


@dataclass(frozen=True, kw_only=True)
class Settings:
    total_timesteps: int = 8192
    num_envs: int = 16
    """Dreams in one batch; two or more, as skrl takes one for an environment without a batch."""

    rollout: int = 32
    """Steps of each dream between two updates."""

    learning_rate: float = 3e-4
    env_id: str = "WM-PushT-v0"
    """WM-v0 takes a model folder of any system."""

    world_model: str = "push-t"
    """A packaged name, or a model folder."""

    seed: int = 0


class Policy(GaussianMixin, Model):
    def __init__(self, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        GaussianMixin.__init__(self)
        self.mean = network(self.num_observations, self.num_actions)
        self.log_std = nn.Parameter(torch.full((self.num_actions,), -0.5))

    def compute(self, inputs: dict[str, Any], role: str) -> tuple[Tensor, dict[str, Any]]:
        return self.mean(inputs["observations"]), {"log_std": self.log_std}


class Value(DeterministicMixin, Model):
    def __init__(self, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.value = network(self.num_observations, 1)

    def compute(self, inputs: dict[str, Any], role: str) -> tuple[Tensor, dict[str, Any]]:
        return self.value(inputs["observations"]), {}


def network(size: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(size, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, out)
    )


def main(config: Settings) -> None:
    set_seed(config.seed)
    episodes = RecordEpisodeStatistics(
        gym.make_vec(
            config.env_id, num_envs=config.num_envs, world_model=config.world_model,
            obs_type="latent", staggered=True,
        )
    )  # fmt: skip
    env = wrap_env(episodes, wrapper="gymnasium")
    spaces = {
        "observation_space": env.observation_space,
        "action_space": env.action_space,
        "device": env.device,
    }
    settings = PPO_CFG(
        rollouts=config.rollout, learning_epochs=4, mini_batches=4, value_loss_scale=0.5,
        learning_rate=config.learning_rate, time_limit_bootstrap=True,
    )  # fmt: skip
    settings.experiment.write_interval = settings.experiment.checkpoint_interval = 0
    agent = PPO(
        models={"policy": Policy(**spaces), "value": Value(**spaces)},
        memory=RandomMemory(
            memory_size=config.rollout, num_envs=config.num_envs, device=env.device
        ),
        cfg=settings, **spaces,
    )  # fmt: skip
    steps = config.total_timesteps // config.num_envs
    trainer = SequentialTrainer(env=env, agents=agent, cfg={"timesteps": steps, "headless": True})
    begun = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - begun
    each = np.array(episodes.return_queue) / np.array(episodes.length_queue)
    print(
        f"skrl {skrl.__version__}, ppo: {steps * config.num_envs:,} steps in {seconds:.1f} s; "
        f"{episodes.episode_count} episodes, reward a step {told(each[:10])} at first, "
        f"{told(each[-10:])} in the end"
    )


def told(rewards: np.ndarray) -> str:
    return f"{rewards.mean():.2f}" if rewards.size else "unknown"


if __name__ == "__main__":
    main(tyro.cli(Settings))
