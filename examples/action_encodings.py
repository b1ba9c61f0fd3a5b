"""How to tell a world model an action: as two numbers, or two-hot? Trains both, measures both.

python examples/action_encodings.py --run data/run      # a finished `wm-gym train` run
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from accelerate import Accelerator

from wm_gym.data import Dataset
from wm_gym.evaluation.probes import probe_of
from wm_gym.evaluation.rollouts import Dreamer, Rollouts, dream_rollouts, plans
from wm_gym.models.actions import ENCODINGS
from wm_gym.models.keypoints.global_model import KeypointGlobalModel
from wm_gym.models.world_model import Card, WorldModel
from wm_gym.numbers import check_least
from wm_gym.programs.progress import Bar
from wm_gym.programs.train_run import TrainingRun, precision
from wm_gym.systems import PUSH_T
from wm_gym.training.keypoints.settings import KeypointTraining
from wm_gym.training.keypoints.stages import LEARNS_FROM, KeypointParts
from wm_gym.training.trainer import Optimisation

STEPS = (1, 15, 50)


@dataclass(frozen=True, kw_only=True)
class ActionEncodings:
    run: Path
    """Whose autoencoder and heads are used: only the global model is trained anew."""

    data: Path = Path("data/push-t-play")
    """What it learned from."""

    play: Path = Path("data/push-t-test")
    random: Path = Path("data/push-t-random")
    """What is dreamt anew."""

    out: Path = Path("out/action_encodings")
    """Where the runs go, each of which goes on where it stopped."""

    seeds: int = 3
    updates: int = 2_000
    """Of 1,024 windows each; far from the end, where differences are largest."""

    rollouts: int = 200

    def __post_init__(self) -> None:
        check_least(1, seeds=self.seeds, updates=self.updates, rollouts=self.rollouts)


def main(config: ActionEncodings) -> None:
    behaviours = {"play": Dataset.open(config.play), "random": Dataset.open(config.random)}
    found: dict[str, dict[str, list[list[float]]]] = {}
    for encoding in ENCODINGS:
        for seed in range(config.seeds):
            model = trained(config, encoding, seed)
            for name, dataset in behaviours.items():
                errors = block_errors(model, dataset, config.rollouts)
                found.setdefault(name, {}).setdefault(encoding, []).append(errors)
    (config.out / "errors.json").write_text(json.dumps(found, indent=1))
    print(f"block position error [px], medians of {config.rollouts} rollouts; mean of the seeds")
    print(f"{'':<18}" + "".join(f"{f'step {step}':<20}" for step in STEPS))
    for name, each in found.items():
        for encoding, runs in each.items():
            print(f"{f'{name}, {encoding}':<18}" + "".join(cells(np.array(runs))))


def trained(config: ActionEncodings, encoding: str, seed: int) -> WorldModel:
    made = WorldModel.from_pretrained(config.run / "world-model")
    assert isinstance(made.global_model, KeypointGlobalModel)
    sizes, dreamt = made.global_model.autoencoder.config, made.global_model.denoiser.config
    settings = KeypointTraining(
        patch=sizes.patch, keypoints=sizes.keypoints, channels=sizes.channels,
        width=dreamt.width, blocks=dreamt.blocks,
        data=config.data, test=config.play, out=config.out / f"{encoding}-{seed}",
        autoencoder_of=config.run, action_encoding="linear" if encoding == "linear" else "two-hot",
        global_model=Optimisation(updates=config.updates, batch_size=1024, seed=seed),
    )  # fmt: skip
    accelerator = Accelerator(mixed_precision=precision())
    run = TrainingRun(settings, Dataset.open(config.data), accelerator, LEARNS_FROM)
    parts = KeypointParts(settings, run)
    autoencoder = parts.autoencoder()
    denoiser = parts.global_model(autoencoder, parts.latents(autoencoder))
    global_model = KeypointGlobalModel(autoencoder, denoiser, made.global_model.heads)
    return WorldModel(global_model, made.local_model, card=Card(system=PUSH_T.name)).eval()


def block_errors(model: WorldModel, dataset: Dataset, rollouts: int) -> list[float]:
    """Medians at `STEPS`."""
    plan, *_ = plans(
        dataset, context=model.spec.prefill, horizon=PUSH_T.horizon, rollouts=rollouts, seed=0
    )
    dreamer = Dreamer(model=model, denoising_steps=1, seed=0)
    with Bar(total=rollouts, desc="dreaming", unit="rollout") as bar:
        parts = list(noted(dream_rollouts(dreamer, probe_of(PUSH_T), dataset, plan), bar))
    joined = Rollouts.joined(parts)
    medians = np.median(joined.figures["block_position"], axis=1)
    return [float(medians[joined.steps.index(step)]) for step in STEPS]


def noted(parts: Iterator[Rollouts], bar: Bar) -> Iterator[Rollouts]:
    for part in parts:
        bar.update(len(part.first_row))
        yield part


def cells(errors: np.ndarray) -> Iterator[str]:
    """Mean over seeds, and from the lowest to the highest."""
    for column in errors.T:
        yield f"{f'{column.mean():.2f} ({column.min():.2f}–{column.max():.2f})':<20}"


if __name__ == "__main__":
    main(tyro.cli(ActionEncodings))
