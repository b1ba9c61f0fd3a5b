"""The speed of dreams: over batch sizes, denoising steps and number formats, compiled or not."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import gymnasium as gym
import torch

from wm_gym.models.world_model import DTYPES, WorldModel
from wm_gym.numbers import check_least
from wm_gym.programs.bench_diamond import STEPS, diamond_sized, dreaming, size_of
from wm_gym.programs.bench_systems import batched, gym_pusht, ours
from wm_gym.programs.bench_timing import Speed, Step, in_turns
from wm_gym.programs.machine import cores
from wm_gym.programs.options import check_denoising_steps

Dtype = Literal["float32", "bfloat16"]
PEER = "DIAMOND-sized"


@dataclass(frozen=True, kw_only=True)
class Dreams:
    world_model: str = "push-t"
    """The world model: a packaged name such as push-t, or a folder."""

    num_envs: tuple[int, ...] = (1, 16, 64, 256)
    """How many environments to step in one batch, one or more numbers."""

    denoising_steps: tuple[int, ...] = (1, 2, 3)
    """Calls of the diffusion model for each frame, one or more numbers."""

    dtypes: tuple[Dtype, ...] = ("float32", "bfloat16")
    """Number formats that the large networks compute in, one or more."""

    peer_batches: tuple[int, ...] = (16, 64)
    """Batch sizes of a network of DIAMOND's size, to compare with; none leaves it out."""

    compiled_envs: tuple[int, ...] = (1, 64)
    """Environments in one batch with torch.compile, half a minute of compiling each."""

    def __post_init__(self) -> None:
        if not (self.num_envs and self.denoising_steps and self.dtypes):
            raise ValueError("expected at least one of num_envs, denoising_steps and dtypes")
        check_denoising_steps(*self.denoising_steps)
        for name in ("num_envs", "peer_batches", "compiled_envs"):
            for number in getattr(self, name):
                check_least(1, **{name: number})


def bench_dream(dreams: Dreams, *, seconds: float, rounds: int) -> dict[str, Any]:
    """The whole grid, and what to compare it with, in turns on all cores."""
    torch.set_num_threads(cores())
    rows: dict[str, Step] = {
        "gym-pusht, pixels": gym_pusht("pixels"),
        "Real-PushT-v0, 16 in one": ours(16),
    }
    for n, steps, dtype in product(dreams.num_envs, dreams.denoising_steps, dreams.dtypes):
        rows[_name(n, steps, dtype)] = batched(_envs(dreams.world_model, n, steps, dtype))
    for batch, dtype in product(dreams.peer_batches, dreams.dtypes):
        net = diamond_sized(DTYPES[dtype])
        name = f"{PEER} ({size_of(net) / 1e6:.1f} M), {batch}, {STEPS} steps, {dtype}"
        rows[name] = dreaming(net, batch)
    speeds = in_turns(rows, seconds=seconds, rounds=rounds, title="dreams")
    _print_speeds(speeds)
    return {name: speed.figures() for name, speed in speeds.items()}


def bench_compiled(dreams: Dreams, *, seconds: float, rounds: int) -> dict[str, Any]:
    """With torch.compile and without, in turns; where a machine cannot compile, that is said."""
    torch.set_num_threads(cores())
    rows, failed, compiling = dict[str, Step](), dict[str, str](), dict[str, float]()
    for name, plain, compiled in _pairs(dreams):
        rows[name] = plain
        begin = time.perf_counter()
        try:
            compiled()
        except Exception as error:  # whatever a compiler may lack: the other figures stand
            failed[f"{name}, compiled"] = f"{type(error).__name__}: {_first_line(error)}"
            continue
        compiling[f"{name}, compiled"] = time.perf_counter() - begin
        rows[f"{name}, compiled"] = compiled
    speeds = in_turns(rows, seconds=seconds, rounds=rounds, title="compiled")
    _print_speeds(speeds)
    for name, took in compiling.items():
        print(f"{name}: compiling took {took:.0f} s")
    for name, why in failed.items():
        print(f"{name}: this machine could not compile it: {why}")
    print()
    figures: dict[str, Any] = {name: speed.figures() for name, speed in speeds.items()}
    for name, took in compiling.items():
        figures[name]["compiling_s"] = took
    return figures | {name: {"failed": why} for name, why in failed.items()}


def _pairs(dreams: Dreams) -> Iterator[tuple[str, Step, Step]]:
    """What to measure as it is and compiled: a few dreams, and the peer as fast as it gets."""
    steps = dreams.denoising_steps[0]
    for n, dtype in product(dreams.compiled_envs, dreams.dtypes):
        plain, quick = (_model(dreams.world_model, dtype) for _ in range(2))
        for part in ("step", "decode"):  # most of a step
            setattr(quick, part, torch.compile(getattr(quick, part), dynamic=False))
        as_it_is, compiled = (batched(_envs(m, n, steps, dtype)) for m in (plain, quick))
        yield _name(n, steps, dtype), as_it_is, compiled
    for batch in dreams.peer_batches[:1]:
        dtype = dreams.dtypes[-1]
        net = diamond_sized(DTYPES[dtype])
        name = f"{PEER} ({size_of(net) / 1e6:.1f} M), {batch}, {STEPS} steps, {dtype}"
        quick_net: Any = torch.compile(net, dynamic=False)
        yield name, dreaming(net, batch), dreaming(quick_net, batch)


def _model(world_model: str, dtype: Dtype) -> WorldModel:
    return WorldModel.from_pretrained(world_model).cast(DTYPES[dtype])


def _envs(
    world_model: str | WorldModel, n: int, steps: int, dtype: Dtype
) -> gym.vector.VectorEnv[Any, Any, Any]:
    return gym.make_vec(
        "WM-v0", num_envs=n, world_model=world_model, device="cpu", dtype=dtype,
        denoising_steps=steps,
    )  # fmt: skip


def _name(n: int, steps: int, dtype: Dtype) -> str:
    return f"WM-v0, {n}, {steps} step{'s' * (steps > 1)}, {dtype}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def _print_speeds(speeds: Mapping[str, Speed]) -> None:
    """A row each; compared with pictures of gym-pusht and the fastest peer, where they were run."""
    pixels = speeds["gym-pusht, pixels"].median if "gym-pusht, pixels" in speeds else None
    peers = [speed.median for name, speed in speeds.items() if name.startswith(PEER)]
    peer = max(peers) if peers else None
    title = f"{cores()} cores" if cores() > 1 else "one core"
    columns = f"{'range':>16}{'ms':>10}{'99 %':>10}{'× pixels':>10}{'× DIAMOND':>11}"
    print(f"{title:<54}{'steps/s':>10}{columns}")
    for name, speed in speeds.items():
        times = "".join(f"{speed.milliseconds(share):>10.1f}" for share in (0.5, 0.99))
        against = f"{_ratio(speed, pixels, 1):>10}{_ratio(speed, peer, 1):>11}"
        print(f"{name:<54}{speed.median:>10,.1f}{speed.span:>16}{times}{against}")
    print("ms: of a call, which steps all dreams of a batch; × DIAMOND: its fastest row here\n")


def _ratio(speed: Speed, base: float | None, digits: int) -> str:
    return "" if base is None else f"{speed.median / base:,.{digits}f}"
