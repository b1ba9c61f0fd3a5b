"""Reference agents from Stable-Baselines3, on any Gymnasium vector environment."""

from baselines.sb3_vec_env import Sb3VecEnv

__all__ = ["Sb3VecEnv"]
