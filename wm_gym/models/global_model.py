"""The global model: the next frame, by diffusion, from the last ones and the actions."""

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from wm_gym.models.actions import ENCODINGS
from wm_gym.models.edm import preconditioning


class GlobalModel(ModelMixin, ConfigMixin):
    """A U-Net on space-to-depth pixels that copies or paints.

    Its clean frame is, pixel by pixel, a mix of the last frame and of a painted one,

        D(x; σ) = g · o_t + (1 − g) · (c_skip x + c_out F),      g = sigmoid(G)

    because most of a frame does not change, and copying through few channels would blur it.
    Frames are in [−1, 1], channels first.
    """

    @register_to_config
    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (96, 96, 3),
        action_size: int = 2,
        context: int = 4,
        patch: int = 6,
        channels: tuple[int, ...] = (64, 128, 256),
        layers: int = 1,
        action_encoding: str = "two-hot",
        sigma_data: float = 0.5,
        sigma_max: float = 5.0,
        sigma_min: float = 0.1,
    ) -> None:
        super().__init__()
        height, width, colours = frame_shape
        if height % patch or width % patch:
            raise ValueError(
                f"patch is {patch}, expected a divisor of the frame's {height}×{width}"
            )
        if action_encoding not in ENCODINGS:
            raise ValueError(f"action_encoding {action_encoding!r}, expected {sorted(ENCODINGS)}")
        self.encode, numbers = ENCODINGS[action_encoding]
        cell, embedding = colours * patch**2, 4 * channels[0]
        self.register_buffer("grid", _grid(height // patch, width // patch), persistent=False)
        self.stem = nn.Conv2d((context + 1) * cell + 2, channels[0], 1)
        self.condition = nn.Sequential(
            nn.Linear(context * action_size * numbers + 1, embedding),
            nn.SiLU(),
            nn.Linear(embedding, embedding),
        )
        self.unet = UNet2DModel(
            sample_size=(height // patch, width // patch),
            in_channels=channels[0],
            out_channels=cell + patch**2,
            block_out_channels=channels,
            layers_per_block=layers,
            down_block_types=("DownBlock2D",) * len(channels),
            up_block_types=("UpBlock2D",) * len(channels),
            norm_num_groups=16,
            add_attention=False,
            resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
        )

    def forward(
        self,
        noisy: Float[Tensor, "b c h w"],
        sigma: Float[Tensor, "b"],
        frames: Float[Tensor, "b k c h w"],
        action: Float[Tensor, "b k a"],
        blur: Float[Tensor, "b"],
    ) -> Float[Tensor, "b c h w"]:
        """D(x; σ): the clean next frame, given the last frames, the actions that led from each of
        them, and how much noise there is on those frames."""
        b, patch = len(noisy), self.config.patch
        pre = preconditioning(sigma, self.config.sigma_data)
        scaled = noisy * pre.c_in[:, None, None, None]
        pictures = torch.cat([scaled, frames.flatten(1, 2)], dim=1)
        cells = torch.cat(
            [pixel_unshuffle(pictures, patch), self.grid.expand(b, -1, -1, -1)], dim=1
        )
        told = torch.cat([self.encode(action).flatten(1), 10 * blur[:, None]], dim=1)
        out = self.unet(
            self.stem(cells), 250 * pre.c_noise, class_labels=self.condition(told)
        ).sample
        pixels = pixel_shuffle(out.float(), patch)
        painted, copied = pixels[:, :-1], pixels[:, -1:]
        painted = pre.c_skip[:, None, None, None] * noisy + pre.c_out[:, None, None, None] * painted
        share = torch.sigmoid(copied)
        return share * frames[:, -1] + (1 - share) * painted


def _grid(height: int, width: int) -> Float[Tensor, "1 2 h w"]:
    y, x = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]
