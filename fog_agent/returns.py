"""Sums of rewards, as pure functions; terminated and truncated are kept apart everywhere."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def lambda_returns(
    reward: Float[Tensor, "t b"],
    next_value: Float[Tensor, "t b"],
    terminated: Bool[Tensor, "t b"],
    truncated: Bool[Tensor, "t b"],
    *,
    gamma: float,
    lam: float,
) -> Float[Tensor, "t b"]:
    """TD(λ) targets (Sutton & Barto 2018, eq. 12.20).

        Gₜ = rₜ + γ (1 − termₜ) [(1 − λₜ) V(s′ₜ) + λₜ Gₜ₊₁]      λₜ = λ (1 − truncₜ)

    `next_value` is of the true successor, before any reset; the last step ends with it.
    """
    following = next_value[-1]
    targets = []
    for t in reversed(range(len(reward))):
        trust = lam * (~truncated[t]).to(reward)
        mixed = (1 - trust) * next_value[t] + trust * following
        following = reward[t] + gamma * (~terminated[t]).to(reward) * mixed
        targets.append(following)
    return torch.stack(targets[::-1])


def window_return(
    reward: Float[Tensor, "t b"],
    next_value: Float[Tensor, "t b"],
    terminated: Bool[Tensor, "t b"],
    truncated: Bool[Tensor, "t b"],
    *,
    gamma: float,
) -> Float[Tensor, "b"]:
    """What the actor climbs: Σₕ γʰ rₕ + γᴴ V(s_H), differentiable.

    Where an episode is cut short within the window, V of its last state ends that sum, and another
    begins at γ⁰; where one terminated, nothing is added.
    """
    total = torch.zeros_like(reward[0])
    discount = torch.ones_like(reward[0])
    for t in range(len(reward)):
        over = terminated[t] | truncated[t]
        ends = ~terminated[t] & (truncated[t] | (t == len(reward) - 1))
        bootstrap = torch.where(ends, gamma * next_value[t], 0.0)
        total = total + discount * (reward[t] + bootstrap)
        discount = torch.where(over, 1.0, gamma * discount)
    return total


def entropy_bonus(log_prob: Float[Tensor, "*n"], target: float) -> Float[Tensor, "*n"]:
    """(H + |H̄|) / (2 |H̄|): 0 at an entropy of −|H̄|, 1 at |H̄| (SAPO)."""
    return (abs(target) - log_prob) / (2 * abs(target))
