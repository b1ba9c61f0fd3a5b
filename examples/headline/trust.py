"""Whether the dream can be trusted: returns of policies of all qualities, imagined and real."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from headline.contenders import contenders
from headline.folder import alone, finished
from headline.plots import colours
from headline.records import DREAM, REAL, Exam, Progress, append, read
from headline.seeds import TRUST_SEED
from headline.study import Exams, Study
from headline.table import with_interval
from wm_gym.evaluation.agreement import Agreement, agreement
from wm_gym.evaluation.statistics import Interval

MARGIN = 5.0
"""How far an imagined return may lie above the real one, of about -110 to -10."""

ENOUGH = 12
"""Policies from which a ranking says something."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Imagined:
    """Of the same policies, from the same starts."""

    names: tuple[str, ...]
    dream: Float[np.ndarray, "p n"]
    real: Float[np.ndarray, "p n"]

    def agreement(self) -> Agreement:
        return agreement(self.dream, self.real, margin=MARGIN, seed=0, paired=True)


def imagine(study: Study) -> Imagined | None:
    """`study.trusted` policies, spread over what all finished runs reached while they learned."""
    chosen = spread_out(study)
    if len(chosen) < 2:
        print(f"the dream is not compared: {len(chosen)} policies are there, expected 2 or more")
        return None
    for env_id in (REAL, DREAM):
        _play(study, env_id, [each for each in chosen if _exam(each[0], env_id, each[1]) is None])
    each = [[_exam(folder, env_id, line) for folder, line in chosen] for env_id in (DREAM, REAL)]
    dream, real = (np.array([exam.returns for exam in row if exam]) for row in each)
    return Imagined(names=tuple(_name(*each) for each in chosen), dream=dream, real=real)


def _play(study: Study, env_id: str, chosen: list[tuple[Path, Progress]]) -> None:
    exams = Exams(study, env_id, envs=study.judge_envs) if chosen else None
    known = {each.name: each for each in contenders(study).values()}
    for number, (folder, line) in enumerate(chosen, 1):
        agent = known[folder.name.rsplit("-", 1)[0]]
        policy = agent.resume(folder / "policies" / f"{line.samples}.zip", None)
        title = f"{number}/{len(chosen)}: {_name(folder, line)}, in {env_id}"
        assert exams is not None
        with alone(folder):
            exam = exams.of(
                policy, line, episodes=study.judge_episodes, seed=TRUST_SEED, title=title
            )
            append(folder / "imagined.jsonl", exam)


def _exam(folder: Path, env_id: str, line: Progress) -> Exam | None:
    exams = read(folder / "imagined.jsonl", Exam)
    return next((e for e in exams if e.env_id == env_id and e.is_of(line)), None)


def _name(folder: Path, line: Progress) -> str:
    agent, seed = folder.name.rsplit("-", 1)
    return f"{agent}, seed {seed}, {line.samples:,} samples"


def spread_out(study: Study) -> list[tuple[Path, Progress]]:
    """Snapshots at even steps of the coverage that their exams found."""
    found = []
    for run in finished(study.out)[0]:
        folder = study.out / run.name
        exams = {exam.samples: float(np.mean(exam.best)) for exam in run.exams}
        for line in run.progress:
            if (folder / "policies" / f"{line.samples}.zip").exists():
                found.append((exams[line.samples], folder, line))
    coverages, chosen = [coverage for coverage, *_ in found] or [0.0], []
    for coverage in np.linspace(min(coverages), max(coverages), min(study.trusted, len(found))):
        nearest = min(found, key=lambda each: abs(each[0] - coverage))
        found.remove(nearest)
        chosen.append(nearest[1:])
    return chosen


def rendered(imagined: Imagined, found: Agreement) -> str:
    lines = [
        "| policy | imagined return | real return | imagined less real |",
        "|---|---|---|---|",
        *(
            f"| {name} | {one.imagined.value:.1f} | {one.real.value:.1f} | {_excess(one.excess)}"
            f"{' **flattered**' if one.exploits else ''} |"
            for name, one in zip(imagined.names, found.policies, strict=True)
        ),
    ]
    pearson, spearman = (
        "not defined" if r is None else with_interval(r) for r in (found.pearson, found.spearman)
    )
    few = len(found.policies) < ENOUGH
    return "\n".join([
        *lines, "",
        f"{len(found.policies)} policies, {imagined.real.shape[1]} episodes each from the same "
        f"starts: Pearson {pearson}, Spearman {spearman}, mean maximum rank violation "
        f"{found.mmrv.value:.2f} of a return. {_verdict(found)}."
        + (f" Of fewer than {ENOUGH} policies this says little." if few else ""),
    ])  # fmt: skip


def _verdict(found: Agreement) -> str:
    if found.exploited:
        return (
            f"{sum(one.exploits for one in found.policies)} of {len(found.policies)} policies "
            f"exploit the dream (more than {MARGIN:g} above the real return, and an interval "
            "above 0)"
        )
    worst = max((one.excess for one in found.policies), key=lambda excess: excess.high)
    if worst.high > MARGIN:
        return (
            "No policy is shown to exploit the dream, but this does not rule it out: it may "
            f"flatter one by more than {MARGIN:g} ({_excess(worst)})"
        )
    return (
        f"Nobody exploits the dream: it flatters none by more than {MARGIN:g} "
        f"(the most: {_excess(worst)})"
    )


def _excess(found: Interval) -> str:
    return f"{found.value:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def draw(imagined: Imagined, found: Agreement, out: Path) -> None:
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axes = figure.subplots()
    agents = list(dict.fromkeys(name.split(",")[0] for name in imagined.names))
    colour = colours(agents)
    for agent in agents:
        which = [i for i, name in enumerate(imagined.names) if name.split(",")[0] == agent]
        real, dream = (
            np.array([getattr(found.policies[i], kind).value for i in which])
            for kind in ("real", "imagined")
        )
        axes.plot(real, dream, "o", label=agent, color=colour[agent])
    ends = min(imagined.dream.mean(1).min(), imagined.real.mean(1).min()), 0
    axes.plot(ends, ends, color="0.7", zorder=0)
    axes.set_xlabel("return in the real system")
    axes.set_ylabel("return in the dream")
    spearman = "" if found.spearman is None else f": Spearman {found.spearman.value:.2f}"
    axes.set_title(f"{len(imagined.names)} policies, imagined and real{spearman}")
    axes.legend(frameon=False)
    figure.savefig(out, dpi=150)
