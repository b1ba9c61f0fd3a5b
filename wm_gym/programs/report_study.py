"""A study's folder, as `examples/fog_vs_ppo.py` leaves it: a folder of JSON lines for each run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wm_gym.evaluation.agreement import Agreement, agreement
from wm_gym.programs.report_html import Gap
from wm_gym.programs.report_sources import Json, Model, Place, believed, read_lines

STUDY, TEXT, FILM = "study.json", "fog_vs_ppo.md", "fog_vs_ppo.mp4"
EXAMS, IMAGINED, JUDGED = "exams.jsonl", "imagined.jsonl", "judged.jsonl"
PRESETS = ("paper", "quick")
"""Whose folder is looked into first."""

DREAM = "WM-"
"""What the ids of dreams begin with; others are real systems."""

MARGIN = 5.0
"""How far an imagined return may lie above the real one."""


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Of one policy in one environment."""

    samples: int
    seconds: float
    env_id: str
    seed: int
    returns: tuple[float, ...]
    best: tuple[float, ...]

    @classmethod
    def of(cls, line: Json) -> "Exam":
        returns, best = (tuple(map(float, line[key])) for key in ("returns", "best"))
        if not returns or len(returns) != len(best):
            raise ValueError(f"got {len(returns)} returns for {len(best)} coverages")
        return cls(
            samples=int(line["samples"]), seconds=float(line["seconds"]),
            env_id=str(line["env_id"]), seed=int(line["seed"]), returns=returns, best=best,
        )  # fmt: skip

    @property
    def real(self) -> bool:
        return not self.env_id.startswith(DREAM)


@dataclass(frozen=True, kw_only=True)
class Run:
    agent: str
    seed: str
    exams: tuple[Exam, ...]
    """On the real system, while it learned."""

    imagined: tuple[Exam, ...]
    finished: bool
    """Whether what it has learned by now was judged."""


@dataclass(frozen=True, kw_only=True)
class Study:
    folder: Path
    settings: Json
    runs: tuple[Run, ...]

    @property
    def text(self) -> str:
        """The tables and the verdict, without what is said of imagined returns."""
        file = self.folder / TEXT
        if not file.exists():
            return ""
        with believed(file):
            return file.read_text(encoding="utf-8").split("\n| policy |", 1)[0]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Policies, each in the dream and in the real system, from the same starts."""

    agents: tuple[str, ...]
    names: tuple[str, ...]
    episodes: int
    found: Agreement


def find_study(folder: Path, model: Model, *, asked: bool, command: str) -> Study | Gap:
    """The folder itself, or the first preset's in it."""
    homes = [folder, *(folder / preset for preset in PRESETS)]
    home = next((each for each in homes if (each / STUDY).exists()), folder)
    place = Place(file=home / STUDY, asked=asked, what="Policies", command=command)

    def foreign(settings: Json) -> str | None:
        ours = " ".join(f"{name} {digest[:16]}" for name, digest in sorted(model.digests.items()))
        if settings["world_model"] == ours:
            return None
        return f"is of a study in another world model, not in {model.name}"

    found = place.found(foreign)
    if isinstance(found, Gap):
        return found
    return Study(folder=home, settings=found.content, runs=_runs(home))


def _runs(folder: Path) -> tuple[Run, ...]:
    return tuple(_run(file.parent) for file in sorted(folder.glob(f"*/{EXAMS}")))


def _run(folder: Path) -> Run:
    agent, _, seed = folder.name.rpartition("-")
    exams = _not_repeated([exam for exam in _exams(folder / EXAMS) if exam.real])
    judged = [exam for exam in _exams(folder / JUDGED) if exam.real]
    return Run(
        agent=agent,
        seed=seed,
        exams=exams,
        imagined=tuple(_exams(folder / IMAGINED)),
        finished=bool(exams) and any(each.samples >= exams[-1].samples for each in judged),
    )


def _exams(file: Path) -> list[Exam]:
    if not file.exists():
        return []
    lines: Sequence[Any] = read_lines(file)
    with believed(file):
        return [Exam.of(line) for line in lines]


def _not_repeated(exams: Sequence[Exam]) -> tuple[Exam, ...]:
    """Without what a killed run had written after the save that it went on from."""
    kept: list[Exam] = []
    for exam in reversed(exams):
        if not kept or exam.samples < kept[-1].samples:
            kept.append(exam)
    return tuple(reversed(kept))


def ranking(study: Study) -> Ranking | None:
    """None without two policies that were played in both."""
    pairs = [(run, one, other) for run in study.runs for one, other in _pairs(run.imagined)]
    if len(pairs) < 2:
        return None
    with believed(study.folder / "*" / IMAGINED):
        dream = np.array([one.returns for _, one, _ in pairs], np.float64)
        real = np.array([other.returns for _, _, other in pairs], np.float64)
        found = agreement(dream, real, margin=MARGIN, seed=0, paired=True)
    return Ranking(
        agents=tuple(run.agent for run, *_ in pairs),
        names=tuple(f"{run.agent}, seed {run.seed}, {one.samples:,}" for run, one, _ in pairs),
        episodes=dream.shape[1],
        found=found,
    )


def _pairs(exams: Sequence[Exam]) -> list[tuple[Exam, Exam]]:
    """Imagined and real, of the same policy, by samples."""
    dreamt = {(e.samples, e.seconds, e.seed): e for e in exams if not e.real}
    real = {(e.samples, e.seconds, e.seed): e for e in exams if e.real}
    return [(dreamt[key], real[key]) for key in sorted(dreamt.keys() & real.keys())]
