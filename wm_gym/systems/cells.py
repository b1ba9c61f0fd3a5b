"""How a picture divides into square cells, which networks look at."""

import numpy as np

MOST_CELLS = 32
"""Along a side: more would only be slow."""


def cell_of(height: int, width: int) -> int:
    """The side of square cells that fit on a picture, of which about 16 lie along it."""
    common = np.gcd(height, width)
    fitting = [n for n in range(1, int(common) + 1) if common % n == 0]
    wanted = max(height, width) / 16
    return min(fitting, key=lambda n: abs(np.log(n / wanted)))


def cells_fit(height: int, width: int) -> bool:
    return max(height, width) <= MOST_CELLS * cell_of(height, width)
