"""The local model: a light recurrent filter of latents, whose gradients a dream lends."""

from typing import TYPE_CHECKING, Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.functional import silu

from wm_gym.models.logged import Logged
from wm_gym.models.memory.dynamics import one_hot
from wm_gym.models.memory.tokenizer import Tokenizer
from wm_gym.models.networks import Residual, network
from wm_gym.models.protocol import Seen

if TYPE_CHECKING:
    from wm_gym.models.surrogate import RehearsingSurrogate


class Outlook(nn.Module):
    """Features and an action to the next features, of what was seen or of what is expected.

        expected   ẑₜ₊₁ = zₜ + change · f(mₜ, zₜ, aₜ)
        memory     mₜ₊₁ = GRU(mₜ, [zₜ₊₁, aₜ])       of ẑ where nothing was seen

    `change` is what latents move by in a step. Whatever is remembered is within (−1, 1).
    """

    change: Float[Tensor, "d"]

    def __init__(
        self, latent_size: int, action_size: int, tasks: int, memory: int, width: int, blocks: int
    ) -> None:
        super().__init__()
        self.latent_size, self.memory_size = latent_size, memory
        self.asked = tasks if tasks > 1 else 0
        self.register_buffer("change", torch.ones(latent_size))
        self.stem = nn.Linear(memory + latent_size + self.asked + action_size, width)
        self.trunk = nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, latent_size)
        nn.init.zeros_(self.out.weight)
        self.gru = nn.GRUCell(latent_size + self.asked + action_size, memory)

    def parts(self, features: Float[Tensor, "b f"]) -> tuple[Tensor, Tensor, Tensor]:
        """Memory, latent, and the task where there are several."""
        m, d = self.memory_size, self.latent_size
        return features[:, :m], features[:, m : m + d], features[:, m + d :]

    def expected(
        self, features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b d"]:
        """The next latent."""
        x = self.trunk(self.stem(torch.cat([features, action], dim=1)))
        moved = self.out(silu(self.norm(x))).to(features.dtype)
        return self.parts(features)[1] + self.change * moved

    def seen(
        self,
        features: Float[Tensor, "b f"],
        action: Float[Tensor, "b a"],
        latent: Float[Tensor, "b d"],
    ) -> Float[Tensor, "b f"]:
        """The next features, where this is the next latent."""
        memory, _, task = self.parts(features)
        told = torch.cat([latent, task, action], dim=1)
        after = self.gru(told, memory).to(features.dtype)
        return torch.cat([after, latent, task], dim=1)

    def forward(
        self, features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b f"]:
        return self.seen(features, action, self.expected(features, action))


class Follower(ModelMixin, ConfigMixin):
    """All of the local model that is its own."""

    @register_to_config
    def __init__(
        self,
        latent_size: int = 64,
        action_size: int = 2,
        tasks: int = 1,
        memory: int = 256,
        width: int = 256,
        blocks: int = 2,
        head_width: int = 192,
        reward_mean: float = 0.0,
        reward_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.dynamics = Outlook(latent_size, action_size, tasks, memory, width, blocks)
        self.reward = network(self.feature_size + action_size, head_width, 1, 1)
        self.progress = network(self.feature_size, head_width, 1, 1)

    @property
    def feature_size(self) -> int:
        outlook = self.dynamics
        return outlook.memory_size + outlook.latent_size + outlook.asked

    def begin(self, latent: Float[Tensor, "b d"], task: Int[Tensor, "b"]) -> Float[Tensor, "b f"]:
        outlook, n = self.dynamics, len(latent)
        asked = one_hot(task, outlook.asked).to(latent)
        nothing = latent.new_zeros(n, outlook.memory_size)
        before = torch.cat([nothing, torch.zeros_like(latent), asked], dim=1)
        return outlook.seen(before, latent.new_zeros(n, self.config.action_size), latent)

    def reward_of(
        self, next_features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b"]:
        return reward_of(self.reward, next_features, action, self.config)

    def progress_of(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b"]:
        return self.progress(features)[:, 0].to(features.dtype)


def reward_of(
    head: nn.Module,
    next_features: Float[Tensor, "b f"],
    action: Float[Tensor, "b a"],
    config: Any,
) -> Float[Tensor, "b"]:
    """r(s, a, s′), in the units that rewards have: what was before is in the memory after."""
    said = head(torch.cat([next_features, action], dim=1))[:, 0].to(next_features.dtype)
    return config.reward_mean + config.reward_scale * said


class MemoryLocalModel(nn.Module):
    """A recurrent filter of what the tokenizer, which is the global model's, makes of moments.

    Features are (m, z, task): a memory, the latent of what is seen, and the task where there are
    several. So a policy is told of what went out of view. They never change once trained;
    gradients come from copies that may learn on (`RehearsingSurrogate`).
    """

    def __init__(self, tokenizer: Tokenizer, follower: Follower) -> None:
        super().__init__()
        self.tokenizer, self.follower = tokenizer, follower
        sizes = {tokenizer.latent_size, int(follower.config.latent_size)}
        if len(sizes) > 1:
            raise ValueError(f"parts disagree: latents of {sizes}")

    @property
    def feature_size(self) -> int:
        return self.follower.feature_size

    @property
    def embedding_size(self) -> int:
        return self.tokenizer.latent_size

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        return self.tokenizer.frame_shape

    @property
    def proprio_size(self) -> int:
        return self.tokenizer.proprio_size

    @property
    def action_size(self) -> int:
        return int(self.follower.config.action_size)

    @property
    def device(self) -> torch.device:
        return self.follower.dynamics.out.weight.device

    def cast(self, dtype: torch.dtype) -> None:
        """All but the tokenizer's pictures stays float32."""
        self.tokenizer.cast(dtype)

    def embed(
        self,
        frames: UInt8[Tensor, "b h w c"] | Float[Tensor, "b h w c"],
        proprio: Float[Tensor, "b p"],
    ) -> Float[Tensor, "b d"]:
        return self.tokenizer.encode(frames, proprio)

    def begin(
        self, embedding: Float[Tensor, "b d"], task: Int[Tensor, "b"]
    ) -> Float[Tensor, "b f"]:
        return self.follower.begin(embedding, task)

    def follow(
        self,
        features: Float[Tensor, "b f"],
        action: Float[Tensor, "b a"],
        embedding: Float[Tensor, "b d"],
    ) -> Float[Tensor, "b f"]:
        """What is seen is believed."""
        return self.follower.dynamics.seen(features, action, embedding)

    def predict(
        self, features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b f"]:
        predicted: Float[Tensor, "b f"] = self.follower.dynamics(features, action)
        return predicted

    def reward_of(
        self, next_features: Float[Tensor, "b f"], action: Float[Tensor, "b a"]
    ) -> Float[Tensor, "b"]:
        return self.follower.reward_of(next_features, action)

    def progress_of(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b"]:
        return self.follower.progress_of(features)

    def away(
        self, features: Float[Tensor, "b f"], others: Float[Tensor, "b f"]
    ) -> Float[Tensor, "b"]:
        """Of latents alone, root mean square."""
        outlook = self.follower.dynamics
        off = outlook.parts(features - others)[1] / outlook.change
        return off.square().mean(1).sqrt()

    def picture(self, features: Float[Tensor, "b f"], global_model: Any) -> Seen:
        return global_model.tokenizer.decode(self.follower.dynamics.parts(features)[1])

    def surrogate(self, logged: Logged | None) -> "RehearsingSurrogate":
        from wm_gym.models.memory.surrogate import MemoryLent
        from wm_gym.models.surrogate import RehearsingSurrogate

        return RehearsingSurrogate(MemoryLent(self.follower), self, logged)
