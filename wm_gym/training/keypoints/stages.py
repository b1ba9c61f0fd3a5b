"""The stages of a keypoint world: autoencoder, denoiser, refining, heads, eye, local model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from wm_gym.data import Dataset, Windows
from wm_gym.models.colours import to_colour, to_unit
from wm_gym.models.keypoints.autoencoder import Autoencoder
from wm_gym.models.keypoints.denoiser import Denoiser
from wm_gym.models.keypoints.global_model import KeypointGlobalModel
from wm_gym.models.keypoints.heads import Heads
from wm_gym.models.keypoints.kind import KEYPOINTS
from wm_gym.models.keypoints.local_model import KeypointLocalModel
from wm_gym.models.rewards import are_rare
from wm_gym.training.keypoints.autoencoder import ReconstructionLoss, median_frame
from wm_gym.training.keypoints.denoiser import DenoisingLoss, Scales, astray
from wm_gym.training.keypoints.eye import SeeingLoss, SeenWindows
from wm_gym.training.keypoints.film import filmstrip
from wm_gym.training.keypoints.heads import JudgingLoss
from wm_gym.training.keypoints.latents import LatentWindows
from wm_gym.training.keypoints.local_model import FilteringLoss, FilterWindows
from wm_gym.training.keypoints.rewards import said_by_heads, said_by_local_model
from wm_gym.training.keypoints.settings import PRESETS, KeypointTraining, check_data
from wm_gym.training.keypoints.sizes import check_sizes, sizes_of
from wm_gym.training.logged import choose_logged
from wm_gym.training.recipe import Recipe, Run, Stage, Trained
from wm_gym.training.rewards import reward_scale, silenced

LONG, JUDGED = 50, 2**20
"""Steps of the dreams that settle whether refining helped, and the seed they are drawn by."""

FILMED = (0, 1, 2, 5, 10, 15, 30, 50)
"""Frames after the context that the filmstrip shows."""

LEARNS_FROM = {
    "autoencoder": (),
    "global_model": ("autoencoder",),
    "refined": ("autoencoder", "global_model"),
    "heads": ("autoencoder", "global_model", "refined"),
    "eye": ("autoencoder",),
    "local_model": ("autoencoder", "global_model", "refined", "eye"),
}


@dataclass(frozen=True)
class KeypointParts:
    """One training, part by part."""

    config: KeypointTraining
    run: Run

    @property
    def dataset(self) -> Dataset:
        return self.run.dataset

    def autoencoder(self) -> Autoencoder:
        config, dataset = self.config, self.dataset
        background = to_unit(torch.from_numpy(median_frame(dataset)))

        def make() -> Autoencoder:
            model = Autoencoder(**sizes_of(config, dataset)["autoencoder"])
            model.to(memory_format=torch.channels_last)
            model.set_background(background)
            return model

        shown = torch.from_numpy(self.run.film(length=1, count=10).frames[0])

        def picture(model: Autoencoder) -> np.ndarray:
            with torch.no_grad():
                painted = to_colour(model(to_unit(shown).to(model.device))).cpu()
            both = [torch.cat(list(part), dim=1) for part in (shown, painted)]
            return torch.cat(both).numpy()

        stage = Stage(
            folder=self._home / "autoencoder",
            make=make,
            optimisation=config.autoencoder,
            batches=self.run.windows(config.autoencoder, 1),
            loss=ReconstructionLoss(background.to(self.run.device)),
            picture=picture,
        )
        own = config.autoencoder_of is None
        return self.run.trained(stage) if own else self.run.taken(stage)

    @property
    def _home(self) -> Path:
        return self.config.autoencoder_of or self.config.out

    def latents(self, autoencoder: Autoencoder) -> np.ndarray:
        def encode(
            frames: UInt8[Tensor, "b h w c"], proprio: Float[Tensor, "b p"]
        ) -> Float[Tensor, "b d"]:
            return autoencoder.encode(to_unit(frames))

        return self.run.encoded("latents", self._home, autoencoder, encode)

    def global_model(self, autoencoder: Autoencoder, latents: np.ndarray) -> Denoiser:
        config = self.config
        scales = Scales.of(self.dataset, latents)

        def make() -> Denoiser:
            return Denoiser(
                **sizes_of(config, self.dataset)["global_model"],
                latent_scale=scales.latent,
                change_scale=scales.change,
            )

        context = int(sizes_of(config, self.dataset)["global_model"]["context"])
        stage = Stage(
            folder=config.out / "global_model",
            make=make,
            optimisation=config.global_model,
            batches=LatentWindows(
                windows=self.run.windows(config.global_model, context + 1), latents=latents
            ),
            loss=DenoisingLoss(config.dreaming),
            learned_from={"autoencoder": autoencoder},
            picture=self._filmstrip(autoencoder, context),
        )
        return self.run.trained(stage)

    def refined(
        self, global_model: Denoiser, autoencoder: Autoencoder, latents: np.ndarray
    ) -> Denoiser:
        """The same, trained further on its own rollouts; or as it was, where that does not help.

        It teaches to come back from slips. Where speeds have to be told from small differences of
        frames, slips look like speeds, and refining may spoil a good model.
        """
        config, context = self.config, global_model.config.context

        def make() -> Denoiser:
            model = Denoiser.from_config(global_model.config)
            model.load_state_dict(global_model.state_dict())
            return model

        loss = DenoisingLoss(config.dreaming, rollout=config.rollout)
        stage = Stage(
            folder=config.out / "refined",
            make=make,
            optimisation=config.refining,
            batches=LatentWindows(
                windows=self.run.windows(config.refining, context + loss.rollout), latents=latents
            ),
            loss=loss,
            learned_from={"global_model": global_model},
            picture=self._filmstrip(autoencoder, context),
        )
        refined = self.run.trained(stage)
        length = min(context + LONG, int(self.dataset.index["length"].max()))
        windows = Windows(self.dataset, length=length, batch_size=256, seed=JUDGED)
        batch = LatentWindows(windows=windows, latents=latents).batch(0)
        before, after = (
            astray(each, batch, torch.Generator().manual_seed(JUDGED))
            for each in (global_model, refined)
        )
        self.run.say(
            f"dreams of {length - context} steps are off by {before:.2f} of a step's "
            f"change, refined by {after:.2f}" + ("" if after < before else ": not refined, then")
        )
        return refined if after < before else global_model

    def _filmstrip(
        self, autoencoder: Autoencoder, context: int
    ) -> Callable[[Denoiser], np.ndarray]:
        longest = self.run.filmed.index["length"].max()
        shown = [j for j in FILMED if context + j <= longest]
        film = self.run.film(length=context + shown[-1], count=4)
        return lambda model: filmstrip(autoencoder, model, film, shown=shown)

    def heads(self, global_model: Denoiser, latents: np.ndarray) -> Heads:
        config, dreamt = self.config, global_model.config
        mean, spread = reward_scale(torch.from_numpy(self.dataset.reward))

        def make() -> Heads:
            return Heads(
                **sizes_of(config, self.dataset)["heads"],
                latent_scale=dreamt.latent_scale,
                change_scale=dreamt.change_scale,
                reward_mean=mean,
                reward_scale=spread,
                ends=self._ends_within(dreamt.context + 1),
            )

        windows = self.run.windows(config.heads, dreamt.context + 1)
        stage = Stage(
            folder=config.out / "heads",
            make=make,
            optimisation=config.heads,
            batches=LatentWindows(windows=windows, latents=latents),
            loss=JudgingLoss(global_model, self._rare()),
            learned_from={"global_model": global_model},
        )
        heads = self.run.trained(stage)
        if not self.dataset.spec.has_reward:
            silenced(heads.reward)
            return heads
        drawn = self._judged(dreamt.context + 1, 4096)
        batch = LatentWindows(windows=drawn, latents=latents).batch(0)
        self.run.tell_rewards("heads", *said_by_heads(heads, batch), rare=self._rare())
        return heads

    def _judged(self, length: int, most: int) -> Windows:
        """Windows to judge a part by, always the same."""
        windows = Windows(self.dataset, length=length, batch_size=1, seed=JUDGED)
        windows.batch_size = min(most, len(windows))
        return windows

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

        def make() -> KeypointLocalModel:
            model = KeypointLocalModel(
                **sizes_of(config, self.dataset)["local_model"],
                scale=heads.config.latent_scale,
                change_scale=heads.config.change_scale,
                reward_mean=heads.config.reward_mean,
                reward_scale=heads.config.reward_scale,
            )
            model.eye.to(memory_format=torch.channels_last)
            return model

        stage = Stage(
            folder=config.out / "eye",
            make=make,
            optimisation=config.eye,
            batches=SeenWindows(windows=self.run.windows(config.eye, 1), latents=latents),
            loss=SeeingLoss(autoencoder),
            learned_from={"autoencoder": autoencoder},
        )
        return self.run.trained(stage)

    def embedding(self, seeing: KeypointLocalModel) -> np.ndarray:
        """What the eye makes of the whole dataset."""
        return self.run.encoded("embedding", self.config.out, seeing.eye, seeing.embed)

    def local_model(
        self,
        seeing: KeypointLocalModel,
        global_model: Denoiser,
        latents: np.ndarray,
        embedding: np.ndarray,
    ) -> KeypointLocalModel:
        config = self.config

        def make() -> KeypointLocalModel:
            model = KeypointLocalModel.from_config(seeing.config)
            model.load_state_dict(seeing.state_dict())
            model.eye.requires_grad_(False)
            return model

        length = global_model.config.context + config.sequence
        windows = self.run.windows(config.local_model, length)
        logged = LatentWindows(windows=windows, latents=latents)
        stage = Stage(
            folder=config.out / "local_model",
            make=make,
            optimisation=config.local_model,
            batches=FilterWindows(logged=logged, embedding=embedding),
            loss=FilteringLoss(config.filtering, global_model, self._rare()),
            learned_from={"global_model": global_model, "eye": seeing},
        )
        found = self.run.trained(stage)
        if not self.dataset.spec.has_reward:
            silenced(found.reward)
            return found
        drawn = LatentWindows(windows=self._judged(length, 512), latents=latents)
        batch = FilterWindows(logged=drawn, embedding=embedding).batch(0)
        self.run.tell_rewards("local model", *said_by_local_model(found, batch), rare=self._rare())
        return found


def train(config: KeypointTraining, run: Run) -> Trained:
    parts = KeypointParts(config, run)
    autoencoder = parts.autoencoder()
    latents = parts.latents(autoencoder)
    unrefined = parts.global_model(autoencoder, latents)
    denoiser = parts.refined(unrefined, autoencoder, latents)
    heads = parts.heads(denoiser, latents)
    seeing = parts.eye(autoencoder, heads, latents)
    embedding = parts.embedding(seeing)
    local_model = parts.local_model(seeing, denoiser, latents, embedding)
    global_model = KeypointGlobalModel(autoencoder, denoiser, heads)
    return Trained(
        global_model=global_model,
        local_model=local_model,
        logged=choose_logged(
            run.dataset,
            embedding,
            count=config.logged,
            length=config.rehearsed,
            seed=0,
            tasks=global_model.spec.tasks,
        ),
        facts={"refined": denoiser is not unrefined},
    )


def check(config: KeypointTraining, dataset: Dataset) -> None:
    check_data(config, dataset)
    check_sizes(config, dataset)


RECIPE = Recipe(
    kind=KEYPOINTS.name,
    presets=PRESETS,
    learns_from=LEARNS_FROM,
    check=check,
    train=train,
    foreign=lambda config: frozenset({"autoencoder"} if config.autoencoder_of else ()),
)
