"""The headline: FoG and PPO learn in the same dream, and the real system judges both.

    python examples/fog_vs_ppo.py                 # quick: minutes on two CPU cores, one seed
    python examples/fog_vs_ppo.py paper           # the README's figures, hours
    python examples/fog_vs_ppo.py paper --agents no-refresh no-entropy --seeds 0    # ablations

Stop it at any time: run again, it goes on. It writes fog_vs_ppo.md, .png and .mp4 into its folder.
"""

from pathlib import Path

import tyro
from headline import trust
from headline.plots import draw_curves
from headline.records import Run, read_runs
from headline.study import Study, check_folder, judge, train
from headline.table import compare, rendered
from headline.verdict import verdict
from headline.video import film

from baselines import PPOConfig
from fog_agent import PRESETS as FOG
from fog_agent import FoGConfig

OUT = Path("out/fog_vs_ppo")
README_STUDY = Path(__file__).parent / "headline" / "study"
"""The records that the README's figures are made of."""

QUICK = Study(samples=256_000, out=OUT / "quick")
PRESETS = {
    "quick": ("Minutes on two CPU cores: one seed, equal samples.", QUICK),
    "paper": (
        "Three seeds; the README's figures.",
        Study(
            samples=512_000, ppo_samples=4_096_000, seeds=(0, 1, 2), trusted=24,
            fog=FoGConfig(decay_samples=512_000), out=OUT / "paper",
        ),
    ),
    "tiny": (
        "Seconds; used by the tests.",
        Study(
            samples=64, num_envs=8, horizon=10, exam_steps=10, exam_every=32, exam_episodes=2,
            judge_episodes=4, judge_envs=2, trusted=2, film_steps=5, fog=FOG["tiny"][1],
            ppo=PPOConfig(n_steps=4, minibatches=1, n_epochs=1), out=OUT / "tiny",
        ),
    ),
}  # fmt: skip


def main(study: Study) -> None:
    check_folder(study)
    try:
        for contender, seed, budget in study.taking_part:
            train(study, contender, seed, budget)
        judge(study)
        imagined = trust.imagine(study) if study.trusted else None
    except KeyboardInterrupt:
        raise SystemExit(f"\nstopped; run it again, and it goes on from {study.out}") from None
    runs = read_runs(study.out)
    report(study, runs, imagined)


def report(study: Study, runs: list[Run], imagined: trust.Imagined | None) -> None:
    comparison = compare(runs)
    text = f"{rendered(comparison)}\n\n{verdict(comparison)}\n"
    if imagined is not None:
        found = imagined.agreement()
        text += f"\n{trust.rendered(imagined, found)}\n"
        trust.draw(imagined, found, study.out / "imagined.png")
    (study.out / "fog_vs_ppo.md").write_text(text, encoding="utf-8")
    print(f"\n{text}")
    behind = read_runs(README_STUDY) if README_STUDY.exists() else []
    draw_curves(runs, study.out / "fog_vs_ppo.png", behind=behind)
    print(f"wrote {study.out}/fog_vs_ppo.md, fog_vs_ppo.png")
    policies = {
        contender.name: contender.resume(study.folder(contender, seed) / "agent.zip", None)
        for contender, seed, _ in study.taking_part[: len(study.agents)]
    }
    film(
        policies, study.world_model, study.out / "fog_vs_ppo.mp4", seed=study.film_seed,
        steps=study.film_steps,
    )  # fmt: skip
    print(f"wrote {study.out}/fog_vs_ppo.mp4")


if __name__ == "__main__":
    main(tyro.extras.overridable_config_cli(PRESETS))
