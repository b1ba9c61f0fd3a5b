"""A policy that was cloned, or kept alone, and what learning makes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from differentiable_envs import LinearQuadratic
from torch.testing import assert_close

from fog_agent import FoG, FoGConfig
from fog_agent.cloning import clone

GAMMA, ENVS = 0.95, 16
CONFIG = FoGConfig(
    gamma=GAMMA, window=8, actor_hidden=(32,), actor_rate=1e-3, critic_hidden=(32,),
    critic_rate=3e-3, critic_updates=8, critic_batch=256, look_aheads=8, look_ahead_batch=64,
    refreshes=0, log_std=(-5.0, -2.0),
)  # fmt: skip
WINDOW = CONFIG.window * ENVS


def world():
    return LinearQuadratic(ENVS, horizon=20)


def shown(n=4000):
    """The best policy of the world."""
    obs = 0.7 * torch.randn(n, 2, generator=torch.Generator().manual_seed(1))
    gain = torch.tensor(world().law.gain(GAMMA), dtype=torch.float32)
    return obs, -obs @ gain.T


def cloned(**settings):
    agent = FoG(world(), replace(CONFIG, **settings))
    errors = list(clone(agent, *shown(), updates=500, learning_rate=1e-2))
    return agent, errors


def cost(agent):
    """Of one episode, in always the same ones."""
    env = LinearQuadratic(64, staggered=False, horizon=20)
    obs, _ = env.reset(seed=99)
    total = 0.0
    for _ in range(env.horizon - 1):
        obs, reward, *_ = env.step(agent.predict(obs)[0])
        total -= float(reward.mean())
    return total


def worst(agent, windows):
    """Of the costs while it learns."""
    costs = []
    for _ in range(windows // 3):
        agent.learn(3 * WINDOW)
        costs.append(cost(agent))
    return max(costs)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A policy alone, that has learned for a while from where its clone began."""
    agent, _ = cloned(head_start=20)
    obs, before = np.random.default_rng(0).normal(size=(50, 2)), cost(agent)
    policy = agent.predict(obs)[0]
    agent.learn(20 * WINDOW)
    np.testing.assert_array_equal(agent.predict(obs)[0], policy)  # a head start is the critics'
    slow, fast = (each.parameters() for each in (
        agent.learner.critics.slow, agent.learner.critics.network))  # fmt: skip
    assert all(map(torch.equal, slow, fast))
    assert worst(agent, 21) < 1.3 * before
    assert not np.array_equal(agent.predict(obs)[0], policy)
    return agent.save(tmp_path_factory.mktemp("alone") / "policy", policy_only=True)


def test_a_head_start_of_critics_keeps_a_good_policy_good(file):
    """As the fixture says; without one it is spoiled at once."""
    agent, _ = cloned()
    before = cost(agent)
    assert worst(agent, 12) > 1.5 * before
    assert FoG.load(file).windows == 41


def test_a_good_policy_that_was_kept_alone_stays_good(file):
    agent = FoG.load(file, world())
    before = cost(agent)
    assert worst(agent, 12) < 1.2 * before


def test_a_head_start_counts_windows_of_the_agent_s_life(tmp_path):
    agent = FoG(world(), replace(CONFIG, head_start=3)).learn(2 * WINDOW)
    loaded = FoG.load(agent.save(tmp_path / "agent"), world())
    assert loaded.local_samples == 0
    updates = list(loaded.updates(2 * WINDOW))
    assert ["actor_norm" in u.diagnostics for u in updates] == [False, True]
    assert [u.local_samples for u in updates] == [0, 8 * 2 * 64]
    assert [u.gradient_steps for u in updates] == [24, 24 + 8 + 1 + 1 + 8]
    temperature = [u.diagnostics["temperature"] for u in updates]
    assert temperature[0] == pytest.approx(CONFIG.first_temperature)
    assert temperature[1] != temperature[0]


def test_a_clone_does_what_was_shown_as_surely_as_before():
    fresh = FoG(world(), CONFIG)
    agent, errors = cloned()
    obs, action = shown()
    assert errors[-1] < 0.002 < errors[0]
    found, _ = agent.predict(obs)
    assert np.abs(found - action.numpy().clip(-4, 4)).mean() < 0.2
    fresh.learner.normaliser.load_state_dict(agent.learner.normaliser.state_dict())
    log_std = [
        each.learner.actor.distribution(each.learner.normaliser(obs))[1] for each in (agent, fresh)
    ]
    assert (log_std[0] - log_std[1]).abs().mean() < 0.03


def test_errors_are_in_halves_of_the_box(unchecked_types):
    agent, twin = (FoG(LinearQuadratic(2, reach=0.5, centre=3.0), CONFIG) for _ in range(2))
    obs, action = torch.tensor([[1.0, -2.0]]), torch.tensor([[3.25]])
    twin.learner.normaliser.see(obs)
    twin.learner.normaliser.take()
    off = (twin.predict(obs)[0] - 3.25) / 0.5
    assert_close(next(clone(agent, obs, action, updates=1)), float(off.item() ** 2))
    with pytest.raises(ValueError, match="got 1 observations and 0 actions"):
        next(clone(agent, obs, action[:0], updates=1))
