"""What trained heads say of logged rewards, for a remark after training."""

import numpy as np
import torch
from jaxtyping import Float

from wm_gym.models.keypoints.heads import Heads
from wm_gym.models.keypoints.local_model import KeypointLocalModel
from wm_gym.models.logged import Logged
from wm_gym.training.keypoints.latents import LatentBatch
from wm_gym.training.keypoints.local_model import FilterBatch


@torch.no_grad()
def said_by_heads(
    heads: Heads, batch: LatentBatch
) -> tuple[Float[np.ndarray, "b"], Float[np.ndarray, "b"]]:
    """The reward of each window's last transition, as it is said and as it was paid."""
    before, after = (batch.latents[:, t].to(heads.device) for t in (-2, -1))
    said = heads.judge(before, batch.action[:, -1].to(heads.device), after).reward
    return said.double().cpu().numpy(), batch.reward[:, -1].double().numpy()


@torch.no_grad()
def said_by_local_model(
    local_model: KeypointLocalModel, batch: FilterBatch
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """The reward of every transition, from what the filter knows after it, and as it was paid."""
    steps = Logged(
        embedding=batch.embedding, action=batch.logged.action, reward=batch.logged.reward
    ).transitions(local_model)
    said = local_model.reward_of(steps.next_features, steps.action)
    return said.double().cpu().numpy(), steps.reward.double().cpu().numpy()
