"""Traces of agents that learn, and of the packaged policy at work on the real system."""

import random
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from safetensors.torch import load as tensors_of

from baselines import PPOConfig, ppo
from fog_agent import PRESETS, FoG, FoGConfig

from .dreams import CPU, SAME, dreams, world_model
from .traces import EXACT, Record, Trace, tensors

ENVS, CERTAIN, LONG = 4, 12, 75
"""Steps in which contacts have not yet made a rounding error another push, and all steps."""

TINY = replace(PRESETS["tiny"][1], look_ahead_bfloat16=False)
LOOKS_AHEAD = replace(TINY, critics=2, look_aheads=3, refreshes=2, refresh_batch=16, logs=False)
PURE = replace(TINY, critics=1, look_aheads=0, refreshes=0, logs=False)


def learning_env() -> Any:
    return dreams(ENVS, obs_type="latent", autoreset_mode=SAME, horizon=6, staggered=True)


def fog(config: FoGConfig, *, resumed: bool = False) -> Record:
    """Two windows; the agent may be saved and loaded between them."""
    agent, trace = FoG(learning_env(), config), Trace()
    for number in range(2):
        for update in agent.updates(1):
            trace.add(**told(update))
        if resumed and not number:
            with TemporaryDirectory() as folder:
                agent = FoG.load(agent.save(Path(folder) / "agent.zip"), env=learning_env())
    return trace.record("learning") | of_policy(agent)


def of_policy(agent: FoG) -> Record:
    with TemporaryDirectory() as folder:
        saved = agent.save(Path(folder) / "policy.zip", policy_only=True)
        with zipfile.ZipFile(saved) as parts:
            weights = tensors_of(parts.read("policy.safetensors"))
    obs = some_obs(agent.observation_space.shape[0])
    return tensors("policy", weights) | {"predicted": agent.predict(obs)[0]}


def told(update: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(update).items() if name != "seconds"}


def some_obs(size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((5, size)).astype(np.float32)


def packaged_policy() -> Record:
    """Five real episodes; after a while only bit for bit, as contacts are chaotic."""
    policy = FoG.load("push-t")
    env = gym.make_vec(
        "Real-PushT-v0", num_envs=5, obs_type="latent", world_model=world_model(), **CPU
    )
    obs, info = env.reset(seed=50_000)
    early, whole = Trace(), []
    for t in range(LONG):
        action = policy.predict(obs)[0]
        obs, reward, *_, info = env.step(action)
        if t < CERTAIN:
            early.add(obs=obs, action=action, reward=reward, coverage=info["coverage"])
        whole.append([reward, info["coverage"], info["best_coverage"]])
    return {f"whole{EXACT}": np.array(whole)} | early.record("early")


def ppo_of_baselines() -> Record:
    with global_generators():
        config = PPOConfig(n_steps=8, minibatches=2, n_epochs=2, hidden=(16,))
        env, trace = learning_env(), Trace()
        agent = ppo(env, config, seed=3)
        for update in agent.updates(8 * ENVS):
            trace.add(**told(update))
        trace.add(predicted=agent.predict(some_obs(env.single_observation_space.shape[0]))[0])
        weights = agent.algorithm.policy.state_dict()
    return trace.record("learning") | tensors("policy", weights)


@contextmanager
def global_generators() -> Iterator[None]:
    """Put back as they were: Stable-Baselines3 seeds them."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])
