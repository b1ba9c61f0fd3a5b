import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, a core each
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # windows open, but nowhere
os.environ.setdefault("XDG_RUNTIME_DIR", "/tmp")
os.environ.setdefault("MPLBACKEND", "Agg")

import warnings

with warnings.catch_warnings():  # pygame's use of pkg_resources, once, as it is imported
    warnings.simplefilter("ignore")
    import gym_pusht  # noqa: F401

import jaxtyping
import pytest
import torch

import wm_gym  # noqa: F401

torch.set_num_threads(1)


@pytest.fixture
def unchecked_types():
    """The type checker of the tests draws from Python's global generator; the package does not."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
