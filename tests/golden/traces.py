"""What is kept of what an environment returns: small, and comparable on other processors.

frames          means of 16 × 16 pixels, and a SHA-256 of each step's
long vectors    eight random projections, and a SHA-256 of each step's
the rest        as it is
kinds           the type, dtype, shape and differentiability of all of it
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch

Record = dict[str, np.ndarray]

FRAME, CELL = (96, 96, 3), 16
LONG, DIRECTIONS = 32, 8
SHA, MEAN, PROJECTED, EXACT = "#sha256", "#mean", "#projected", "#exact"
"""Endings of names; what ends with the first and the last is compared bit for bit or not at all."""


class Trace:
    """Rows of named values, one a step; not every row needs to have every name."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[int, np.ndarray]]] = {}
        self._kinds: set[str] = set()
        self._length = 0

    def add(self, **values: Any) -> None:
        for name, value in flat(values):
            self._kinds.add(f"{name}: {kind(value)}")
            self._rows.setdefault(name, []).append((self._length, numbers(value)))
        self._length += 1

    def record(self, title: str) -> Record:
        kept: Record = {f"{title}/kinds": np.array(sorted(self._kinds))}
        for name, rows in self._rows.items():
            steps, values = zip(*rows, strict=True)
            if len(steps) < self._length:
                kept[f"{title}/{name}@"] = np.array(steps)
            kept |= summary(f"{title}/{name}", np.stack(values))
        return kept


def flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}/")
        else:
            yield f"{above}{name}", value


def kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        grows = " with gradient" if value.requires_grad else ""
        return f"{value.dtype} {tuple(value.shape)}{grows}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return type(value).__name__


def numbers(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy().copy()
    array = np.array(value)
    if array.dtype != object:
        return array
    shown = next(each for each in array if each is not None)  # Gymnasium's `final_obs`
    return np.stack([np.zeros_like(shown) if each is None else each for each in array])


def summary(name: str, values: np.ndarray) -> Record:
    """Of an array whose first axis is time."""
    if values.shape[-3:] == FRAME:
        return {f"{name}{SHA}": digests(values), f"{name}{MEAN}": cell_means(values)}
    if values.dtype.kind == "f" and values.shape[-1:] > (LONG,):
        shown = projected(values)
        return {f"{name}{SHA}": digests(values), f"{name}{PROJECTED}": shown}
    return {name: values}


def digests(values: np.ndarray) -> np.ndarray:
    rows = [hashlib.sha256(np.ascontiguousarray(row).tobytes()).digest() for row in values]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(values), -1)


def cell_means(frames: np.ndarray) -> np.ndarray:
    height, width, channels = FRAME
    shape = (*frames.shape[:-3], height // CELL, CELL, width // CELL, CELL, channels)
    return frames.reshape(shape).mean((-4, -2), dtype=np.float64).astype(np.float16)


def projected(values: np.ndarray) -> np.ndarray:
    return (values @ directions(values.shape[-1])).astype(np.float32)


@cache
def directions(size: int) -> np.ndarray:
    rng = np.random.default_rng(size)
    return rng.standard_normal((size, DIRECTIONS)) / np.sqrt(size)


def tensors(title: str, named: Mapping[str, Any]) -> Record:
    """Of each parameter its sum, norm and first numbers, and a SHA-256."""
    kept: Record = {f"{title}/names": np.array(sorted(named))}
    for name in sorted(named):
        values = numbers(named[name])
        line = values.astype(np.float64).ravel()
        kept[f"{title}/{name}{SHA}"] = digests(values.reshape(1, -1))
        kept[f"{title}/{name}"] = np.array([line.sum(), np.linalg.norm(line), *line[:4]])
    return kept
