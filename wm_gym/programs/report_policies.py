"""Policies that learned in the dream: how, how far, and whether it knew their worth."""

from collections.abc import Callable, Sequence

import numpy as np

from wm_gym.evaluation.agreement import Compared
from wm_gym.evaluation.statistics import Interval
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
    joined,
    paragraph,
    section,
    table,
    tag,
    with_interval,
)
from wm_gym.programs.report_markdown import markdown
from wm_gym.programs.report_study import FILM, MARGIN, Exam, Ranking, Run, Study
from wm_gym.programs.report_svg import Chart, Curve, Point, panels

MARKED = 20
"""Exams; marks of more would touch."""

LOG_FROM = 4
"""Budgets this many times apart want a logarithmic axis."""


def policies(study: Study | Gap, command: str) -> Html:
    title = "Policies learned in the dream"
    if isinstance(study, Gap):
        return section("policies", title, gap(study))
    shown: list[Html | None] = []
    if any(run.exams for run in study.runs):
        shown.append(_curves(study.runs))
    else:
        why = f"no run in {study.folder} has been examined yet"
        shown.append(gap(Gap(what="Learning curves", why=why, command=command)))
    text = study.text
    if text:
        shown.append(markdown(text, captions=("What learning cost", "What policies are worth")))
    else:
        why = f"the study in {study.folder} has not been judged yet"
        shown.append(gap(Gap(what="What policies are worth", why=why, command=command)))
    return section("policies", title, *shown, _film(study))


def _film(study: Study) -> Html | None:
    file = study.folder / FILM
    if not file.exists():
        return None
    said = "The last policies at work in the real system; below, the dream of the same start."
    return figure(said, film(file, alt="Film of policies on the real system"), name="policies-film")


def _curves(runs: Sequence[Run]) -> Html:
    shown = [run for run in runs if run.exams]
    seconds = max(run.exams[-1].seconds for run in shown)
    unit, name = next(each for each in _TIMES if seconds > 2 * each[0] or each[0] == 1)
    charts = [
        _chart(shown, "imagined samples", lambda exam: exam.samples),
        _chart(shown, f"{name} of work", lambda exam: exam.seconds / unit),
    ]
    unfinished = [f"{run.agent}, seed {run.seed}" for run in runs if not run.finished]
    said = "Mean best coverage of each exam, by transitions of the dream and by time. Strong: the "
    said += "mean over finished seeds; faint: each seed."
    said += f" Still learning: {'; '.join(unfinished)}." if unfinished else ""
    return figure(said, panels(charts), name="learning-curves")


_TIMES = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def _chart(runs: Sequence[Run], x: str, place: Callable[[Exam], float]) -> Chart:
    curves: list[Curve] = []
    for colour, agent in enumerate(dict.fromkeys(run.agent for run in runs)):
        theirs = [run for run in runs if run.agent == agent]
        finished = [run for run in theirs if run.finished]
        if len(finished) != 1 and len(theirs) > 1:
            faint, strong = theirs, _mean(agent, finished or theirs, colour, place)
        else:
            alone = (finished or theirs)[0]
            faint = [run for run in theirs if run is not alone]
            strong = _of_run(alone, colour, place, faint=False)
        curves += [*(_of_run(run, colour, place, faint=True) for run in faint), strong]
    ends = [place(run.exams[-1]) for run in runs]
    title = "best coverage in the real system"
    log = max(ends) > LOG_FROM * min(ends)
    return Chart(title=title, x=x, y=title, curves=curves, log_x=log, y_limits=(0.0, 1.0))


def _of_run(run: Run, colour: int, place: Callable[[Exam], float], *, faint: bool) -> Curve:
    name = f"{run.agent}, seed {run.seed}" + ("" if run.finished else ", still learning")
    x, y = _places(run, place)
    points = [Point(x=a, y=b, name=name) for a, b in zip(x, y, strict=True)]
    return Curve(
        name=name, points=points, colour=colour, dashed=not run.finished, faint=faint,
        marks=not faint and len(points) <= MARKED,
    )  # fmt: skip


def _mean(agent: str, runs: Sequence[Run], colour: int, place: Callable[[Exam], float]) -> Curve:
    """As far as all of them got."""
    curves = [_places(run, place) for run in runs]
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    places = sorted({a for x, _ in curves for a in x if first <= a <= last})
    mean = np.mean([np.interp(places, x, y) for x, y in curves], axis=0)
    finished = all(run.finished for run in runs)
    name = f"{agent}, mean of {len(runs)} seeds" + ("" if finished else ", still learning")
    points = [Point(x=a, y=float(b)) for a, b in zip(places, mean, strict=True)]
    return Curve(
        name=name, points=points, colour=colour, dashed=not finished, marks=len(places) <= MARKED
    )


def _places(run: Run, place: Callable[[Exam], float]) -> tuple[list[float], list[float]]:
    return [place(exam) for exam in run.exams], [float(np.mean(exam.best)) for exam in run.exams]


# Imagined against real


def ranked(study: Study | Gap, found: Ranking | None, command: str) -> Html:
    title = "Imagined against real"
    if isinstance(study, Gap) or found is None:
        why = study.why if isinstance(study, Gap) else "no two policies were judged in both worlds"
        missing = Gap(what="The ranking of policies", why=why, command=command)
        return section("ranking", title, gap(missing))
    return section(
        "ranking", title,
        paragraph(_verdict(found)),
        figure(
            "Each point is a policy's mean return, with 95 % intervals over episodes; on the "
            "dashed line the dream is right, above it flatters.",
            panels([_scatter(found), _excess(found)]), name="ranking",
        ),
        folded(f"All {len(found.names)} policies", _table(found)),
    )  # fmt: skip


def headline(found: Ranking | None) -> tuple[str, Child, str]:
    label = "ranking of policies"
    if found is None or found.found.spearman is None:
        return label, NOTHING, "not measured here"
    said = f"rank correlation of {len(found.names)} policies' imagined and real returns"
    return label, fixed(found.found.spearman.value, 2), said


def _verdict(ranking: Ranking) -> Html:
    found = ranking.found
    flattered = sum(each.exploits for each in found.policies)
    most = max((each.excess for each in found.policies), key=lambda excess: excess.value)
    said = f"{flattered} of {len(found.policies)} policies are flattered by more than {MARGIN:g}."
    if not flattered:
        said = f"No policy is shown to be flattered by more than {MARGIN:g}."
    return joined(
        f"{len(ranking.names)} policies, {ranking.episodes} episodes each, in the dream and in the "
        "real system from the same starts. Spearman ", with_interval(found.spearman),
        ", Pearson ", with_interval(found.pearson),
        f", mean maximum rank violation {fixed(found.mmrv.value, 2)} of a return. ",
        tag("strong", said), " The most: ", _signed(most), ".",
    )  # fmt: skip


def _scatter(ranking: Ranking) -> Chart:
    every = [v for each in ranking.found.policies for v in (each.real.value, each.imagined.value)]
    points = _points(ranking, lambda each: each.imagined, across=True)
    right = [Point(x=end, y=end) for end in (min(every), max(every))]
    return _compared("return in the dream", points, right)


def _excess(ranking: Ranking) -> Chart:
    every = [each.real.value for each in ranking.found.policies]
    points = _points(ranking, lambda each: each.excess, across=False)
    right = [Point(x=end, y=0.0) for end in (min(every), max(every))]
    return _compared("imagined less real return", points, right)


def _points(
    ranking: Ranking, up: Callable[[Compared], Interval], *, across: bool
) -> dict[str, list[Point]]:
    """By agent; `across`: with an interval of the real return, too."""
    points: dict[str, list[Point]] = {}
    for agent, name, each in zip(
        ranking.agents, ranking.names, ranking.found.policies, strict=True
    ):
        real, shown = each.real, up(each)
        points.setdefault(agent, []).append(
            Point(
                x=real.value, y=shown.value, name=name, y_range=(shown.low, shown.high),
                x_range=(real.low, real.high) if across else None,
            )
        )  # fmt: skip
    return points


def _compared(title: str, points: dict[str, list[Point]], right: list[Point]) -> Chart:
    curves = [
        Curve(name=agent, points=theirs, colour=colour, line=False)
        for colour, (agent, theirs) in enumerate(points.items())
    ]
    return Chart(
        title=title, x="return in the real system", y=title, y_limits=(None, None),
        curves=[Curve(name="the dream is right", points=right, dashed=True, marks=False), *curves],
    )  # fmt: skip


def _table(ranking: Ranking) -> Html:
    rows: list[list[Child]] = [
        [
            name, with_interval(each.imagined, 1), with_interval(each.real, 1),
            _signed(each.excess), "flattered" if each.exploits else "",
        ]
        for name, each in zip(ranking.names, ranking.found.policies, strict=True)
    ]  # fmt: skip
    head = ["policy, samples", "imagined return", "real return", "imagined less real", ""]
    return table("Returns in the dream and in the real system", head, {"": rows})


def _signed(found: Interval) -> Html:
    plus = "+" if found.value > 0 else ""
    return joined(plus, with_interval(found, 1))
