"""What a control step does to a state: the walking policy above MuJoCo, 50 times a second."""

import copy
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float, Float32

from wm_gym.systems.push_cube import robot, state
from wm_gym.systems.push_cube.model import (
    CUBE_SIDE,
    DAMPING,
    STIFFNESS,
    TIME_STEP,
    compiled,
)
from wm_gym.systems.push_cube.state import STANDING

SCALE = np.array([0.8, 0.4, 1.2])
"""What an action of 1 asks for: m/s ahead and to the left, rad/s to the left."""

TICKS = 10
"""Of the walking policy, in a control step of 0.2 s."""

_SUBSTEPS = round(0.02 / TIME_STEP)
_SLEW = np.array([0.05, 0.04, 0.10])
"""How far the command of the gait follows in a tick."""

_REACH = np.array([0.125, 0.25, 0.25] * 4)
"""Radians of a joint for each unit of the policy's answer."""

_FELT = np.concatenate(
    [np.full(3, 0.02), np.full(3, 0.01), np.full(12, 0.005), np.full(12, 0.2), np.full(12, 0.03)]
)
"""Standard deviations of noise in a tick: on the gyroscope, the direction of gravity, joint angles
and joint speeds as the policy sees them, and on the torque of each motor as a share of it."""

NOISES = len(_FELT)

_ROBOT, _CUBE = 1, 2
"""Kinds of shapes; 0 are the floor and the walls."""

DEEP = 0.03
"""Metres that two bodies may reach into each other in a start."""


class Physics:
    """One MuJoCo for all simulators of a thread: each state says all, so none is kept here."""

    def __init__(self) -> None:
        self.mujoco = robot.mujoco()
        model, self.at = compiled()
        self.model = copy.copy(model)  # which is changed, as friction and mass are drawn
        self.data = self.mujoco.MjData(self.model)
        self._policy = _policy()
        self._kind = np.full(self.model.ngeom, _ROBOT)
        self._kind[self.at.fixed], self._kind[self.at.cube_shape] = 0, _CUBE
        warnings = self.mujoco.mjtWarning
        self._bad = [
            int(each) for each in
            (warnings.mjWARN_BADQPOS, warnings.mjWARN_BADQVEL, warnings.mjWARN_BADQACC)
        ]  # fmt: skip

    def advance(
        self,
        now: Float[np.ndarray, "s"],
        action: Float[np.ndarray, "a=3"],
        noise: Float[np.ndarray, "t n"] | None,
    ) -> tuple[Float[np.ndarray, "s"], bool]:
        """The next state, and whether the robot touched the cube on the way."""
        return self.walk(now, SCALE * action, TICKS, noise)

    def walk(
        self,
        now: Float[np.ndarray, "s"],
        wanted: Float[np.ndarray, "3"],
        ticks: int,
        noise: Float[np.ndarray, "t n"] | None,
    ) -> tuple[Float[np.ndarray, "s"], bool]:
        with self._unwarned():
            return self._walked(now, wanted, ticks, noise)

    @contextmanager
    def _unwarned(self) -> Iterator[None]:
        """MuJoCo warns by a file, MUJOCO_LOG.TXT, in whatever folder one works; what it warns of
        it also counts, and `_told` looks there."""
        before = self.mujoco.get_mju_user_warning()
        self.mujoco.set_mju_user_warning(_unheard)
        try:
            yield
        finally:
            self.mujoco.set_mju_user_warning(before)

    def _walked(
        self,
        now: Float[np.ndarray, "s"],
        wanted: Float[np.ndarray, "3"],
        ticks: int,
        noise: Float[np.ndarray, "t n"] | None,
    ) -> tuple[Float[np.ndarray, "s"], bool]:
        self.put(now)
        data, at = self.data, self.at
        command, asked = now[state.COMMAND].copy(), now[state.ASKED].copy()
        touched = False
        for tick in range(ticks):
            command += np.clip(wanted - command, -_SLEW, _SLEW)
            felt = self._felt(command, asked)
            if noise is not None:
                shaken = noise[tick] * _FELT
                felt[0:3] += 0.25 * shaken[0:3]
                felt[3:6] += shaken[3:6]
                felt[9:21] += shaken[6:18]
                felt[21:33] += 0.05 * shaken[18:30]
                self._set_motors(1 + shaken[30:])
            answer = self._policy(felt.astype(np.float32)[None])
            asked = np.clip(answer.astype(np.float64), -100, 100)
            data.ctrl[at.motor] = STANDING + _REACH * asked
            self.mujoco.mj_step(self.model, data, _SUBSTEPS)
            touched = touched or self._touches()
        return self._told(now, command, asked), touched

    def _felt(
        self, command: Float[np.ndarray, "3"], asked: Float[np.ndarray, "12"]
    ) -> Float[np.ndarray, "45"]:
        """What the walking policy sees."""
        data, at = self.data, self.at
        w, x, y, z = data.qpos[3:7].tolist()
        felt = np.empty(45)
        felt[0:3] = 0.25 * data.qvel[3:6]
        felt[3:6] = 2 * (w * y - x * z), -2 * (w * x + y * z), 2 * (x * x + y * y) - 1
        felt[6:9] = command
        felt[9:21] = data.qpos[at.joint] - STANDING
        felt[21:33] = 0.05 * data.qvel[at.joint_speed]
        felt[33:45] = asked
        return felt

    def _set_motors(self, strength: Float[np.ndarray, "12"]) -> None:
        model, motor = self.model, self.at.motor
        model.actuator_gainprm[motor, 0] = STIFFNESS * strength
        model.actuator_biasprm[motor, 1] = -STIFFNESS * strength
        model.actuator_biasprm[motor, 2] = -DAMPING * strength

    def _touches(self) -> bool:
        return bool((self._kind[self.data.contact.geom].sum(1) == _ROBOT + _CUBE).any())

    def put(self, now: Float[np.ndarray, "s"]) -> None:
        """Set MuJoCo to a state; nothing of another one is left."""
        data, at = self.data, self.at
        self.mujoco.mj_resetData(self.model, data)
        qpos, qvel = data.qpos, data.qvel
        x, y, yaw, cube_x, cube_y, cube_yaw, z, pitch, roll = now[:9].tolist()
        cube_z, cube_pitch, cube_roll = now[39:42].tolist()
        qpos[:3], qpos[3:7] = (x, y, z), state.quaternion(yaw, pitch, roll)
        cube = at.cube
        qpos[cube : cube + 3] = cube_x, cube_y, cube_z
        qpos[cube + 3 : cube + 7] = state.quaternion(cube_yaw, cube_pitch, cube_roll)
        qpos[at.joint], qvel[at.joint_speed] = now[state.ANGLES], now[state.JOINT_SPEEDS]
        qvel[0:3], qvel[3:6] = now[state.SPEEDS], now[state.TURNING]
        qvel[at.cube_speed : at.cube_speed + 3] = now[state.CUBE_SPEEDS]
        qvel[at.cube_speed + 3 : at.cube_speed + 6] = now[state.CUBE_TURNING]
        self._set_drawn(*now[state.DRAWN].tolist())
        self._set_motors(np.ones(12))

    def _set_drawn(self, cube_friction: float, foot_friction: float, mass: float) -> None:
        """MuJoCo takes the larger friction of two shapes, unless one has priority, as feet have."""
        model, at = self.model, self.at
        model.geom_friction[[at.cube_shape, at.floor], 0] = cube_friction
        model.geom_friction[at.feet, 0] = foot_friction
        model.body_mass[at.cube_body] = model.body_subtreemass[at.cube_body] = mass
        model.body_inertia[at.cube_body] = mass * CUBE_SIDE**2 / 6

    def _told(
        self,
        before: Float[np.ndarray, "s"],
        command: Float[np.ndarray, "3"],
        asked: Float[np.ndarray, "12"],
    ) -> Float[np.ndarray, "s"]:
        data, at = self.data, self.at
        if data.warning.number[self._bad].any():  # MuJoCo gave up, and began anew
            return _given_up(before)
        told = np.empty(len(state.NAMES))
        qpos, qvel, cube = data.qpos, data.qvel, at.cube
        told[0:2], told[state.HEIGHT] = qpos[0:2], qpos[2]
        told[2], told[7], told[8] = state.angles(*qpos[3:7].tolist())
        turned = state.rotation(*qpos[cube + 3 : cube + 7].tolist())
        turning = qvel[at.cube_speed + 3 : at.cube_speed + 6]
        (told[5], told[40], told[41]), told[state.CUBE_TURNING] = state.settled_cube(
            turned, turning
        )
        told[3:5], told[state.CUBE_HEIGHT] = qpos[cube : cube + 2], qpos[cube + 2]
        told[state.ANGLES], told[state.JOINT_SPEEDS] = qpos[at.joint], qvel[at.joint_speed]
        told[state.SPEEDS], told[state.TURNING] = qvel[0:3], qvel[3:6]
        told[state.CUBE_SPEEDS] = qvel[at.cube_speed : at.cube_speed + 3]
        told[state.COMMAND], told[state.ASKED] = command, asked
        told[state.DRAWN] = before[state.DRAWN]
        return told

    def check(self, start: Float[np.ndarray, "s"]) -> None:
        """Raises where bodies of a start are inside one another."""
        self.put(start)
        with self._unwarned():
            self.mujoco.mj_forward(self.model, self.data)
        contact, at = self.data.contact, self.at
        for (one, other), distance in zip(contact.geom, contact.dist, strict=True):
            if distance > -DEEP:
                continue
            pair = {int(one), int(other)}
            cube, fixed = at.cube_shape in pair, pair & set(at.fixed.tolist())
            first = "the cube is" if cube and fixed else "the robot stands"
            second = "the floor or a wall" if fixed else "the cube" if cube else "itself"
            raise ValueError(f"options['state']: {first} inside {second}, {-distance:.2f} m deep")


def _unheard(said: str) -> None:
    """A warning that is counted anyway."""


def _given_up(before: Float[np.ndarray, "s"]) -> Float[np.ndarray, "s"]:
    """What physics that went out of bounds leave: a robot on the floor."""
    told = before.copy()
    told[state.HEIGHT] = 0.0
    for speeds in (state.SPEEDS, state.TURNING, state.JOINT_SPEEDS):
        told[speeds] = 0.0
    return told


def _policy() -> Callable[[Float32[np.ndarray, "1 45"]], Float32[np.ndarray, "12"]]:
    """The trained gait, in the calling thread alone."""
    runtime = robot.onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(
        robot.wheel_file(robot.GAIT), options, providers=["CPUExecutionProvider"]
    )
    return lambda felt: session.run(None, {"obs": felt})[0][0]


_shared = threading.local()


def shared() -> Physics:
    """One in a thread, as it keeps nothing between steps; a forked process makes its own."""
    if getattr(_shared, "owner", None) != os.getpid():
        _shared.physics, _shared.owner = Physics(), os.getpid()
    physics: Physics = _shared.physics
    return physics
