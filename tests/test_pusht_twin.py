"""Real-PushT-v0 is the twin of gym-pusht 0.1.8: starts, physics, coverage and pictures."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gym_pusht.envs import PushTEnv
from gymnasium.utils import seeding

from wm_gym.systems.pusht import geometry
from wm_gym.systems.pusht.physics import Physics
from wm_gym.systems.pusht.picture import Painter
from wm_gym.systems.pusht.simulator import PushT, draw_start, target_of


def theirs_and_ours(seed, obs_type="state"):
    env = PushTEnv(obs_type=obs_type)
    env.reset(seed=seed)
    ours = Physics()
    ours.start(draw_start(seeding.np_random(seed)[0]))
    return env, ours


def their_state(env):
    return np.array([*env.agent.position, *env.block.position, env.block.angle])


def chase(env, rng):
    """A target near the block more often than not, so that there is contact, or off the board."""
    tool, block = np.array(env.agent.position), np.array(env.block.position)
    return tool + rng.uniform(-80, 80, 2) + 0.3 * (block - tool)


def test_equal_seeds_start_equal():
    for seed in range(200):
        env, ours = theirs_and_ours(seed)
        np.testing.assert_array_equal(ours.state()[:5], their_state(env))


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_equal_actions_have_equal_outcomes_for_200_ticks(first):
    touched = worst = worst_coverage = 0.0
    for seed in range(first, first + 25):
        env, ours = theirs_and_ours(seed)
        rng = np.random.default_rng(seed)
        for tick in range(200):
            target = chase(env, rng) if tick % 2 == 0 else target
            *_, info = env.step(target)
            ours.hold((float(target[0]), float(target[1])), 1)
            touched += ours.contact
            worst = max(worst, np.abs(ours.state()[:5] - their_state(env)).max())
            coverage = geometry.coverage(ours.state()[2:5])
            worst_coverage = max(worst_coverage, abs(coverage - info["coverage"]))
    assert worst <= 1e-6
    assert worst_coverage <= 1e-6
    assert touched > 0.2 * 25 * 200


def test_pictures_are_theirs_bit_for_bit():
    painter, marked, at_the_wall = Painter(), 0, 0
    for seed in range(8):
        env, ours = theirs_and_ours(seed, "pixels")
        rng = np.random.default_rng(seed)
        drift = rng.normal(size=2) * (60 if seed % 2 else 0)  # half of them along the walls
        for _ in range(60):
            target = np.clip(chase(env, rng) + drift, 0, 512)
            for _ in range(2):
                picture, *_ = env.step(target)
            ours.hold((float(target[0]), float(target[1])), 2)
            np.testing.assert_array_equal(painter.picture(ours.state(), ours.marks), picture)
            marked += bool(ours.marks)
            at_the_wall += bool((np.abs(ours.state()[:2] - 256) > 235).any())
    assert marked > 10
    assert at_the_wall > 10


def test_drawing_leaves_nothing_behind():
    painter = Painter()
    first = np.array([100.0, 100, 200, 200, 1, 0, 0])
    before = painter.picture(first, ())
    painter.picture(np.array([3.0, 505, 470, 40, 2, 0, 0]), (((3.0, 505.0), (9.0, 499.0)),))
    painter.board(np.array([505.0, 3, 40, 470, 3, 0, 0]), ())
    np.testing.assert_array_equal(painter.picture(first, ()), before)


def test_real_and_gym_pusht_are_the_same_environment():
    pair = [gym.make(env_id) for env_id in ("Real-PushT-v0", "Real-GymPushT-v0")]
    rng = np.random.default_rng(0)
    for seed in range(3):
        (obs, info), (other, other_info) = (env.reset(seed=seed) for env in pair)
        np.testing.assert_array_equal(obs, other)
        for _ in range(30):
            tool, block = info["state"][:2], info["state"][2:4]
            action = np.clip((block - tool) / 64 + rng.normal(0, 0.5, 2), -1, 1)
            (obs, *rest, info), (other, *others, other_info) = (env.step(action) for env in pair)
            np.testing.assert_array_equal(obs, other)
            assert rest == others
            np.testing.assert_array_equal(info["state"], other_info["state"])
            assert info["coverage"] == other_info["coverage"]


def test_a_snapshot_has_one_future_and_shows_the_same_picture():
    rng = np.random.default_rng(1)
    sim = PushT()
    sim.start(rng)
    for _ in range(20):
        sim.advance(rng.uniform(-1, 1, 2))
    snapshot, picture = sim.snapshot(), sim.frame()
    actions = rng.uniform(-1, 1, (20, 2))

    def future(sim):
        sim.restore(snapshot)
        np.testing.assert_array_equal(sim.frame(), picture)
        states = []
        for action in actions:
            sim.advance(action)
            states.append(sim.state())
        return np.array(states)

    np.testing.assert_array_equal(future(sim), future(PushT()))


def test_place_puts_the_block_where_it_is_told():
    """gym-pusht's own `reset_to_state` does not: it turns the block about its centre of gravity."""
    state = np.array([100.0, 120, 300, 310, 2.5, 30, -20])
    sim = PushT()
    sim.place(state)
    np.testing.assert_allclose(sim.state(), state, atol=1e-9)


def test_contact_is_what_moves_the_block():
    """A wall it was pressed into may still push it out a little afterwards."""
    sim, moved, touched = PushT(), [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        sim.start(rng)
        for _ in range(40):
            before = sim.state()
            toward = (before[2:4] - before[:2]) / 64
            sim.advance(np.clip(toward + rng.normal(0, 0.7, 2), -1, 1))
            moved.append(np.abs(sim.state()[2:5] - before[2:5]).max())
            touched.append(sim.contact)
    moved, touched = np.array(moved), np.array(touched)
    assert 50 < touched.sum() < 350
    assert moved[~touched].max() < 2.0
    assert np.mean(moved[touched] > 2.0) > 0.8


def test_an_action_moves_the_target_by_64_px_and_stays_on_the_board():
    assert target_of((100.0, 100.0), np.array([1.0, -0.5])) == (164.0, 68.0)
    assert target_of((500.0, 10.0), np.array([1.0, -1.0])) == (512.0, 0.0)


def test_coverage_of_many_poses_is_that_of_each():
    rng = np.random.default_rng(0)
    poses = geometry.GOAL + rng.normal(size=(4, 5, 3)) * [40, 40, 1]
    each = [[float(geometry.coverage(pose)) for pose in row] for row in poses]
    np.testing.assert_array_equal(geometry.coverage(poses), each)
    assert geometry.coverage(geometry.GOAL) == pytest.approx(1.0)
    assert geometry.coverage(np.array([500.0, 500, 0])) == 0


SIMULATORS = ["Real-PushT-v0", "Real-GymPushT-v0"]


def in_motion(env_id, steps=15, seed=1):
    """An environment in mid-episode, the tool fast and far from the block."""
    env = gym.make(env_id).unwrapped
    env.reset(seed=seed, options={"state": [60.0, 60, 380, 380, 1, 0, 0]})
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        env.step(np.array([1, -0.2]) * rng.choice([-1, 1]) + rng.normal(0, 0.1, 2))
    return env


@pytest.mark.parametrize("env_id", SIMULATORS)
def test_out_of_contact_a_branch_is_the_uninterrupted_run(env_id):
    env = in_motion(env_id)
    state = env.get_state()
    assert np.abs(env.get_wrapper_attr("_info")()["state"][5:]).max() > 10
    actions = np.random.default_rng(2).uniform(-0.5, 0.5, (5, 2))
    straight = [env.step(action) for action in actions]
    next_start, _ = env.reset()
    other = gym.make(env_id).unwrapped
    other.set_state(state)
    for action, (obs, reward, _, _, info) in zip(actions, straight, strict=True):
        branched, other_reward, _, _, other_info = other.step(action)
        np.testing.assert_allclose(other_info["state"], info["state"], atol=1e-9)
        np.testing.assert_array_equal(branched, obs)
        assert other_reward == pytest.approx(reward, abs=1e-12)
    np.testing.assert_array_equal(other.reset()[0], next_start)


@pytest.mark.parametrize("env_id", SIMULATORS)
@pytest.mark.parametrize("how", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copied_environment_has_the_future_of_a_snapshot(env_id, how):
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    for _ in range(6):
        block, tool = env._info()["state"][2:4], env._info()["state"][:2]
        env.step(np.clip((block - tool) / 64, -1, 1))
    copied, branch = how(env), gym.make(env_id).unwrapped
    branch.set_state(env.get_state())
    for action in np.random.default_rng(0).uniform(-1, 1, (6, 2)):
        np.testing.assert_array_equal(copied.step(action)[0], branch.step(action)[0])


def test_a_snapshot_of_one_simulator_goes_on_in_the_other_and_shows_the_same():
    ours, theirs = (gym.make(env_id).unwrapped for env_id in SIMULATORS)
    rng = np.random.default_rng(3)
    shown = 0
    ours.reset(seed=5)
    for _ in range(40):
        tool, block = ours._info()["state"][:2], ours._info()["state"][2:4]
        ours.step(np.clip((block - tool) / 64 + rng.normal(0, 0.5, 2), -1, 1))
        theirs.set_state(ours.get_state())
        np.testing.assert_array_equal(theirs._obs(), ours._obs())
        shown += bool(ours.get_state().world.marks)
    assert shown > 5
    action = np.array([0.3, 0.3])
    ours.set_state(ours.get_state())
    np.testing.assert_array_equal(theirs.step(action)[0], ours.step(action)[0])


def test_a_given_state_is_shown_at_once_by_both():
    state = [100.0, 100, 200, 350, 2, 0, 0]
    ours, theirs = (gym.make(i).reset(options={"state": state})[0] for i in SIMULATORS)
    np.testing.assert_array_equal(ours, theirs)
    assert (ours != gym.make(SIMULATORS[0]).reset(seed=0)[0]).any()


def test_a_drawing_that_fails_spoils_no_other_picture():
    painter = Painter()
    state = np.array([100.0, 100, 200, 200, 1, 0, 0])
    before = painter.picture(state, ())
    with pytest.raises((TypeError, OverflowError, ValueError)):
        painter.picture(np.array([1e300, 100, 300, 300, 1, 0, 0]), ())
    np.testing.assert_array_equal(painter.picture(state, ()), before)
