"""What memory costs: the speed of dreams, and of one step of a dream by how long its past is.

Beside them stands a DIAMOND-sized network of the same pictures that is told as many frames. It is
told in channels, as DIAMOND is told four, which is the cheapest way that there is: a frame more is
64 filters more of the first layer, where attention would look at all of them in each block.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from wm_gym.envs.dream_starts import prefill_of
from wm_gym.models.world_model import WorldModel, fast_bfloat16
from wm_gym.numbers import check_least
from wm_gym.programs.bench_diamond import STEPS, DiamondSized, diamond_sized, dreaming, size_of
from wm_gym.programs.bench_dream import PEER, Dreams
from wm_gym.programs.bench_systems import batched
from wm_gym.programs.bench_timing import Speed, Step, in_turns
from wm_gym.programs.machine import cores

ObsType = Literal["pixels", "latent"]
BATCH, LATENTS, PIXELS, SINGLE, FASTER, LONGER = 64, 1500.0, 800.0, 15.0, 10.0, 1.5
"""The aims: steps/s of so many dreams, milliseconds of one, times the network beside, and the
longest past but one over the shortest."""


@dataclass(frozen=True, kw_only=True)
class Pasts:
    pasts: tuple[int, ...] = (4, 32, 96, 200)
    """How many frames came before a step, two or more numbers, least first."""

    memory_envs: tuple[int, ...] = (1, 16, 64)
    """How many dreams to step in one batch, for latents and for pixels, one or more numbers."""

    told: int = 96
    """How many frames the network beside them is told: those that a memory is judged by."""

    told_batch: int = 4
    """How many of its dreams to step in one batch: its steps/s hardly depend on it."""

    def __post_init__(self) -> None:
        if len(self.pasts) < 2 or list(self.pasts) != sorted(set(self.pasts)):
            raise ValueError(f"pasts are {self.pasts}, expected two or more numbers, least first")
        if not self.memory_envs:
            raise ValueError("expected at least one of memory_envs")
        for number in (*self.pasts, *self.memory_envs, self.told, self.told_batch):
            check_least(1, frames_or_dreams=number)


def bench_memory(dreams: Dreams, pasts: Pasts, *, seconds: float, rounds: int) -> dict[str, Any]:
    """All in turn, on all cores, in the number format that `dtype="auto"` takes."""
    torch.set_num_threads(cores())
    model = WorldModel.from_pretrained(dreams.world_model)
    dtype = torch.bfloat16 if fast_bfloat16(model.device) else torch.float32
    model = model.cast(dtype)
    obs_types: tuple[ObsType, ...] = ("latent", "pixels")
    rows = {
        _row(obs_type, n): _dreams(model, obs_type, n)
        for n in pasts.memory_envs
        for obs_type in obs_types
    }
    beside, told = _beside(model, pasts.told, dtype), _peer_row(pasts)
    speeds = in_turns(
        {**rows, told: _peer(model, beside, pasts.told, pasts.told_batch)},
        seconds=seconds, rounds=rounds, title="memory",
    )  # fmt: skip
    curve = _curve(model, pasts.pasts, dtype, seconds=seconds, rounds=rounds)
    aims = _aims(speeds, told, curve, pasts)
    _print(speeds, curve, aims, str(dtype).removeprefix("torch."), size_of(beside))
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "dreams": {name: speed.figures() for name, speed in speeds.items()},
        "peer": told,
        "by_past": [
            {"frames": frames, "ms": ours.milliseconds(0.5), "peer_ms": theirs.milliseconds(0.5)}
            for frames, (ours, theirs) in curve.items()
        ],
        "aims": aims,
    }


def _row(obs_type: str, n: int) -> str:
    return f"{obs_type}, {n}"


def _peer_row(pasts: Pasts) -> str:
    return f"{PEER}, told {pasts.told} frames, {pasts.told_batch}"


def _dreams(model: WorldModel, obs_type: ObsType, n: int) -> Step:
    """Their episodes end one after another: now and then some begin anew, as in training."""
    return batched(
        gym.make_vec("WM-v0", num_envs=n, world_model=model, obs_type=obs_type, staggered=True)
    )


def _beside(model: WorldModel, frames: int, dtype: torch.dtype) -> DiamondSized:
    height, width, channels = model.spec.frame_shape
    return diamond_sized(
        dtype, context=frames, side=max(height, width), action=model.spec.action_size,
        channels=channels,
    )  # fmt: skip


def _peer(model: WorldModel, net: DiamondSized, frames: int, batch: int) -> Step:
    height, width, channels = model.spec.frame_shape
    return dreaming(
        net, batch, context=frames, side=max(height, width), action=model.spec.action_size,
        channels=channels,
    )  # fmt: skip


Curve = dict[int, tuple[Speed, Speed]]
"""By the length of a past: one step of one dream, and of the network that is told as much."""


def _curve(
    model: WorldModel, pasts: Sequence[int], dtype: torch.dtype, *, seconds: float, rounds: int
) -> Curve:
    rows: dict[str, Step] = {}
    for frames in pasts:
        rows[f"ours {frames}"] = _after(model, frames)
        rows[f"peer {frames}"] = _peer(model, _beside(model, frames, dtype), frames, 1)
    speeds = in_turns(rows, seconds=seconds, rounds=rounds, title="pasts")
    return {frames: (speeds[f"ours {frames}"], speeds[f"peer {frames}"]) for frames in pasts}


@torch.no_grad()
def _after(model: WorldModel, frames: int) -> Step:
    """The step after so many frames, real and dreamt, again and again, with its picture."""
    starts, spec = model.starts, model.spec
    assert starts is not None  # environments were made of it
    rng = torch.Generator().manual_seed(0)
    start = starts[int(np.argmax(np.diff(starts.first)))]
    seen = min(frames, len(start.frames), spec.prefill)
    start = replace(
        start, frames=start.frames[-seen:], action=start.action[len(start.action) - seen + 1 :],
        felt=start.proprio[-seen:],
    )  # fmt: skip
    state = model.begin(prefill_of([start], spec.prefill, model.device)).state

    def drawn() -> tuple[Tensor, Tensor]:
        action = torch.rand(1, spec.action_size, generator=rng) * 2 - 1
        noise = torch.randn(1, *spec.noise_shape, generator=rng)
        return action.to(model.device), noise.to(model.device)

    for _ in range(frames - seen):
        state = model.step(state, *drawn()).state

    @torch.no_grad()
    def step() -> int:
        model.decode(model.step(state, *drawn()).state).frames.cpu()
        return 1

    return step


def _aims(speeds: dict[str, Speed], peer: str, curve: Curve, pasts: Pasts) -> list[dict[str, Any]]:
    """As far as what they are of was measured."""
    found = []
    for obs_type, aim in {"latent": LATENTS, "pixels": PIXELS}.items():
        if many := speeds.get(_row(obs_type, BATCH)):
            text = f"{obs_type} ≥ {aim:,.0f} steps/s, {BATCH} dreams"
            found.append(_aim(text, many.median >= aim, f"{many.median:,.0f} ({many.span})"))
        if one := speeds.get(_row(obs_type, 1)):
            text, took = f"{obs_type} ≤ {SINGLE:g} ms, one dream", one.milliseconds(0.5)
            found.append(_aim(text, took <= SINGLE, f"{took:.1f} ms"))
    if many := speeds.get(_row("pixels", BATCH)):
        times = many.median / speeds[peer].median
        text = f"pixels ≥ {FASTER:g} × {PEER} told {pasts.told} frames"
        found.append(_aim(text, times >= FASTER, f"{times:,.0f} ×"))
    least, long = pasts.pasts[0], pasts.told if pasts.told in curve else pasts.pasts[-1]
    ratio = curve[long][0].milliseconds(0.5) / curve[least][0].milliseconds(0.5)
    text = f"a step after {long} frames ≤ {LONGER:g} × one after {least}"
    return [*found, _aim(text, ratio <= LONGER, f"{ratio:.2f} ×")]


def _aim(text: str, met: bool, came: str) -> dict[str, Any]:
    return {"aim": text, "met": met, "came": came}


def _print(
    speeds: dict[str, Speed], curve: Curve, aims: list[dict[str, Any]], dtype: str, size: int
) -> None:
    many = f"{cores()} cores" if cores() > 1 else "one core"
    print(f"{f'dreams, {dtype}, {many}':<44}{'steps/s':>10}{'range':>16}{'ms':>10}{'99 %':>10}")
    for name, speed in speeds.items():
        times = "".join(f"{speed.milliseconds(share):>10.1f}" for share in (0.5, 0.99))
        print(f"{name:<44}{speed.median:>10,.1f}{speed.span:>16}{times}")
    print(f"{PEER}: {size / 1e6:.1f} M, {STEPS} steps a frame\n")
    print(f"{'one step of one dream, ms, after':<34}{'ours':>8}{PEER:>16}")
    for frames, (ours, theirs) in curve.items():
        told = f"{frames} frames"
        both = f"{ours.milliseconds(0.5):>8.1f}{theirs.milliseconds(0.5):>16.1f}"
        print(f"{told:>34}{both}")
    for aim in aims:
        print(f"{'met' if aim['met'] else 'missed':<8}{aim['aim']}: {aim['came']}")
    print()
