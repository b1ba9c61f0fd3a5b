"""Steps by gradients that are not finite are left out; where nothing else comes, learning ends."""

import math
from collections.abc import Mapping, Sequence

PATIENCE = 20
"""Windows in a row without a single finite gradient of one kind, after which there is no hope."""

KINDS = ("actor", "critics", "look-aheads", "local model")
"""Of steps; each is guarded by itself, for critics learn well from an actor that never moves."""


class Guard:
    def __init__(self) -> None:
        self.barren = dict.fromkeys(KINDS, 0)
        """The last windows in a row in which all steps of a kind were left out."""

    def count(self, norms: Mapping[str, Sequence[float]]) -> int:
        """How many steps of a window were left out: those whose gradient's norm is NaN."""
        for kind, each in norms.items():
            if each:
                self.barren[kind] = self.barren[kind] + 1 if all(map(math.isnan, each)) else 0
        for kind, windows in self.barren.items():
            if windows >= PATIENCE:
                raise FloatingPointError(
                    f"{kind}: no finite gradient in any step of the last {windows} windows; look "
                    "at the environment's rewards and gradients, and at the learning rates"
                )
        return sum(math.isnan(norm) for each in norms.values() for norm in each)


def finite_mean(norms: Sequence[float]) -> float:
    """Of steps that were taken; NaN where none was."""
    taken = [norm for norm in norms if not math.isnan(norm)]
    return sum(taken) / len(taken) if taken else math.nan
