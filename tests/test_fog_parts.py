"""The parts of FoG, each against a form of it that is written or computed elsewhere."""

import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import nn
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform
from torch.testing import assert_close

from fog_agent.actor import Actor, squashed_log_prob
from fog_agent.climbing import climb
from fog_agent.config import FoGConfig, from_json, to_json
from fog_agent.critics import Critics
from fog_agent.experience import Experience
from fog_agent.guard import PATIENCE, Guard, finite_mean
from fog_agent.networks import Ensemble
from fog_agent.normaliser import LIMIT, Normaliser
from fog_agent.returns import entropy_bonus, lambda_returns, window_return
from fog_agent.trees import pack, unpack
from fog_agent.value_audit import ValueAudit


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def column(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)[:, None]


# ------------------------------------------------------------------ sums of rewards

NONE, SECOND = column(False, False, False, dtype=bool), column(False, True, False, dtype=bool)


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        # G₂ = 4 + 8/2 = 8, G₁ = 2 + ½(½·20 + ½·8) = 9, G₀ = 1 + ½(½·10 + ½·9) = 5.75
        (NONE, NONE, [5.75, 9, 8]),
        # G₁ = 2, G₀ = 1 + ½(½·10 + ½·2) = 4
        (SECOND, NONE, [4, 2, 8]),
        # G₁ = 2 + ½·20 = 12, G₀ = 1 + ½(½·10 + ½·12) = 6.5
        (NONE, SECOND, [6.5, 12, 8]),
        # an end is an end, even if time was up as well
        (SECOND, SECOND, [4, 2, 8]),
    ],
)
def test_lambda_returns_by_hand(terminated, truncated, expected):
    reward, next_value = column(1.0, 2, 4), column(10.0, 20, 8)
    found = lambda_returns(reward, next_value, terminated, truncated, gamma=0.5, lam=0.5)
    assert found[:, 0].tolist() == expected


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        # 1 + 2/2 + 4/4 + 8/8
        (NONE, NONE, 4),
        # 1 + 2/2, then another one: 4 + 8/2
        (SECOND, NONE, 10),
        # 1 + (2 + 20/2)/2, then another one: 4 + 8/2
        (NONE, SECOND, 15),
        (SECOND, SECOND, 10),
    ],
)
def test_window_return_by_hand(terminated, truncated, expected):
    reward, next_value = column(1.0, 2, 4), column(10.0, 20, 8)
    found = window_return(reward, next_value, terminated, truncated, gamma=0.5)
    assert found.tolist() == [expected]


def test_lambda_returns_are_the_mean_of_returns_of_all_lengths(rng):
    """Σ (1 − λ) λⁿ⁻¹ G⁽ⁿ⁾, the longest with all of the weight that is left (Sutton & Barto)."""
    steps, envs, gamma, lam = 7, 40, 0.9, 0.8
    reward, value = torch.randn(2, steps, envs, generator=rng, dtype=torch.float64)
    terminated, truncated = torch.rand(2, steps, envs, generator=rng) < 0.15
    found = lambda_returns(reward, value, terminated, truncated, gamma=gamma, lam=lam)
    for b in range(envs):
        for t in range(steps):
            each, total = [], 0.0
            for n, u in enumerate(range(t, steps)):
                total += gamma**n * reward[u, b]
                alive = 0.0 if terminated[u, b] else 1.0
                each.append(total + alive * gamma ** (n + 1) * value[u, b])
                if terminated[u, b] or truncated[u, b]:
                    break
            weights = [(1 - lam) * lam**n for n in range(len(each) - 1)] + [lam ** (len(each) - 1)]
            assert_close(found[t, b], sum(w * g for w, g in zip(weights, each, strict=True)))


def test_entropy_counts_from_minus_to_plus_its_target():
    log_prob = torch.tensor([1.5, -1.5, 0.0])  # so entropies are −1.5, 1.5, 0
    for target in (-1.5, 1.5):
        assert entropy_bonus(log_prob, target).tolist() == [0, 1, 0.5]


# ------------------------------------------------------------------ networks


def test_log_prob_is_that_of_torch(rng):
    mean, log_std, noise = torch.randn(3, 50, 3, generator=rng, dtype=torch.float64)
    u = mean + log_std.exp() * noise
    there = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1))
    expected = there.log_prob(there.transforms[0](u)).sum(1)
    assert_close(squashed_log_prob(u, noise, log_std), expected)
    far = torch.full((1, 3), 40.0, requires_grad=True)
    squashed_log_prob(far, torch.zeros(1, 3), torch.zeros(1, 3)).sum().backward()
    assert_close(far.grad, torch.full((1, 3), 2.0))  # of −log(1 − tanh² u), where that is 0


def test_actions_fill_their_box(rng):
    box = Box(np.array([-3, 10], np.float32), np.array([1, 30], np.float32))
    actor = Actor(2, box, (8,), (-5.0, 1.0), rng=rng)
    for parameter in actor.parameters():
        parameter.data.zero_()
    x = torch.zeros(4, 2)
    assert actor.best(x).tolist() == [[-1, 20]] * 4
    acted = actor(x, torch.tensor([[0.0, 0], [1, -1], [500, 500], [-500, -500]]))
    sigma = math.exp(-2)  # halfway from −5 to 1
    one = math.tanh(sigma)
    expected = [[-1, 20], [-1 + 2 * one, 20 - 10 * one], [1, 30], [-3, 10]]
    assert_close(acted.action, torch.tensor(expected))
    assert actor.saturated(acted.action) == 0.5


def test_log_std_stays_within_its_bounds(rng):
    actor = Actor(1, Box(-1, 1, (1,)), (), (-5.0, 1.0), rng=rng)
    actor.network.weight[0].data.fill_(1.0)
    x = torch.tensor([[-1e6], [0.0], [1e6]])
    actor.network.bias[0].data.zero_()
    assert actor.distribution(x)[1].flatten().tolist() == [-5, -2, 1]


def test_an_ensemble_is_so_many_networks(rng):
    ensemble = Ensemble(3, (5, 7, 6, 2), rng=rng)
    for parameter in (*ensemble.gain, *ensemble.shift):
        parameter.data.normal_(generator=rng)
    x = torch.randn(4, 5, generator=rng)
    for k, found in enumerate(ensemble(x)):
        layers = []
        for weight, bias in zip(ensemble.weight, ensemble.bias, strict=True):
            linear = torch.nn.utils.skip_init(nn.Linear, *weight.shape[1:])
            linear.weight.data, linear.bias.data = weight[k].T, bias[k, 0]
            layers += [linear, nn.SiLU(), None]
        for number, (gain, shift) in enumerate(zip(ensemble.gain, ensemble.shift, strict=True)):
            norm = nn.LayerNorm(gain.shape[-1])
            norm.weight.data, norm.bias.data = gain[k, 0], shift[k, 0]
            layers[3 * number + 2] = norm
        assert_close(found, nn.Sequential(*layers[:-2])(x))


def test_critics_tell_mean_and_least_and_are_followed(rng):
    critics = Critics(4, 2, (), lag=0.25, rng=rng)
    x = torch.randn(6, 2, generator=rng)
    trusted = critics(x).detach()
    critics.network.bias[0].data += 8.0
    assert_close(critics(x).detach(), trusted + 8)
    assert_close(critics.mean(x), trusted.mean(0))
    assert_close(critics.least(x), trusted.min(0).values)
    pairs = [critics.least_of_two(x, rng=rng) for _ in range(40)]
    of_all = {(i, j): torch.minimum(trusted[i], trusted[j]) for i in range(4) for j in range(i)}
    drawn = [k for pair in pairs for k, value in of_all.items() if torch.equal(pair, value)]
    assert len(drawn) == 40
    assert set(drawn) == set(of_all)
    critics.follow()
    assert_close(critics.mean(x), trusted.mean(0) + 2)
    critics.catch_up()
    assert_close(critics.mean(x), trusted.mean(0) + 8)
    alone = Critics(1, 2, (), lag=None, rng=rng)
    alone.network.bias[0].data += 8.0
    alone.follow()
    assert torch.equal(alone.mean(x), alone(x)[0])
    assert torch.equal(alone.least_of_two(x, rng=rng), alone(x)[0])


# ------------------------------------------------------------------ what was seen


def test_the_normaliser_knows_all_that_was_seen(rng):
    normaliser = Normaliser(3)
    batches = [torch.randn(n, 3, generator=rng) * 5 + 100 for n in (1, 40, 7)]
    for batch in batches:
        normaliser.see(batch)
    seen = torch.cat(batches).numpy().astype(np.float64)
    np.testing.assert_allclose(normaliser.mean, seen.mean(0))
    np.testing.assert_allclose(normaliser.variance, seen.var(0))
    x = batches[1]
    assert_close(normaliser(x), (x / math.sqrt(1 + 1e-4)).clamp(-LIMIT, LIMIT))  # not yet used
    normaliser.take()
    before = normaliser(x)
    expected = (x.numpy() - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-4)
    np.testing.assert_allclose(before, expected, atol=1e-4)
    normaliser.see(torch.randn(50, 3, generator=rng))
    assert torch.equal(normaliser(x), before)
    normaliser.take()
    assert not torch.equal(normaliser(x), before)
    assert normaliser(torch.full((1, 3), 1e9)).tolist() == [[LIMIT] * 3]
    assert torch.equal(Normaliser(3, active=False)(x), x)


def test_experience_keeps_the_last(rng):
    experience = Experience(5, 2, 1, torch.zeros(()))

    def add(*numbers):
        n = torch.tensor(numbers, dtype=torch.float32)
        rows = {"obs": n[:, None].repeat(1, 2), "action": n[:, None], "reward": n}
        experience.add({**rows, "next_obs": rows["obs"] + 1})

    add(0, 1, 2)
    assert len(experience) == 3
    assert set(experience.draw(50, last=9, rng=rng)["reward"].tolist()) == {0, 1, 2}
    add(3, 4, 5, 6)
    assert len(experience) == 5
    drawn = experience.draw(100, last=9, rng=rng)
    assert set(drawn["reward"].tolist()) == {2, 3, 4, 5, 6}
    assert torch.equal(drawn["next_obs"], drawn["obs"] + 1)
    assert torch.equal(drawn["action"][:, 0], drawn["reward"])
    assert set(experience.draw(100, last=2, rng=rng)["reward"].tolist()) == {5, 6}


def test_values_are_audited_over_whole_episodes():
    """γ = ½. Episodes that were under way at first do not count."""
    audit = ValueAudit(2, torch.zeros(()))

    def step(reward, final, following, terminated, truncated):
        tensors = [torch.tensor(each) for each in (reward, final, following)]
        ends = [torch.tensor(each) for each in (terminated, truncated)]
        return audit.step(*tensors, *ends, gamma=0.5).tolist()

    no = [False, False]
    assert step([1.0, 1], [0.0, 0], [7.0, 8], no, [True, True]) == []
    assert step([1.0, 2], [3.0, 3], [0.0, 0], no, no) == []
    # 7 − (1 + 2/2), for that is the end; 8 − (2 + 4/2 + 16/4), for there only time was up
    assert step([2.0, 4], [16.0, 16], [0.0, 0], [True, False], [False, True]) == [5, 0]


def test_a_step_is_taken_only_by_finite_gradients():
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    assert climb(optimiser, (weight * torch.tensor([6.0, 8.0])).sum(), [weight], clip=5.0) == 10
    assert_close(weight.data, torch.tensor([3.0 + 3, 4 + 4]))  # upwards, and no further than 5
    for bad in (torch.nan, torch.inf):
        assert math.isnan(climb(optimiser, (weight * bad).sum(), [weight], clip=5.0))
    assert math.isnan(climb(optimiser, weight.square().sum() + torch.nan, [weight], clip=5.0))
    assert_close(weight.data, torch.tensor([6.0, 8.0]))
    assert weight.grad is None


def test_the_guard_counts_each_kind_of_step_by_itself():
    """And gives up only where all steps of a kind were left out, in all of the last windows."""
    guard, nan = Guard(), math.nan
    assert guard.count({"actor": [nan], "critics": [1.0, nan, nan], "look-aheads": []}) == 3
    for _ in range(PATIENCE - 2):
        guard.count({"actor": [nan], "critics": [1.0, nan]})
    assert guard.count({"actor": [2.0], "critics": [nan]}) == 1
    for _ in range(PATIENCE - 1):
        guard.count({"actor": [1.0], "local model": [nan, nan]})
    with pytest.raises(
        FloatingPointError, match=f"^local model: no .* the last {PATIENCE} windows"
    ):
        guard.count({"local model": [nan, nan]})
    assert finite_mean([1.0, nan, 3.0]) == 2
    assert math.isnan(finite_mean([nan]))


# ------------------------------------------------------------------ settings and trees


def test_settings_come_back_from_json():
    config = FoGConfig(actor_hidden=(3,), critic_lag=None, log_std=(-2.0, 0.0))
    values = to_json(config)
    assert from_json({**values, "actor_hidden": [3]}) == config
    with pytest.raises(ValueError, match=r"unknown settings \['a', 'b'\]"):
        from_json({**values, "b": 1, "a": 2})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "window is 0, expected a whole number, at least 1"),
        ({"window": 2.0}, r"window is 2\.0, expected a whole number"),
        ({"critics": True}, "critics is True, expected a whole number"),
        ({"look_aheads": -1}, "look_aheads is -1, expected a whole number, at least 0"),
        ({"gamma": 1.01}, r"gamma is 1\.01, expected 0 to 1"),
        ({"lam": math.nan}, "lam is nan, expected 0 to 1"),
        ({"critic_lag": 2.0}, r"critic_lag is 2\.0, expected more than 0, at most 1, or None"),
        ({"critic_lag": 0.0}, r"critic_lag is 0\.0, expected more than 0"),
        ({"seed": -1}, "seed is -1, expected a whole number, at least 0"),
        ({"head_start": -1}, "head_start is -1, expected a whole number, at least 0"),
        ({"experience": 10**8}, "experience is 100000000, expected .* at most 10,000,000"),
        ({"actor_betas": (0.9, 1.0)}, r"actor_betas is \(0\.9, 1\.0\), expected two"),
        ({"entropy": 1}, "entropy is 1, expected True or False"),
        ({"normalise": None}, "normalise is None, expected True or False"),
        ({"look_ahead_bfloat16": "no"}, "look_ahead_bfloat16 is 'no', expected True or False"),
        ({"actor_rate": 0.0}, r"actor_rate is 0\.0, expected more than 0"),
        ({"critic_rate": math.inf}, "critic_rate is inf, expected more than 0"),
        ({"decay_samples": 0}, "decay_samples is 0, expected more than 0"),
        ({"gamma": 1.0}, "gamma is 1, where returns have no order: give reward_scale"),
        ({"target_entropy": 0.0}, r"target_entropy is 0\.0, expected less than 0"),
        ({"last_target_entropy": 1.0}, r"last_target_entropy is 1\.0, expected less than 0"),
        ({"hold": 1.0}, r"hold is 1\.0, expected at least 0 and less than 1"),
        ({"log_std": (1.0, 1.0)}, r"log_std is \(1\.0, 1\.0\), expected \(least, most\)"),
        ({"log_std": (-math.inf, 1.0)}, r"log_std is \(-inf, 1\.0\), .* both finite"),
        ({"actor_hidden": (8, 0)}, r"actor_hidden is \(8, 0\), expected widths of 1 to 8,192"),
        ({"critic_hidden": (9000,)}, r"critic_hidden is \(9000,\), expected widths"),
        ({"critic_hidden": (8,) * 17}, "16 at most"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message, unchecked_types):
    with pytest.raises(ValueError, match=message):
        FoGConfig(**settings)


def test_endless_returns_may_be_given_their_order():
    assert FoGConfig(gamma=1.0, reward_scale=0.1, critic_lag=None).gamma == 1


def test_trees_come_back_as_they_were():
    generator = np.random.default_rng(5)
    generator.normal(size=3)
    tree = {
        "numbers": [1, 2.5, True, None, "text", 2**100, math.inf],
        "pair": (torch.arange(3), np.float32(0.1)),
        4: {"array": np.zeros((0, 2), np.uint8), "nothing": np.array(3.0)},
        "bits": torch.tensor([True, False]),
        "rng": generator,
    }
    tensors = {}
    packed = pack(tree, tensors)
    there = dict(tensors)
    back = unpack(packed, there, {"rng": np.random.default_rng(0)})
    assert not there
    assert list(back) == list(tree)
    assert back["numbers"] == tree["numbers"]
    assert [type(each) for each in back["numbers"]] == [type(each) for each in tree["numbers"]]
    assert isinstance(back["pair"], tuple)
    assert torch.equal(back["pair"][0], torch.arange(3))
    assert back["pair"][1] == np.float32(0.1)
    for name, array in tree[4].items():
        np.testing.assert_array_equal(back[4][name], array, strict=True)
    assert torch.equal(back["bits"], tree["bits"])
    assert back["rng"].normal() == generator.normal()
    with pytest.raises(TypeError, match="a set cannot be kept"):
        pack({1}, {})
    with pytest.raises(ValueError, match="a random generator where the environment has none"):
        unpack(packed, dict(tensors))
    with pytest.raises(KeyError):  # no tensor is told twice
        unpack({"list": [{"tensor": "0"}] * 2}, dict(tensors))
