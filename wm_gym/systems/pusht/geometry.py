"""The T, its goal and how much of the goal it covers: pure functions of the block's pose."""

import math

import numpy as np
import shapely
from jaxtyping import Float

BOARD = 512
"""Side of the square board, in board pixels; all lengths and positions below are in them."""

TOOL_RADIUS = 15.0
BAR = np.array([(-60.0, 0.0), (60.0, 0.0), (60.0, 30.0), (-60.0, 30.0)])
STEM = np.array([(-15.0, 30.0), (15.0, 30.0), (15.0, 120.0), (-15.0, 120.0)])
CENTRE = np.array([0.0, 45.0])
"""Centre of gravity in the block's frame: the mean of the two rectangles' centres."""

GOAL = np.array([256.0, 256.0, math.pi / 4])
"""The goal pose of the block: x, y, angle."""

GOAL_AREA = 120.0 * 30.0 + 30.0 * 90.0
REACH = 2 * math.hypot(15.0, 120.0)
"""Two Ts whose origins are further apart than this cannot overlap."""


def to_board(
    points: Float[np.ndarray, "p 2"], pose: Float[np.ndarray, "*n 3"]
) -> Float[np.ndarray, "*n p 2"]:
    """Points of the block's frame, on the board: R(angle) u + (x, y)."""
    cos, sin = np.cos(pose[..., 2, None]), np.sin(pose[..., 2, None])
    u, v = points[:, 0], points[:, 1]
    turned = np.stack([cos * u - sin * v, sin * u + cos * v], axis=-1)
    return turned + pose[..., None, :2]


_GOAL_PARTS = shapely.polygons(np.stack([to_board(BAR, GOAL), to_board(STEM, GOAL)]))


def coverage(pose: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n"]:
    """Share of the goal's area that the block covers.

    Bar and stem do not overlap, so |G ∩ B| = Σ |Gᵢ ∩ Bⱼ| over their four convex pairs.
    """
    pose = np.asarray(pose, dtype=np.float64)
    flat = pose.reshape(-1, 3)
    covered = np.zeros(len(flat))
    near = np.hypot(*(flat[:, :2] - GOAL[:2]).T) < REACH
    if near.any():
        parts = shapely.polygons(
            np.stack([to_board(BAR, flat[near]), to_board(STEM, flat[near])], axis=1)
        )
        overlap = shapely.intersection(_GOAL_PARTS[:, None], parts[:, None, :])
        covered[near] = shapely.area(overlap).sum(axis=(1, 2)) / GOAL_AREA
    return covered.reshape(pose.shape[:-1])
