"""Short look-aheads: from replayed states a few steps through the local model alone, on.

They use each of the global model's transitions many times over. Errors of the local model add up
only over these few steps, from states where the global model has been. They never terminate, for
local models know no ends: see `LightModel`. States are the local model's own, any tree of tensors.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fog_agent.abilities import with_states
from fog_agent.actor import Acted
from fog_agent.protocol import Lent
from fog_agent.trees import map_tensors


def look_ahead(
    model: Lent,
    obs: Float[Tensor, "b x"],
    noise: Float[Tensor, "t b a"],
    *,
    act: Callable[[Float[Tensor, "b x"], Float[Tensor, "b a"]], Acted],
    worth: Callable[[Float[Tensor, "b"], Float[Tensor, "b"]], Float[Tensor, "b"]],
    gamma: float,
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b x"]]:
    """Σₕ γʰ r̃ₕ and s_H, differentiable in the policy; `worth` makes r̃ of reward and log π."""
    local = with_states(model)
    state, total, discount = local.begin(obs), torch.zeros_like(obs[:, 0]), 1.0
    for t in range(len(noise)):
        acted = act(obs, noise[t])
        state = local.predict(state, acted.action)
        obs = local.obs_of(state)
        total = total + discount * worth(local.reward_of(state, acted.action), acted.log_prob)
        discount *= gamma
    return total, obs


class Bfloat16:
    """The same model at half the cost, its products rounded to 8 bits."""

    def __init__(self, model: Lent) -> None:
        self.model = with_states(model)

    def begin(self, obs: Float[Tensor, "b x"], /) -> Any:
        with torch.autocast(obs.device.type, torch.bfloat16):
            return _as_precise(self.model.begin(obs), obs.dtype)

    def obs_of(self, state: Any, /) -> Float[Tensor, "b x"]:
        return self.model.obs_of(state)

    def predict(self, state: Any, action: Float[Tensor, "b a"], /) -> Any:
        with torch.autocast(action.device.type, torch.bfloat16):
            return _as_precise(self.model.predict(state, action), action.dtype)

    def reward_of(self, next_state: Any, action: Float[Tensor, "b a"], /) -> Float[Tensor, "b"]:
        with torch.autocast(action.device.type, torch.bfloat16):
            return self.model.reward_of(next_state, action).to(action.dtype)


def _as_precise(state: Any, dtype: torch.dtype) -> Any:
    """Where products were rounded, sums go on from more bits."""
    return map_tensors(lambda x: x.to(dtype) if x.dtype == torch.bfloat16 else x, state)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether this machine multiplies it fast there."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
