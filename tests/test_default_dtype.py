"""A model folder is dreamt of in its own types, whatever torch.set_default_dtype says."""

from contextlib import contextmanager

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_world import make_world_model

from wm_gym.wrappers import LatentObservation


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_world_model().save_pretrained(folder)
    return folder


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def dreamt(folder, obs_type, steps):
    env = gym.make_vec(
        "WM-v0", num_envs=2, world_model=folder, obs_type=obs_type, denoising_steps=steps,
        dtype="float32", horizon=2, autoreset_mode="SameStep",
    ).unwrapped  # fmt: skip
    obs, _ = env.reset(seed=0)
    assert obs in env.observation_space
    came = [obs, *env.step(np.full((2, 2), 0.5, np.float32))[:2]]
    if obs_type == "latent":
        env.begin_window()
        action = torch.full((2, 2), 0.5, dtype=torch.float32, requires_grad=True)
        out = env.step_with_grad(action)
        out.reward.sum().backward()
        came += [out.obs.detach().numpy(), out.final_obs.detach().numpy(), action.grad.numpy()]
    return came


def seen(folder):
    real = gym.make_vec("Real-PushT-v0", num_envs=2)
    env = LatentObservation(real, folder, dtype="float32")
    return [env.reset(seed=0)[0], env.step(np.full((2, 2), 0.5, np.float32))[0]]


def assert_equal(came, expected):
    for one, other in zip(came, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("obs_type", ["pixels", "latent"])
def test_dreams_are_the_same_under_another_default_dtype(folder, dtype, obs_type, steps):
    expected = dreamt(folder, obs_type, steps)
    with default_dtype(dtype):
        came = dreamt(folder, obs_type, steps)
    assert_equal(came, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_real_frames_are_filtered_the_same_under_another_default_dtype(folder, dtype):
    expected = seen(folder)
    with default_dtype(dtype):
        assert_equal(seen(folder), expected)
