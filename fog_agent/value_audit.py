"""Whether critics promise what comes: the value at an episode's first state, against its return."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fog_agent.learner import Learner
from fog_agent.window import Window


class ValueAudit:
    """Of each environment's running episode; those under way at the beginning do not count."""

    def __init__(self, num_envs: int, like: Tensor) -> None:
        self.promised = like.new_full((num_envs,), torch.nan)
        self.earned = like.new_zeros(num_envs)
        self.discount = like.new_ones(num_envs)

    def step(
        self,
        reward: Float[Tensor, "b"],
        final_value: Float[Tensor, "b"],
        next_value: Float[Tensor, "b"],
        terminated: Bool[Tensor, "b"],
        truncated: Bool[Tensor, "b"],
        *,
        gamma: float,
    ) -> Float[Tensor, "n"]:
        """promised − (Σ γᵗ rₜ + γᵀ V(s_T)) of the episodes that ended in this step.

        `final_value` is of the true successor, `next_value` of the state that is gone on from.
        """
        over = terminated | truncated
        self.earned += self.discount * reward
        self.discount *= gamma
        rest = torch.where(terminated, 0.0, self.discount * final_value)
        bias = (self.promised - self.earned - rest)[over & ~self.promised.isnan()]
        self.promised = torch.where(over, next_value, self.promised)
        self.earned = torch.where(over, 0.0, self.earned)
        self.discount = torch.where(over, 1.0, self.discount)
        return bias


@torch.no_grad()
def audit_window(audit: ValueAudit, learner: Learner, window: Window) -> Float[Tensor, "n"]:
    following = torch.cat([window.obs[1:], window.after[None]])
    next_value, final_value = (
        learner.critics.mean(learner.normaliser(obs.flatten(0, 1))).view_as(window.reward)
        for obs in (following, window.next_obs)
    )
    worth = learner.worth(window.reward, window.log_prob)
    ended = [
        audit.step(
            worth[t], final_value[t], next_value[t], window.terminated[t], window.truncated[t],
            gamma=learner.config.gamma,
        )
        for t in range(len(worth))
    ]  # fmt: skip
    return torch.cat(ended)
