"""`wm-gym soak`: dream for long, and see that nothing breaks and memory stays flat."""

import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from jaxtyping import Bool

from wm_gym.models.kinds import DEFAULT, kind_named
from wm_gym.models.starts import Start, Starts
from wm_gym.models.world_model import Card, WorldModel
from wm_gym.numbers import check_least
from wm_gym.programs.failures import STOPPED
from wm_gym.programs.memory import process_bytes
from wm_gym.programs.progress import Bar
from wm_gym.systems import PUSH_T

Envs = gym.vector.VectorEnv[Any, Any, Any]
MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Soak:
    steps: int = 1_000_000
    """How many steps to take in total, of all environments together."""

    num_envs: int = 64
    """How many environments to step in one batch."""

    world_model: str = "push-t"
    """The world model: a packaged name, a folder, a Hub id, or 'tiny', a small random one."""

    growth: float = 64.0
    """MiB that memory may grow by after warming up without a failure."""

    seed: int = 0
    """Seed of the starts and of the random actions."""

    def __post_init__(self) -> None:
        if self.num_envs < 1 or self.steps < 1:
            raise ValueError(
                f"num_envs is {self.num_envs} and steps {self.steps}, expected both at least 1"
            )
        check_least(0, seed=self.seed)
        if not self.growth > 0:
            raise ValueError(f"growth is {self.growth}, expected MiB above 0")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How things stand after so many steps."""

    steps: int
    memory: int
    """Bytes that are resident."""

    grown: int
    """Bytes that are kept and were not while warming up."""


@tyro.conf.configure(tyro.conf.OmitArgPrefixes)
def soak(config: Soak) -> None:
    """Take random steps for long; fails where numbers are not finite or memory grows."""
    world_model = tiny_world_model() if config.world_model == "tiny" else config.world_model
    envs = gym.make_vec("WM-v0", num_envs=config.num_envs, world_model=world_model)
    reading, begin = Reading(steps=0, memory=resident(), grown=0), time.perf_counter()
    bar = Bar(total=config.steps, unit="step", desc="soaking")
    try:
        with bar:
            for reading in soaking(
                envs, steps=config.steps, growth=round(config.growth * MIB), seed=config.seed
            ):
                bar.update(reading.steps - bar.n)
                bar.set_postfix(memory=f"{reading.memory / MIB:.0f} MiB", refresh=False)
    except KeyboardInterrupt:
        print(f"wm-gym: stopped; until then, {_summary(reading, begin)}", file=sys.stderr)
        sys.exit(STOPPED)
    print(f"nothing broke: {_summary(reading, begin)}")


def _summary(reading: Reading, begin: float) -> str:
    return (
        f"{reading.steps:,} steps at {reading.steps / (time.perf_counter() - begin):,.0f} steps/s, "
        f"{reading.memory / MIB:,.0f} MiB of memory, {reading.grown / MIB:+.1f} MiB "
        "since warming up"
    )


def soaking(envs: Envs, *, steps: int, growth: int, seed: int) -> Iterator[Reading]:
    """A reading after each step of the vector; RuntimeError where something is wrong."""
    rng, scale = np.random.default_rng(seed), Scale(envs.num_envs, steps // envs.num_envs // 10)
    obs, info = envs.reset(seed=seed)
    check_numbers(envs, obs, np.zeros(envs.num_envs), info)
    count = 0
    while count < steps:
        action = rng.uniform(-1, 1, envs.action_space.shape).astype(np.float32)
        obs, reward, terminated, truncated, info = envs.step(action)
        check_numbers(envs, obs, reward, info)
        count += envs.num_envs
        memory = resident()
        grown = scale.weigh(memory, terminated | truncated)
        if grown > growth:
            raise RuntimeError(
                f"after {count:,} steps memory has grown by {grown / MIB:.0f} MiB since it warmed "
                f"up, expected at most {growth / MIB:.0f}: something is kept"
            )
        yield Reading(steps=count, memory=memory, grown=grown)
    if not scale.warm:
        raise RuntimeError(
            f"{steps:,} steps are too few to say that memory stays flat: give every one of "
            f"{envs.num_envs} environments time for two episodes"
        )


class Scale:
    """How much more memory there is, for good, than while it warmed up.

    To begin an episode takes more memory than to step, and allocators keep some of it now and
    then: a hundred MiB come and go. So the *least* of the last tenth of the steps is compared with
    the *most* of the first, and of all until each environment has begun a second time.
    """

    def __init__(self, num_envs: int, tenth: int) -> None:
        self._tenth, self._weighed, self._most = tenth, 0, 0
        self._ended = np.zeros(num_envs, bool)
        self._recent = deque[int](maxlen=max(1, tenth))
        self.warm = False

    def weigh(self, memory: int, over: Bool[np.ndarray, "b"]) -> int:
        """Bytes grown by until now; 0 while that cannot be said."""
        self._weighed += 1
        if self.warm:
            self._recent.append(memory)
        else:
            self._most = max(self._most, memory)
            # the step after an episode's last may be the one that begins anew
            self.warm = self._weighed > self._tenth and bool(self._ended.all())
            self._ended |= over
        full = len(self._recent) == self._recent.maxlen
        return min(self._recent) - self._most if full else 0


def check_numbers(envs: Envs, obs: Any, reward: Any, info: dict[str, Any]) -> None:
    """Whole frames, and finite numbers throughout."""
    space = envs.observation_space
    if obs.dtype != np.uint8 or obs.shape != space.shape:
        raise RuntimeError(
            f"the observation is {obs.dtype} {obs.shape}, expected uint8 {space.shape}"
        )
    for name, value in {"reward": reward, **info}.items():
        numbers = np.asarray(value)
        if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
            where = np.flatnonzero(~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1))
            raise RuntimeError(
                f"{name} is not finite in environment {where.tolist()}, expected a number"
            )
    if "uncertainty" not in info:
        raise RuntimeError(f"info has {sorted(info)}, expected 'uncertainty' too: is it a dream?")


def resident() -> int:
    """Bytes of this process in memory; where that is not told, the most there ever were."""
    return process_bytes("VmRSS")


def tiny_world_model() -> WorldModel:
    """Of Push-T; it has learned nothing and asks for no files: for a quick look at the rest."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = kind_named(DEFAULT).fresh(
            PUSH_T.frame_shape, PUSH_T.action_size, PUSH_T.context, True
        )
    frame, _ = gym.make(next(iter(PUSH_T.simulators))).reset(seed=0)
    start = Start(frames=frame[None], action=np.zeros((0, PUSH_T.action_size), np.float32))
    model = WorldModel(
        *fresh, card=Card(system=PUSH_T.name), starts=Starts.pack([start])
    )  # fmt: skip
    return model.eval().requires_grad_(False)
