"""Batches of windows: a few frames in a row of one episode, with all that happens between them."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from wm_gym.data.dataset import Dataset


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowBatch:
    """Time first. `action[i]`, `reward[i]` and `terminated[i]` lead from frame i to frame i + 1."""

    frames: UInt8[np.ndarray, "t b h w c"]
    action: Float32[np.ndarray, "t0 b a"]
    reward: Float32[np.ndarray, "t0 b"]
    terminated: Bool[np.ndarray, "t0 b"]
    facts: dict[str, np.ndarray]
    """Per frame, (t, b, ...): labels, never inputs."""
    first_row: Int[np.ndarray, "b"]
    """Where in the dataset each window begins."""
    task: Int[np.ndarray, "b"]
    """Its index."""
    proprio: Float32[np.ndarray, "t b p"] | None = None
    """None where nobody logged it."""
    progress: Float[np.ndarray, "t b"] | None = None
    """A label, never an input; None where nobody logged it."""


class Windows:
    """Draws uniformly, with replacement, from all windows that lie within one episode."""

    def __init__(self, dataset: Dataset, *, length: int, batch_size: int, seed: int) -> None:
        if length < 1 or batch_size < 1 or seed < 0:
            raise ValueError(
                f"length={length}, batch_size={batch_size}, seed={seed}: expected a window of at "
                "least 1 frame, at least 1 window in a batch, and a seed of 0 or more"
            )
        fitting = dataset.index[dataset.index["length"] >= length]
        if not len(fitting):
            raise ValueError(
                f"no episode has {length} frames, the longest has {dataset.index['length'].max()}; "
                "ask for shorter windows"
            )
        self.dataset = dataset
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        windows = fitting["length"] - length + 1
        self._stop = np.cumsum(windows)  # windows in all episodes up to this one
        self._shift = fitting["start"] - (self._stop - windows)  # from a window's number to its row

    def __len__(self) -> int:
        """Different windows there are."""
        return int(self._stop[-1])

    def rows(self, k: int) -> Int[np.ndarray, "t b"]:
        """Of the k-th batch: a function of the seed and k alone."""
        rng = np.random.default_rng((self.seed, k))
        window = rng.integers(len(self), size=self.batch_size)
        first_row = window + self._shift[np.searchsorted(self._stop, window, side="right")]
        return np.asarray(first_row + np.arange(self.length)[:, None])

    def batch(self, k: int) -> WindowBatch:
        """The k-th batch."""
        rows, data = self.rows(k), self.dataset
        frames = data.frames(rows.ravel()).reshape(*rows.shape, *data.spec.picture)
        return WindowBatch(
            frames=frames,
            action=data.action[rows[:-1]],
            reward=data.reward[rows[:-1]],
            terminated=data.terminated[rows[:-1]],
            facts={name: data.fact(name)[rows] for name in data.spec.facts},
            first_row=rows[0],
            task=data.task_index[rows[0]],
            proprio=None if data.proprio is None else data.proprio[rows],
            progress=None if data.progress is None else data.progress[rows],
        )


Batch_co = TypeVar("Batch_co", covariant=True)


@runtime_checkable
class Batches(Protocol[Batch_co]):
    def batch(self, k: int) -> Batch_co:
        """The k-th: a function of k alone."""


def prefetch(
    batches: Batches[Batch_co], *, start: int = 0, depth: int = 2
) -> Generator[Batch_co, None, None]:
    """Batches start, start + 1, ... without end; the next `depth` are decoded in one other thread.

    The thread ends with the generator. What fails in it is raised here, in its turn.
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}, expected at least 1 batch ahead")
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        ahead = deque(pool.submit(batches.batch, k) for k in range(start, start + depth))
        for k in count(start + depth):
            ahead.append(pool.submit(batches.batch, k))
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
