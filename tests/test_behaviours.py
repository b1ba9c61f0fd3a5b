"""What drives the systems when data is logged."""

import gymnasium as gym
import numpy as np
import pytest

from wm_gym.systems import DOT, PUSH_T, System, register_system
from wm_gym.systems.pusht.geometry import GOAL
from wm_gym.systems.pusht.pushes import Push, aim, error, random_push


def drive(system, name, seed, steps=150):
    env = gym.make(f"Real-{system.name}-v0", disable_env_checker=True).unwrapped
    pilot = system.behaviours[name](np.random.default_rng(seed))
    state = next(pilot)
    _, info = env.reset(seed=seed, options=None if state is None else {"state": state})
    infos, actions = [info], []
    for _ in range(steps):
        actions.append(pilot.send(infos[-1]))
        infos.append(env.step(actions[-1])[-1])
    return infos, np.array(actions)


def test_the_expert_solves_the_task_from_random_starts():
    best = [drive(PUSH_T, "expert", seed)[0][-1]["best_coverage"] for seed in range(100, 110)]
    assert np.mean(np.array(best) > 0.9) >= 0.8
    assert np.mean(best) > 0.93


@pytest.mark.parametrize(
    ("name", "touches", "solves"),
    [
        ("smooth", 0.005, False),
        ("noisy", 0.005, False),
        ("push", 0.15, False),
        ("correct", 0.1, True),
    ],
)
def test_play_covers_what_it_is_there_for(name, touches, solves):
    runs = [drive(PUSH_T, name, seed) for seed in range(8)]
    contact = np.mean([info["contact"] for infos, _ in runs for info in infos])
    best = np.mean([infos[-1]["best_coverage"] for infos, _ in runs])
    assert contact >= touches
    assert bool(best > 0.6) is solves


@pytest.mark.parametrize("system", [PUSH_T, DOT])
def test_behaviours_repeat_for_a_seed_and_stay_in_the_box(system):
    for name in system.behaviours:
        (_, first), (_, again), (_, other) = (drive(system, name, seed, 20) for seed in (4, 4, 5))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()
        assert np.abs(first).max() <= 1 + 1e-9


def test_pushes_start_on_the_outline_from_all_sides_and_go_in():
    rng = np.random.default_rng(0)
    pushes = [random_push(rng, 30.0) for _ in range(2000)]
    for push in pushes:
        assert np.dot(push.direction, push.normal) < -0.7
        x, y = push.contact
        on_bar = abs(x) <= 60 and 0 <= y <= 30
        on_stem = abs(x) <= 15 and 30 <= y <= 120
        assert on_bar or on_stem
    sides = {tuple(np.round(push.normal)) for push in pushes}
    assert sides == {(0, -1), (1, 0), (0, 1), (-1, 0)}


def test_aim_knows_which_push_helps():
    straight = {"contact": (0.0, 0.0), "normal": (0.0, -1.0), "length": 10.0}
    up = Push(direction=(0.0, 1.0), **straight)
    ahead = np.array([0.0, -40.0, 0.0]) + GOAL * [1, 1, 0]
    pose = np.array([*ahead[:2], GOAL[2]])
    heading = np.array([np.sin(GOAL[2]), -np.cos(GOAL[2])])  # where the block's −y points
    behind = np.array([*(GOAL[:2] + 40 * heading), GOAL[2]])
    assert aim(up, behind) == pytest.approx(1.0)
    assert aim(up, pose) < 1.0
    assert error(GOAL) == pytest.approx((0, 0, 0))


def test_a_system_is_checked_when_it_is_made_and_registered_once():
    fields = {name: getattr(DOT, name) for name in DOT.__dataclass_fields__}
    with pytest.raises(ValueError, match="frame_shape"):
        System(**{**fields, "frame_shape": (96, 0, 3)})
    with pytest.raises(ValueError, match="context is 0"):
        System(**{**fields, "context": 0})
    with pytest.raises(ValueError, match="unknown behaviours"):
        System(**{**fields, "play": {"fly": 1.0}})
    with pytest.raises(ValueError, match="at least one"):
        System(**{**fields, "tasks": ()})
    with pytest.raises(ValueError, match="registered already"):
        register_system(DOT)
