"""A network of DIAMOND's size (Alonso et al. 2024), to compare with; it has learned nothing.

Built to its published sizes: 4 levels of 64 channels, 2 residual blocks a level, 4 context frames
and the noisy one of 64 × 64 pixels, some 4.4 M parameters, 3 Euler steps a frame. Where it is
compared with a memory, frames are more and larger.
"""

import torch
from diffusers import UNet2DModel
from jaxtyping import Float
from torch import Tensor, nn

from wm_gym.models.edm import karras_sigmas, preconditioning, sample
from wm_gym.programs.bench_timing import Step

CONTEXT, SIDE, ACTION, STEPS, SIGMA_DATA = 4, 64, 2, 3, 0.5
CONDITION = 576
"""Width of what noise and actions are embedded in. DIAMOND's 256 condition both norms of a block,
diffusers' one of them: this makes the parameters as many, which costs next to no time."""


class DiamondSized(nn.Module):
    """D(x; σ) of the next frame; noise and actions come in through embeddings."""

    def __init__(
        self, context: int = CONTEXT, side: int = SIDE, action: int = ACTION, channels: int = 3
    ) -> None:
        super().__init__()
        self.unet = UNet2DModel(
            sample_size=side,
            in_channels=channels * (context + 1),
            out_channels=channels,
            block_out_channels=(64, 64, 64, 64),
            layers_per_block=2,
            down_block_types=("DownBlock2D",) * 4,
            up_block_types=("UpBlock2D",) * 4,
            resnet_time_scale_shift="scale_shift",
            time_embedding_dim=CONDITION,
            class_embed_type="identity",
        )
        self.action = nn.Linear(context * action, CONDITION)

    def forward(
        self,
        noisy: Float[Tensor, "b 3 h w"],
        sigma: Float[Tensor, "b"],
        context: Float[Tensor, "b c h w"],
        action: Float[Tensor, "b a"],
    ) -> Float[Tensor, "b 3 h w"]:
        pre = preconditioning(sigma, SIGMA_DATA)
        scale, dtype = pre.c_in[:, None, None, None], self.action.weight.dtype
        seen = torch.cat([context / SIGMA_DATA, scale * noisy], dim=1).to(dtype)
        told = self.action(action.to(dtype))
        out = self.unet(seen, pre.c_noise, class_labels=told).sample.float()
        return pre.c_skip[:, None, None, None] * noisy + pre.c_out[:, None, None, None] * out


def diamond_sized(dtype: torch.dtype, **sizes: int) -> DiamondSized:
    torch.manual_seed(0)
    return DiamondSized(**sizes).eval().requires_grad_(False).to(dtype)


def size_of(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def dreaming(
    net: nn.Module,
    batch: int,
    context: int = CONTEXT,
    side: int = SIDE,
    action: int = ACTION,
    channels: int = 3,
) -> Step:
    """A frame of each of a batch of dreams: its bytes, which are then the newest context."""
    rng = torch.Generator().manual_seed(0)
    sigmas = karras_sigmas(STEPS, sigma_min=2e-3, sigma_max=5.0)
    past = torch.zeros(batch, channels * context, side, side)

    @torch.no_grad()
    def step() -> int:
        nonlocal past
        acted = torch.rand(batch, context * action, generator=rng) * 2 - 1
        noise = torch.randn(batch, channels, side, side, generator=rng)
        frame = sample(lambda x, sigma: net(x, sigma, past, acted), noise, sigmas)
        colour = ((frame.clamp(-1, 1) + 1) * 127.5).to(torch.uint8)
        colour.permute(0, 2, 3, 1).contiguous().numpy()
        past = torch.cat([past[:, channels:], colour / 127.5 - 1], dim=1)
        return batch

    return step
