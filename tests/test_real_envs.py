"""Every real system behind the Gymnasium shells, single and vector."""

import dataclasses
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

from wm_gym.conformance import check_vector_env
from wm_gym.systems import DOT, system_named

PUSH_CUBE = pytest.param("Real-PushCube-v0", marks=pytest.mark.mujoco)
IDS = ["Real-PushT-v0", "Real-GymPushT-v0", "Real-Dot-v0", PUSH_CUBE]
OWN_IDS = ["Real-PushT-v0", "Real-Dot-v0", PUSH_CUBE]
MODES = list(AutoresetMode)


def system_of(env_id):
    return system_named(gym.spec(env_id).kwargs["system"])


def actions_for(env_id, *shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (*shape, system_of(env_id).action_size)).astype(np.float32)


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_and_sb3_accept_it(env_id):
    check_env(gym.make(env_id, render_mode="rgb_array").unwrapped)
    check_env_for_sb3(gym.make(env_id))


@pytest.mark.parametrize("env_id", IDS)
def test_its_record_describes_it(env_id):
    env, system = gym.make(env_id), system_of(env_id)
    obs, info = env.reset(seed=0)
    assert obs.shape == system.frame_shape == env.observation_space.shape
    assert env.action_space == gym.spaces.Box(-1, 1, (system.action_size,), np.float32)
    assert env.metadata["render_fps"] == system.fps
    assert info["state"].shape == (len(system.state_names),)
    assert set(info) == {
        "progress", "best_progress", "coverage", "best_coverage", "is_success", "task", "state",
        "contact",
    }  # fmt: skip
    assert env.unwrapped.task_description == system.tasks[0].description
    assert env.get_wrapper_attr("_max_episode_steps") == system.horizon
    assert env.spec.max_episode_steps is None  # a TimeLimit would hide the gradient hook


@pytest.mark.parametrize("env_id", OWN_IDS)
def test_info_tells_coverage_best_and_success_of_the_system(env_id):
    env, system = gym.make(env_id, success_threshold=0.3), system_of(env_id)
    _, info = env.reset(seed=3)
    best = info["coverage"]
    assert not info["is_success"]
    for action in actions_for(env_id, 60):
        before = info["state"]
        _, reward, _, _, info = env.step(action)
        best = max(best, info["coverage"])
        assert info["coverage"] == pytest.approx(float(system.coverage(info["state"])))
        assert info["best_coverage"] == best
        assert (info["progress"], info["best_progress"]) == (info["coverage"], best)
        assert info["task"] == 0
        assert info["is_success"] is (info["coverage"] > 0.3)
        assert reward == float(system.reward(before, action, info["state"]))


@pytest.mark.parametrize("env_id", IDS)
def test_the_horizon_truncates_and_stepping_on_is_refused(env_id):
    env = gym.make(env_id, horizon=3)
    env.reset(seed=0)
    flags = [env.step(action)[2:4] for action in actions_for(env_id, 3)]
    assert flags == [(False, False), (False, False), (False, True)]
    with pytest.raises(gym.error.ResetNeeded, match="over"):
        env.step(actions_for(env_id))
    env.reset()
    env.step(actions_for(env_id))


@pytest.mark.parametrize("terminate", [False, True])
def test_success_ends_an_episode_only_if_asked(terminate):
    env = gym.make("Real-PushT-v0", terminate_on_success=terminate)
    goal = [400.0, 100, 256, 256, np.pi / 4, 0, 0]
    _, info = env.reset(options={"state": goal})
    assert info["coverage"] > 0.999
    assert not info["is_success"]  # nothing has succeeded before the first step
    _, _, terminated, truncated, info = env.step(np.zeros(2))
    assert (terminated, truncated, info["is_success"]) == (terminate, False, True)


@pytest.mark.parametrize("env_id", IDS)
def test_equal_seeds_equal_episodes_other_seeds_others(env_id):
    env = gym.make(env_id)

    def episode(seed):
        obs, _ = env.reset(seed=seed)
        steps = [env.step(action) for action in actions_for(env_id, 5)]
        return np.stack([obs, *(step[0] for step in steps)]), [step[1] for step in steps]

    (first, rewards), (again, same), (other, _) = (episode(seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert rewards == same
    assert (first != other).any()
    second_start, _ = env.reset()
    assert (second_start != first[0]).any()


@pytest.mark.parametrize("env_id", IDS)
def test_a_snapshot_branches_and_repeats(env_id):
    env = gym.make(env_id).unwrapped
    env.reset(seed=1)
    for action in actions_for(env_id, 8):
        env.step(action)
    state = pickle.loads(pickle.dumps(env.get_state()))
    other = gym.make(env_id).unwrapped

    def future(env):
        env.set_state(state)
        steps = [env.step(action) for action in actions_for(env_id, 8, seed=1)]
        start, _ = env.reset()
        return [(s[0].tobytes(), s[1], s[4]["best_coverage"]) for s in steps], start.tobytes()

    assert future(env) == future(env) == future(other)


def test_a_snapshot_remembers_the_clock_and_the_best():
    env = gym.make("Real-Dot-v0", horizon=5).unwrapped
    env.reset(seed=0, options={"state": [44.0, 16, 9]})
    for _ in range(3):
        env.step(np.ones(3))
    state, best = env.get_state(), env.get_state().best_progress
    env.reset()
    env.set_state(state)
    flags = [env.step(np.ones(3))[3] for _ in range(2)]
    assert flags == [False, True]
    assert env.get_state().best_progress == best == 1.0


@pytest.mark.parametrize("env_id", IDS)
def test_pictures_for_people(env_id):
    env = gym.make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.shape[0] >= 384
    assert picture.shape[2] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) >= 3


def test_a_window_opens_shows_and_closes():
    pygame = pytest.importorskip("pygame")
    env = gym.make("Real-PushT-v0", render_mode="human")
    env.reset(seed=0)
    env.step(np.array([1.0, 0.0]))
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    np.testing.assert_array_equal(shown, env.unwrapped._episodes.world.picture(0))
    env.close()
    env.close()
    assert not pygame.display.get_init()


@pytest.mark.parametrize("env_id", OWN_IDS)
@pytest.mark.parametrize("mode", MODES)
def test_the_vector_is_its_singles(env_id, mode):
    """Observation for observation, key for key, in each autoreset mode, with staggered ends."""
    horizon = 6
    ours = gym.make_vec(env_id, num_envs=3, horizon=horizon, autoreset_mode=mode)
    theirs = SyncVectorEnv([lambda: gym.make(env_id, horizon=horizon)] * 3, autoreset_mode=mode)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert_same(ours.reset(seed=7), theirs.reset(seed=7))
    for t, action in enumerate(actions_for(env_id, 20, 3)):
        step = ours.step(action)
        assert_same(step, theirs.step(action))
        over = step[2] | step[3]
        if t == 2:
            over[1] = True  # one is reset early, so that ends are staggered from here on
        if (mode is AutoresetMode.DISABLED and over.any()) or t == 2:
            mask = over if mode is AutoresetMode.DISABLED else np.array([False, True, False])
            pair = [env.reset(options={"reset_mask": mask.copy()}) for env in (ours, theirs)]
            assert_same(*pair)


def assert_same(ours, theirs):
    assert data_equivalence(tuple(ours), tuple(theirs), exact=True)


@pytest.mark.parametrize("env_id", IDS)
def test_the_vector_conforms(env_id, unchecked_types):
    check_vector_env(
        lambda n, mode: gym.make_vec(
            env_id, num_envs=n, horizon=5, autoreset_mode=mode, render_mode="rgb_array"
        ),
        make_single=lambda: gym.make(env_id, horizon=5, render_mode="rgb_array"),
    )


def test_a_vector_snapshot_is_a_tuple_of_single_ones():
    vector = gym.make_vec("Real-PushT-v0", num_envs=2)
    vector.reset(seed=0)
    for action in actions_for("Real-PushT-v0", 4, 2):
        vector.step(action)
    states = vector.get_state()
    single = gym.make("Real-PushT-v0").unwrapped
    single.set_state(states[1])
    action = actions_for("Real-PushT-v0", 2, seed=9)
    vector.set_state(states)
    obs, reward, *_ = vector.step(action)
    other, other_reward, *_ = single.step(action[1])
    np.testing.assert_array_equal(obs[1], other)
    assert reward[1] == other_reward
    vector.set_state((states[1], states[1]))
    obs, *_ = vector.step(np.stack([action[1]] * 2))
    np.testing.assert_array_equal(obs[0], obs[1])


def test_horizon_and_its_alias():
    env = gym.make_vec("Real-Dot-v0", num_envs=1, max_episode_steps=2)
    assert env.get_attr("_max_episode_steps") == (2,)
    with pytest.raises(ValueError, match="disagree"):
        gym.make_vec("Real-Dot-v0", num_envs=1, max_episode_steps=2, horizon=3)


def test_push_t_is_what_the_contract_says():
    system = system_of("Real-PushT-v0")
    assert (system.horizon, system.fps, system.context) == (150, 5, 4)
    assert system.success_threshold == 0.95
    env = gym.make("Real-PushT-v0")
    env.reset(options={"state": [200.0, 200, 400, 400, 0, 0, 0]})
    *_, info = env.step(np.array([1.0, -0.5]))
    reached = (info["state"][:2] - 200) / np.array([64, -32])
    np.testing.assert_allclose(reached, 1 - 0.384, atol=1e-3)  # of the way to a target 64 px off


def test_a_snapshot_says_everything_and_is_checked():
    env = gym.make("Real-Dot-v0").unwrapped
    env.reset(seed=7)
    env.reset()
    env.step(np.array([0.5, 0, 0]))
    state = env.get_state()
    assert (state.seed, state.episode, state.elapsed, state.over) == (7, 1, 1, False)
    assert state.progress == env._info()["progress"]
    other = gym.make("Real-Dot-v0").unwrapped
    other.set_state(state)
    assert other.np_random_seed == 7
    again = other.get_state()
    assert (again.world, again.progress, again.episode) == (state.world, state.progress, 1)
    assert again.rng.bit_generator.state == state.rng.bit_generator.state
    with pytest.raises(ValueError, match="of Dot, expected one of PushT"):
        gym.make("Real-PushT-v0").unwrapped.set_state(state)
    pair = gym.make_vec("Real-Dot-v0", num_envs=2)
    pair.reset(seed=0)
    before = pair.get_state()
    with pytest.raises(TypeError, match="get_state"):
        pair.set_state((state, "nonsense"))
    assert [s.world for s in pair.get_state()] == [s.world for s in before]


def test_refused_options_change_nothing():
    env = gym.make_vec("Real-Dot-v0", num_envs=2)
    env.reset(seed=3)
    with pytest.raises(ValueError, match="unknown reset options"):
        env.reset(seed=9, options={"nonsense": 1})
    assert env.np_random_seed == (3, 4)


def test_a_vector_answers_for_single_environments():
    env = gym.make_vec("Real-Dot-v0", num_envs=3)
    env.reset(seed=0)
    sync = SyncVectorEnv([lambda: gym.make("Real-Dot-v0")] * 3)
    sync.reset(seed=0)
    for name in ("observation_space", "action_space", "task", "np_random_seed", "render_mode"):
        assert env.get_attr(name) == sync.get_attr(name)
    env.set_attr("render_mode", "another")
    assert env.call("render_mode") == ("another",) * 3
    with pytest.raises(ValueError, match="shared by all 3"):
        env.set_attr("render_mode", ["a", "b", "c"])
    with pytest.raises(AttributeError, match="task"):
        env.set_attr("task", "another")  # a reset's option asks for one
    with pytest.raises(ValueError, match="alone"):
        env.call("reset")


def test_two_windows_may_be_closed_in_any_order():
    first, second = (gym.make("Real-Dot-v0", render_mode="human") for _ in range(2))
    for env in (first, second):
        env.reset(seed=0)
    first.close()
    second.step(np.zeros(3))
    second.close()


def test_a_simulator_that_is_not_what_its_record_says_is_refused():
    from wm_gym.envs.world import SimulatedWorld

    for changes, words in (
        ({"frame_shape": (48, 64, 1)}, "frame.. is uint8 .48, 64, 3., expected uint8"),
        (
            {"state_names": ("x",), "state_low": (0.0,), "state_high": (9.0,), "tool": None},
            "one number for each",
        ),
    ):
        world = SimulatedWorld(dataclasses.replace(DOT, **changes), "Real-Dot-v0", 1)
        with pytest.raises(ValueError, match=words):
            world.start(np.ones(1, bool), [np.random.default_rng(0)], world.given({}))


def test_module_prefix_and_json_specs():
    spec = gym.make("wm_gym:Real-PushT-v0", horizon=9).spec
    again = gym.envs.registration.EnvSpec.from_json(spec.to_json())
    assert gym.make(again).get_wrapper_attr("_max_episode_steps") == 9


BAD_ACTIONS = {
    "nan": (np.array([np.nan, 0]), ValueError, "not finite"),
    "infinite": ([np.inf, 0], ValueError, "not finite"),
    "shape": (np.zeros(3), ValueError, r"shape \(3,\), expected \(2,\)"),
    "batch axis": (np.zeros((1, 2)), ValueError, "expected"),
    "text": (["a", "b"], TypeError, "real numbers"),
    "none": (None, TypeError, "real numbers"),
    "ragged": ([[1], [1, 2]], TypeError, "not an array"),
    "complex": (np.zeros(2, complex), TypeError, "complex"),
    "bool": (np.zeros(2, bool), TypeError, "bool"),
}


@pytest.mark.parametrize("name", BAD_ACTIONS)
def test_a_bad_action_is_refused_and_nothing_is_lost(name):
    action, error, words = BAD_ACTIONS[name]
    env = gym.make("Real-PushT-v0", disable_env_checker=True)
    env.reset(seed=0)
    before = env.unwrapped.get_state()
    with pytest.raises(error, match=words):
        env.step(action)
    assert env.unwrapped.get_state().world == before.world
    assert env.unwrapped.get_state().elapsed == before.elapsed
    vector = gym.make_vec("Real-PushT-v0", num_envs=2)
    vector.reset(seed=0)
    with pytest.raises((TypeError, ValueError)):
        vector.step(action)


def test_what_is_no_error_an_action_beyond_the_box_or_of_another_real_dtype():
    env = gym.make("Real-PushT-v0", disable_env_checker=True)
    results = []
    for action in (np.array([1, -1]), [7.0, -3.5], np.array([1, -1], np.float16)):
        env.reset(seed=0)
        results.append(env.step(action)[0])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.filterwarnings("ignore:.*not in the possible render_modes")
@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"horzion": 3}, TypeError, "unknown argument horzion; expected some of.*horizon"),
        ({"horizon": 0}, ValueError, "horizon is 0"),
        ({"success_threshold": 1.5}, ValueError, "expected 0 to 1"),
        ({"obs_type": "keypoints"}, ValueError, "obs_type is 'keypoints'"),
        ({"render_mode": "ansi"}, ValueError, "render_mode is 'ansi'"),
    ],
)
def test_bad_settings_say_what_was_expected(kwargs, error, words):
    with pytest.raises(error, match=words):
        gym.make("Real-PushT-v0", disable_env_checker=True, **kwargs)
    with pytest.raises(error, match=words):
        gym.make_vec("Real-PushT-v0", num_envs=2, **kwargs)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state": [1.0, 2.0]}, r"shape \(2,\), expected \(7,\)"),
        ({"state": "x"}, "state'] is 'x', expected numbers: "),
        ({"state": [[1.0], [1.0, 2.0]]}, "expected numbers: "),
        ({"state": [np.nan] * 7}, "expected finite numbers"),
        ({"state": [1e300, 0, 0, 0, 0, 0, 0]}, "expected finite numbers"),
        ({"frames": np.zeros((4, 96, 96, 3), np.uint8)}, "unknown reset options .'frames'"),
    ],
)
def test_bad_reset_options_say_what_was_expected(options, words):
    env = gym.make("Real-PushT-v0")
    with pytest.raises(ValueError, match=words):
        env.reset(seed=0, options=options)


def test_too_early():
    single, vector = gym.make("Real-PushT-v0").unwrapped, gym.make_vec("Real-PushT-v0", num_envs=2)
    for call in (
        lambda: single.step(np.zeros(2)),
        lambda: vector.step(np.zeros((2, 2))),
        single.get_state,
        vector.get_state,
    ):
        with pytest.raises(gym.error.ResetNeeded, match="reset"):
            call()
    with pytest.raises(ValueError, match="first reset"):
        vector.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(TypeError, match="get_state"):
        single.set_state({"elapsed": 3})
    with pytest.raises(ValueError, match="snapshots"):
        vector.set_state(())
    with pytest.raises(ValueError, match="seeds"):
        vector.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="num_envs"):
        gym.make_vec("Real-PushT-v0", num_envs=0)


def test_stepping_a_finished_environment_in_disabled_mode_raises():
    env = gym.make_vec("Real-Dot-v0", num_envs=2, horizon=1, autoreset_mode="Disabled")
    env.reset(seed=0)
    env.step(np.zeros((2, 3)))
    with pytest.raises(gym.error.ResetNeeded, match=r"\[0, 1\] is over"):
        env.step(np.zeros((2, 3)))


def test_sb3_learns_a_few_steps_on_it():
    from stable_baselines3 import PPO

    env = gym.make("Real-Dot-v0", horizon=20)
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, device="cpu", seed=0)
    model.learn(64)
    assert model.num_timesteps == 64
