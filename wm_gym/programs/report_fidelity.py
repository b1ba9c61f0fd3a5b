"""How true dreams are: what `wm-gym evaluate` found, or the scores that a model folder keeps."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from wm_gym.evaluation.ends import Ends, ends_text
from wm_gym.evaluation.report import HIDDEN
from wm_gym.evaluation.rewards import rewards_of, rewards_text
from wm_gym.evaluation.rollouts import MEAN, REAL, RECONSTRUCTION, RESIDUAL, STILL, UNCERTAINTY
from wm_gym.programs.report_html import (
    NOTHING,
    Child,
    Gap,
    Html,
    figure,
    film,
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
from wm_gym.programs.report_memory import memory
from wm_gym.programs.report_sources import Found, Json, Model, interval
from wm_gym.programs.report_svg import Chart, Curve, Point, panels

FILMSTRIP, DREAM = "filmstrip.png", "dream.mp4"
PSNR = "psnr"
OTHERS = {
    "reward": "reward error",
    "coverage": "coverage error",
    "ssim": "SSIM",
    "msssim": "MS-SSIM",
    PSNR: "PSNR, dB",
}
REFERENCES = {
    STILL: "if nothing moved",
    MEAN: "of the mean frame of the data",
    REAL: "read off the real frame",
    RECONSTRUCTION: "of the reconstructed real frame",
}
NUDGED = "the real system, nudged"

Rows = list[Sequence[Child]]


def films(found: Found | Gap) -> Html:
    """Dreams to look at."""
    title = "Real above dream"
    if isinstance(found, Gap):
        return section("films", title, gap(found))
    shown = [
        _moving(found.folder / DREAM, "film"),
        _strip(found.folder / FILMSTRIP),
    ]
    missing = [
        gap(Gap(what=name, why=f"{name} is not in {found.folder}", command=_command(found)))
        for name in (DREAM, FILMSTRIP)
        if not (found.folder / name).exists()
    ]
    return section("films", title, *shown, *missing)


def _moving(file: Path, name: str) -> Html | None:
    if not file.exists():
        return None
    said = "Whole episodes, not picked. Above: the real system. Below: the dream, which was shown "
    said += "the first frames and then only the actions. Twice real speed."
    return figure(said, film(file, alt="Film of real episodes above their dreams"), name=name)


def _strip(file: Path) -> Html | None:
    if not file.exists():
        return None
    alt = "Filmstrip: frames of the real system above those of its dream, by step"
    said = "The same by step. Step 0 is the last real frame shown, and its reconstruction."
    return figure(said, picture(file, alt=alt, least=760), name="filmstrip")


def fidelity(found: Found | Gap, model: Model) -> Html:
    title = "Fidelity"
    if isinstance(found, Gap):
        return section("fidelity", title, gap(found), _scores(model))
    with found.understood() as content:
        table_of = _Tables(content, model.units)
        return section(
            "fidelity", title,
            paragraph(
                "Errors of open-loop dreams: from real frames, under the logged actions, on "
                f"episodes that were {_trained_on(content)}. Medians over rollouts, with 95 % "
                "bootstrap intervals."
            ),
            figure(
                "Median error by steps dreamt; bands are 95 % intervals of the median. Grey: the "
                "real system run again from a start that a picture hardly tells apart.",
                panels(table_of.charts()), name="fidelity",
            ),
            table_of.main(),
            *memory(content),
            *_rewards(content),
            folded("All fidelity figures", table_of.rest()),
            folded("What the heads say of real frames", _calibration(content)),
            *_ends(content),
        )  # fmt: skip


def _trained_on(content: Json) -> str:
    datasets = content.get("datasets", {})  # evaluations did not tell of this at first
    names = [name for name, each in datasets.items() if each.get("learned_from")]
    return (
        f"trained on ({', '.join(names)}): how true others are is not told"
        if names
        else ("never trained on")
    )


def headline(found: Found | Gap, model: Model) -> tuple[str, Child, str]:
    """The first probed error, or the PSNR, a few steps into the first behaviour's dreams."""
    if isinstance(found, Gap):
        return _headline_of_scores(model)
    with found.understood() as content:
        name = _Tables(content, model.units).first_name
        behaviour, each = next(iter(content["behaviours"].items()))
        medians = _medians(each["figures"], name)
        values = {step: median["value"] for step, median in medians.items()}
        return _headline(name, behaviour, values, model)


def _headline_of_scores(model: Model) -> tuple[str, Child, str]:
    """Of those that the model folder came with, where nothing else is known."""
    with model.understood():
        for behaviour, row in (model.facts.get("scores") or {}).items():
            for name in (*model.units, PSNR):
                if name in row:
                    label, value, about = _headline(name, behaviour, row[name], model)
                    return label, value, f"{about}, as it was released"
    return "dream error", NOTHING, "not measured here"


def _headline(
    name: str, behaviour: str, values: Mapping[str, float], model: Model
) -> tuple[str, Child, str]:
    step = min(values, key=lambda step: abs(int(step) - 15))
    after, value = f"after {step} steps of {behaviour}, median", number(values[step])
    if name == PSNR:
        return "dream fidelity", f"{value} dB", f"PSNR {after}"
    return "dream error", f"{value} {model.units.get(name, '')}".strip(), f"{_words(name)} {after}"


class _Tables:
    """Of one evaluation."""

    def __init__(self, content: Json, units: Mapping[str, str]) -> None:
        self.behaviours: Mapping[str, Json] = content["behaviours"]
        self.first = next(iter(self.behaviours.values()))
        figures = self.first["figures"]
        known = [n for n in figures if n + REAL in figures and n != RESIDUAL]
        probed = [n for n in units if n in figures] or known
        self.labels = {
            **{name: _labelled(name, units.get(name, "")) for name in probed},
            **{name: label for name, label in OTHERS.items() if name in figures},
        }
        self.first_name = probed[0] if probed else PSNR
        """Of the figure that stands for all."""
        steps = {
            int(step) for each in self.behaviours.values() for step in each["figures"][UNCERTAINTY]
        }
        self.every_step = sorted(steps)
        self.steps = [str(step) for step in self.every_step if step not in HIDDEN]

    def charts(self) -> list[Chart]:
        return [
            Chart(
                title=label, x="steps dreamt", y=label, log_x=True,
                curves=[
                    *(
                        self._curve(behaviour, each["figures"], name, colour)
                        for colour, (behaviour, each) in enumerate(self.behaviours.items())
                        if name in each["figures"]
                    ),
                    *self._floor(name),
                ],
                x_ticks=[float(step) for step in self.steps],
                y_limits=(None, None) if name in (PSNR, "ssim", "msssim") else (0.0, None),
            )
            for name, label in self.labels.items()
            if name != PSNR or "ssim" not in self.labels
        ]  # fmt: skip

    def _curve(
        self, label: str, figures: Json, name: str, colour: int | None, *, floor: bool = False
    ) -> Curve:
        points = []
        for step in sorted(figures[name], key=int):
            found = interval(figures[name][step]["median"])
            assert found is not None
            points.append(Point(x=int(step), y=found.value, y_range=(found.low, found.high)))
        return Curve(name=label, points=points, colour=colour, dashed=floor, marks=not floor)

    def _floor(self, name: str) -> list[Curve]:
        floor = self.first["floor"]
        return [self._curve(NUDGED, floor, name, None, floor=True)] if name in floor else []

    def main(self) -> Html:
        """The figure that stands for all, wholeness, and whether the dream knows."""
        groups: dict[str, Rows] = {"": [self._counts()]}
        name = self.first_name
        groups |= {self.labels[name]: self._rows(name, references=True)}
        whole: Rows = [
            [behaviour, *self._cells(each["whole"]["dream"], 1, 100)]
            for behaviour, each in self.behaviours.items()
            if each["whole"]
        ]
        told: Rows = [
            [behaviour, *self._cells(_aurocs(each), 2)]
            for behaviour, each in self.behaviours.items()
            if each["detection_by_step"]
        ]
        groups |= {"frames that show what they should, %": whole} if whole else {}
        groups |= {"AUROC of uncertainty for a frame that is wrong": told} if told else {}
        return table("How far dreams are from the truth, by step", self._head(), groups)

    def rest(self) -> Html:
        groups = {
            label: self._rows(name, references=True)
            for name, label in self.labels.items()
            if name != self.first_name
        }
        return table("All other figures, by step", self._head(), groups)

    def _head(self) -> list[str]:
        return ["", *(f"step {step}" for step in self.steps)]

    def _counts(self) -> list[Child]:
        row = self.first["figures"][UNCERTAINTY]
        counts = [number(row[step]["count"]) if step in row else NOTHING for step in self.steps]
        return [f"rollouts, {next(iter(self.behaviours))}", *counts]

    def _rows(self, name: str, *, references: bool) -> Rows:
        digits = 3 if name in ("reward", "coverage", "ssim", "msssim") else 2
        rows: Rows = [
            [behaviour, *self._cells(_medians(each["figures"], name), digits)]
            for behaviour, each in self.behaviours.items()
            if name in each["figures"]
        ]
        figures, behaviour = self.first["figures"], next(iter(self.behaviours))
        compared = {
            **{label: _medians(figures, name + suffix) for suffix, label in REFERENCES.items()},
            NUDGED: _medians(self.first["floor"], name),
        }
        return rows + [
            [f"… {label} ({behaviour})", *self._cells(row, digits)]
            for label, row in compared.items()
            if references and row
        ]

    def _cells(self, row: Json, digits: int, scale: float = 1.0) -> list[Child]:
        return [with_interval(interval(row.get(step)), digits, scale) for step in self.steps]


def _medians(figures: Json, name: str) -> Json:
    return {step: spread["median"] for step, spread in figures.get(name, {}).items()}


def _aurocs(behaviour: Json) -> Json:
    return {step: found["auroc"] for step, found in behaviour["detection_by_step"].items()}


def _calibration(content: Json) -> Html:
    rows = [
        [
            line["name"], number(line["count"]),
            *(fixed(line.get(key), 4) for key in _CALIBRATED),
        ]
        for line in content["calibration"]
    ]  # fmt: skip
    if not rows:
        return paragraph("Neither coverage nor rewards were logged to hold it against.")
    head = ["real transitions", "count", *(key.replace("_", " ") for key in _CALIBRATED)]
    return table("Heads against the truth, on real frames", head, {"": rows})


def _rewards(content: Json) -> list[Html]:
    """A median over rollouts does not see what few steps pay."""
    found = rewards_of(content["calibration"])
    return [paragraph(f"Rewards, said of real frames: {rewards_text(found)}.")] if found else []


def _ends(content: Json) -> list[Html]:
    """Nothing where no episode terminated."""
    found = content.get("ends", {})  # evaluations did not tell of them at first
    return [paragraph(ends_text(name, Ends(**each))) for name, each in found.items()]


_CALIBRATED = (
    "coverage_bias", "coverage_error",
    "reward_bias", "reward_error", "reward_rmse", "constant_rmse",
)  # fmt: skip
"""Of a line; older evaluations tell no root mean squares."""


def _scores(model: Model) -> Html | None:
    """Medians without intervals, as the model folder has them since its release."""
    scores = model.facts.get("scores")
    if not isinstance(scores, dict) or not scores:
        return None
    with model.understood():
        steps = sorted({step for each in scores.values() for row in each.values() for step in row})
        steps.sort(key=int)
        groups = {
            behaviour: [
                [_labelled(name, model.units.get(name, "")), *(number(row.get(s)) for s in steps)]
                for name, row in each.items()
            ]
            for behaviour, each in scores.items()
        }
        head = ["", *(f"step {step}" for step in steps)]
        return table("Scores that the model folder came with: medians, by step", head, groups)


def _labelled(name: str, unit: str) -> str:
    name, _, reference = name.partition(".")
    if reference:
        return f"{_labelled(name, unit)}, {REFERENCES.get(f'.{reference}', reference)}"
    if name in OTHERS:
        return OTHERS[name]
    return f"{_words(name)} error" + (f", {unit}" if unit else "")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _command(found: Found) -> str:
    return f"wm-gym evaluate ... --out {found.folder}"
