"""The global model: keypoints of a frame, their next places by diffusion, their worth."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from wm_gym.models.colours import to_unit
from wm_gym.models.edm import sigmas_on
from wm_gym.models.keypoints.autoencoder import Autoencoder
from wm_gym.models.keypoints.denoiser import Denoiser
from wm_gym.models.keypoints.heads import Heads
from wm_gym.models.protocol import ModelSpec, Outcome, Prefill, Recalled, Seen, Transition


@dataclass(frozen=True, kw_only=True, eq=False)
class KeypointState:
    """All that the future of b dreams depends on, besides actions and noise."""

    latents: Float[Tensor, "b k d"]
    """Of the last frames."""

    action: Float[Tensor, "b k0 a"]
    """That led from each of them to the next."""

    error: Float[Tensor, "b"]
    """Expected error of the last latent, root mean square; 0 where it is encoded from real."""


class KeypointGlobalModel(nn.Module):
    """Remembers the last few latents. Knows one task, and no proprioception."""

    def __init__(self, autoencoder: Autoencoder, denoiser: Denoiser, heads: Heads) -> None:
        super().__init__()
        self.autoencoder, self.denoiser, self.heads = autoencoder, denoiser, heads
        sizes = {autoencoder.latent_size, denoiser.config.latent_size, heads.config.latent_size}
        actions = {denoiser.config.action_size, heads.config.action_size}
        if len(sizes) > 1 or len(actions) > 1:
            raise ValueError(f"parts disagree: latents of {sizes}, actions of {actions} numbers")
        height, width, colours = autoencoder.config.frame_shape
        self.spec = ModelSpec(
            frame_shape=(height, width, colours),
            action_size=int(denoiser.config.action_size),
            noise_shape=(autoencoder.latent_size,),
            prefill=int(denoiser.config.context),
            can_end=bool(heads.config.ends),
        )

    @property
    def device(self) -> torch.device:
        return self.denoiser.out.weight.device  # diffusers' own search takes 0.2 ms

    @property
    def dtype(self) -> torch.dtype:
        return self.denoiser.out.weight.dtype

    def cast(self, dtype: torch.dtype) -> None:
        """Positions, sampler and heads stay float32."""
        pictures, denoiser = self.autoencoder, self.denoiser
        for part in (
            pictures.encoder, pictures.painter, denoiser.stem, denoiser.trunk, denoiser.out,
        ):  # fmt: skip
            part.to(dtype)
        pictures.to(memory_format=torch.channels_last)

    def sigmas(self, denoising_steps: int) -> Float[Tensor, "n"]:
        config = self.denoiser.config
        return sigmas_on(self.device, denoising_steps, config.sigma_min, config.sigma_max)

    def encode(self, frames: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b d"]:
        return self.autoencoder.encode(to_unit(frames))

    def begin(self, prefill: Prefill) -> Transition:
        """Where frames are missing, the first one stood still before."""
        frames = stood_still(prefill.frames, prefill.known)
        latents = self.encode(frames.flatten(0, 1)).view(*frames.shape[:2], -1)
        nothing = latents.new_zeros(len(latents))
        state = KeypointState(latents=latents, action=prefill.action, error=nothing)
        outcome = Outcome(
            reward=nothing,
            progress=self.heads.coverage_of(latents[:, -1]),
            ended=torch.zeros_like(nothing, dtype=torch.bool),
            uncertainty=nothing,
        )
        return Transition(state=state, outcome=outcome)

    def step(
        self,
        state: KeypointState,
        action: Float[Tensor, "b a"],
        noise: Float[Tensor, "b d"],
        denoising_steps: int,
    ) -> Transition:
        sigmas = self.sigmas(denoising_steps)
        actions = torch.cat([state.action, action[:, None]], dim=1)
        latent = self.denoiser.next_latent(state.latents, actions, noise, sigmas)
        judged = self.heads.judge(state.latents[:, -1], action, latent)
        error = (state.error.square() + judged.error.square()).sqrt()
        following = KeypointState(
            latents=torch.cat([state.latents[:, 1:], latent[:, None]], dim=1),
            action=actions[:, 1:],
            error=error,
        )
        outcome = Outcome(
            reward=judged.reward, progress=judged.coverage, ended=judged.ended, uncertainty=error
        )
        return Transition(state=following, outcome=outcome)

    def decode(self, state: KeypointState) -> Seen:
        latent = state.latents[:, -1]
        return Seen(
            frames=self.autoencoder.decode(latent), proprio=latent.new_zeros(len(latent), 0)
        )

    def reconstruct(self, frames: UInt8[Tensor, "b h w c"], proprio: Float[Tensor, "b p"]) -> Seen:
        return Seen(frames=self.autoencoder.decode(self.encode(frames)), proprio=proprio)

    def judge(
        self,
        before: Prefill,
        action: Float[Tensor, "b a"],
        frames: UInt8[Tensor, "b h w c"],
        proprio: Float[Tensor, "b p"],
    ) -> Outcome:
        judged = self.heads.judge(self.encode(before.frames[:, -1]), action, self.encode(frames))
        return Outcome(
            reward=judged.reward,
            progress=judged.coverage,
            ended=judged.ended,
            uncertainty=judged.error,
        )

    def recalled(self, state: KeypointState) -> Recalled:
        latents = state.latents.flatten(0, 1)[:, None]
        no_action = state.action.new_zeros(len(latents), 0, state.action.shape[2])
        past = KeypointState(
            latents=latents, action=no_action, error=latents.new_zeros(len(latents))
        )
        return Recalled(states=past, action=state.action)


def stood_still(
    frames: UInt8[Tensor, "b k h w c"], known: Bool[Tensor, "b k"]
) -> UInt8[Tensor, "b k h w c"]:
    """The first known frame in place of those that are missing before it."""
    first = known.int().argmax(dim=1)
    now = torch.arange(known.shape[1], device=known.device).expand_as(known)
    shown = torch.maximum(now, first[:, None])
    return frames[torch.arange(len(frames), device=known.device)[:, None], shown]
