"""`Real-GymPushT-v0`: gym-pusht itself behind our protocol, the judge nobody here wrote."""

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from wm_gym.systems.pusht.simulator import TICKS, draw_start, target_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pygame's import of pkg_resources
    try:
        from gym_pusht.envs import PushTEnv
    except ImportError as error:
        raise ImportError(
            "Real-GymPushT-v0 needs the package gym-pusht: pip install 'wm-gym[gym-pusht]'"
        ) from error

_NOWHERE = np.array([100.0, 100.0, 300.0, 300.0, 0.0])
"""A start in which nothing touches, for a space that is then set by hand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    tool: tuple[float, float]
    tool_velocity: tuple[float, float]
    block: tuple[float, float]
    angle: float
    block_velocity: tuple[float, float]
    spin: float


class GymPushT:
    contact = False

    def __init__(self) -> None:
        self.env = PushTEnv(
            obs_type="pixels",
            render_mode="rgb_array",
            visualization_width=512,
            visualization_height=512,
        )
        self.env.reset(options={"reset_to_state": _NOWHERE})

    def start(self, rng: np.random.Generator) -> None:
        self.contact = False
        self._frame, _ = self.env.reset(options={"reset_to_state": draw_start(rng)})

    def place(self, state: Float[np.ndarray, "s=7"]) -> None:
        x, y, block_x, block_y, angle, vx, vy = map(float, state)
        self.restore(
            Snapshot(
                tool=(x, y), tool_velocity=(vx, vy), block=(block_x, block_y), angle=angle,
                block_velocity=(0.0, 0.0), spin=0.0,
            )
        )  # fmt: skip

    def advance(self, action: Float[np.ndarray, "a=2"]) -> None:
        env, self.contact = self.env, False
        target = np.array(target_of(env.agent.position, action))
        for tick in range(TICKS):
            env.obs_type = "pixels" if tick == TICKS - 1 else "state"  # draw the last one alone
            self._frame, *_, info = env.step(target)
            self.contact |= info["n_contacts"] > 0  # it counts contacts with the walls too

    def state(self) -> Float[np.ndarray, "s=7"]:
        tool, block = self.env.agent, self.env.block
        return np.array([*tool.position, *block.position, block.angle, *tool.velocity])

    def frame(self) -> UInt8[np.ndarray, "h=96 w=96 c=3"]:
        return self._frame

    def picture(self) -> UInt8[np.ndarray, "h=512 w=512 c=3"]:
        return self.env.render()

    def snapshot(self) -> Snapshot:
        tool, block = self.env.agent, self.env.block
        return Snapshot(
            tool=tuple(tool.position), tool_velocity=tuple(tool.velocity),
            block=tuple(block.position), angle=block.angle,
            block_velocity=tuple(block.velocity), spin=block.angular_velocity,
        )  # fmt: skip

    def restore(self, snapshot: Snapshot) -> None:
        self.env.reset(options={"reset_to_state": _NOWHERE})
        tool, block = self.env.agent, self.env.block
        tool.position, tool.velocity = snapshot.tool, snapshot.tool_velocity
        block.angle = snapshot.angle  # before the position: turning moves the origin
        block.position, block.velocity = snapshot.block, snapshot.block_velocity
        block.angular_velocity = snapshot.spin
        self.contact = False
        self._frame = self.env.get_obs()
