"""The figures as text."""

from collections.abc import Mapping, Sequence

from wm_gym.evaluation.calibration import Line
from wm_gym.evaluation.fidelity import Detection, Fidelity, Table
from wm_gym.evaluation.rollouts import MEAN, REAL, RECONSTRUCTION, STILL, UNCERTAINTY
from wm_gym.evaluation.statistics import Interval

HIDDEN = (30, 100)
"""Steps that are drawn and written but not printed: five columns fit a screen."""

_COLUMN = 22
_NAME = 38
_OTHERS = {
    REAL: "read off the real frame",
    RECONSTRUCTION: "of the reconstructed real frame",
    STILL: "if nothing moved",
    MEAN: "of the mean frame of the data",
}
_FIGURES = {
    "coverage": "coverage error",
    "reward": "reward error",
    "psnr": "PSNR [dB]",
    "ssim": "SSIM",
    "msssim": "MS-SSIM",
    "residual": "unexplained by one whole block",
}
"""Behind the errors that the probe names."""


def fidelity_text(name: str, fidelity: Fidelity, units: Mapping[str, str]) -> str:
    """Medians over rollouts with 95 % intervals, by step."""
    figures = fidelity.figures
    steps = [step for step in sorted(figures[UNCERTAINTY]) if step not in HIDDEN]
    head = "".join(f"{f'step {step}':<{_COLUMN}}" for step in steps)
    counts = "".join(f"{figures[UNCERTAINTY][step].count:<{_COLUMN}}" for step in steps)
    lines = [f"{name:<{_NAME}}{head}", f"{'  rollouts':<{_NAME}}{counts}"]
    errors = {key: f"{key.replace('_', ' ')} error [{unit}]" for key, unit in units.items()}
    for key, label in {**errors, **_FIGURES}.items():
        lines += _row(f"  {label}", figures, key, steps)
        lines += _row("    the real system, nudged", fidelity.floor, key, steps)
        for suffix, other in _OTHERS.items():
            lines += _row(f"    {other}", figures, key + suffix, steps)
    for what, by_kind in {"whole": fidelity.whole, "wrong": fidelity.wrong}.items():
        for of, shares in by_kind.items():
            cells = "".join(_cell(shares.get(step)) for step in steps)
            lines.append(f"{f'  share that is {what}, {of}':<{_NAME}}{cells}")
    if fidelity.detection is not None:
        cells = "".join(_cell(fidelity.detection_by_step[step].auroc) for step in steps)
        lines.append(f"{'  AUROC of uncertainty, each step':<{_NAME}}{cells}")
        lines.append(f"{'  AUROC of uncertainty, all frames':<{_NAME}}{_told(fidelity.detection)}")
    return "\n".join(line.rstrip() for line in lines)


def detection_text(detection: Detection, wrong: tuple[str, float], unit: str) -> str:
    name, most = wrong
    return (
        f"uncertainty tells frames with a {name.replace('_', ' ')} error above {most:g} {unit}: "
        f"AUROC {_told(detection)}, all behaviours and steps.\n"
        "Both grow with the step, so a clock would do well at that; among frames of one step it "
        "would have 0.5."
    )


def calibration_text(lines: Sequence[Line]) -> str:
    """Bias and mean absolute error of what the heads say of real frames, and of rewards the root
    mean square error beside a constant's."""
    head = ("transitions", "coverage bias", "error", "reward bias", "error", "RMSE", "constant")
    rows = [f"{'heads, on real frames':<28}" + _cells(head)]
    for line in lines:
        numbers = (
            line.coverage_bias, line.coverage_error, line.reward_bias, line.reward_error,
            line.reward_rmse, line.constant_rmse,
        )  # fmt: skip
        told = ("–" if number is None else _four(number) for number in numbers)
        rows.append(f"{f'  {line.name}':<28}" + _cells((f"{line.count:,}", *told)))
    if any(line.constant_rmse is not None for line in lines):
        rows.append("  constant: the RMSE of always saying the mean reward")
    return "\n".join(rows)


def _cells(words: Sequence[str]) -> str:
    widths = (12, 14, 8, 12, 9, 8, 9)
    return "".join(f"{word:>{width}}" for word, width in zip(words, widths, strict=True))


def _four(number: float) -> str:
    """Four figures behind the point, as long as they say something."""
    return f"{number:.4f}" if abs(number) < 100 else f"{number:.4g}"


def _row(label: str, table: Table, key: str, steps: Sequence[int]) -> list[str]:
    if key not in table:
        return []
    row = table[key]
    cells = [_cell(row[step].median if step in row else None) for step in steps]
    return [f"{label:<{_NAME}}" + "".join(cells)]


def _cell(interval: Interval | None) -> str:
    return f"{'–' if interval is None else _shown(interval):<{_COLUMN}}"


def _shown(interval: Interval) -> str:
    return f"{_number(interval.value)} [{_number(interval.low)}, {_number(interval.high)}]"


def _number(value: float) -> str:
    """Three figures behind the point at most, three in all."""
    return f"{value:.{max(0, 3 - len(str(int(value))) + (value < 1))}f}"


def _told(detection: Detection) -> str:
    told = "–, as all or none are wrong" if detection.auroc is None else _shown(detection.auroc)
    return f"{told}; {detection.wrong:.1%} of {detection.frames:,} frames are wrong"
