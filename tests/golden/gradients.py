"""Traces of steps with gradients: values, and what flows back into actions and a policy."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .dreams import DISABLED, NEXT, SAME, Play, actions_of, dream, dreams, filmed
from .traces import Record, Trace

HORIZON, STEPS = 3, 3
NAMES = ("obs", "reward", "terminated", "truncated", "final_obs", "valid", "info")


class LinearPolicy:
    """A fixed one, of latents as they are or of pixels' means over cells."""

    def __init__(self, obs: Tensor, num_envs: int) -> None:
        self._single = num_envs == 0
        size = self.seen(obs).shape[-1]
        rng = np.random.default_rng(size)
        weight, bias = rng.standard_normal((size, 2)) / (3 * size**0.5), np.array([0.2, -0.1])
        self.weight, self.bias = (
            torch.tensor(each, dtype=torch.float32, requires_grad=True) for each in (weight, bias)
        )

    def seen(self, obs: Tensor) -> Tensor:
        batch = obs[None] if self._single else obs
        if batch.ndim == 4:
            cells = batch.unflatten(1, (4, 24)).unflatten(3, (4, 24)).mean((2, 4))
            batch = cells.flatten(1) / 255
        return batch[0] if self._single else batch

    def __call__(self, obs: Tensor) -> Tensor:
        return self.seen(obs) @ self.weight + self.bias


def record_window(
    trace: Trace, env: Any, choose: Callable[[int, Tensor], Tensor], gradient: str | None = None
) -> list[Any]:
    """The GradSteps of one window."""
    obs, steps = env.begin_window(gradient=gradient), []
    trace.add(begun=obs)
    for t in range(STEPS):
        steps.append(env.step_with_grad(choose(t, obs)))
        obs = steps[-1].obs
        trace.add(**{name: getattr(steps[-1], name) for name in NAMES})
    return steps


def gradients(steps: list[Any], *of: Tensor) -> dict[str, Tensor]:
    """Of the sum of rewards, and of fixed random projections of the last observations."""
    found: dict[str, Tensor] = {}
    sums = {"rewards": sum(step.reward.sum() for step in steps)}
    for name in ("obs", "final_obs"):
        last = getattr(steps[-1], name)
        rng = np.random.default_rng(last.numel())
        ways = torch.tensor(rng.standard_normal(tuple(last.shape)), dtype=torch.float32)
        sums[name] = (last * ways).sum() / last.numel() ** 0.5
    for (name, total), (i, each) in product(sums.items(), enumerate(of)):
        if total.requires_grad:
            (grown,) = torch.autograd.grad(total, each, retain_graph=True, allow_unused=True)
            found[f"d {name} / d {i}"] = torch.zeros(0) if grown is None else grown.flatten()
    return found


def windows(env: Any, num_envs: int, gradient: str | None = None) -> Record:
    """One of given actions, and one of a policy; episodes go on from one to the other."""
    trace, back = Trace(), Trace()
    shape = (num_envs,) if num_envs else ()
    actions = torch.tensor(actions_of(STEPS, *shape, seed=9), requires_grad=True)
    steps = record_window(trace, env, lambda t, _: actions[t], gradient)
    back.add(actions=gradients(steps, actions))
    policy = LinearPolicy(env.begin_window(), num_envs)
    steps = record_window(trace, env, lambda _, obs: policy(obs), gradient)
    back.add(policy=gradients(steps, policy.weight, policy.bias))
    return trace.record("steps") | back.record("gradients")


def vector(obs_type: str, gradient: str) -> Record:
    """Across resets, in which episodes end one after the other."""
    env = dreams(
        3, obs_type=obs_type, gradient=gradient, autoreset_mode=SAME, horizon=HORIZON,
        staggered=True,
    )  # fmt: skip
    env.reset(seed=12)
    return windows(env, 3)


def titled(title: str, record: Record) -> Record:
    return {f"{title}/{name}": values for name, values in record.items()}


def single() -> Record:
    kept: Record = {}
    for obs_type in ("pixels", "latent"):
        env = dream(obs_type=obs_type, horizon=4 * STEPS).unwrapped
        env.reset(seed=1)
        kept |= titled(obs_type, windows(env, 0))
    return kept


def ignored_steps() -> Record:
    """Those of NextStep that begin an episode: they are not valid."""
    kept: Record = {}
    for obs_type, gradient in (("pixels", "diffusion"), ("latent", "surrogate")):
        env = dreams(
            3, obs_type=obs_type, autoreset_mode=NEXT, horizon=HORIZON, gradient=gradient,
            staggered=True,
        )  # fmt: skip
        env.reset(seed=2)
        kept |= titled(f"{obs_type}, {gradient}", windows(env, 3))
    return kept


def denoising() -> Record:
    """Through three steps of the sampler, of nine: one more than a batch."""
    env = dreams(9, obs_type="latent", autoreset_mode=DISABLED, denoising_steps=3)
    env.reset(seed=3)
    actions = torch.tensor(actions_of(STEPS, 9, seed=3), requires_grad=True)
    trace, back = Trace(), Trace()
    steps = record_window(trace, env, lambda t, _: actions[t], "diffusion")
    back.add(actions=gradients(steps, actions))
    return trace.record("steps") | back.record("gradients")


def cut() -> Record:
    """A plain step, a reset of one, a snapshot: nothing flows back beyond any of them."""
    kept: Record = {}
    frames, told = filmed(2)
    for obs_type, gradient in (("pixels", "surrogate"), ("latent", "diffusion")):
        env, trace, back = dreams(3, obs_type=obs_type, autoreset_mode=SAME), Trace(), Trace()
        given = {"frames": np.stack([frames] * 3), "actions": np.stack([told] * 3)}
        env.reset(seed=4, options=given)
        saved = env.get_state()
        actions = torch.tensor(actions_of(4, 3, seed=4), requires_grad=True)
        between: list[Callable[[], Any]] = [
            lambda env=env: env.step(actions_of(1, 3)[0]),
            lambda env=env: env.reset(options={"reset_mask": np.array([True, False, False])}),
            lambda env=env, saved=saved: env.set_state(saved),
            lambda: None,
        ]
        env.begin_window(gradient=gradient)
        for t, happen in enumerate(between):
            happen()
            steps = [env.step_with_grad(actions[t])]
            trace.add(**{name: getattr(steps[0], name) for name in NAMES})
            back.add(**gradients(steps, actions))
        kept |= trace.record(f"{obs_type}, {gradient}/steps")
        kept |= back.record(f"{obs_type}, {gradient}/gradients")
    return kept


def refresh() -> Record:
    """Its numbers, and gradients before and after at the same states, whose values stay."""
    env = dreams(4, obs_type="latent", autoreset_mode=SAME)
    play, numbers = Play(env).begin(seed=8), Trace()
    batch: dict[str, list[np.ndarray]] = {"obs": [], "action": [], "reward": [], "next_obs": []}
    obs = env.begin_window().numpy()
    for action in actions_of(4, 4, seed=8).clip(-1, 1):
        following, reward, *_ = env.step(action)
        for name, values in zip(batch, (obs, action, reward, following), strict=True):
            batch[name].append(values)
        obs = following
    saved = env.get_state()
    kept = titled("before", windows(env, 4))
    for _ in range(2):
        numbers.add(**env.refresh({name: np.concatenate(each) for name, each in batch.items()}))
    env.set_state(saved)
    kept |= titled("after", windows(env, 4))
    return kept | numbers.record("refresh") | play.record("begun")
