"""Put a finished study's records behind every later one, and its FoG policy into the package.

PYTHONPATH=examples python -m headline.release out/fog_vs_ppo/paper
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

import fog_agent
from fog_agent import FoG
from headline.records import Run, read_runs
from headline.study import DREAM
from headline.table import GYM, REAL, compare

RECORDS = Path(__file__).parent / "study"
PACKAGED = Path(fog_agent.__file__).parent / "packaged"
KEPT = ("progress.jsonl", "exams.jsonl", "judged.jsonl")


@dataclass(frozen=True, kw_only=True)
class Release:
    study: tyro.conf.Positional[Path]
    """The folder of a finished study."""

    name: str = "push-t"
    """Of the packaged policy."""


def main(config: Release) -> None:
    runs = read_runs(config.study)
    for run in runs:
        source = config.study / f"{run.agent}-{run.seed}"
        target = RECORDS / source.name
        target.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            if (source / name).exists():
                shutil.copyfile(source / name, target / name)
    chosen = best_dreamer([run for run in runs if run.agent == "FoG"])
    agent = FoG.load(config.study / f"FoG-{chosen.seed}" / "agent.zip")
    file = agent.save(PACKAGED / f"{config.name}.zip", policy_only=True)
    (PACKAGED / f"{config.name}.md").write_text(card(chosen, len(runs)), encoding="utf-8")
    print(f"wrote {RECORDS}, {file} ({file.stat().st_size / 1e6:.1f} MB)")


def best_dreamer(runs: list[Run]) -> Run:
    """The seed with the highest return in the dream: the real system does not choose."""
    return max(runs, key=lambda run: float(np.mean(run.judged[DREAM].returns)))


def card(run: Run, runs: int) -> str:
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
        f"real system. Of {runs} runs of the study the FoG seed with the highest return in the "
        "dream was taken.", "", *lines, "",
    ])  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Release))
