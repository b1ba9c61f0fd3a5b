"""Choosing the real moments that a packaged dream begins from."""

import numpy as np

from wm_gym.data import Dataset
from wm_gym.envs.dream_starts import logged_start
from wm_gym.models.protocol import ModelSpec
from wm_gym.models.starts import Starts


def choose_starts(
    dataset: Dataset, spec: ModelSpec, *, count: int, seed: int, windows: int | None = None
) -> Starts:
    """Half of them are first frames of episodes, all that a real system offers at reset; the other
    half, or so many, are windows from anywhere, as even over the episodes as can be. None is an
    end. Proprioception and tasks are kept only where the model knows them."""
    context = spec.prefill
    rng = np.random.default_rng(seed)
    episodes = rng.permutation(len(dataset))
    chosen = [dataset.index[episodes[i % len(episodes)]] for i in range(count)]
    ended = dataset.ended[episodes]
    starts = []
    for i, entry in enumerate(chosen):
        span = int(entry["length"]) - context - int(ended[i % len(ended)])
        alone = i % 2 if windows is None else i >= windows
        if alone or span < 0:
            rows = np.array([entry["start"]])
        else:
            rows = entry["start"] + rng.integers(span + 1) + np.arange(context)
        starts.append(logged_start(dataset, spec, rows))
    return Starts.pack(starts)
