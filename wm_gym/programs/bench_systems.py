"""The speed of real systems, ours and the one it is a twin of."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from wm_gym.programs.bench_timing import Step, in_turns


def bench_systems(*, seconds: float, rounds: int) -> dict[str, Any]:
    """Steps/s on one core of this process, in turns."""
    torch.set_num_threads(1)
    rows: dict[str, tuple[Step, float]] = {
        "gym-pusht, pixels": (gym_pusht("pixels"), 10.0),
        "gym-pusht, state": (gym_pusht("state"), 10.0),
        "Real-PushT-v0": (ours(None), 5.0),
        "Real-PushT-v0, 16 in one": (ours(16), 5.0),
    }
    steps = {name: step for name, (step, _rate) in rows.items()}
    speeds = in_turns(steps, seconds=seconds, rounds=rounds, title="systems")
    base = speeds["gym-pusht, pixels"].median
    print(f"{'one core':<28}{'steps/s':>10}{'range':>16}{'simulated s/s':>15}{'× pixels':>10}")
    for name, (_, rate) in rows.items():
        speed = speeds[name]
        figures = f"{speed.median:>10,.0f}{speed.span:>16}{speed.median / rate:>15,.0f}"
        print(f"{name:<28}{figures}{speed.median / base:>10.1f}")
    print("a step draws a picture but for 'state'; gym-pusht's step is 0.1 s, ours 0.2 s\n")
    return {name: {"steps_per_second": speed.steps_per_second} for name, speed in speeds.items()}


def gym_pusht(obs_type: str) -> Step:
    import gym_pusht  # noqa: F401  # registers; a test dependency, so imported where it is used

    return _single(gym.make("gym_pusht/PushT-v0", obs_type=obs_type, disable_env_checker=True))


def ours(num_envs: int | None) -> Step:
    if num_envs is None:
        return _single(gym.make("Real-PushT-v0", disable_env_checker=True))
    return batched(gym.make_vec("Real-PushT-v0", num_envs=num_envs))


def batched(envs: gym.vector.VectorEnv[Any, Any, Any]) -> Step:
    """A step of all of them, driven at random."""
    rng, shape = np.random.default_rng(0), envs.action_space.shape
    envs.reset(seed=0)

    def step() -> int:
        envs.step(rng.uniform(-1, 1, shape).astype(np.float32))
        return envs.num_envs

    return step


def _single(env: gym.Env[Any, Any]) -> Step:
    box, rng = env.action_space, np.random.default_rng(0)
    assert isinstance(box, gym.spaces.Box)
    env.reset(seed=0)

    def step() -> int:
        action = rng.uniform(box.low, box.high).astype(np.float32)
        *_, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
        return 1

    return step
