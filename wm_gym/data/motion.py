"""How much the pictures of a dataset change, and whether the actions have to do with it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from wm_gym.data.dataset import Dataset

STILL_STEPS = 50
"""Steps after which a picture is compared with itself; fewer where episodes are shorter."""

AHEAD = 8
"""Steps that actions have time to show in the picture."""

WINDOWS, FEWEST = 1000, 2000
"""Drawn from the data, and of how many there have to be to say something of actions."""

BLOCKS = 10
"""In time, of which every other one is fitted on, and the rest judged."""

COMPONENTS, SHIFTS = 6, 19
"""A picture is told by so many numbers at most; actions are shifted in time so often, and true ones
that do nothing explain more than all of those once in twenty logs."""


@dataclass(frozen=True, kw_only=True)
class Motion:
    unchanged_share: float
    """Of the transitions, how many leave the picture as it was, to the bit."""

    still_steps: int
    still_psnr: float | None
    """dB of a picture against the one so many steps later, of the mean squared error; None where
    all are equal."""

    actions_vary: bool
    action_share: float | None
    """Of what a linear fit to the pictures before leaves open of the one some steps later, the
    share that actions explain; None where the data is too small to tell, or nothing changes."""

    action_seen: bool | None
    """Whether that is more than actions of other moments can."""


def motion_of(dataset: Dataset) -> Motion:
    rng = np.random.default_rng(0)
    steps = int(min(STILL_STEPS, dataset.index["length"].max() - 1))
    vary = bool((dataset.action[_starts(dataset, 1)].std(0) > 0).any())
    before = _drawn(_starts(dataset, 1), rng)
    unchanged = float(np.mean(_errors(dataset, before, 1) == 0))
    error = float(_errors(dataset, _drawn(_starts(dataset, steps), rng), steps).mean())
    share = seen = None
    if vary and error:
        share, seen = _effect(dataset, rng)
    return Motion(
        unchanged_share=unchanged,
        still_steps=steps,
        still_psnr=float(10 * np.log10(255**2 / error)) if error else None,
        actions_vary=vary,
        action_share=share,
        action_seen=seen,
    )


def motion_text(motion: Motion) -> list[str]:
    """What is there, and plain warnings of what cannot be learned from."""
    still = "all are equal" if motion.still_psnr is None else f"{motion.still_psnr:.1f} dB"
    lines = [
        f"pictures: {motion.unchanged_share:.0%} equal the one before; if nothing moved: {still} "
        f"after {motion.still_steps} steps"
    ]
    if motion.action_share is not None:
        lines.append(
            f"actions explain {max(0, motion.action_share):.0%} of what a linear fit to the "
            f"pictures before them leaves open of the one {AHEAD} steps on"
        )
    if motion.still_psnr is None or motion.unchanged_share > 0.99:
        lines.append(
            "WARNING: the pictures hardly ever change, so there is nothing to learn: does the "
            "environment draw anew after a step, and do its actions do anything?"
        )
    if not motion.actions_vary:
        lines.append("WARNING: the actions are always the same, so nothing can be learned of them")
    if motion.action_seen is False:
        lines.append(
            "WARNING: the actions seem to have no effect on the pictures: they change alike "
            "whatever is done. Is each action logged beside the frame that it was taken in?"
        )
    return lines


def _starts(dataset: Dataset, ahead: int) -> Int[np.ndarray, "n"]:
    """Rows that have so many rows after them in their episode."""
    spans = zip(dataset.index["start"], dataset.index["length"], strict=True)
    return np.concatenate([np.arange(s, s + max(0, n - ahead)) for s, n in spans])


def _drawn(rows: Int[np.ndarray, "n"], rng: np.random.Generator) -> Int[np.ndarray, "m"]:
    return np.sort(rng.permutation(rows)[:WINDOWS])


def _errors(dataset: Dataset, rows: Int[np.ndarray, "n"], ahead: int) -> Float[np.ndarray, "n"]:
    """Mean squared errors of pictures that are so many rows apart."""
    found = []
    for some in _parts(rows):
        one, other = (dataset.frames(each).astype(np.float32) for each in (some, some + ahead))
        found.append(np.square(one - other).mean((1, 2, 3)))
    return np.concatenate(found)


def _parts(rows: Int[np.ndarray, "n"]) -> list[Int[np.ndarray, "m"]]:
    return np.array_split(rows, max(1, len(rows) // 100))


def _effect(dataset: Dataset, rng: np.random.Generator) -> tuple[float | None, bool | None]:
    """Ridge regression of the change on the two pictures before, with actions and without, fitted
    on one half of the data and judged on the other. Shifted actions are as alike in time."""
    every = _starts(dataset, AHEAD + 1) + 1
    if len(every) < FEWEST:
        return None, None
    place = np.sort(rng.permutation(len(every))[:WINDOWS])
    rows = every[place]
    past, now, then = _told(dataset, [rows - 1, rows, rows + AHEAD])
    if not (then - now).any():
        return None, None
    state = _squared(np.concatenate([now, now - past], axis=1))

    def unexplained(shift: int | None) -> float:
        if shift is None:
            return _ridge_error(state, then - now)
        first = every[(place + shift) % len(every)]
        taken = dataset.action[first[:, None] + np.arange(AHEAD)].mean(1)
        factor = np.concatenate([np.ones((len(rows), 1)), now], axis=1)
        inputs = (taken[:, :, None] * factor[:, None]).reshape(len(rows), -1)
        return _ridge_error(np.concatenate([state, inputs], axis=1), then - now)

    shifts = rng.integers(len(every) // 10, len(every) - len(every) // 10, SHIFTS)
    found = unexplained(0)
    return 1 - found / unexplained(None), found < min(map(unexplained, shifts.tolist()))


def _told(dataset: Dataset, rows: list[np.ndarray]) -> list[Float[np.ndarray, "n k"]]:
    """How much there is of each channel and where its middle is: there, whatever moves shows."""
    flat = [
        np.concatenate([_middles(dataset.frames(some)) for some in _parts(each)]) for each in rows
    ]
    mean = flat[1].mean(0)
    _, size, axes = np.linalg.svd(flat[1] - mean, full_matrices=False)
    kept = axes[size > 1e-2 * size[0]][:COMPONENTS]
    scale = size[: len(kept)] / np.sqrt(len(mean))
    return [(each - mean) @ kept.T / scale for each in flat]


def _middles(frames: UInt8[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n k"]:
    by_row, by_column = (frames.mean(axis) / 255 for axis in (2, 1))
    y, x = (np.linspace(-1, 1, by.shape[1]) for by in (by_row, by_column))
    return np.concatenate(
        [by_row.mean(1), np.einsum("nhc,h->nc", by_row, y), np.einsum("nwc,w->nc", by_column, x)],
        axis=1,
    )


def _squared(state: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k2"]:
    """With all products of two."""
    i, j = np.triu_indices(state.shape[1])
    return np.concatenate([state, state[:, i] * state[:, j]], axis=1)


def _ridge_error(inputs: Float[np.ndarray, "n k"], outputs: Float[np.ndarray, "n m"]) -> float:
    """Mean squared error on each half of what was fitted on the other."""
    half, error = np.arange(len(inputs)) * BLOCKS // len(inputs) % 2 == 0, 0.0
    for fit in (half, ~half):
        mean, scale = inputs[fit].mean(0), inputs[fit].std(0) + 1e-9
        x, level = np.clip((inputs - mean) / scale, -4, 4), outputs[fit].mean(0)
        gram = x[fit].T @ x[fit] + 0.01 * fit.sum() * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, x[fit].T @ (outputs[fit] - level))
        error += float(np.square(outputs[~fit] - level - x[~fit] @ weights).mean())
    return error / 2
