"""Stable-Baselines3's PPO or SAC in the dream.

python examples/integrations/sb3.py                          # PPO on latents
python examples/integrations/sb3.py --algorithm sac
python examples/integrations/sb3.py --obs-type pixels        # with the library's own CNN
python examples/integrations/sb3.py --obs-type dict \\
    --env-id WM-PushCube-v0 --world-model push-cube          # pictures and proprioception
"""

import time
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import stable_baselines3
import tyro
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

import wm_gym  # noqa: F401  registers the environments
from baselines import Sb3VecEnv


@dataclass(frozen=True, kw_only=True)
class Settings:
    algorithm: Literal["ppo", "sac"] = "ppo"
    obs_type: Literal["latent", "pixels", "dict"] = "latent"
    total_timesteps: int = 8192
    num_envs: int = 16
    """Dreams in one batch."""

    learning_starts: int = 1024
    """SAC: random steps before the first training."""

    env_id: str = "WM-PushT-v0"
    """WM-v0 takes a model folder of any system."""

    world_model: str = "push-t"
    """A packaged name, or a model folder."""

    seed: int = 0


def main(config: Settings) -> None:
    envs = gym.make_vec(
        config.env_id, num_envs=config.num_envs, world_model=config.world_model,
        obs_type=config.obs_type, autoreset_mode="SameStep", staggered=True,
    )  # fmt: skip
    monitor = VecMonitor(Sb3VecEnv(envs))
    model = algorithm(config, normalised(monitor, config.obs_type))
    begun = time.perf_counter()
    model.learn(config.total_timesteps, log_interval=4)
    seconds = time.perf_counter() - begun
    print(
        f"stable_baselines3 {stable_baselines3.__version__}, {config.algorithm}: "
        f"{model.num_timesteps:,} steps in {seconds:.1f} s; "
        f"{monitor.episode_count} episodes, {told(model.ep_info_buffer)}"
    )


def normalised(envs: VecEnv, obs_type: str) -> VecNormalize:
    """Rewards, and what is no picture: the library's networks divide those by 255 themselves."""
    if obs_type == "dict":
        return VecNormalize(envs, norm_obs_keys=["agent_pos"])
    return VecNormalize(envs, norm_obs=obs_type == "latent")


POLICIES = {"latent": "MlpPolicy", "pixels": "CnnPolicy", "dict": "MultiInputPolicy"}


def algorithm(config: Settings, envs: VecEnv) -> PPO | SAC:
    """Rollouts and minibatches suit many environments; all else is the library's default."""
    policy = POLICIES[config.obs_type]
    common: dict[str, Any] = {"verbose": 1, "seed": config.seed, "device": "cpu"}
    if config.algorithm == "ppo":
        return PPO(policy, envs, n_steps=32, batch_size=128, n_epochs=4, **common)
    return SAC(
        policy, envs, train_freq=8, gradient_steps=16, learning_starts=config.learning_starts,
        buffer_size=max(config.total_timesteps, config.num_envs), **common,
    )  # fmt: skip


def told(episodes: Any, few: int = 10) -> str:
    """Means of a few, of those that the algorithm remembers: the last hundred."""
    if not episodes:
        return "none of them over"
    each = [episode["r"] / episode["l"] for episode in episodes]
    first, last = np.mean(each[:few]), np.mean(each[-few:])
    return f"reward a step {first:.2f} at first, {last:.2f} in the end"


if __name__ == "__main__":
    main(tyro.cli(Settings))
