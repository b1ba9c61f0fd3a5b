"""Whether the dream can be trusted: returns of policies of all qualities, imagined and real."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from headline.contenders import contenders
from headline.records import Exam, Progress, append, read, read_runs
from headline.study import DREAM, EXAM_SEED, Exams, Study
from headline.table import REAL, with_interval
from wm_gym.evaluation.agreement import Agreement, agreement

MARGIN = 5.0
"""How far an imagined return may lie above the real one, of about -110 to -10."""

SEED = EXAM_SEED + 5_000
"""First seed of these episodes, which nobody else has."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Imagined:
    """Of the same policies, from the same starts."""

    names: tuple[str, ...]
    dream: Float[np.ndarray, "p n"]
    real: Float[np.ndarray, "p n"]

    def agreement(self) -> Agreement:
        return agreement(self.dream, self.real, margin=MARGIN, seed=0, paired=True)


def imagine(study: Study) -> Imagined:
    """`study.trusted` policies, spread over what all runs reached while they learned."""
    chosen, known = spread_out(study), contenders(study).values()
    for env_id in (REAL, DREAM):
        exams: Exams | None = None
        for folder, line in chosen:
            if _exam(folder, env_id, line) is not None:
                continue
            exams = exams or Exams(study, env_id, envs=study.judge_envs)
            agent = next(one for one in known if folder.name.startswith(f"{one.name}-"))
            policy = agent.resume(folder / "policies" / f"{line.samples}.zip", None)
            print(f"{_name(folder, line)} in {env_id}")
            exam = exams.of(policy, line, episodes=study.judge_episodes, seed=SEED)
            append(folder / "imagined.jsonl", exam)
    each = [[_exam(folder, env_id, line) for folder, line in chosen] for env_id in (DREAM, REAL)]
    dream, real = (np.array([exam.returns for exam in row if exam]) for row in each)
    return Imagined(names=tuple(_name(*each) for each in chosen), dream=dream, real=real)


def _exam(folder: Path, env_id: str, line: Progress) -> Exam | None:
    exams = read(folder / "imagined.jsonl", Exam)
    return next((e for e in exams if (e.env_id, e.samples) == (env_id, line.samples)), None)


def _name(folder: Path, line: Progress) -> str:
    agent, seed = folder.name.rsplit("-", 1)
    return f"{agent}, seed {seed}, {line.samples:,} samples"


def spread_out(study: Study) -> list[tuple[Path, Progress]]:
    """Snapshots at even steps of the coverage that their exams found."""
    found = []
    for run in read_runs(study.out):
        folder = study.out / f"{run.agent}-{run.seed}"
        exams = {exam.samples: float(np.mean(exam.best)) for exam in run.exams}
        for line in run.progress:
            if (folder / "policies" / f"{line.samples}.zip").exists():
                found.append((exams[line.samples], folder, line))
    coverages = [coverage for coverage, *_ in found]
    chosen = []
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
    worst = max(one.excess.value for one in found.policies)
    pearson, spearman = (
        "not defined" if r is None else with_interval(r) for r in (found.pearson, found.spearman)
    )
    verdict = (
        f"{sum(one.exploits for one in found.policies)} of {len(found.policies)} policies exploit "
        f"the dream (more than {MARGIN:g} above the real return, and an interval above 0)"
        if found.exploited
        else f"Nobody exploits the dream: it flatters none by more than {MARGIN:g} "
        f"(the most: {worst:.1f})"
    )
    return "\n".join([
        *lines, "",
        f"{len(found.policies)} policies, {imagined.real.shape[1]} episodes each from the same "
        f"starts: Pearson {pearson}, Spearman {spearman}, mean maximum rank violation "
        f"{found.mmrv.value:.2f} of a return. {verdict}.",
    ])  # fmt: skip


def _excess(interval: object) -> str:
    low, value, high = (getattr(interval, name) for name in ("low", "value", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def draw(imagined: Imagined, found: Agreement, out: Path) -> None:
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axes = figure.subplots()
    agents = list(dict.fromkeys(name.split(",")[0] for name in imagined.names))
    for agent in agents:
        which = [i for i, name in enumerate(imagined.names) if name.split(",")[0] == agent]
        real, dream = (
            np.array([getattr(found.policies[i], kind).value for i in which])
            for kind in ("real", "imagined")
        )
        axes.plot(real, dream, "o", label=agent)
    ends = min(imagined.dream.mean(1).min(), imagined.real.mean(1).min()), 0
    axes.plot(ends, ends, color="0.7", zorder=0)
    axes.set_xlabel("return in the real system")
    axes.set_ylabel("return in the dream")
    spearman = "" if found.spearman is None else f": Spearman {found.spearman.value:.2f}"
    axes.set_title(f"{len(imagined.names)} policies, imagined and real{spearman}")
    axes.legend(frameon=False)
    figure.savefig(out, dpi=150)
