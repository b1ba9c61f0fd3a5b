"""Push-T: a round tool pushes a T onto its outline (gym-pusht 0.1.8's lineage)."""

import numpy as np
from jaxtyping import Float

from wm_gym.systems.behaviours import noisy, smooth
from wm_gym.systems.pusht import geometry
from wm_gym.systems.pusht.expert import expert
from wm_gym.systems.pusht.play import correct, push
from wm_gym.systems.pusht.reward import reward
from wm_gym.systems.pusht.simulator import REACH
from wm_gym.systems.registry import System, Tool
from wm_gym.systems.task import Task


def _progress(state: Float[np.ndarray, "*n s"]) -> Float[np.ndarray, "*n"]:
    """Its coverage: the share of the goal under the block."""
    return geometry.coverage(state[..., 2:5])


def _proprioception(state: Float[np.ndarray, "*n s"]) -> Float[np.ndarray, "*n p=2"]:
    """The tool's place in pixels of 512, as gym-pusht's `agent_pos` and `observation.state` of
    LeRobot's dataset of it."""
    return state[..., :2]


PUSH_T = System(
    name="PushT",
    simulators={
        "Real-PushT-v0": "wm_gym.systems.pusht.simulator:PushT",
        "Real-GymPushT-v0": "wm_gym.systems.pusht.gym_pusht:GymPushT",
    },
    frame_shape=(96, 96, 3),
    action_size=2,
    state_names=("tool_x", "tool_y", "block_x", "block_y", "block_angle", "tool_vx", "tool_vy"),
    state_low=(-100.0, -100.0, -100.0, -100.0, -1e4, -2e3, -2e3),
    state_high=(612.0, 612.0, 612.0, 612.0, 1e4, 2e3, 2e3),
    reward=reward,
    progress=_progress,
    proprioception=_proprioception,
    proprio_names=("x", "y"),
    fps=5,
    context=4,
    horizon=150,
    success_threshold=0.95,
    tasks=(Task("push-t", "Push the T onto its outline."),),
    behaviours={
        "smooth": smooth(2),
        "noisy": noisy(2),
        "push": push,
        "correct": correct,
        "expert": expert,
    },
    world_model="push-t",
    probe="wm_gym.systems.pusht.probe",
    play={"smooth": 0.1, "noisy": 0.1, "push": 0.45, "correct": 0.35},
    tool=Tool(position=("tool_x", "tool_y"), board=(512.0, 512.0), reach=REACH),
)
