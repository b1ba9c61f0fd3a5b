"""Numbers of the command line that make no sense are refused before anything begins."""

import math


def check_least(least: float, **options: float | None) -> None:
    """ValueError, with its name, for what is less, infinite or no number; None was not given."""
    for name, value in options.items():
        if value is not None and not (least <= value and math.isfinite(value)):
            what = f"at least {least}" if math.isfinite(least) else "a finite number"
            raise ValueError(f"{name} is {value}, expected {what}")


def check_denoising_steps(*steps: int | None) -> None:
    for number in steps:
        if number is not None and not 1 <= number <= 100:
            raise ValueError(f"denoising_steps is {number}, expected 1 to 100")
