"""Whether an agent's gradients can be trusted, from where its environments are now.

    cosine, length, signs     of ∂(r₀ + … + r_{h−1}) / ∂ (a₀, …, a_{h−1}), for several h, as the
                              environment gives it, against central differences of the same sum
    along the window          ‖∂(r₀ + … + r_{T−1}) / ∂ aₜ‖
    signal, halves            how far the policy gradients of single environments agree
    local model's errors      of one step, along the policy's own way

Actions are numbers from −1 to 1 here, whatever the box. Differences begin where the perturbed
action is taken; the noise of an environment is part of its state, so it is common to both.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fog_agent.abilities import lent_model, needed_snapshots, with_states
from fog_agent.fog import FoG
from fog_agent.policy_signal import NOWHERE, policy_signal
from fog_agent.protocol import DifferentiableEnv, GradStep, Snapshots

Coordinate = tuple[int, int]
"""A step, and the number of its action that is perturbed."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of gradients over this horizon with central differences, over the coordinates within it."""

    horizon: int
    coordinates: int
    """With one alone, a cosine is ±1."""

    environments: int
    """That have a gradient at all."""

    cosine_median: float
    cosine_mean: float
    length: float
    """Of the gradient, in lengths of the differences: the median."""

    signs: float
    """Share of numbers with the same sign."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    agreement: tuple[Agreement, ...]
    along: tuple[float, ...]
    """Norm of the summed rewards' gradient by each step's actions, mean over environments."""

    signal: float
    """‖mean‖ / mean ‖·‖ of the environments' policy gradients: 1 where they agree, 1/√n where they
    are noise."""

    halves: float
    """Cosine between the mean policy gradients of two halves of the environments."""

    obs_error: float
    """The local model's, in units of how far observations move in a step; NaN without one."""

    reward_error: float
    """… in standard deviations of the reward."""

    def __str__(self) -> str:
        """A table, and what to make of it."""
        rows = [
            f"{each.horizon:>7}{each.cosine_median:>17.2f}{each.cosine_mean:>9.2f}"
            f"{each.length:>9.2f}{each.signs:>8.0%}"
            for each in self.agreement
        ]
        return "\n".join([
            "gradients against central differences (cosine and length are best at 1)",
            "horizon   cosine: median     mean   length   signs", *rows,
            f"policy gradients of environments agree by {self.signal:.2f} (1: all, 0: noise), of "
            f"halves by {self.halves:.2f}",
            f"the local model is off by {self.obs_error:.2f} of a step's change, "
            f"{self.reward_error:.2f} of the reward's deviation",
        ])  # fmt: skip


def diagnose(
    agent: FoG, *, steps: int | None = None, coordinates: int = 16, delta: float = 0.1
) -> Diagnosis:
    """Over a window of `steps`; agent and environment are afterwards exactly as they were.

    `coordinates` are drawn, more or less as many for each horizon; `delta` is in halves of the box.
    """
    steps = agent.config.window if steps is None else steps
    _check(agent, steps, coordinates, delta)
    env = agent._ready()
    size = agent.spaces.action_size
    rng = torch.Generator().manual_seed(0)
    like = agent.learner.reward_scale
    noise = torch.randn(steps, env.num_envs, size, generator=rng).to(like.device)
    chosen = choose(steps, size, coordinates, rng=rng)
    with _untouched(agent) as start:
        signal, halves = policy_signal(agent, noise)
        actions = _open_loop(agent, start, noise, margin=delta)
        _snapshots(agent).set_state(start)
        given, travelled = _given(agent, actions)
        obs_error, reward_error = _model_errors(env, travelled)
        found = _found(agent, start, actions, chosen, delta)
    return Diagnosis(
        agreement=tuple(
            _agreement(h, given[i], found[i], [c for c in chosen if c[0] < h])
            for i, h in enumerate(horizons(steps))
        ),
        along=tuple(given[-1].norm(dim=2).mean(dim=1).tolist()),
        signal=signal,
        halves=halves,
        obs_error=obs_error,
        reward_error=reward_error,
    )


def _check(agent: FoG, steps: int, coordinates: int, delta: float) -> None:
    if steps < 1 or coordinates < 1:
        raise ValueError(f"got {steps} steps and {coordinates} coordinates, expected at least 1")
    if not 0 < delta < 1:
        raise ValueError(f"delta is {delta}, expected more than 0 and less than 1")
    if agent.env is None:
        raise ValueError("there is no environment to look at: set_env(env) first")
    _snapshots(agent)


def _snapshots(agent: FoG) -> Snapshots:
    assert agent.env is not None
    return needed_snapshots(agent.env, "what another action would have led to cannot be seen")


@contextmanager
def _untouched(agent: FoG) -> Iterator[Any]:
    """The environment's state, which it is in again afterwards; noise is drawn elsewhere."""
    env = _snapshots(agent)
    weights = {name: each.clone() for name, each in agent.learner.state_dict().items()}
    start = env.get_state()
    try:
        yield start
    finally:
        agent.learner.load_state_dict(weights)  # scales, if nothing has been learned so far
        env.set_state(start)


def horizons(steps: int) -> tuple[int, ...]:
    """1, 2, 4, … and all."""
    return (*(2**k for k in range(steps.bit_length()) if 2**k < steps), steps)


def choose(
    steps: int, action_size: int, count: int, *, rng: torch.Generator
) -> tuple[Coordinate, ...]:
    """Random ones, taken in turn from the steps that each horizon has more than the one before."""
    bands, before = [], 0
    for h in horizons(steps):
        band = [(t, i) for t in range(before, h) for i in range(action_size)]
        bands.append([band[k] for k in torch.randperm(len(band), generator=rng).tolist()])
        before = h
    chosen: list[Coordinate] = []
    while any(bands) and len(chosen) < count:
        chosen += [band.pop() for band in bands if band][: count - len(chosen)]
    return tuple(sorted(chosen))


# ------------------------------------------------------------------ gradients by actions


def _steps(agent: FoG, actions: Iterable[Float[Tensor, "b a"]]) -> Iterator[GradStep]:
    """From where the environments are; actions are numbers from −1 to 1."""
    assert agent.env is not None
    actor = agent.learner.actor
    agent.env.begin_window()
    for action in actions:
        yield agent.env.step_with_grad(actor.centre + actor.reach * action)


@torch.no_grad()
def _open_loop(
    agent: FoG, start: Any, noise: Float[Tensor, "t b a"], *, margin: float
) -> Float[Tensor, "t b a"]:
    """What the policy does, kept so far from the box's walls that it can be moved either way."""
    env = agent.env
    assert env is not None
    _snapshots(agent).set_state(start)
    actor, actions = agent.learner.actor, []
    obs = env.begin_window()
    for each in noise:
        action = (agent.learner.act(obs, each).action - actor.centre) / actor.reach
        actions.append(action.clamp(margin - 1, 1 - margin))
        obs = env.step_with_grad(actor.centre + actor.reach * actions[-1]).obs
    return torch.stack(actions)


Travelled = list[tuple[Tensor, Tensor, Tensor, Tensor]]
"""Observation, action of the box, reward, true successor; by step."""


def _given(agent: FoG, actions: Float[Tensor, "t b a"]) -> tuple[list[Tensor], Travelled]:
    """By horizon, the gradients (t b a) that the environment gives; and the way there."""
    assert agent.env is not None
    actor, leaves = agent.learner.actor, [each.clone().requires_grad_() for each in actions]
    obs, travelled, rewards = agent.env.begin_window(), [], []
    for action, out in zip(leaves, _steps(agent, leaves), strict=True):
        acted = actor.centre + actor.reach * action.detach()
        travelled.append((obs, acted, out.reward.detach(), out.final_obs.detach()))
        rewards.append(out.reward)
        obs = out.obs.detach()
    given = []
    for h in horizons(len(actions)):
        by = torch.autograd.grad(
            torch.stack(rewards[:h]).sum(), leaves, retain_graph=True, materialize_grads=True,
            allow_unused=True,
        )  # fmt: skip
        given.append(torch.stack(by))
    return given, travelled


@torch.no_grad()
def _found(
    agent: FoG, start: Any, actions: Float[Tensor, "t b a"], chosen: Sequence[Coordinate],
    delta: float,
) -> list[Tensor]:  # fmt: skip
    """By horizon, the central differences (t b a), 0 where none were asked for."""
    env = _snapshots(agent)
    found = [torch.zeros_like(actions) for _ in horizons(len(actions))]
    for t in sorted({t for t, _ in chosen}):
        env.set_state(start)
        for _ in _steps(agent, actions[:t]):
            pass
        here = env.get_state()
        for i in [i for s, i in chosen if s == t]:
            sums = []
            for way in (delta, -delta):
                moved = actions[t:].clone()
                moved[0, :, i] += way
                env.set_state(here)
                rewards = torch.stack([out.reward for out in _steps(agent, moved)])
                sums.append(rewards.cumsum(dim=0))
            slope = (sums[0] - sums[1]) / (2 * delta)
            for k, h in enumerate(horizons(len(actions))):
                if h > t:
                    found[k][t, :, i] = slope[h - t - 1]
    return found


def _agreement(
    horizon: int, given: Float[Tensor, "t b a"], found: Float[Tensor, "t b a"],
    chosen: Sequence[Coordinate],
) -> Agreement:  # fmt: skip
    mine, theirs = (
        torch.stack([each[t, :, i] for t, i in chosen], dim=1).double().cpu()
        for each in (given, found)
    )
    norms = mine.norm(dim=1), theirs.norm(dim=1)
    led = (norms[0] > NOWHERE) & (norms[1] > NOWHERE)
    cosine = (mine * theirs).sum(dim=1)[led] / (norms[0] * norms[1])[led]
    either = (mine != 0) | (theirs != 0)
    return Agreement(
        horizon=horizon,
        coordinates=len(chosen),
        environments=int(led.sum()),
        cosine_median=float(cosine.median()) if len(cosine) else math.nan,
        cosine_mean=float(cosine.mean()),
        length=float((norms[0] / norms[1])[led].median()) if len(cosine) else math.nan,
        signs=float((mine.sign() == theirs.sign())[either].double().mean()),
    )


# ------------------------------------------------------------------ the local model


@torch.no_grad()
def _model_errors(env: DifferentiableEnv, travelled: Travelled) -> tuple[float, float]:
    lent = lent_model(env)
    if lent is None:
        return math.nan, math.nan
    model = with_states(lent)
    obs, action, reward, next_obs = (torch.cat(each) for each in zip(*travelled, strict=True))
    missed = model.obs_of(model.predict(model.begin(obs), action)) - next_obs
    off = model.reward_of(model.begin(next_obs), action) - reward
    moved, deviation = (next_obs - obs).norm(), reward.std(correction=0)
    return float(missed.norm() / moved), float(off.square().mean().sqrt() / deviation)
