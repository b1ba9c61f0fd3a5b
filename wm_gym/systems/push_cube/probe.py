"""Reading Push Cube's frames, to judge dreams by.

Whether there is a cube is told by its colour alone. Where it is, and where the robot is, a small
network reads that has learned it from real frames: this says what.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from wm_gym.systems.push_cube.view import cube_pixels

LEARNED_FROM = "push-cube-play"

TARGETS = ("cube_ahead", "cube_left", "x", "y", "cos_yaw", "sin_yaw")
"""The cube's place as the robot sees it, and the robot's own, in metres."""

SHOWN = 30
"""Pixels of the cube with which a frame shows where it is; it has 4 where it is seen at all."""

WHOLE = 0.7
"""A frame that misses less than this shows the cube: a region of its colour of at least 30 % of the
area that it has in the real frame."""

UNITS = {"cube": "m", "robot": "m", "heading": "°"}
"""Of the errors: the cube's place in the robot's frame, the robot's in the arena."""

WRONG = ("cube", 0.25)

STATE = ("x", "y", "yaw", "cube_x", "cube_y")
POSE = {"cube": 2, "robot": 2, "heading": 1}
"""What gradients of the next step are of: the cube's place as the robot sees it, the robot's own,
and where it looks."""

PLACES, ANGLE, LEVER = slice(0, 4), (4, 5), 1.0
"""A radian counts as a metre, by which it moves what is a metre ahead."""

FITTED = LEARNED_FROM

STATES, DELTAS, NOISES, REPEATED = 32, (0.2, 0.4), 1, 1
"""Each state is measured under two noises. The command of the gait follows by 0.5 m/s, 0.4 m/s and
1 rad/s in a step: what moves it by much more measures that. By 0.2 it moves by a third of that at
most. How two noises agree: LOG, "Gradients of a walking robot"."""

AIMED = False

_SIZE = len(TARGETS)


def targets(state: Float[np.ndarray, "n s"]) -> Float[np.ndarray, "n d=6"]:
    x, y, yaw, cube_x, cube_y = np.moveaxis(state[:, :5], 1, 0)
    cos, sin = np.cos(yaw), np.sin(yaw)
    ahead = cos * (cube_x - x) + sin * (cube_y - y)
    left = cos * (cube_y - y) - sin * (cube_x - x)
    return np.stack([ahead, left, x, y, cos, sin], axis=1)


def pose_of(state: Float[np.ndarray, "*n s"]) -> Float[np.ndarray, "*n 5"]:
    """Of a true state or of what was read."""
    flat = state.reshape(-1, state.shape[-1])
    told = flat if flat.shape[1] == _SIZE else targets(flat)
    yaw = LEVER * np.arctan2(told[:, 5:6], told[:, 4:5])
    return np.concatenate([told[:, :4], yaw], axis=1).reshape(*state.shape[:-1], 5)


def state_read(
    said: Float[np.ndarray, "n d=6"], pose: Float[np.ndarray, "n 5"]
) -> Float[np.ndarray, "n s=6"]:
    """What was read is all that errors ask for."""
    return said


def shown(
    frames: UInt8[np.ndarray, "n h w c=3"], residual: Float[np.ndarray, "n"]
) -> Bool[np.ndarray, "n 5"]:
    """The arena always, the cube where there is enough of its colour."""
    return readable(frames)[:, :5]


def readable(frames: UInt8[np.ndarray, "n h w c=3"]) -> Bool[np.ndarray, "n d=6"]:
    """The arena always, the cube where it is in view."""
    shown = np.ones((len(frames), _SIZE), np.bool_)
    shown[:, :2] = ~hidden(frames)["cube"][:, None]
    return shown


def hidden(real: UInt8[np.ndarray, "n h w c=3"]) -> dict[str, Bool[np.ndarray, "n"]]:
    return {"cube": cube_pixels(real).sum((1, 2)) < SHOWN}


def errors(
    state: Float[np.ndarray, "n s"], truth: Float[np.ndarray, "n s2"]
) -> dict[str, Float[np.ndarray, "n"]]:
    """Of what was read, or of a true state."""
    ours, its = (each if each.shape[1] == _SIZE else targets(each) for each in (state, truth))
    off = ours - its
    cos = ours[:, 4] * its[:, 4] + ours[:, 5] * its[:, 5]
    sin = ours[:, 5] * its[:, 4] - ours[:, 4] * its[:, 5]
    return {
        "cube": np.hypot(off[:, 0], off[:, 1]),
        "robot": np.hypot(off[:, 2], off[:, 3]),
        "heading": np.abs(np.degrees(np.arctan2(sin, cos))),
    }


def missing(
    frames: UInt8[np.ndarray, "n h w c=3"], real: UInt8[np.ndarray, "n h w c=3"]
) -> Float[np.ndarray, "n"]:
    """How much of the cube's area in the real frame the largest region of its colour lacks; all of
    it where there is a second one that could be a cube, too. NaN where the real one shows none."""
    area = cube_pixels(real).sum((1, 2))
    first, second = np.moveaxis(regions(cube_pixels(frames)), 1, 0)
    least = (1 - WHOLE) * area
    with np.errstate(divide="ignore", invalid="ignore"):
        lacks = np.clip(1 - first / area, 0, 1)
    lacks[second >= least] = 1.0
    lacks[area < SHOWN] = np.nan
    return np.asarray(lacks, np.float64)


def regions(shown: Bool[np.ndarray, "n h w"]) -> Int[np.ndarray, "n 2"]:
    """Pixels of the two largest connected regions: each pixel takes the largest number among its
    neighbours until all of a region have the same."""
    n, h, w = shown.shape
    number = np.where(shown, np.arange(1, h * w + 1).reshape(h, w), 0).astype(np.int32)
    busy = np.arange(n)
    while len(busy):
        before = number[busy]
        after = before.copy()
        np.maximum(after[:, 1:], before[:, :-1], out=after[:, 1:])
        np.maximum(after[:, :-1], before[:, 1:], out=after[:, :-1])
        np.maximum(after[:, :, 1:], before[:, :, :-1], out=after[:, :, 1:])
        np.maximum(after[:, :, :-1], before[:, :, 1:], out=after[:, :, :-1])
        after *= shown[busy]
        number[busy] = after
        busy = busy[(after != before).any((1, 2))]
    found = np.zeros((n, 2), np.int64)
    for i, each in enumerate(number):
        sizes = np.sort(np.bincount(each[each > 0]))[::-1][:2]
        found[i, : len(sizes)] = sizes
    return found
