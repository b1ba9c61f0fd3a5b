"""The local model's eye: keypoints of a frame, quickly."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import conv2d, silu

from wm_gym.models.keypoints.autoencoder import cell_places


class Eye(nn.Module):
    """Where the autoencoder's keypoints are, for a fifth of its encoder's work.

    p = Σ_c softmax(l)_c (c + o_c), as there, on cells of twice the width. It learns to point where
    the autoencoder does, on real frames and on painted ones: so both mean the same to a policy.
    """

    place: Float[Tensor, "1 2 h w"]
    coarse_place: Float[Tensor, "1 2 h2 w2"]
    reach: Float[Tensor, "2"]

    def __init__(
        self, frame_shape: tuple[int, int, int], patch: int, keypoints: int, channels: int
    ) -> None:
        super().__init__()
        height, width, colours = frame_shape
        for name, (value, least) in {
            "patch": (patch, 1), "keypoints": (keypoints, 1), "channels": (channels, 2),
        }.items():  # fmt: skip
            if value < least:
                raise ValueError(f"{name} is {value}, expected at least {least}")
        if height % patch or width % patch:
            raise ValueError(
                f"patch is {patch}, expected a divisor of the frame's {height}×{width}"
            )
        cells = height // patch, width // patch
        self.keypoints = keypoints
        self.register_buffer("place", cell_places(*cells), persistent=False)
        coarse = -(-cells[0] // 2), -(-cells[1] // 2)
        self.register_buffer("coarse_place", cell_places(*coarse), persistent=False)
        self.register_buffer("reach", 2 / torch.tensor(coarse[::-1]).float(), persistent=False)
        self.cells = nn.Conv2d(colours, channels // 2, patch, patch)
        self.coarse = nn.Conv2d(channels // 2 + 2, channels, 3, stride=2, padding=1)
        self.trunk = nn.Sequential(_Residual(channels), _Residual(channels))
        self.out = nn.Conv2d(channels, 3 * keypoints, 1)

    def forward(
        self, frames: UInt8[Tensor, "b h w c"] | Float[Tensor, "b h w c"]
    ) -> Float[Tensor, "b s"]:
        """Of whole colour values: they and their distance from 127.5 are exact in bfloat16,
        and one layout, whoever made them, gives equal sums."""
        b, k = len(frames), self.keypoints
        colours = (frames.to(self.out.weight.dtype) - 127.5).contiguous().movedim(-1, 1)
        weight, bias, patch = self.cells.weight, self.cells.bias, self.cells.kernel_size
        assert bias is not None
        seen = conv2d(colours, weight, stride=patch) / 127.5 + bias[:, None, None]
        place = self.place.to(seen.dtype).expand(b, -1, -1, -1)
        place = place.contiguous(memory_format=torch.channels_last)
        coarse = self.coarse(_silu(torch.cat([seen, place], dim=1)))
        out = self.out(_silu(self.trunk(coarse))).float()
        share = out[:, :k].flatten(2).softmax(dim=-1)
        offset = out[:, k:].reshape(b, k, 2, -1) * self.reach[:, None]
        nearest = share @ self.coarse_place[0].flatten(1).T.to(share.dtype)
        return (nearest + (offset * share[:, :, None]).sum(-1)).flatten(1)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.second(_silu(self.first(_silu(x))))


def _silu(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Without the denormal numbers of far negative ones, which CPUs take four times as long for."""
    return silu(x.clamp(min=-60))
