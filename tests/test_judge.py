"""Exams count whole episodes and nothing else; verdicts and curves are what arithmetic says."""

from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from tiny_world import make_world_model

from baselines import Sb3VecEnv
from wm_gym.evaluation.judge import (
    Episodes,
    Policy,
    examine,
    first_frames,
    joined,
    rounds,
    samples_to,
    verdict,
)
from wm_gym.evaluation.statistics import average, crossed_interval, interquartile_mean, mean, share
from wm_gym.systems import DOT


class Still:
    def __init__(self, action_size):
        self.action_size = action_size

    def predict(self, obs, state=None, episode_start=None, deterministic=False):
        assert deterministic
        return np.zeros((len(obs), self.action_size), np.float32), None


class Counting:
    """Remembers how long each episode has been, and turns to and fro; looks at the picture too."""

    def predict(self, obs, state=None, episode_start=None, deterministic=False):
        clock = np.where(episode_start, 0, 0 if state is None else state[0] + 1)
        seen = obs[:, ::5, ::5].mean((1, 2)) / 255
        action = np.sin(clock[:, None] + 3 * seen + np.arange(3))
        return action.astype(np.float32), (clock,)


def dots(num_envs, mode="Disabled", **kwargs):
    return gym.make_vec("Real-Dot-v0", num_envs=num_envs, autoreset_mode=mode, **kwargs)


def by_hand(policy, episodes, seed, **kwargs):
    """Each episode for itself, in a single environment."""
    env, played = gym.make("Real-Dot-v0", **kwargs), []
    for j in range(episodes):
        obs, _ = env.reset(seed=seed + j)
        state, begins, over, total, length = None, np.array([True]), False, 0.0, 0
        while not over:
            action, state = policy.predict(obs[None], state, begins)
            obs, reward, terminated, truncated, info = env.step(action[0])
            begins, over = np.array([False]), terminated or truncated
            total, length = total + reward, length + 1
        played.append((total, info["best_coverage"], info["coverage"], length))
    return np.array(played)


def table(played):
    return np.stack([played.returns, played.best, played.final, played.length], axis=1)


def episodes_of(best, final=None):
    best = np.asarray(best, np.float64)
    final = best if final is None else np.asarray(final, np.float64)
    return Episodes(returns=-best, best=best, final=final, length=np.ones(len(best), np.int64))


# Exams


def test_who_does_nothing_ends_where_it_began():
    tables = []
    for num_envs in (3, 5):
        env = gym.make_vec("Real-PushT-v0", num_envs=num_envs, horizon=12)
        played = examine(Still(2), env, episodes=7, seed=40)
        tables.append(table(played))
        starts = gym.make_vec("Real-PushT-v0", num_envs=7)
        _, info = starts.reset(seed=40)
        np.testing.assert_array_equal(played.final, info["coverage"])
        np.testing.assert_array_equal(played.best, info["coverage"])
        assert info["coverage"].max() > 0.1  # of nothing there is nothing to lose
        np.testing.assert_array_equal(played.length, 12)
        assert (played.returns < 0).all()
        assert len(np.unique(played.returns)) == 7
    np.testing.assert_array_equal(*tables)


@pytest.mark.parametrize("mode", [mode.value for mode in AutoresetMode])
@pytest.mark.parametrize("terminate", [False, True])
def test_batches_and_modes_of_reset_make_no_difference(mode, terminate):
    rules = {"horizon": 9, "terminate_on_success": terminate, "success_threshold": 0.2}
    expected = by_hand(Counting(), 7, 10, **rules)
    assert (len(np.unique(expected[:, 3])) > 1) == terminate
    for num_envs in (3, 5):
        env = dots(num_envs, mode, **rules)
        for _ in range(2):  # an environment that was used before is no other
            played = examine(Counting(), env, episodes=7, seed=10)
            np.testing.assert_allclose(table(played), expected, rtol=1e-12)


@pytest.mark.parametrize("mode", [mode.value for mode in AutoresetMode])
def test_an_episode_is_solved_where_success_lasts(mode):
    """For as many steps in a row as the system says; the last step of an episode counts."""
    rules = {"horizon": 9, "success_threshold": 0.05}
    streaks = []
    env = gym.make("Real-Dot-v0", **rules)
    for j in range(12):
        obs, _ = env.reset(seed=30 + j)
        state, begins, over, streak, longest = None, np.array([True]), False, 0, 0
        while not over:
            action, state = Counting().predict(obs[None], state, begins)
            obs, _, terminated, truncated, info = env.step(action[0])
            begins, over = np.array([False]), terminated or truncated
            streak = streak + 1 if info["is_success"] else 0
            longest = max(longest, streak)
        streaks.append(longest)
    needed = int(np.median([each for each in streaks if each])) + 1
    expected = np.array(streaks) >= needed
    assert 0 < expected.sum() < (np.array(streaks) > 0).sum()
    envs = dots(5, mode, **rules)
    envs.unwrapped.system = replace(DOT, solved_for=needed)
    played = examine(Counting(), envs, episodes=12, seed=30)
    np.testing.assert_array_equal(played.solved, expected)
    np.testing.assert_array_equal(played.first(5).solved, expected[:5])
    assert joined([episodes_of([0.1]), played]).solved is None  # one of them does not know


def test_gymnasium_s_own_vectors_are_examined_too():
    envs = SyncVectorEnv([lambda: gym.make("Real-Dot-v0", horizon=6)] * 2)
    played = examine(Counting(), envs, episodes=3, seed=2)
    np.testing.assert_allclose(table(played), by_hand(Counting(), 3, 2, horizon=6), rtol=1e-12)


def test_stable_baselines_counts_the_same_returns():
    envs = Sb3VecEnv(dots(3, "SameStep", horizon=8))
    agent = PPO("MlpPolicy", envs, n_steps=8, batch_size=24, seed=0)
    assert isinstance(agent, Policy)
    envs.seed(5)
    with pytest.warns(UserWarning, match="not wrapped with a ``Monitor``"):
        returns, lengths = evaluate_policy(
            agent, envs, n_eval_episodes=3, return_episode_rewards=True
        )
    played = examine(agent, dots(3, horizon=8), episodes=3, seed=5)
    np.testing.assert_allclose(played.returns, returns, rtol=1e-5)
    assert played.length.tolist() == lengths


def test_where_nobody_knows_the_coverage_returns_are_counted_all_the_same():
    envs = SyncVectorEnv([lambda: gym.make("Pendulum-v1", max_episode_steps=4)] * 2)
    played = examine(Still(1), envs, episodes=3, seed=5)
    assert (played.returns < 0).all()
    assert np.isnan([*played.best, *played.final]).all()
    assert played.length.tolist() == [4, 4, 4]


def test_rounds_tell_of_progress():
    sizes = [len(each) for each in rounds(Still(3), dots(3, horizon=2), episodes=8, seed=0)]
    assert sizes == [3, 3, 2]


def test_a_recurrent_policy_is_told_where_episodes_begin():
    told = []

    class Asking(Still):
        def predict(self, obs, state=None, episode_start=None, deterministic=False):
            told.append((state, episode_start.tolist()))
            action, _ = super().predict(obs, deterministic=deterministic)
            return action, len(told)

    examine(Asking(3), dots(2, horizon=2), episodes=3, seed=0)
    both, none = [True, True], [False, False]
    assert told == [(None, both), (1, none), (None, both), (3, none)]


def test_dreams_begin_from_what_the_real_system_shows():
    seen = []

    class Watching(Still):
        def predict(self, obs, state=None, episode_start=None, deterministic=False):
            if episode_start.all():
                seen.extend(obs)
            return super().predict(obs, deterministic=deterministic)

    dream = gym.make_vec("WM-v0", world_model=make_world_model("Dot"), num_envs=2, horizon=3)
    examine(Watching(3), dream, episodes=3, seed=8, starts=first_frames(dots(2)))
    real, _ = dots(4).reset(seed=8)
    np.testing.assert_array_equal(np.stack(seen), real)


def test_what_would_bias_an_exam_is_refused():
    with pytest.raises(ValueError, match="staggered"):
        examine(Still(3), dots(2, staggered=True), episodes=2, seed=0)
    with pytest.raises(ValueError, match="episodes is 0"):
        examine(Still(3), dots(2), episodes=0, seed=0)


# Verdicts


def test_the_interquartile_mean_is_that_of_the_middle_half():
    assert interquartile_mean(np.arange(100.0)) == 49.5
    assert interquartile_mean(np.array([-1e9, 2.0, 4.0, 1e9])) == 3
    assert interquartile_mean(np.array([1.0, 2.0, 9.0])) == 4  # ⌊3/4⌋ = 0 are cut
    values = np.random.default_rng(0).permutation(np.arange(200.0)).reshape(2, 100)
    assert interquartile_mean(values)[1] == np.sort(values[1])[25:75].mean()


def test_intervals_over_runs_and_starts_cover_the_truth_about_as_often_as_they_say():
    rng, hits = np.random.default_rng(0), []
    for _ in range(150):
        runs, starts = rng.normal(size=(12, 1)), 2 * rng.normal(size=(1, 30))
        found = crossed_interval(runs + starts + rng.normal(size=(12, 30)), mean, seed=0)
        hits.append(found.low <= 0 <= found.high)
    assert 0.88 < np.mean(hits) < 0.99


def test_runs_do_not_average_out_what_all_of_them_find_hard():
    one = np.random.default_rng(0).normal(size=(1, 50))
    alone = crossed_interval(one, mean, seed=3)
    assert alone == average(one[0], seed=3).mean
    copied = crossed_interval(one.repeat(5, axis=0), mean, seed=3)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))
    different = np.array([0.1, 0.5, 0.6])[:, None].repeat(50, axis=1)
    found = crossed_interval(different, interquartile_mean, seed=0)
    assert (found.low, found.high) == pytest.approx((0.1, 0.6))  # from the worst to the best


def test_a_verdict_is_over_all_episodes_of_all_runs():
    @dataclass
    class Record:  # as read from a file
        best: list[float]
        final: list[float]

    best = [[0.1, 0.85, 0.92, 0.99], [0.7, 0.8, 0.93, 0.97]]
    final = [[0.0, 0.5, 0.5, 0.9], [0.1, 0.4, 0.6, 0.9]]
    runs = [Record(*each) for each in zip(best, final, strict=True)]
    found = verdict(runs, seed=0)
    assert found.best.value == pytest.approx(np.mean([0.8, 0.85, 0.92, 0.93]))
    assert found.final.value == pytest.approx(np.mean([0.4, 0.5, 0.5, 0.6]))
    assert found.mean_best.value == pytest.approx(np.mean(best))
    shares = {threshold: each.value for threshold, each in found.success.items()}
    assert shares == {0.80: 5 / 8, 0.90: 4 / 8, 0.95: 2 / 8}  # 0.8 itself is not above
    assert (found.runs, found.episodes) == (2, 4)
    assert found == verdict([episodes_of(*each) for each in zip(best, final, strict=True)], seed=0)
    alone = verdict(runs[:1], seed=4)
    assert alone.success[0.9] == share(np.array(best[0]) > 0.9, seed=4)
    for each in (found.best, found.final, found.mean_best, *found.success.values()):
        assert each.low <= each.value <= each.high
    with pytest.raises(ValueError, match=r"have \[2, 4\] episodes"):
        verdict([runs[0], episodes_of([0.1, 0.2])], seed=0)


# Learning curves


def test_a_straight_curve_is_crossed_where_it_is_crossed():
    samples = [0.0, 10.0, 30.0, 40.0, 100.0]
    for threshold in (0.06, 0.2, 0.33, 0.69):
        assert samples_to(samples, [x / 100 for x in samples], threshold) == pytest.approx(
            100 * threshold
        )


def test_one_lucky_exam_is_not_enough():
    samples = [1, 2, 3, 4, 5]
    assert samples_to(samples, [0.1, 0.1, 0.7, 0.1, 0.1], 0.5) is None
    # means of two are 0.1, 0.4, 0.65 and 0.4, at 1.5, 2.5, 3.5 and 4.5
    assert samples_to(samples, [0.1, 0.1, 0.7, 0.6, 0.2], 0.5) == pytest.approx(2.5 + 0.1 / 0.25)
    assert samples_to(samples, [0.8, 0.9, 0.7, 0.6, 0.2], 0.5) == 1.5
    assert samples_to(samples, [0.5, 0.5, 0.5, 0.5, 0.5], 0.5) == 1.5


def test_a_curve_that_never_arrives_says_so():
    assert samples_to([1, 2, 3], [0.1, 0.2, 0.3], 0.5) is None
    assert samples_to([1], [0.9], 0.5) is None
    assert samples_to([], [], 0.5) is None
    with pytest.raises(ValueError, match="2 numbers of samples for 1 exams"):
        samples_to([1, 2], [0.1], 0.5)
    with pytest.raises(ValueError, match="growing"):
        samples_to([1, 1], [0.1, 0.2], 0.5)
