"""The headline: FoG and PPO learn in the same dream, and the real system judges both.

    python examples/fog_vs_ppo.py                 # quick: minutes on two CPU cores, one seed
    python examples/fog_vs_ppo.py paper           # the figures of docs/study.md, hours
    python examples/fog_vs_ppo.py paper --agents no-refresh no-entropy --seeds 1    # ablations

Stop it at any time: run again, it goes on. It writes fog_vs_ppo.md, .png and .mp4 into its folder.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tyro
from headline import trust
from headline.contenders import contenders
from headline.folder import check_folder, finished
from headline.plots import draw_curves
from headline.records import README, Run, read_runs
from headline.study import Study, judge, train
from headline.table import compare, rendered
from headline.verdict import verdict
from headline.video import film

from baselines import PPOConfig
from fog_agent import PRESETS as FOG
from wm_gym.evaluation.judge import Policy

OUT = Path("out/fog_vs_ppo")
QUICK = Study(samples=128_000, out=OUT / "quick")
PRESETS = {
    "quick": ("Minutes on two CPU cores: one seed, equal samples.", QUICK),
    "paper": (
        "Three seeds (LOG says what was settled by a look at one of them): docs/study.md.",
        Study(
            samples=256_000, ppo_samples=2_560_000, seeds=(1, 2, 3), trusted=24,
            out=OUT / "paper",
        ),
    ),
    "tiny": (
        "Seconds; used by the tests.",
        Study(
            samples=64, num_envs=8, ppo_envs=None, horizon=10, exam_steps=10, exam_every=32,
            exam_episodes=2, judge_episodes=4, judge_envs=2, trusted=2, film_steps=5,
            fog=replace(FOG["tiny"][1], decay_samples=64),
            ppo=PPOConfig(n_steps=4, minibatches=1, n_epochs=1),
            out=OUT / "tiny",
        ),
    ),
}  # fmt: skip


def study_of(arguments: Sequence[str]) -> Study:
    """As on the command line, where the preset may be left out."""
    given = arguments and (arguments[0] in ("-h", "--help") or not arguments[0].startswith("-"))
    return tyro.extras.overridable_config_cli(
        PRESETS, args=arguments if given else ["quick", *arguments]
    )


def main(study: Study) -> None:
    try:
        check_folder(study)
        for contender, seed in study.taking_part:
            train(study, contender, seed)
        judge(study)
        report(study, trust.imagine(study) if study.trusted else None)
    except KeyboardInterrupt:
        raise SystemExit(
            f"\nstopped; run it again, and it goes on from {study.out}, each run from its last exam"
        ) from None


def report(study: Study, imagined: trust.Imagined | None) -> None:
    runs, unfinished = finished(study.out)
    comparison = compare(runs)
    text = f"{rendered(comparison)}\n\n{verdict(comparison)}\n"
    if unfinished:
        text += f"\nNot finished, and not counted: {', '.join(unfinished)}.\n"
    if imagined is not None:
        found = imagined.agreement()
        text += f"\n{trust.rendered(imagined, found)}\n"
        trust.draw(imagined, found, study.out / "imagined.png")
    (study.out / "fog_vs_ppo.md").write_text(text, encoding="utf-8")
    print(f"\n{text}")
    agents = {run.agent for run in runs}
    behind = [run for run in read_runs(README) if run.agent in agents]
    draw_curves(runs, study.out / "fog_vs_ppo.png", behind=behind)
    print(f"wrote {study.out}/fog_vs_ppo.md, fog_vs_ppo.png")
    if policies := filmed(study, runs):
        film(
            policies, study.world_model, study.out / "fog_vs_ppo.mp4",
            seed=study.film_seed, steps=study.film_steps,
        )  # fmt: skip
        print(f"wrote {study.out}/fog_vs_ppo.mp4")


def filmed(study: Study, runs: Sequence[Run]) -> dict[str, Policy]:
    """FoG and PPO where both are there, else who takes part and is finished; the lowest seed of
    each."""
    known = contenders(study)
    first = {run.agent: run for run in reversed(runs)}
    both = [known[name] for name in ("fog", "ppo") if known[name].name in first]
    part = [known[name] for name in study.agents if known[name].name in first]
    chosen = both if len(both) == 2 else part
    files = {
        each.name: f"{first[each.name].name}/policies/{first[each.name].progress[-1].samples}.zip"
        for each in chosen
    }
    return {each.name: each.resume(study.out / files[each.name], None) for each in chosen}


if __name__ == "__main__":
    main(study_of(sys.argv[1:]))
