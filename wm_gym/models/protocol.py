"""What a world model is, for everything that does not know its kind.

A global model dreams; a light local model follows what is seen, shows it to policies and lends
gradients. What their states hold is their own business: others keep them, and go through
`wm_gym.models.trees`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

State = TypeVar("State", contravariant=True)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Sizes that go in and out of a global model."""

    frame_shape: tuple[int, int, int]
    action_size: int
    noise_shape: tuple[int, ...]
    """Of what one step of one dream draws."""

    prefill: int
    """Real frames that `begin` looks at, at most."""

    proprio_size: int = 0
    """Numbers beside the picture; 0: it uses none."""

    tasks: int = 1
    """How many it knows."""

    can_end: bool = False
    """Whether it has learned where episodes end by themselves."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prefill:
    """Real frames to begin from, the last one last."""

    frames: UInt8[Tensor, "b k h w c"]
    proprio: Float[Tensor, "b k p"]
    action: Float[Tensor, "b k0 a"]
    """That led from each frame to the next."""

    known: Bool[Tensor, "b k"]
    """Where there is a frame at all: the first ones may be missing, and are then zeros."""

    task: Int[Tensor, "b"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a moment is worth, each in view of the dream's task."""

    reward: Float[Tensor, "b"]
    """Of the step that led here; 0 where none did."""

    progress: Float[Tensor, "b"]
    """Within [0, 1]; where no log told it, whatever."""

    ended: Bool[Tensor, "b"]
    """Whether the episode ends here by itself: what happens after it nobody has logged."""

    uncertainty: Float[Tensor, "b"]
    """How far the dream is expected to be from the truth by now; 0 at real frames."""

    success: Bool[Tensor, "b"] | None = None
    """Whether the task is solved here; None: where progress is above the system's threshold."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Transition:
    """What a step, or a beginning, leads to."""

    state: Any
    outcome: Outcome


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What is observed of a moment."""

    frames: Float[Tensor, "b c h w"]
    """In [−1, 1]."""

    proprio: Float[Tensor, "b p"]


@runtime_checkable
class GlobalModel(Protocol[State]):
    """Owns its tokenizer, dynamics and heads."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the large parts."""

    def cast(self, dtype: torch.dtype) -> None:
        """Compute the large parts in this."""

    def begin(self, prefill: Prefill) -> Transition:
        """The state after the last real frame."""

    def step(
        self,
        state: State,
        action: Float[Tensor, "b a"],
        noise: Float[Tensor, "b *n"],
        denoising_steps: int,
    ) -> Transition:
        """Differentiable in state and action; draws nothing, mutates nothing."""

    def decode(self, state: State) -> Seen:
        """What is seen in this state. Asked for, never implied by a step."""

    def reconstruct(self, frames: UInt8[Tensor, "b h w c"], proprio: Float[Tensor, "b p"]) -> Seen:
        """What it makes of real frames by itself: the best that a dream could show of them."""

    def judge(
        self,
        before: Prefill,
        action: Float[Tensor, "b a"],
        frames: UInt8[Tensor, "b h w c"],
        proprio: Float[Tensor, "b p"],
    ) -> Outcome:
        """Of real steps, nothing of them dreamt: what its heads say of what came after."""

    def recalled(self, state: State) -> "Recalled | None":
        """What is still known of how it came here, for a filter that begins late; None: nothing
        but where it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Recalled:
    """The last k moments of each of b dreams, up to the one they are at."""

    states: Any
    """What `decode` takes, b · k of them, each dream's in a row. They need not go on."""

    action: Float[Tensor, "b k0 a"]
    """That led from each to the next."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Transitions:
    """Steps of any policy, as features."""

    features: Float[Tensor, "b f"]
    action: Float[Tensor, "b a"]
    reward: Float[Tensor, "b"]
    next_features: Float[Tensor, "b f"]

    def __len__(self) -> int:
        return len(self.action)


@runtime_checkable
class Surrogate(Protocol):
    """Lends its gradients to a dream: no value that a dream returns is computed by it."""

    action_size: int
    reward_scale: float
    """What a typical reward is off the mean by."""

    def predict(
        self, features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b f"]:
        """The next features; differentiable in both."""

    def reward_of(
        self, next_features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b"]: ...

    def missed(self, batch: Transitions) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """How far the next features and the reward are off, each in units of its own change."""

    def refresh(self, batch: Transitions) -> dict[str, float]:
        """One optimiser step; what it says is of the batch, before the step.

        FloatingPointError where gradients are not finite, and then nothing has changed.
        """

    def modules(self) -> Sequence[nn.Module]:
        """What it learns."""

    def logged(self) -> dict[str, Tensor] | None:
        """The logged steps it rehearses, named as `refresh` of an environment takes them."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@runtime_checkable
class LocalModel(Protocol):
    """A light recurrent model, in coordinates of its own: what it infers from all that was seen
    are the features that policies see under `obs_type="latent"`. They say their task."""

    @property
    def feature_size(self) -> int: ...

    @property
    def embedding_size(self) -> int: ...

    @property
    def frame_shape(self) -> tuple[int, int, int]: ...

    @property
    def proprio_size(self) -> int: ...

    @property
    def action_size(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def cast(self, dtype: torch.dtype) -> None:
        """Compute the large parts in this."""

    def embed(
        self,
        frames: UInt8[Tensor, "b h w c"] | Float[Tensor, "b h w c"],
        proprio: Float[Tensor, "b p"],
    ) -> Float[Tensor, "b e"]:
        """Of frames in whole colour values; differentiable in them where they are floats."""

    def begin(
        self, embedding: Float[Tensor, "b e"], task: Int[Tensor, "b"]
    ) -> Float[Tensor, "b f"]:
        """Of a first frame: nothing is remembered."""

    def follow(
        self,
        features: Float[Tensor, "b f"],
        action: Float[Tensor, "b a"],
        embedding: Float[Tensor, "b e"],
    ) -> Float[Tensor, "b f"]:
        """One step of the filter: what was to be expected, corrected by what was seen."""

    def predict(
        self, features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b f"]:
        """The next features, before anything is seen; differentiable in both."""

    def reward_of(
        self, next_features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b"]: ...

    def progress_of(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b"]: ...

    def away(
        self, features: Float[Tensor, "b f"], others: Float[Tensor, "b f"]
    ) -> Float[Tensor, "b"]:
        """How far apart these are, in units of the change of a step."""

    def picture(self, features: Float[Tensor, "b f"], global_model: Any) -> Seen:
        """What is seen where these are the features, painted by the global model of the same
        world; differentiable."""

    def surrogate(self, logged: Any) -> Surrogate:
        """A copy that lends gradients and may learn on, rehearsing logged windows, or None."""
