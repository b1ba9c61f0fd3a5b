"""Running a recipe: stages are trained one after the other; each goes on where it stopped."""

import io
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from jaxtyping import Float, Float32
from PIL import Image
from torch import nn

from wm_gym.data import Dataset, WindowBatch, Windows
from wm_gym.evaluation.rewards import reward_errors, rewards_text
from wm_gym.models.world_model import fast_bfloat16
from wm_gym.programs.progress import Bar
from wm_gym.programs.train_checks import CHECKPOINT, with_remedy
from wm_gym.storage.files import write_atomically
from wm_gym.training.checkpoint import identity, load_checkpoint, save_checkpoint
from wm_gym.training.encoding import Encode, encode_dataset
from wm_gym.training.recipe import Stage, Training
from wm_gym.training.trainer import Model, Optimisation, Trainer, Update, seed_of_batches

CURVE, PICTURE = "curve.jsonl", "picture.png"


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, asked for between updates: one that is half done would be saved half done."""
    asked = False

    def note(*_: object) -> None:
        nonlocal asked
        asked = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(frozen=True)
class TrainingRun:
    """One training: a dataset, where things go, and the processes it runs on (`recipe.Run`)."""

    config: Training
    dataset: Dataset
    accelerator: Accelerator
    learns_from: Mapping[str, tuple[str, ...]]

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def say(self, text: str) -> None:
        self.accelerator.print(text)

    def tell_rewards(
        self, part: str, said: Float[np.ndarray, "n"], true: Float[np.ndarray, "n"], *, rare: bool
    ) -> None:
        kind = "rare events, learned by their square" if rare else "smooth"
        text = rewards_text(reward_errors(said, true), between="\n  ")
        self.say(f"rewards ({kind}), said by the {part}: {text}")

    def windows(self, optimisation: Optimisation, length: int) -> Windows:
        return Windows(
            self.dataset, length=length, batch_size=optimisation.batch_size,
            seed=seed_of_batches(optimisation, self.accelerator),
        )  # fmt: skip

    def film(self, *, length: int, count: int) -> WindowBatch:
        return Windows(self.filmed, length=length, batch_size=count, seed=0).batch(0)

    @property
    def filmed(self) -> Dataset:
        return Dataset.open(self.config.test) if self.config.test else self.dataset

    def encoded(
        self, name: str, folder: Path, model: nn.Module, encode: Encode
    ) -> Float32[np.ndarray, "n d"]:
        path = folder / f"{name}-{identity(model, self.dataset.hash)[:12]}.npy"
        if not path.exists():
            bar = self._bar(name, self.dataset.num_frames, "frame")
            with bar, torch.autocast(self.device.type, torch.bfloat16, precision() != "no"):
                found = encode_dataset(encode, self.dataset, self.device, bar.update)
            if self.accelerator.is_main_process:
                content = io.BytesIO()
                np.save(content, found, allow_pickle=False)
                write_atomically(path, content.getvalue())
            return found
        try:
            return np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is damaged: {error}; delete it to make it anew") from error

    def taken(self, stage: Stage[Model]) -> Model:
        trainer = self._trainer(stage)
        state = load_checkpoint(stage.folder / CHECKPOINT)
        trainer.load_state_dict({**state, "learned_from": trainer.learned_from})
        return trainer.average

    def trained(self, stage: Stage[Model]) -> Model:
        """Saved every few minutes and when it is interrupted."""
        trainer, folder = self._trainer(stage), stage.folder
        if (checkpoint := folder / CHECKPOINT).exists():
            state = load_checkpoint(checkpoint)
            with with_remedy(folder, self.learns_from):
                trainer.load_state_dict(state)
        bar = self._bar(folder.name, trainer.config.updates, "step", trainer.step)
        saved, recent = time.monotonic(), list[Update]()
        with bar, interrupts() as interrupted:
            for update in trainer.train(stage.batches, stage.loss):
                recent.append(update)
                bar.update()
                if len(recent) % 20 == 0:
                    bar.set_postfix(_means(recent[-20:]))
                if time.monotonic() - saved > 60 * self.config.save_minutes:
                    _save(folder, trainer, recent, stage.picture)
                    saved, recent = time.monotonic(), []
                if interrupted():
                    break
            _save(folder, trainer, recent, stage.picture)
            if interrupted():
                raise KeyboardInterrupt
        return trainer.average

    def _trainer(self, stage: Stage[Model]) -> Trainer[Model]:
        set_seed(stage.optimisation.seed)  # a program may: for the first weights
        parts = {name: identity(each) for name, each in stage.learned_from.items()}
        known = {"dataset": self.dataset.hash, **parts}
        return Trainer(stage.make(), stage.optimisation, self.accelerator, known)

    def _bar(self, desc: str, total: int, unit: str, initial: int = 0) -> Bar:
        """One for all processes."""
        hidden = not self.accelerator.is_main_process
        return Bar(desc, total, unit=unit, initial=initial, hidden=hidden)


def precision() -> str:
    """As `accelerate` names it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "bf16" if fast_bfloat16(device) else "no"


def _means(updates: list[Update]) -> dict[str, float]:
    rows = [
        {"loss": u.loss, **u.scores, "gradient_norm": u.gradient_norm, "rate": u.learning_rate}
        for u in updates
    ]
    told = {name: [row[name] for row in rows if name in row] for row in rows for name in row}
    return {name: float(f"{np.nanmean(values):.3g}") for name, values in told.items()}


def _save(
    folder: Path,
    trainer: Trainer[Model],
    recent: list[Update],
    picture: Callable[[Model], np.ndarray] | None,
) -> None:
    if not (recent and trainer.accelerator.is_main_process):
        return
    save_checkpoint(folder / CHECKPOINT, trainer.state_dict())
    line = {"time": time.time(), **_means(recent), "step": trainer.step}
    with (folder / CURVE).open("a") as file:
        file.write(json.dumps(line) + "\n")
    if picture is not None:
        png, shown = io.BytesIO(), picture(trainer.average)
        coloured = np.broadcast_to(shown, (*shown.shape[:2], 3))  # Pillow has no (h, w, 1)
        Image.fromarray(coloured).save(png, "png")
        write_atomically(folder / PICTURE, png.getvalue())
