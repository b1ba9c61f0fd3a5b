"""RLlib's PPO, its environment runners spread over processes, or over the machines of a cluster.

python examples/integrations/rllib_ppo.py                       # two runners on this machine
python examples/integrations/rllib_ppo.py --obs-type pixels     # with the library's own CNN
python examples/integrations/rllib_ppo.py --address auto        # on the cluster it runs in
"""

import os
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import ray
import tyro
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig


@dataclass(frozen=True, kw_only=True)
class Settings:
    obs_type: Literal["latent", "pixels"] = "latent"
    total_timesteps: int = 8192
    runners: int = 2
    """Processes that dream."""

    num_envs: int = 8
    """Dreams of each runner, in one batch."""

    batch: int = 1024
    """Steps of all runners between two updates."""

    learning_rate: float = 3e-4
    address: str | None = None
    """Of a Ray cluster; without one Ray starts on this machine, and ends with the script."""

    env_id: str = "WM-PushT-v0"
    """WM-v0 takes a model folder of any system."""

    world_model: str = "push-t"
    """A packaged name, a folder that every machine has, or a Hub id."""

    seed: int = 0


def main(config: Settings) -> None:
    if config.address is None:
        ray.init(
            num_cpus=config.runners + 1, include_dashboard=False, log_to_driver=False,
            object_store_memory=400 * 2**20,
        )  # fmt: skip
    else:
        ray.init(config.address)
    algorithm = ppo(config).build_algo()
    steps = 0
    while steps < config.total_timesteps:
        result = algorithm.train()
        runners = result["env_runners"]
        steps = int(runners["num_env_steps_sampled_lifetime"])
        reward = runners.get("episode_return_mean", float("nan"))
        print(
            f"{steps:>8,} steps   return of an episode {reward:.1f}   "
            f"{runners.get('num_episodes', 0):.0f} episodes ended   "
            f"{result['time_total_s']:.1f} s"
        )
    print(
        f"ray {ray.__version__}, gymnasium {gym.__version__}, ppo: {steps:,} steps "
        f"by {config.runners} runners in {result['time_total_s']:.1f} s"
    )
    algorithm.stop()
    ray.shutdown()


def ppo(config: Settings) -> PPOConfig:
    """Runners make the environment by its id, in which the module stands that registers it."""
    env_config: dict[str, Any] = {
        "world_model": config.world_model, "obs_type": config.obs_type, "staggered": True
    }  # fmt: skip
    settings = PPOConfig().environment(f"wm_gym:{config.env_id}", env_config=env_config)
    settings.env_runners(
        num_env_runners=config.runners, num_envs_per_env_runner=config.num_envs,
        gym_env_vectorize_mode=gym.VectorizeMode.VECTOR_ENTRY_POINT,
    )  # fmt: skip
    settings.training(
        train_batch_size_per_learner=config.batch, minibatch_size=config.batch // 4, num_epochs=4,
        lr=config.learning_rate,
    )  # fmt: skip
    if config.obs_type == "latent":
        settings.rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[128, 128]))
    return settings.debugging(seed=config.seed, log_level="ERROR")


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    main(tyro.cli(Settings))
