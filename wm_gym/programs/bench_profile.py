"""Where the time of a dreamt step goes, and how far that is from what the machine can multiply."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from wm_gym.envs.dream import DreamVectorEnv
from wm_gym.models.noise import shaped_noise
from wm_gym.models.world_model import DTYPES, WorldModel
from wm_gym.programs.bench_dream import Dreams
from wm_gym.programs.bench_timing import measured
from wm_gym.programs.machine import cores
from wm_gym.programs.progress import Bar

NUM_ENVS = 64
WHOLE = ("reset", "step", "world", "transition", "painting")
"""What is made of parts that are timed, too."""

MATMUL = (4096, 512, 512)
"""Rows, inner and columns of a product that stands for the machine's limit."""


@dataclass
class Clock:
    """Times methods of objects where they stand, within the real step."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def watch(self, owner: object, method: str, part: str) -> None:
        function = getattr(owner, method)
        setattr(owner, method, lambda *arguments: self.run(part, function, *arguments))

    def run(self, part: str, function: Callable[..., Any], *arguments: Any) -> Any:
        begin = time.perf_counter()
        result = function(*arguments)
        self.seconds[part].append(time.perf_counter() - begin)
        return result

    def parts(self) -> dict[str, float]:
        """Milliseconds of each part of a step; the shell is what no other part took."""
        took = {part: np.array(seconds) for part, seconds in self.seconds.items()}
        parts = {part: times for part, times in took.items() if part not in WHOLE}
        parts["uint8"] = took["world"] - took["transition"] - took["painting"]
        parts["environment shell"] = took["step"] - sum(parts.values())
        return {part: 1e3 * float(np.median(times)) for part, times in parts.items()}

    def milliseconds(self, part: str) -> float:
        return 1e3 * statistics.median(self.seconds[part])


def bench_profile(dreams: Dreams, *, seconds: float, rounds: int) -> dict[str, Any]:
    """A step of 64 dreams taken apart, in each number format; one denoiser call a frame."""
    torch.set_num_threads(cores())
    figures: dict[str, Any] = {}
    for dtype in dreams.dtypes:
        model = WorldModel.from_pretrained(dreams.world_model).cast(DTYPES[dtype])
        flops = dict(model.kind.flops(model.global_model, model.local_model))
        clock = _clocked(model, seconds * rounds, f"profile, {dtype}")
        limit = matmul_flops_per_second(DTYPES[dtype], seconds)
        parts, step, reset = clock.parts(), *map(clock.milliseconds, ("step", "reset"))
        _print_profile(dtype, step, parts, flops, limit)
        print(f"  besides, all begin anew in {reset:.0f} ms, once an episode\n")
        figures[dtype] = {
            "ms": {**parts, "step": step, "reset": reset},
            "flops_per_frame": flops,
            "matmul_flops_per_second": limit,
        }
    return figures


def _clocked(model: WorldModel, seconds: float, title: str) -> Clock:
    """Steps of an environment, and what happens within them; no episode ends meanwhile."""
    envs = gym.make_vec(
        "WM-v0",
        num_envs=NUM_ENVS,
        world_model=model,
        denoising_steps=1,
        horizon=1 << 30,
        ends=False,
    )
    env = envs.unwrapped
    assert isinstance(env, DreamVectorEnv)
    clock, rng = Clock(), np.random.default_rng(0)
    key, at = torch.arange(NUM_ENVS), torch.zeros(NUM_ENVS, dtype=torch.int64)
    actions = rng.uniform(-1, 1, (64, *(envs.action_space.shape or ()))).astype(np.float32)
    for _ in range(3):
        clock.run("reset", envs.reset)
        envs.step(actions[0])
    for owner, method, part in (
        *model.kind.timed(model.global_model, model.local_model),
        (model, "step", "transition"),
        (model, "decode", "painting"),
        (env._episodes.world, "dreamt", "world"),  # a transition, a painted frame, its colours
    ):
        clock.watch(owner, method, part)
    begin, bar = time.perf_counter(), Bar(desc=title, unit="step")
    with bar:
        while time.perf_counter() - begin < seconds:
            clock.run("noise", shaped_noise, key, at, model.spec.noise_shape)
            clock.run("step", envs.step, actions[bar.n % len(actions)])
            bar.update()
    return clock


def matmul_flops_per_second(dtype: torch.dtype, seconds: float) -> float:
    rows, inner, columns = MATMUL
    left, right = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)

    def multiply() -> int:
        product: Tensor = left @ right
        return len(product) // rows

    _, times = measured(multiply, min(1.0, seconds))
    return 2 * rows * inner * columns / statistics.median(times)


def _print_profile(
    dtype: str,
    step: float,
    parts: Mapping[str, float],
    flops: Mapping[str, int],
    limit: float,
) -> None:
    print(f"a step of {NUM_ENVS} dreams, {dtype}, {cores()} core{'s' * (cores() > 1)}")
    print(f"  {'part':<20}{'ms':>8}{'share':>9}{'MFLOP/frame':>14}{'of matmul':>12}")
    for name, ms in parts.items():
        work = ""
        if name in flops:
            rate = NUM_ENVS * flops[name] / (1e-3 * ms)
            work = f"{flops[name] / 1e6:>14,.1f}{rate / limit:>12.0%}"
        print(f"  {name:<20}{ms:>8.2f}{ms / step:>9.1%}{work}")
    print(f"  {'all':<20}{step:>8.2f}  = {1e3 * NUM_ENVS / step:,.0f} steps/s")
    size = " × ".join(map(str, MATMUL))
    print(f"  limit: {limit / 1e9:,.0f} GFLOP/s, a product of {size} in {dtype};")
    if flops:
        frames = limit / sum(flops.values())
        print(f"  at that rate {' and '.join(flops)} alone would make {frames:,.0f} frames/s")
