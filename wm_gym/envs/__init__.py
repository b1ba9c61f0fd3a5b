"""Gymnasium environments: shells around worlds, single and natively batched."""

from wm_gym.envs.episodes import EnvState
from wm_gym.envs.real import RealEnv, RealVectorEnv
from wm_gym.envs.single import WorldEnv
from wm_gym.envs.vector import WorldVectorEnv

__all__ = ["EnvState", "RealEnv", "RealVectorEnv", "WorldEnv", "WorldVectorEnv"]
