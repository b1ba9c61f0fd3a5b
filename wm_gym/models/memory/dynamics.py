"""The dynamics: a recurrent memory of latents and actions, and the next latent by diffusion."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int
from torch import Tensor, nn

from wm_gym.models.actions import ENCODINGS
from wm_gym.models.edm import preconditioning, sample
from wm_gym.models.networks import Residual


class Dynamics(ModelMixin, ConfigMixin):
    """The memory is computed once a frame; the denoiser's calls are of a small network on top.

        memory  hₜ = GRU(hₜ₋₁, [known·zₜ, known, aₜ₋₁, blur, task])
        change  x = (zₜ₊₁ − zₜ) / change,  D(x; σ) = c_skip x + c_out F(c_in x, c_noise, zₜ, hₜ, aₜ)

    `change` is what a latent moves by in a step, root mean square, so σ_data is 1 (EDM). Where a
    frame is not known the memory is told so, and goes on by the actions. `blur` is how much noise
    there is on the latents, in units of `change`: 0 in a dream.

    The sampler's first σ comes with noise alone, in training as in a dream. However large, it would
    hide no change of so many numbers that go together: a network learns to read it, and in a dream
    there is none to be read.
    """

    change: Float[Tensor, "d"]

    @register_to_config
    def __init__(
        self,
        latent_size: int = 64,
        action_size: int = 2,
        tasks: int = 1,
        memory: int = 384,
        layers: int = 2,
        inputs: int = 256,
        width: int = 384,
        blocks: int = 3,
        prefill: int = 32,
        action_encoding: str = "linear",
        sigma_max: float = 20.0,
        sigma_min: float = 0.3,
    ) -> None:
        super().__init__()
        if action_encoding not in ENCODINGS:
            raise ValueError(f"action_encoding {action_encoding!r}, expected {sorted(ENCODINGS)}")
        self.encode_action, numbers = ENCODINGS[action_encoding]
        acted = action_size * numbers
        self.register_buffer("change", torch.ones(latent_size))
        self.stem = nn.Linear(latent_size + acted + 2 + tasks, inputs)
        self.gru = nn.GRU(inputs, memory, layers)
        self.norm = nn.LayerNorm(memory)
        self.told = nn.Linear(2 * latent_size + memory + acted + 2 + tasks, width)
        self.trunk = nn.ModuleList(Residual(width) for _ in range(blocks))
        self.out = nn.Linear(width, latent_size)
        nn.init.zeros_(self.out.weight)

    def train(self, mode: bool = True) -> "Dynamics":
        """The GRU has no dropout, and on a GPU has gradients in this mode alone."""
        super().train(mode)
        self.gru.train()
        return self

    @property
    def device(self) -> torch.device:
        return self.out.weight.device  # diffusers' own search takes 0.2 ms

    @property
    def dtype(self) -> torch.dtype:
        """Of the denoiser."""
        return self.out.weight.dtype

    def cast(self, dtype: torch.dtype) -> None:
        """The memory stays float32: what it rounds off once is lost for good."""
        for part in (self.told, self.trunk, self.out):
            part.to(dtype)

    def nothing(self, n: int) -> Float[Tensor, "n l m"]:
        """What is remembered before the first frame."""
        return self.change.new_zeros(n, self.config.layers, self.config.memory)

    def remember(
        self,
        memory: Float[Tensor, "b l m"],
        latent: Float[Tensor, "b t d"],
        action: Float[Tensor, "b t a"],
        known: Float[Tensor, "b t"],
        blur: Float[Tensor, "b"],
        task: Int[Tensor, "b"],
    ) -> tuple[Float[Tensor, "b t m"], Float[Tensor, "b l m"]]:
        """What is made of each moment and all before it, and the memory after the last.

        `action` led to each of them: zeros where none did.
        """
        b, t = known.shape
        told = [
            latent * known[..., None],
            self.encode_action(action),
            known[..., None],
            blur[:, None, None].expand(b, t, 1),
            one_hot(task, self.config.tasks)[:, None].expand(b, t, -1),
        ]
        seen = self.stem(torch.cat(told, dim=2)).transpose(0, 1)
        every, after = self.gru(seen, memory.transpose(0, 1).contiguous())
        context = self.norm(every).transpose(0, 1)
        return context.to(latent.dtype), after.transpose(0, 1).to(latent.dtype)

    def context_of(self, memory: Float[Tensor, "b l m"]) -> Float[Tensor, "b m"]:
        """What was made of the last moment."""
        context: Float[Tensor, "b m"] = self.norm(memory[:, -1])
        return context

    def forward(
        self,
        noisy: Float[Tensor, "b d"],
        sigma: Float[Tensor, "b"],
        latent: Float[Tensor, "b d"],
        context: Float[Tensor, "b m"],
        action: Float[Tensor, "b a"],
        blur: Float[Tensor, "b"],
        task: Int[Tensor, "b"],
    ) -> Float[Tensor, "b d"]:
        """D(x; σ): the clean change."""
        pre = preconditioning(sigma, sigma_data=1.0)
        told = [
            pre.c_in[:, None] * noisy, latent, context, self.encode_action(action),
            pre.c_noise[:, None], blur[:, None], one_hot(task, self.config.tasks),
        ]  # fmt: skip
        hidden = self.told(torch.cat(told, dim=1).to(self.told.weight.dtype))
        for block in self.trunk:
            hidden = block(hidden)
        return pre.c_skip[:, None] * noisy + pre.c_out[:, None] * self.out(hidden).to(noisy.dtype)

    def next_latent(
        self,
        latent: Float[Tensor, "b d"],
        context: Float[Tensor, "b m"],
        action: Float[Tensor, "b a"],
        task: Int[Tensor, "b"],
        noise: Float[Tensor, "b d"],
        sigmas: Float[Tensor, "n"],
    ) -> Float[Tensor, "b d"]:
        """Sampled from what is taken to be clean; one denoiser call for each σ > 0."""
        blur = latent.new_zeros(len(latent))

        def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
            return self(noisy, sigma, latent, context, action, blur, task)

        return latent + self.change * sample(denoise, noise, sigmas)


def one_hot(task: Int[Tensor, "b"], tasks: int) -> Float[Tensor, "b n"]:
    """Without a look at the numbers, which a GPU would have to be waited for."""
    return (task[:, None] == torch.arange(tasks, device=task.device)).float()
