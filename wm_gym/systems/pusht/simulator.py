"""`Real-PushT-v0`: our own physics and picture behind the simulator protocol."""

import threading

import numpy as np
from jaxtyping import Float, UInt8

from wm_gym.systems.pusht.geometry import BOARD
from wm_gym.systems.pusht.physics import Physics, Snapshot
from wm_gym.systems.pusht.picture import Painter

REACH = 64.0
"""Board pixels that an action of 1 moves the target away from the tool."""

TICKS = 2
"""10 Hz ticks that an action is held: 5 Hz control."""

_shared = threading.local()


def shared_painter() -> Painter:
    """One per thread: it owns surfaces of several megabytes and keeps nothing between pictures."""
    if not hasattr(_shared, "painter"):
        _shared.painter = Painter()
    return _shared.painter


def draw_start(rng: np.random.Generator) -> Float[np.ndarray, "5"]:
    """The numbers that gym-pusht 0.1.8 draws at a reset, in its order."""
    tool = rng.integers(50, 450), rng.integers(50, 450)
    block = rng.integers(100, 400), rng.integers(100, 400)
    return np.array([*tool, *block, rng.uniform(-np.pi, np.pi)])


def target_of(
    position: tuple[float, float], action: Float[np.ndarray, "a=2"]
) -> tuple[float, float]:
    """Where an action sends the tool: a displacement from where it is, kept on the board."""
    x = position[0] + REACH * float(action[0])
    y = position[1] + REACH * float(action[1])
    return min(max(x, 0.0), float(BOARD)), min(max(y, 0.0), float(BOARD))


class PushT:
    def __init__(self) -> None:
        self.physics = Physics()

    @property
    def contact(self) -> bool:
        return self.physics.contact

    def start(self, rng: np.random.Generator) -> None:
        self.physics.start(draw_start(rng))

    def place(self, state: Float[np.ndarray, "s"]) -> None:
        self.physics.place(state)

    def advance(self, action: Float[np.ndarray, "a=2"]) -> None:
        self.physics.hold(target_of(self.physics.tool.position, action), TICKS)

    def state(self) -> Float[np.ndarray, "s=7"]:
        return self.physics.state()

    def frame(self) -> UInt8[np.ndarray, "h=96 w=96 c=3"]:
        return shared_painter().picture(self.physics.state(), self.physics.marks)

    def picture(self) -> UInt8[np.ndarray, "h=512 w=512 c=3"]:
        return shared_painter().board(self.physics.state(), self.physics.marks)

    def snapshot(self) -> Snapshot:
        return self.physics.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        self.physics.restore(snapshot)
