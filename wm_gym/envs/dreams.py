"""Dreams as tensors: what n of them are at a moment, and the one step that leads on from there.

`step` and `step_with_grad` are two doors of this step, `following`. It draws nothing, changes
nothing and looks into no state: noise is a function of each dream's key and clock.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from wm_gym.models.colours import as_colours, to_colour
from wm_gym.models.coupling import swap
from wm_gym.models.noise import shaped_noise
from wm_gym.models.protocol import Outcome, Prefill
from wm_gym.models.world_model import WorldModel


@dataclass(frozen=True, kw_only=True, eq=False)
class Dreams:
    """n dreams at one moment: a tree (`wm_gym.models.trees`)."""

    state: Any
    """Of the global model; nobody looks into it."""

    outcome: Outcome
    frames: UInt8[Tensor, "b h w c"]
    proprio: Float[Tensor, "b p"]
    features: Float[Tensor, "b f"]
    """What the local model's filter makes of all that it has seen."""

    task: Int64[Tensor, "b"]
    key: Int64[Tensor, "b"]
    """Noise is this dream's, "k", at this step, whatever is dreamt beside it."""

    step: Int64[Tensor, "b"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """Where a step leads, before any reset."""

    dreams: Dreams
    colours: Float[Tensor, "b h w c"] | None
    """Its frames' values, where gradients through the global model go on from them."""


def noise_of(dreams: Dreams, shape: tuple[int, ...]) -> Float[Tensor, "b *n"]:
    return shaped_noise(dreams.key, dreams.step, shape)


def following(
    model: WorldModel,
    dreams: Dreams,
    action: Float[Tensor, "b a"],
    noise: Float[Tensor, "b *n"],
    *,
    denoising_steps: int,
    filtering: bool,
) -> Step:
    """One step of all of them; differentiable in states and actions where these ask for it."""
    out = model.step(dreams.state, action, noise, denoising_steps)
    seen = model.decode(out.state)
    frames, colours = to_colour(seen.frames.detach()), None
    if seen.frames.requires_grad:  # straight-through: colours are whole numbers
        colours = swap(frames.to(seen.frames), as_colours(seen.frames))
    features = dreams.features
    if filtering:
        watched = frames if colours is None else colours
        embedding = model.local_model.embed(watched, seen.proprio)
        features = model.local_model.follow(features, action, embedding)
    return Step(
        dreams=Dreams(
            state=out.state, outcome=out.outcome, frames=frames, proprio=seen.proprio,
            features=features, task=dreams.task, key=dreams.key, step=dreams.step + 1,
        ),
        colours=colours,
    )  # fmt: skip


def begun(
    model: WorldModel,
    prefill: Prefill,
    features: Float[Tensor, "b f"],
    key: Int64[Tensor, "b"],
) -> Dreams:
    """From real frames; `features` are what a filter makes of them."""
    out = model.begin(prefill)
    return Dreams(
        state=out.state, outcome=out.outcome, frames=prefill.frames[:, -1],
        proprio=prefill.proprio[:, -1], features=features, task=prefill.task, key=key,
        step=torch.zeros_like(key),
    )  # fmt: skip


def example(model: WorldModel) -> Dreams:
    """One of this model: what all others look like."""
    spec, device, k = model.spec, model.device, model.spec.prefill
    nothing = torch.zeros(1, k, 0, dtype=torch.float32, device=device)
    count = torch.zeros(1, dtype=torch.int64, device=device)
    prefill = Prefill(
        frames=nothing.new_zeros(1, k, *spec.frame_shape, dtype=torch.uint8),
        proprio=nothing.new_zeros(1, k, spec.proprio_size),
        action=nothing.new_zeros(1, k - 1, spec.action_size),
        known=nothing.new_ones(1, k, dtype=torch.bool),
        task=count,
    )
    features = nothing.new_zeros(1, model.local_model.feature_size)
    return begun(model, prefill, features, count)
