"""The whole page of `wm-gym report`."""

import platform
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import numpy as np

import wm_gym
from wm_gym.programs import (
    report_fidelity,
    report_gradients,
    report_policies,
    report_speed,
    report_training,
)
from wm_gym.programs.machine import machine
from wm_gym.programs.report_html import (
    Child,
    Gap,
    Html,
    count,
    facts,
    folded,
    joined,
    number,
    paragraph,
    section,
    tag,
)
from wm_gym.programs.report_sources import Found, Json, Model, moment
from wm_gym.programs.report_study import STUDY, Ranking, Study
from wm_gym.programs.report_style import STYLE

NAV = {
    "films": "Films",
    "fidelity": "Fidelity",
    "gradients": "Gradients",
    "policies": "Policies",
    "ranking": "Imagined against real",
    "speed": "Speed",
    "training": "Training",
    "provenance": "Provenance",
}

SCRIPT = (
    'if (matchMedia("(prefers-reduced-motion: reduce)").matches) '
    'for (const film of document.querySelectorAll("video")) {'
    ' film.removeAttribute("autoplay"); film.pause(); }'
)
"""All the page runs; without it films begin to play for everybody."""

POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{b64encode(sha256(SCRIPT.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'"
)
"""A browser runs no other script of this page and fetches nothing for it, whatever slipped in."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    model: Model
    fidelity: Found | Gap
    gradients: Found | Gap
    study: Study | Gap
    ranking: Ranking | None
    bench: Sequence[Found]
    gaps: Sequence[Gap]
    """Of the speed."""

    study_command: str
    ranking_command: str


def shown_sections(sources: Sources) -> list[str]:
    """Their names, without gaps that nothing can fill."""
    lacking = {
        "gradients": isinstance(sources.gradients, Gap),
        "policies": isinstance(sources.study, Gap),
        "ranking": sources.ranking is None,
        "speed": not sources.bench,
    }
    return [name for name in NAV if sources.model.compared or not lacking.get(name)]


def left_out(sources: Sources) -> str:
    """Which sections, and why; nothing where all are shown."""
    kept = shown_sections(sources)
    names = [words.lower() for name, words in NAV.items() if name not in kept]
    if not names:
        return ""
    return (
        f"Left out: {', '.join(names)}. They are measured beside a registered system's simulator, "
        f"or by its probe; of {sources.model.world_model.card.system}, as it was logged, there is "
        "none here."
    )


def page(sources: Sources, made: datetime) -> str:
    model = sources.model
    title = f"{model.name}: a world model of {model.world_model.card.system}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name_="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    parts = _header(sources), tag("main", *_sections(sources, made)), _footer(made)
    body = tag("body", *parts, tag("script", Html(SCRIPT)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en-GB')}\n"


def _header(sources: Sources) -> Html:
    model = sources.model
    links = [tag("li", tag("a", NAV[name], href=f"#{name}")) for name in shown_sections(sources)]
    without = left_out(sources)
    return tag(
        "header",
        tag("h1", model.name),
        tag("p", _lead(model), class_="lead"),
        tag("dl", *map(_tile, _headlines(sources)), class_="glance"),
        paragraph(without) if without else None,
        tag("nav", tag("ul", *links), aria_label="Sections"),
    )


def _lead(model: Model) -> str:
    dataset = model.facts.get("dataset")
    learned = ""
    if isinstance(dataset, dict) and isinstance(frames := dataset.get("frames"), int):
        learned = f", learned from {frames:,} logged frames"
    size = count(sum(model.sizes.values()))
    return (
        f"A diffusion world model of {model.world_model.card.system}{learned}; {size} parameters. "
        "Its dreams are a differentiable Gymnasium environment."
    )


def _headlines(sources: Sources) -> list[tuple[str, Child, str]]:
    headlines = {
        "fidelity": report_fidelity.headline(sources.fidelity, sources.model),
        "gradients": report_gradients.headline(sources.gradients),
        "ranking": report_policies.headline(sources.ranking),
        "speed": report_speed.headline(sources.bench),
    }
    return [headlines[name] for name in shown_sections(sources) if name in headlines]


def _tile(headline: tuple[str, Child, str]) -> Html:
    label, value, about = headline
    shown = tag("dd", value, class_="value"), tag("dd", about, class_="about")
    return tag("div", tag("dt", label), *shown)


def _sections(sources: Sources, made: datetime) -> list[Html]:
    sections = {
        "films": report_fidelity.films(sources.fidelity),
        "fidelity": report_fidelity.fidelity(sources.fidelity, sources.model),
        "gradients": report_gradients.gradients(sources.gradients),
        "policies": report_policies.policies(sources.study, sources.study_command),
        "ranking": report_policies.ranked(sources.study, sources.ranking, sources.ranking_command),
        "speed": report_speed.speed(sources.bench, sources.gaps),
        "training": report_training.training(sources.model),
        "provenance": _provenance(sources, made),
    }
    return [sections[name] for name in shown_sections(sources)]


def _provenance(sources: Sources, made: datetime) -> Html:
    return section(
        "provenance", "Provenance",
        facts("The world model", _of_model(sources.model)),
        *_of_sources(sources),
        facts("This page", _of_page(made)),
        folded("SHA-256 of the model's files", facts("Files", list(sources.model.digests.items()))),
    )  # fmt: skip


def _of_model(model: Model) -> list[tuple[str, Child]]:
    made, card = model.made_from, model.world_model.card
    dataset = made.get("dataset")
    parts = ", ".join(f"{name} {count(size)}" for name, size in model.sizes.items())
    known: list[tuple[str, Child]] = [
        ("folder", str(model.folder)),
        ("system", card.system),
        ("parameters", parts),
        ("looks back on", f"{model.world_model.spec.prefill} frames"),
        ("denoiser calls", f"{card.denoising_steps} a frame"),
        *(_flat("dataset", dataset) if isinstance(dataset, dict) else []),
        *(row for key, value in made.items() if key != "dataset" for row in _flat(key, value)),
        *_flat("updates", model.facts.get("updates", {})),
    ]
    return known


def _of_sources(sources: Sources) -> list[Html]:
    found = [each for each in (sources.fidelity, sources.gradients) if isinstance(each, Found)]
    shown = []
    for each in found:
        with each.understood() as content:
            rows = [*_dated(each), *_flat("", content["settings"]), *_datasets(content)]
            shown.append(facts(str(each.file), rows))
    for each in sources.bench:
        with each.understood() as content:
            settings = {key: content[key] for key in _TIMED if content.get(key) is not None}
            shown.append(facts(str(each.file), [*_dated(each), *_flat("", settings)]))
    if isinstance(study := sources.study, Study):
        seeds = ", ".join(f"{run.agent} {run.seed}" for run in study.runs)
        found_study = Found(file=study.folder / STUDY, content=study.settings)
        rows = [*_dated(found_study), ("agents and seeds", seeds), *_flat("", study.settings)]
        shown.append(facts(str(study.folder), rows))
    return [folded("How it was measured", *shown)] if shown else []


_TIMED = ("parts", "seconds", "rounds", "dreams", "gradients")


def _dated(found: Found) -> list[tuple[str, Child]]:
    return [("file of", found.dated), ("on", str(found.content.get("machine", "not recorded")))]


def _datasets(content: Json) -> list[tuple[str, Child]]:
    return [
        (f"data, {name}", joined(f"{each['folder']}, {each['frames']:,} frames, ", _hash(each)))
        for name, each in content["datasets"].items()
    ]


def _hash(dataset: Json) -> Html:
    return tag("code", str(dataset["hash"]))


def _flat(name: str, value: Any) -> list[tuple[str, Child]]:
    """Tables within tables have a row for each leaf."""
    if isinstance(value, dict):
        return [
            row
            for key, inner in value.items()
            for row in _flat(f"{name} {key}".strip().replace("_", " "), inner)
        ]
    if isinstance(value, list):
        return [(name, ", ".join(map(str, value)))]
    if isinstance(value, int) and not isinstance(value, bool):
        return [(name, number(value) if abs(value) >= 10_000 else str(value))]
    return [(name, "–" if value is None else str(value))]


def _of_page(made: datetime) -> list[tuple[str, Child]]:
    return [
        ("made", moment(made)),
        ("with", f"wm_gym {wm_gym.__version__}, NumPy {np.__version__}"),
        ("Python", platform.python_version()),
        ("on", machine()),
    ]


def _footer(made: datetime) -> Html:
    said = paragraph("Made by ", tag("code", "wm-gym report"), f", {moment(made)}.")
    return tag("footer", said)
