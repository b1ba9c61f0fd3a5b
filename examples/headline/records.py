"""What a run leaves behind: lines of JSON, to read while it goes on or after it was killed."""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

REAL, GYM, DREAM = "Real-PushT-v0", "Real-GymPushT-v0", "WM-PushT-v0"

LOCAL_WORLD = "FoG without diffusion"
"""An agent whose samples are the local model's: it has no other world."""

README = Path(__file__).parent / "records_of_readme"
"""The records that the figures of README.md and docs/study.md are made of."""

Line = TypeVar("Line", "Progress", "Exam")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Of an agent at work, averaged since the line before."""

    samples: int
    """Transitions so far of the world that it learns in: of the global model."""

    local_samples: int
    """Transitions of the local model alone so far."""

    gradient_steps: int
    seconds: float
    """Of work, without exams; goes on counting after a pause."""

    reward: float
    """A step's, in the dream, as the agent explores."""


@dataclass(frozen=True, kw_only=True)
class Exam:
    """A policy that does its best in some episodes of the real system, or of the dream."""

    samples: int
    seconds: float
    env_id: str
    seed: int
    """Of the first episode; the others follow."""

    returns: list[float]
    """Each episode's."""

    best: list[float]
    """Each episode's best coverage."""

    final: list[float]
    """Each episode's coverage in the end."""

    def is_of(self, line: Progress) -> bool:
        """Samples alone would not tell: a killed run that goes on comes by the same ones again."""
        return (self.samples, self.seconds) == (line.samples, line.seconds)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One agent's work from one seed, as far as it got."""

    agent: str
    seed: int
    progress: list[Progress]
    exams: list[Exam]
    """On the real system, while it learned."""

    judged: dict[str, Exam] = field(default_factory=dict)
    """What it has learned by now, by environment."""

    @property
    def name(self) -> str:
        """Its folder's."""
        return f"{self.agent}-{self.seed}"


def append(file: Path, line: Progress | Exam) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as lines:
        if lines.tell() and not file.read_bytes().endswith(b"\n"):
            lines.write(b"\n")  # after what a killed run left unfinished
        lines.write(json.dumps(asdict(line)).encode() + b"\n")
        lines.flush()
        os.fsync(lines.fileno())  # what is saved after it is never without it


def read(file: Path, kind: type[Line]) -> list[Line]:
    """All whole lines; what a killed run left unfinished is not there."""
    return [kind(**line) for line in _whole_lines(file, {f.name for f in fields(kind)})]


def read_run(folder: Path) -> Run:
    """Of a folder named after the agent and its seed, e.g. `FoG-0`."""
    agent, seed = folder.name.rsplit("-", 1)
    progress = _not_repeated(read(folder / "progress.jsonl", Progress))
    judged = read(folder / "judged.jsonl", Exam)
    return Run(
        agent=agent,
        seed=int(seed),
        progress=progress,
        exams=_not_repeated(read(folder / "exams.jsonl", Exam)),
        judged={exam.env_id: exam for exam in judged if progress and exam.is_of(progress[-1])},
    )


def read_runs(folder: Path) -> list[Run]:
    """All that have begun, by agent and seed; folders of other names are somebody else's."""
    folders = [file.parent for file in folder.glob("*-*/progress.jsonl")]
    runs = [read_run(each) for each in folders if each.name.rsplit("-", 1)[1].isdecimal()]
    return sorted(runs, key=lambda run: (run.agent, run.seed))


def _not_repeated(lines: list[Line]) -> list[Line]:
    """Without what a killed run had written after the save that it went on from."""
    kept: dict[tuple[int, str], Line] = {}
    least = math.inf
    for line in reversed(lines):
        key = line.samples, getattr(line, "env_id", "")
        if line.samples <= least and key not in kept:
            kept[key], least = line, line.samples
    return list(kept.values())[::-1]


def _whole_lines(file: Path, names: set[str]) -> Iterator[dict[str, Any]]:
    if not file.exists():
        return
    for number, text in enumerate(file.read_text(encoding="utf-8").splitlines()):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # cut short as it was written
        if not isinstance(line, dict) or set(line) != names:
            raise ValueError(f"{file}, line {number + 1} is not of this kind: expected {names}")
        yield line
