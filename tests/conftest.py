import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, a core each
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # windows open, but nowhere
os.environ.setdefault("XDG_RUNTIME_DIR", "/tmp")
os.environ.setdefault("MPLBACKEND", "Agg")

import warnings

with warnings.catch_warnings():  # pygame's use of pkg_resources, once, as it is imported
    warnings.simplefilter("ignore")
    import gym_pusht  # noqa: F401

from functools import cache

import jaxtyping
import pytest
import torch

from wm_gym.models.folder import packaged_names
from wm_gym.systems import PUSH_CUBE

torch.set_num_threads(1)


@pytest.fixture
def unchecked_types():
    """The type checker of the tests draws from Python's global generator; the package does not."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@cache
def _missing():
    """What Push Cube's simulator lacks here, if anything."""
    try:
        PUSH_CUBE.make_simulator().frame()
    except ImportError as error:
        return str(error)
    return None


PACKAGED = packaged_names()
"""Before any test puts other ones in their place."""


def _unpackaged(item):
    return bool(item.get_closest_marker("packaged")) and "push-cube" not in PACKAGED


def pytest_runtest_setup(item):
    if _unpackaged(item):
        pytest.skip("the world model push-cube is not packaged")
    if item.get_closest_marker("mujoco") and (missing := _missing()):
        pytest.skip(missing)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where MuJoCo or the model is required, as in CI, a test of it that was skipped has failed."""
    report = yield
    for marker in ("packaged",) if _unpackaged(item) else ("mujoco", "packaged"):
        switch = f"WM_GYM_REQUIRE_{marker.upper()}"
        required = os.environ.get(switch, "") not in ("", "0")
        if report.skipped and required and item.get_closest_marker(marker):
            report.outcome = "failed"
            report.longrepr = f"skipped, where {switch} is set: {report.longrepr}"
    return report
