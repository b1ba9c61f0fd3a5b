"""Gradients against finite differences and closed forms, in float64.

Environments in float64 pass through annotations of float32, hence the unchecked types.
"""

from functools import partial

import pytest
import torch
from linear_world import ACTION, FEATURES, LATENT, Law, make_linear_env, make_linear_model
from tiny_world import make_world_model
from torch.autograd import gradcheck

from wm_gym.models.coupling import swap
from wm_gym.models.keypoints.local_model import Belief

unchecked = pytest.mark.usefixtures("unchecked_types")
double = partial(torch.rand, dtype=torch.float64)


# The seam


def test_a_swap_has_one_value_and_the_other_gradient():
    value = torch.tensor([1.0, -0.0, torch.nan, torch.inf], requires_grad=True)
    path = torch.tensor([1e-8, 1.0, 2.0, -3.0], requires_grad=True)
    swapped = swap(value, path)
    assert torch.equal(swapped.view(torch.int32), value.view(torch.int32))
    (swapped * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert path.grad.tolist() == [1, 2, 3, 4]
    assert value.grad is None


def test_a_swap_of_two_shapes_is_refused(unchecked_types):
    with pytest.raises(ValueError, match=r"value has shape \(4,\), its path \(3,\)"):
        swap(torch.zeros(4), torch.zeros(3))


def test_a_swap_changes_no_bit_where_arithmetic_would():
    value, path = torch.randn(2, 10_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(swap(value, path), value)
    assert (path + (value - path) != value).float().mean() > 0.25


def test_what_was_swapped_in_is_not_written_through():
    value, path = torch.zeros(3), torch.zeros(3, requires_grad=True)
    swap(value, path).detach().add_(1)
    assert (value == 0).all()


# The local model


@pytest.fixture(scope="module")
def local():
    """Curved everywhere: what is zero before training is not here."""
    model = make_world_model(seed=2).local_model.double()
    rng = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=rng, dtype=torch.float64) * 0.1)
    return model


def test_the_local_step_has_the_gradients_of_its_values(local):
    rng = torch.Generator().manual_seed(1)
    features = (double(3, local.feature_size, generator=rng) - 0.5).requires_grad_()
    action = (double(3, 2, generator=rng) * 1.8 - 0.9).requires_grad_()
    noise = torch.randn(3, local.stochastic_size, generator=rng, dtype=torch.float64)
    embedding = double(3, local.stochastic_size, generator=rng) - 0.5

    def step(features, action, embedding):
        """Two steps, a sample of the prior between them, and all that is read off them."""
        prior = local.expected(features, action)
        drawn = Belief(
            mean=prior.mean + prior.deviation * noise,
            deviation=prior.deviation, memory=prior.memory,
        )  # fmt: skip
        posterior = local.infer(local.expected(drawn.features, action), embedding)
        after = posterior.features
        return after, posterior.deviation, local.reward_of(after, action), local.reconstruct(after)

    assert gradcheck(step, (features, action, embedding.requires_grad_()))
    for output in step(features, action, embedding):
        for found in torch.autograd.grad(output.sum(), (features, action), retain_graph=True):
            assert (found != 0).all()


# The whole hook


def rollout(env, state, how, acts):
    """Everything that is differentiable, of each step."""
    env.set_state(state)
    env.begin_window(gradient=how)
    outs = [env.step_with_grad(action) for action in acts]
    return tuple(getattr(out, name) for out in outs for name in ("obs", "final_obs", "reward"))


@unchecked
@pytest.mark.parametrize("how", ["surrogate", "diffusion"])
@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_where_both_models_coincide_the_hook_has_the_gradients_of_its_values(how, mode):
    """A curved world, over the end of an episode."""
    law = Law(0, curved=True)
    env = make_linear_env(make_linear_model(law, law), horizon=3, autoreset_mode=mode)
    env.reset(seed=0)
    env.step(env.action_space.sample() * 0)
    state = env.get_state()
    acts = (double(4, 2, ACTION, generator=torch.Generator().manual_seed(3)) - 0.5) * 1.6
    acts.requires_grad_()
    assert gradcheck(lambda a: rollout(env, state, how, a), (acts,), atol=1e-6, rtol=1e-5)
    (found,) = torch.autograd.grad(sum(r.sum() for r in rollout(env, state, how, acts)), acts)
    ignored = torch.arange(4) == (2 if mode == "NextStep" else -1)
    assert (found[~ignored] != 0).all()
    assert (found[ignored] == 0).all()


@unchecked
@pytest.mark.parametrize("how", ["surrogate", "diffusion"])
def test_the_hook_on_a_linear_world_has_the_analytic_jacobian(how):
    """Each gradient is that of its own model: the two laws differ."""
    law, lent = Law(0), Law(1)
    env = make_linear_env(make_linear_model(law, lent))
    env.reset(seed=0)
    acts = (double(3, 2, ACTION, generator=torch.Generator().manual_seed(3)) - 0.5).requires_grad_()
    env.begin_window(gradient=how)
    outs = [env.step_with_grad(action) for action in acts]
    state, action = lent.jacobians()
    w, v = lent.w, lent.v
    if how == "diffusion":  # the memory is the filter's in either
        own_state, own_action = law.jacobians()
        state = torch.cat([own_state[:LATENT], state[LATENT:]])
        action = torch.cat([own_action[:LATENT], action[LATENT:]])
        w, v = torch.cat([law.w[:LATENT], torch.zeros(FEATURES - LATENT)]), law.v
    for t, out in enumerate(outs):
        for since in range(t + 1):
            by_action = torch.linalg.matrix_power(state, t - since) @ action
            for i in range(2):
                came = torch.stack([grad(x, acts)[since, i] for x in out.obs[i]])
                torch.testing.assert_close(came, by_action, atol=1e-6, rtol=0)
                came = grad(out.reward[i], acts)[since, i]
                expected = w @ by_action + (v if since == t else 0)
                torch.testing.assert_close(came, expected, atol=1e-6, rtol=0)


@unchecked
def test_the_value_is_the_dreams_whichever_law_lends_the_gradient():
    law, values = Law(0), []
    acts = double(3, 2, ACTION, generator=torch.Generator().manual_seed(3)) - 0.5
    for lent in (law, Law(1)):
        env = make_linear_env(make_linear_model(law, lent))
        env.reset(seed=0)
        obs = env.begin_window()
        for action in acts:
            z = obs[:, :LATENT] @ law.A.T + action @ law.B.T
            out = env.step_with_grad(action)
            assert ((out.obs[:, :LATENT] - z).abs() < 0.05).all()  # noise
            torch.testing.assert_close(out.reward, out.obs[:, :LATENT] @ law.w[:LATENT]
                                       + action @ law.v)  # fmt: skip
            obs = out.obs
        values.append(out.obs[:, :LATENT])
    assert torch.equal(*values)


def grad(of, by):
    return torch.autograd.grad(of, by, retain_graph=True)[0]
