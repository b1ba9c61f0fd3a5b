"""One update of FoG against one that is written again in NumPy, and where gradients must not go."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from differentiable_envs import LinearQuadratic
from torch.testing import assert_close

from fog_agent import PRESETS, FoG, FoGConfig
from fog_agent.look_ahead import Bfloat16, look_ahead
from fog_agent.window import roll

TINY = PRESETS["tiny"][1]
ENVS, STEPS = 6, 5


@pytest.fixture
def agent():
    """In float64; in its window one episode terminates, and some are truncated."""
    config = FoGConfig(
        window=STEPS, gamma=0.9, lam=0.7, actor_hidden=(), critic_hidden=(), critic_lag=None,
        critics=2, actor_clip=1e9, look_aheads=0, refreshes=0, log_std=(-2.0, 0.0),
        first_temperature=0.3, target_entropy=-0.5, seed=3,
    )  # fmt: skip
    env = LinearQuadratic(ENVS, horizon=12, limit=2.5, centre=0.5, dtype=torch.float64, actions=2)
    made = FoG(env, config)
    made.learner.double()
    made._ready()
    env.clock[:3] = env.horizon - STEPS
    made.learner.normaliser.see(env.obs)
    made.learner.normaliser.take()
    return made


def rolled(agent):
    noise = agent.learner.noise(STEPS, ENVS).double()
    window = roll(agent.env, agent.learner.act, noise)
    agent.learner.set_scales(window.reward, window.log_prob)
    return window, noise.numpy()


class Again:
    """The same world, policy and return in NumPy; where episodes begin is read off the window."""

    def __init__(self, agent, window, noise):
        learner = agent.learner
        self.config, self.noise = agent.config, noise
        law = agent.env.law
        self.a, self.b, self.q, self.r = (m.numpy() for m in (law.a, law.b, law.q, law.r))
        self.starts = window.obs.detach().numpy()
        self.over = (window.terminated | window.truncated).numpy()
        self.terminated = window.terminated.numpy()
        self.mean = learner.normaliser.used_mean.numpy()
        self.deviation = np.sqrt(learner.normaliser.used_variance.numpy() + 1e-4)
        self.critics = [p.detach().numpy()[..., 0] for p in learner.critics.network.parameters()]
        self.scale, self.bonus = float(learner.reward_scale), float(learner.bonus_scale)

    def normal(self, obs):
        return (obs - self.mean) / self.deviation

    def value(self, obs):
        weight, bias = self.critics  # (2, x), (2, 1)
        return np.mean([self.normal(obs) @ weight[k] + bias[k] for k in range(2)])

    def step(self, weight, bias, obs, noise):
        """Worth and successor of one step of one environment."""
        out = self.normal(obs) @ weight + bias
        sigma = np.exp(-2 + 2 * (np.tanh(out[2:]) + 1) / 2)
        u = out[:2] + sigma * noise
        action = 0.5 + 4 * np.tanh(u)
        after = self.a @ obs + self.b @ action
        reward = -after @ self.q @ after - action @ self.r @ action
        density = np.exp(-noise * noise / 2) / (sigma * np.sqrt(2 * np.pi)) / (1 - np.tanh(u) ** 2)
        entropy = -np.log(density).sum()
        bonus = 0.3 * (entropy + 1) / 2  # H̄ = −|A|/2 = −1
        return self.scale * reward + self.bonus * bonus, after

    def total(self, weight, bias):
        each = []
        for i in range(ENVS):
            total, discount, obs = 0.0, 1.0, self.starts[0, i]
            for t in range(STEPS):
                worth, after = self.step(weight, bias, obs, self.noise[t, i])
                total += discount * worth
                discount *= self.config.gamma
                over = self.over[t, i]
                if (over or t == STEPS - 1) and not self.terminated[t, i]:
                    total += discount * self.value(after)
                obs, discount = (self.starts[t + 1, i], 1.0) if over and t + 1 < STEPS else (
                    after, discount)  # fmt: skip
            each.append(total)
        return np.array(each)

    def gradient(self, weight, bias):
        """Of the mean return of a step, by central differences."""
        parts = []
        for which in (0, 1):
            given = [weight, bias][which]
            slope = np.zeros_like(given)
            for at in np.ndindex(*given.shape):
                ways = []
                for way in (1e-5, -1e-5):
                    moved = [weight.copy(), bias.copy()]
                    moved[which][at] += way
                    ways.append(self.total(*moved).mean() / STEPS)
                slope[at] = (ways[0] - ways[1]) / 2e-5
            parts.append(slope)
        return parts


def test_one_update_by_hand(agent, unchecked_types):
    window, noise = rolled(agent)
    ends = window.terminated[:-1].any(), window.truncated[:-1].any(), window.truncated[-1].any()
    assert all(ends), "choose another seed, so that episodes end"
    again = Again(agent, window, noise)
    weight, bias = (p.detach().numpy()[0].copy() for p in agent.learner.actor.parameters())
    bias = bias[0]
    _, total = agent.learner.climb_window(window)
    np.testing.assert_allclose(total.numpy(), again.total(weight, bias), rtol=1e-7)
    expected = again.gradient(weight, bias)
    now = list(agent.learner.actor.parameters())
    for parameter, before, slope in zip(now, (weight, bias), expected, strict=True):
        handed = -parameter.grad.numpy().reshape(slope.shape)  # optimisers go downwards
        assert np.abs(slope).min() > 1e-6
        np.testing.assert_allclose(handed, slope, rtol=1e-5, atol=1e-8)
        # AdamW's first step: both moments are the gradient's own, and weights decay by 1 %
        adam = handed / (np.abs(handed) + 1e-8)
        after = before * (1 - 3e-4 * 0.01) + 3e-4 * adam
        moved = parameter.detach().numpy().reshape(slope.shape)
        np.testing.assert_allclose(moved, after, rtol=0, atol=1e-12)


def test_a_gradient_that_is_too_long_is_cut(agent):
    agent.learner.config = replace(agent.config, actor_clip=0.01)
    norm, _ = agent.learner.climb_window(rolled(agent)[0])
    cut = torch.cat([p.grad.flatten() for p in agent.learner.actor.parameters()]).norm()
    assert norm > 0.1
    assert_close(float(cut), 0.01, rtol=1e-3, atol=0)


def test_a_look_ahead_is_that_of_a_window(agent):
    """The surrogate is the world itself: from the same states there is the same return."""
    env = agent.env
    env.horizon, env.limit = 1000, None
    window, noise = rolled(agent)
    learner = agent.learner
    total, end = look_ahead(
        env.surrogate, window.obs[0], torch.from_numpy(noise), act=learner.act,
        worth=learner.worth, gamma=0.9,
    )  # fmt: skip
    total = total + 0.9**STEPS * learner.critics.mean(learner.normaliser(end))
    assert_close(total, learner.promised(window))
    parameters = list(learner.actor.parameters())
    each = (total, learner.promised(window))
    by = [torch.autograd.grad(t.sum(), parameters, retain_graph=True) for t in each]
    for one, other in zip(*by, strict=True):
        assert_close(one, other)


# ------------------------------------------------------------------ truncation and termination


@pytest.fixture
def ends(agent):
    """A window of one step, after which environment 0 terminates, 1 is truncated, 2 goes on.

    Values are linear in what was observed, and large, rewards are zero.
    """
    env, learner = agent.env, agent.learner
    env.limit = 6
    env.obs = torch.tensor([[9.0, 9], [0.5, -0.5], [0.5, -0.5]], dtype=torch.float64).repeat(2, 1)
    env.clock = torch.tensor([0, env.horizon - 1, 0] * 2)
    learner.normaliser.active = False
    learner.critics.network.weight[0].data.fill_(10.0)
    learner.critics.network.bias[0].data.fill_(100.0)
    window = roll(env, learner.act, learner.noise(1, ENVS).double())
    learner.reward_scale.fill_(0.0)
    learner.bonus_scale.fill_(0.0)
    assert window.terminated[0, :3].tolist() == [True, False, False]
    assert window.truncated[0, :3].tolist() == [False, True, False]
    return window


def test_truncation_is_not_termination(agent, ends):
    """Nothing comes after one, after the other what would have come: V of the true successor."""
    successor = 100 + 10 * ends.next_obs[0].sum(1)
    others = [100 + 10 * each.sum(1) for each in (ends.obs[0], ends.after)]
    assert ((successor - others[0]).abs() > 0.1).all()  # V(s) is another number than V(s′),
    assert ((successor - others[1]).abs()[:2] > 0.1).all()  # and so is V of the new episode
    expected = 0.9 * torch.where(ends.terminated[0], 0.0, successor)
    assert_close(agent.learner.promised(ends), expected)
    assert_close(agent.learner.targets(ends)[0], expected.detach())


def test_gradients_come_from_beyond_a_truncation_but_not_a_termination(agent, ends):
    total = agent.learner.promised(ends)
    for i in range(3):  # 0 terminates, 1 is truncated, 2 goes on
        (by,) = torch.autograd.grad(total[i], ends.next_obs, retain_graph=True)
        assert bool(by[0, i].any()) == (i != 0)
    weights = [p for name, p in agent.learner.actor.named_parameters() if "weight" in name]
    assert not torch.autograd.grad(total[0], weights, retain_graph=True)[0].any()
    assert torch.autograd.grad(total[1], weights)[0].any()


def test_an_episode_that_was_begun_anew_pulls_at_nothing_before(agent):
    """Of its rewards and values, that is, with V(s_T) alone left out."""
    env = agent.env
    env.clock, env.limit = torch.full((ENVS,), env.horizon - 2), None
    noise = agent.learner.noise(STEPS, ENVS).double()
    said = []

    def act(obs, noise):
        acted = agent.learner.act(obs, noise)
        said.append(acted.action)
        return acted

    window = roll(env, act, noise)
    assert window.truncated[1].all()
    late = window.reward[2:].sum() + window.next_obs[2:].sum()
    by = torch.autograd.grad(late, said, retain_graph=True, materialize_grads=True)
    assert [bool(each.any()) for each in by] == [False, False, True, True, True]
    early = torch.autograd.grad(window.next_obs[1].sum(), said, materialize_grads=True)
    assert [bool(each.any()) for each in early] == [True, True, False, False, False]


# ------------------------------------------------------------------ gradients stay where they are


def test_the_actor_s_steps_leave_everything_else_alone(agent):
    learner, law = agent.learner, agent.env.law
    window, _ = rolled(agent)
    tensors = (law.a, law.b, law.q, law.r)
    others = [*learner.critics.network.parameters(), learner.log_temperature]
    for tensor in tensors:
        tensor.requires_grad_()
    window, _ = rolled(agent)
    before = [each.detach().clone() for each in (*others, *tensors)]
    actor = [each.detach().clone() for each in learner.actor.parameters()]
    learner.climb_window(window)
    agent._remember(window)
    learner.config = replace(agent.config, look_aheads=2, look_ahead_batch=4)
    learner.look_ahead(agent.env.surrogate, agent.experience)
    for each, was in zip((*others, *tensors), before, strict=True):
        assert each.grad is None
        assert torch.equal(each, was)
    now = list(learner.actor.parameters())
    assert all(not torch.equal(*pair) for pair in zip(now, actor, strict=True))


def test_critics_steps_leave_the_actor_alone(agent):
    learner = agent.learner
    window = rolled(agent)[0].detached()
    before = [each.detach().clone() for each in learner.actor.parameters()]
    critics = [each.detach().clone() for each in learner.critics.network.parameters()]
    learner.regress(window.obs.flatten(0, 1), learner.targets(window).flatten())
    assert all(map(torch.equal, learner.actor.parameters(), before))
    assert not any(map(torch.equal, learner.critics.network.parameters(), critics))
    assert all(each.grad is None for each in learner.actor.parameters())


def test_nothing_goes_from_window_to_window(agent):
    said = []

    def act(obs, noise):
        said.append(agent.learner.act(obs, noise))
        return said[-1]

    for _ in range(2):
        window = roll(agent.env, act, agent.learner.noise(STEPS, ENVS).double())
    agent.learner.set_scales(window.reward, window.log_prob)
    total = agent.learner.promised(window).sum()
    by = torch.autograd.grad(total, [each.action for each in said], materialize_grads=True)
    assert [bool(each.any()) for each in by] == [False] * STEPS + [True] * STEPS


def test_a_window_is_seen_by_what_was_known_before_it():
    agent = FoG(LinearQuadratic(8), TINY).learn(2 * TINY.window * 8)
    normaliser, slow = agent.learner.normaliser, agent.learner.critics.slow
    known = normaliser.mean.clone(), normaliser.variance.clone()
    before = [each.clone() for each in slow.parameters()]
    agent.learn(1)
    assert torch.equal(normaliser.used_mean, known[0])
    assert torch.equal(normaliser.used_variance, known[1])
    assert not torch.equal(normaliser.mean, known[0])
    fast = agent.learner.critics.network.parameters()
    for now, was, ahead in zip(slow.parameters(), before, fast, strict=True):
        assert not torch.equal(ahead, was)
        assert_close(now, was + 0.1 * (ahead - was))


def test_values_are_regressed_on_targets():
    """A linear value of linear targets is found."""
    env = LinearQuadratic(8)
    config = replace(
        TINY, critic_hidden=(), critic_updates=300, critic_rate=0.05, critic_batch=64, critics=3
    )
    agent = FoG(env, config)
    obs = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    target = obs @ torch.tensor([2.0, -1.0]) + 5
    agent.learner.regress(obs, target)
    assert_close(agent.learner.critics(obs), target.expand(3, -1), rtol=0, atol=0.1)


def test_the_temperature_is_steered_to_its_target():
    for entropy, way in ((-0.9, -1), (-1.1, 1)):
        agent = FoG(LinearQuadratic(8), TINY)  # the target is −1
        before = agent.learner.temperature.item()
        agent.learner.steer_temperature(torch.full((4, 8), -entropy))
        assert np.sign(agent.learner.temperature.item() - before) == way
    off = FoG(LinearQuadratic(8), replace(TINY, entropy=False))
    assert off.learner.temperature == 0
    reward, log_prob = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
    off.learner.set_scales(reward, log_prob)
    assert torch.equal(off.learner.worth(reward, log_prob), off.learner.reward_scale * reward)


def test_rewards_are_scaled_to_returns_of_the_order_that_was_asked_for():
    reward = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)) * 7 + 100
    agent = FoG(LinearQuadratic(8), replace(TINY, gamma=0.9, return_scale=2.0))
    zeros = torch.zeros_like(reward)
    agent.learner.set_scales(reward, zeros)
    scaled = agent.learner.reward_scale * reward
    assert_close(float(scaled.std(correction=0)), 2 * 0.1)
    agent.learner.set_scales(reward * 10, zeros)  # once and for all
    assert torch.equal(agent.learner.reward_scale * reward, scaled)
    given = FoG(LinearQuadratic(8), replace(TINY, reward_scale=0.25))
    given.learner.set_scales(reward, zeros)
    assert given.learner.reward_scale == 0.25


@pytest.mark.parametrize("level", [0.0, -3.0, 1e9])
def test_rewards_that_are_all_alike_ask_for_their_scale(level):
    """Alike for their size: a few of float32's digits are no deviation."""
    rng = torch.Generator().manual_seed(0)
    alike = torch.full((4, 8), level) * (1 + 1e-7 * torch.rand(4, 8, generator=rng))
    zeros = torch.zeros(4, 8)
    with pytest.raises(ValueError, match=r"all alike .*give FoGConfig\(reward_scale=\.\.\.\)"):
        FoG(LinearQuadratic(8), TINY).learner.set_scales(alike, zeros)
    given = FoG(LinearQuadratic(8), replace(TINY, reward_scale=2.0)).learner
    given.set_scales(alike, zeros)
    assert given.reward_scale == 2
    small = FoG(LinearQuadratic(8), TINY).learner  # small ones that differ are no problem
    small.set_scales(1e-9 * torch.linspace(-1, 1, 32).view(4, 8), zeros)
    assert small.reward_scale > 1e6


def test_bfloat16_looks_ahead_nearly_as_float32_does():
    """Rounded, so not equal; its gradients point where the others do."""
    agent = FoG(LinearQuadratic(8, actions=2), TINY).learn(1)
    learner, law = agent.learner, agent.env.law
    obs, noise = agent.experience.rows["obs"][:32], learner.noise(2, 32)
    found = []
    for model in (law, Bfloat16(law)):
        total, end = look_ahead(model, obs, noise, act=learner.act, worth=learner.worth, gamma=0.99)
        assert total.dtype == end.dtype == torch.float32
        by = torch.autograd.grad(total.sum(), list(learner.actor.parameters()))
        found.append((total.detach(), torch.cat([each.flatten() for each in by])))
    (exact, gradient), (rounded, other) = found
    assert_close(rounded, exact, rtol=0.05, atol=0.02)
    assert not torch.equal(rounded, exact)
    assert torch.cosine_similarity(gradient, other, dim=0) > 0.99


def test_rates_and_the_target_entropy_fall_in_the_end():
    falling = replace(TINY, decay_samples=1000, hold=0.6, actor_rate=0.5, last_target_entropy=-3.0)
    learner = FoG(LinearQuadratic(8), falling).learner
    for samples, share, entropy in (
        (0, 1, -1.0), (600, 1, -1.0), (800, 0.55, -2.0), (1000, 0.1, -3.0), (5000, 0.1, -3.0),
    ):  # fmt: skip
        learner.set_rates(samples)
        rate = learner.optimisers["actor"].param_groups[0]["lr"]
        assert rate == pytest.approx(0.5 * share)
        assert learner.target_entropy == pytest.approx(entropy * learner.action_size)
