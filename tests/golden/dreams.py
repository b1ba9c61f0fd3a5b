"""Traces of plain steps: resets, starts, snapshots, wrappers."""

import copy
import pickle
from functools import cache
from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from wm_gym.models.world_model import WorldModel
from wm_gym.wrappers import LatentObservation

from .traces import Record, Trace

SAME, NEXT, DISABLED = "SameStep", "NextStep", "Disabled"
THRESHOLD = 0.08
"""Of coverage, far from any that is met below."""

CPU = {"device": "cpu", "deterministic": True}


@cache
def world_model() -> WorldModel:
    """The packaged one, read once."""
    return WorldModel.from_pretrained("push-t").to(torch.device("cpu"))


def dream(**settings: Any) -> Any:
    return gym.make("WM-PushT-v0", **{"world_model": world_model(), **CPU, **settings})


def dreams(num_envs: int, **settings: Any) -> Any:
    settings = {"world_model": world_model(), **CPU, **settings}
    return gym.make_vec("WM-PushT-v0", num_envs=num_envs, **settings).unwrapped


def actions_of(steps: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Some of them outside the box, where they are clipped."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1.1, 1.1, (steps, *shape, 2)).astype(np.float32)


class Play(Trace):
    """A trace of one environment, single or vector, as it is reset and stepped."""

    def __init__(self, env: Any) -> None:
        super().__init__()
        self.env, self.over = env, np.zeros(getattr(env, "num_envs", 1), bool)
        mode = AutoresetMode(env.metadata.get("autoreset_mode", DISABLED))
        self._manual = mode == AutoresetMode.DISABLED

    def begin(self, *, seed: Any = None, **options: Any) -> "Play":
        obs, info = self.env.reset(seed=seed, options=options or None)
        self.add(obs=obs, info=info)
        self.over &= np.logical_not(options.get("reset_mask", True))
        return self

    def step(self, action: np.ndarray) -> None:
        """And where nobody else does, begin again whatever is over."""
        returned = self.env.step(action)
        names = ("obs", "reward", "terminated", "truncated", "info")
        self.add(**dict(zip(names, returned, strict=True)))
        self.over |= np.asarray(returned[2] | returned[3])
        if self._manual and self.over.any():
            self.begin(**({"reset_mask": self.over.copy()} if len(self.over) > 1 else {}))

    def run(self, actions: np.ndarray) -> "Play":
        for action in actions:
            self.step(action)
        return self


def run(env: Any, actions: np.ndarray, /, *, seed: int = 3, **options: Any) -> Play:
    return Play(env).begin(seed=seed, **options).run(actions)


def single(obs_type: str) -> Record:
    """By its packaged name, through the wrappers of `gym.make`; resets without seeds go on."""
    env = dream(world_model="push-t", obs_type=obs_type, horizon=4)
    return run(env, actions_of(9)).record("single")


def vector(obs_type: str, mode: str) -> Record:
    """Three, and nine, which is one more than a batch, staggered; then only some are reset."""
    plain = obs_type == "pixels" and mode != SAME
    kept: Record = {}
    for num_envs in (3,) if plain else (3, 9):
        env = dreams(
            num_envs, obs_type=obs_type, autoreset_mode=mode, horizon=3, staggered=num_envs == 9
        )
        play, actions = run(env, actions_of(4, num_envs)), actions_of(2, num_envs, seed=1)
        play.begin(seed=40, reset_mask=np.arange(num_envs) % 2 == 1).step(actions[0])
        play.begin(reset_mask=np.arange(num_envs) == 0).step(actions[1])
        kept |= play.record(f"{num_envs} dreams")
    return kept


def denoising() -> Record:
    kept: Record = {}
    for obs_type, steps in product(("pixels", "latent"), (1, 3)):
        env = dreams(3, obs_type=obs_type, denoising_steps=steps, autoreset_mode=SAME, horizon=2)
        kept |= run(env, actions_of(3, 3, seed=5)).record(f"{obs_type}, {steps} steps")
    return kept


def success() -> Record:
    """Some episodes end by it, some by time."""
    kept: Record = {}
    for mode in (SAME, NEXT):
        env = dreams(
            9, autoreset_mode=mode, horizon=4, success_threshold=THRESHOLD,
            terminate_on_success=True, staggered=True,
        )  # fmt: skip
        kept |= run(env, actions_of(5, 9, seed=7), seed=20).record(mode)
    env = dream(success_threshold=THRESHOLD, terminate_on_success=True, horizon=4)
    return kept | run(env, actions_of(6, seed=7), seed=20).record("single")


@cache
def filmed(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Frames of the real system, and the actions between them."""
    env, actions = gym.make("Real-PushT-v0"), actions_of(count - 1, seed=seed).clip(-1, 1)
    frames = [env.reset(seed=seed)[0], *(env.step(action)[0] for action in actions)]
    return np.stack(frames), actions


def starts() -> Record:
    """Fewer frames than the model remembers, as many, and more."""
    kept: Record = {}
    for obs_type, count in product(("pixels", "latent"), (1, 2, 4, 6)):
        frames, actions = filmed(count)
        play = run(dream(obs_type=obs_type), actions_of(2), frames=frames, actions=actions)
        kept |= play.record(f"{obs_type}, {count} frames")
    for count in (1, 6):
        frames, actions = map(np.stack, zip(*(filmed(count, s) for s in range(3)), strict=True))
        envs = dreams(3, obs_type="latent", autoreset_mode=SAME, horizon=3)
        play = run(envs, actions_of(2, 3), frames=frames, actions=actions)
        play.begin(frames=frames, actions=actions, reset_mask=np.array([False, True, True]))
        play.step(actions_of(1, 3, seed=2)[0])
        kept |= play.record(f"three times {count} frames")
    return kept


def snapshots() -> Record:
    """Branches go on from a snapshot, across a reset, and from one environment in another."""
    kept: Record = {}
    for obs_type in ("pixels", "latent"):
        envs = dreams(3, obs_type=obs_type, autoreset_mode=SAME, horizon=3)
        first, these, others = actions_of(2, 3), actions_of(2, 3, seed=1), actions_of(2, 3, seed=2)
        play = run(envs, first)
        saved = pickle.loads(pickle.dumps(envs.get_state()))
        for actions in (these, these, others):
            envs.set_state(saved)
            play.run(actions)
        kept |= play.record(obs_type)
        alone = Play(dream(obs_type=obs_type, horizon=4).unwrapped).begin(seed=0)
        alone.env.set_state(copy.deepcopy(saved[1]))
        kept |= alone.run(these[:, 1]).record(f"{obs_type}, the second one alone")
    return kept


def sampled() -> Record:
    """In float32 batches as they come, without `deterministic`."""
    env = dreams(
        9, deterministic=False, dtype="float32", obs_type="latent", autoreset_mode=SAME, horizon=4
    )
    return run(env, actions_of(5, 9)).record("float32")


def bfloat16() -> Record:
    """What "auto" means where the processor is fast at it; elsewhere it is slow, and there too."""
    settings = {"deterministic": False, "dtype": "bfloat16", "world_model": "push-t"}
    env = dreams(3, obs_type="latent", autoreset_mode=SAME, horizon=3, **settings)
    return run(env, actions_of(4, 3)).record("bfloat16")


def wrapped() -> Record:
    """Latents of a dream's pixels, and of the real system's."""
    kept: Record = {}
    for num_envs, mode in ((3, SAME), (9, NEXT)):
        envs = LatentObservation(
            dreams(num_envs, autoreset_mode=mode, horizon=4), world_model(), deterministic=True
        )
        kept |= run(envs, actions_of(6, num_envs)).record(f"{num_envs} dreams")
    env = LatentObservation(dream(horizon=4), world_model(), deterministic=True)
    frames, actions = filmed(6)
    play = run(env, actions_of(2), frames=frames, actions=actions)
    saved = env.get_state()
    for _ in range(2):
        env.set_state(saved)
        play.step(actions_of(1, seed=1)[0])
    return kept | play.record("single")


def real() -> Record:
    kept: Record = {}
    for mode in (SAME, NEXT):
        envs = gym.make_vec("Real-PushT-v0", num_envs=3, autoreset_mode=mode, horizon=4)
        kept |= run(envs, actions_of(6, 3)).record(f"{mode}, pixels")
        envs = gym.make_vec("Real-PushT-v0", num_envs=3, autoreset_mode=mode, horizon=4)
        envs = LatentObservation(envs, world_model(), deterministic=True)
        kept |= run(envs, actions_of(6, 3)).record(f"{mode}, wrapped")
    env = LatentObservation(gym.make("Real-PushT-v0"), world_model(), deterministic=True)
    kept |= run(env, actions_of(3)).record("single, wrapped")
    settings = {"obs_type": "latent", "world_model": world_model(), **CPU}
    env = gym.make("Real-PushT-v0", **settings)
    return kept | run(env, actions_of(3)).record("single, latent")
