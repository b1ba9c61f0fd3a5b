"""How fast it is: what `wm-gym bench` measured."""

import re
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from wm_gym.programs.report_html import (
    NOTHING,
    Child,
    Gap,
    Html,
    figure,
    fixed,
    folded,
    gap,
    middle,
    number,
    paragraph,
    section,
    table,
    tag,
)
from wm_gym.programs.report_sources import Found, Json
from wm_gym.programs.report_svg import Chart, Curve, Point, panels

TABLES = {
    "dream": "Dreams and what to compare them with",
    "systems": "Real systems",
    "compiled": "With torch.compile, and without",
}
"""Parts of a benchmark whose rows are steps a second."""

PARTS = {"dream": "Speed of dreams", "gradient": "What gradients cost"}
"""Without which there is a gap."""

MIB = 1 << 20
_DREAM = re.compile(r"WM-v0, (?P<n>\d+), (?P<steps>\d+) steps?, (?P<dtype>\w+)")
_STEADY = {"gym-pusht, pixels": "gym-pusht", "Real-PushT-v0, 16 in one": "Real-PushT-v0, 16"}


def speed(found: Sequence[Found], gaps: Sequence[Gap]) -> Html:
    shown: list[Html] = []
    for each in found:
        with each.understood() as content:
            shown += [_conditions(content), *_parts(content)]
    return section("speed", "Speed", *shown, *map(gap, gaps))


def _conditions(content: Json) -> Html:
    """Of one file: others may be of another machine."""
    machine = content.get("machine")
    where = f" On {machine}." if isinstance(machine, str) else " The machine was not recorded."
    parts = ", ".join(content["parts"]).capitalize()
    return paragraph(f"{parts}: medians over {content['rounds']} rounds, with their range.{where}")


def _parts(content: Json) -> list[Html]:
    parts = [*_dreams(content["dream"])] if "dream" in content else []
    parts += [
        folded(caption, _speeds(caption, content[part]))
        for part, caption in TABLES.items()
        if part in content
    ]
    if "profile" in content:
        parts.append(folded("Where a step's time goes", _profile(content["profile"])))
    if "gradient" in content:
        parts += _gradient(content["gradient"])
    if "memory" in content:
        parts += _memory(content["memory"])
    return parts


def headline(found: Sequence[Found]) -> tuple[str, Child, str]:
    """The fastest row of one denoiser call."""
    label, best = "speed", ("", 0.0)
    for each in found:
        with each.understood() as content:
            rows = {name: _median(row) for name, row in content.get("dream", {}).items()}
            rows = {name: rate for name, rate in rows.items() if _DREAM.fullmatch(name)}
            best = max([best, *rows.items()], key=lambda row: row[1])
    if not best[0]:
        return label, NOTHING, "not measured here"
    match = _DREAM.fullmatch(best[0])
    assert match is not None
    return label, f"{best[1]:,.0f} steps/s", f"{match['n']} dreams in one batch, {match['dtype']}"


def _dreams(rows: Json) -> list[Html]:
    """Over batch sizes, with the fewest denoiser calls that were measured."""
    found = [(match, row) for name, row in rows.items() if (match := _DREAM.fullmatch(name))]
    if not found:
        return []
    least = min(int(match["steps"]) for match, _ in found)
    found = [(match, row) for match, row in found if int(match["steps"]) == least]
    batches = sorted({int(match["n"]) for match, _ in found})
    steady = [
        Curve(
            name=label, dashed=True, marks=False, colour=None if colour == 0 else 4,
            points=[_rate(n, rows[name]) for n in (batches[0], batches[-1])],
        )
        for colour, (name, label) in enumerate(_STEADY.items())
        if name in rows
    ]  # fmt: skip
    charts = [
        _chart("environment steps a second", [*_curves(found, _rate), *steady], batches),
        _chart("milliseconds a call", _curves(found, _wait), batches),
    ]
    calls = "1 denoiser call" if least == 1 else f"{least} denoiser calls"
    said = f"By the batch's size, {calls} a frame; a call steps all dreams of a batch. Bands: from "
    said += "the slowest round to the fastest. Dashed: the simulators that the dream stands in for."
    return [figure(said, panels(charts), name="speed")]


_Rows = Sequence[tuple[re.Match[str], Json]]


def _curves(found: _Rows, point: Callable[[int, Json], Point]) -> list[Curve]:
    return [
        Curve(
            name=dtype, colour=colour,
            points=[point(int(match["n"]), row) for match, row in found if match["dtype"] == dtype],
        )
        for colour, dtype in enumerate(dict.fromkeys(match["dtype"] for match, _ in found))
    ]  # fmt: skip


def _chart(title: str, curves: Sequence[Curve], batches: Sequence[int]) -> Chart:
    return Chart(
        title=title, x="dreams in one batch", y=title, curves=curves, log_x=True, log_y=True,
        x_ticks=[float(n) for n in batches], y_limits=(None, None),
    )  # fmt: skip


def _rate(n: int, row: Json) -> Point:
    rates = row["steps_per_second"]
    return Point(x=n, y=_median(row), y_range=(min(rates), max(rates)))


def _wait(n: int, row: Json) -> Point:
    return Point(x=n, y=float(row["median_ms"]))


def _median(row: Json) -> float:
    return float(median(row["steps_per_second"])) if "steps_per_second" in row else 0.0


def _speeds(caption: str, rows: Mapping[str, Json]) -> Html:
    most = max([_median(row) for row in rows.values()], default=0.0)
    lines: list[list[Child]] = []
    for name, row in rows.items():
        if "failed" in row:
            lines.append([name, str(row["failed"]), "", "", ""])
            continue
        rate = _median(row)
        width = f"width:{100 * rate / most:.1f}%" if most else None
        times = [number(row[key]) if key in row else "" for key in ("median_ms", "p99_ms")]
        bar = tag("span", "", class_="bar", style=width)
        lines.append([name, bar, middle(row["steps_per_second"]), *times])
    head = ["", "", "steps/s (range)", "ms a call", "99 %"]
    return table(caption, head, {"": lines})


def _profile(found: Json) -> Html:
    names = dict.fromkeys(name for each in found.values() for name in each["ms"])
    rows: list[list[Child]] = [
        [name, *(number(each["ms"].get(name)) for each in found.values())] for name in names
    ]
    return table("Milliseconds of a call", ["", *found], {"": rows})


def _gradient(found: Json) -> list[Html]:
    head = [
        "window", "without, s", "light model: extra time", "kept, MiB",
        "diffusion: extra time", "kept, MiB", "diffusion ÷ light, kept",
    ]  # fmt: skip
    rows = [[_window(name, row), *_costs(row)] for name, row in found["windows"].items()]
    scale = max((row["scale"] for row in found["windows"].values()), default=1)
    note = f"* Measured on fewer frames, and multiplied by up to {scale:g}."
    aims: list[list[Child]] = [
        [aim["aim"], aim["came"], "✓ met" if aim["met"] else "✗ missed"] for aim in found["aims"]
    ]
    met = sum(aim["met"] for aim in found["aims"])
    summary = f"Aims of speed: {met} of {len(aims)} met"
    return [
        table("What gradients cost: windows forward and backward", head, {"": rows}),
        *([paragraph(note)] if scale > 1 else []),
        folded(summary, table("Each where it is hardest to meet", ["", "came", ""], {"": aims})),
        folded("Pixels and latents", _speeds("Steps that show pixels, or latents", found["obs"])),
    ]


def _memory(found: Json) -> list[Html]:
    rows = found["by_past"]
    frames = [int(row["frames"]) for row in rows]
    curves = [
        Curve(name=label, colour=colour, points=[Point(x=n, y=row[key]) for n, row in zip(
            frames, rows, strict=True)])
        for colour, (label, key) in enumerate({"dream": "ms", "U-Net": "peer_ms"}.items())
    ]  # fmt: skip
    chart = Chart(
        title="milliseconds a step", x="frames that came before", y="milliseconds", curves=curves,
        log_x=True, log_y=True, x_ticks=[float(n) for n in frames], y_limits=(None, None),
    )  # fmt: skip
    said = "One step of one dream by the length of its past, beside a network of DIAMOND's size"
    said += " that is told as many frames."
    summary = f"Aims of memory: {sum(aim['met'] for aim in found['aims'])} of {len(found['aims'])}"
    aims: list[list[Child]] = [
        [aim["aim"], aim["came"], "✓ met" if aim["met"] else "✗ missed"] for aim in found["aims"]
    ]
    return [
        figure(said, panels([chart]), name="memory-cost"),
        _speeds(f"Latents and pixels, {found['dtype']}", found["dreams"]),
        folded(f"{summary} met", table("What came", ["", "came", ""], {"": aims})),
    ]


def _window(name: str, row: Json) -> str:
    return f"{name} *" if row["scale"] > 1 else name


def _costs(row: Json) -> list[Child]:
    """Extra is above the same window without gradients."""
    none, kept = row["seconds"]["none"], row["kept"]

    def extra(mode: str) -> Html:
        pairs = zip(row["seconds"][mode], none, strict=True)
        times = [with_it / without - 1 for with_it, without in pairs]
        return middle(times, 0, 100, " %")

    ratio = row["diffusion_kept"]
    times = NOTHING if ratio is None else f"{fixed(ratio, 0)} ×"
    return [
        number(median(none)),
        extra("surrogate"), fixed(kept["surrogate"] / MIB, 1),
        extra("diffusion"), fixed(kept["diffusion"] / MIB, 0), times,
    ]  # fmt: skip
