"""The shaped reward: what it must never pay for, and what it must always pay for."""

import numpy as np
import pytest

from wm_gym.systems.pusht import geometry
from wm_gym.systems.pusht.reward import pose_error, reward


def state(pose, tool=None):
    pose = np.asarray(pose, float)
    if tool is None:
        tool = geometry.to_board(geometry.CENTRE[None], pose)[..., 0, :]
    return np.concatenate([np.broadcast_to(tool, (*pose.shape[:-1], 2)), pose], axis=-1)


def value(*args):
    after = state(*args)
    return reward(np.zeros_like(after), np.zeros((*after.shape[:-1], 2)), after)


def random_poses(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(60, 452, n), rng.uniform(60, 452, n), rng.uniform(-9, 9, n)], -1)


def test_the_goal_is_the_only_best_place():
    assert value(geometry.GOAL) == pytest.approx(0, abs=1e-12)
    assert (value(random_poses(10_000)) < -1e-3).all()


def test_it_lies_between_minus_1_1_and_0_on_the_board():
    tools = np.random.default_rng(1).uniform(0, 512, (10_000, 2))
    rewards = value(random_poses(10_000), tools)
    assert rewards.min() > -1.1
    assert rewards.max() <= 0


def test_it_rises_all_the_way_to_the_goal():
    goal_centre = geometry.to_board(geometry.CENTRE[None], geometry.GOAL)[0]
    for pose in random_poses(200):
        centre = geometry.to_board(geometry.CENTRE[None], pose)[0]
        turn = np.remainder(pose[2] - geometry.GOAL[2] + np.pi, 2 * np.pi) - np.pi
        left = np.linspace(1, 0, 50)[:, None]
        angle = geometry.GOAL[2] + left[:, 0] * turn
        cog = goal_centre + left * (centre - goal_centre)
        offset = geometry.to_board(
            geometry.CENTRE[None], np.stack([0 * angle, 0 * angle, angle], -1)
        )[:, 0]
        path = np.concatenate([cog - offset, angle[:, None]], axis=1)
        assert (np.diff(value(path)) > 0).all()


def test_it_is_still_steep_three_pixels_from_the_goal():
    near = geometry.GOAL + np.array([[3.0, 0, 0], [6.0, 0, 0]])
    far = geometry.GOAL + np.array([[60.0, 0, 0], [120.0, 0, 0]])
    near_gain, far_gain = (np.ptp(value(poses)) for poses in (near, far))
    assert near_gain > 0.5 * far_gain


@pytest.mark.parametrize("gamma", [0.9, 0.99, 0.999])
def test_parking_short_of_the_goal_never_pays(gamma):
    """Pushing on for ten worse steps and then being done beats waiting just short of success."""
    just_short = geometry.GOAL + np.array([2.5, 0, 0])
    assert 0.9 < geometry.coverage(just_short) < 0.95
    park = float(value(just_short)) / (1 - gamma)
    detour = geometry.GOAL + np.array([6.0, 0, 0])  # a push that first makes it worse
    discounts = gamma ** np.arange(10)
    solved_and_ended = float((discounts * value(detour)).sum())
    solved_and_stays = solved_and_ended + gamma**10 * float(value(geometry.GOAL)) / (1 - gamma)
    if gamma > 0.95:  # with a shorter sight the detour is not seen to pay
        assert solved_and_ended > park
        assert solved_and_stays > park
    assert park < 0  # ending now, where one may, beats waiting


def test_the_tool_term_is_a_tenth():
    far, near = (float(value(geometry.GOAL, np.array(tool))) for tool in ([1e5, 1e5], [257, 290]))
    assert far == pytest.approx(-0.1, abs=1e-3)
    assert -0.05 < near < 0


def test_the_tool_is_drawn_to_the_block():
    pose = np.array([300.0, 200, 1])
    rewards = [float(value(pose, np.array([300.0 + d, 200]))) for d in (250, 150, 80, 40)]
    assert rewards == sorted(rewards)


def test_it_depends_on_the_next_state_alone_and_broadcasts():
    poses = random_poses(12).reshape(3, 4, 3)
    assert value(poses).shape == (3, 4)
    before, action = state(random_poses(12, seed=5).reshape(3, 4, 3)), np.ones((3, 4, 2))
    np.testing.assert_array_equal(reward(before, action, state(poses)), value(poses))
    assert (pose_error(poses) > 0).all()
