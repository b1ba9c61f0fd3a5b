"""Reading the state off a picture of Push-T, to judge dreams by: nothing here is learned.

Blue less red is 0 on everything but the block (about 40) and the tool (about 170), so one number a
pixel shows both. A T and a disc with soft edges are fitted to it by Gauss-Newton; what the fit
cannot explain tells whether there is one whole T at all.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from wm_gym.systems.pusht.geometry import BAR, BOARD, CENTRE, STEM, TOOL_RADIUS, to_board

_CELLS = 96
_CELL = BOARD / _CELLS
_CENTRES = ((np.arange(_CELLS) + 0.5) * _CELL - 0.5).astype(np.float32)  # of cells, on the board
_BLOCK, _TOOL = 40.0, 172.0  # blue less red, of each
_EDGE = 2.0  # how far the block's outline reaches beyond its shape
_DRAWN = np.array([-0.25, 0.0]), np.array([-0.5, -0.5])
"""Where pygame draws a block and a tool of even widths, off from where they are: measured."""

_MIDDLE = np.array([0.0, 40.7])  # of the block's area, in its frame
_PARTS = [(part.mean(0), np.ptp(part, axis=0) / 2 + _EDGE) for part in (BAR, STEM)]
_AREA = 6300 / _CELL**2  # of a whole T, in cells
_BLOCK_WINDOW, _TOOL_WINDOW = 36, 10  # cells around each that the fits look at
_ANGLES = np.arange(24) * (2 * np.pi / 24)
_SOFT = (12.0, 8.0, 5.0, 4.0, 4.0, 4.0)
"""Width of the T's edges in each step of its fit, in board pixels; a cell is 5.3 wide."""

_POOR = 0.1
"""A fit that leaves more than this is tried again from other angles."""

_AT_ONCE = 64  # frames, so that they stay in a core's cache
_STEP = np.array([8.0, 8.0, 0.15])  # the longest of Gauss-Newton's that is trusted

WHOLE = 0.12
"""A frame with a residual below this shows one whole T. Of real frames 99 % are below 0.04, of an
autoencoder's below 0.09; dreamt Ts are bent, to the eye, from 0.14 on. Half a bar too little gives
0.22 and more, half the strength 0.27, four fifths of the size 0.25, a blur over 3 cells 0.29, and
no T at all 0.62."""

UNITS = {"block_position": "px", "block_angle": "°", "tool_position": "px"}
"""Of the errors; a pixel is the board's, of which a cell of the picture has 5.3."""

WRONG = ("block_position", 5.0)
"""With more of this error a frame is called wrong: about one pixel of the picture."""

STATE = ("tool_x", "tool_y", "block_x", "block_y", "block_angle")

POSE = {"pose": 3}
"""What gradients of the next step are of: the block's, in px."""

PLACES, ANGLE, LEVER = slice(2, 4), (4, 5), 60.0
"""Board pixels: an angle counts as how far it moves a point this far from the centre."""

FITTED = "push-t-play"

STATES, DELTAS, NOISES, REPEATED = 600, (0.05, 0.1, 0.2), 1, 3
"""Nothing here is random, so that every third state tells how much a nudge changes."""

AIMED = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    state: Float[np.ndarray, "n s=5"]
    """Tool x, y; block x, y, angle: as the system's own state."""

    residual: Float[np.ndarray, "n"]
    """What the fit leaves unexplained of the block, as a share of a whole T's signal: 0 is perfect,
    1 is as wrong as no T at all. A T of which less than half is on the board counts as unseen."""


def read_state(frames: UInt8[np.ndarray, "n h=96 w=96 c=3"]) -> Reading:
    parts = [_read(frames[i : i + _AT_ONCE]) for i in range(0, max(len(frames), 1), _AT_ONCE)]
    return Reading(
        state=np.concatenate([part.state for part in parts]),
        residual=np.concatenate([part.residual for part in parts]),
    )


def errors(
    state: Float[np.ndarray, "n s"], truth: Float[np.ndarray, "n s2"]
) -> dict[str, Float[np.ndarray, "n"]]:
    """Between two states, by the names in `UNITS`; the block's place is its centre of gravity."""
    ours, its = (to_board(CENTRE[None], each[:, 2:5])[:, 0] for each in (state, truth))
    turn = np.remainder(state[:, 4] - truth[:, 4] + np.pi, 2 * np.pi) - np.pi
    return {
        "block_position": np.hypot(*(ours - its).T),
        "block_angle": np.abs(np.degrees(turn)),
        "tool_position": np.hypot(*(state[:, :2] - truth[:, :2]).T),
    }


def pose_of(state: Float[np.ndarray, "*n s"]) -> Float[np.ndarray, "*n 3"]:
    """The block's centre of gravity x, y and 60·angle, all in px."""
    centre = to_board(CENTRE[None], state[..., 2:5])[..., 0, :]
    return np.concatenate([centre, LEVER * state[..., 4:5]], axis=-1)


def targets(state: Float[np.ndarray, "n s"]) -> Float[np.ndarray, "n d=6"]:
    """Tool x, y, centre of gravity x, y, and cosine and sine of the angle."""
    angle = state[:, 4:5]
    return np.concatenate(
        [state[:, :2], pose_of(state)[:, :2], np.cos(angle), np.sin(angle)], axis=1
    )


def state_read(
    said: Float[np.ndarray, "n d=6"], pose: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n s=5"]:
    """As the system's own: its block's origin is off its centre of gravity."""
    turned = np.concatenate([np.zeros((len(pose), 2)), pose[:, 2:] / LEVER], axis=1)
    origin = pose[:, :2] - to_board(CENTRE[None], turned)[:, 0]
    return np.concatenate([said[:, :2], origin, turned[:, 2:]], axis=1)


def shown(
    frames: UInt8[np.ndarray, "n h w c"], residual: Float[np.ndarray, "n"]
) -> Bool[np.ndarray, "n 3"]:
    """All of the pose, where there is one whole T."""
    return np.repeat((residual < WHOLE)[:, None], 3, axis=1)


def nudged(state: Float[np.ndarray, "n s"], rng: np.random.Generator) -> Float[np.ndarray, "n s"]:
    """The block half a pixel off, anywhere: less than a picture shows."""
    way, moved = rng.uniform(0, 2 * np.pi, len(state)), state.copy()
    moved[:, 2:4] += 0.5 * np.stack([np.cos(way), np.sin(way)], axis=1)
    return moved


@dataclass(frozen=True, kw_only=True, eq=False)
class _Window:
    """The cells around something, one row of them for each frame."""

    points: Float32[np.ndarray, "n p 2"]
    values: Float32[np.ndarray, "n p"]
    weight: Float32[np.ndarray, "n p"]
    """0 where a cell shows something else."""

    def at(self, index: Any) -> "_Window":
        return _Window(
            points=self.points[index], values=self.values[index], weight=self.weight[index]
        )


def _read(frames: UInt8[np.ndarray, "n h w c"]) -> Reading:
    red, green, blue = np.moveaxis(frames.astype(np.float32), -1, 0)
    signal, plain = blue - red, red - green < 10  # a contact's mark is red
    tool = _first_tool(signal)
    clear = plain & (_distance(tool) > TOOL_RADIUS + 7)
    values = np.clip(signal / _BLOCK, 0, 1.2) * clear
    window = _window(values, clear, _mean_place(values), _BLOCK_WINDOW)
    pose, missed = _fitted(window)
    elsewhere = np.square(values).sum((1, 2)) - (window.weight * np.square(window.values)).sum(1)
    for _ in range(3):
        tool = _improved_tool(tool, signal, plain, pose)
    state = np.concatenate([tool - _DRAWN[1], pose], axis=1)
    state[:, 2:4] -= _DRAWN[0]
    return Reading(state=state, residual=missed + elsewhere / _AREA)


def _mean_place(values: Float32[np.ndarray, "n h w"]) -> Float[np.ndarray, "n 2"]:
    """Their centre of gravity on the board."""
    total = np.maximum(values.sum((1, 2)), 1e-6)
    place = [values.sum(axis) @ _CENTRES / total for axis in (1, 2)]
    return np.stack(place, axis=1).astype(np.float64)


def _first_tool(signal: Float32[np.ndarray, "n h w"]) -> Float[np.ndarray, "n 2"]:
    """The middle of what is more blue than a block can be."""
    return _mean_place(np.clip(signal - 60, 0, 60))


def _distance(place: Float[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n h w"]:
    dx, dy = _CENTRES - place[:, 0, None], _CENTRES - place[:, 1, None]
    return np.sqrt(np.square(dx)[:, None, :] + np.square(dy)[:, :, None]).astype(np.float32)


def _window(
    values: Float32[np.ndarray, "n h w"],
    clear: Bool[np.ndarray, "n h w"],
    middle: Float[np.ndarray, "n 2"],
    side: int,
) -> _Window:
    n = len(values)
    first = np.clip(np.rint(middle / _CELL - side / 2).astype(int), 0, _CELLS - side)
    column, row = (first[:, axis, None] + np.arange(side) for axis in (0, 1))
    pick = (np.arange(n)[:, None, None], row[:, :, None], column[:, None, :])
    x, y = np.broadcast_arrays(_CENTRES[column][:, None, :], _CENTRES[row][:, :, None])
    return _Window(
        points=np.stack([x, y], axis=-1).reshape(n, side**2, 2),
        values=values[pick].reshape(n, side**2),
        weight=clear[pick].reshape(n, side**2).astype(np.float32),
    )


def _fitted(window: _Window) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n"]]:
    """Poses and what they leave; where that is much, also from a quarter, half, ... turn away."""
    first = _first_pose(window)
    pose, missed = _refined(first, window)
    poor = np.flatnonzero(missed > _POOR)
    for quarter in (1, 2, 3) if len(poor) else ():
        turned = _moved(first[poor], np.array([0, 0, quarter * np.pi / 2]))
        other, left = _refined(turned, window.at(poor))
        better = left < missed[poor]
        pose[poor[better]], missed[poor[better]] = other[better], left[better]
    return pose, missed


def _first_pose(window: _Window) -> Float[np.ndarray, "n 3"]:
    """Its middle where the signal's is, and the angle that fits best, of a few and roughly."""
    seen = window.weight * window.values
    middle = (window.points * seen[..., None]).sum(1) / np.maximum(seen.sum(1), 1e-6)[:, None]
    coarse = window.at(np.s_[:, ::5])
    poses, missed = [], []
    for angle in _ANGLES:
        pose = np.concatenate([middle, np.full((len(middle), 1), angle)], axis=1, dtype=np.float64)
        pose[:, :2] += middle - to_board(_MIDDLE[None], pose)[:, 0]
        shape = _soft(_outside(coarse.points, pose)[0], 10.0)
        poses.append(pose)
        missed.append((coarse.weight * np.square(shape - coarse.values)).sum(1))
    return np.stack(poses)[np.argmin(missed, axis=0), np.arange(len(middle))]


def _refined(
    pose: Float[np.ndarray, "n 3"], window: _Window
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n"]]:
    for soft in _SOFT:
        distance, slope = _outside(window.points, pose)
        off = window.values - _soft(distance, soft)
        step = _step(slope * _ramp(distance, soft)[..., None], off, window.weight)
        pose = _moved(pose, np.clip(step, -_STEP, _STEP))
    shape = _soft(_outside(window.points, pose)[0], 3.0)
    missed = (window.weight * np.square(shape - window.values)).sum(1) / _AREA
    unseen = np.maximum(1 - 2 * shape.sum(1) / _AREA, 0)
    return pose, (missed + unseen).astype(np.float64)


def _outside(
    points: Float32[np.ndarray, "n p 2"], pose: Float[np.ndarray, "n 3"]
) -> tuple[Float32[np.ndarray, "n p"], Float32[np.ndarray, "n p 3"]]:
    """How far outside the T each point is, and how that falls as the T moves along x, y and turns
    about its centre of gravity: with local gradient g and w = u − CENTRE, (R g, w × g)."""
    cos, sin = (f(pose[:, 2, None]).astype(np.float32) for f in (np.cos, np.sin))
    x, y = np.moveaxis(points - pose[:, None, :2].astype(np.float32), -1, 0)
    u, v = cos * x + sin * y, cos * y - sin * x
    distance, gu, gv = _outside_part(u, v, *_PARTS[0])
    other, hu, hv = _outside_part(u, v, *_PARTS[1])
    nearer = other < distance
    distance, gu, gv = (np.where(nearer, b, a) for a, b in ((distance, other), (gu, hu), (gv, hv)))
    turn = (u - np.float32(CENTRE[0])) * gv - (v - np.float32(CENTRE[1])) * gu
    return distance, np.stack([cos * gu - sin * gv, sin * gu + cos * gv, turn], axis=-1)


def _outside_part(
    u: Float32[np.ndarray, "n p"],
    v: Float32[np.ndarray, "n p"],
    centre: Float[np.ndarray, "2"],
    half: Float[np.ndarray, "2"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The signed distance from a rectangle, and its gradient."""
    (cu, cv), (hu, hv) = centre.tolist(), half.tolist()
    du, dv = np.abs(u - cu) - hu, np.abs(v - cv) - hv
    ou, ov = np.maximum(du, 0), np.maximum(dv, 0)
    far = np.hypot(ou, ov)
    inside = far == 0
    scale = 1 / np.where(inside, 1, far)
    gu = np.where(inside, du > dv, ou * scale) * np.sign(u - cu)
    gv = np.where(inside, du <= dv, ov * scale) * np.sign(v - cv)
    return far + np.minimum(np.maximum(du, dv), 0), gu, gv


def _improved_tool(
    tool: Float[np.ndarray, "n 2"],
    signal: Float32[np.ndarray, "n h w"],
    plain: Bool[np.ndarray, "n h w"],
    pose: Float[np.ndarray, "n 3"],
) -> Float[np.ndarray, "n 2"]:
    """One step for the disc, which hides the block where both are."""
    window = _window(signal, plain, tool, _TOOL_WINDOW)
    behind = _BLOCK * _soft(_outside(window.points, pose)[0], 4.0)
    hidden = np.clip((window.values - behind) / (_TOOL - behind), 0, 1)
    way = window.points - tool[:, None].astype(np.float32)
    radius = np.maximum(np.hypot(way[..., 0], way[..., 1]), 1e-3)
    distance = radius - np.float32(TOOL_RADIUS)
    jacobian = way / radius[..., None] * _ramp(distance, 5.0)[..., None]
    step = _step(jacobian, hidden - _soft(distance, 5.0), window.weight)
    return tool + np.clip(step, -8, 8)


def _soft(distance: Float32[np.ndarray, "n p"], soft: float) -> Float32[np.ndarray, "n p"]:
    """1 inside, 0 outside, with a ramp of `soft` board pixels between."""
    return np.clip(0.5 - distance / soft, 0, 1)


def _ramp(distance: Float32[np.ndarray, "n p"], soft: float) -> Float32[np.ndarray, "n p"]:
    """How steep it is."""
    return (np.abs(distance) < soft / 2).astype(np.float32) / np.float32(soft)


def _step(
    jacobian: Float32[np.ndarray, "n p d"],
    off: Float32[np.ndarray, "n p"],
    weight: Float32[np.ndarray, "n p"],
) -> Float[np.ndarray, "n d"]:
    """Damped Gauss-Newton, (JᵀWJ + λ) δ = JᵀW r; λ is a little of each column's own size."""
    weighted = (jacobian * weight[..., None]).transpose(0, 2, 1).astype(np.float64)
    normal = weighted @ jacobian
    size = np.eye(normal.shape[-1]) * (1e-3 * normal + 1e-9)
    return np.linalg.solve(normal + size, weighted @ off[..., None].astype(np.float64))[..., 0]


def _moved(
    pose: Float[np.ndarray, "n 3"], delta: Float[np.ndarray, "*n 3"]
) -> Float[np.ndarray, "n 3"]:
    """By (x, y, angle), the angle about the centre of gravity."""
    centre = to_board(CENTRE[None], pose)[:, 0] + delta[..., :2]
    moved = pose + delta
    moved[:, :2] += centre - to_board(CENTRE[None], moved)[:, 0]
    return moved
