"""How worlds with a memory are registered."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from wm_gym.models.kind import Kind, Part
from wm_gym.models.memory.dynamics import Dynamics, FrameEncoder
from wm_gym.models.memory.global_model import MemoryGlobalModel
from wm_gym.models.memory.heads import Heads
from wm_gym.models.memory.local_model import Follower, MemoryLocalModel
from wm_gym.models.memory.tokenizer import Tokenizer


def assembled(parts: Mapping[str, Any]) -> tuple[MemoryGlobalModel, MemoryLocalModel]:
    """Of one tokenizer, which is both models'."""
    tokenizer, follower = parts["tokenizer"], parts["local_model"]
    global_model = MemoryGlobalModel(tokenizer, parts["dynamics"], parts["heads"])
    if (tasks := int(follower.config.tasks)) != global_model.spec.tasks:
        raise ValueError(f"parts disagree: {tasks} and {global_model.spec.tasks} tasks")
    return global_model, MemoryLocalModel(tokenizer, follower)


def parts_of(global_model: Any, local_model: Any) -> dict[str, nn.Module]:
    ours = isinstance(global_model, MemoryGlobalModel)
    if not (ours and isinstance(local_model, MemoryLocalModel)):
        return {}
    return {
        "tokenizer": global_model.tokenizer,
        "dynamics": global_model.dynamics,
        "heads": global_model.heads,
        "local_model": local_model.follower,
    }


def timed(
    global_model: MemoryGlobalModel, local_model: MemoryLocalModel
) -> list[tuple[object, str, str]]:
    return [
        (global_model.dynamics, "seen_from", "denoiser"),
        (global_model.dynamics, "go_on", "memory"),
        (global_model.heads, "judge", "heads"),
        (global_model.tokenizer, "painted", "painter"),
    ]


@torch.no_grad()
def flops(global_model: MemoryGlobalModel, local_model: MemoryLocalModel) -> dict[str, int]:
    """The denoiser's with one call."""
    spec, tokenizer, dynamics = global_model.spec, global_model.tokenizer, global_model.dynamics
    latent = torch.zeros(1, tokenizer.latent_size)
    action, task = torch.zeros(1, spec.action_size), torch.zeros(1, dtype=torch.int64)
    memory = dynamics.nothing(1, torch.zeros(spec.frame_shape, dtype=torch.uint8))
    encoder = FrameEncoder(tokenizer=tokenizer)
    with FlopCounterMode(display=False) as painter:
        tokenizer.painted(latent[:, : tokenizer.code_size])
    with FlopCounterMode(display=False) as remembering:
        dynamics.go_on(memory, action[:, None], task)
    with FlopCounterMode(display=False) as denoiser:
        dynamics.seen_from(encoder, memory, task, latent, global_model.sigmas(1))
    counters = {"painter": painter, "memory": remembering, "denoiser": denoiser}
    return {name: int(counter.get_total_flops()) for name, counter in counters.items()}


def fresh(
    frame_shape: tuple[int, int, int], action_size: int, prefill: int, tiny: bool
) -> tuple[MemoryGlobalModel, MemoryLocalModel]:
    sees: dict[str, Any] = {}
    thinks: dict[str, Any] = {}
    follows: dict[str, Any] = {}
    judges: dict[str, Any] = {}
    if tiny:
        sees = {"cell_channels": 4, "channels": 16}
        thinks = {
            "memory": 16, "points": 4, "directions": 2, "recent": 2, "inputs": 32,
            "touch_width": 16, "width": 32, "channels": 16, "blocks": 1,
        }  # fmt: skip
        judges = {"width": 32}
        follows = {"memory": 16, "width": 32, "blocks": 1, "head_width": 32}
    tokenizer = Tokenizer(frame_shape, **sees)
    sizes = {"latent_size": tokenizer.latent_size}
    dynamics = Dynamics(
        cells=tokenizer.cells, cell_channels=tokenizer.config.cell_channels,
        action_size=action_size, prefill=prefill, **thinks,
    )  # fmt: skip
    heads = Heads(**sizes, context_size=dynamics.context_size, **judges)
    follower = Follower(**sizes, action_size=action_size, **follows)
    parts = {"tokenizer": tokenizer, "dynamics": dynamics, "heads": heads, "local_model": follower}
    return assembled(parts)


MEMORY = Kind(
    name="memory",
    parts={
        "tokenizer": Part(make=Tokenizer, label="MemoryTokenizer"),
        "dynamics": Part(make=Dynamics, label="MemoryDynamics"),
        "heads": Part(make=Heads, label="MemoryHeads"),
        "local_model": Part(make=Follower, label="MemoryFollower"),
    },
    assembled=assembled,
    parts_of=parts_of,
    summary="A memory with landmarks, and a diffusion model of what is seen from there",
    fresh=fresh,
    unit="1.4: all is lost",
    curves={
        "tokenizer": ("psnr",),
        "dynamics": ("error_15", "error_1"),
        "heads": ("progress_error", "reward_error"),
        "local_model": ("error",),
    },
    timed=timed,
    flops=flops,
)
