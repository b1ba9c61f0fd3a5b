"""What a keypoint world lends its gradients by."""

import copy

from jaxtyping import Float
from torch import Tensor

from wm_gym.models.keypoints.local_model import KeypointLocalModel, reward_of
from wm_gym.models.logged import Logged
from wm_gym.models.surrogate import RehearsingSurrogate, soft


class KeypointLent:
    """Copies of the local model's dynamics and reward head."""

    def __init__(self, local_model: KeypointLocalModel) -> None:
        self.config = local_model.config
        self.action_size = local_model.action_size
        self.reward_scale = float(local_model.config.reward_scale)
        self.stochastic = local_model.stochastic_size
        self.dynamics = copy.deepcopy(local_model.dynamics)
        self.reward = copy.deepcopy(local_model.reward)

    def predict(
        self, features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b f"]:
        predicted: Float[Tensor, "b f"] = self.dynamics(features, action).features
        return predicted

    def reward_of(
        self, next_features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b"]:
        return reward_of(self.reward, next_features, action, self.config)

    def apart(self, off: Float[Tensor, "b f"]) -> Float[Tensor, "b"]:
        s = self.stochastic
        moved = (off[:, :s] / self.config.change_scale).square().mean(1)
        return soft(moved) + soft(off[:, s:].square().mean(1))


def surrogate_of(
    local_model: KeypointLocalModel, logged: Logged | None, *, learning_rate: float = 5e-5
) -> RehearsingSurrogate:
    lent = KeypointLent(local_model)
    return RehearsingSurrogate(lent, local_model, logged, learning_rate=learning_rate)
