"""The tokenizer: a moment, which is a picture and proprioception, as numbers, and back."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from wm_gym.models.networks import GROUPS, PictureResidual
from wm_gym.models.protocol import Seen

PATCH, CELL = 4, 16
"""Pixels along a side of what the encoder's first layer sees as one, and of a cell of its last."""


class Tokenizer(ModelMixin, ConfigMixin):
    """A picture becomes a *code*: some numbers for each cell of 16 × 16 pixels. What a cell shows
    is learned once for all of them, so pictures are sharp within minutes; where things are is left
    to the dynamics.

    A *latent* is the code and proprioception, each number standardised by what was logged. Sides
    of pictures are padded to whole cells within.
    """

    mean: Float[Tensor, "d"]
    std: Float[Tensor, "d"]

    @register_to_config
    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (96, 96, 3),
        proprio_size: int = 0,
        cell_channels: int = 16,
        channels: int = 64,
    ) -> None:
        super().__init__()
        height, width, colours = frame_shape
        if channels < 1 or channels % GROUPS:
            raise ValueError(f"channels is {channels}, expected a multiple of {GROUPS}")
        self.cells = -(-height // CELL), -(-width // CELL)
        self.encoder = nn.Sequential(
            nn.Conv2d(colours * PATCH**2, channels, 3, 2, 1), PictureResidual(channels),
            nn.Conv2d(channels, 2 * channels, 3, 2, 1), PictureResidual(2 * channels),
            nn.Conv2d(2 * channels, cell_channels, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(cell_channels, 2 * channels, 3, padding=1), PictureResidual(2 * channels),
            _Twice(),
            nn.Conv2d(2 * channels, channels, 3, padding=1), PictureResidual(channels),
            nn.Conv2d(channels, colours * (CELL // 2) ** 2, 3, padding=1),
        )  # fmt: skip
        latent = self.code_size + proprio_size
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("std", torch.ones(latent))

    @property
    def code_size(self) -> int:
        return int(self.config.cell_channels) * self.cells[0] * self.cells[1]

    @property
    def proprio_size(self) -> int:
        return int(self.config.proprio_size)

    @property
    def latent_size(self) -> int:
        return self.code_size + self.proprio_size

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        height, width, colours = self.config.frame_shape
        return height, width, colours

    @property
    def dtype(self) -> torch.dtype:
        """Of the convolutions."""
        return next(self.encoder.parameters()).dtype

    def cast(self, dtype: torch.dtype) -> None:
        """Latents stay float32."""
        for part in (self.encoder, self.decoder):
            part.to(dtype)
        self.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def standardise(self, mean: Float[Tensor, "d"], std: Float[Tensor, "d"]) -> None:
        """Latents are off this mean, in units of this."""
        self.mean.copy_(mean)
        self.std.copy_(std)

    def encode(
        self,
        frames: UInt8[Tensor, "b h w c"] | Float[Tensor, "b h w c"],
        proprio: Float[Tensor, "b p"],
    ) -> Float[Tensor, "b d"]:
        """The latent of whole colour values; differentiable where they are floats."""
        return (torch.cat([self.code_of(frames), proprio], dim=1) - self.mean) / self.std

    def seen(self, pictures: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """What `encode` makes of pictures alone, whose colours are from −1 to 1."""
        n = self.code_size
        code = self._code(pictures.to(self.dtype).movedim(1, -1))
        return (code - self.mean[:n]) / self.std[:n]

    def decode(self, latent: Float[Tensor, "b d"]) -> Seen:
        told = latent * self.std + self.mean
        code, proprio = told[:, : self.code_size], told[:, self.code_size :]
        return Seen(frames=self.painted(code), proprio=proprio)

    def code_of(
        self, frames: UInt8[Tensor, "b h w c"] | Float[Tensor, "b h w c"]
    ) -> Float[Tensor, "b n"]:
        """Not standardised."""
        return self._code((frames.to(self.dtype) - 127.5) / 127.5)

    def _code(self, unit: Float[Tensor, "b h w c"]) -> Float[Tensor, "b n"]:
        """Pixels of a patch become channels, in one layout whoever made them."""
        (h, w, colours), (rows, columns) = self.frame_shape, self.cells
        bottom, right = rows * CELL - h, columns * CELL - w
        whole = pad(unit, (0, 0, 0, right, 0, bottom), value=-1.0) if bottom or right else unit
        many = CELL // PATCH
        patches = whole.reshape(-1, many * rows, PATCH, many * columns, PATCH, colours)
        told = patches.transpose(2, 3).reshape(len(unit), many * rows, many * columns, -1)
        return self.encoder(told.movedim(-1, 1)).flatten(1).to(self.mean.dtype)

    def painted(self, code: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        (h, w, colours), (rows, columns) = self.frame_shape, self.cells
        cells = code.view(len(code), -1, rows, columns).to(self.dtype)
        out = self.decoder(cells.contiguous(memory_format=torch.channels_last))
        side = CELL // 2
        blocks = out.movedim(1, -1).reshape(-1, 2 * rows, 2 * columns, side, side, colours)
        whole = blocks.transpose(2, 3).reshape(len(code), rows * CELL, columns * CELL, colours)
        return whole[:, :h, :w].to(code.dtype).movedim(-1, 1)


class _Twice(nn.Module):
    """Every cell as four."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return interpolate(x, scale_factor=2)
