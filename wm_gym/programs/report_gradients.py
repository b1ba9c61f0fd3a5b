"""The gradient card: what `wm-gym gradients` found."""

from collections.abc import Sequence

from wm_gym.evaluation.gradients_card import AIM_DELTA, DIFFUSION, DREAM, POSE, REAL, SURROGATE
from wm_gym.programs.report_html import (
    NOTHING,
    Child,
    Gap,
    Html,
    figure,
    fixed,
    folded,
    gap,
    number,
    paragraph,
    picture,
    section,
    table,
    with_interval,
)
from wm_gym.programs.report_sources import Found, Json, interval
from wm_gym.programs.report_svg import Chart, Curve, Point, panels

ONE_STEP = "one_step.png"
SOURCES = {SURROGATE: "light model", DIFFUSION: "through the diffusion model"}
REFERENCES = {REAL: "to the real system", DREAM: "to the dream"}
SIDES = {True: "in contact", False: "out of contact"}
HEADLINE = 8
"""Steps of the return whose gradient stands for all."""

MET = {True: "✓ met", False: "✗ missed"}


def gradients(found: Found | Gap) -> Html:
    title = "Gradients"
    if isinstance(found, Gap):
        return section("gradients", title, gap(found))
    with found.understood() as content:
        card = _Card(content)
        return section(
            "gradients", title,
            paragraph(
                "Cosines between the gradients that the dream lends, with respect to the actions, "
                "and central differences of what they stand for. Medians over states of unseen "
                "play, with 95 % bootstrap intervals."
            ),
            figure(
                f"Median cosine by the window's length, δ = {card.delta:g}. Bands are 95 % "
                "intervals. Medians flatter where contact has kinks: the means are in the table "
                "below.",
                panels(card.charts()), name="gradients",
            ),
            card.table(True, "median"),
            folded("Means, and out of contact", *card.others()),
            _aims(content["aims"], card.refreshes),
            folded("What refreshes change", _refreshing(content["refreshing"])),
            folded("What latents know", *_local(content["local_model"])),
            _one_step(found),
        )  # fmt: skip


def headline(found: Found | Gap) -> tuple[str, Child, str]:
    label = "gradient cosine"
    if isinstance(found, Gap):
        return label, NOTHING, "not measured here"
    with found.understood() as content:
        line = _Card(content).line(SURROGATE, REAL, HEADLINE, True)
        cosine = None if line is None or line["cosine"] is None else line["cosine"]["median"]
        value = NOTHING if cosine is None else fixed(cosine["value"], 2)
        return label, value, f"median to the real system's, over {HEADLINE} steps in contact"


class _Card:
    """What is shown of all comparisons: those of one δ, and of the fewest refreshes."""

    def __init__(self, content: Json) -> None:
        deltas = sorted(content["settings"]["deltas"])
        self.delta = AIM_DELTA if AIM_DELTA in deltas else deltas[(len(deltas) - 1) // 2]
        lines: Sequence[Json] = content["comparisons"]
        self.refreshes = min(line["refreshes"] for line in lines if line["refreshes"] is not None)
        self.lines = {
            (line["ours"], line["reference"], _what(line), line["contact"]): line
            for line in lines
            if line["delta"] == self.delta and line["refreshes"] in (None, self.refreshes)
        }
        every = dict.fromkeys(key[2] for key in self.lines)
        self.horizons = sorted(what for what in every if isinstance(what, int))
        self.quantities = [what for what in every if isinstance(what, str)]

    def line(self, ours: str, reference: str, what: str | int, contact: bool) -> Json | None:
        return self.lines.get((ours, reference, what, contact))

    def charts(self) -> list[Chart]:
        charts = [
            Chart(
                title=f"{said}, {side}", x="window, steps", y="cosine of the return's gradient",
                curves=[
                    self._curve(ours, reference, contact, colour)
                    for colour, ours in enumerate(SOURCES)
                ],
                log_x=True, x_ticks=[float(h) for h in self.horizons], y_limits=(None, 1.0),
            )
            for contact, side in SIDES.items()
            for reference, said in REFERENCES.items()
        ]  # fmt: skip
        return [chart for chart in charts if any(curve.points for curve in chart.curves)]

    def _curve(self, ours: str, reference: str, contact: bool, colour: int) -> Curve:
        points = []
        for horizon in self.horizons:
            line = self.line(ours, reference, horizon, contact)
            if line is not None and line["cosine"] is not None:
                cosine = interval(line["cosine"]["median"])
                assert cosine is not None
                points.append(Point(x=horizon, y=cosine.value, y_range=(cosine.low, cosine.high)))
        return Curve(name=SOURCES[ours], points=points, colour=colour)

    def table(self, contact: bool, average: str) -> Html:
        head = ["gradient of", "states", *_NAMES.values()]
        caption = f"Cosines {SIDES[contact]}, δ = {self.delta:g}: {average}s"
        return table(caption, head, {"": [self._row(each, contact, average) for each in self._all]})

    @property
    def _all(self) -> list[str | int]:
        return [*self.quantities, *self.horizons]

    def _row(self, what: str | int, contact: bool, average: str) -> list[Child]:
        said = f"the next {what}" if isinstance(what, str) else f"the sum of {what} rewards"
        cells: list[Child] = [_SAID.get(what, said)]
        first = self.line(SURROGATE, REAL, what, contact)
        cells.append(NOTHING if first is None else number(first["count"]))
        for ours, reference in _NAMES:
            line = self.line(ours, reference, what, contact)
            cosine = None if line is None else line["cosine"]
            cells.append(with_interval(interval(cosine and cosine[average])))
        return cells

    def others(self) -> list[Html]:
        return [
            self.table(contact, average)
            for contact in SIDES
            for average in ("median", "mean")
            if (contact, average) != (True, "median")
        ]


_SAID: dict[str | int, str] = {POSE: "the block's next pose", 1: "the next reward"}


def _what(line: Json) -> str | int:
    """Older ones do not say of what quantity they are."""
    found: str | int = line["horizon"] or line.get("quantity", POSE)
    return found


_NAMES = {
    (SURROGATE, REAL): "light model to real",
    (SURROGATE, DREAM): "light model to dream",
    (DIFFUSION, REAL): "diffusion to real",
    (DIFFUSION, DREAM): "diffusion to dream",
}


def _aims(aims: Sequence[Json], refreshes: int) -> Html | None:
    if not aims:
        return None
    first = [aim for aim in aims if aim["refreshes"] == refreshes]
    rows: list[list[Child]] = [
        [aim["name"], aim["wanted"], with_interval(interval(aim["found"]), 3), MET[aim["met"]]]
        for aim in first
    ]
    met = sum(aim["met"] for aim in first)
    caption = f"What was aimed at, in contact, δ = {AIM_DELTA:g}, {refreshes} refreshes"
    head = ["aim", "wanted", "median", ""]
    return folded(f"Aims: {met} of {len(first)} met", table(caption, head, {"": rows}))


def _refreshing(lines: Sequence[Json]) -> Html:
    keys = ("logged", "own", "logged_reward", "own_reward")
    rows: list[list[Child]] = [
        [number(line["refreshes"]), *(f"{line[key]:.4f}" for key in keys)] for line in lines
    ]
    head = [
        "refreshes", "error on logs", "on its own policy", "reward error on logs", "on its own",
    ]  # fmt: skip
    caption = "The light model's one-step errors after refreshing it on smooth random actions"
    return table(caption, head, {"": rows})


def _local(found: Json) -> list[Html]:
    """Errors of what is read off latents linearly."""
    head = ["error", "median", "mean", "90 %", "windows"]
    return [
        table(
            f"The light model's errors on {dataset}", head,
            {
                kind: [
                    [
                        line["name"].replace("_", " ") + (f", {line['unit']}" * bool(line["unit"])),
                        with_interval(interval(line["error"]["median"]), 3),
                        *(number(line["error"][key]) for key in ("mean", "ninth_decile", "count")),
                    ]
                    for line in lines
                    if line["kind"] == kind
                ]
                for kind in dict.fromkeys(line["kind"] for line in lines)
            },
        )
        for dataset, lines in found.items()
    ]  # fmt: skip


def _one_step(found: Found) -> Html | None:
    file = found.folder / ONE_STEP
    if not file.exists():
        return None
    alt = "Histograms of the cosines of single states, in and out of contact"
    said = "Cosines of single states: the pose's gradient after one step."
    return figure(said, picture(file, alt=alt, least=560), name="one-step")
