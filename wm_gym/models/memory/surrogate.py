"""What a world with memory lends its gradients by."""

import copy

from jaxtyping import Float
from torch import Tensor

from wm_gym.models.memory.local_model import Follower, reward_of
from wm_gym.models.surrogate import soft


class MemoryLent:
    """Copies of the local model's dynamics and reward head."""

    def __init__(self, follower: Follower) -> None:
        self.config = follower.config
        self.action_size = int(follower.config.action_size)
        self.reward_scale = float(follower.config.reward_scale)
        self.dynamics = copy.deepcopy(follower.dynamics)
        self.reward = copy.deepcopy(follower.reward)

    def predict(
        self, features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b f"]:
        predicted: Float[Tensor, "b f"] = self.dynamics(features, action)
        return predicted

    def reward_of(
        self, next_features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b"]:
        return reward_of(self.reward, next_features, action, self.config)

    def apart(self, off: Float[Tensor, "b f"]) -> Float[Tensor, "b"]:
        memory, latent, _ = self.dynamics.parts(off)
        moved = (latent / self.dynamics.change).square().mean(1)
        return soft(moved) + soft(memory.square().mean(1))
