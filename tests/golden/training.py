"""What `wm-gym train tiny` makes of a little data."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym
import numpy as np
from safetensors.numpy import load_file

from wm_gym.data import Dataset
from wm_gym.data.collect import Recipe, collect_episodes

from .dreams import CPU, SAME, actions_of, run
from .traces import EXACT, Record, Trace, tensors

ROOT = Path(__file__).parents[2]
PARTS = ("autoencoder", "global_model", "refined", "heads", "eye", "local_model")
CHOSEN = ("autoencoder", "global-model", "refining", "heads", "eye", "local-model")
UPDATES = 2


def training() -> Record:
    """Losses of each update, all weights of the model, and a dream of it."""
    with TemporaryDirectory() as folder:
        data, out = Path(folder) / "data", Path(folder) / "run"
        recipe = Recipe(env_id="Real-PushT-v0", episodes=4, steps=20)
        assert len(list(collect_episodes(recipe, data, workers=1))) == 4
        few = [word for part in CHOSEN for word in (f"--{part}.updates", UPDATES)]
        wm_gym("train", "tiny", "--data", data, "--out", out, "--save-minutes", 0, *few)
        kept: Record = {f"dataset{EXACT}": np.array(Dataset.open(data).hash)}
        for part in PARTS:
            kept |= curve(out / part / "curve.jsonl").record(part)
        for path in sorted((out / "world-model").glob("*.safetensors")):
            kept |= tensors(path.stem, load_file(path))
        kept |= config(out / "world-model" / "config.json").record("config")
        return kept | dreamt(out / "world-model")


def wm_gym(*arguments: Any) -> None:
    """On one thread, without a GPU."""
    command = [sys.executable, "-W", "ignore", "-m", "wm_gym.programs", *map(str, arguments)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=alone, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def curve(path: Path) -> Trace:
    trace = Trace()
    for line in path.read_text().splitlines():
        trace.add(**{name: value for name, value in json.loads(line).items() if name != "time"})
    return trace


def config(path: Path) -> Trace:
    """Of its parts: sizes, and scales that were measured."""
    trace = Trace()
    trace.add(**(json.loads(path.read_text())["parts"]))
    return trace


def dreamt(folder: Path) -> Record:
    envs = gym.make_vec(
        "WM-PushT-v0", num_envs=3, world_model=folder, autoreset_mode=SAME, horizon=3, **CPU
    )
    return run(envs, actions_of(4, 3)).record("dream")
