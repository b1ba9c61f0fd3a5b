"""Worlds with a memory, small enough to be made anew in every test."""

import numpy as np
import torch

from wm_gym.models.logged import Logged
from wm_gym.models.memory.dynamics import Dynamics
from wm_gym.models.memory.heads import Heads
from wm_gym.models.memory.kind import assembled
from wm_gym.models.memory.local_model import Follower
from wm_gym.models.memory.tokenizer import Tokenizer
from wm_gym.models.starts import Start, Starts
from wm_gym.models.world_model import Card, WorldModel
from wm_gym.systems import PUSH_CUBE


def fresh(frame_shape, *, action_size=3, prefill=3, proprio_size=0, tasks=1, ends=True):
    """Both models; their dreams move, finitely and meaninglessly, and seldom end."""
    tokenizer = Tokenizer(frame_shape, proprio_size, cell_channels=4, channels=16)
    known = {"latent_size": tokenizer.latent_size, "tasks": tasks}
    dynamics = Dynamics(
        tokenizer.cells, 4, proprio_size, action_size, tasks, memory=16, points=4, directions=2,
        kept=3, apart=2, recent=3, inputs=32, touch_width=16, width=32, channels=16,
        blocks=1, prefill=prefill,
    )  # fmt: skip
    heads = Heads(**known, context_size=dynamics.context_size, width=32, ends=ends)
    follower = Follower(
        **known, action_size=action_size, memory=16, width=32, blocks=1, head_width=32
    )
    with torch.no_grad():
        for layer in (dynamics.expected[-1], dynamics.flow[-1], follower.dynamics.out):
            torch.nn.init.normal_(layer.weight, std=0.1)
        heads.progress[-1].bias += 0.5
        if heads.end is not None:
            heads.end[-1].bias -= 1.0
    parts = {"tokenizer": tokenizer, "dynamics": dynamics, "heads": heads, "local_model": follower}
    return assembled(parts)


def push_cube_model():
    """Of Push Cube, to dream with at once."""
    felt = PUSH_CUBE.proprio_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        both = fresh(PUSH_CUBE.frame_shape, prefill=4, proprio_size=felt)
    rng = np.random.default_rng(0)
    starts = [
        Start(
            frames=rng.integers(0, 256, (k, *PUSH_CUBE.frame_shape), dtype=np.uint8),
            action=np.zeros((k - 1, 3), np.float32),
            felt=rng.normal(size=(k, felt)).astype(np.float32),
        )
        for k in (1, 4)
    ]
    model = WorldModel(*both, card=Card(system="PushCube"), starts=Starts.pack(starts))
    return model.eval().requires_grad_(False)


def logged_of(local_model, *, windows=3, length=5):
    rng = torch.Generator().manual_seed(0)
    return Logged(
        embedding=torch.randn(windows, length, local_model.embedding_size, generator=rng),
        action=torch.rand(windows, length - 1, local_model.action_size, generator=rng) * 2 - 1,
        reward=-torch.rand(windows, length - 1, generator=rng),
    )
