"""How well the local model knows the real system: poses, what it expects, rewards, coverage.

Errors are of logged windows: what the filter makes of 16 frames, and what the prior, without
another look, makes of the logged actions after them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from wm_gym.data import Dataset, Windows
from wm_gym.evaluation.linear_probe import HISTORY, LinearProbe, filtered
from wm_gym.evaluation.probes import Errors
from wm_gym.evaluation.statistics import Spread, spread
from wm_gym.models.protocol import LocalModel

AHEAD = (1, 16)
"""Steps that the prior goes on alone."""

POSTERIOR, STILL = "filtered", "if nothing moved, step {}"
PRIOR, AWAY = "prior, step {}", "prior off the posterior, step {}"
"""Kinds of errors; the last is the root mean square of positions, in units of a step's change."""

AIMS = {(POSTERIOR, "block_position"): 3.0, (POSTERIOR, "block_angle"): 3.0}
"""The most that medians may be, on unseen frames."""

_AT_ONCE = 100

Figures = dict[tuple[str, str], np.ndarray]
"""Errors by kind and name."""


@dataclass(frozen=True, kw_only=True)
class Line:
    kind: str
    name: str
    unit: str
    error: Spread
    aim: float | None


def local_figures(
    local_model: LocalModel,
    probe: Errors,
    linear: LinearProbe,
    dataset: Dataset,
    *,
    windows: int,
    seed: int,
) -> Iterator[Figures]:
    """A part of the windows after the other."""
    length = HISTORY + min(AHEAD[-1], int(dataset.index["length"].max()) - HISTORY)
    if length <= HISTORY:
        raise ValueError(
            f"{dataset.folder}: its longest episode has {dataset.index['length'].max()} frames, "
            f"expected more than {HISTORY}"
        )
    rows = Windows(dataset, length=length, batch_size=windows, seed=seed).rows(0)
    for first in range(0, windows, _AT_ONCE):
        yield _figures(local_model, probe, linear, dataset, rows[:, first : first + _AT_ONCE])


@torch.no_grad()
def _figures(
    local_model: LocalModel,
    probe: Errors,
    linear: LinearProbe,
    dataset: Dataset,
    rows: Int[np.ndarray, "t b"],
) -> Figures:
    features, now = filtered(local_model, dataset, rows), HISTORY - 1
    action = torch.from_numpy(dataset.action[rows]).to(features.device)
    state, found = dataset.fact("state")[rows], Figures()

    def compare(kind: str, said: Float[np.ndarray, "b s"], t: int) -> None:
        for name, error in probe.errors(said, state[t]).items():
            found[kind, name] = error

    compare(POSTERIOR, linear.state(features[now]), now)
    expected = features[now]
    for step in range(1, len(rows) - now):
        expected = local_model.predict(expected, action[now + step - 1])
        if step in AHEAD:
            compare(PRIOR.format(step), linear.state(expected), now + step)
            compare(STILL.format(step), state[now], now + step)
            away = local_model.away(expected, features[now + step])
            found[AWAY.format(step), "change"] = _numbers(away)
    reward = local_model.reward_of(features[now + 1], action[now])
    found["head", "reward"] = np.abs(_numbers(reward) - dataset.reward[rows[now]])
    if dataset.progress is not None:
        progress = _numbers(local_model.progress_of(features[now]))
        found["head", "coverage"] = np.abs(progress - dataset.progress[rows[now]])
    return found


def local_report(parts: list[Figures], units: Mapping[str, str], *, seed: int) -> list[Line]:
    """Of one dataset."""
    return [
        Line(
            kind=kind,
            name=name,
            unit=units.get(name, ""),
            error=spread(np.concatenate([part[kind, name] for part in parts]), seed=seed),
            aim=AIMS.get((kind, name)),
        )
        for kind, name in parts[0]
    ]


def _numbers(tensor: Float[Tensor, "b"]) -> Float[np.ndarray, "b"]:
    return tensor.double().cpu().numpy()
