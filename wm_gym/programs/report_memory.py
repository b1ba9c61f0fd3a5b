"""What scenarios found, as tables: for a terminal, in Markdown, and in the page of a report."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wm_gym.evaluation.noisy_floor import SHARPNESS, SPREAD
from wm_gym.evaluation.rollouts import MEAN, REAL, RECONSTRUCTION, STILL
from wm_gym.programs.report_html import NOTHING, Html, fixed, folded, table

Json = Mapping[str, Any]

SHOWN = ("1", "5", "15", "50", "100")
_OF = {
    "": "dream",
    RECONSTRUCTION: "reconstruction",
    STILL: "standing still",
    MEAN: "mean frame",
    REAL: "read off the real frame",
}
_PICTURES = {"psnr": ("PSNR, dB", 1), "msssim": ("MS-SSIM", 3)}


@dataclass(frozen=True, kw_only=True)
class Sheet:
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    brief: bool = True
    """Whether it answers a question, and is not one to look things up in."""


def sheets(content: Json) -> list[Sheet]:
    """Of an evaluation; nothing where there were no scenarios."""
    memory: Json = content.get("memory") or {}
    if not memory:
        return []
    units = memory.get("units", {})
    found = [_open_loop(name, each, units) for name, each in content["behaviours"].items()]
    found += [_returns(name, each, memory) for name, each in memory["returns"].items()]
    found += [_choices(memory["choices"])] if memory["choices"] else []
    found += [_shuffled(name, each) for name, each in memory["shuffled"].items()]
    found += [_samples(name, each, units) for name, each in memory["samples"].items()]
    melted = {name: each for name, each in memory["melting"].items() if each}
    found += [_melting(melted)] if melted else []
    found += [_probe(memory["probe"], units)] if "probe" in memory else []
    return found


def _open_loop(name: str, behaviour: Json, units: Json) -> Sheet:
    figures, floor = behaviour["figures"], behaviour["floor"]
    steps = [step for step in SHOWN if step in figures["psnr"]]
    labels = {**_PICTURES, **{n: (f"{n}, {unit}", 2) for n, unit in units.items()}}
    rows = []
    for figure, (label, digits) in labels.items():
        if figure not in figures:
            continue
        for suffix, of in _OF.items():
            if row := figures.get(figure + suffix):
                rows.append((f"{label}: {of}", *_medians(row, steps, digits)))
        if figure in floor:
            again = "the real system under other noise"
            rows.append((f"{label}: {again}", *_medians(floor[figure], steps, digits)))
        row = figures[figure]
        rows.append((f"{label}: dream, mean", *_plain(row, "mean", steps, digits)))
        if figure in units:  # of PSNR the worst are the least
            rows.append(
                (f"{label}: dream, worst tenth", *_plain(row, "ninth_decile", steps, digits))
            )
    for of, shares in behaviour["whole"].items():
        cells = (_share(shares.get(step)) for step in steps)
        rows.append((f"shown whole, %: {of}", *cells))
    count = max(each["count"] for each in figures["psnr"].values())
    head = (f"{name}, {count} rollouts", *(f"step {step}" for step in steps))
    caption = f"Open loop on {name}: medians (95 %)"
    return Sheet(caption=caption, head=head, rows=tuple(rows), brief=False)


def _returns(name: str, groups: Json, memory: Json) -> Sheet:
    error, most = memory["wrong"]
    unit = memory["units"][error]
    head = (
        name, "takes", "absent, s", "there, %", f"off, {unit}", "off where there",
        f"there within {most:g} {unit}, %", "read off real", "reconstruction", "standing still",
    )  # fmt: skip
    rows = tuple(
        (
            group, str(one["count"]), _number(one["absent"], 1), _share(one["present"]),
            _median(one["off"], 2), _median(one["off_present"], 2), _share(one["within"]),
            *(_median_alone(one[of], 2) for of in ("off_real", "off_reconstruction", "off_still")),
        )
        for group, one in groups.items()
    )  # fmt: skip
    return Sheet(caption="Look away and return: medians (95 %)", head=head, rows=rows)


def _choices(found: Json) -> Sheet:
    head = ("", "cases", "best picked, %", "chance, %", "truth without noise, %", "gain kept, %")
    rows = tuple(
        (
            name, str(one["cases"]), _share(one["best"]), _number(100 * one["chance"], 0),
            _share(one["without_noise"]), _share(one["kept"]),
        )
        for name, one in found.items()
    )  # fmt: skip
    return Sheet(caption="Which action sequence pays best", head=head, rows=rows)


def _shuffled(name: str, found: Json) -> Sheet:
    steps = [step for step in SHOWN if any(step in row for row in found.values())]
    rows = tuple(
        (figure, *(_interval(row.get(step), 2) for step in steps)) for figure, row in found.items()
    )
    head = (name, *(f"step {step}" for step in steps))
    return Sheet(caption="Error under wrong actions ÷ under right ones", head=head, rows=rows)


def _samples(name: str, tables: Json, units: Json) -> Sheet:
    steps = [step for step in SHOWN if step in tables["real"][SPREAD]]
    labels = {
        **_PICTURES,
        **{n: (f"{n}, {unit}", 2) for n, unit in units.items()},
        SHARPNESS: ("sharpness beside reconstruction", 2),
        SPREAD: ("spread of samples, colour values", 1),
        **{f"{n}.{SPREAD}": (f"spread of {n}, {unit}", 2) for n, unit in units.items()},
    }
    rows = []
    for figure, (label, digits) in labels.items():
        for calls, found in tables.items():
            if calls == "real":
                continue
            if row := found.get(figure):
                told = f"{calls} call{'s' * (calls != '1')}"
                rows.append((f"{label}: {told}", *_medians(row, steps, digits)))
        real = tables["real"].get(figure.removesuffix(f".{SPREAD}"))
        if real and figure != SHARPNESS:
            rows.append((f"{label}: two real runs", *_medians(real, steps, digits)))
    head = (name, *(f"step {step}" for step in steps))
    return Sheet(caption="Denoiser calls: medians (95 %)", head=head, rows=tuple(rows), brief=False)


def _melting(found: Json) -> Sheet:
    steps = list(next(iter(found.values()))["dream"])
    references = ("reconstruction", "real", "blurred", "doubled")
    head = ("of this world, %", "rollouts", *(f"step {step}" for step in steps), *references)
    rows = tuple(
        (
            name, str(one["rollouts"]), *(_share(one["dream"][step]) for step in steps),
            *(_share(one[of]) for of in references),
        )
        for name, one in found.items()
    )  # fmt: skip
    return Sheet(caption="Pictures that are still of this world", head=head, rows=rows)


def _probe(made: Json, units: Json) -> Sheet:
    head = ("error", "unit", "median", "ninth decile")
    rows = tuple(
        (name, unit, _number(made["median"][name], 3), _number(made["ninth_decile"][name], 3))
        for name, unit in units.items()
    )
    frames = made["unseen_frames"]
    return Sheet(caption=f"The probe itself, on {frames:,} unseen frames", head=head, rows=rows)


def _medians(row: Json, steps: Sequence[str], digits: int) -> Iterator[str]:
    return (_median(row.get(step), digits) for step in steps)


def _plain(row: Json, of: str, steps: Sequence[str], digits: int) -> Iterator[str]:
    return (_number(row[step][of] if step in row else None, digits) for step in steps)


def _median(spread: Json | None, digits: int) -> str:
    return NOTHING if spread is None else _interval(spread["median"], digits)


def _median_alone(spread: Json | None, digits: int) -> str:
    return NOTHING if spread is None else _number(spread["median"]["value"], digits)


def _share(found: Json | None) -> str:
    return _interval(found, 0, 100.0)


def _interval(found: Json | None, digits: int, scale: float = 1.0) -> str:
    if found is None or not math.isfinite(found["value"]):
        return NOTHING
    value, low, high = (fixed(scale * found[n], digits) for n in ("value", "low", "high"))
    return f"{value} ({low}–{high})"


def _number(value: float | None, digits: int) -> str:
    return fixed(value, digits)


def as_text(sheet: Sheet) -> str:
    lines = [sheet.head, *sheet.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(sheet.head))]
    told = [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    ]
    return "\n".join([sheet.caption, *(line.rstrip() for line in told)])


def as_markdown(found: Sequence[Sheet]) -> str:
    parts = []
    for sheet in found:
        rule = ("---", *("---:" for _ in sheet.head[1:]))
        lines = [f"| {' | '.join(line)} |" for line in (sheet.head, rule, *sheet.rows)]
        parts.append("\n".join([f"## {sheet.caption}", "", *lines]))
    return "\n\n".join(parts) + "\n"


def memory(content: Json) -> list[Html]:
    """For the page: what answers the questions stands open, the rest is folded."""
    shown, rest = list[Html](), list[Html]()
    for sheet in sheets(content):
        made = table(sheet.caption, sheet.head, {"": sheet.rows})
        (shown if sheet.brief else rest).append(made)
    if not shown:
        return []
    return [*shown, folded("Dreams with memory: all figures", *rest)]
