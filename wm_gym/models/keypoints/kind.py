"""How keypoint worlds are registered."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from wm_gym.models.keypoints.autoencoder import Autoencoder
from wm_gym.models.keypoints.denoiser import Denoiser
from wm_gym.models.keypoints.global_model import KeypointGlobalModel
from wm_gym.models.keypoints.heads import Heads
from wm_gym.models.keypoints.local_model import KeypointLocalModel
from wm_gym.models.kind import Kind, Part


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
)
