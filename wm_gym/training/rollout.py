"""Open-loop rollouts of a global model, to look at while it trains."""

from collections.abc import Sequence
from functools import partial
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from wm_gym.data import WindowBatch
from wm_gym.models.edm import karras_sigmas, sample
from wm_gym.models.global_model import GlobalModel


@torch.no_grad()
def next_frame(
    model: nn.Module,
    frames: Float[Tensor, "b k c h w"],
    action: Float[Tensor, "b k a"],
    noise: Float[Tensor, "b c h w"],
    sigmas: Float[Tensor, "n"],
) -> Float[Tensor, "b c h w"]:
    """Sampled from clean context frames, on whole colour values as an environment hands it out."""
    blur = torch.zeros(len(frames), device=frames.device)
    clean = sample(partial(model, frames=frames, action=action, blur=blur), noise, sigmas)
    return ((clean.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


@torch.no_grad()
def unroll(
    model: nn.Module,
    frames: UInt8[Tensor, "k b h w c"],
    action: Float[Tensor, "t b a"],
    noise: Float[Tensor, "n b c h w"],
    *,
    denoising_steps: int,
) -> UInt8[Tensor, "n b h w c"]:
    """n frames that follow the given ones under the given actions, t = k − 1 + n of them."""
    k, settings = len(frames), cast(GlobalModel, model).config
    context = frames.permute(1, 0, 4, 2, 3).float() / 127.5 - 1
    sigmas = karras_sigmas(
        denoising_steps, sigma_min=settings.sigma_min, sigma_max=settings.sigma_max
    ).to(context.device)
    made = []
    for j in range(len(noise)):
        acts = action[j : j + k].transpose(0, 1)
        frame = next_frame(model, context, acts, noise[j], sigmas)
        made.append(((frame + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1))
        context = torch.cat([context[:, 1:], frame[:, None]], dim=1)
    return torch.stack(made)


def filmstrip(
    model: GlobalModel, batch: WindowBatch, *, shown: Sequence[int], denoising_steps: int = 1
) -> UInt8[np.ndarray, "h w c"]:
    """Real above dream, a pair of rows for each window; frames `shown` after the context."""
    k, device = model.config.context, next(model.parameters()).device
    frames, action = torch.from_numpy(batch.frames), torch.from_numpy(batch.action)
    generator = torch.Generator().manual_seed(0)
    h, w, c = frames.shape[2:]
    noise = torch.randn(len(frames) - k, frames.shape[1], c, h, w, generator=generator)
    dream = unroll(
        model, frames[:k].to(device), action.to(device), noise.to(device),
        denoising_steps=denoising_steps,
    ).cpu()  # fmt: skip
    both = [torch.cat([frames[k - 1 : k], part])[list(shown)] for part in (frames[k:], dream)]
    rows = torch.stack(both).permute(2, 0, 3, 1, 4, 5)  # window, real or dream, h, shown, w, c
    return rows.flatten(3, 4).flatten(0, 2).numpy()
