"""Behaviour cloning: a policy that does what was done, to compare with or to begin from."""

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
    """Yields each update's mean squared error, of the action that the policy thinks best.

    How sure it is stays as it was. The learning rate falls linearly to zero. `noise`, in deviations
    of observations, widens what was seen. Only the actor and the observations' normalisation
    change: `agent.learn` goes on from there.
    """
    if len(obs) != len(action) or not len(obs):
        raise ValueError(f"got {len(obs)} observations and {len(action)} actions")
    learner = agent.learner
    learner.normaliser.see(obs)
    learner.normaliser.take()
    actor, x = learner.actor, learner.normaliser(obs).detach()
    optimiser = torch.optim.AdamW(actor.parameters(), learning_rate)
    for update in range(updates):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * (1 - update / updates)
        at = torch.randint(len(x), (batch,), generator=learner.rng).to(x.device)
        blurred = noise * torch.randn(batch, x.shape[1], generator=learner.rng).to(x.device)
        error = (actor.best(x[at] + blurred) - action[at]).square().mean()
        climb(optimiser, -error, actor.parameters(), clip=agent.config.actor_clip)
        yield float(error.detach())
