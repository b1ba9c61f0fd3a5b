"""What gradients cost: windows with one, beside the same windows without; and what latents cost."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, get_args

import gymnasium as gym
import torch

from wm_gym.models.world_model import DTYPES, WorldModel
from wm_gym.numbers import check_least
from wm_gym.programs.bench_diamond import DiamondSized, size_of
from wm_gym.programs.bench_dream import PEER, Dreams
from wm_gym.programs.bench_systems import batched
from wm_gym.programs.bench_timing import Speed, Step, in_turns
from wm_gym.programs.bench_windows import Dtype, Memory, Mode, Window, memory_of, step_of
from wm_gym.programs.machine import cores
from wm_gym.programs.progress import each

MIB = 1 << 20
MODES: tuple[Mode, ...] = get_args(Mode)
SURROGATE_TIME, DIFFUSION_TIME, DIFFUSION_MEMORY, LATENT_SPEED = 0.5, 3.0, 10.0, 0.8
"""The aims."""


@dataclass(frozen=True, kw_only=True)
class Gradients:
    window: int = 16
    """How many steps a gradient goes back through."""

    window_envs: tuple[int, ...] = (16, 64)
    """How many environments to take gradients of in one batch, one or more numbers."""

    window_dtypes: tuple[Dtype, ...] = ("float32",)
    """Number formats that the large networks compute in for gradients, one or more."""

    window_device: str = "cpu"
    """Device that gradients are computed on, such as 'cpu' or 'cuda:1'."""

    peer_frames: int = 32
    """How many frames to take gradients through with a network of DIAMOND's size."""

    obs_envs: int = 64
    """Environments in one batch to compare observations of latents and of pixels."""

    def __post_init__(self) -> None:
        if not (self.window_envs and self.window_dtypes):
            raise ValueError("expected at least one of window_envs and window_dtypes")
        for number in self.window_envs:
            check_least(1, window_envs=number)
        for name in ("window", "peer_frames", "obs_envs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")


@dataclass(frozen=True, kw_only=True)
class Group:
    """One window in each mode."""

    windows: Mapping[Mode, Window]
    scale: float
    """How many times what is measured the whole takes."""

    @property
    def peer(self) -> bool:
        return self.windows["none"].world_model is None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a group; what is extra is above `none`."""

    seconds: Mapping[Mode, list[float]]
    """Of a window, in each round."""

    kept: Mapping[Mode, int]
    """Bytes for the backward pass."""

    peak: Mapping[Mode, int]
    """Most bytes at any time, the whole process of `none`, and what the others have on top."""

    def extra_seconds(self, mode: Mode) -> list[float]:
        pairs = zip(self.seconds[mode], self.seconds["none"], strict=True)
        return [with_it - without for with_it, without in pairs]

    @property
    def surrogate_time(self) -> list[float]:
        """The surrogate's extra, in times of `none`, in each round."""
        pairs = zip(self.extra_seconds("surrogate"), self.seconds["none"], strict=True)
        return [extra / none for extra, none in pairs]

    @property
    def diffusion_time(self) -> float:
        """Diffusion's extra, in times of the surrogate's."""
        return _ratio(*(statistics.median(self.extra_seconds(mode)) for mode in MODES[:0:-1]))

    @property
    def diffusion_kept(self) -> float:
        return _ratio(self.kept["diffusion"], self.kept["surrogate"])

    @property
    def diffusion_peak(self) -> float:
        return _ratio(self.peak["diffusion"], self.peak["surrogate"])

    def figures(self) -> dict[str, Any]:
        ratios = ("diffusion_time", "diffusion_kept", "diffusion_peak")
        told = {name: getattr(self, name) for name in ratios}
        return {
            **asdict(self),
            "surrogate_time": self.surrogate_time,
            **{name: value if math.isfinite(value) else None for name, value in told.items()},
        }


def _ratio(extra: float, base: float) -> float:
    return extra / base if base > 0 else math.inf


def bench_gradient(
    dreams: Dreams, gradients: Gradients, *, seconds: float, rounds: int
) -> dict[str, Any]:
    """Time in turns on all cores; memory of each window in a process of its own."""
    torch.set_num_threads(cores())
    groups = dict(_groups(dreams, gradients))
    windows = {(name, mode): w for name, g in groups.items() for mode, w in g.windows.items()}
    rows: dict[str, Step] = {_row(*key): step_of(window) for key, window in windows.items()}
    shown = {name: _shown(dreams, gradients, name) for name in ("pixels", "latent")}
    speeds = in_turns(rows | shown, seconds=seconds, rounds=rounds, title="gradient")
    memory = {key: memory_of(window) for key, window in each(windows.items(), "memory")}
    costs = {name: _cost(name, group, speeds, memory) for name, group in groups.items()}
    latent = _per_round(speeds["latent"], speeds["pixels"])
    aims = [*_aims(costs), _aim(f"latent ≥ {LATENT_SPEED} × pixels", latent, LATENT_SPEED)]
    _print_costs(costs, gradients)
    _print_peer(groups, costs, gradients)
    for name in ("pixels", "latent"):
        print(f"{gradients.obs_envs} dreams, {name:<8}{speeds[name].median:>10,.0f} steps/s")
    for aim in aims:
        print(f"{'met' if aim['met'] else 'missed':<8}{aim['aim']}: {aim['came']}")
    print()
    return {
        "windows": {
            name: {**costs[name].figures(), "scale": group.scale} for name, group in groups.items()
        },
        "obs": {name: speeds[name].figures() for name in ("pixels", "latent")},
        "aims": aims,
    }


def _groups(dreams: Dreams, gradients: Gradients) -> Iterable[tuple[str, Group]]:
    size = f"{PEER} ({size_of(DiamondSized()) / 1e6:.1f} M)"
    models: tuple[tuple[str, str | None, tuple[int, ...]], ...] = (
        (dreams.world_model, dreams.world_model, gradients.window_envs),
        (size, None, dreams.peer_batches),
    )
    for name, world_model, batches in models:
        for n, steps, dtype in product(batches, dreams.denoising_steps, gradients.window_dtypes):
            whole = {
                mode: Window(
                    world_model=world_model, num_envs=n, length=gradients.window, mode=mode,
                    denoising_steps=steps, dtype=dtype, device=gradients.window_device,
                )
                for mode in MODES
            }  # fmt: skip
            group = Group(windows=whole, scale=1.0)
            if world_model is None:
                group = _shortened(group, gradients.peer_frames)
            yield f"{name}, {n}, {steps} step{'s' * (steps > 1)}, {dtype}", group


def _shortened(group: Group, most: int) -> Group:
    """To so many frames: first of fewer steps, then of fewer dreams."""
    whole = group.windows["none"]
    n = min(whole.num_envs, most)
    length = min(whole.length, most // n)
    short = {mode: replace(w, num_envs=n, length=length) for mode, w in group.windows.items()}
    return Group(windows=short, scale=whole.frames / short["none"].frames)


def _row(name: str, mode: Mode) -> str:
    return f"{name}, {mode}"


def _shown(dreams: Dreams, gradients: Gradients, obs_type: str) -> Step:
    model = WorldModel.from_pretrained(dreams.world_model).to(gradients.window_device)
    return batched(
        gym.make_vec(
            "WM-v0", num_envs=gradients.obs_envs, obs_type=obs_type,
            denoising_steps=dreams.denoising_steps[0],
            world_model=model.cast(DTYPES[gradients.window_dtypes[0]]),
        )
    )  # fmt: skip


def _cost(
    name: str,
    group: Group,
    speeds: Mapping[str, Speed],
    memory: Mapping[tuple[str, Mode], Memory],
) -> Cost:
    """Of the whole window; what is kept for going back, and so what is extra, grows with it."""
    frames = group.windows["none"].frames * group.scale
    base = memory[name, "none"].peak
    peak = {mode: round(group.scale * (memory[name, mode].peak - base)) for mode in MODES}
    return Cost(
        seconds={
            mode: [frames / speed for speed in speeds[_row(name, mode)].steps_per_second]
            for mode in MODES
        },
        kept={mode: round(group.scale * memory[name, mode].kept) for mode in MODES},
        peak={**peak, "none": base},
    )


def _per_round(one: Speed, other: Speed) -> list[float]:
    pairs = zip(one.steps_per_second, other.steps_per_second, strict=True)
    return [mine / theirs for mine, theirs in pairs]


def _aims(costs: Mapping[str, Cost]) -> list[dict[str, Any]]:
    """Each for the window where it is hardest to meet."""
    dearest = max(costs, key=lambda name: statistics.median(costs[name].surrogate_time))
    aims = [
        _aim(
            f"surrogate's extra time ≤ {SURROGATE_TIME} × none",
            costs[dearest].surrogate_time, SURROGATE_TIME, where=dearest, above=False,
        )
    ]  # fmt: skip
    ratios: list[tuple[str, Callable[[Cost], float], float]] = [
        ("extra time", lambda cost: cost.diffusion_time, DIFFUSION_TIME),
        ("bytes kept", lambda cost: cost.diffusion_kept, DIFFUSION_MEMORY),
        ("extra peak memory", lambda cost: cost.diffusion_peak, DIFFUSION_MEMORY),
    ]
    for what, ratio, aim in ratios:
        least = min(costs, key=lambda name, ratio=ratio: ratio(costs[name]))  # type: ignore[misc]
        text = f"diffusion's {what} ≥ {aim:g} × the surrogate's"
        aims.append(_aim(text, [ratio(costs[least])], aim, where=least))
    return aims


def _aim(
    text: str, values: list[float], aim: float, *, where: str = "", above: bool = True
) -> dict[str, Any]:
    value = statistics.median(values)
    came = f"{value:.2f} ×" + (f" ({_span(values)})" if len(values) > 1 else "")
    return {
        "aim": text,
        "met": value >= aim if above else value <= aim,
        "came": came + (f", {where}" if where else ""),
    }


def _span(values: list[float]) -> str:
    return f"{min(values):.2f}–{max(values):.2f}"


def _print_costs(costs: Mapping[str, Cost], gradients: Gradients) -> None:
    title = f"windows of {gradients.window} steps, {cores()} core{'s' * (cores() > 1)}"
    print(f"{'':<48}{'none':>9}{'surrogate, extra':>26}{'diffusion, extra':>26}{'÷':>28}")
    columns = f"{'ms':>9}{'× none':>8}{'kept':>9}{'peak':>9}"
    more = f"{'× none':>8}{'kept':>9}{'peak':>9}{'time':>10}{'kept':>9}{'peak':>9}"
    print(f"{title:<48}{columns}{more}")
    for name, cost in costs.items():
        none = statistics.median(cost.seconds["none"])
        shown = f"{1e3 * none:>9,.0f}"
        for mode in MODES[1:]:
            extra = statistics.median(cost.extra_seconds(mode)) / none
            kept, peak = cost.kept[mode] / MIB, cost.peak[mode] / MIB
            shown += f"{extra:>8.2f}{kept:>9,.1f}{peak:>9,.1f}"
        ratios = f"{cost.diffusion_time:>10,.1f}{cost.diffusion_kept:>9,.0f}"
        print(f"{name:<48}{shown}{ratios}{cost.diffusion_peak:>9,.0f}")
    print("kept, peak: MiB for the backward pass, and most at any time; ÷: diffusion ÷ surrogate")


def _print_peer(
    groups: Mapping[str, Group], costs: Mapping[str, Cost], gradients: Gradients
) -> None:
    peers = [name for name, group in groups.items() if group.peer]
    if not peers:
        return
    print(f"{PEER}: none is its sampler alone; surrogate adds a local model's eye, filter,")
    print("  dynamics and reward, and the way back through the last two; diffusion goes back")
    print("  through the sampler. It has no reward head: the mean of a frame stands for one")
    for name in peers:
        if groups[name].scale > 1:
            short = groups[name].windows["none"]
            print(
                f"  {name}: measured on {short.num_envs} dreams and {short.length} of "
                f"{gradients.window} steps, and multiplied by {groups[name].scale:g}"
            )
    ours = [name for name in costs if name not in peers]
    for what in ("time", "kept", "peak"):
        medians = [
            statistics.median(getattr(costs[name], f"diffusion_{what}") for name in some)
            for some in (ours, peers)
        ]
        print(f"diffusion ÷ surrogate, {what}: ours {medians[0]:,.1f}, {PEER} {medians[1]:,.1f}")
