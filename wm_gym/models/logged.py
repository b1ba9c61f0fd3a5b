"""A little of what was logged, kept with the model: to rehearse while learning something new."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from wm_gym.models.local_model import LocalModel


@dataclass(frozen=True, kw_only=True, eq=False)
class Transitions:
    """Steps of any policy, as features."""

    features: Float[Tensor, "b f"]
    action: Float[Tensor, "b a"]
    reward: Float[Tensor, "b"]
    next_features: Float[Tensor, "b f"]

    def __len__(self) -> int:
        return len(self.action)

    def __getitem__(self, index: Tensor | slice) -> "Transitions":
        return Transitions(
            features=self.features[index],
            action=self.action[index],
            reward=self.reward[index],
            next_features=self.next_features[index],
        )

    @classmethod
    def joined(cls, *parts: "Transitions") -> "Transitions":
        names = cls.__dataclass_fields__
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


@dataclass(frozen=True, kw_only=True, eq=False)
class Logged:
    """Windows of logged episodes, as an eye saw them."""

    embedding: Float[Tensor, "b t s"]
    action: Float[Tensor, "b t0 a"]
    reward: Float[Tensor, "b t0"]

    def check(self, local_model: LocalModel) -> None:
        """ValueError where these are not of such a model."""
        n, t = (*self.embedding.shape, 0, 0)[:2]
        if n < 1 or t < 2:
            raise ValueError(
                f"its embedding is of shape {tuple(self.embedding.shape)}, expected at least one "
                "window of two frames or more"
            )
        expected = {
            "embedding": (n, t, local_model.stochastic_size),
            "action": (n, t - 1, local_model.config.action_size),
            "reward": (n, t - 1),
        }
        for name, shape in expected.items():
            values = getattr(self, name)
            if values.shape != shape or not torch.isfinite(values).all():
                raise ValueError(
                    f"its {name} is of shape {tuple(values.shape)} or not finite, expected {shape}"
                )

    @torch.no_grad()
    def transitions(self, local_model: LocalModel) -> Transitions:
        """Window after window, as the filter sees them."""
        device = local_model.device
        embedding, action = self.embedding.to(device), self.action.to(device)
        belief = local_model.begin(embedding[:, 0])
        features = [belief.features]
        for t in range(action.shape[1]):
            prior = local_model.predict(features[-1], action[:, t])
            features.append(local_model.infer(prior, embedding[:, t + 1]).features)
        return Transitions(
            features=torch.stack(features[:-1], dim=1).flatten(0, 1),
            action=action.flatten(0, 1),
            reward=self.reward.to(device).flatten(),
            next_features=torch.stack(features[1:], dim=1).flatten(0, 1),
        )
