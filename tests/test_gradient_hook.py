"""`step_with_grad` is `step`, and what its gradients may and may not do."""

import copy
import pickle
from functools import cache
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from tiny_world import make_world_model

import fog_agent

GRADIENTS, OBS_TYPES = ("surrogate", "none", "diffusion"), ("latent", "pixels")
MODES = [mode.value for mode in AutoresetMode]
model = cache(make_world_model)


def single(**kwargs):
    return gym.make("WM-v0", **{"world_model": model(), "obs_type": "latent", **kwargs})


def vector(num_envs=3, mode="SameStep", **kwargs):
    kwargs = {"world_model": model(), "obs_type": "latent", "autoreset_mode": mode, **kwargs}
    return gym.make_vec(kwargs.pop("id", "WM-v0"), num_envs=num_envs, **kwargs).unwrapped


def staggered(env):
    """Episodes that end at different steps: one was begun two steps after the others."""
    env.reset(seed=0)
    for action in actions(2, env, seed=9):
        env.step(action.numpy())
    env.reset(options={"reset_mask": np.arange(env.num_envs) == 1})
    return env


def actions(steps, env, seed=0, *, reach=1.5):
    """Some beyond the box."""
    rng = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, *env.action_space.shape, generator=rng) * 2 - 1) * reach


def assert_same(came, expected):
    """Of numbers, arrays, dictionaries and arrays of arrays; NaN nowhere."""
    assert type(came) is type(expected)
    if isinstance(expected, dict):
        assert came.keys() == expected.keys()
        for name in expected:
            assert_same(came[name], expected[name])
    elif isinstance(expected, np.ndarray) and expected.dtype == object:
        for one, other in zip(came, expected, strict=True):
            assert_same(one, other)
    else:
        np.testing.assert_array_equal(came, expected, strict=isinstance(expected, np.ndarray))


def assert_same_step(out, stepped):
    obs, reward, terminated, truncated, info = stepped
    came = out.obs.detach().numpy()
    assert came.dtype == np.float32
    assert_same(came, obs.astype(np.float32))  # colours are whole numbers
    assert_same(out.reward.detach().double().numpy(), np.asarray(reward))
    assert_same(out.terminated.numpy(), np.asarray(terminated))
    assert_same(out.truncated.numpy(), np.asarray(truncated))
    assert_same(out.info, info)


def gradient(of, by):
    """Zeros where there is none."""
    if not of.requires_grad:
        return torch.zeros_like(by)
    (found,) = torch.autograd.grad(of.sum(), by, retain_graph=True, allow_unused=True)
    return torch.zeros_like(by) if found is None else found


# Values


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("how", GRADIENTS)
@pytest.mark.parametrize("obs_type", OBS_TYPES)
@pytest.mark.parametrize("mode", MODES)
def test_step_and_step_with_grad_are_the_same_step(mode, obs_type, how, deterministic):
    settings = {"obs_type": obs_type, "horizon": 4, "deterministic": deterministic}
    env, twin = (staggered(vector(mode=mode, **settings)) for _ in range(2))
    over = np.zeros(3, bool)
    for t, action in enumerate(actions(11, env)):
        if mode == "Disabled" and over.any():
            for each in (env, twin):
                each.reset(options={"reset_mask": over})
            over[:] = False
        if t % 4 == 0:
            env.begin_window(gradient=how)
        stepped = twin.step(action.numpy())
        out = env.step_with_grad(action.requires_grad_())
        assert_same_step(out, stepped)
        assert out.final_obs.requires_grad == (how != "none" and bool(out.valid.any()))
        ignored = over if mode == "NextStep" else np.zeros(3, bool)
        assert_same(out.valid.numpy(), ~ignored)
        final_obs = stepped[0].astype(np.float32)
        if "final_obs" in stepped[4]:
            for i in np.flatnonzero(stepped[4]["_final_obs"]):
                final_obs[i] = stepped[4]["final_obs"][i]
        assert_same(out.final_obs.detach().numpy(), final_obs)
        over = stepped[2] | stepped[3]
    assert pickle.dumps(env.get_state()) == pickle.dumps(twin.get_state())


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("how", GRADIENTS)
@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_of_a_single_environment_too(obs_type, how, deterministic):
    settings = {"obs_type": obs_type, "horizon": 3, "deterministic": deterministic}
    env, twin = single(gradient=how, **settings), single(**settings)
    step_with_grad = env.get_wrapper_attr("step_with_grad")
    for seed in range(2):
        obs, _ = twin.reset(seed=seed)
        env.reset(seed=seed)
        begun = env.get_wrapper_attr("begin_window")()
        assert_same(begun.numpy(), obs.astype(np.float32))
        for action in actions(3, env, seed):
            out = step_with_grad(action.requires_grad_())
            assert_same_step(out, twin.step(action.detach().numpy()))
            assert out.obs.requires_grad == (how != "none")
            assert torch.equal(out.final_obs, out.obs)
            assert out.valid.shape == ()
            assert out.valid
    with pytest.raises(ResetNeeded):
        step_with_grad(action)


@pytest.mark.parametrize("how", GRADIENTS)
@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_the_packaged_dream_in_bfloat16_too(obs_type, how):
    settings = {"id": "WM-PushT-v0", "world_model": "push-t", "dtype": "bfloat16"}
    env, twin = (vector(2, obs_type=obs_type, horizon=3, **settings) for _ in range(2))
    for each in (env, twin):
        each.reset(seed=0)
    env.begin_window(gradient=how)
    acts = actions(4, env, reach=0.9).requires_grad_()
    for action in acts:
        out = env.step_with_grad(action)
        assert_same_step(out, twin.step(action.detach().numpy()))
    found = gradient(out.reward + out.final_obs.mean(), acts)
    assert torch.isfinite(found).all()
    assert (found[-1] != 0).all() == (how != "none")


def test_more_denoising_steps_too():
    env, twin = (vector(denoising_steps=3) for _ in range(2))
    for each in (env, twin):
        each.reset(seed=0)
    env.begin_window(gradient="diffusion")
    for action in actions(3, env):
        out = env.step_with_grad(action.requires_grad_())
        assert_same_step(out, twin.step(action.detach().numpy()))


@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_a_window_begins_with_what_is_seen_now(obs_type):
    env = staggered(vector(obs_type=obs_type))
    obs = env.step(actions(1, env)[0].numpy())[0]
    begun = env.begin_window()
    assert_same(begun.numpy(), obs.astype(np.float32))
    assert not begun.requires_grad
    begun.zero_()  # it is the caller's
    assert_same(env.begin_window().numpy(), obs.astype(np.float32))


def test_stepping_over_the_end_raises_where_nothing_is_reset():
    env = vector(mode="Disabled", horizon=1)
    env.reset(seed=0)
    env.step_with_grad(actions(1, env)[0])
    with pytest.raises(ResetNeeded, match="over"):
        env.step_with_grad(actions(1, env)[0])


# Where gradients end


@pytest.mark.parametrize("how", ["surrogate", "diffusion"])
@pytest.mark.parametrize("obs_type", OBS_TYPES)
@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_no_gradient_crosses_a_reset(mode, obs_type, how):
    """Episodes of environment 1 end two steps later, and none of theirs is lost by it."""
    env = staggered(vector(mode=mode, obs_type=obs_type, horizon=4))
    env.begin_window(gradient=how)
    acts = actions(5, env, reach=0.9).requires_grad_()
    outs = [env.step_with_grad(action) for action in acts]
    ended = outs[1]
    assert ended.truncated.tolist() == [True, False, True]
    assert reached(gradient(ended.final_obs[0], acts), 0) == [0, 1]
    assert reached(gradient(ended.reward[0], acts), 0) == [0, 1]
    if mode == "SameStep":
        assert reached(gradient(ended.obs[0], acts), 0) == []
        assert reached(gradient(outs[2].obs[0], acts), 0) == [2]
        assert reached(gradient(outs[4].obs[0] + outs[4].final_obs[0], acts), 0) == [2, 3, 4]
    else:
        assert reached(gradient(ended.obs[0], acts), 0) == [0, 1]
        ignored = outs[2]
        assert ignored.valid.tolist() == [False, True, False]
        assert torch.equal(ignored.final_obs[0], ignored.obs[0])
        assert reached(gradient(ignored.obs[0] + ignored.final_obs[0], acts), 0) == []
        assert reached(gradient(ignored.reward[0], acts), 0) == []
        assert reached(gradient(outs[4].obs[0], acts), 0) == [3, 4]
    assert reached(gradient(outs[3].final_obs[1], acts), 1) == [0, 1, 2, 3]


def reached(found, i):
    """The steps whose action of environment i, and of no other, has a gradient."""
    assert torch.isfinite(found).all()
    others = torch.arange(found.shape[1]) != i
    assert (found[:, others] == 0).all()
    return torch.nonzero((found[:, i] != 0).any(1)).flatten().tolist()


CUTS = {
    "begin_window": lambda env: env.begin_window(),
    "step": lambda env: env.step(np.zeros((3, 2), np.float32)),
    "reset": lambda env: env.reset(),
    "a partial reset": lambda env: env.reset(
        options={"reset_mask": np.array([False, True, False])}
    ),
    "set_state": lambda env: env.set_state(env.get_state()),
}


@pytest.mark.parametrize("how", ["surrogate", "diffusion"])
@pytest.mark.parametrize("obs_type", OBS_TYPES)
@pytest.mark.parametrize("what", CUTS)
def test_what_cuts_the_graph(what, obs_type, how):
    env = vector(obs_type=obs_type, gradient=how)
    env.reset(seed=0)
    env.begin_window()
    acts = actions(4, env, reach=0.9).requires_grad_()
    for action in acts[:2]:
        env.step_with_grad(action)
    CUTS[what](env)
    for action in acts[2:]:
        out = env.step_with_grad(action)
    assert reached(gradient(out.obs[0] + out.reward[0], acts), 0) == [2, 3]


def test_what_was_refused_cuts_nothing():
    env = vector()
    env.reset(seed=0)
    acts = actions(2, env, reach=0.9).requires_grad_()
    env.begin_window()
    env.step_with_grad(acts[0])
    for call in (env.step, env.step_with_grad, env.set_state, env.begin_window):
        with pytest.raises((TypeError, ValueError)):
            call("nothing")
    with pytest.raises(ValueError, match="frames"):
        env.reset(options={"frames": np.zeros(3)})
    out = env.step_with_grad(acts[1])
    assert reached(gradient(out.obs[2], acts), 2) == [0, 1]


@pytest.mark.parametrize("how", GRADIENTS)
@pytest.mark.parametrize("obs_type", OBS_TYPES)
@pytest.mark.parametrize("learning", [False, True])
def test_nothing_flows_into_any_network(obs_type, how, learning):
    """Not even where the model that was handed in is still being trained."""
    own = make_world_model(seed=1).requires_grad_(learning)
    env = vector(world_model=own, obs_type=obs_type, gradient=how)
    env.reset(seed=0)
    obs = env.begin_window()
    if how != "none":
        assert not env.step_with_grad(torch.zeros(3, 2)).obs.requires_grad
    acts = actions(3, env, reach=0.9).requires_grad_()
    total = obs.sum()
    for action in acts:
        out = env.step_with_grad(action)
        total = total + out.obs.mean() + out.final_obs.mean() + out.reward.sum()
    if how != "none":
        total.backward()
        assert (acts.grad != 0).all()
    parameters = list(own.parameters())
    assert len(parameters) > 50
    assert all(p.grad is None and p.requires_grad == learning for p in parameters)
    lent = [*env.surrogate.dynamics.parameters(), *env.surrogate.reward.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in lent)


@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_without_gradients_nothing_requires_them(obs_type):
    env = staggered(vector(obs_type=obs_type, gradient="none", horizon=4))
    env.begin_window()
    for action in actions(3, env):
        out = env.step_with_grad(action.requires_grad_())
        assert not any(t.requires_grad for t in vars(out).values() if isinstance(t, torch.Tensor))


# Which gradients


def test_one_step_has_the_surrogates_jacobian_at_the_true_state():
    env = vector()
    env.reset(seed=0)
    before = env.begin_window()
    action = actions(1, env, reach=0.9)[0].requires_grad_()
    out = env.step_with_grad(action)
    by_action = jacobian(out.obs, action)
    torch.testing.assert_close(by_action, lent(env.surrogate, before, action)[1])
    assert (by_action != 0).any((1, 2)).all()
    for i in range(3):
        reward = by(env.surrogate, before, action, out.obs)[i]
        torch.testing.assert_close(gradient(out.reward[i], action)[i], reward)


def test_three_steps_have_the_product_of_them():
    env = vector()
    env.reset(seed=0)
    seen, acts = [env.begin_window()], actions(3, env, reach=0.9).requires_grad_()
    for action in acts:
        out = env.step_with_grad(action)
        seen.append(out.obs.detach())
    each = [lent(env.surrogate, f, a.detach()) for f, a in zip(seen[:-1], acts, strict=True)]
    expected = each[2][0] @ each[1][0] @ each[0][1]
    torch.testing.assert_close(jacobian(out.obs, acts)[:, :, 0], expected, atol=1e-6, rtol=1e-4)
    assert (expected != 0).any((1, 2)).all()


def jacobian(obs, by):
    """(b, f, [t,] a) of each environment's own obs by its own actions."""
    rows = [torch.stack([gradient(o, by)[..., i, :] for o in obs[i]]) for i in range(len(obs))]
    return torch.stack(rows)


def lent(surrogate, features, action):
    """∂f′/∂f and ∂f′/∂a, one environment at a time."""
    pairs = [
        torch.autograd.functional.jacobian(
            lambda f, a: surrogate.predict(f[None], a[None])[0], (f, a)
        )
        for f, a in zip(features, action.detach(), strict=True)
    ]
    return tuple(torch.stack(each) for each in zip(*pairs, strict=True))


def by(surrogate, features, action, after):
    """dr/da of each: by what is next, and by itself."""
    after, free = after.detach().requires_grad_(), action.detach().requires_grad_()
    reward = surrogate.reward_of(after, free).sum()
    by_next, by_action = torch.autograd.grad(reward, (after, free))
    moved = lent(surrogate, features, action)[1]
    return by_action + (by_next[:, None] @ moved)[:, 0]


def test_pixels_take_gradients_where_the_filter_is_after_a_reset_too():
    """The filter of a new episode once went on from the last features of the old one."""
    env = vector(obs_type="pixels", horizon=3)
    env.reset(seed=0)
    env.begin_window()
    for action in actions(3, env):
        env.step_with_grad(action)
    world = env._episodes.world
    begun, action = world.now.features.clone(), actions(1, env, 5, reach=0.9)[0]
    fresh = vector(obs_type="pixels")
    fresh.reset(seed=1)
    fresh.set_state(env.get_state())
    fresh._episodes.world.catch_up()
    torch.testing.assert_close(fresh._episodes.world.now.features, begun)
    action.requires_grad_()
    out = env.step_with_grad(action)
    expected = by(env.surrogate, begun, action, world.now.features)
    for i in range(3):
        torch.testing.assert_close(gradient(out.reward[i], action)[i], expected[i])


@pytest.mark.parametrize("how", ["surrogate", "diffusion"])
def test_no_gradient_comes_from_beyond_the_box(how):
    env = vector(gradient=how)
    env.reset(seed=0)
    env.begin_window()
    action = torch.tensor([[1.5, 0.5], [-0.5, -1.01], [0.2, 0.3]], requires_grad=True)
    found = gradient(env.step_with_grad(action).obs, action)
    assert ((found == 0) == (action.abs() > 1)).all()


@pytest.mark.parametrize("how", ["surrogate", "diffusion"])
@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_gradients_stay_finite_over_a_whole_episode(obs_type, how):
    env = vector(2, obs_type=obs_type, gradient=how)
    env.reset(seed=0)
    env.begin_window()
    acts, rewards = actions(150, env, reach=1.1).requires_grad_(), []
    for action in acts:
        out = env.step_with_grad(action)
        rewards.append(out.reward)
    assert out.truncated.all()
    found = gradient(torch.stack(rewards) + out.final_obs.flatten(1).mean(1), acts)
    assert torch.isfinite(found).all()
    assert ((found == 0) == (acts.abs() > 1)).all()


# What is asked for


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_any_floating_point_action_will_do(dtype):
    env, twin = vector(), vector()
    for each in (env, twin):
        each.reset(seed=0)
    env.begin_window()
    action = actions(1, env, reach=0.9)[0].to(dtype).requires_grad_()
    out = env.step_with_grad(action)
    assert_same_step(out, twin.step(action.detach().float().numpy()))
    assert gradient(out.obs, action).dtype == dtype


REFUSED = {
    "nan": (torch.tensor([[0, torch.nan]] * 3), ValueError, "action is not finite"),
    "infinite": (torch.tensor([[0, -torch.inf]] * 3), ValueError, "action is not finite"),
    "of one": (torch.zeros(2), ValueError, r"shape \(2,\), expected \(3, 2\) = \(num_envs, "),
    "of four": (torch.zeros(4, 2), ValueError, r"action has shape \(4, 2\), expected \(3, 2\)"),
    "integers": (torch.zeros(3, 2, dtype=torch.int64), TypeError, "dtype torch.int64, expected fl"),
    "complex": (torch.zeros(3, 2, dtype=torch.cfloat), TypeError, "complex64, expected floating"),
    "an array": (np.zeros((3, 2), np.float32), TypeError, "is a ndarray, expected a torch.Tensor"),
    "a list": ([[0.0, 0.0]] * 3, TypeError, "action is a list, expected a torch.Tensor"),
}


@pytest.mark.parametrize("obs_type", OBS_TYPES)
@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_action_is_refused_and_nothing_has_changed(what, obs_type, unchecked_types):
    action, exception, message = REFUSED[what]
    env = vector(obs_type=obs_type)
    with pytest.raises(ResetNeeded):
        env.step_with_grad(torch.zeros(3, 2))
    with pytest.raises(ResetNeeded):
        env.begin_window()
    env.reset(seed=0)
    before = pickle.dumps(env.get_state())
    with pytest.raises(exception, match=message):
        env.step_with_grad(action)
    assert pickle.dumps(env.get_state()) == before


def test_a_wrong_action_of_a_single_environment_names_its_shape(unchecked_types):
    env = single()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(1, 2\), expected \(2,\) = action_space.shape"):
        env.get_wrapper_attr("step_with_grad")(torch.zeros(1, 2))


def test_an_unknown_gradient_is_refused(unchecked_types):
    for make in (single, vector):
        with pytest.raises(ValueError, match=r"gradient is 'exact', expected one of .'surr"):
            make(gradient="exact")
    env = vector(gradient="none")
    env.reset(seed=0)
    for wrong in ("exact", 1, ["none"]):
        with pytest.raises(ValueError, match=r"gradient is .*, expected one of"):
            env.begin_window(gradient=wrong)
    assert not env.step_with_grad(torch.zeros(3, 2, requires_grad=True)).obs.requires_grad


def test_a_window_overrides_the_constructor_for_itself_alone():
    env = vector(gradient="none")
    env.reset(seed=0)
    action, state = actions(1, env, reach=0.9)[0].requires_grad_(), env.get_state()
    found = {}
    for how in ("surrogate", None, "diffusion", "none"):
        env.set_state(state)
        env.begin_window(gradient=how)
        found[how] = gradient(env.step_with_grad(action).obs, action)
    assert (found[None] == 0).all()
    assert (found["none"] == 0).all()
    assert (found["surrogate"] != 0).all()
    assert (found["diffusion"] != 0).all()
    assert (found["diffusion"] != found["surrogate"]).all()


# In the company of others


def test_it_is_what_an_agent_asks_for():
    env = vector()
    env.reset(seed=0)
    assert isinstance(env, fog_agent.DifferentiableEnv)
    assert isinstance(env.step_with_grad(torch.zeros(3, 2)), fog_agent.GradStep)
    assert not isinstance(gym.make_vec("Real-PushT-v0"), fog_agent.DifferentiableEnv)
    assert not isinstance(SimpleNamespace(obs=0, reward=0), fog_agent.GradStep)


def test_wrappers_reach_it_on_a_single_environment():
    env = gym.wrappers.RecordEpisodeStatistics(single(max_episode_steps=5))
    env.reset(seed=0)
    assert env.get_wrapper_attr("begin_window")().shape == env.observation_space.shape
    out = env.get_wrapper_attr("step_with_grad")(torch.zeros(2, requires_grad=True))
    assert out.obs.requires_grad
    assert out.obs.shape == env.observation_space.shape


def test_a_single_environment_and_a_vector_have_equal_gradients():
    env, alone = vector(2, deterministic=True), single(deterministic=True)
    env.reset(seed=3)
    env.begin_window()
    acts = actions(3, env, reach=0.9).requires_grad_()
    for action in acts:
        together = env.step_with_grad(action)
    for i in range(2):
        alone.reset(seed=3 + i)
        alone.get_wrapper_attr("begin_window")()
        for action in acts[:, i]:
            out = alone.get_wrapper_attr("step_with_grad")(action)
        assert torch.equal(out.obs, together.obs[i])
        mine, expected = gradient(out.obs, acts), gradient(together.obs[i], acts)
        torch.testing.assert_close(mine, expected, atol=1e-6, rtol=1e-4)
        assert reached(mine, i) == [0, 1, 2]


@pytest.mark.parametrize("how", GRADIENTS)
@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_the_global_generators_are_untouched(obs_type, how, unchecked_types):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    env = staggered(vector(obs_type=obs_type, gradient=how, horizon=3))
    env.begin_window()
    for action in actions(4, env):
        env.step_with_grad(action.requires_grad_())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_in_the_middle_of_a_window_goes_on_without_its_graph(copied):
    env = vector()
    env.reset(seed=0)
    env.begin_window()
    acts = actions(3, env, reach=0.9).requires_grad_()
    env.step_with_grad(acts[0])
    other = copied(env)
    for action in acts[1:]:
        came, expected = other.step_with_grad(action), env.step_with_grad(action)
        assert torch.equal(came.obs, expected.obs)
    assert reached(gradient(came.obs[0], acts), 0) == [1, 2]
    assert reached(gradient(expected.obs[0], acts), 0) == [0, 1, 2]


@pytest.mark.parametrize("how", GRADIENTS)
@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_a_window_can_follow_an_evaluation_in_inference_mode(obs_type, how):
    env = vector(obs_type=obs_type, gradient=how)
    with torch.inference_mode():
        env.reset(seed=0)
        env.step(np.zeros((3, 2), np.float32))
    assert not env.begin_window().is_inference()
    acts = actions(2, env, reach=0.9).requires_grad_()
    for action in acts:
        out = env.step_with_grad(action)
    found = gradient(out.obs[0], acts)
    assert reached(found, 0) == ([] if how == "none" else [0, 1])


def test_an_agent_may_step_without_a_graph():
    env = vector()
    env.reset(seed=0)
    env.begin_window()
    with torch.no_grad():
        assert not env.step_with_grad(torch.zeros(3, 2, requires_grad=True)).obs.requires_grad
