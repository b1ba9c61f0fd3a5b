"""Dreams are environments like any other: what Gymnasium, SB3 and the contract ask of them."""

import pickle
import threading
import warnings
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3
from tiny_world import drive, make_world_model

from baselines.sb3_vec_env import Sb3VecEnv
from wm_gym.conformance import check_vector_env
from wm_gym.conformance.autoreset import rule_same_step
from wm_gym.conformance.lives import rule_batch_size
from wm_gym.conformance.surface import rule_outputs, rule_spaces
from wm_gym.data.collect import Recipe, collect_episodes
from wm_gym.envs.dream import DreamEnv
from wm_gym.models.world_model import WorldModel
from wm_gym.systems import system_named

SYSTEMS = ("PushT", "Dot")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folders = {name: tmp_path_factory.mktemp("models") / name for name in SYSTEMS}
    for name, folder in folders.items():
        make_world_model(name).save_pretrained(folder)
    return folders


@pytest.fixture
def single(folders):
    def make(system="PushT", **kwargs):
        return gym.make("WM-v0", **{"world_model": folders[system], **kwargs})

    return make


@pytest.fixture
def vector(folders):
    def make(num_envs, mode=AutoresetMode.NEXT_STEP, system="PushT", **kwargs):
        kwargs = {"world_model": folders[system], "autoreset_mode": mode, **kwargs}
        return gym.make_vec("WM-v0", num_envs=num_envs, **kwargs)

    return make


def actions(steps, *shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, *shape)).astype(np.float32)


def rollout(env, acts, **reset):
    """Observations and infos from the reset on, and rewards."""
    obs, info = env.reset(**reset)
    frames, rewards, infos = [obs], [], [info]
    for action in acts:
        obs, reward, _, _, info = env.step(action)
        frames.append(obs)
        rewards.append(reward)
        infos.append(info)
    return np.stack(frames), np.array(rewards), infos


def assert_equal_rollouts(came, expected):
    np.testing.assert_array_equal(came[0], expected[0])
    np.testing.assert_array_equal(came[1], expected[1])


# What others ask


@pytest.mark.parametrize("system", SYSTEMS)
def test_gymnasium_accepts_it(folders, system):
    env = gym.make("wm_gym:WM-v0", world_model=folders[system])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*render.*", category=UserWarning)
        check_env(env.unwrapped)
    record = system_named(system)
    assert env.observation_space == record.observation_space
    assert env.action_space == record.action_space


def test_gymnasium_accepts_its_pictures(single):
    check_env(single(render_mode="rgb_array").unwrapped)


def test_sb3_accepts_it(single):
    check_env_for_sb3(single(render_mode="rgb_array"))


@pytest.mark.parametrize("mode", AutoresetMode)
def test_vectors_equal_single_dreams_bit_for_bit(folders, single, vector, mode, unchecked_types):
    model = WorldModel.from_pretrained(folders["PushT"])  # once, for dozens of environments
    how = {"world_model": model, "horizon": 7, "deterministic": True}

    def make(num_envs, mode):
        return vector(num_envs, mode, **how)

    def make_single():
        return single(**how).unwrapped

    check_vector_env(make, make_single=make_single, modes=[mode], num_envs=3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_without_deterministic_they_agree_within_a_tolerance_over_ten_steps(single, vector, dtype):
    """In float32 one colour value in a thousand may round the other way; in bf16 the eighth binary
    digit is the last."""
    acts = actions(10, 5, 2)
    together = rollout(vector(5, dtype=dtype), acts, seed=3)
    for i in range(5):
        alone = rollout(single(dtype=dtype), acts[:, i], seed=3 + i)
        apart = np.abs(together[0][:, i].astype(int) - alone[0])
        assert apart.max() <= (1 if dtype == "float32" else 16)
        np.testing.assert_allclose(
            together[1][:, i], alone[1], atol=1e-4 if dtype == "float32" else 2e-2
        )


def test_a_context_of_96_frames_and_other_sizes_need_no_new_code(vector, unchecked_types):
    check_vector_env(
        lambda n, mode: vector(n, mode, system="Dot", horizon=3, deterministic=True),
        modes=[AutoresetMode.SAME_STEP], num_envs=2, max_steps=5,
        rules=[rule_spaces, rule_outputs, rule_same_step, rule_batch_size],
    )  # fmt: skip


def test_stable_baselines3_trains_in_it(vector):
    env = Sb3VecEnv(vector(4, AutoresetMode.SAME_STEP, horizon=5))
    PPO("CnnPolicy", env, n_steps=8, batch_size=16, n_epochs=1, device="cpu", seed=0).learn(64)
    env.reset()
    for _ in range(5):
        obs, reward, over, infos = env.step(np.zeros((4, 2), np.float32))
    assert over.all()
    assert reward.dtype == np.float32
    assert all(info["TimeLimit.truncated"] for info in infos)
    assert all(
        (info["terminal_observation"] != o).any() for info, o in zip(infos, obs, strict=True)
    )


# Noise


@pytest.mark.parametrize("num_envs", [1, 2, 9])
def test_what_is_dreamt_depends_on_seed_episode_and_step_alone(vector, num_envs):
    """Not on how many dream beside, what they do, or how long earlier episodes were."""
    acts = actions(12, 9, 2)
    mine = rollout(vector(9, horizon=4, deterministic=True), acts, seed=5)
    acts[:, 1:] = 0
    other = vector(num_envs, horizon=4, deterministic=True)
    came = rollout(other, acts[:, :num_envs], seed=5)
    assert_equal_rollouts([came[0][:, 0], came[1][:, 0]], [mine[0][:, 0], mine[1][:, 0]])


def test_another_seed_or_episode_dreams_otherwise(single):
    env, acts = single(deterministic=True), actions(3, 2)
    given = {"frames": env.reset(seed=0)[0][None]}
    first = rollout(env, acts, seed=1, options=given)
    assert_equal_rollouts(rollout(env, acts, seed=1, options=given), first)
    for other in ({"seed": 2}, {}):
        assert (rollout(env, acts, options=given, **other)[1] != first[1]).all()


def test_given_frames_cost_no_random_numbers(single):
    """The episode after one from given frames is what it would have been."""
    env, acts = single(deterministic=True), actions(2, 2)
    frame = env.reset(seed=0)[0][None]
    expected = rollout(env, acts)
    env.reset(seed=0, options={"frames": frame})
    assert_equal_rollouts(rollout(env, acts), expected)


def test_the_global_generators_are_untouched(vector):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    rollout(vector(3), actions(3, 3, 2))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


# Starts


def test_it_begins_from_given_frames(single):
    env, system = single(), system_named("PushT")
    start = drive(system, 5, np.random.default_rng(0))
    obs, info = env.reset(options={"frames": start.frames, "actions": start.action})
    np.testing.assert_array_equal(obs, start.frames[-1])
    assert info["uncertainty"] == 0
    model = env.unwrapped._episodes.world.model
    latents, action, _ = env.get_wrapper_attr("get_state")().world.state
    expected = model.global_model.encode(torch.from_numpy(start.frames[-4:])).numpy()
    np.testing.assert_allclose(latents, expected, atol=2e-2)
    np.testing.assert_array_equal(action, start.action[-3:])


def test_fewer_frames_than_the_context_stood_still_before(single):
    env, system = single(deterministic=True), system_named("PushT")
    start = drive(system, 1, np.random.default_rng(0))
    env.reset(options={"frames": start.frames, "actions": start.action})
    latents, action, _ = env.get_wrapper_attr("get_state")().world.state
    np.testing.assert_array_equal(latents[:2], latents[[0, 0]])
    assert (latents[2] == latents[0]).all()
    assert (latents[3] != latents[0]).any()
    np.testing.assert_array_equal(action[:2], np.zeros((2, 2)))
    np.testing.assert_array_equal(action[2:], start.action)


def test_each_environment_can_be_given_its_own_frames(vector):
    env, rng = vector(3), np.random.default_rng(0)
    starts = [drive(system_named("PushT"), 2, rng) for _ in range(3)]
    options = {
        "frames": np.stack([s.frames for s in starts]),
        "actions": np.stack([s.action for s in starts]),
    }
    obs, _ = env.reset(options=options)
    np.testing.assert_array_equal(obs, options["frames"][:, -1])
    obs, _ = env.reset(options={"frames": options["frames"][:, :1]})
    np.testing.assert_array_equal(obs, options["frames"][:, 0])


def test_packaged_starts_are_real_and_differ(vector, folders):
    obs, _ = vector(16).reset(seed=0)
    assert 1 < len(np.unique(obs.reshape(16, -1), axis=0)) <= 4
    starts = make_world_model().starts
    last = np.stack([starts[i].frames[-1] for i in range(len(starts))])
    assert all((frame == last).all((1, 2, 3)).any() for frame in obs)


def test_it_can_begin_from_all_logged_frames(single, tmp_path):
    recipe = Recipe(episodes=3, steps=6)
    list(collect_episodes(recipe, tmp_path / "data", workers=1))
    env = single(starts=tmp_path / "data")
    source = env.unwrapped._episodes.world._starts
    assert len(source) == 21
    assert [len(source[i].frames) for i in (0, 1, 6, 7, 13, 14)] == [1, 2, 4, 1, 4, 1]
    dataset = source.dataset
    np.testing.assert_array_equal(source[9].frames, dataset.frames([7, 8, 9]))
    np.testing.assert_array_equal(source[9].action, dataset.action[[7, 8]])
    rollout(env, actions(3, 2), seed=0)


# State


def test_a_snapshot_has_one_future(single):
    env, acts = single(deterministic=True), actions(6, 2)
    rollout(env, acts[:3], seed=0)
    state = pickle.loads(pickle.dumps(env.get_wrapper_attr("get_state")()))
    future = [env.step(a) for a in acts[3:]]
    for other in (env, single(deterministic=True)):
        other.get_wrapper_attr("set_state")(state)
        for action, expected in zip(acts[3:], future, strict=False):
            # through the wrappers a fresh environment asks for a reset first
            came = other.unwrapped.step(action)
            np.testing.assert_array_equal(came[0], expected[0])
            assert came[1:4] == expected[1:4]


def test_a_single_dream_branches_into_many(single, vector):
    env, many, acts = single(deterministic=True), vector(3, deterministic=True), actions(4, 2)
    rollout(env, acts[:2], seed=4)
    many.reset(seed=0)
    many.set_state([env.get_wrapper_attr("get_state")()] * 3)
    for action in acts[2:]:
        expected = env.step(action)
        came = many.step(np.stack([action] * 3))
        for i in range(3):
            np.testing.assert_array_equal(came[0][i], expected[0])


def test_what_a_dream_returned_stays_what_it_was(vector):
    env, acts = vector(3), actions(4, 3, 2)
    env.reset(seed=0)
    first = env.step(acts[0])
    obs, reward = first[0].copy(), first[1].copy()
    state = pickle.dumps(env.get_state())
    for action in acts[1:]:
        env.step(action)
    env.reset(options={"reset_mask": np.array([True, False, True])})
    np.testing.assert_array_equal(first[0], obs)
    np.testing.assert_array_equal(first[1], reward)
    env.set_state(pickle.loads(state))
    assert pickle.dumps(env.get_state()) == state


def test_info_holds_numbers_that_everybody_can_read(single, vector):
    env = single()
    env.reset(seed=0)
    info = env.step(np.zeros(2, np.float32))[4]
    assert {name: type(value) for name, value in info.items()} == {
        "progress": float, "best_progress": float, "is_success": bool, "uncertainty": float,
        "coverage": float, "best_coverage": float, "task": int,
    }  # fmt: skip
    many = vector(2)
    many.reset(seed=0)
    for value in many.step(np.zeros((2, 2), np.float32))[4].values():
        assert isinstance(value, np.ndarray)


def test_the_expected_error_grows_until_the_next_real_frame(single):
    env = single()
    _, _, infos = rollout(env, actions(5, 2), seed=0)
    doubt = [info["uncertainty"] for info in infos]
    assert doubt[0] == 0
    assert all(b > a for a, b in pairwise(doubt))
    assert env.reset()[1]["uncertainty"] == 0


# Many at once


def test_two_threads_dream_as_one_would(vector):
    acts = actions(8, 4, 2)
    expected = [rollout(vector(4, deterministic=True), acts, seed=s) for s in (0, 100)]
    envs, came = [vector(4, deterministic=True) for _ in range(2)], [None, None]

    def work(i):
        came[i] = rollout(envs[i], acts, seed=100 * i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, one in zip(came, expected, strict=True):
        assert_equal_rollouts(mine, one)


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_dream_as_this_process_does(folders, single, context):
    folder, acts = str(folders["PushT"]), actions(4, 2, 2)
    acts = acts if context == "fork" else acts[:, :1]  # a spawned worker imports all anew
    each = range(acts.shape[1])
    expected = [rollout(single(deterministic=True), acts[:, i], seed=7 + i) for i in each]
    workers = AsyncVectorEnv([_Worker(folder) for _ in each], context=context)
    try:
        came = rollout(workers, acts, seed=7)
    finally:
        workers.close()
    for i in each:
        np.testing.assert_array_equal(came[0][:, i], expected[i][0])


class _Worker:
    """Picklable, for spawned processes."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self):
        return DreamEnv(self.folder, deterministic=True)


# The rest of the contract


def test_more_denoising_steps_dream_otherwise_but_finitely(single):
    acts = actions(3, 2)
    one, three = (rollout(single(denoising_steps=n), acts, seed=0) for n in (1, 3))
    assert (one[1] != three[1]).any()
    assert np.isfinite(three[1]).all()


def test_the_horizon_counts_in_the_base_environment(single, vector):
    env = single(horizon=3)
    env.reset(seed=0)
    truncated = [env.step(np.zeros(2, np.float32))[3] for _ in range(3)]
    assert truncated == [False, False, True]
    assert env.get_wrapper_attr("_max_episode_steps") == 3
    assert vector(2, max_episode_steps=4)._max_episode_steps == 4


def test_pictures_are_enlarged_frames(single):
    env = single(render_mode="rgb_array")
    obs, _ = env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (480, 480, 3)
    np.testing.assert_array_equal(picture[::5, ::5], obs)
