"""A Gymnasium vector environment for Stable-Baselines3, which takes only its own kind."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv

Indices = None | int | Iterable[int]


class Sb3VecEnv(VecEnv):
    """Any `VectorEnv` made with `autoreset_mode="SameStep"`, which is how Stable-Baselines3 resets.

    Sb3VecEnv(gym.make_vec("Real-PushT-v0", num_envs=8, autoreset_mode="SameStep"))
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        if not hasattr(env, "num_envs"):
            raise TypeError(
                f"env is a {type(env).__name__}, expected a VectorEnv: make it with gym.make_vec"
            )
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"the environment resets in mode {mode}, expected {AutoresetMode.SAME_STEP}: "
                'make it with autoreset_mode="SameStep"'
            )
        self.env = env
        self.metadata = env.metadata
        self._actions: np.ndarray | None = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Any:
        if any(options != self._options[0] for options in self._options):
            raise ValueError(
                f"all environments are reset with the same options, got {self._options}"
            )
        known = any(seed is not None for seed in self._seeds)
        seeds: Any = list(self._seeds) if known else None  # a list is allowed, though not annotated
        obs, infos = self.env.reset(seed=seeds, options=self._options[0] or None)
        self._reset_seeds()
        self._reset_options()
        _check_finite("an observation", obs)
        self.reset_infos = [_of_one(infos, i) for i in range(self.num_envs)]
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        assert self._actions is not None, "step_wait without step_async"
        obs, reward, terminated, truncated, infos = self.env.step(self._actions)
        _check_finite("an observation", obs)
        _check_finite("a reward", reward)
        over = terminated | truncated
        each = []
        for i in range(self.num_envs):
            ended = bool(over[i])
            info = _of_one(infos["final_info"] if ended else infos, i)
            info["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
            if ended:
                info["terminal_observation"] = infos["final_obs"][i]
            each.append(info)
        return obs, np.asarray(reward, np.float32), over, each

    def close(self) -> None:
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        pictures = self.env.render()
        return [None] * self.num_envs if pictures is None else list(pictures)  # type: ignore[arg-type]

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        each = self._of_each(attr_name)
        return [each[i] for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(f"{attr_name} is shared by all {self.num_envs} environments")
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        each = self._of_each(method_name, *method_args, **method_kwargs)
        return [each[i] for i in self._get_indices(indices)]

    def _of_each(self, name: str, *args: Any, **kwargs: Any) -> Sequence[Any]:
        """Each one's own where the vector environment knows it, else what all share."""
        if hasattr(self.env, "call"):
            return self.env.call(name, *args, **kwargs)
        value = getattr(self.env, name)
        return [value(*args, **kwargs) if callable(value) else value] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type, indices: Indices = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


def _check_finite(what: str, values: Any) -> None:
    """Else a policy would be blamed for what it makes of them."""
    if isinstance(values, dict):
        for name, each in values.items():
            _check_finite(f"{what} whose {name!r}", each)
        return
    array = np.asarray(values)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise FloatingPointError(f"the environment returned {what} that is not finite")


def _of_one(infos: dict[str, Any], i: int) -> dict[str, Any]:
    """Environment i's own entries, in a dictionary of its own."""
    mine: dict[str, Any] = {}
    for name, values in infos.items():
        mask = infos.get(f"_{name}")
        if mask is None or not mask[i] or name in ("final_obs", "final_info"):
            continue
        value = _of_one(values, i) if isinstance(values, dict) else values[i]
        mine[name] = value.item() if isinstance(value, np.generic) else value
    return mine
