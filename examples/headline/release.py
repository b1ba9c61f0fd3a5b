"""Put a finished study's records beside those that the README's figures are made of, and its best
policy into the package.

PYTHONPATH=examples python -m headline.release out/fog_vs_ppo/paper
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

import fog_agent
from fog_agent import FoG
from headline import readme
from headline.contenders import LONG
from headline.folder import COMMON, OWN, finished
from headline.records import DREAM, GYM, README, REAL, Run
from headline.seeds import FILM_SEED
from headline.table import compare
from headline.video import moving_picture

PACKAGED = Path(fog_agent.__file__).parent / "packaged"
IMAGINED = "imagined.png"
KEPT = ("progress.jsonl", "exams.jsonl", "judged.jsonl", OWN)


@dataclass(frozen=True, kw_only=True)
class Release:
    study: tyro.conf.Positional[Path]
    """The folder of a finished study."""

    agent: str = LONG
    """Whose best policy is packaged; if it did not take part, the package keeps the one it has."""

    name: str = "push-t"
    """Of the packaged policy."""

    world_model: str = "push-t"
    pictures: Path = Path("docs/img")
    """Where the README's are."""

    starts: int = 4
    steps: int = 150
    """Of the moving picture."""


def main(config: Release) -> None:
    runs, unfinished = finished(config.study)
    if unfinished:
        raise SystemExit(f"not finished: {', '.join(unfinished)}")
    keep_records(config.study, runs)
    print(f"wrote {README}")
    if (config.study / IMAGINED).exists():
        shutil.copyfile(config.study / IMAGINED, config.pictures / IMAGINED)
    if dreamers := [run for run in runs if run.agent == config.agent]:
        package(config, dreamers)
    readme.main(readme.Readme(pictures=config.pictures))


def keep_records(study: Path, runs: Sequence[Run], to: Path = README) -> None:
    """In place of older ones of the same agents and seeds; and of all, if those had other exams,
    starts or another dream."""
    shared = json.loads((study / COMMON).read_text(encoding="utf-8"))
    if to.exists() and json.loads((to / COMMON).read_text(encoding="utf-8")) != shared:
        shutil.rmtree(to)
    for run in runs:
        (to / run.name).mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            shutil.copyfile(study / run.name / name, to / run.name / name)
    shutil.copyfile(study / COMMON, to / COMMON)


def package(config: Release, dreamers: Sequence[Run]) -> None:
    chosen = best_dreamer(dreamers)
    agent = FoG.load(config.study / chosen.name / "policies" / f"{chosen.progress[-1].samples}.zip")
    file = agent.save(PACKAGED / f"{config.name}.zip", policy_only=True)
    text = card(chosen, seeds=len(dreamers))
    (PACKAGED / f"{config.name}.md").write_text(text, encoding="utf-8")
    print(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)")
    moving = config.pictures / "policy.gif"
    seeds = range(FILM_SEED, FILM_SEED + config.starts)
    moving_picture(agent, config.world_model, moving, seeds=seeds, steps=config.steps)
    print(f"wrote {moving} ({moving.stat().st_size / 1e6:.1f} MB)")


def best_dreamer(runs: Sequence[Run]) -> Run:
    """The seed with the highest return in the dream: the real system does not choose."""
    return max(runs, key=lambda run: float(np.mean(run.judged[DREAM].returns)))


def card(run: Run, *, seeds: int) -> str:
    judged = compare([run]).rows[run.agent].judged
    lines = [
        f"* {env_id}, {judged[env_id].episodes} episodes: mean best coverage "
        f"{judged[env_id].mean_best.value:.3f}, "
        + ", ".join(f"{s.value:.0%} above {t:.2f}" for t, s in judged[env_id].success.items())
        for env_id in (REAL, GYM)
        if env_id in judged
    ]
    return "\n".join([
        "# A policy for Push-T, from latents", "",
        f"{run.agent}, seed {run.seed}, {run.progress[-1].samples:,} samples of `WM-PushT-v0`, "
        f"none of any real system. Of {seeds} such runs in the study it is the one with the "
        "highest return in the dream.", "", *lines, "",
    ])  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Release))
