"""What `wm-gym report` is made of: files that other programs wrote, believed as far as they fit."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wm_gym.evaluation.probes import units_of
from wm_gym.evaluation.statistics import Interval
from wm_gym.models.folder import CONFIG, located
from wm_gym.models.world_model import WorldModel
from wm_gym.programs.report_html import Gap
from wm_gym.systems import System

ADDED = ("updates", "scores", "scored_on", "ends", "rewards")
"""Facts that `wm-gym release` adds to what a world model was made from."""

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Model:
    """The world model that the page is about, whole and unharmed."""

    name: str
    """As it was asked for."""

    folder: Path
    world_model: WorldModel
    digests: Mapping[str, str]
    """SHA-256 of its files."""

    @contextmanager
    def understood(self) -> Iterator[None]:
        """What facts lack is said of the file that they are in."""
        with believed(self.folder / CONFIG):
            yield

    @property
    def facts(self) -> Json:
        return self.world_model.card.facts

    @property
    def made_from(self) -> Json:
        return {key: value for key, value in self.facts.items() if key not in ADDED}

    @property
    def system(self) -> System | None:
        """None where nobody has registered it here, nor logged what it is."""
        try:
            return self.world_model.system
        except ValueError:
            return None

    @property
    def compared(self) -> bool:
        """Whether there is a real system to hold it against, and a probe to do so by."""
        system = self.system
        return system is not None and bool(system.simulators) and system.probe is not None

    @property
    def units(self) -> Mapping[str, str]:
        """Of the errors that its system's probe reads off frames."""
        return {} if self.system is None else units_of(self.system)

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many numbers each part has."""
        model = self.world_model
        parts = model.kind.parts_of(model.global_model, model.local_model)
        return {
            name: sum(each.numel() for each in part.parameters()) for name, part in parts.items()
        }


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a program wrote."""

    file: Path
    content: Json

    @property
    def folder(self) -> Path:
        return self.file.parent

    @property
    def dated(self) -> str:
        """The file's own date; its content has none."""
        return moment(datetime.fromtimestamp(self.file.stat().st_mtime, UTC))

    @contextmanager
    def understood(self) -> Iterator[Json]:
        """What is missing or of another kind within is said of this file."""
        with believed(self.file):
            yield self.content


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where something may be."""

    file: Path
    asked: bool
    """Whether its user named it: then it has to be there."""

    what: str
    command: str
    """That writes it."""

    def found(self, foreign: Callable[[Json], str | None]) -> Found | Gap:
        """`foreign` says why it is none of this world model's, if so."""
        if not self.file.exists():
            if self.asked:
                raise FileNotFoundError(
                    f"{self.file} is not here: expected what `{self.command}` writes"
                )
            return self._gap(f"{self.file} is not here")
        found = Found(file=self.file, content=read(self.file))
        with found.understood():
            why = foreign(found.content)
        if why is None:
            return found
        if self.asked:
            raise ValueError(f"{self.file} {why}")
        return self._gap(f"{self.file} {why}")

    def _gap(self, why: str) -> Gap:
        return Gap(what=self.what, why=why, command=self.command)


def open_model(name: str) -> Model:
    folder = located(name)
    world_model = WorldModel.from_pretrained(str(folder))
    return Model(
        name=name,
        folder=folder,
        world_model=world_model,
        digests=json.loads((folder / CONFIG).read_text(encoding="utf-8"))["sha256"],
    )


def measured_on_another(model: Model) -> Callable[[Json], str | None]:
    """For what says of which world model it is: evaluations and gradient cards."""

    def foreign(content: Json) -> str | None:
        card = content["model"]
        made = {key: value for key, value in card["facts"].items() if key not in ADDED}
        if card["system"] == model.world_model.card.system and made == model.made_from:
            return None
        came = made.get("command", "another one")
        return f"is of another world model ({came}), not of {model.name}"

    return foreign


def read(file: Path) -> Json:
    """A table."""
    with believed(file):
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"expected a table, came {type(content).__name__}")
    return content


def read_lines(file: Path) -> list[Json]:
    """A table each; what a killed program left unfinished at the end is not there."""
    *lines, last = file.read_text(encoding="utf-8").split("\n")
    with believed(file):
        found = [json.loads(line) for line in lines if line]
        if not all(isinstance(each, dict) for each in found):
            raise ValueError("expected a table in each line")
    if last:
        try:
            found.append(json.loads(last))
        except ValueError:
            return found
    return found


@contextmanager
def believed(file: Path) -> Iterator[None]:
    """Until something in it cannot be."""
    try:
        yield
    except _DamagedError:
        raise
    except _SURPRISES as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise _DamagedError(
            f"{file} is damaged, or not what this version of wm_gym writes: {reason}"
        ) from error


_SURPRISES = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip


class _DamagedError(ValueError):
    """Has its file's name already."""


def interval(found: Json | None) -> Interval | None:
    if found is None:
        return None
    value, low, high = (float(found[key]) for key in ("value", "low", "high"))
    return Interval(value=value, low=low, high=high)


def moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC")
