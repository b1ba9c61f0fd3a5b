"""Where two observations, infos or events part, in words."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


class ConformanceError(AssertionError):
    """A rule is broken; the message says which, what was expected and what came."""


def require(kept: bool, message: str) -> None:
    if not kept:
        raise ConformanceError(message)


def difference(expected: Any, actual: Any, atol: float = 0.0) -> str:
    """Where and how `actual` departs from `expected`; empty if nowhere. NaN equals NaN."""
    if isinstance(expected, Mapping):
        if not isinstance(actual, Mapping) or expected.keys() != actual.keys():
            return f": expected a dict with {sorted(expected)}, got {_keys(actual)}"
        pairs = [(repr(key), value, actual[key]) for key, value in expected.items()]
    elif isinstance(expected, tuple | list):
        if not isinstance(actual, tuple | list) or len(expected) != len(actual):
            return f": expected {len(expected)} items, got {actual!r:.200}"
        pairs = [(str(k), *pair) for k, pair in enumerate(zip(expected, actual, strict=True))]
    else:
        return _leaf_difference(np.asarray(expected), np.asarray(actual), atol)
    for name, one, other in pairs:
        if found := difference(one, other, atol):
            return f"[{name}]{found}"
    return ""


def _keys(value: Any) -> str:
    return str(sorted(value)) if isinstance(value, Mapping) else type(value).__name__


def _leaf_difference(expected: npt.NDArray[Any], actual: npt.NDArray[Any], atol: float) -> str:
    if expected.shape != actual.shape:
        return f": expected {_brief(expected)}, got {_brief(actual)}"
    if expected.dtype == np.object_ and expected.ndim:
        return difference(expected.tolist(), actual.tolist(), atol)
    apart = ~np.atleast_1d(_same(expected, actual, atol))
    if not apart.any():
        return ""
    share = f", {apart.sum()} of {apart.size} values apart" if apart.size > 1 else ""
    return f": expected {_brief(expected)}, got {_brief(actual)}{share}"


def _same(expected: npt.NDArray[Any], actual: npt.NDArray[Any], atol: float) -> Any:
    same = np.asarray(expected == actual)
    if same.all() or not all(x.dtype.kind in "biufc" for x in (expected, actual)):
        return same
    kind = np.result_type(expected, actual, np.float64)  # uint8 differences must not wrap around
    one, other = expected.astype(kind), actual.astype(kind)
    both_nan = np.isnan(one) & np.isnan(other)
    return same | both_nan | (np.abs(one - other) <= atol if atol else False)


def _brief(value: npt.NDArray[Any]) -> str:
    if value.size > 8:
        return f"{value.dtype}{list(value.shape)}"
    return repr(value.item() if value.ndim == 0 else value.tolist())
