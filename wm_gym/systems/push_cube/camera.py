"""Pictures of a state: what the robot's camera sees, and the arena for people."""

import atexit
import os
import threading
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from wm_gym.systems.push_cube import robot
from wm_gym.systems.push_cube.physics import Physics, shared

SIDE, PICTURE_SIDE = 96, 480
_INSET = 120
"""Side of what the robot sees, in the corner of a picture for people."""

_SHAPES = 3
"""MuJoCo's group of collision shapes, which the robot does not see of itself."""


class Camera:
    """MuJoCo's renderer behind both; one in a thread is enough."""

    def __init__(self, physics: Physics) -> None:
        self._physics, self._mujoco = physics, physics.mujoco
        self._renderers: dict[int, Any] = {}
        mujoco = self._mujoco
        self._seen, self._shown = mujoco.MjvOption(), mujoco.MjvOption()
        self._shown.geomgroup[_SHAPES] = 1
        self._watcher = mujoco.MjvCamera()
        self._watcher.type = mujoco.mjtCamera.mjCAMERA_FREE
        self._watcher.lookat[:] = 0.0, 0.75, 0.0
        self._watcher.distance, self._watcher.azimuth, self._watcher.elevation = 9.0, 90, -47

    def frame(self, now: Float[np.ndarray, "s"]) -> UInt8[np.ndarray, "h=96 w=96 c=3"]:
        return self._drawn(now, SIDE, "head", self._seen)

    def cube_seen(self, now: Float[np.ndarray, "s"]) -> np.ndarray:
        """Which pixels of the frame are the cube's."""
        renderer = self._renderer(SIDE)
        renderer.enable_segmentation_rendering()
        try:
            shown = self._drawn(now, SIDE, "head", self._seen)
        finally:
            renderer.disable_segmentation_rendering()
        kind = int(self._mujoco.mjtObj.mjOBJ_GEOM)
        return (shown[..., 0] == self._physics.at.cube_shape) & (shown[..., 1] == kind)

    def picture(self, now: Float[np.ndarray, "s"]) -> UInt8[np.ndarray, "h=480 w=480 c=3"]:
        """The arena from above and behind, with the robot's own view in a corner."""
        picture = self._drawn(now, PICTURE_SIDE, self._watcher, self._shown)
        scale = _INSET / SIDE
        rows = (np.arange(_INSET) / scale).astype(int)
        edge = 3
        picture[: _INSET + 2 * edge, : _INSET + 2 * edge] = 255
        picture[edge : _INSET + edge, edge : _INSET + edge] = self.frame(now)[rows][:, rows]
        return picture

    def _drawn(
        self, now: Float[np.ndarray, "s"], side: int, camera: Any, option: Any
    ) -> np.ndarray:
        physics = self._physics
        physics.put(now)
        self._mujoco.mj_kinematics(physics.model, physics.data)
        self._mujoco.mj_camlight(physics.model, physics.data)
        renderer = self._renderer(side)
        renderer.update_scene(physics.data, camera, option)
        return np.asarray(renderer.render())

    def _renderer(self, side: int) -> Any:
        if side not in self._renderers:
            try:
                renderer = _renderer_of(self._mujoco)
                self._renderers[side] = renderer(self._physics.model, side, side)
            except Exception as error:
                raise robot.no_drawing(error) from error
            if len(self._renderers) == 1:  # only now, so that it comes before OpenGL's own end
                atexit.register(_close, os.getpid(), self)
        return self._renderers[side]

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()


def _renderer_of(mujoco: Any) -> Any:
    """MuJoCo's class, half-made objects of which do not complain as they are deleted."""
    context = getattr(mujoco.gl_context, "GLContext", None)
    if context is None:
        raise ImportError("MUJOCO_GL turns drawing off")
    context._context = None
    return type("Renderer", (mujoco.Renderer,), {"_gl_context": None, "_mjr_context": None})


_cameras = threading.local()


def shared_camera() -> Camera:
    """One in a thread; a forked process makes its own."""
    if getattr(_cameras, "owner", None) != os.getpid():
        _cameras.camera, _cameras.owner = Camera(shared()), os.getpid()
    camera: Camera = _cameras.camera
    return camera


def _close(owner: int, camera: Camera) -> None:
    if owner == os.getpid():
        camera.close()
