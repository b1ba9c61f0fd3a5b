"""What each part of a world model is made with, as far as settings and dataset tell; and whether
what is trained with it can be saved."""

from typing import Any

import torch

from wm_gym.data import Dataset
from wm_gym.data.origin import origin_of
from wm_gym.models.folder import LARGEST_PART
from wm_gym.models.keypoints.kind import KEYPOINTS
from wm_gym.models.on_paper import check_could_load
from wm_gym.models.world_model import Card
from wm_gym.training.keypoints.settings import KeypointTraining, context_of, patch_of
from wm_gym.training.rewards import reward_scale


def sizes_of(config: KeypointTraining, dataset: Dataset) -> dict[str, dict[str, Any]]:
    """By part. Scales of latents are not known before there are any."""
    latent = {"latent_size": 2 * config.keypoints, "action_size": dataset.spec.action_size}
    eye = {
        "frame_shape": dataset.spec.picture,
        "patch": patch_of(config, dataset),
        "keypoints": config.keypoints,
        "channels": config.channels,
    }
    return {
        "autoencoder": eye,
        "global_model": {
            **latent,
            "context": context_of(config, dataset),
            "width": config.width,
            "blocks": config.blocks,
            "action_encoding": config.action_encoding,
        },
        "heads": latent,
        "local_model": {
            **eye,
            "action_size": dataset.spec.action_size,
            "memory": config.memory,
            "width": config.local_width,
        },
    }


def check_sizes(config: KeypointTraining, dataset: Dataset) -> None:
    """ValueError where what is trained with these settings could not be saved."""
    mean, spread = reward_scale(torch.from_numpy(dataset.reward))
    rewards = {"reward_mean": mean, "reward_scale": spread}
    sizes = sizes_of(config, dataset)
    settings = {
        name: {**its, **(rewards if name in ("heads", "local_model") else {})}
        for name, its in sizes.items()
    }
    try:
        card = Card(system=dataset.spec.robot_type or "", origin=origin_of(dataset))
        check_could_load(KEYPOINTS, settings, card)
        kept = 4 * config.logged * config.rehearsed * 2 * config.keypoints
        if kept > LARGEST_PART:
            raise ValueError(
                f"{config.logged} logged windows of {config.rehearsed} frames take {kept:,} bytes, "
                f"expected up to {LARGEST_PART:,}: choose a smaller --logged or --sequence"
            )
    except ValueError as error:
        raise ValueError(
            f"a model of these settings and this dataset could not be saved: {error}"
        ) from error
