"""How a record of now differs from the one that is kept."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .traces import EXACT, MEAN, SHA, Record

GREY, CELL_GREY = 0.1, 4.0
"""How far frames may be off on other processors, which round otherwise: in the mean, and the mean
of a cell at most, of 255."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """|came − kept| ≤ rtol |kept| + atol max|kept|, on other processors."""

    rtol: float = 1e-4
    atol: float = 1e-4


def differences(kept: Record, came: Record, tolerance: Tolerance | None) -> Iterator[str]:
    """A line for each; without a tolerance, bit for bit. `info` may say more than it did."""
    for name in sorted(set(kept) ^ set(came)):
        if name in kept or "info/" not in name:
            yield f"{name}: only {'kept' if name in kept else 'came'}"
    for name in kept:
        if name not in came or (tolerance and name.endswith((SHA, EXACT))):
            continue
        found = difference(name, kept[name], came[name], tolerance)
        if found:
            yield f"{name}: {found}"


def difference(
    name: str, kept: np.ndarray, came: np.ndarray, tolerance: Tolerance | None
) -> str | None:
    if name.endswith("kinds"):
        lost, new = (sorted(set(a) - set(b)) for a, b in ((kept, came), (came, kept)))
        new = [each for each in new if "info/" not in each]
        return f"kept {lost}, came {new}" if lost or new else None
    if (kept.dtype, kept.shape) != (came.dtype, came.shape):
        return f"kept {kept.dtype} {kept.shape}, came {came.dtype} {came.shape}"
    if tolerance is None or kept.dtype.kind != "f":
        return unequal(kept, came)
    kept, came = kept.astype(np.float64), came.astype(np.float64)
    if name.endswith(MEAN):
        off = np.abs(came - kept)
        far = off.mean() > GREY or off.max() > CELL_GREY
        return f"grey is off by {off.mean():.3g}, {off.max():.3g} at most" if far else None
    most = np.nanmax(np.abs(kept), initial=0)
    if np.allclose(came, kept, tolerance.rtol, tolerance.atol * most, equal_nan=True):
        return None
    return f"off by {np.nanmax(np.abs(came - kept)):.3g} where the largest is {most:.3g}"


def unequal(kept: np.ndarray, came: np.ndarray) -> str | None:
    if kept.tobytes() == came.tobytes():
        return None
    if not kept.ndim:
        return f"kept {kept}, came {came}"
    rows = [i for i in range(len(kept)) if kept[i].tobytes() != came[i].tobytes()]
    off = ""
    if kept.dtype.kind == "f":
        off = f", by {np.nanmax(np.abs(came.astype(float) - kept.astype(float))):.3g} at most"
    return f"rows {rows[:5]}{'…' if len(rows) > 5 else ''} of {len(kept)} are not equal{off}"
