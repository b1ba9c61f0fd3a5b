"""Reference agents from Stable-Baselines3, on any Gymnasium vector environment."""

from baselines.ppo import PPOConfig, ppo
from baselines.sac import SACConfig, sac
from baselines.sb3_agent import Sb3Agent, Update
from baselines.sb3_vec_env import Sb3VecEnv

__all__ = ["PPOConfig", "SACConfig", "Sb3Agent", "Sb3VecEnv", "Update", "ppo", "sac"]
