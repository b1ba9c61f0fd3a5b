"""Put a finished study's records beside those that README.md and docs/study.md are made of, and its
best policy into the package.

PYTHONPATH=examples python -m headline.release out/fog_vs_ppo/paper
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import tyro

import fog_agent
from fog_agent import FoG
from headline import readme
from headline.contenders import LONG, Budget
from headline.folder import COMMON, OWN, finished
from headline.records import DREAM, GYM, README, REAL, Run
from headline.seeds import CHOICE_SEED, FILM_SEED
from headline.study import Exams, Study
from headline.table import compare
from headline.video import moving_picture
from wm_gym.evaluation.judge import joined

PACKAGED = Path(fog_agent.__file__).parent / "packaged"
IMAGINED = "imagined.png"
BUDGETS: tuple[str, ...] = get_args(Budget)
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
    dreams: int = 200
    """Dreamt episodes of each seed, whose returns choose among them."""

    pictures: Path = Path("docs/img")
    """Where those of the pages are."""

    starts: int = 4
    steps: int = 150
    """Of the moving picture."""


def main(config: Release) -> None:
    runs, unfinished = finished(config.study)
    if unfinished:
        raise SystemExit(f"not finished: {', '.join(unfinished)}")
    if others := differing(config.study, runs):
        raise SystemExit(
            f"{others} were trained by other settings than the README's runs of the same agents, "
            "expected equal ones, as they are averaged: see settings.json"
        )
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
    if to.exists() and not _alike(study, to):
        shutil.rmtree(to)
    shared = _json(study / COMMON)
    kept = _json(to / COMMON) if to.exists() else shared
    budgets = {name: max(shared.get(name, 0), kept.get(name, 0)) for name in BUDGETS}
    for run in runs:
        (to / run.name).mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            shutil.copyfile(study / run.name / name, to / run.name / name)
    told = json.dumps({**shared, **budgets}, indent=1)
    (to / COMMON).write_text(told + "\n", encoding="utf-8")


def differing(study: Path, runs: Sequence[Run], to: Path = README) -> list[str]:
    """Runs that may not stand beside those kept, as the same agent's have other settings there."""
    if not (to / COMMON).exists() or not _alike(study, to):
        return []
    kept = {file.parent.name.rsplit("-", 1)[0]: _json(file) for file in to.glob(f"*/{OWN}")}
    return [
        run.name for run in runs
        if run.agent in kept and _json(study / run.name / OWN) != kept[run.agent]
    ]  # fmt: skip


def _alike(study: Path, to: Path) -> bool:
    """Whether both had the same exams in the same dream, budgets aside."""
    one, other = (
        {name: value for name, value in _json(folder / COMMON).items() if name not in BUDGETS}
        for folder in (study, to)
    )
    return one == other


def _json(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8")))


def package(config: Release, dreamers: Sequence[Run]) -> None:
    agents = {run.name: last_policy(config.study, run) for run in dreamers}
    chosen = best_dreamer(dreamers, dreamt(config, agents))
    agent = agents[chosen.name]
    file = agent.save(PACKAGED / f"{config.name}.zip", policy_only=True)
    text = card(chosen, seeds=len(dreamers), dreams=config.dreams)
    (PACKAGED / f"{config.name}.md").write_text(text, encoding="utf-8")
    print(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)")
    moving = config.pictures / "policy.gif"
    seeds = range(FILM_SEED, FILM_SEED + config.starts)
    moving_picture(agent, config.world_model, moving, seeds=seeds, steps=config.steps)
    print(f"wrote {moving} ({moving.stat().st_size / 1e6:.1f} MB)")


def last_policy(study: Path, run: Run) -> FoG:
    return FoG.load(study / run.name / "policies" / f"{run.progress[-1].samples}.zip")


def dreamt(config: Release, agents: Mapping[str, FoG]) -> dict[str, float]:
    """Mean returns in the dream, from starts that judge nobody."""
    study = Study(samples=1, world_model=config.world_model, out=config.study)
    exams, found = Exams(study, DREAM, envs=study.judge_envs), {}
    for name, agent in agents.items():
        parts = exams.rounds(agent, episodes=config.dreams, seed=CHOICE_SEED)
        found[name] = float(joined(list(parts)).returns.mean())
        print(f"{name}: mean return {found[name]:.2f} in {config.dreams} dreams")
    return found


def best_dreamer(runs: Sequence[Run], returns: Mapping[str, float]) -> Run:
    """The seed with the highest return in the dream: the real system does not choose."""
    return max(runs, key=lambda run: returns[run.name])


def card(run: Run, *, seeds: int, dreams: int) -> str:
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
        f"highest return in the dream ({dreams} episodes, from starts that are judged nowhere).",
        "", *lines, "",
    ])  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Release))
