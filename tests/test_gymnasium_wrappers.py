"""Gymnasium's own wrappers, on the dream and on the real system, against sums made by hand."""

import subprocess
from copy import deepcopy
from functools import partial

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pygame
import pytest
from gymnasium import wrappers
from gymnasium.utils.play import play
from gymnasium.wrappers import vector
from tiny_world import make_world_model

HORIZON = 4


@pytest.fixture(scope="module")
def model():
    return make_world_model()


@pytest.fixture(params=["dream", "real"])
def made(request, model):
    """`gym.make` or `gym.make_vec` of the one or the other, equal for equal arguments."""

    def make(way=gym.make, **kwargs):
        kwargs = {"horizon": HORIZON, **kwargs}
        if request.param == "dream":
            return way("WM-v0", world_model=model, **kwargs)
        return way("Real-PushT-v0", **kwargs)

    return make


def actions_of(env, steps, seed=0):
    space = env.action_space
    return np.random.default_rng(seed).uniform(-1, 1, (steps, *space.shape)).astype(np.float32)


def walk(env, steps):
    """Seeded once; a finished single environment is reset. All that `step` returned."""
    env.reset(seed=3)
    told = []
    for action in actions_of(env, steps):
        told.append(env.step(action))
        *_, terminated, truncated, _ = told[-1]
        if not isinstance(truncated, np.ndarray) and (terminated or truncated):
            env.reset()
    return told


def scale(returns):
    """By what `NormalizeReward` divides: its running deviation begins as 1e-4 samples that are 0
    on average, with variance 1."""
    count = len(returns) + 1e-4
    mean = np.sum(returns) / count
    return np.sqrt((1e-4 + np.square(returns).sum()) / count - mean**2 + 1e-8)


def film_of(folder, name, shape):
    """Its frames, and how many a second."""
    path = str(folder / f"{name}.mp4")
    count, seconds = imageio_ffmpeg.count_frames_and_secs(path)
    decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24"]
    raw = subprocess.run([*decode, "-"], capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(count, *shape).astype(int), count / seconds


def test_record_episode_statistics_sums_the_rewards_of_an_episode(made):
    rewards = [told[1] for told in walk(made(), 2 * HORIZON)]
    infos = [told[4] for told in walk(wrappers.RecordEpisodeStatistics(made()), 2 * HORIZON)]
    ends = [n for n, info in enumerate(infos) if "episode" in info]
    assert ends == [HORIZON - 1, 2 * HORIZON - 1]
    for end in ends:
        assert infos[end]["episode"]["l"] == HORIZON
        expected = sum(rewards[end + 1 - HORIZON : end + 1])
        assert infos[end]["episode"]["r"] == pytest.approx(expected)


def test_frame_stack_shows_the_last_three_frames_and_repeats_the_first(made):
    plain, env = made(), wrappers.FrameStackObservation(made(), 3)
    assert env.observation_space.shape == (3, 96, 96, 3)
    frames = [plain.reset(seed=3)[0]] * 3
    np.testing.assert_array_equal(env.reset(seed=3)[0], frames)
    for action in actions_of(env, HORIZON):
        frames.append(plain.step(action)[0])
        np.testing.assert_array_equal(env.step(action)[0], np.stack(frames[-3:]))
    assert not np.array_equal(frames[-1], frames[0])


def test_normalize_reward_divides_by_the_deviation_of_returns_so_far(made):
    rewards = [told[1] for told in walk(made(), HORIZON)]
    seen = [told[1] for told in walk(wrappers.NormalizeReward(made(), gamma=0.9), HORIZON)]
    returns = []
    for reward, normalised in zip(rewards, seen, strict=True):
        returns.append(0.9 * (returns[-1] if returns else 0.0) + reward)
        assert normalised == pytest.approx(reward / scale(returns))


def test_record_video_films_every_frame_of_an_episode(made, tmp_path):
    folder = tmp_path / "film"
    env = wrappers.RecordVideo(
        made(render_mode="rgb_array"), str(folder), episode_trigger=lambda _: True
    )
    env.reset(seed=3)
    pictures = [env.render()]
    for action in actions_of(env, HORIZON):
        env.step(action)
        pictures.append(env.render())
    env.close()
    film, fps = film_of(folder, "rl-video-episode-0", pictures[0].shape)
    assert fps == pytest.approx(5)
    assert len(film) == HORIZON + 1
    for shown, picture in zip(film, pictures, strict=True):
        assert np.abs(shown - picture).mean() < 8  # mp4 loses a little


MODES = ["NextStep", "SameStep", "Disabled"]


def vector_walk(env, steps):
    """As `walk`; what `autoreset_mode="Disabled"` leaves finished is reset."""
    env.reset(seed=3)
    told = []
    for actions in actions_of(env, steps):
        told.append(deepcopy(env.step(actions)))  # the wrapper goes on changing its mask
        over = told[-1][2] | told[-1][3]
        if env.metadata["autoreset_mode"].value == "Disabled" and over.any():
            env.reset(options={"reset_mask": over})
    return told


@pytest.mark.parametrize("mode", MODES)
def test_vector_record_episode_statistics_counts_each_environment_alone(made, mode):
    """Ends are staggered; the ignored step of NEXT_STEP belongs to no episode."""
    make = partial(made, gym.make_vec, num_envs=2, autoreset_mode=mode, staggered=True)
    env = vector.RecordEpisodeStatistics(make())
    sums, lengths, ended, ends = np.zeros(2), np.zeros(2, int), np.zeros(2, bool), []
    plain, recorded = vector_walk(make(), 2 * HORIZON), vector_walk(env, 2 * HORIZON)
    for (_, reward, terminated, truncated, _), (*_, info) in zip(plain, recorded, strict=True):
        ignored = ended if mode == "NextStep" else np.zeros(2, bool)
        sums, lengths = sums + np.where(ignored, 0, reward), lengths + ~ignored
        ended = terminated | truncated
        assert ("episode" in info) == ended.any()
        for i in np.flatnonzero(ended):
            assert info["_episode"][i]
            assert info["episode"]["l"][i] == lengths[i]
            assert info["episode"]["r"][i] == pytest.approx(sums[i])
            ends.append((int(i), int(lengths[i])))
            sums[i] = lengths[i] = 0
    all_ends = [(1, 2), (0, 4), (1, 4), (0, 4)]
    assert ends == (all_ends[:3] if mode == "NextStep" else all_ends)  # which pays a step each


@pytest.mark.parametrize("mode", MODES[:2])
def test_vector_normalize_reward_divides_all_by_one_deviation(made, mode):
    make = partial(made, gym.make_vec, num_envs=2, autoreset_mode=mode)
    plain = [told[1] for told in vector_walk(make(), HORIZON + 2)]
    env = vector.NormalizeReward(make(), gamma=0.9)
    seen = [told[1] for told in vector_walk(env, HORIZON + 2)]
    returns, every = np.zeros(2), []
    for n, (reward, normalised) in enumerate(zip(plain, seen, strict=True)):
        if mode == "NextStep" and n == HORIZON:
            np.testing.assert_array_equal(normalised, [0, 0])  # the ignored step
            continue
        begun = mode == "SameStep" and n == HORIZON
        returns = reward + 0.9 * (0 if begun else returns)
        every.extend(returns)
        np.testing.assert_allclose(normalised, reward / scale(every), rtol=1e-5)


def test_vector_record_video_films_all_side_by_side(made, tmp_path):
    folder = tmp_path / "film"
    env = vector.RecordVideo(
        made(gym.make_vec, num_envs=2, render_mode="rgb_array"), str(folder),
        video_aspect_ratio=(2, 1), episode_trigger=lambda number: number == 0,
    )  # fmt: skip
    env.reset(seed=3)
    pictures = [np.concatenate(env.render(), axis=1)]
    for actions in actions_of(env, HORIZON):
        env.step(actions)
        pictures.append(np.concatenate(env.render(), axis=1))
    env.step(actions)  # the reset: the film of the first episodes is written
    env.close()
    film, _ = film_of(folder, "rl-video-episode-0", pictures[0].shape)
    assert len(film) == HORIZON + 1
    for shown, picture in zip(film, pictures, strict=True):
        assert np.abs(shown - picture).mean() < 8


def test_vectors_of_wrapped_environments_stack_frames(made):
    """Gymnasium has no vector version of `FrameStackObservation`: it goes around each one."""
    stacked = partial(wrappers.FrameStackObservation, stack_size=2)
    env = made(gym.make_vec, num_envs=2, vectorization_mode="sync", wrappers=[stacked])
    plain = made(gym.make_vec, num_envs=2)
    first, _ = plain.reset(seed=3)
    np.testing.assert_array_equal(env.reset(seed=3)[0], np.stack([first, first], axis=1))
    actions = actions_of(plain, 1)[0]
    second = plain.step(actions)[0]
    shown = env.step(actions)[0]
    np.testing.assert_array_equal(shown[:, 0], first)
    assert np.abs(shown[:, 1].astype(int) - second).max() <= 1  # batches of two and of one round


def test_gymnasium_plays_it_with_keys(made):
    """No key, then D for three steps, then the window is closed."""
    env, plain = made(render_mode="rgb_array", horizon=20), made(horizon=20)
    right, told = np.array([0.5, 0], np.float32), []

    def note(before, after, action, reward, terminated, truncated, info):
        told.append((after, action, reward))
        if len(told) == 1:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=ord("d")))
        if len(told) == 4:
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    play(
        env, keys_to_action={"d": right}, noop=np.zeros(2, np.float32), callback=note, seed=3,
        fps=60,
    )  # fmt: skip
    assert [action.tolist() for _, action, _ in told] == [[0, 0]] + 3 * [[0.5, 0]]
    plain.reset(seed=3)
    for after, action, reward in told:
        obs, expected, *_ = plain.step(action)
        np.testing.assert_array_equal(after, obs)
        assert reward == expected
