"""The parts of a world model, trained one after the other; each goes on where it stopped."""

import io
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from wm_gym.data import Dataset, WindowBatch, Windows
from wm_gym.data.windows import Batches
from wm_gym.evaluation.rewards import reward_errors, rewards_text
from wm_gym.models.colours import to_colour, to_unit
from wm_gym.models.keypoints.autoencoder import Autoencoder
from wm_gym.models.keypoints.denoiser import Denoiser
from wm_gym.models.keypoints.heads import Heads
from wm_gym.models.keypoints.local_model import KeypointLocalModel
from wm_gym.models.rewards import are_rare
from wm_gym.models.world_model import fast_bfloat16
from wm_gym.programs.progress import Bar
from wm_gym.programs.train_checks import CHECKPOINT, with_remedy
from wm_gym.programs.train_config import Train
from wm_gym.programs.train_sizes import sizes_of
from wm_gym.storage.files import write_atomically
from wm_gym.training.autoencoder import ReconstructionLoss, median_frame
from wm_gym.training.checkpoint import identity, load_checkpoint, save_checkpoint
from wm_gym.training.eye import SeeingLoss, SeenWindows
from wm_gym.training.film import filmstrip
from wm_gym.training.global_model import DenoisingLoss, Scales, astray
from wm_gym.training.heads import JudgingLoss, reward_scale, silenced
from wm_gym.training.latents import Encode, LatentWindows, encode_dataset
from wm_gym.training.local_model import FilteringLoss, FilterWindows
from wm_gym.training.rewards import said_by_heads, said_by_local_model
from wm_gym.training.trainer import Loss, Optimisation, Trainer, Update

CURVE, PICTURE = "curve.jsonl", "picture.png"
LONG, JUDGED = 50, 2**20
"""Steps of the dreams that settle whether refining helped, and the seed they are drawn by."""

FILMED = (0, 1, 2, 5, 10, 15, 30, 50)
"""Frames after the context that the filmstrip shows."""

Model = TypeVar("Model", bound=nn.Module)
Batch = TypeVar("Batch")


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
class Run:
    """One training run: a dataset, its settings and the processes it runs on."""

    config: Train
    dataset: Dataset
    accelerator: Accelerator

    def autoencoder(self) -> Autoencoder:
        config, dataset = self.config, self.dataset
        set_seed(config.autoencoder.seed)  # a program may: for the first weights
        model = Autoencoder(**sizes_of(config, dataset)["autoencoder"])
        model.to(memory_format=torch.channels_last)
        background = to_unit(torch.from_numpy(median_frame(dataset)))
        model.set_background(background)
        trainer = self._trainer(model, config.autoencoder)
        loss = ReconstructionLoss(background.to(self.accelerator.device))
        shown = torch.from_numpy(self._film(length=1, count=10).frames[0])

        def picture(model: Autoencoder) -> np.ndarray:
            with torch.no_grad():
                painted = to_colour(model(to_unit(shown).to(model.device))).cpu()
            both = [torch.cat(list(part), dim=1) for part in (shown, painted)]
            return torch.cat(both).numpy()

        folder = (config.autoencoder_of or config.out) / "autoencoder"
        if config.autoencoder_of is not None:
            taken = load_checkpoint(folder / CHECKPOINT)  # whatever it learned from: it was chosen
            trainer.load_state_dict({**taken, "learned_from": trainer.learned_from})
            return trainer.average
        return self._train(folder, trainer, self._windows(trainer, 1), loss, picture)

    def latents(self, autoencoder: Autoencoder) -> np.ndarray:
        home = self.config.autoencoder_of or self.config.out

        def encode(frames: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b d"]:
            return autoencoder.encode(to_unit(frames))

        return self.encoded("latents", home, autoencoder, encode)

    def encoded(self, name: str, home: Path, model: nn.Module, encode: Encode) -> np.ndarray:
        """Of the whole dataset; kept, under the name of the weights that made them."""
        path = home / f"{name}-{identity(model, self.dataset.hash)[:12]}.npy"
        if not path.exists():
            device = self.accelerator.device
            bar = self._bar(name, self.dataset.num_frames, "frame")
            with bar, torch.autocast(device.type, torch.bfloat16, precision() != "no"):
                found = encode_dataset(encode, self.dataset, device, bar.update)
            if self.accelerator.is_main_process:
                content = io.BytesIO()
                np.save(content, found, allow_pickle=False)
                write_atomically(path, content.getvalue())
            return found
        try:
            return np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is damaged: {error}; delete it to make it anew") from error

    def global_model(self, autoencoder: Autoencoder, latents: np.ndarray) -> Denoiser:
        config, dataset = self.config, self.dataset
        scales = Scales.of(dataset, latents)
        set_seed(config.global_model.seed)
        model = Denoiser(
            **sizes_of(config, dataset)["global_model"],
            latent_scale=scales.latent,
            change_scale=scales.change,
        )
        trainer = self._trainer(model, config.global_model, autoencoder=autoencoder)
        folder, loss = config.out / "global_model", DenoisingLoss(config.dreaming)
        return self._train_global(folder, trainer, autoencoder, latents, loss)

    def refined(
        self, global_model: Denoiser, autoencoder: Autoencoder, latents: np.ndarray
    ) -> Denoiser:
        """The same, trained further on its own rollouts; or as it was, where that does not help.

        It teaches to come back from slips. Where speeds have to be told from small differences of
        frames, slips look like speeds, and refining may spoil a good model.
        """
        config = self.config
        model = Denoiser.from_config(global_model.config)
        model.load_state_dict(global_model.state_dict())
        trainer = self._trainer(model, config.refining, global_model=global_model)
        folder = config.out / "refined"
        loss = DenoisingLoss(config.dreaming, rollout=config.rollout)
        refined = self._train_global(folder, trainer, autoencoder, latents, loss)
        length = min(model.config.context + LONG, int(self.dataset.index["length"].max()))
        windows = Windows(self.dataset, length=length, batch_size=256, seed=JUDGED)
        batch = LatentWindows(windows=windows, latents=latents).batch(0)
        before, after = (
            astray(each, batch, torch.Generator().manual_seed(JUDGED))
            for each in (global_model, refined)
        )
        self.accelerator.print(
            f"dreams of {length - model.config.context} steps are off by {before:.2f} of a step's "
            f"change, refined by {after:.2f}" + ("" if after < before else ": not refined, then")
        )
        return refined if after < before else global_model

    def _train_global(
        self,
        folder: Path,
        trainer: Trainer[Denoiser],
        autoencoder: Autoencoder,
        latents: np.ndarray,
        loss: DenoisingLoss,
    ) -> Denoiser:
        context = trainer.average.config.context
        windows = self._windows(trainer, context + loss.rollout)
        batches = LatentWindows(windows=windows, latents=latents)
        shown = [j for j in FILMED if context + j <= self._filmed().index["length"].max()]
        film = self._film(length=context + shown[-1], count=4)

        def picture(model: Denoiser) -> np.ndarray:
            return filmstrip(autoencoder, model, film, shown=shown)

        return self._train(folder, trainer, batches, loss, picture)

    def heads(self, global_model: Denoiser, latents: np.ndarray) -> Heads:
        config, dreamt = self.config, global_model.config
        mean, spread = reward_scale(torch.from_numpy(self.dataset.reward))
        set_seed(config.heads.seed)
        model = Heads(
            **sizes_of(config, self.dataset)["heads"],
            latent_scale=dreamt.latent_scale,
            change_scale=dreamt.change_scale,
            reward_mean=mean,
            reward_scale=spread,
            ends=self._ends_within(dreamt.context + 1),
        )
        trainer = self._trainer(model, config.heads, global_model=global_model)
        windows = self._windows(trainer, dreamt.context + 1)
        batches = LatentWindows(windows=windows, latents=latents)
        loss = JudgingLoss(global_model, self._rare())
        heads = self._train(config.out / "heads", trainer, batches, loss, None)
        if not self.dataset.spec.has_reward:
            silenced(heads.reward)
            return heads
        drawn = self._judged(dreamt.context + 1, 4096)
        batch = LatentWindows(windows=drawn, latents=latents).batch(0)
        self._tell_rewards("heads", *said_by_heads(heads, batch))
        return heads

    def _judged(self, length: int, most: int) -> Windows:
        """Windows to judge a part by, always the same."""
        windows = Windows(self.dataset, length=length, batch_size=1, seed=JUDGED)
        windows.batch_size = min(most, len(windows))
        return windows

    def _tell_rewards(
        self, part: str, said: Float[np.ndarray, "n"], true: Float[np.ndarray, "n"]
    ) -> None:
        kind = "rare events, learned by their square" if self._rare() else "smooth"
        text = rewards_text(reward_errors(said, true), between="\n  ")
        self.accelerator.print(f"rewards ({kind}), said by the {part}: {text}")

    def _rare(self) -> bool:
        """Whether its rewards are; the last row of an episode has none."""
        index = self.dataset.index
        rows = np.concatenate([e["start"] + np.arange(e["length"] - 1) for e in index])
        return are_rare(torch.from_numpy(self.dataset.reward[rows]))

    def _ends_within(self, length: int) -> bool:
        """Whether any window of so many frames leads to where its episode terminated."""
        long = self.dataset.index["length"] >= length
        return bool((long & self.dataset.ended).any())

    def eye(
        self, autoencoder: Autoencoder, heads: Heads, latents: np.ndarray
    ) -> KeypointLocalModel:
        """A local model that sees, and does not know yet what to make of it."""
        config = self.config
        set_seed(config.eye.seed)
        model = KeypointLocalModel(
            **sizes_of(config, self.dataset)["local_model"],
            scale=heads.config.latent_scale,
            change_scale=heads.config.change_scale,
            reward_mean=heads.config.reward_mean,
            reward_scale=heads.config.reward_scale,
        )
        model.eye.to(memory_format=torch.channels_last)
        trainer = self._trainer(model, config.eye, autoencoder=autoencoder)
        batches = SeenWindows(windows=self._windows(trainer, 1), latents=latents)
        return self._train(config.out / "eye", trainer, batches, SeeingLoss(autoencoder), None)

    def embedding(self, seeing: KeypointLocalModel) -> np.ndarray:
        """What the eye makes of the whole dataset."""
        return self.encoded("embedding", self.config.out, seeing.eye, seeing.embed)

    def local_model(
        self,
        seeing: KeypointLocalModel,
        global_model: Denoiser,
        latents: np.ndarray,
        embedding: np.ndarray,
    ) -> KeypointLocalModel:
        config = self.config
        model = KeypointLocalModel.from_config(seeing.config)
        model.load_state_dict(seeing.state_dict())
        model.eye.requires_grad_(False)
        trainer = self._trainer(model, config.local_model, global_model=global_model, eye=seeing)
        windows = self._windows(trainer, global_model.config.context + config.sequence)
        logged = LatentWindows(windows=windows, latents=latents)
        batches = FilterWindows(logged=logged, embedding=embedding)
        loss = FilteringLoss(config.filtering, global_model, self._rare())
        found = self._train(config.out / "local_model", trainer, batches, loss, None)
        if not self.dataset.spec.has_reward:
            silenced(found.reward)
            return found
        drawn = LatentWindows(windows=self._judged(windows.length, 512), latents=latents)
        batch = FilterWindows(logged=drawn, embedding=embedding).batch(0)
        self._tell_rewards("local model", *said_by_local_model(found, batch))
        return found

    def _trainer(
        self, model: Model, config: Optimisation, **learned_from: nn.Module
    ) -> Trainer[Model]:
        """Of a part that learns from the dataset and from what these parts make of it."""
        parts = {name: identity(each) for name, each in learned_from.items()}
        known = {"dataset": self.dataset.hash, **parts}
        return Trainer(model, config, self.accelerator, known)

    def _bar(self, desc: str, total: int, unit: str, initial: int = 0) -> Bar:
        """One for all processes."""
        hidden = not self.accelerator.is_main_process
        return Bar(desc, total, unit=unit, initial=initial, hidden=hidden)

    def _windows(self, trainer: Trainer[Any], length: int) -> Windows:
        return Windows(
            self.dataset, length=length, batch_size=trainer.config.batch_size,
            seed=trainer.seed_of_batches(),
        )  # fmt: skip

    def _film(self, *, length: int, count: int) -> WindowBatch:
        """Windows to film, always the same."""
        return Windows(self._filmed(), length=length, batch_size=count, seed=0).batch(0)

    def _filmed(self) -> Dataset:
        return Dataset.open(self.config.test) if self.config.test else self.dataset

    def _train(
        self,
        folder: Path,
        trainer: Trainer[Model],
        batches: Batches[Batch],
        loss: Loss[Batch],
        picture: Callable[[Model], np.ndarray] | None,
    ) -> Model:
        """One part to its end, saved every few minutes and when it is interrupted."""
        if (checkpoint := folder / CHECKPOINT).exists():
            state = load_checkpoint(checkpoint)
            with with_remedy(folder):
                trainer.load_state_dict(state)
        bar = self._bar(folder.name, trainer.config.updates, "step", trainer.step)
        saved, recent = time.monotonic(), list[Update]()
        with bar, interrupts() as interrupted:
            for update in trainer.train(batches, loss):
                recent.append(update)
                bar.update()
                if len(recent) % 20 == 0:
                    bar.set_postfix(_means(recent[-20:]))
                if time.monotonic() - saved > 60 * self.config.save_minutes:
                    _save(folder, trainer, recent, picture)
                    saved, recent = time.monotonic(), []
                if interrupted():
                    break
            _save(folder, trainer, recent, picture)
            if interrupted():
                raise KeyboardInterrupt
        return trainer.average


def precision() -> str:
    """As `accelerate` names it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "bf16" if fast_bfloat16(device) else "no"


def _means(updates: list[Update]) -> dict[str, float]:
    rows = [
        {"loss": u.loss, **u.scores, "gradient_norm": u.gradient_norm, "rate": u.learning_rate}
        for u in updates
    ]
    return {name: float(f"{np.nanmean([row[name] for row in rows]):.3g}") for name in rows[0]}


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
