"""The world model: a picture's keypoints, their next places by diffusion, and what they are worth.

`WorldModel.step` is pure. Environments add state and noise to it; nothing else steps a dream.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from wm_gym.models.autoencoder import Autoencoder
from wm_gym.models.colours import to_colour, to_unit
from wm_gym.models.edm import karras_sigmas
from wm_gym.models.global_model import GlobalModel
from wm_gym.models.heads import Heads
from wm_gym.models.local_model import LocalModel
from wm_gym.models.logged import Logged
from wm_gym.models.starts import Starts
from wm_gym.systems import Origin, System, system_from

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model folder's config.json says besides its parts."""

    system: str
    """Of which it dreams: a registered name, or one that `origin` tells of."""

    denoising_steps: int = 1
    """Denoiser calls a frame that are used unless others are asked for."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from and how good it is: dataset, hash, command, scores."""

    origin: Origin | None = None
    """What its log told of the system, where nobody registered that."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WorldState:
    """All that the future of b dreams depends on, besides actions and noise."""

    latents: Float[Tensor, "b k d"]
    """Of the last frames."""

    action: Float[Tensor, "b k0 a"]
    """That led from each of them to the next."""

    error: Float[Tensor, "b"]
    """Expected error of the last latent, root mean square; 0 where it is encoded from real."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Transition:
    state: WorldState
    reward: Float[Tensor, "b"]
    coverage: Float[Tensor, "b"]
    ended: Bool[Tensor, "b"]
    """By itself: what happens after it nobody has logged."""


class WorldModel(nn.Module):
    def __init__(
        self,
        autoencoder: Autoencoder,
        global_model: GlobalModel,
        heads: Heads,
        local_model: LocalModel,
        *,
        card: Card,
        starts: Starts | None = None,
        logged: Logged | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder, self.global_model, self.heads = autoencoder, global_model, heads
        self.local_model = local_model
        self.card, self.starts, self.logged = card, starts, logged
        sizes = {
            autoencoder.latent_size,
            local_model.stochastic_size,
            *(part.config.latent_size for part in (global_model, heads)),
        }
        parts = (global_model, heads, local_model)
        actions = {part.config.action_size for part in parts}
        frames = {tuple(part.config.frame_shape) for part in (autoencoder, local_model)}
        if len(sizes) > 1 or len(actions) > 1 or len(frames) > 1:
            raise ValueError(
                f"parts disagree: latents of {sizes}, actions of {actions} numbers, "
                f"frames of {frames}"
            )

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        height, width, colours = self.autoencoder.config.frame_shape
        return height, width, colours

    @property
    def action_size(self) -> int:
        return int(self.global_model.config.action_size)

    @property
    def context(self) -> int:
        return int(self.global_model.config.context)

    @property
    def latent_size(self) -> int:
        return self.autoencoder.latent_size

    @property
    def system(self) -> System:
        """That it dreams of, as it was registered or logged."""
        return system_from(
            self.card.system, self.card.origin, frame_shape=self.frame_shape,
            action_size=self.action_size, context=self.context,
        )  # fmt: skip

    @property
    def device(self) -> torch.device:
        return self.global_model.out.weight.device  # diffusers' own search takes 0.2 ms

    @property
    def dtype(self) -> torch.dtype:
        """Of the large parts."""
        return self.global_model.out.weight.dtype

    def cast(self, dtype: torch.dtype) -> "WorldModel":
        """Compute the large parts in this; positions, sampler and heads stay float32."""
        eye, denoiser = self.local_model.eye, self.global_model
        pictures = (self.autoencoder.encoder, self.autoencoder.painter, eye.cells, eye.coarse)
        for part in (*pictures, eye.trunk, eye.out, denoiser.stem, denoiser.trunk, denoiser.out):
            part.to(dtype)
        for model in (self.autoencoder, self.local_model):
            model.to(memory_format=torch.channels_last)
        return self

    def sigmas(self, denoising_steps: int) -> Float[Tensor, "n"]:
        config = self.global_model.config
        return karras_sigmas(
            denoising_steps, sigma_min=config.sigma_min, sigma_max=config.sigma_max
        ).to(self.device)

    def encode(self, frames: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b d"]:
        return self.autoencoder.encode(to_unit(frames))

    def decode(self, latent: Float[Tensor, "b d"]) -> UInt8[Tensor, "b h w c"]:
        return to_colour(self.autoencoder.decode(latent))

    def begin(
        self, frames: UInt8[Tensor, "b k h w c"], action: Float[Tensor, "b k0 a"]
    ) -> WorldState:
        """From real frames, as many as the context."""
        latents = self.encode(frames.flatten(0, 1)).view(*frames.shape[:2], -1)
        return WorldState(latents=latents, action=action, error=latents.new_zeros(len(latents)))

    def step(
        self,
        state: WorldState,
        action: Float[Tensor, "b a"],
        noise: Float[Tensor, "b d"],
        sigmas: Float[Tensor, "n"],
    ) -> Transition:
        """Differentiable in state and action; draws nothing, mutates nothing."""
        actions = torch.cat([state.action, action[:, None]], dim=1)
        latent = self.global_model.next_latent(state.latents, actions, noise, sigmas)
        judged = self.heads.judge(state.latents[:, -1], action, latent)
        following = WorldState(
            latents=torch.cat([state.latents[:, 1:], latent[:, None]], dim=1),
            action=actions[:, 1:],
            error=(state.error.square() + judged.error.square()).sqrt(),
        )
        return Transition(
            state=following, reward=judged.reward, coverage=judged.coverage, ended=judged.ended
        )

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, token: str | None = None) -> "WorldModel":
        """A packaged name ("push-t"), a folder, or a Hub id ("user/repo@revision")."""
        from wm_gym.models.folder import load_world_model, located

        return load_world_model(located(name_or_path, token=token))

    def save_pretrained(self, folder: Path | str, *, readme: str | None = None) -> None:
        """A whole folder, or none: an older model there is replaced in one step."""
        from wm_gym.models.saving import save_world_model

        save_world_model(self, Path(folder), readme=readme)

    def push_to_hub(self, repo_id: str, *, token: str | None = None, private: bool = False) -> str:
        """The address of what was uploaded."""
        from wm_gym.models.saving import upload_world_model

        return upload_world_model(self, repo_id, token=token, private=private)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether this machine multiplies it fast there."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
