"""How keypoint worlds are registered."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from wm_gym.models.keypoints.autoencoder import Autoencoder
from wm_gym.models.keypoints.denoiser import Denoiser
from wm_gym.models.keypoints.global_model import KeypointGlobalModel
from wm_gym.models.keypoints.heads import Heads
from wm_gym.models.keypoints.local_model import KeypointLocalModel
from wm_gym.models.kind import Kind, Part
from wm_gym.systems.cells import cell_of


def assembled(parts: Mapping[str, Any]) -> tuple[KeypointGlobalModel, KeypointLocalModel]:
    autoencoder, local_model = parts["autoencoder"], parts["local_model"]
    global_model = KeypointGlobalModel(autoencoder, parts["global_model"], parts["heads"])
    sizes = {autoencoder.latent_size, local_model.stochastic_size}
    if len(sizes) > 1:
        raise ValueError(f"parts disagree: latents of {sizes}")
    return global_model, local_model


def parts_of(global_model: Any, local_model: Any) -> dict[str, nn.Module]:
    ours = isinstance(global_model, KeypointGlobalModel)
    if not (ours and isinstance(local_model, KeypointLocalModel)):
        return {}
    return {
        "autoencoder": global_model.autoencoder,
        "global_model": global_model.denoiser,
        "heads": global_model.heads,
        "local_model": local_model,
    }


def timed(
    global_model: KeypointGlobalModel, local_model: KeypointLocalModel
) -> list[tuple[object, str, str]]:
    return [
        (global_model.denoiser, "next_latent", "denoiser"),
        (global_model.heads, "judge", "heads"),
        (global_model.autoencoder, "decode", "painter"),
    ]


@torch.no_grad()
def flops(global_model: KeypointGlobalModel, local_model: KeypointLocalModel) -> dict[str, int]:
    """The denoiser's with one call."""
    size, spec = global_model.autoencoder.latent_size, global_model.spec
    latents = torch.zeros(1, spec.prefill, size)
    action = torch.zeros(1, spec.prefill, spec.action_size)
    with FlopCounterMode(display=False) as painter:
        global_model.autoencoder.decode(latents[:, 0])
    with FlopCounterMode(display=False) as denoiser:
        global_model.denoiser.next_latent(latents, action, latents[:, 0], global_model.sigmas(1))
    counters = {"painter": painter, "denoiser": denoiser}
    return {name: int(counter.get_total_flops()) for name, counter in counters.items()}


def fresh(
    frame_shape: tuple[int, int, int], action_size: int, prefill: int, tiny: bool
) -> tuple[KeypointGlobalModel, KeypointLocalModel]:
    height, width, _ = frame_shape
    fits = cell_of(height, width)
    sees: dict[str, Any] = {"patch": fits}
    thinks: dict[str, Any] = {}
    if tiny:
        sees = {"patch": 8, "keypoints": 4, "channels": 16}
        thinks = {"width": 32, "blocks": 1}
    autoencoder = Autoencoder(frame_shape, **sees)
    sizes = {"latent_size": autoencoder.latent_size, "action_size": action_size}
    denoiser = Denoiser(**sizes, context=prefill, **thinks)
    heads = Heads(**sizes, **thinks)
    memory = {"memory": 12} if tiny else {}
    local_model = KeypointLocalModel(frame_shape, action_size, **sees, **memory, **thinks)
    return KeypointGlobalModel(autoencoder, denoiser, heads), local_model


KEYPOINTS = Kind(
    name="keypoints",
    parts={
        "autoencoder": Part(make=Autoencoder, label="Autoencoder"),
        "global_model": Part(make=Denoiser, label="GlobalModel"),
        "heads": Part(make=Heads, label="Heads", later=frozenset({"ends"})),
        "local_model": Part(make=KeypointLocalModel, label="LocalModel"),
    },
    assembled=assembled,
    parts_of=parts_of,
    summary="A diffusion model of how a picture's keypoints move",
    fresh=fresh,
    unit="1: half a picture",
    curves={
        "autoencoder": ("psnr",),
        "global_model": ("error",),
        "refined": ("error",),
        "heads": ("coverage_error", "reward_error"),
        "eye": ("off",),
        "local_model": ("what_if_error",),
    },
    timed=timed,
    flops=flops,
)
