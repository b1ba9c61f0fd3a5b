"""Staggered vector environments: first episodes end one after another, and all else is as ever."""

import gymnasium as gym
import numpy as np
import pytest
from tiny_world import make_world_model

HORIZON, ENVS = 6, 4
FIRST_ENDS = [6, 5, 3, 2]
"""6 − i · 6 // 4"""


@pytest.fixture(params=["real", "dream"])
def make(request):
    def real(**kwargs):
        return gym.make_vec("Real-Dot-v0", num_envs=ENVS, horizon=HORIZON, **kwargs)

    def dream(**kwargs):
        model = make_world_model("Dot")
        return gym.make_vec("WM-v0", world_model=model, num_envs=ENVS, horizon=HORIZON, **kwargs)

    return real if request.param == "real" else dream


def ends(env, steps):
    """The steps, from 1, in which each environment's episodes ended."""
    still = np.zeros(env.action_space.shape, np.float32)
    over = np.stack([env.step(still)[3] for _ in range(steps)])
    return [(1 + np.flatnonzero(column)).tolist() for column in over.T]


def test_first_episodes_end_one_after_another_and_later_ones_have_their_full_length(make):
    env = make(autoreset_mode="SameStep", staggered=True)
    env.reset(seed=0)
    assert ends(env, 14) == [[e for e in (f, f + 6, f + 12) if e <= 14] for f in FIRST_ENDS]
    env.reset()
    assert [each[0] for each in ends(env, 6)] == FIRST_ENDS
    env = make(autoreset_mode="NextStep", staggered=True)
    env.reset(seed=0)
    assert ends(env, 12) == [[e for e in (f, f + 7) if e <= 12] for f in FIRST_ENDS]


def test_only_a_reset_of_all_at_once_staggers(make):
    env = make(autoreset_mode="Disabled", staggered=True)
    env.reset(seed=0)
    env.reset(options={"reset_mask": np.array([False, False, False, True])})
    assert [state.elapsed for state in env.get_state()] == [0, 1, 3, 0]
    env.reset(options={"reset_mask": np.ones(ENVS, bool)})
    assert [state.elapsed for state in env.get_state()] == [0, 1, 3, 4]
    plain = make(autoreset_mode="Disabled")
    plain.reset(seed=0)
    assert [state.elapsed for state in plain.get_state()] == [0] * ENVS


def test_nothing_but_the_clock_is_different(make):
    staggered, plain = (make(autoreset_mode="Disabled", staggered=how) for how in (True, False))
    rng = np.random.default_rng(0)
    (obs, info), (other, expected) = (env.reset(seed=5) for env in (staggered, plain))
    for _ in range(min(FIRST_ENDS)):
        np.testing.assert_array_equal(obs, other)
        assert info.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(info[name], values)
        action = rng.uniform(-1, 1, plain.action_space.shape).astype(np.float32)
        (obs, reward, *_, info), (other, same, *_, expected) = (
            env.step(action) for env in (staggered, plain)
        )
        np.testing.assert_array_equal(reward, same)
    for mine, its in zip(staggered.get_state(), plain.get_state(), strict=True):
        assert mine.rng.bit_generator.state == its.rng.bit_generator.state


def test_a_start_is_no_success_whatever_the_clock_says(make):
    env = make(staggered=True, success_threshold=0.0)
    _, info = env.reset(seed=0)
    assert (info["coverage"] > 0).all()
    assert not info["is_success"].any()
    _, _, _, _, info = env.step(np.zeros(env.action_space.shape, np.float32))
    assert info["is_success"].all()


def test_a_snapshot_keeps_the_clock(make):
    env = make(autoreset_mode="SameStep", staggered=True)
    env.reset(seed=0)
    begun = env.get_state()
    expected = ends(env, 8)
    env.set_state(begun)
    assert ends(env, 8) == expected
    plain = make(autoreset_mode="SameStep")
    plain.set_state(begun)
    assert ends(plain, 8) == expected
    assert not plain.staggered


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_clocks_stay_below_any_horizon(horizon):
    env = gym.make_vec("Real-Dot-v0", num_envs=7, horizon=horizon, staggered=True)
    env.reset(seed=0)
    elapsed = [state.elapsed for state in env.get_state()]
    assert elapsed == [i * horizon // 7 for i in range(7)]
    assert max(elapsed) < horizon


def test_other_than_true_or_false_is_refused(make, unchecked_types):
    with pytest.raises(ValueError, match="staggered is 'no', expected True or False"):
        make(staggered="no")
