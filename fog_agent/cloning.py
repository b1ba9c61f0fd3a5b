"""Behaviour cloning: a policy that does what was done, to compare with or to begin from."""

import copy
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from fog_agent.climbing import climb
from fog_agent.fog import FoG


def clone(
    agent: FoG,
    obs: Float[Tensor, "n x"],
    action: Float[Tensor, "n a"],
    *,
    updates: int,
    batch: int = 512,
    learning_rate: float = 1e-3,
    noise: float = 0.0,
) -> Iterator[float]:
    """Yields each update's mean squared error of what the policy thinks best, in halves of the box.

    Climbed is that and how far σ has moved:

        (tanh μ(x) − a)² + (log σ(x) − log σ₀(x))²

    for μ and σ share layers, and the policy is to stay as sure as it was. The learning rate falls
    linearly to zero. `noise`, in deviations of observations, widens what was seen. Only the actor
    and the observations' normalisation change: `agent.learn` goes on from there, and a `head_start`
    lets critics learn first what they have to say of this policy.
    """
    if len(obs) != len(action) or not len(obs):
        raise ValueError(f"got {len(obs)} observations and {len(action)} actions")
    learner, device = agent.learner, agent.learner.reward_scale.device
    obs, action = obs.to(device), action.to(device)
    learner.normaliser.see(obs)
    learner.normaliser.take()
    actor, x = learner.actor, learner.normaliser(obs).detach()
    before = copy.deepcopy(actor).requires_grad_(False)
    optimiser = torch.optim.AdamW(actor.parameters(), learning_rate)
    for update in range(updates):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * (1 - update / updates)
        at = torch.randint(len(x), (batch,), generator=learner.rng).to(device)
        blurred = noise * torch.randn(batch, x.shape[1], generator=learner.rng).to(device)
        shown = x[at] + blurred
        error = ((actor.best(shown) - action[at]) / actor.reach).square().mean()
        spread = actor.distribution(shown)[1] - before.distribution(shown)[1]
        objective = -error - spread.square().mean()
        climb(optimiser, objective, actor.parameters(), clip=agent.config.actor_clip)
        yield float(error.detach())
