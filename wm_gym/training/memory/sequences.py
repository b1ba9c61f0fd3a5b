"""Sequences of latents, long enough to remember something by; and episodes that are held out."""

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import Tensor

from wm_gym.data import Dataset
from wm_gym.data.windows import Batches
from wm_gym.models.memory.dynamics import FrameEncoder, Shown
from wm_gym.models.memory.tokenizer import Tokenizer

HELD_OUT, SPLIT = 0.05, 2**20
"""Share of the episodes that nothing learns from, at least one of four, and the seed of which."""

SCORED = 10
"""One update of so many is scored on what is held out."""

Batch = TypeVar("Batch", covariant=True)


def split(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """Episodes to learn from, and those that are held out: of fewer than four, all are both."""
    if (n := len(dataset)) < 4:
        return dataset, dataset
    held = np.random.default_rng(SPLIT).permutation(n) < max(1, round(HELD_OUT * n))
    return (
        replace(dataset, index=dataset.index[~held]),
        replace(dataset, index=dataset.index[held]),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Both(Generic[Batch]):
    """A batch of what is learned from, and now and then one of what is held out, for scores."""

    learned: Batches[Batch]
    held: Batches[Batch]

    def batch(self, k: int) -> tuple[Batch, Batch | None]:
        return self.learned.batch(k), None if k % SCORED else self.held.batch(k)


@dataclass(frozen=True, kw_only=True, eq=False)
class SequenceBatch:
    """Batch first. Where an episode is shorter, the rest repeats its last moment, and is not
    valid."""

    latent: Float[Tensor, "b t d"]
    action: Float[Tensor, "b t a"]
    """That led to each moment; zeros at the first."""

    reward: Float[Tensor, "b t"]
    """Of the step that led there; 0 at the first."""

    progress: Float[Tensor, "b t"] | None
    """None where nobody logged it."""

    terminated: Bool[Tensor, "b t"]
    """Whether that step led to where the episode ended by itself."""

    valid: Bool[Tensor, "b t"]
    task: Int[Tensor, "b"]
    row: Int[Tensor, "b t"]
    """Of the dataset."""

    weight: Float[Tensor, "b t n"] | None = None
    """Of each cell of the pictures; None: all weigh the same."""

    def shown(self) -> Shown:
        """To a memory; frames are told by their rows."""
        return Shown(latent=self.latent, frames=self.row)

    def to(self, device: torch.device) -> "SequenceBatch":
        on = {
            name: value.to(device)
            for name in self.__dataclass_fields__
            if (value := getattr(self, name)) is not None
        }
        return replace(self, **on)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sequences:
    """Draws episodes by how long they are, and in each where to begin, uniformly."""

    dataset: Dataset
    latents: Float32[np.ndarray, "n d"]
    length: int
    batch_size: int
    seed: int
    tasks: int
    weights: Float32[np.ndarray, "n c"] | None = None
    """Of each cell of the pictures."""

    def batch(self, k: int) -> SequenceBatch:
        """A function of the seed and k alone."""
        rng, index, data = np.random.default_rng((self.seed, k)), self.dataset.index, self.dataset
        share = index["length"] / index["length"].sum()
        drawn = index[rng.choice(len(index), self.batch_size, p=share)]
        first = rng.integers(np.maximum(drawn["length"] - self.length, 0) + 1)
        at = first[:, None] + np.arange(self.length)
        rows = drawn["start"][:, None] + np.minimum(at, drawn["length"][:, None] - 1)
        before = rows[:, :-1]
        task = data.task_index[rows[:, 0]] if self.tasks > 1 else np.zeros(len(rows), np.int64)
        return SequenceBatch(
            latent=torch.from_numpy(self.latents[rows]),
            action=_led(data.action[before]),
            reward=_led(data.reward[before]),
            progress=(
                None
                if data.progress is None
                else torch.from_numpy(data.progress[rows].astype(np.float32))
            ),
            terminated=_led(data.terminated[before]),
            valid=torch.from_numpy(at < drawn["length"][:, None]),
            task=torch.from_numpy(task.astype(np.int64)),
            row=torch.from_numpy(rows.astype(np.int64)),
            weight=None if self.weights is None else torch.from_numpy(self.weights[rows]),
        )


def encoder_of(tokenizer: Tokenizer, dataset: Dataset) -> FrameEncoder:
    """Of frames that are told by their rows."""

    def read(row: Int[Tensor, "b k"]) -> UInt8[Tensor, "b k h w c"]:
        frames = torch.from_numpy(dataset.frames(row.flatten().cpu().numpy()))
        return frames.view(*row.shape, *frames.shape[1:]).to(row.device)

    return FrameEncoder(tokenizer=tokenizer, read=read)


def _led(values: np.ndarray) -> Tensor:
    """What led to each moment: nothing to the first."""
    told = torch.from_numpy(values)
    return torch.cat([torch.zeros_like(told[:, :1]), told], dim=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scales:
    """Of what a tokenizer makes of a dataset: what latents are standardised by, and how far they
    move in a step."""

    mean: Float32[np.ndarray, "d"]
    std: Float32[np.ndarray, "d"]

    @classmethod
    def of(cls, dataset: Dataset, told: Float32[np.ndarray, "n d"]) -> "Scales":
        seen = told[_rows(dataset, 0)]
        std = seen.std(axis=0)
        return cls(mean=seen.mean(axis=0), std=np.where(std > 1e-6, std, 1).astype(np.float32))


def change_of(
    dataset: Dataset, latents: Float32[np.ndarray, "n d"], code_size: int
) -> Float[Tensor, "d"]:
    """Root mean square over steps and numbers: one of all of a code, one of proprioception."""
    rows = _rows(dataset, 1)
    square = np.square(latents[rows + 1] - latents[rows]).mean(axis=0)
    change = torch.empty(latents.shape[1])
    for part in (slice(code_size), slice(code_size, None)):
        if len(square[part]):
            change[part] = max(float(np.sqrt(square[part].mean())), 1e-3)
    return change


def _rows(dataset: Dataset, but: int) -> Int[np.ndarray, "n"]:
    """Of all episodes, without so many last ones of each."""
    return np.concatenate([e["start"] + np.arange(e["length"] - but) for e in dataset.index])
