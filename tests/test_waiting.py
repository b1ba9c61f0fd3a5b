"""On a GPU nothing is waited for between a reset and the end of a window: counted on a CPU, whose
dreams are told not to wait."""

from contextlib import contextmanager
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_world import make_world_model
from torch import Tensor

from wm_gym.envs.late_info import LateInfo

READS = ("cpu", "numpy", "item", "tolist", "nonzero", "__bool__", "__float__", "__int__")
"""What a device is waited for in: a number goes to the host, or a shape depends on one."""


@contextmanager
def counted(monkeypatch):
    """How often each of them is called within."""
    found = dict.fromkeys(READS, 0)

    def noting(name, read):
        def noted(*args, **kwargs):
            found[name] += 1
            return read(*args, **kwargs)

        return noted

    with monkeypatch.context() as patch:
        for name in READS:
            patch.setattr(Tensor, name, noting(name, getattr(Tensor, name)))
        yield found


def dreams(**kwargs):
    settings = {"obs_type": "latent", "autoreset_mode": "SameStep", "horizon": 50, **kwargs}
    model = make_world_model()
    env = gym.make_vec("WM-PushT-v0", num_envs=3, world_model=model, **settings).unwrapped
    env.reset(seed=0)
    return env


def window(env, steps=4):
    obs = env.begin_window()
    action = torch.full((steps, 3, 2), 0.3, requires_grad=True)
    outs = [env.step_with_grad(each) for each in action]
    return obs, outs, action


@pytest.mark.parametrize("how", ["surrogate", "none", "diffusion"])
@pytest.mark.parametrize("obs_type", ["latent", "pixels"])
def test_a_window_reads_nothing_from_the_device(obs_type, how, monkeypatch, unchecked_types):
    env = dreams(obs_type=obs_type, gradient=how)
    env._episodes.world.waits = False
    if obs_type == "pixels":
        env._episodes.world.catch_up()
    with counted(monkeypatch) as found:
        outs = window(env)[1]
    assert not any(found.values()), found
    with counted(monkeypatch) as found:
        assert outs[-1].info["uncertainty"].shape == (3,)
    assert found["cpu"]


def test_the_count_sees_what_waits(monkeypatch, unchecked_types):
    env = dreams()
    with counted(monkeypatch) as found:
        window(env)
    assert found["cpu"] >= 4


@pytest.mark.parametrize("how", ["surrogate", "none", "diffusion"])
def test_what_is_not_waited_for_is_the_same(how):
    """Values, gradients, each step's info, and what comes after."""
    one, other = dreams(gradient=how, horizon=3), dreams(gradient=how, horizon=3)
    other._episodes.world.waits = False
    (_, came, mine), (_, late, theirs) = window(one, 5), window(other, 5)
    for a, b in zip(came, late, strict=True):
        for name in ("obs", "reward", "terminated", "truncated", "final_obs", "valid"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        assert a.info.keys() == b.info.keys()
        for name in ("progress", "best_progress", "is_success", "uncertainty", "coverage"):
            np.testing.assert_array_equal(a.info[name], b.info[name])
    if how != "none":
        grads = [
            torch.autograd.grad(sum(out.reward.sum() for out in outs), action)[0]
            for outs, action in ((came, mine), (late, theirs))
        ]
        assert torch.equal(*grads)
    still = np.zeros((3, 2), np.float32)
    for a, b in zip(one.step(still)[:4], other.step(still)[:4], strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_lost_is_told_at_the_end_of_the_window():
    env = dreams()
    world = env._episodes.world
    world.waits = False
    env.begin_window()
    nothing = torch.zeros(3, 2)
    world.now = replace(world.now, features=world.now.features * torch.nan)
    env.step_with_grad(nothing)
    with pytest.raises(FloatingPointError, match=r"environments \[0, 1, 2\] is not finite, in a"):
        env.begin_window()
    env.step_with_grad(nothing)
    with pytest.raises(FloatingPointError, match="is not finite"):
        env.get_state()
    env.step_with_grad(nothing)
    env.reset(seed=1)
    env.begin_window()  # whatever was lost is gone


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_action_that_is_not_finite_is_told_at_the_end_of_the_window(value):
    env = dreams()
    env._episodes.world.waits = False
    env.begin_window()
    action = torch.zeros(3, 2)
    action[1, 0] = value
    env.step_with_grad(action)
    with pytest.raises(ValueError, match=r"action is not finite in environments \[1\]"):
        env.begin_window()


@pytest.mark.parametrize("waits", [True, False])
def test_nothing_is_kept_of_steps_that_are_over(waits):
    env = dreams(gradient="none", horizon=1000)
    env._episodes.world.waits = waits
    for _ in range(3):
        window(env)
        env.begin_window()
        assert not env._episodes._late
    assert type(env.step_with_grad(torch.zeros(3, 2)).info) is (dict if waits else LateInfo)


def test_a_late_info_is_a_dictionary_as_any_other():
    asked = []

    def late():
        return LateInfo(lambda: asked.append(1) or {"a": 1, "b": 2})

    looks = {
        "item": lambda d: d["a"] == 1, "in": lambda d: "b" in d, "length": lambda d: len(d) == 2,
        "list": lambda d: list(d) == ["a", "b"], "equal": lambda d: d == {"a": 1, "b": 2},
        "get": lambda d: d.get("c", 3) == 3, "items": lambda d: dict(d.items()) == {"a": 1, "b": 2},
        "or": lambda d: d | {"c": 3} == {"a": 1, "b": 2, "c": 3}, "repr": lambda d: "a" in repr(d),
        "values": lambda d: sum(d.values()) == 3, "copy": lambda d: d.copy() == {"a": 1, "b": 2},
        "keys": lambda d: d.keys() == {"a", "b"}, "back": lambda d: list(reversed(d)) == ["b", "a"],
        "default": lambda d: d.setdefault("a", 5) == 1,
    }  # fmt: skip
    for name, look in looks.items():
        asked.clear()
        info = late()
        assert isinstance(info, dict)
        assert not asked
        assert look(info), name
        assert look(info), name
        assert len(asked) == 1, name


def test_a_late_info_keeps_what_is_written_into_it():
    info = LateInfo(lambda: {"a": 1, "b": 2})
    info["a"] = 3
    assert info == {"a": 3, "b": 2}
    info = LateInfo(lambda: {"a": 1, "b": 2})
    assert (info.pop("b"), info) == (2, {"a": 1})
    info = LateInfo(lambda: {"a": 1, "b": 2})
    info |= {"c": 3}
    del info["a"]
    assert info == {"b": 2, "c": 3}
