"""The world model: a global model that dreams, and a local one that follows it and lends gradients.

`WorldModel.step` is pure. Environments add state and noise to it; nothing else steps a dream.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wm_gym.models.logged import Logged
from wm_gym.models.protocol import GlobalModel, LocalModel, ModelSpec, Prefill, Seen, Transition
from wm_gym.models.starts import Starts
from wm_gym.systems import Origin, System, system_from

if TYPE_CHECKING:
    from wm_gym.models.kind import Kind

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model folder's config.json says besides its parts."""

    system: str
    """Of which it dreams: a registered name, or one that `origin` tells of."""

    denoising_steps: int = 1
    """Denoiser calls a frame that are used unless others are asked for."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from and how good it is: dataset, hash, command, scores."""

    origin: Origin | None = None
    """What its log told of the system, where nobody registered that."""


class WorldModel(nn.Module):
    """Both models of one world, and what goes with them: a card, starts, logged windows."""

    def __init__(
        self,
        global_model: GlobalModel[Any],
        local_model: LocalModel,
        *,
        card: Card,
        starts: Starts | None = None,
        logged: Logged | None = None,
    ) -> None:
        super().__init__()
        for name, model in {"global_model": global_model, "local_model": local_model}.items():
            if not isinstance(model, nn.Module):
                raise TypeError(f"{name} is a {type(model).__name__}, expected a torch module")
        self.global_model, self.local_model = global_model, local_model
        self.card, self.starts, self.logged = card, starts, logged
        actions = {global_model.spec.action_size, local_model.action_size}
        frames = {global_model.spec.frame_shape, local_model.frame_shape}
        if len(actions) > 1 or len(frames) > 1:
            raise ValueError(f"parts disagree: actions of {actions} numbers, frames of {frames}")

    @property
    def spec(self) -> ModelSpec:
        return self.global_model.spec

    @property
    def kind(self) -> "Kind":
        """As it is registered."""
        from wm_gym.models.kinds import kind_of

        return kind_of(self)

    @property
    def system(self) -> System:
        """That it dreams of, as it was registered or logged."""
        return system_from(
            self.card.system, self.card.origin, frame_shape=self.spec.frame_shape,
            action_size=self.spec.action_size, context=self.spec.prefill,
        )  # fmt: skip

    @property
    def device(self) -> torch.device:
        return self.global_model.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the large parts."""
        return self.global_model.dtype

    def cast(self, dtype: torch.dtype) -> "WorldModel":
        """Compute the large parts in this."""
        self.global_model.cast(dtype)
        self.local_model.cast(dtype)
        return self

    def begin(self, prefill: Prefill) -> Transition:
        """From real frames."""
        return self.global_model.begin(prefill)

    def step(
        self,
        state: Any,
        action: Float[Tensor, "b a"],
        noise: Float[Tensor, "b *n"],
        denoising_steps: int | None = None,
    ) -> Transition:
        """Differentiable in state and action; draws nothing, mutates nothing."""
        steps = self.card.denoising_steps if denoising_steps is None else denoising_steps
        return self.global_model.step(state, action, noise, steps)

    def decode(self, state: Any) -> Seen:
        """What is seen in this state."""
        return self.global_model.decode(state)

    def picture(self, features: Float[Tensor, "b f"]) -> Seen:
        """What is seen where the local model has these features; differentiable."""
        return self.local_model.picture(features, self.global_model)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, token: str | None = None) -> "WorldModel":
        """A packaged name ("push-t"), a folder, or a Hub id ("user/repo@revision")."""
        from wm_gym.models.folder import load_world_model, located

        return load_world_model(located(name_or_path, token=token))

    def save_pretrained(self, folder: Path | str, *, readme: str | None = None) -> None:
        """A whole folder, or none: an older model there is replaced in one step."""
        from wm_gym.models.saving import save_world_model

        save_world_model(self, Path(folder), readme=readme)

    def push_to_hub(self, repo_id: str, *, token: str | None = None, private: bool = False) -> str:
        """The address of what was uploaded."""
        from wm_gym.models.saving import upload_world_model

        return upload_world_model(self, repo_id, token=token, private=private)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether this machine multiplies it fast there."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
