"""A world model that has learned nothing, small enough to be made anew in every test."""

from functools import cache

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from wm_gym.models.keypoints.autoencoder import Autoencoder
from wm_gym.models.keypoints.denoiser import Denoiser
from wm_gym.models.keypoints.global_model import KeypointGlobalModel
from wm_gym.models.keypoints.heads import Heads
from wm_gym.models.keypoints.local_model import KeypointLocalModel
from wm_gym.models.logged import Logged
from wm_gym.models.starts import Start, Starts
from wm_gym.models.world_model import Card, WorldModel
from wm_gym.systems import System, system_named

KEYPOINTS, CHANNELS, WIDTH, PATCH, MEMORY = 4, 16, 32, 8, 12
STARTS = 4
"""Half of them of one frame, half of as many as the context."""


def make_world_model(system: str = "PushT", seed: int = 0) -> WorldModel:
    """Of a registered system; its dreams move, finitely and meaninglessly. Equal for equal seeds,
    and the global generator is left alone."""
    record = system_named(system)
    sizes = {"latent_size": 2 * KEYPOINTS, "action_size": record.action_size}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = Autoencoder(record.frame_shape, PATCH, KEYPOINTS, CHANNELS)
        dreamer = Denoiser(**sizes, context=record.context, width=WIDTH, blocks=1)
        nn.init.normal_(dreamer.out.weight, std=0.1)
        nn.init.normal_(autoencoder.background, std=0.1)
        heads = Heads(**sizes, width=WIDTH, blocks=1)
        local_model = KeypointLocalModel(
            record.frame_shape, record.action_size, PATCH, KEYPOINTS, CHANNELS, MEMORY, WIDTH, 1,
            head_width=WIDTH,
        )  # fmt: skip
        logged = make_logged(local_model)
    card = Card(system=system, denoising_steps=1, facts={"made": "at random", "seed": seed})
    model = WorldModel(
        KeypointGlobalModel(autoencoder, dreamer, heads), local_model,
        card=card, starts=make_starts(system, seed), logged=logged,
    )  # fmt: skip
    return model.eval().requires_grad_(False)


def make_logged(local_model: KeypointLocalModel, *, windows: int = 3, length: int = 5) -> Logged:
    return Logged(
        embedding=torch.randn(windows, length, local_model.stochastic_size) / 3,
        action=torch.rand(windows, length - 1, local_model.action_size) * 2 - 1,
        reward=-torch.rand(windows, length - 1),
    )


@cache
def make_starts(system: str, seed: int = 0) -> Starts:
    rng, record = np.random.default_rng(seed), system_named(system)
    starts = []
    for number in range(STARTS):
        steps = 0 if number % 2 else record.context - 1
        starts.append(drive(record, steps, rng))
    return Starts.pack(starts)


def drive(system: System, steps: int, rng: np.random.Generator) -> Start:
    """The first frames of an episode of the real system, driven at random."""
    env = gym.make(next(iter(system.simulators)), disable_env_checker=True)
    frames = [env.reset(seed=int(rng.integers(1000)))[0]]
    action = rng.uniform(-1, 1, (steps, system.action_size)).astype(np.float32)
    frames += [env.step(each)[0] for each in action]
    env.close()
    return Start(frames=np.stack(frames), action=action)
