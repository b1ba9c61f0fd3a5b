"""Numbers that make no sense are refused, by name, before anything begins."""

import math


def check_least(least: float, **options: float | None) -> None:
    """ValueError, with its name, for what is less, infinite or no number; None was not given."""
    for name, value in options.items():
        if value is not None and not (least <= value and math.isfinite(value)):
            what = f"at least {least}" if math.isfinite(least) else "a finite number"
            raise ValueError(f"{name} is {value}, expected {what}")
