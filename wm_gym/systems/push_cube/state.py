"""The true state: every number that the future depends on, but for noise that is still to come.

Orientations are yaw, pitch and roll (about z, then the new y, then the new x). A cube looks and
moves alike on each of its faces, so it is told as lying on the face that is nearest the floor.
"""

import math

import numpy as np
from jaxtyping import Float

from wm_gym.systems.push_cube.model import CUBE_SIDE, HALF, JOINTS

_ROBOT = ("x", "y", "yaw")
_CUBE = ("cube_x", "cube_y", "cube_yaw")
_SPEEDS = ("vx", "vy", "vz", "wx", "wy", "wz")

NAMES = (
    *_ROBOT,
    *_CUBE,
    "z",
    "pitch",
    "roll",
    *(f"{joint}_angle" for joint in JOINTS),
    *_SPEEDS,
    *(f"{joint}_speed" for joint in JOINTS),
    "cube_z",
    "cube_pitch",
    "cube_roll",
    *(f"cube_{speed}" for speed in _SPEEDS),
    "command_vx",
    "command_vy",
    "command_wz",
    *(f"{joint}_asked" for joint in JOINTS),
    "cube_friction",
    "foot_friction",
    "cube_mass",
)
"""Metres, radians, seconds, kilograms. Linear speeds are along the world's axes, angular ones about
the body's own. `command` is what the gait follows now, `asked` its last answer."""

POSE, CUBE_POSE = slice(0, 3), slice(3, 6)
HEIGHT, TILT = 6, slice(7, 9)
ANGLES, SPEEDS, TURNING, JOINT_SPEEDS = slice(9, 21), slice(21, 24), slice(24, 27), slice(27, 39)
CUBE_HEIGHT, CUBE_TILT = 39, slice(40, 42)
CUBE_SPEEDS, CUBE_TURNING = slice(42, 45), slice(45, 48)
COMMAND, ASKED, DRAWN = slice(48, 51), slice(51, 63), slice(63, 66)

STANDING = np.array([0.0, 0.8, -1.5] * 4)
"""Joint angles of a robot that stands."""

NOMINAL = np.array([0.4, 0.8, 3.0])
"""What is drawn for each episode, without noise: the cube's friction on the floor, that of the
feet, and the cube's mass."""

FALLEN = 0.2
"""Height of the trunk's centre below which the robot has fallen; it stands at 0.3."""


def _bounds() -> tuple[tuple[float, ...], tuple[float, ...]]:
    high = np.full(len(NAMES), 100.0)
    high[POSE] = high[CUBE_POSE] = HALF - 0.05, HALF - 0.05, 4.0
    high[TILT] = high[CUBE_TILT] = 1.2
    high[ANGLES] = 4.6
    high[SPEEDS] = high[CUBE_SPEEDS] = 3.0
    high[TURNING] = high[CUBE_TURNING] = 15.0
    high[JOINT_SPEEDS] = 60.0
    high[COMMAND] = 2.0
    low = -high
    low[HEIGHT], high[HEIGHT] = FALLEN, 1.0
    low[CUBE_HEIGHT], high[CUBE_HEIGHT] = CUBE_SIDE / 2 - 0.02, 1.0
    low[DRAWN], high[DRAWN] = (0.05, 0.2, 0.5), (2.0, 2.0, 10.0)
    return tuple(low.tolist()), tuple(high.tolist())


LOW, HIGH = _bounds()
"""What a given start may be. In 12 hours of play nothing went faster than 1.3 m/s or turned faster
than 4 rad/s, and no joint moved faster than 33 rad/s: more than twice as much is no state of this
system, and would fling bodies over the walls."""


def fallen(state: Float[np.ndarray, "*n s"]) -> np.ndarray:
    """Whether the robot lies on the floor, or its physics are out of bounds."""
    return np.asarray((state[..., HEIGHT] < FALLEN) | ~np.isfinite(state).all(-1))


def quaternion(yaw: float, pitch: float, roll: float) -> tuple[float, float, float, float]:
    cy, sy = math.cos(yaw / 2), math.sin(yaw / 2)
    cp, sp = math.cos(pitch / 2), math.sin(pitch / 2)
    cr, sr = math.cos(roll / 2), math.sin(roll / 2)
    return (
        cr * cp * cy + sr * sp * sy,
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
    )


def angles(w: float, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Yaw, pitch and roll of a unit quaternion."""
    return (
        math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)),
        math.asin(min(1.0, max(-1.0, 2 * (w * y - z * x)))),
        math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y)),
    )


def rotation(w: float, x: float, y: float, z: float) -> Float[np.ndarray, "3 3"]:
    """From the body's axes to the world's."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def settled_cube(
    turned: Float[np.ndarray, "3 3"], turning: Float[np.ndarray, "3"]
) -> tuple[tuple[float, float, float], Float[np.ndarray, "3"]]:
    """Yaw, pitch, roll and angular velocity of a cube, with its body's axes renamed so that the
    one which points up the most is z: which of its faces is which, nobody can tell."""
    up = int(np.abs(turned[2]).argmax())
    sign = math.copysign(1.0, turned[2, up])
    first = (up + 1) % 3
    renamed = np.zeros((3, 3))
    renamed[up, 2] = sign
    renamed[first, 0] = 1.0
    renamed[:, 1] = np.cross(renamed[:, 2], renamed[:, 0])
    told = turned @ renamed
    yaw = math.atan2(told[1, 0], told[0, 0])
    pitch = math.asin(min(1.0, max(-1.0, -told[2, 0])))
    return (yaw, pitch, math.atan2(told[2, 1], told[2, 2])), renamed.T @ turning
