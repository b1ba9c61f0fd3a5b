"""What loading windows of data adds to a training step."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from torch.nn.functional import mse_loss, pixel_unshuffle

from wm_gym.data import Dataset, DatasetWriter, WindowBatch, Windows, prefetch
from wm_gym.data.collect import Recipe, Source
from wm_gym.programs.bench_timing import measured
from wm_gym.programs.machine import cores
from wm_gym.programs.progress import each


def bench_loading(*, seconds: float, rounds: int, episodes: int) -> dict[str, Any]:
    """What loading adds to the training step of a small U-Net, on all cores, in turns."""
    torch.set_num_threads(cores())
    with tempfile.TemporaryDirectory() as folder:
        dataset = _some_data(Path(folder) / "data", episodes)
        windows = Windows(dataset, length=5, batch_size=64, seed=0)
        alone, _ = measured(lambda: len(windows.batch(0).first_row), seconds)
        train, size = _small_unet()
        same = _repeat(windows.batch(0))
        fresh = prefetch(windows)
        times: dict[str, list[float]] = {"one batch again and again": [], "fresh windows": []}
        for _ in range(3):
            train(next(fresh))
        steps = max(1, round(seconds / 0.2))
        for _ in each(range(rounds), desc="loading"):
            for name, source in zip(times, (same, fresh), strict=True):
                times[name] += [_timed(train, source) for _ in range(steps)]
        fresh.close()
    base, with_loading = (statistics.median(values) for values in times.values())
    print(f"training step, {size / 1e6:.1f} M U-Net, 64 windows of 4 + 1 frames, bf16")
    print(f"  one batch again and again {1e3 * base:>8.1f} ms")
    overhead = with_loading / base - 1
    print(f"  fresh windows             {1e3 * with_loading:>8.1f} ms  ({overhead:+.1%})")
    print(f"  decoding alone, 1 thread  {64e3 / alone:>8.1f} ms a batch\n")
    return {**times, "windows_per_second": alone, "overhead": overhead}


def _some_data(folder: Path, episodes: int) -> Dataset:
    source = Source(Recipe(episodes=episodes))
    writer = DatasetWriter(folder, source.spec())
    for number in each(range(source.recipe.episodes), desc="some data"):
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
