"""Push Cube: a Go2 pushes a cube to a goal, and sees what its own camera sees.

MuJoCo, the gait's runtime and the robot's files (`make push-cube`) are imported as a simulator is
made; nothing here needs them.
"""

import numpy as np
from jaxtyping import Float

from wm_gym.systems.push_cube import play, robot, state
from wm_gym.systems.push_cube.expert import expert
from wm_gym.systems.push_cube.model import JOINTS
from wm_gym.systems.push_cube.reward import SUCCESS, progress, reward
from wm_gym.systems.push_cube.view import in_view
from wm_gym.systems.registry import System
from wm_gym.systems.task import Task


def _proprioception(told: Float[np.ndarray, "*n s"]) -> Float[np.ndarray, "*n p=33"]:
    """What a Go2 reports of itself: gyroscope, direction of gravity, joints, and the command that
    its gait follows. Free of the noise that the gait's own sensors have."""
    pitch, roll = told[..., 7:8], told[..., 8:9]
    down = (np.sin(pitch), -np.cos(pitch) * np.sin(roll), -np.cos(pitch) * np.cos(roll))
    felt = (state.ANGLES, state.JOINT_SPEEDS, state.COMMAND)
    return np.concatenate(
        [told[..., state.TURNING], *down, *(told[..., each] for each in felt)], axis=-1
    )


PROPRIO_NAMES = (
    *("gyro_x", "gyro_y", "gyro_z", "gravity_x", "gravity_y", "gravity_z"),
    *(f"{joint}_angle" for joint in JOINTS),
    *(f"{joint}_speed" for joint in JOINTS),
    *("command_vx", "command_vy", "command_wz"),
)

PUSH_CUBE = System(
    name="PushCube",
    simulators={"Real-PushCube-v0": "wm_gym.systems.push_cube.simulator:PushCube"},
    frame_shape=(96, 96, 3),
    action_size=3,
    state_names=state.NAMES,
    state_low=state.LOW,
    state_high=state.HIGH,
    reward=reward,
    progress=progress,
    proprioception=_proprioception,
    proprio_names=PROPRIO_NAMES,
    ended=state.fallen,
    fps=5,
    context=32,
    horizon=200,
    success_threshold=SUCCESS,
    solved_for=5,
    tasks=(Task("push-cube", "Push the cube onto the green disc."),),
    options={"noise": True},
    in_view=in_view,
    camera=((0.16, 0.0, 0.0), (0.0, 0.08, 0.072), (0.0, 0.0, 0.24)),  # 0.3 m ahead of the middle
    places={"robot": ("x", "y"), "cube": ("cube_x", "cube_y")},
    packages=("mujoco", "onnxruntime", robot.WHEEL),
    licences=robot.LICENCES,
    world_model="push-cube",
    probe="wm_gym.systems.push_cube.probe",
    scenarios="wm_gym.systems.push_cube.scenarios",
    behaviours={**play.BEHAVIOURS, "expert": expert},
    play=play.SHARES,
    keys="wqa",
)
