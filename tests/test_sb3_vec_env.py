"""Stable-Baselines3 on any Gymnasium vector environment."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import SyncVectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from baselines import Sb3VecEnv


def make(num_envs=3, horizon=4, **kwargs):
    return gym.make_vec(
        "Real-Dot-v0", num_envs=num_envs, horizon=horizon, autoreset_mode="SameStep", **kwargs
    )


@pytest.mark.parametrize("native", [True, False])
def test_it_does_what_dummy_vec_env_does(native):
    """Observations, rewards, ends and the two keys that Stable-Baselines3 reads."""
    single = [lambda: gym.make("Real-Dot-v0", horizon=4)] * 3
    source = make() if native else SyncVectorEnv(single, autoreset_mode="SameStep")
    ours, theirs = Sb3VecEnv(source), DummyVecEnv(single)
    rng = np.random.default_rng(0)
    for env in (ours, theirs):
        env.seed(11)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    ends = 0
    for _ in range(9):
        actions = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
        obs, reward, over, infos = ours.step(actions)
        other, their_reward, their_over, their_infos = theirs.step(actions)
        np.testing.assert_array_equal(obs, other)
        np.testing.assert_array_equal(reward, their_reward)
        assert reward.dtype == np.float32
        np.testing.assert_array_equal(over, their_over)
        assert len({id(info) for info in infos}) == 3
        for info, their_info in zip(infos, their_infos, strict=True):
            assert data_equivalence(info, their_info)
            ends += "terminal_observation" in info
    assert ends == 6


def test_success_is_not_a_time_limit():
    env = Sb3VecEnv(make(terminate_on_success=True, success_threshold=0.0))
    env.reset()
    *_, over, infos = env.step(np.zeros((3, 3), np.float32))
    assert over.all()
    assert not any(info["TimeLimit.truncated"] for info in infos)


def test_ppo_learns_and_is_evaluated():
    env = VecMonitor(Sb3VecEnv(make(num_envs=4, horizon=8)))
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=32, n_epochs=1, device="cpu", seed=0)
    model.learn(128)
    mean, _ = evaluate_policy(model, env, n_eval_episodes=4)
    assert -8 < mean < 0
    assert len(model.ep_info_buffer) == 16  # 4 environments · 32 steps / 8 a piece


def test_pictures_attributes_and_methods():
    env = Sb3VecEnv(make(render_mode="rgb_array"))
    env.reset()
    assert env.render_mode == "rgb_array"
    assert [picture.shape for picture in env.get_images()] == [(384, 512, 3)] * 3
    assert env.get_attr("task", [0, 2]) == ["Move the disc onto the ring."] * 2
    assert len(env.env_method("get_state", indices=[1])) == 1
    assert env.env_is_wrapped(gym.Wrapper) == [False] * 3
    with pytest.raises(AttributeError):
        env.get_attr("nothing")
    with pytest.raises(ValueError, match="shared by all"):
        env.set_attr("task", "another", indices=[0])


def test_reset_options_and_attributes_are_those_of_dummy_vec_env():
    single = [lambda: gym.make("Real-Dot-v0")] * 2
    ours, theirs = Sb3VecEnv(make(num_envs=2)), DummyVecEnv(single)
    for env in (ours, theirs):
        env.set_options({"state": [20.0, 20.0, 5.0]})
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    for env in (ours, theirs):
        env.seed(4)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())  # options hold for one reset
    assert ours.get_attr("np_random_seed") == theirs.get_attr("np_random_seed") == [4, 5]
    ours.set_options([{"state": [20.0, 20.0, 5.0]}, {}])
    with pytest.raises(ValueError, match="the same options"):
        ours.reset()


def test_another_autoreset_mode_is_refused():
    with pytest.raises(ValueError, match='autoreset_mode="SameStep"'):
        Sb3VecEnv(gym.make_vec("Real-Dot-v0", num_envs=1))


def test_a_single_environment_is_told_how_to_become_many():
    with pytest.raises(TypeError, match=r"expected a VectorEnv: make it with gym\.make_vec"):
        Sb3VecEnv(gym.make("Real-Dot-v0"))
