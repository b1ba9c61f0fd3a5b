"""`refresh`: what lends its gradients learns on, and nothing else notices."""

import copy
import pickle
from contextlib import suppress

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_world import make_logged, make_world_model

from wm_gym.models.keypoints.surrogate import surrogate_of
from wm_gym.models.protocol import Transitions


def dreams(num_envs=3, **kwargs):
    kwargs = {"world_model": make_world_model(), "obs_type": "latent", **kwargs}
    kwargs = {"autoreset_mode": "SameStep", "horizon": 4, **kwargs}
    return gym.make_vec("WM-v0", num_envs=num_envs, **kwargs).unwrapped


def batch(n=32, seed=0, size=20):
    """Of other dynamics than any that was logged."""
    rng = torch.Generator().manual_seed(seed)
    obs, action = torch.randn(n, size, generator=rng) / 3, torch.rand(n, 2, generator=rng) * 2 - 1
    moved = torch.cat([action.repeat(1, 4) * 0.03, torch.zeros(n, size - 8)], 1)
    return {"obs": obs, "action": action, "reward": action[:, 0], "next_obs": obs + moved}


def transitions(**kwargs):
    given = batch(**kwargs)
    return Transitions(
        features=given["obs"], action=given["action"], reward=given["reward"],
        next_features=given["next_obs"],
    )  # fmt: skip


def walk(env, steps=6):
    acts = np.random.default_rng(0).uniform(-1, 1, (steps, *env.action_space.shape))
    return [env.step(action.astype(np.float32)) for action in acts]


def gradient(env, state):
    env.set_state(state)
    env.begin_window()
    action = torch.full(env.action_space.shape, 0.2, requires_grad=True)
    out = env.step_with_grad(action)
    return torch.autograd.grad(out.obs.sum() + out.reward.sum(), action)[0]


def weights(surrogate):
    return [p.clone() for p in [*surrogate.dynamics.parameters(), *surrogate.reward.parameters()]]


def equal(one, other):
    """Of tensors, and of lists and dictionaries of them."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return all(equal(a, b) for a, b in zip(one, other, strict=True))
    return one == other


# What refreshing changes


def test_no_value_of_a_step_ever_changes_through_it():
    env, twin = dreams(), dreams()
    own = env._episodes.world.model
    for each in (env, twin):
        each.reset(seed=0)
    state, before = env.get_state(), [p.clone() for p in own.parameters()]
    lent, old = weights(env.surrogate), gradient(env, state)
    for seed in range(20):
        env.refresh(batch(seed=seed))
    assert equal(list(own.parameters()), before)
    changed = [not torch.equal(a, b) for a, b in zip(weights(env.surrogate), lent, strict=True)]
    assert sum(changed) >= len(changed) - 2  # the deviation is no gradient's: it is not trained
    new = gradient(env, state)
    assert (new != old).all()
    assert torch.equal(gradient(twin, state), old)
    for each in (env, twin):
        each.set_state(state)
    for came, expected in zip(walk(env), walk(twin), strict=True):
        for one, other in zip(came[:4], expected[:4], strict=True):
            np.testing.assert_array_equal(one, other)
        assert pickle.dumps(came[4]) == pickle.dumps(expected[4])


def test_two_environments_of_one_world_model_learn_on_their_own():
    one, other = (dreams(world_model=model) for model in [make_world_model()] * 2)
    before = weights(other.surrogate)
    one.refresh(batch())
    assert equal(weights(other.surrogate), before)
    assert not equal(weights(one.surrogate), before)


def test_a_single_environment_learns_as_a_vector_does():
    single = gym.make("WM-v0", world_model=make_world_model(), obs_type="latent")
    env = dreams()
    assert single.get_wrapper_attr("refresh")(batch()) == env.refresh(batch())
    assert equal(weights(single.unwrapped.surrogate), weights(env.surrogate))


def test_equal_calls_have_equal_ends(unchecked_types):
    torch.manual_seed(0)
    before, np_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one, other = dreams(), dreams()
    for seed in range(3):
        assert one.refresh(batch(seed=seed)) == other.refresh(batch(seed=seed))
    assert equal(weights(one.surrogate), weights(other.surrogate))
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == np_before).all()  # noqa: NPY002


def test_gradients_are_off_again_afterwards():
    env = dreams()
    given = {name: tensor.requires_grad_() for name, tensor in batch().items()}
    with torch.no_grad():
        env.refresh(given)
    lent = [*env.surrogate.dynamics.parameters(), *env.surrogate.reward.parameters()]
    assert not any(p.requires_grad or p.grad is not None for p in lent)
    assert all(tensor.grad is None for tensor in given.values())
    assert not any(p.requires_grad for p in env._episodes.world.model.parameters())


def test_arrays_and_actions_beyond_the_box_are_welcome():
    env, twin = dreams(), dreams()
    given = {name: tensor.numpy() for name, tensor in batch().items()}
    for array in given.values():
        array.flags.writeable = False
    assert env.refresh(given) == twin.refresh(batch())
    far = batch()
    assert env.refresh({**far, "action": far["action"] * 1e6}) == twin.refresh(
        {**far, "action": far["action"].sign()}
    )


# What it learns


def test_scores_fall_on_what_is_shown_again_and_again():
    env = dreams()
    env.surrogate.optimiser.param_groups[0]["lr"] = 3e-4  # as it has nothing to lose
    scores = [env.refresh(batch(64)) for _ in range(150)]
    assert all(type(value) is float for value in scores[0].values())
    assert scores[-1]["missed"] < 0.5 * scores[0]["missed"]
    assert scores[-1]["reward_error"] < 0.5 * scores[0]["reward_error"]


def trained(**kwargs):
    """A surrogate that has learned what was logged."""
    local_model = make_world_model().local_model
    rng = torch.Generator().manual_seed(0)
    still = torch.randn(16, 1, 8, generator=rng).expand(16, 9, 8) / 3  # in it, nothing moves
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        logged = make_logged(local_model, windows=16, length=9)
    logged = type(logged)(embedding=still.clone(), action=logged.action, reward=logged.reward)
    surrogate = surrogate_of(local_model, logged, learning_rate=3e-3, **kwargs)
    old = logged.transitions(local_model)
    for _ in range(200):
        surrogate.refresh(old)
    return surrogate, old


def error(surrogate, these):
    return float(surrogate.missed(these)[0].mean())


def test_it_learns_the_new_without_forgetting_the_old():
    surrogate, old = trained()
    forgetful = copy.deepcopy(surrogate)
    new, unseen = transitions(n=128), transitions(n=128, seed=7)
    forgetful._rehearsed = new  # it rehearses nothing else
    was_old, was_new = error(surrogate, old), error(surrogate, unseen)
    for _ in range(100):
        surrogate.refresh(new)
        forgetful.refresh(new)
    assert error(surrogate, unseen) < 0.5 * was_new
    forgotten = error(forgetful, old) - was_old
    assert forgotten > 10 * was_old
    assert error(surrogate, old) - was_old < 0.1 * forgotten


# What it refuses


WRONG = {
    "no dictionary": (lambda b: list(b.values()), ValueError, "the batch is a list, expected a di"),
    "a key too few": (lambda b: {"obs": b["obs"]}, ValueError, r"the batch is \['obs'\], expected"),
    "a key too many": (lambda b: b | {"done": b["reward"]}, ValueError, "the batch is .*'done'"),
    "nothing": (lambda b: {k: v[:0] for k, v in b.items()}, ValueError, r"shape \(0, 20\), expect"),
    "another n": (lambda b: b | {"reward": b["reward"][1:]}, ValueError, r"\(31,\), expected \(32"),
    "another size": (lambda b: b | {"obs": b["obs"][:, 1:]}, ValueError, r"\(32, 19\), expected"),
    "a column": (lambda b: b | {"reward": b["reward"][:, None]}, ValueError, r"\(32, 1\), expect"),
    "a number": (lambda b: b | {"action": 1.0}, ValueError, r"batch\['obs'\] has shape"),
    "no number": (lambda b: b | {"obs": "much"}, TypeError, r"'obs'\] is not an array"),
    "nan": (lambda b: b | {"reward": b["reward"] * torch.nan}, ValueError, "'reward'. is not fin"),
    "too large": (lambda b: b | {"obs": b["obs"].double() * 1e40}, ValueError, "'obs'. is not fin"),
    "huge next": (lambda b: b | {"next_obs": b["obs"] * 1e30}, FloatingPointError, "are too large"),
    "huge all": (lambda b: {k: v * 1e38 for k, v in b.items()}, FloatingPointError, "too large"),
    "huge reward": (lambda b: b | {"reward": b["reward"] * 3e38}, FloatingPointError, "too large"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_batch_is_refused_and_nothing_has_changed(what, unchecked_types):
    spoil, exception, message = WRONG[what]
    env, twin = dreams(), dreams()
    with pytest.raises(exception, match=message):
        env.refresh(spoil(batch()))
    assert env.refresh(batch()) == twin.refresh(batch())
    assert equal(weights(env.surrogate), weights(twin.surrogate))


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e9, 1e15, 1e19, 1e25, 1e38])
@pytest.mark.parametrize("name", ["obs", "reward", "next_obs"])
def test_no_batch_leaves_weights_that_are_not_finite(name, scale):
    """One of huge numbers once did."""
    env, given = dreams(), batch()
    given[name] = given[name] * scale
    for _ in range(3):
        with suppress(ValueError, FloatingPointError):  # it may be refused
            env.refresh(given)
    assert all(torch.isfinite(w).all() for w in weights(env.surrogate))
    assert np.isfinite(env.refresh(batch())["missed"])


def test_pixels_have_no_features_to_learn_from():
    with pytest.raises(ValueError, match=r"make this one with obs_type='latent'"):
        dreams(obs_type="pixels").refresh(batch())


def test_without_logged_transitions_there_is_no_refreshing():
    model = make_world_model()
    model.logged = None
    env = dreams(world_model=model)
    with pytest.raises(ValueError, match="no logged transitions to rehearse"):
        env.refresh(batch())


# Its state


def test_a_state_goes_on_as_if_nothing_had_been(tmp_path):
    one, other = dreams(), dreams()
    for seed in range(3):
        one.refresh(batch(seed=seed))
    torch.save(one.surrogate.state_dict(), tmp_path / "surrogate.pt")
    other.surrogate.load_state_dict(torch.load(tmp_path / "surrogate.pt"))
    assert equal(weights(one.surrogate), weights(other.surrogate))
    for seed in range(3, 6):
        assert one.refresh(batch(seed=seed)) == other.refresh(batch(seed=seed))
    assert equal(weights(one.surrogate), weights(other.surrogate))
    assert not any(p.requires_grad for p in other.surrogate.dynamics.parameters())


def test_a_state_that_was_handed_out_does_not_change():
    env = dreams()
    env.refresh(batch())
    state, before = env.surrogate.state_dict(), env.surrogate.state_dict()
    assert equal(state, before)
    env.refresh(batch())
    assert not equal(state, env.surrogate.state_dict())
    assert equal(state, before)


def damaged(state, what):
    stem = state["dynamics"]["stem.weight"]
    match what:
        case "a part less":
            del state["reward"]
        case "a part more":
            state["spare"] = {}
        case "a tensor less":
            del state["dynamics"]["stem.weight"]
        case "another size":
            state["dynamics"]["stem.weight"] = stem[:, :-1]
        case "nan":
            stem[0, 0] = torch.nan
        case "another moment":
            state["optimiser"]["state"][0]["exp_avg"] = torch.zeros(3)
        case "an infinite moment":
            state["optimiser"]["state"][0]["exp_avg_sq"] *= torch.inf
        case "no generator":
            state["generator"] = torch.zeros(3, dtype=torch.uint8)
        case "no optimiser":
            state["optimiser"] = {}
        case "of another model":
            return dreams_of_dots().surrogate.state_dict()
        case _:
            return what
    return state


def dreams_of_dots():
    return dreams(world_model=make_world_model("Dot"))


@pytest.mark.parametrize("what", [
    "a part less", "a part more", "a tensor less", "another size", "nan", "another moment",
    "an infinite moment", "no generator", "no optimiser", "of another model", None, 3, {},
])  # fmt: skip
def test_a_damaged_state_is_refused_and_nothing_has_changed(what, unchecked_types):
    env, twin = dreams(), dreams()
    for each in (env, twin):
        each.refresh(batch())
    before = env.surrogate.state_dict()
    with pytest.raises(ValueError, match="the state is not of a surrogate of these sizes: "):
        env.surrogate.load_state_dict(damaged(env.surrogate.state_dict(), what))
    assert equal(env.surrogate.state_dict(), before)
    assert env.refresh(batch(seed=1)) == twin.refresh(batch(seed=1))


def test_logged_steps_are_lent_out_as_the_filter_sees_them():
    env = dreams()
    env.reset(seed=0)
    lent = env.surrogate.logged()
    model = make_world_model()
    known = model.logged.transitions(model.local_model)
    assert torch.equal(lent["obs"], known.features)
    assert torch.equal(lent["next_obs"], known.next_features)
    env.refresh({name: values[:8] for name, values in lent.items()})  # named as it takes them
    assert surrogate_of(model.local_model, None).logged() is None
