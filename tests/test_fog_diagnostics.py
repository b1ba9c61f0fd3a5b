"""A diagnosis says what is true of a world that is known, and leaves no trace."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from differentiable_envs import Corridor, LinearQuadratic
from tiny_world import make_world_model
from torch.testing import assert_close

from fog_agent import PRESETS, FoG
from fog_agent.diagnostics import choose, diagnose, horizons
from fog_agent.policy_signal import policy_gradients, policy_signal
from fog_agent.window import roll

TINY = PRESETS["tiny"][1]
ENVS = 8
WINDOW = TINY.window * ENVS


def make(env=None, **settings):
    env = LinearQuadratic(ENVS, horizon=6, actions=2) if env is None else env
    return FoG(env, replace(TINY, **{"window": 8, **settings}))


def dream():
    return gym.make_vec(
        "WM-v0", num_envs=ENVS, world_model=make_world_model(), obs_type="latent", horizon=6,
        autoreset_mode="SameStep", deterministic=True,
    ).unwrapped  # fmt: skip


def told(update):
    return update.samples, update.reward, str(update.diagnostics)


def test_exact_gradients_are_found_exact():
    """Over ends of episodes, too, which come every six steps."""
    agent = make().learn(5 * WINDOW)
    found = diagnose(agent)
    assert [each.horizon for each in found.agreement] == [1, 2, 4, 8]
    assert [each.coordinates for each in found.agreement] == [2, 4, 8, 16]
    for each in found.agreement:
        assert each.environments == ENVS
        assert_close(each.cosine_median, 1.0, rtol=0, atol=1e-6)
        assert_close(each.cosine_mean, 1.0, rtol=0, atol=1e-6)
        assert_close(each.length, 1.0, rtol=0, atol=1e-4)
        assert each.signs == 1
    assert found.obs_error < 1e-6  # a few hundred-millionths, as batches are summed
    assert found.reward_error < 1e-6
    assert len(found.along) == 8
    assert all(norm > 0 for norm in found.along)
    first, last = str(found).splitlines()[2], str(found).splitlines()[5]
    assert first.split() == ["1", "1.00", "1.00", "1.00", "100%"]
    assert last.split()[0] == "8"
    assert str(found).endswith("off by 0.00 of a step's change, 0.00 of the reward's deviation")


def test_a_wrong_model_is_found_out():
    agent = make().learn(5 * WINDOW)
    right = agent.env.law
    wrong = LinearQuadratic(1, actions=2).law
    wrong.a, wrong.q = torch.tensor([[0.6, -0.3], [0.3, 0.6]]), 2 * right.q
    agent.env.surrogate = wrong
    found = diagnose(agent, coordinates=100)
    assert found.agreement[-1].coordinates == 16
    assert found.agreement[-1].cosine_median < 0.9
    assert found.agreement[-1].signs < 0.99
    assert found.obs_error > 0.1
    assert found.reward_error > 0.1


def test_gradients_that_are_too_long_are_found_out():
    """In the right direction."""
    agent = make().learn(5 * WINDOW)
    longer = LinearQuadratic(1, actions=2).law
    longer.q, longer.r = 3 * longer.q, 3 * longer.r
    agent.env.surrogate = longer
    for each in diagnose(agent).agreement:
        assert_close(each.cosine_median, 1.0, rtol=0, atol=1e-6)
        assert_close(each.length, 3.0, rtol=1e-3, atol=0)


def test_differences_are_of_the_world_not_of_its_gradients():
    """At the walls of a corridor they are no more than close to each other."""
    agent = make(Corridor(ENVS), look_aheads=0).learn(5 * WINDOW)
    last = diagnose(agent, delta=0.3).agreement[-1]
    assert 0.8 < last.cosine_median < 1 - 1e-12


@pytest.mark.parametrize("env", [lambda: None, dream])
@pytest.mark.parametrize("before", [0, 3])
def test_it_leaves_no_trace(env, before):
    """Before anything was learned, and between two windows; in a dream, too."""
    one, other = (make(env(), window=3) for _ in range(2))
    for agent in (one, other):
        if before:
            agent.learn(before * WINDOW)
    found = diagnose(one, coordinates=4)
    assert found == diagnose(one, coordinates=4)
    assert not np.isnan(found.signal)
    updates = [[told(u) for u in agent.updates(3 * WINDOW)] for agent in (one, other)]
    assert updates[0] == updates[1]
    assert all(map(torch.equal, one.learner.state_dict().values(),
                   other.learner.state_dict().values()))  # fmt: skip
    assert torch.equal(one.env.begin_window(), other.env.begin_window())


def test_it_leaves_no_trace_even_if_it_fails(monkeypatch):
    agent, other = make().learn(WINDOW), make().learn(WINDOW)
    monkeypatch.setattr("fog_agent.diagnostics._found", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        diagnose(agent)
    assert torch.equal(agent.env.begin_window(), other.env.begin_window())
    assert told(*agent.updates(1)) == told(*other.updates(1))


@pytest.mark.parametrize("entropy", [True, False])
def test_policy_gradients_are_those_of_single_environments(entropy):
    """Their mean is the gradient that the actor climbs, each one that of its own promise."""
    agent = make(entropy=entropy).learn(WINDOW)
    noise = agent.learner.noise(8, ENVS)
    state = agent.env.get_state()
    each = list(policy_gradients(agent, noise))
    agent.env.set_state(state)
    total = agent.learner.promised(roll(agent.env, agent.learner.act, noise))
    parameters = list(agent.learner.actor.parameters())
    for i in range(ENVS):
        expected = torch.autograd.grad(total[i], parameters, retain_graph=True)
        expected = torch.cat([gradient.flatten() for gradient in expected])
        assert expected.any()
        assert_close(each[i], expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    agent.env.set_state(state)
    signal, halves = policy_signal(agent, noise)
    lengths = torch.stack(each).norm(dim=1).mean()
    assert_close(signal, float(torch.stack(each).mean(0).norm() / lengths), rtol=1e-4, atol=0)
    even, odd = torch.stack(each[::2]).mean(0), torch.stack(each[1::2]).mean(0)
    assert_close(halves, float(torch.cosine_similarity(even, odd, dim=0)), rtol=0, atol=1e-4)


def test_coordinates_are_spread_over_all_horizons():
    rng = torch.Generator().manual_seed(0)
    assert horizons(1) == (1,)
    assert horizons(8) == (1, 2, 4, 8)
    assert horizons(11) == (1, 2, 4, 8, 11)
    every = {(t, i) for t in range(11) for i in range(3)}
    assert set(choose(11, 3, 100, rng=rng)) == every
    for count in (1, 5, 15):
        chosen = choose(11, 3, count, rng=rng)
        assert len(set(chosen)) == count
        assert set(chosen) <= every
        each = [sum(low <= t < h for t, _ in chosen) for low, h in ((0, 1), (1, 2), (2, 4), (4, 8))]
        assert max(each) - min(each) <= 1
    assert len({choose(11, 3, 5, rng=rng) for _ in range(20)}) > 5


def test_it_says_what_it_needs():
    agent = make()
    for given in ({"steps": 0}, {"coordinates": 0}):
        with pytest.raises(ValueError, match="expected at least 1"):
            diagnose(agent, **given)
    for delta in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="expected more than 0 and less than 1"):
            diagnose(agent, delta=delta)

    class Forgetful(LinearQuadratic):
        set_state = property()

    with pytest.raises(TypeError, match="Forgetful has no get_state and set_state"):
        diagnose(make(Forgetful(ENVS)))
    agent.env = None
    with pytest.raises(ValueError, match="there is no environment to look at"):
        diagnose(agent)
