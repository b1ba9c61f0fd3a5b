"""World models in closed form and float64, of which every gradient is known.

    latent   z′ = A z + B a + noise            memory   h′ = C h + D z + E a
    reward   w · (z′, h′) + v · a

or, curved, each of these through smooth functions. A frame holds the bytes of its latent, so that
an eye reads it exactly; the gradient goes by the first few colours, straight through.
"""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from wm_gym.models import trees
from wm_gym.models.colours import to_colour
from wm_gym.models.keypoints.global_model import KeypointGlobalModel
from wm_gym.models.keypoints.heads import Judgement
from wm_gym.models.keypoints.local_model import Belief, KeypointLocalModel
from wm_gym.models.starts import Start, Starts
from wm_gym.models.world_model import Card, WorldModel

LATENT, MEMORY, ACTION, CONTEXT = 4, 3, 2, 2
FRAME = (96, 96, 3)
FEATURES = LATENT + MEMORY
NOISE = 0.01


class Law(nn.Module):
    """How a latent and a memory move, and what that is worth."""

    def __init__(self, seed: int, *, curved: bool = False) -> None:
        super().__init__()
        rng, self.curved = torch.Generator().manual_seed(seed), curved
        sizes = {
            "A": (LATENT, LATENT), "B": (LATENT, ACTION),
            "C": (MEMORY, MEMORY), "D": (MEMORY, LATENT), "E": (MEMORY, ACTION),
            "w": (FEATURES,), "v": (ACTION,),
        }  # fmt: skip
        for name, shape in sizes.items():
            values = torch.randn(shape, generator=rng, dtype=torch.float64) / 2
            setattr(self, name, nn.Parameter(values, requires_grad=False))

    def move(self, z: Tensor, a: Tensor) -> Tensor:
        moved = z @ self.A.T + a @ self.B.T
        return z + 0.3 * torch.tanh(moved) if self.curved else moved

    def remember(self, h: Tensor, z: Tensor, a: Tensor) -> Tensor:
        memory = h @ self.C.T + z @ self.D.T + a @ self.E.T
        return torch.tanh(memory) if self.curved else memory

    def reward(self, features: Tensor, a: Tensor) -> Tensor:
        """Of a latent alone, too, which is all that heads are told."""
        worth = features @ self.w[: features.shape[1]] + a @ self.v
        if self.curved:
            return torch.sin(features[:, :LATENT]).sum(1) * torch.cos(a).sum(1)
        return worth

    def jacobians(self) -> tuple[Tensor, Tensor]:
        """Of (z′, h′) by (z, h), and by a; of the linear law."""
        nothing = torch.zeros(LATENT, MEMORY, dtype=torch.float64)
        state = torch.cat([torch.cat([self.A, nothing], 1), torch.cat([self.D, self.C], 1)])
        return state, torch.cat([self.B, self.E])


class Dynamics(nn.Module):
    def __init__(self, law: Law) -> None:
        super().__init__()
        self.law = law

    def forward(self, features: Tensor, action: Tensor) -> Belief:
        z, h = features[:, :LATENT], features[:, LATENT:]
        action = action.double()  # of a plain step it is in float32
        mean, memory = self.law.move(z, action), self.law.remember(h, z, action)
        return Belief(mean=mean, deviation=torch.ones_like(mean), memory=memory)


class Reward(nn.Module):
    def __init__(self, law: Law, scale: float) -> None:
        super().__init__()
        self.law, self.scale = law, scale

    def forward(self, told: Tensor) -> Tensor:
        positions, memory, action = told.split([LATENT, MEMORY, ACTION], dim=1)
        return self.law.reward(torch.cat([positions * self.scale, memory], 1), action)[:, None]


class Nothing(nn.Module):
    """A posterior that believes the eye."""

    def forward(self, told: Tensor) -> Tensor:
        return told.new_zeros(len(told), 2 * LATENT)


class Write(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, latent: Tensor) -> Tensor:
        told = latent.double().contiguous().view(torch.uint8)
        frames = latent.new_full((len(latent), FRAME[2] * FRAME[0] * FRAME[1]), -1.0)
        frames[:, : told.shape[1]] = told / 127.5 - 1
        return frames.view(-1, FRAME[2], *FRAME[:2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.flatten(1)[:, :LATENT].double()


class Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, frames: Tensor) -> Tensor:
        ctx.frames = frames.new_zeros(frames.shape)
        told = ((frames.flatten(1)[:, : 8 * LATENT] + 1) * 127.5).round().to(torch.uint8)
        return told.contiguous().view(torch.float64)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        frames = ctx.frames.clone()
        frames.flatten(1)[:, :LATENT] = grad
        return frames


class Eye(nn.Module):
    """Of whole colour values, channels last."""

    def forward(self, frames: Tensor) -> Tensor:
        return Read.apply(frames.movedim(-1, 1).double() / 127.5 - 1)


class Painter(nn.Module):
    """The autoencoder."""

    config = SimpleNamespace(frame_shape=FRAME)
    latent_size = LATENT

    def encode(self, frames: Tensor) -> Tensor:
        return Read.apply(frames)

    def decode(self, latent: Tensor) -> Tensor:
        return Write.apply(latent)


class Dreamer(nn.Module):
    """The global model."""

    config = SimpleNamespace(
        latent_size=LATENT, action_size=ACTION, context=CONTEXT, sigma_min=0.1, sigma_max=5.0
    )

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.law, self.out = law, nn.Linear(1, 1, dtype=torch.float64)

    def next_latent(self, latents: Tensor, action: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
        return self.law.move(latents[:, -1], action[:, -1].double()) + NOISE * noise


class Judge(nn.Module):
    """The heads."""

    config = SimpleNamespace(latent_size=LATENT, action_size=ACTION, ends=False)
    device = torch.device("cpu")

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.law = law

    def judge(self, latent: Tensor, action: Tensor, next_latent: Tensor) -> Judgement:
        reward = self.law.reward(next_latent, action.double())
        coverage = self.coverage_of(next_latent)
        ended = torch.zeros_like(reward, dtype=torch.bool)
        error = torch.zeros_like(reward)
        return Judgement(reward=reward, coverage=coverage, error=error, ended=ended)

    def coverage_of(self, latent: Tensor) -> Tensor:
        return torch.sigmoid(latent[:, 0])


def make_linear_model(law: Law, local_law: Law) -> WorldModel:
    """One law moves the dream, another lends the gradients: they may be the same."""
    with torch.random.fork_rng(devices=[]):
        local = KeypointLocalModel(FRAME, ACTION, 8, LATENT // 2, 8, MEMORY, 8, 1).double()
    local.eye, local.posterior = Eye(), Nothing()
    local.dynamics = Dynamics(local_law)
    local.reward = Reward(local_law, local.config.scale)
    rng = torch.Generator().manual_seed(0)
    latents = torch.rand(3, 1, LATENT, generator=rng, dtype=torch.float64) - 0.5
    none = np.zeros((0, ACTION), np.float32)
    starts = [Start(frames=to_colour(Write.apply(z)).numpy(), action=none) for z in latents]
    model = WorldModel(
        KeypointGlobalModel(Painter(), Dreamer(law), Judge(law)), local,
        card=Card(system="PushT"), starts=Starts.pack(starts),
    )  # fmt: skip
    return model.eval().requires_grad_(False)


def in_float64(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def make_linear_env(model: WorldModel, num_envs: int = 2, **kwargs: Any) -> Any:
    """All that it computes is in float64."""
    kwargs = {"obs_type": "latent", "autoreset_mode": "SameStep", **kwargs}
    env = gym.make_vec("WM-v0", num_envs=num_envs, world_model=model, **kwargs).unwrapped
    world = env._episodes.world
    for name in ("now", "_like"):
        setattr(world, name, trees.mapped(in_float64, getattr(world, name)))
    return env
