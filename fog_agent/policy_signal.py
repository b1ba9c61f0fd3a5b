"""How far the policy gradients of single environments agree."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from fog_agent.actor import Acted
from fog_agent.fog import FoG
from fog_agent.window import roll

NOWHERE = 1e-12
"""Gradients shorter than this have no direction."""


def policy_signal(agent: FoG, noise: Float[Tensor, "t b a"]) -> tuple[float, float]:
    """`signal` and `halves` of a `Diagnosis`."""
    n = noise.shape[1]
    mean, lengths = [torch.zeros(()), torch.zeros(())], []
    for i, gradient in enumerate(policy_gradients(agent, noise)):
        mean[i % 2] = mean[i % 2] + gradient / n
        lengths.append(float(gradient.norm()))
    whole = float((mean[0] + mean[1]).norm())
    return whole / max(sum(lengths) / n, NOWHERE), _cosine(mean[0], mean[1])


def policy_gradients(agent: FoG, noise: Float[Tensor, "t b a"]) -> Iterator[Float[Tensor, "p"]]:
    """Of what each environment's window promises, by the actor's parameters.

    By the chain rule: first by all that the actor said, for all environments in one go, then of
    that by the parameters, environment by environment.
    """
    learner, said = agent.learner, []
    assert agent.env is not None

    def act(obs: Float[Tensor, "b x"], noise: Float[Tensor, "b a"]) -> Acted:
        acted = learner.act(obs, noise)
        said.append((obs.detach(), acted))
        return acted

    window = roll(agent.env, act, noise)
    learner.set_scales(window.reward, window.log_prob)
    outputs = [part for _, acted in said for part in (acted.action, acted.log_prob)]
    pull = torch.autograd.grad(learner.promised(window).sum(), outputs, materialize_grads=True)
    obs = torch.stack([each for each, _ in said])
    by_action, by_log_prob = torch.stack(pull[::2]), torch.stack(pull[1::2])
    parameters = list(learner.actor.parameters())
    for i in range(noise.shape[1]):
        acted = learner.act(obs[:, i], noise[:, i])
        total = (acted.action * by_action[:, i]).sum() + (acted.log_prob * by_log_prob[:, i]).sum()
        gradients = torch.autograd.grad(total, parameters)
        yield torch.cat([gradient.flatten() for gradient in gradients])


def _cosine(one: Tensor, other: Tensor) -> float:
    norms = float(one.norm() * other.norm())
    return float((one * other).sum()) / norms if norms > NOWHERE**2 else math.nan
