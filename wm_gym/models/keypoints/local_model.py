"""The local model: a light recurrent state-space model, whose gradients a dream lends."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.functional import softplus

from wm_gym.models.keypoints.eye import Eye
from wm_gym.models.keypoints.global_model import KeypointGlobalModel
from wm_gym.models.logged import Logged
from wm_gym.models.networks import Residual, network
from wm_gym.models.protocol import Seen

if TYPE_CHECKING:
    from wm_gym.models.surrogate import RehearsingSurrogate

SUREST_PRIOR, SUREST_POSTERIOR = 0.1, 0.01
"""The least deviations there are, in units of `change_scale`: surer than that none need be."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Belief:
    """A normal distribution of the stochastic part, beside the memory that goes with it."""

    mean: Float[Tensor, "b s"]
    deviation: Float[Tensor, "b s"]
    memory: Float[Tensor, "b m"]

    @property
    def features(self) -> Float[Tensor, "b f"]:
        """As a policy sees them: the mean, and the memory."""
        return torch.cat([self.mean, self.memory], dim=1)


class KeypointLocalModel(ModelMixin, ConfigMixin):
    """A recurrent state-space model (Hafner et al. 2019) of what an eye tells of frames.

        memory     hₜ₊₁ = GRU(hₜ, x)        x = trunk(sₜ, hₜ, aₜ)
        prior      sₜ₊₁ ~ N(sₜ + c μ(x, hₜ₊₁), ·)
        posterior  sₜ₊₁ ~ N(eₜ₊₁ + c ν(hₜ₊₁, eₜ₊₁, prior mean), ·)       eₜ₊₁ = eye(frame)

    with c the `change_scale`. Features are (s, h). The eye, the memory and the posterior make up a
    filter: what it infers from frames is what policies see, so it never changes once trained.
    `dynamics` and `reward` also give gradients, by a copy that may learn on (`surrogate`).
    """

    @register_to_config
    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (96, 96, 3),
        action_size: int = 2,
        patch: int = 6,
        keypoints: int = 16,
        channels: int = 64,
        memory: int = 128,
        width: int = 384,
        blocks: int = 2,
        head_width: int = 256,
        scale: float = 0.5,
        change_scale: float = 0.03,
        reward_mean: float = 0.0,
        reward_scale: float = 1.0,
    ) -> None:
        super().__init__()
        sizes = {
            "action_size": action_size, "memory": memory, "width": width, "blocks": blocks,
            "head_width": head_width,
        }  # fmt: skip
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        s = 2 * keypoints
        self.eye = Eye(frame_shape, patch, keypoints, channels)
        self.dynamics = Dynamics(s, action_size, memory, width, blocks, scale, change_scale)
        self.posterior = network(2 * s + memory, head_width, 1, 2 * s)
        self.reward = network(s + memory + action_size, head_width, blocks, 1)
        self.coverage = network(s + memory, head_width, blocks, 1)
        self.reconstruction = network(s + memory, head_width, blocks, s)

    @property
    def stochastic_size(self) -> int:
        return 2 * int(self.config.keypoints)

    @property
    def feature_size(self) -> int:
        return self.stochastic_size + int(self.config.memory)

    @property
    def embedding_size(self) -> int:
        return self.stochastic_size

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        height, width, colours = self.config.frame_shape
        return height, width, colours

    @property
    def proprio_size(self) -> int:
        return 0

    @property
    def action_size(self) -> int:
        return int(self.config.action_size)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device  # diffusers' own search takes 0.2 ms

    def cast(self, dtype: torch.dtype) -> None:
        """All but the eye's pictures stays float32."""
        for part in (self.eye.cells, self.eye.coarse, self.eye.trunk, self.eye.out):
            part.to(dtype)
        self.to(memory_format=torch.channels_last)

    def embed(
        self,
        frames: UInt8[Tensor, "b h w c"] | Float[Tensor, "b h w c"],
        proprio: Float[Tensor, "b p"],
    ) -> Float[Tensor, "b s"]:
        """Of the frames alone."""
        embedding: Float[Tensor, "b s"] = self.eye(frames)
        return embedding

    def begin(
        self, embedding: Float[Tensor, "b s"], task: Int[Tensor, "b"]
    ) -> Float[Tensor, "b f"]:
        return self.begun(embedding).features

    def begun(self, embedding: Float[Tensor, "b s"]) -> Belief:
        """Of a first frame: nothing is remembered, nothing was expected."""
        memory = embedding.new_zeros(len(embedding), self.config.memory)
        nothing = Belief(mean=embedding, deviation=torch.ones_like(embedding), memory=memory)
        return self.infer(nothing, embedding)

    def predict(
        self, features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b f"]:
        return self.expected(features, action).features

    def expected(self, features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]) -> Belief:
        """The prior of the next step; differentiable in both."""
        belief: Belief = self.dynamics(features, action)
        return belief

    def infer(self, prior: Belief, embedding: Float[Tensor, "b s"]) -> Belief:
        """The posterior, once the next frame is seen."""
        config = self.config
        surprise = (embedding - prior.mean) / config.change_scale
        told = torch.cat([embedding / config.scale, surprise, prior.memory], dim=1)
        shift, width = self.posterior(told).to(told.dtype).chunk(2, dim=1)
        return Belief(
            mean=embedding + config.change_scale * shift,
            deviation=config.change_scale * (SUREST_POSTERIOR + softplus(width)),
            memory=prior.memory,
        )

    def follow(
        self,
        features: Float[Tensor, "b f"],
        action: Float[Tensor, "b a"],
        embedding: Float[Tensor, "b s"],
    ) -> Float[Tensor, "b f"]:
        """One step of the filter: what to expect, corrected by what was seen."""
        return self.infer(self.expected(features, action), embedding).features

    def reward_of(
        self, next_features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b"]:
        """r(s, a, s′): what was before is in the memory of what is after."""
        return reward_of(self.reward, next_features, action, self.config)

    def progress_of(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b"]:
        return self.coverage(self._scaled(features))[:, 0].to(features.dtype)

    def reconstruct(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b d"]:
        """The autoencoder's latent, which it paints as a frame."""
        off = self.reconstruction(self._scaled(features)).to(features.dtype)
        return features[:, : self.stochastic_size] + self.config.change_scale * off

    def away(
        self, features: Float[Tensor, "b f"], others: Float[Tensor, "b f"]
    ) -> Float[Tensor, "b"]:
        """Of positions alone, root mean square."""
        off = (features - others)[:, : self.stochastic_size]
        return (off / self.config.change_scale).square().mean(1).sqrt()

    def picture(self, features: Float[Tensor, "b f"], global_model: KeypointGlobalModel) -> Seen:
        frames = global_model.autoencoder.decode(self.reconstruct(features))
        return Seen(frames=frames, proprio=features.new_zeros(len(features), 0))

    def surrogate(self, logged: Logged | None) -> "RehearsingSurrogate":
        from wm_gym.models.keypoints.surrogate import surrogate_of

        return surrogate_of(self, logged)

    def _scaled(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b f"]:
        return scaled(features, self.stochastic_size, self.config.scale)


class Dynamics(nn.Module):
    """The GRU and the prior: features and an action to the next features, and how sure."""

    def __init__(
        self,
        stochastic: int,
        action_size: int,
        memory: int,
        width: int,
        blocks: int,
        scale: float,
        change_scale: float,
    ) -> None:
        super().__init__()
        self.stochastic, self.scale, self.change_scale = stochastic, scale, change_scale
        self.stem = nn.Linear(stochastic + memory + action_size, width)
        self.trunk = nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.gru = nn.GRUCell(width, memory)
        self.prior = network(width + memory, width, 1, 2 * stochastic)

    def forward(self, features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]) -> Belief:
        told = torch.cat([scaled(features, self.stochastic, self.scale), action], dim=1)
        x = self.trunk(self.stem(told))
        memory = self.gru(x, features[:, self.stochastic :]).to(features.dtype)
        outlook = self.prior(torch.cat([x, memory], dim=1)).to(features.dtype)
        change, width = outlook.chunk(2, dim=1)
        return Belief(
            mean=features[:, : self.stochastic] + self.change_scale * change,
            deviation=self.change_scale * (SUREST_PRIOR + softplus(width)),
            memory=memory,
        )


def scaled(features: Float[Tensor, "b f"], stochastic: int, scale: float) -> Float[Tensor, "b f"]:
    """As networks take them: positions of order one, as the memory is."""
    return torch.cat([features[:, :stochastic] / scale, features[:, stochastic:]], dim=1)


def reward_of(
    head: nn.Module,
    next_features: Float[Tensor, "b f"],
    action: Float[Tensor, "b a"],
    config: Any,
) -> Float[Tensor, "b"]:
    """In the units that rewards have."""
    told = torch.cat([scaled(next_features, 2 * config.keypoints, config.scale), action], dim=1)
    return config.reward_mean + config.reward_scale * head(told)[:, 0].to(told.dtype)
