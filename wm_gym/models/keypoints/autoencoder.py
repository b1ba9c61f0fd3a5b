"""Frames as keypoints: what a picture shows, as a few places on it that nobody named."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, pixel_unshuffle

from wm_gym.models.networks import GROUPS, PictureResidual

REACH = 1.5
"""Width, in cells, of the bump that a keypoint paints: it is felt two or three cells away."""


class Autoencoder(ModelMixin, ConfigMixin):
    """Encodes a frame as the positions of keypoints and paints it back from them alone.

    A keypoint is where, on the average of a softmax over the picture's cells, the network points
    (each cell names a place near it):  p = Σ_c softmax(l)_c (c + o_c).  A position is felt by the
    painter as a bump and the way to it, exp(−|c − p|²/2r²) · (1, c − p). So what moves on the
    picture moves in the latent, smoothly and to a fraction of a pixel, and whatever the latent
    says, one crisp picture comes out (learned keypoints: Jakab et al. 2018, Minderer et al. 2019).
    Latents are x and y of each keypoint, within about [−1, 1].
    """

    @register_to_config
    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (96, 96, 3),
        patch: int = 6,
        keypoints: int = 16,
        channels: int = 64,
    ) -> None:
        super().__init__()
        height, width, colours = frame_shape
        for name, value in {"patch": patch, "keypoints": keypoints}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        if channels < 1 or channels % GROUPS:
            raise ValueError(f"channels is {channels}, expected a multiple of {GROUPS}")
        if height % patch or width % patch:
            raise ValueError(
                f"patch is {patch}, expected a divisor of the frame's {height}×{width}"
            )
        cell, cells = colours * patch**2, (height // patch, width // patch)
        self.register_buffer("place", cell_places(*cells), persistent=False)
        units = torch.tensor(cells[::-1]).float() / 2
        self.register_buffer("cells_per_unit", units, persistent=False)
        self.encoder = _Hourglass(cell + 2, channels, 3 * keypoints)
        self.painter = _Hourglass(3 * keypoints + 2, channels, cell)
        self.background = nn.Parameter(torch.zeros(1, cell, *cells))

    @property
    def latent_size(self) -> int:
        return 2 * self.config.keypoints

    @torch.no_grad()
    def set_background(self, frame: Float[Tensor, "c h w"]) -> None:
        """What the painter starts from, before it has learned anything."""
        self.background.copy_(pixel_unshuffle(frame[None], self.config.patch))

    def encode(self, frames: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        b, k = len(frames), self.config.keypoints
        cells = pixel_unshuffle(frames, self.config.patch)
        out = self.encoder(torch.cat([cells, self.place.expand(b, -1, -1, -1)], dim=1))
        share = out[:, :k].flatten(2).softmax(dim=-1)
        offset = out[:, k:].reshape(b, k, 2, -1) / self.cells_per_unit[:, None]
        return ((self.place.flatten(2)[:, None] + offset) * share[:, :, None]).sum(-1).flatten(1)

    def decode(self, latent: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        b, (columns, rows) = len(latent), self.cells_per_unit / REACH
        x, y = latent.view(b, -1, 2, 1).unbind(2)
        way_x = (self.place[0, 0, 0] - x) * columns
        way_y = (self.place[0, 1, :, 0] - y) * rows
        bump_x, bump_y = (torch.exp(-way.square() / 2) for way in (way_x, way_y))
        across = torch.stack([bump_x, bump_x * way_x, bump_x], dim=2)[..., None, :]
        down = torch.stack([bump_y, bump_y, bump_y * way_y], dim=2)[..., None]
        told = (across * down).flatten(1, 2)  # a bump is one over x times one over y
        cells = self.painter(torch.cat([told, self.place.expand(b, -1, -1, -1)], dim=1))
        return pixel_shuffle(cells + self.background, self.config.patch)

    def forward(self, frames: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.decode(self.encode(frames))


class _Hourglass(nn.Module):
    """A look at the cells, a wider look at half the resolution, and one more at the cells."""

    def __init__(self, inputs: int, channels: int, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(inputs, channels, 1)
        self.before = PictureResidual(channels)
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.wide = nn.Sequential(PictureResidual(channels), PictureResidual(channels))
        self.after = PictureResidual(channels)
        self.out = nn.Conv2d(channels, outputs, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h w"]:
        near = self.before(self.stem(x.to(self.stem.weight.dtype)))
        wide = interpolate(self.wide(self.down(near)), size=near.shape[-2:])
        return self.out(self.after(near + wide)).to(x.dtype)


def cell_places(height: int, width: int) -> Float[Tensor, "1 2 h w"]:
    """x and y of each cell's centre, in [−1, 1]."""
    y, x = ((torch.arange(n).float() + 0.5) / n * 2 - 1 for n in (height, width))
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x, grid_y])[None]
