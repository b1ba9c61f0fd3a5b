"""Short look-aheads: from replayed states a few steps through the local model alone, on.

They use each of the global model's transitions many times over. Errors of the local model add up
only over these few steps, from states where the global model has been. They never terminate, for
local models know no ends: see `LightModel`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from fog_agent.actor import Acted
from fog_agent.protocol import LightModel


def look_ahead(
    model: LightModel,
    obs: Float[Tensor, "b x"],
    noise: Float[Tensor, "t b a"],
    *,
    act: Callable[[Float[Tensor, "b x"], Float[Tensor, "b a"]], Acted],
    worth: Callable[[Float[Tensor, "b"], Float[Tensor, "b"]], Float[Tensor, "b"]],
    gamma: float,
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b x"]]:
    """Σₕ γʰ r̃ₕ and s_H, differentiable in the policy; `worth` makes r̃ of reward and log π."""
    total, discount = torch.zeros_like(obs[:, 0]), 1.0
    for t in range(len(noise)):
        acted = act(obs, noise[t])
        obs = model.predict(obs, acted.action)
        total = total + discount * worth(model.reward_of(obs, acted.action), acted.log_prob)
        discount *= gamma
    return total, obs


class Bfloat16:
    """The same model at half the cost, its products rounded to 8 bits."""

    def __init__(self, model: LightModel) -> None:
        self.model = model

    def predict(
        self, obs: Float[Tensor, "b x"], action: Float[Tensor, "b a"], /
    ) -> Float[Tensor, "b x"]:
        with torch.autocast(obs.device.type, torch.bfloat16):
            return self.model.predict(obs, action).to(obs.dtype)

    def reward_of(
        self, next_obs: Float[Tensor, "b x"], action: Float[Tensor, "b a"], /
    ) -> Float[Tensor, "b"]:
        with torch.autocast(next_obs.device.type, torch.bfloat16):
            return self.model.reward_of(next_obs, action).to(next_obs.dtype)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether this machine multiplies it fast there."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
