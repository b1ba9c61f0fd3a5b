"""A look at a dream while its models train: real above dream."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8

from wm_gym.data import WindowBatch
from wm_gym.models.colours import to_colour, to_unit
from wm_gym.models.edm import karras_sigmas
from wm_gym.models.keypoints.autoencoder import Autoencoder
from wm_gym.models.keypoints.denoiser import Denoiser


@torch.no_grad()
def filmstrip(
    autoencoder: Autoencoder, model: Denoiser, batch: WindowBatch, *, shown: Sequence[int]
) -> UInt8[np.ndarray, "h w c"]:
    """A pair of rows for each window; `shown` are frames after the context, 0 is its last."""
    k, device = model.config.context, model.device
    frames, action = torch.from_numpy(batch.frames), torch.from_numpy(batch.action).to(device)
    seen = to_unit(frames[:k]).to(device)
    latents = autoencoder.encode(seen.flatten(0, 1)).view(*seen.shape[:2], -1).transpose(0, 1)
    sigmas = karras_sigmas(1, sigma_min=1.0, sigma_max=model.config.sigma_max).to(device)
    generator = torch.Generator().manual_seed(0)
    dream = [latents[:, -1]]
    for j in range(len(frames) - k):
        noise = torch.randn(latents[:, 0].shape, generator=generator).to(device)
        acts = action[j : j + k].transpose(0, 1)
        dream.append(model.next_latent(latents, acts, noise, sigmas))
        latents = torch.cat([latents[:, 1:], dream[-1][:, None]], dim=1)
    painted = torch.stack([to_colour(autoencoder.decode(dream[j])).cpu() for j in shown])
    rows = torch.stack([frames[[k - 1 + j for j in shown]], painted])  # 2, shown, window, h, w, c
    return rows.permute(2, 0, 3, 1, 4, 5).flatten(3, 4).flatten(0, 2).numpy()
