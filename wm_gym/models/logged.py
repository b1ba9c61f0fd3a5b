"""A little of what was logged, kept with the model: to rehearse while learning something new."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wm_gym.models.protocol import LocalModel, Transitions


@dataclass(frozen=True, kw_only=True, eq=False)
class Logged:
    """Windows of logged episodes, as a local model embeds them."""

    embedding: Float[Tensor, "b t e"]
    action: Float[Tensor, "b t0 a"]
    reward: Float[Tensor, "b t0"]
    task: Int[Tensor, "b"] | None = None
    """None: all are of the first."""

    def check(self, local_model: LocalModel, tasks: int = 1) -> None:
        """ValueError where these are not of such a model."""
        n, t = (*self.embedding.shape, 0, 0)[:2]
        if n < 1 or t < 2:
            raise ValueError(
                f"its embedding is of shape {tuple(self.embedding.shape)}, expected at least one "
                "window of two frames or more"
            )
        expected = {
            "embedding": (n, t, local_model.embedding_size),
            "action": (n, t - 1, local_model.action_size),
            "reward": (n, t - 1),
        }
        for name, shape in expected.items():
            values = getattr(self, name)
            if values.shape != shape or not torch.isfinite(values).all():
                raise ValueError(
                    f"its {name} is of shape {tuple(values.shape)} or not finite, expected {shape}"
                )
        task = self.tasks
        if task.shape != (n,) or not ((task >= 0) & (task < tasks)).all():
            raise ValueError(f"its task is of shape {tuple(task.shape)} or not 0 to {tasks - 1}")

    @property
    def tasks(self) -> Int[Tensor, "b"]:
        return torch.zeros(len(self.action), dtype=torch.int64) if self.task is None else self.task

    @torch.no_grad()
    def transitions(self, local_model: LocalModel) -> Transitions:
        """Window after window, as the filter sees them."""
        device = local_model.device
        embedding, action = self.embedding.to(device), self.action.to(device)
        features = [local_model.begin(embedding[:, 0], self.tasks.to(device))]
        for t in range(action.shape[1]):
            following = local_model.follow(features[-1], action[:, t], embedding[:, t + 1])
            features.append(following)
        return Transitions(
            features=torch.stack(features[:-1], dim=1).flatten(0, 1),
            action=action.flatten(0, 1),
            reward=self.reward.to(device).flatten(),
            next_features=torch.stack(features[1:], dim=1).flatten(0, 1),
        )
