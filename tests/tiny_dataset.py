"""A dataset of tiny pictures, for the tests of what is written and read."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wm_gym.data import Dataset, DatasetSpec, DatasetWriter, Episode, Fact

DATA_FILE = "data/chunk-000/file-000.parquet"

SPEC = DatasetSpec(
    env_id="Tiny-v0",
    fps=10,
    picture=(8, 6, 3),
    action_size=2,
    facts={
        "coverage": Fact(dtype="float32"),
        "state": Fact(dtype="float64", shape=(7,)),
        "corners": Fact(dtype="int16", shape=(4, 2)),
        "contact": Fact(dtype="bool"),
    },
    robot_type="pusht",
    recipe={"behaviours": ["random", "play"], "seed": 0, "sizes": (1, 2)},
)


def make_episode(number: int) -> Episode:
    rng = np.random.default_rng(number)
    steps = 3 + number % 4
    frames = rng.integers(0, 256, (steps + 1, 8, 6, 3), dtype=np.uint8)
    return Episode(
        frames=frames,
        action=rng.normal(size=(steps, 2)).astype(np.float32) + 10,
        reward=rng.normal(size=steps).astype(np.float32),
        terminated=number % 2 == 0,
        truncated=number % 3 == 0,
        facts={
            "coverage": rng.random(steps + 1, dtype=np.float32),
            "state": rng.normal(size=(steps + 1, 7)),
            "corners": rng.integers(-9, 9, (steps + 1, 4, 2), dtype=np.int16),
            "contact": rng.random(steps + 1) > 0.5,
        },
        behaviour="random" if number % 2 else "play",
        split="train" if number < 4 else "test",
        seed=number,
        task="push the T" if number else "pull the T",
    )


def write(folder: Path, numbers=range(6), *, finalize: bool = True, **options) -> DatasetWriter:
    writer = DatasetWriter(folder, SPEC)
    for number in numbers:
        writer.add(number, make_episode(number))
    if finalize:
        writer.finalize(**options)
    return writer


def open_unfinished(folder: Path) -> Dataset:
    with pytest.warns(UserWarning, match="not finished"):
        return Dataset.open(folder)


def assert_same(came: Episode, expected: Episode) -> None:
    for name in ("frames", "action", "reward"):
        np.testing.assert_array_equal(getattr(came, name), getattr(expected, name), strict=True)
    assert list(came.facts) == sorted(expected.facts)
    for name, values in expected.facts.items():
        np.testing.assert_array_equal(came.facts[name], values, strict=True)
    for name in ("terminated", "truncated", "behaviour", "split", "seed", "task"):
        assert getattr(came, name) == getattr(expected, name)


def run_python(code: str) -> subprocess.Popen:
    head = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    head += "import os, signal\nfrom tiny_dataset import *\n"
    return subprocess.Popen([sys.executable, "-c", head + code], stdout=subprocess.PIPE, text=True)
