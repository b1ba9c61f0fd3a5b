"""The denoiser: the next latent, by diffusion, from the last ones and the actions."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from wm_gym.models.actions import ENCODINGS
from wm_gym.models.edm import preconditioning, sample
from wm_gym.models.networks import Residual


class Denoiser(ModelMixin, ConfigMixin):
    """Denoises how far the latent moves in one step, in units of `change_scale`.

    x = (z_{t+1} − z_t) / change_scale has a mean square near 1, so σ_data is 1 and

        D(x; σ) = c_skip x + c_out F(c_in x, c_noise, z, a, blur)

    with F a residual network on vectors: a latent is a few dozen numbers, not a picture.
    """

    @register_to_config
    def __init__(
        self,
        latent_size: int = 32,
        action_size: int = 2,
        context: int = 4,
        width: int = 512,
        blocks: int = 4,
        action_encoding: str = "two-hot",
        latent_scale: float = 0.5,
        change_scale: float = 0.03,
        sigma_max: float = 5.0,
        sigma_min: float = 0.1,
    ) -> None:
        super().__init__()
        if context < 1:
            raise ValueError(f"context is {context}, expected at least 1")
        if action_encoding not in ENCODINGS:
            raise ValueError(f"action_encoding {action_encoding!r}, expected {sorted(ENCODINGS)}")
        self.encode_action, numbers = ENCODINGS[action_encoding]
        told = (context + 1) * latent_size + context * action_size * numbers + 2
        self.stem = nn.Linear(told, width)
        self.trunk = nn.ModuleList(Residual(width) for _ in range(blocks))
        self.out = nn.Linear(width, latent_size)
        nn.init.zeros_(self.out.weight)

    def forward(
        self,
        noisy: Float[Tensor, "b d"],
        sigma: Float[Tensor, "b"],
        latents: Float[Tensor, "b k d"],
        action: Float[Tensor, "b k a"],
        blur: Float[Tensor, "b"],
    ) -> Float[Tensor, "b d"]:
        """D(x; σ): the clean change, given the last latents, the actions that led from each of
        them, and how much noise there is on those latents, in units of `change_scale`."""
        pre = preconditioning(sigma, sigma_data=1.0)
        moved = (latents[:, 1:] - latents[:, :-1]) / (2 * self.config.change_scale)
        told = [
            pre.c_in[:, None] * noisy,
            latents[:, -1] / self.config.latent_scale,
            moved.flatten(1),
            self.encode_action(action).flatten(1),
            pre.c_noise[:, None],
            blur[:, None],
        ]
        hidden = self.stem(torch.cat(told, dim=1).to(self.stem.weight.dtype))
        for block in self.trunk:
            hidden = block(hidden)
        return pre.c_skip[:, None] * noisy + pre.c_out[:, None] * self.out(hidden).to(noisy.dtype)

    def next_latent(
        self,
        latents: Float[Tensor, "b k d"],
        action: Float[Tensor, "b k a"],
        noise: Float[Tensor, "b d"],
        sigmas: Float[Tensor, "n"],
    ) -> Float[Tensor, "b d"]:
        """Sampled from a context that is taken to be clean; one denoiser call for each σ > 0."""
        blur = latents.new_zeros(len(latents))

        def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
            return self(noisy, sigma, latents, action, blur)

        return latents[:, -1] + self.config.change_scale * sample(denoise, noise, sigmas)
