import os

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # windows open, but nowhere
os.environ.setdefault("XDG_RUNTIME_DIR", "/tmp")
os.environ.setdefault("MPLBACKEND", "Agg")

import warnings

with warnings.catch_warnings():  # pygame's use of pkg_resources, once, as it is imported
    warnings.simplefilter("ignore")
    import gym_pusht  # noqa: F401

import wm_gym  # noqa: F401
