"""Put a finished study's records behind every later one, its FoG policy into the package, and its
pictures into the README.

PYTHONPATH=examples python -m headline.release out/fog_vs_ppo/paper
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

import fog_agent
from fog_agent import FoG
from headline.folder import COMMON, OWN, finished
from headline.records import DREAM, GYM, README, REAL, Run
from headline.seeds import FILM_SEED
from headline.table import compare
from headline.video import moving_picture

PACKAGED = Path(fog_agent.__file__).parent / "packaged"
PICTURES = ("fog_vs_ppo.png", "imagined.png")
KEPT = ("progress.jsonl", "exams.jsonl", "judged.jsonl", OWN)


@dataclass(frozen=True, kw_only=True)
class Release:
    study: tyro.conf.Positional[Path]
    """The folder of a finished study."""

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
    dreamers = [run for run in runs if run.agent == "FoG"]
    chosen = best_dreamer(dreamers)
    keep_records(config.study, runs)
    agent = FoG.load(config.study / chosen.name / "policies" / f"{chosen.progress[-1].samples}.zip")
    file = agent.save(PACKAGED / f"{config.name}.zip", policy_only=True)
    text = card(chosen, seeds=len(dreamers))
    (PACKAGED / f"{config.name}.md").write_text(text, encoding="utf-8")
    print(f"wrote {README}, {file} ({file.stat().st_size / 1e6:.1f} MB)")
    for name in PICTURES:
        shutil.copyfile(config.study / name, config.pictures / name)
    moving = config.pictures / "policy.gif"
    seeds = range(FILM_SEED, FILM_SEED + config.starts)
    moving_picture(agent, config.world_model, moving, seeds=seeds, steps=config.steps)
    print(f"wrote {moving} ({moving.stat().st_size / 1e6:.1f} MB), {', '.join(PICTURES)}")


def keep_records(study: Path, runs: Sequence[Run], to: Path = README) -> None:
    """Those of this study in place of all that were there."""
    if to.exists():
        shutil.rmtree(to)
    for run in runs:
        (to / run.name).mkdir(parents=True)
        for name in KEPT:
            shutil.copyfile(study / run.name / name, to / run.name / name)
    shutil.copyfile(study / COMMON, to / COMMON)


def best_dreamer(runs: Sequence[Run]) -> Run:
    """The seed with the highest return in the dream: the real system does not choose."""
    if not runs:
        raise SystemExit("there is no finished run of FoG to take a policy from")
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
        f"FoG, seed {run.seed}, {run.progress[-1].samples:,} samples of `WM-PushT-v0`, none of any "
        f"real system. Of FoG's {seeds} runs in the study it is the one with the highest return in "
        "the dream.", "", *lines, "",
    ])  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Release))
