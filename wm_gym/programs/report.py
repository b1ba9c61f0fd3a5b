"""`wm-gym report`: all that is known of a world model, as one page that can be sent around."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import tyro

from wm_gym.models.folder import PACKAGED
from wm_gym.programs.report_html import Gap
from wm_gym.programs.report_page import Sources, left_out, page, shown_sections
from wm_gym.programs.report_sources import (
    Found,
    Json,
    Model,
    Place,
    measured_on_another,
    open_model,
)
from wm_gym.programs.report_speed import PARTS
from wm_gym.programs.report_study import Study, find_study, ranking
from wm_gym.storage.files import write_atomically

FIDELITY, GRADIENTS = Path("out/fidelity"), Path("out/gradients")
STUDY = Path("out/fog_vs_ppo")
BENCH = tuple(Path("out") / f"bench{name}.json" for name in ("", "_gradient", "_memory"))
"""Where the other programs write; what is missing there is a gap in the page."""


@dataclass(frozen=True, kw_only=True)
class Report:
    world_model: Annotated[str, tyro.conf.Positional]
    """The world model: a folder, a packaged name such as push-t, or a Hub id."""

    out: Path = Path("out/report.html")
    """File for the page, with its pictures and films in it; or a folder for a report.html."""

    fidelity: Path = FIDELITY
    """Folder that `wm-gym evaluate` wrote into."""

    gradients: Path = GRADIENTS
    """Folder that `wm-gym gradients` wrote into."""

    study: Path = STUDY
    """Folder that `examples/fog_vs_ppo.py` wrote into, or the one around it."""

    bench: tuple[Path, ...] = BENCH
    """Files that `wm-gym bench --out` wrote, one or more."""


@tyro.conf.configure(tyro.conf.OmitArgPrefixes)
def report(config: Report) -> None:
    """Write a page with a world model's fidelity, films, gradients, policies and speed.

    What has not been measured is a gap in the page, and says how to fill it.
    """
    sources = gathered(config)
    content = page(sources, datetime.now(UTC)).encode()
    out = config.out if config.out.suffix in (".html", ".htm") else config.out / "report.html"
    write_atomically(out, content)
    for missing in gaps(sources):
        print(f"not measured: {missing.what.lower()} ({missing.why}): {missing.command}")
    if without := left_out(sources):
        print(without)
    print(f"page: {out}, {len(content) / 1e6:.1f} MB")


def gathered(config: Report) -> Sources:
    """Whatever was measured of this world model."""
    model = open_model(config.world_model)
    commands = _Commands(model)
    another = measured_on_another(model)
    fidelity = Place(
        file=_json(config.fidelity, "fidelity.json"), asked=config.fidelity != FIDELITY,
        what="Fidelity", command=commands.of("evaluate"),
    )  # fmt: skip
    gradients = Place(
        file=_json(config.gradients, "gradients.json"), asked=config.gradients != GRADIENTS,
        what="Gradients", command=commands.of("gradients"),
    )  # fmt: skip
    study = find_study(
        config.study, model, asked=config.study != STUDY, command=commands.study("quick")
    )
    bench, missing = _benches(config, model, commands)
    return Sources(
        model=model,
        fidelity=fidelity.found(another),
        gradients=gradients.found(another),
        study=study,
        ranking=ranking(study) if isinstance(study, Study) else None,
        bench=bench,
        gaps=missing if model.compared else (),
        study_command=commands.study("quick"),
        ranking_command=commands.study("paper"),
    )


def _json(place: Path, name: str) -> Path:
    """The file may be named, or its folder."""
    return place if place.suffix == ".json" else place / name


def gaps(sources: Sources) -> list[Gap]:
    """Whole sections of the page."""
    found = {
        "fidelity": sources.fidelity, "gradients": sources.gradients, "policies": sources.study,
    }  # fmt: skip
    asked = [found[name] for name in shown_sections(sources) if name in found]
    return [*(each for each in asked if isinstance(each, Gap)), *sources.gaps]


@dataclass(frozen=True)
class _Commands:
    """That fill gaps."""

    model: Model

    def of(self, program: str) -> str:
        named = shlex.quote(self.model.name)
        usual = self.model.compared and self.model.world_model.card.system == "PushT"
        data = "" if usual else " --data NAME=FOLDER"
        return f"wm-gym {program} {named}{data}"

    def study(self, preset: str) -> str:
        named = self.model.name
        other = "" if named == "push-t" else f" --world-model {shlex.quote(named)}"
        return f"python examples/fog_vs_ppo.py {preset}{other}"

    def bench(self, part: str, out: Path) -> str:
        named = self.model.name
        other = "" if named == "push-t" else f" --world-model {shlex.quote(named)}"
        return f"wm-gym bench --parts {part}{other} --out {out}"


def _benches(
    config: Report, model: Model, commands: _Commands
) -> tuple[Sequence[Found], Sequence[Gap]]:
    found: list[Found] = []
    why: list[str] = []
    for file in config.bench:
        place = Place(
            file=file, asked=config.bench != BENCH, what="Speed", command="wm-gym bench --out"
        )
        each = place.found(_benched_on_another(model))
        if isinstance(each, Found):
            found.append(each)
        else:
            why.append(each.why)
    missing = [
        Gap(
            what=what,
            why="; ".join(why) or f"no part {part!r} is in {', '.join(map(str, config.bench))}",
            command=commands.bench(part, out),
        )
        for (part, what), out in zip(PARTS.items(), BENCH, strict=False)
        if not any(part in each.content for each in found)
    ]
    return found, missing


def _benched_on_another(model: Model) -> Callable[[Json], str | None]:
    """A benchmark has no more than the model's name, or where its folder was."""

    def foreign(content: Json) -> str | None:
        named = Path(content["dreams"]["world_model"])
        if model.folder.resolve() in (named.resolve(), (PACKAGED / named).resolve()):
            return None
        return f"is of the world model {named}, not of {model.name}"

    return foreign
