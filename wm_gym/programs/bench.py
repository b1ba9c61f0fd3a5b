"""`wm-gym bench`: how fast things are, on this machine, in one run."""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from diffusers import UNet2DModel
from torch.nn.functional import mse_loss, pixel_unshuffle
from tqdm import tqdm

from wm_gym.data import Dataset, DatasetWriter, WindowBatch, Windows, prefetch
from wm_gym.data.collect import Recipe, Source

Part = Literal["systems", "loading"]


@dataclass(frozen=True, kw_only=True)
class Bench:
    parts: tuple[Part, ...] = ("systems", "loading")
    """What to measure."""

    seconds: float = 3.0
    """How long to measure each thing, in each of the rounds."""

    rounds: int = 5
    """All are measured in turn, this many times; medians are printed, with the range."""

    episodes: int = 24
    """Episodes to log for the measurement of loading."""

    out: Path | None = None
    """A JSON file for the figures."""


def bench(config: Bench) -> None:
    """Measure the speed of systems and of loading data; prints tables."""
    figures = {}
    if "systems" in config.parts:
        figures["systems"] = _bench_systems(config)
    if "loading" in config.parts:
        figures["loading"] = _bench_loading(config)
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        config.out.write_text(json.dumps({**asdict(config), "out": None, **figures}, indent=1))


def _bench_systems(config: Bench) -> dict[str, Any]:
    """Steps/s on one core of this process, in turns."""
    torch.set_num_threads(1)
    rows: dict[str, tuple[Callable[[], int], float]] = {
        "gym-pusht, pixels": (_gym_pusht("pixels"), 10.0),
        "gym-pusht, state": (_gym_pusht("state"), 10.0),
        "Real-PushT-v0": (_ours(None), 5.0),
        "Real-PushT-v0, 16 in one": (_ours(16), 5.0),
    }
    speed: dict[str, list[float]] = {name: [] for name in rows}
    for _ in tqdm(range(config.rounds), desc="systems", disable=None):
        for name, (step, _rate) in rows.items():
            speed[name].append(_per_second(step, config.seconds))
    base = statistics.median(speed["gym-pusht, pixels"])
    print(f"{'one core':<28}{'steps/s':>10}{'range':>16}{'simulated s/s':>15}{'× pixels':>10}")
    for name, (_, rate) in rows.items():
        middle = statistics.median(speed[name])
        span = f"{min(speed[name]):,.0f}–{max(speed[name]):,.0f}"
        print(f"{name:<28}{middle:>10,.0f}{span:>16}{middle / rate:>15,.0f}{middle / base:>10.1f}")
    print("a step draws a picture but for 'state'; gym-pusht's step is 0.1 s, ours 0.2 s")
    return {name: {"steps_per_second": speed[name]} for name in rows}


def _per_second(step: Callable[[], int], seconds: float) -> float:
    for _ in range(3):
        step()
    count, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        count += step()
    return count / passed


def _gym_pusht(obs_type: str) -> Callable[[], int]:
    import gym_pusht  # noqa: F401  # registers; a test dependency, so imported where it is used

    return _single(gym.make("gym_pusht/PushT-v0", obs_type=obs_type, disable_env_checker=True))


def _ours(num_envs: int | None) -> Callable[[], int]:
    if num_envs is None:
        return _single(gym.make("Real-PushT-v0", disable_env_checker=True))
    envs, rng = gym.make_vec("Real-PushT-v0", num_envs=num_envs), np.random.default_rng(0)
    envs.reset(seed=0)

    def step() -> int:
        envs.step(rng.uniform(-1, 1, (num_envs, 2)).astype(np.float32))
        return num_envs

    return step


def _single(env: gym.Env[Any, Any]) -> Callable[[], int]:
    box, rng = env.action_space, np.random.default_rng(0)
    assert isinstance(box, gym.spaces.Box)
    env.reset(seed=0)

    def step() -> int:
        action = rng.uniform(box.low, box.high).astype(np.float32)
        *_, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
        return 1

    return step


def _bench_loading(config: Bench) -> dict[str, Any]:
    """What loading adds to the training step of a small U-Net, on all cores, in turns."""
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = _some_data(Path(folder) / "data", config.episodes)
        windows = Windows(dataset, length=5, batch_size=64, seed=0)
        alone = _per_second(lambda: len(windows.batch(0).first_row), config.seconds)
        train, size = _small_unet()
        same = _repeat(windows.batch(0))
        fresh = prefetch(windows)
        times: dict[str, list[float]] = {"one batch again and again": [], "fresh windows": []}
        for _ in range(3):
            train(next(fresh))
        steps = max(1, round(config.seconds / 0.2))
        for _ in tqdm(range(config.rounds), desc="loading", disable=None):
            for name, source in zip(times, (same, fresh), strict=True):
                times[name] += [_timed(train, source) for _ in range(steps)]
        fresh.close()
    base, with_loading = (statistics.median(values) for values in times.values())
    print(f"training step, {size / 1e6:.1f} M U-Net, 64 windows of 4 + 1 frames, bf16")
    print(f"  one batch again and again {1e3 * base:>8.1f} ms")
    overhead = with_loading / base - 1
    print(f"  fresh windows             {1e3 * with_loading:>8.1f} ms  ({overhead:+.1%})")
    print(f"  decoding alone, 1 thread  {64e3 / alone:>8.1f} ms a batch")
    return {**times, "windows_per_second": alone, "overhead": overhead}


def _some_data(folder: Path, episodes: int) -> Dataset:
    source = Source(Recipe(episodes=episodes))
    writer = DatasetWriter(folder, source.spec())
    for number in tqdm(range(source.recipe.episodes), desc="some data", disable=None):
        writer.add(number, source.record(number))
    writer.finalize()
    return Dataset.open(folder)


def _repeat(batch: WindowBatch) -> Iterator[WindowBatch]:
    while True:
        yield batch


def _timed(train: Callable[[WindowBatch], None], source: Iterator[WindowBatch]) -> float:
    begin = time.perf_counter()
    train(next(source))
    return time.perf_counter() - begin


def _small_unet() -> tuple[Callable[[WindowBatch], None], int]:
    """A next-frame regressor of a world model's size, on 16 × 16 space-to-depth pixels."""
    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=16,
        in_channels=4 * 108,
        out_channels=108,
        block_out_channels=(48, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=16,
        add_attention=False,
    )
    net.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-4)

    def train(batch: WindowBatch) -> None:
        frames = torch.from_numpy(batch.frames).permute(1, 0, 4, 2, 3)
        cells = pixel_unshuffle(frames.to(torch.bfloat16) / 127.5 - 1, 6)
        with torch.autocast("cpu", torch.bfloat16):
            guess = net(cells[:, :-1].flatten(1, 2), 0).sample
        loss = mse_loss(guess.float(), cells[:, -1].float())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return train, sum(p.numel() for p in net.parameters())
