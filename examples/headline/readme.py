"""What the study's records say, in seconds: the figures of docs/study.md, of which README.md shows
a few, the verdict and the curves.

PYTHONPATH=examples python -m headline.readme
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from headline.contenders import LONG
from headline.plots import draw_curves
from headline.records import README, Run, read_runs
from headline.table import alike_table, compare, judged_table, rendered
from headline.verdict import verdict
from wm_gym.models.world_model import WorldModel

CURVES, ABLATIONS = "fog_vs_ppo.png", "ablations.png"
WORLD_MODEL = "push-t"
"""That the records are of."""

MAIN = ("FoG", LONG, "PPO")
"""Who is in the first picture; everybody else is compared with FoG in the second."""


@dataclass(frozen=True, kw_only=True)
class Readme:
    pictures: Path = Path("docs/img")
    """Where the curves are drawn that both pages show."""


def main(config: Readme) -> None:
    runs = read_runs(README)
    comparison = compare(runs)
    print(f"{rendered(comparison)}\n\n{verdict(comparison)}")
    print(f"\nRun by run:\n\n{one_by_one(runs)}\n")
    print(f"Everybody, after as many samples:\n\n{alike_table(runs)}\n")
    if (logged := WorldModel.from_pretrained(WORLD_MODEL).logged) is not None:
        print(f"FoG's experience begins with {logged.reward.numel():,} logged steps.\n")
    draw_curves([run for run in runs if run.agent in MAIN], config.pictures / CURVES)
    others = [run for run in runs if run.agent == "FoG" or run.agent not in MAIN]
    draw_curves(others, config.pictures / ABLATIONS, title="FoG, and FoG without its parts")
    print(f"wrote {config.pictures}/{CURVES}, {ABLATIONS}")


def one_by_one(runs: Sequence[Run]) -> str:
    """Each run judged by itself: intervals cover other starts."""
    alone = [replace(run, agent=f"{run.agent}, seed {run.seed}") for run in runs]
    return judged_table(compare(alone))


if __name__ == "__main__":
    main(tyro.cli(Readme))
