"""The copy of a local model that lends its gradients, and goes on learning where a policy goes."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wm_gym.models import trees
from wm_gym.models.logged import Logged
from wm_gym.models.protocol import LocalModel, Transitions
from wm_gym.models.rewards import are_rare, reward_loss


@runtime_checkable
class Lent(Protocol):
    """What a kind lends: copies of its local model's dynamics and reward head."""

    action_size: int
    reward_scale: float

    @property
    def dynamics(self) -> nn.Module: ...

    @property
    def reward(self) -> nn.Module: ...

    def predict(
        self, features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b f"]:
        """Differentiable in both."""

    def reward_of(
        self, next_features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b"]: ...

    def apart(self, off: Float[Tensor, "b f"]) -> Float[Tensor, "b"]:
        """How far features that are off by this are, in units of the change of a step."""


class RehearsingSurrogate:
    """Dynamics and reward for gradients alone: nothing that a dream returns is computed by them.

    `refresh` trains them on given transitions and as many logged ones, so that they learn the new
    and keep the old.
    """

    def __init__(
        self,
        lent: Lent,
        local_model: LocalModel,
        logged: Logged | None,
        *,
        learning_rate: float = 5e-5,
    ) -> None:
        self.lent = lent
        self.action_size, self.reward_scale = lent.action_size, lent.reward_scale
        self.dynamics = lent.dynamics.requires_grad_(False)
        self.reward = lent.reward.requires_grad_(False)
        self._local_model, self._logged = local_model, logged
        self._rare = logged is not None and are_rare(logged.reward)
        self._rehearsed: Transitions | None = None
        self._generator = torch.Generator().manual_seed(0)
        self._parameters = [*self.dynamics.parameters(), *self.reward.parameters()]
        self.optimiser = torch.optim.Adam(self._parameters, learning_rate, betas=(0.9, 0.99))

    def predict(
        self, features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b f"]:
        """Differentiable in both."""
        return self.lent.predict(features, action)

    def reward_of(
        self, next_features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b"]:
        return self.lent.reward_of(next_features, action)

    def refresh(self, batch: Transitions) -> dict[str, float]:
        """One optimiser step; what it says is of the batch, before the step.

        FloatingPointError where gradients are not finite, and then nothing has changed.
        """
        if self._logged is None:
            raise ValueError(
                "this world model has no logged transitions to rehearse: train one with "
                "`wm-gym train`, which keeps some"
            )
        rehearsed = self._remembered(self._logged)
        drawn = self._generator.get_state()
        pick = torch.randint(len(rehearsed), (len(batch),), generator=self._generator)
        both = trees.joined([batch, trees.rows(rehearsed, pick)])
        with self._learning():
            missed, reward = self.missed(both)
            none = torch.zeros_like(reward)
            loss = missed.mean() + reward_loss(reward, none, rare=self._rare, delta=0.1)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(self._parameters, 1.0)
            if not torch.isfinite(loss + norm):
                self._generator.set_state(drawn)
                raise FloatingPointError(
                    f"the batch has a loss of {loss.item()} and gradients of norm {norm.item()}, "
                    "expected finite ones: its numbers are too large"
                )
            self.optimiser.step()
        missed, reward = missed.detach(), reward.detach()
        return {
            "missed": float(missed[: len(batch)].mean()),
            "missed_logged": float(missed[len(batch) :].mean()),
            "reward_error": float(reward[: len(batch)].abs().mean()) * self.reward_scale,
        }

    def modules(self) -> tuple[nn.Module, nn.Module]:
        return self.dynamics, self.reward

    def logged(self) -> dict[str, Tensor] | None:
        """The logged steps it rehearses, named as `refresh` of an environment takes them."""
        if self._logged is None:
            return None
        steps = self._remembered(self._logged)
        return {
            "obs": steps.features, "action": steps.action, "reward": steps.reward,
            "next_obs": steps.next_features,
        }  # fmt: skip

    def _remembered(self, logged: Logged) -> Transitions:
        if self._rehearsed is None:
            self._rehearsed = logged.transitions(self._local_model)
        return self._rehearsed

    @contextmanager
    def _learning(self) -> Iterator[None]:
        """Within, parameters have gradients; outside, never."""
        try:
            for parameter in self._parameters:
                parameter.requires_grad_(True)
            with torch.enable_grad():
                yield
        finally:
            for parameter in self._parameters:
                parameter.requires_grad_(False).grad = None

    def missed(self, batch: Transitions) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """How far the next features and the reward are off, each in units of its own change."""
        off = self.predict(batch.features, batch.action) - batch.next_features
        reward = self.reward_of(batch.next_features, batch.action) - batch.reward
        return self.lent.apart(off), reward / self.reward_scale

    def state_dict(self) -> dict[str, Any]:
        """All that was learned, and where the rehearsal is; a copy."""
        state = {
            "dynamics": self.dynamics.state_dict(),
            "reward": self.reward.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self._generator.get_state(),
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """From `state_dict` of a surrogate of the same sizes; refused, nothing has changed."""
        mine = self.state_dict()
        try:
            self._load(state)
        except Exception as error:
            self._load(mine)
            raise ValueError(f"the state is not of a surrogate of these sizes: {error}") from error

    def _load(self, state: Mapping[str, Any]) -> None:
        expected = ["dynamics", "generator", "optimiser", "reward"]
        if sorted(state) != expected:
            raise ValueError(f"it has {sorted(state)}, expected {expected}")
        self.dynamics.load_state_dict(state["dynamics"])
        self.reward.load_state_dict(state["reward"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._generator.set_state(state["generator"])
        for parameter in self._parameters:
            moments = self.optimiser.state.get(parameter, {"step": torch.zeros(())})
            for name, value in (("weight", parameter), *moments.items()):
                if name != "step" and value.shape != parameter.shape:
                    raise ValueError(
                        f"{name} has shape {tuple(value.shape)}, expected {tuple(parameter.shape)}"
                    )
                if not torch.isfinite(value).all():
                    raise ValueError(f"a {name} of shape {tuple(value.shape)} is not finite")


def soft(square: Float[Tensor, "*n"], *, softness: float = 0.1) -> Float[Tensor, "*n"]:
    """Small errors count by their square, large ones by their size (pseudo-Huber)."""
    return (square + softness**2).sqrt() - softness
