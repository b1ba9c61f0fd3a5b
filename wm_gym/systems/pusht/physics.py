"""Push-T in pymunk: a kinematic round tool pushes a free T on a frictionless, fully damped board.

The numbers are gym-pusht 0.1.8's, so that from equal starts equal actions have equal outcomes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pymunk
from jaxtyping import Float
from pymunk.space_debug_draw_options import SpaceDebugColor

from wm_gym.systems.pusht.geometry import BAR, STEM, TOOL_RADIUS

SUBSTEP = 0.01
"""Seconds of one physics step."""

TICK = 10
"""Physics steps of one tick of gym-pusht, 10 Hz."""

STIFFNESS, DAMPING = 100.0, 20.0
"""Of the controller that draws the tool to its target: critically damped, time constant 0.1 s."""

LOW, HIGH, WALL_RADIUS = 5.0, 506.0, 2
WALLS = (
    ((LOW, HIGH), (LOW, LOW)),
    ((LOW, LOW), (HIGH, LOW)),
    ((HIGH, LOW), (HIGH, HIGH)),
    ((LOW, HIGH), (HIGH, HIGH)),
)

_TOOL, _BLOCK = 1, 2

Mark = tuple[tuple[float, float], tuple[float, float]]
"""Ends of the short line that pymunk draws across a contact."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Everything that the future depends on, and what the picture of this moment shows."""

    tool: tuple[float, float]
    tool_velocity: tuple[float, float]
    block: tuple[float, float]
    angle: float
    block_velocity: tuple[float, float]
    spin: float
    marks: tuple[Mark, ...]


class _Marks(pymunk.SpaceDebugDrawOptions):
    """Collects the contact lines that pymunk would draw."""

    def __init__(self) -> None:
        super().__init__()
        self.flags = pymunk.SpaceDebugDrawOptions.DRAW_COLLISION_POINTS
        self.found: list[Mark] = []

    def draw_segment(self, a: pymunk.Vec2d, b: pymunk.Vec2d, color: SpaceDebugColor) -> None:
        self.found.append(((a.x, a.y), (b.x, b.y)))


def contact_marks(space: pymunk.Space) -> tuple[Mark, ...]:
    options = _Marks()
    space.debug_draw(options)
    return tuple(options.found)


def at_rest(state: Float[np.ndarray, "s=7"]) -> Snapshot:
    """The snapshot of a state in which the block does not move."""
    x, y, block_x, block_y, angle, vx, vy = map(float, state)
    return Snapshot(
        tool=(x, y),
        tool_velocity=(vx, vy),
        block=(block_x, block_y),
        angle=angle,
        block_velocity=(0.0, 0.0),
        spin=0.0,
        marks=(),
    )


def snapshot_of(tool: pymunk.Body, block: pymunk.Body, marks: tuple[Mark, ...]) -> Snapshot:
    return Snapshot(
        tool=tuple(tool.position),
        tool_velocity=tuple(tool.velocity),
        block=tuple(block.position),
        angle=block.angle,
        block_velocity=tuple(block.velocity),
        spin=block.angular_velocity,
        marks=marks,
    )


def put(snapshot: Snapshot, tool: pymunk.Body, block: pymunk.Body) -> None:
    """Move both bodies to where they were in the snapshot."""
    tool.position, tool.velocity = snapshot.tool, snapshot.tool_velocity
    block.angle = snapshot.angle  # before the position: turning moves the origin
    block.position, block.velocity = snapshot.block, snapshot.block_velocity
    block.angular_velocity = snapshot.spin
    for body in (tool, block):
        assert body.space is not None
        body.space.reindex_shapes_for_body(body)  # else they are drawn where they were


def state_of(tool: pymunk.Body, block: pymunk.Body) -> Float[np.ndarray, "s=7"]:
    """Tool x, y, block x, y, angle, tool velocity x, y."""
    return np.array([*tool.position, *block.position, block.angle, *tool.velocity])


class Physics:
    """One board. `place` and `restore` build it anew, so that a start has but one future."""

    def __init__(self) -> None:
        self._build()

    def _build(self) -> None:
        self.space = pymunk.Space()
        self.space.gravity = 0, 0
        self.space.damping = 0.0
        # pymunk's order of collision pairs, and so its rounding, follows the order of insertion
        self.space.add(
            *(pymunk.Segment(self.space.static_body, a, b, WALL_RADIUS) for a, b in WALLS)
        )
        self.tool = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        circle = pymunk.Circle(self.tool, TOOL_RADIUS)
        circle.collision_type = _TOOL
        self.space.add(self.tool, circle)
        # gym-pusht counts the bar's inertia twice and the stem's never
        self.block = pymunk.Body(1.0, 2 * pymunk.moment_for_poly(1.0, BAR.tolist()))
        bar = pymunk.Poly(self.block, BAR.tolist())
        stem = pymunk.Poly(self.block, STEM.tolist())
        bar.collision_type = stem.collision_type = _BLOCK
        self.block.center_of_gravity = (bar.center_of_gravity + stem.center_of_gravity) / 2
        self.space.add(self.block, bar, stem)
        self.space.add_collision_handler(_TOOL, _BLOCK).post_solve = self._touched
        self.contact = False
        self.marks: tuple[Mark, ...] = ()

    def _touched(self, arbiter: pymunk.Arbiter, space: pymunk.Space, data: Any) -> None:
        self.contact = True

    def start(self, numbers: Float[np.ndarray, "5"]) -> None:
        """Start as gym-pusht does from these numbers: tool x, y, block x, y, angle.

        It sets the position before the angle, which turns the block about its centre of gravity, so
        the block's origin ends elsewhere. Kept, so that equal seeds give equal starts.
        """
        self._build()
        self.tool.position = float(numbers[0]), float(numbers[1])
        self.block.position = float(numbers[2]), float(numbers[3])
        self.block.angle = float(numbers[4])
        self.space.step(SUBSTEP)
        self.marks = contact_marks(self.space)

    def place(self, state: Float[np.ndarray, "s=7"]) -> None:
        """Start at this very state."""
        self.restore(at_rest(state))

    def tick(self, target: tuple[float, float]) -> None:
        """0.1 s of drawing the tool to its target."""
        space, tool = self.space, self.tool
        (to_x, to_y), (vx, vy) = target, tool.velocity
        for _ in range(TICK):
            x, y = tool.position
            vx += (STIFFNESS * (to_x - x) + DAMPING * (0 - vx)) * SUBSTEP
            vy += (STIFFNESS * (to_y - y) + DAMPING * (0 - vy)) * SUBSTEP
            tool.velocity = vx, vy
            space.step(SUBSTEP)

    def hold(self, target: tuple[float, float], ticks: int) -> None:
        """Hold a target for some ticks; `contact` then says whether the tool touched the block."""
        self.contact = False
        for _ in range(ticks):
            self.tick(target)
        self.marks = contact_marks(self.space)

    def state(self) -> Float[np.ndarray, "s=7"]:
        return state_of(self.tool, self.block)

    def snapshot(self) -> Snapshot:
        return snapshot_of(self.tool, self.block, self.marks)

    def restore(self, snapshot: Snapshot) -> None:
        self._build()
        put(snapshot, self.tool, self.block)
        self.marks = snapshot.marks

    def __getstate__(self) -> tuple[Snapshot, bool]:
        """pymunk's own copies forget the order of shapes, and with it the rounding."""
        return self.snapshot(), self.contact

    def __setstate__(self, state: tuple[Snapshot, bool]) -> None:
        self.restore(state[0])
        self.contact = state[1]
