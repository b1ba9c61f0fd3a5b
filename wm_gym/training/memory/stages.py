"""The stages of a world with memory: tokenizer, dynamics, heads, local model."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from wm_gym.data import Dataset, Windows
from wm_gym.models.colours import to_colour
from wm_gym.models.halves import half_of, halved
from wm_gym.models.logged import Logged
from wm_gym.models.memory.dynamics import Dynamics, FrameEncoder
from wm_gym.models.memory.heads import Heads
from wm_gym.models.memory.kind import MEMORY, assembled
from wm_gym.models.memory.local_model import Follower
from wm_gym.models.memory.tokenizer import Tokenizer
from wm_gym.models.rewards import are_rare
from wm_gym.training.logged import choose_logged
from wm_gym.training.memory.dynamics import DynamicsLoss, Worthy, filmstrip
from wm_gym.training.memory.heads import JudgingLoss, said_by_heads
from wm_gym.training.memory.local_model import FollowingLoss, Recalling, said_by_follower
from wm_gym.training.memory.sequences import (
    Both,
    Scales,
    SequenceBatch,
    Sequences,
    change_of,
    encoder_of,
    split,
)
from wm_gym.training.memory.settings import (
    PRESETS,
    MemoryTraining,
    camera_of,
    check,
    sizes_of,
)
from wm_gym.training.memory.tokenizer import JointTokenizer, TokenizingLoss
from wm_gym.training.memory.warp import WarpLoss
from wm_gym.training.memory.weights import Weighing
from wm_gym.training.recipe import Recipe, Run, Stage, Trained
from wm_gym.training.rewards import silenced
from wm_gym.training.trainer import Optimisation

FILMED = (0, 1, 2, 5, 10, 15, 30, 50)
"""Steps that the filmstrip shows."""

WARPED = 30
"""Steps that a frame is asked to look ahead for, at most."""

JUDGED, SEEN = 2**20, 8
"""The seed by which held-out batches are drawn, and frames in each that the tokenizer is shown."""

LEARNS_FROM = {
    "tokenizer": (),
    "warp": ("tokenizer",),
    "dynamics": ("tokenizer", "warp"),
    "heads": ("tokenizer", "dynamics"),
    "local_model": ("tokenizer", "dynamics"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """A dataset by row."""

    latents: Float32[np.ndarray, "n d"]
    weights: Float32[np.ndarray, "n c"]
    """Of each cell of the pictures."""


@dataclass(frozen=True)
class MemoryParts:
    """One training, part by part. What was trained is rounded to half precision at once, so that
    all after it learn from what will be used."""

    config: MemoryTraining
    run: Run

    @cached_property
    def _split(self) -> tuple[Dataset, Dataset]:
        return split(self.run.dataset)

    @cached_property
    def _sizes(self) -> dict[str, dict[str, object]]:
        return sizes_of(self.config, self.run.dataset)

    def tokenizer(self) -> Tokenizer:
        """Not standardised yet."""
        config, (learned, held) = self.config, self._split
        drawn = self.run.windows(config.tokenizer, 1)
        clip = min(config.tokenizer_sequence, int(learned.index["length"].max()))
        shown = torch.from_numpy(self.run.film(length=1, count=10).frames[0])

        def make() -> JointTokenizer:
            model = JointTokenizer(
                sizes=self._sizes["tokenizer"], action_size=learned.spec.action_size
            )
            model.to(memory_format=torch.channels_last)
            return model

        @torch.no_grad()
        def picture(model: JointTokenizer) -> UInt8[np.ndarray, "h w c"]:
            painted = model.tokenizer.painted(model.tokenizer.code_of(shown.to(self.run.device)))
            both = [torch.cat(list(part), dim=1) for part in (shown, to_colour(painted).cpu())]
            return torch.cat(both).numpy()

        home = config.tokenizer_of or config.out
        stage = Stage(
            folder=home / "tokenizer",
            make=make,
            optimisation=config.tokenizer,
            batches=Both(
                learned=Windows(learned, length=clip, batch_size=drawn.batch_size, seed=drawn.seed),
                held=Windows(held, length=1, batch_size=SEEN, seed=JUDGED),
            ),
            loss=TokenizingLoss(config.tokenizing),
            picture=picture,
        )
        own = config.tokenizer_of is None
        return halved((self.run.trained(stage) if own else self.run.taken(stage)).tokenizer)

    def encoded(self, tokenizer: Tokenizer) -> Encoded:
        """The tokenizer is standardised by what is learned from."""
        weighing = Weighing(tokenizer, self.config.tokenizing.rare_colours)
        home = self.config.tokenizer_of or self.config.out
        told = self.run.encoded("codes", home, weighing, weighing)
        raw, weights = np.split(told, [tokenizer.latent_size], axis=1)
        scales = Scales.of(self._split[0], raw)
        tokenizer.standardise(torch.from_numpy(scales.mean), torch.from_numpy(scales.std))
        halved(tokenizer)
        mean, std = (each.cpu().numpy() for each in (tokenizer.mean, tokenizer.std))
        raw -= mean
        raw /= std
        return Encoded(latents=raw, weights=weights)

    def _sequences(
        self, encoded: Encoded, optimisation: Optimisation, length: int
    ) -> Both[SequenceBatch]:
        """The held-out batch is an eighth as large."""
        drawn = self.run.windows(optimisation, 1)
        longest = int(self.run.dataset.index["length"].max())
        learned = Sequences(
            dataset=self._split[0], latents=encoded.latents, length=min(length, longest),
            batch_size=drawn.batch_size, seed=drawn.seed, tasks=len(self.run.dataset.tasks),
            weights=encoded.weights,
        )  # fmt: skip
        few = max(1, drawn.batch_size // 8)
        return Both(learned=learned, held=replace(learned, dataset=self._split[1], batch_size=few))

    def _encoder(self, tokenizer: Tokenizer) -> FrameEncoder:
        frozen = tokenizer.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        return encoder_of(frozen, self.run.dataset)

    def _fresh(self) -> Worthy:
        scale = self._sizes["heads"]
        model = Worthy(
            sizes=self._sizes["dynamics"], reward_mean=scale["reward_mean"],
            reward_scale=scale["reward_scale"],
        )  # fmt: skip
        if camera := camera_of(self.run.dataset):
            model.dynamics.begin_with(camera)
        model.to(memory_format=torch.channels_last)
        return model

    def warp(self, tokenizer: Tokenizer, encoded: Encoded) -> Worthy:
        config = self.config
        stage = Stage(
            folder=config.out / "warp",
            make=self._fresh,
            optimisation=config.warp,
            batches=self._sequences(encoded, config.warp, config.recent + WARPED),
            loss=WarpLoss(config.remembering, self._encoder(tokenizer)),
            learned_from={"tokenizer": tokenizer},
        )
        return self.run.trained(stage)

    def dynamics(self, tokenizer: Tokenizer, warp: Worthy, encoded: Encoded) -> Dynamics:
        config, spec = self.config, self.run.dataset.spec

        def make() -> Worthy:
            model = self._fresh()
            model.load_state_dict(warp.state_dict())
            return model

        longest = self.run.filmed.index["length"].max()
        most = min(config.prefill, max(1, int(longest) // 3))
        shown = [j for j in FILMED if most + j <= longest]
        film = self.run.film(length=most + shown[-1], count=4)
        stage = Stage(
            folder=config.out / "dynamics",
            make=make,
            optimisation=config.dynamics,
            batches=self._sequences(encoded, config.dynamics, config.sequence),
            loss=DynamicsLoss(
                config.remembering,
                self._encoder(tokenizer),
                has_reward=spec.has_reward,
                rare=self._rare,
            ),
            learned_from={"tokenizer": tokenizer, "warp": warp},
            picture=lambda model: filmstrip(tokenizer, model.dynamics, film, shown=shown),
        )
        return halved(self.run.trained(stage).dynamics)

    def heads(self, tokenizer: Tokenizer, dynamics: Dynamics, encoded: Encoded) -> Heads:
        config = self.config
        length = max(config.judged, config.rollout + 2)
        batches = self._sequences(encoded, config.heads, length)
        stage = Stage(
            folder=config.out / "heads",
            make=lambda: Heads(**self._sizes["heads"]),
            optimisation=config.heads,
            batches=batches,
            loss=JudgingLoss(dynamics, self._encoder(tokenizer), config.rollout, self._rare),
            learned_from={"dynamics": dynamics},
        )
        heads = halved(self.run.trained(stage))
        if not self.run.dataset.spec.has_reward:
            silenced(heads.reward)
            return heads
        batch = self._judged(batches).to(self.run.device)
        said, true = said_by_heads(heads, dynamics, batch)
        self.run.tell_rewards("heads", _told(said), _told(true), rare=self._rare)
        return heads

    def _judged(self, batches: Both[SequenceBatch]) -> SequenceBatch:
        """What nobody learned from, always the same."""
        assert isinstance(batches.held, Sequences)
        return replace(batches.held, batch_size=64, seed=JUDGED).batch(0)

    @cached_property
    def _rare(self) -> bool:
        """Whether its rewards are; the last row of an episode has none."""
        index = self.run.dataset.index
        rows = np.concatenate([e["start"] + np.arange(e["length"] - 1) for e in index])
        return are_rare(torch.from_numpy(self.run.dataset.reward[rows]))

    def local_model(self, tokenizer: Tokenizer, dynamics: Dynamics, encoded: Encoded) -> Follower:
        config = self.config
        change = half_of(change_of(self._split[0], encoded.latents, tokenizer.code_size))

        def make() -> Recalling:
            model = Recalling(sizes=self._sizes["local_model"], context_size=dynamics.context_size)
            model.follower.dynamics.change.copy_(change)
            return model

        batches = self._sequences(encoded, config.local_model, config.local_sequence)
        stage = Stage(
            folder=config.out / "local_model",
            make=make,
            optimisation=config.local_model,
            batches=batches,
            loss=FollowingLoss(config.following, dynamics, self._encoder(tokenizer), self._rare),
            learned_from={"dynamics": dynamics},
        )
        follower = halved(self.run.trained(stage).follower)
        if not self.run.dataset.spec.has_reward:
            silenced(follower.reward)
            return follower
        said, true = said_by_follower(follower, self._judged(batches).to(self.run.device))
        self.run.tell_rewards("local model", _told(said), _told(true), rare=self._rare)
        return follower

    def logged(self, encoded: Encoded) -> Logged:
        longest = int(self.run.dataset.index["length"].max())
        chosen = choose_logged(
            self.run.dataset, encoded.latents, count=self.config.logged,
            length=min(self.config.local_sequence, longest), seed=0,
        )  # fmt: skip
        return replace(chosen, embedding=half_of(chosen.embedding))


def _told(values: Tensor) -> Float[np.ndarray, "n"]:
    return values.double().cpu().numpy()


def train(config: MemoryTraining, run: Run) -> Trained:
    parts = MemoryParts(config, run)
    tokenizer = parts.tokenizer()
    encoded = parts.encoded(tokenizer)
    warp = parts.warp(tokenizer, encoded)
    dynamics = parts.dynamics(tokenizer, warp, encoded)
    heads = parts.heads(tokenizer, dynamics, encoded)
    follower = parts.local_model(tokenizer, dynamics, encoded)
    made = {
        "tokenizer": tokenizer, "dynamics": dynamics, "heads": heads, "local_model": follower
    }  # fmt: skip
    global_model, local_model = assembled(made)
    return Trained(
        global_model=global_model,
        local_model=local_model,
        logged=parts.logged(encoded),
        facts={"episodes_held_out": len(split(run.dataset)[1])},
    )


RECIPE = Recipe(
    kind=MEMORY.name,
    presets=PRESETS,
    learns_from=LEARNS_FROM,
    check=check,
    train=train,
    foreign=lambda config: frozenset({"tokenizer"} if config.tokenizer_of else ()),
)
