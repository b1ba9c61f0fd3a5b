"""A small network that reads states off frames, taught by a system's `Lesson` on real frames.

Half of them are softened, and all a little noisy, so that it does not read what only a renderer
draws. How far it is off is told of episodes that it did not see.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from safetensors import safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn import functional

from wm_gym.data import Dataset
from wm_gym.evaluation.probes import Lesson, told_errors
from wm_gym.evaluation.statistics import told_spread
from wm_gym.models.colours import to_unit
from wm_gym.models.world_model import fast_bfloat16
from wm_gym.storage.files import write_atomically

_CHANNELS = (16, 32, 64, 64)
_HIDDEN = 256
_AT_ONCE = 500
_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnedProbeConfig:
    updates: int = 2500
    batch_size: int = 128
    learning_rate: float = 1e-3
    held_out: float = 0.05
    """Share of the episodes that it is judged on."""

    seed: int = 0


class ReadingNet(nn.Module):
    def __init__(self, frame_shape: tuple[int, int, int], targets: int) -> None:
        super().__init__()
        height, width, channels = frame_shape
        layers: list[nn.Module] = []
        for after in _CHANNELS:
            layers += [nn.Conv2d(channels, after, 4, stride=2, padding=1), nn.SiLU()]
            channels, height, width = after, height // 2, width // 2
        size = channels * height * width
        layers += [nn.Flatten(), nn.Linear(size, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, targets)]
        self.layers = nn.Sequential(*layers)
        self.register_buffer("mean", torch.zeros(targets))
        self.register_buffer("scale", torch.ones(targets))
        self.mean: Tensor
        self.scale: Tensor

    def forward(self, frames: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Targets, off their mean in units of their deviation."""
        return self.layers(frames)

    @torch.no_grad()
    def read(self, frames: UInt8[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n d"]:
        parts = [
            self(to_unit(torch.from_numpy(frames[i : i + _AT_ONCE]))) * self.scale + self.mean
            for i in range(0, max(len(frames), 1), _AT_ONCE)
        ]
        return torch.cat(parts).double().numpy()


@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedReading:
    state: Float[np.ndarray, "n d"]
    residual: Float[np.ndarray, "n"]
    """Nothing is known of it without the real frame."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedProbe:
    """A lesson that was learned."""

    lesson: Lesson
    net: ReadingNet
    made: Mapping[str, Any]
    """From what, and how far off it is."""

    @property
    def WHOLE(self) -> float:  # noqa: N802
        return self.lesson.WHOLE

    @property
    def UNITS(self) -> Mapping[str, str]:  # noqa: N802
        return self.lesson.UNITS

    @property
    def WRONG(self) -> tuple[str, float]:  # noqa: N802
        return self.lesson.WRONG

    def read_state(self, frames: UInt8[np.ndarray, "n h w c"]) -> LearnedReading:
        return LearnedReading(state=self.net.read(frames), residual=np.full(len(frames), np.nan))

    def errors(
        self, state: Float[np.ndarray, "n s"], truth: Float[np.ndarray, "n s2"]
    ) -> dict[str, Float[np.ndarray, "n"]]:
        return self.lesson.errors(state, truth)

    def hidden(self, real: UInt8[np.ndarray, "n h w c"]) -> dict[str, Bool[np.ndarray, "n"]]:
        return self.lesson.hidden(real)

    def missing(
        self, frames: UInt8[np.ndarray, "n h w c"], real: UInt8[np.ndarray, "n h w c"]
    ) -> Float[np.ndarray, "n"]:
        return self.lesson.missing(frames, real)

    def save(self, file: Path) -> None:
        tensors = {name: each.contiguous() for name, each in self.net.state_dict().items()}
        told = {"format": str(_FORMAT), "made": json.dumps(dict(self.made))}
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, save_tensors(tensors, told))


def load_probe(
    file: Path, lesson: Lesson, frame_shape: tuple[int, int, int]
) -> LearnedProbe | None:
    """None where there is none, or one of another format."""
    if not file.exists():
        return None
    net = ReadingNet(frame_shape, len(lesson.TARGETS))
    try:
        with safe_open(file, "pt") as opened:
            told = opened.metadata() or {}
            if told.get("format") != str(_FORMAT):
                return None
            net.load_state_dict({name: opened.get_tensor(name) for name in tuple(opened.keys())})
            made = json.loads(told["made"])
    except Exception as error:
        raise ValueError(f"{file} is no probe: {error}; delete it, and it is made anew") from error
    return LearnedProbe(lesson=lesson, net=net.eval().requires_grad_(False), made=made)


class ProbeTraining:
    """Iterate over it: the loss of each update. Then `learned`."""

    def __init__(self, lesson: Lesson, dataset: Dataset, config: LearnedProbeConfig) -> None:
        self.lesson, self.dataset, self.config = lesson, dataset, config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.net = ReadingNet(dataset.spec.picture, len(lesson.TARGETS))
        order = np.random.default_rng(config.seed).permutation(len(dataset))
        out = max(1, round(config.held_out * len(dataset)))
        if len(dataset) < 2:
            raise ValueError(f"{dataset.folder} has 1 episode, expected some to learn from")
        self._rows, self._unseen = self._rows_of(order[out:]), self._rows_of(order[:out])

    def _rows_of(self, episodes: Int[np.ndarray, "e"]) -> Int[np.ndarray, "n"]:
        index = self.dataset.index[episodes]
        spans = [np.arange(s, s + n) for s, n in zip(index["start"], index["length"], strict=True)]
        return np.concatenate(spans)

    def __len__(self) -> int:
        return self.config.updates

    def __iter__(self) -> Iterator[float]:
        config, lesson, net = self.config, self.lesson, self.net
        state = self.dataset.fact("state")
        self._standardise(lesson.targets(state[self._rows]))
        rng, noise = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)
        optimiser = torch.optim.AdamW(net.parameters(), config.learning_rate)
        fast = fast_bfloat16(torch.device("cpu"))
        for update in range(config.updates):
            left = 1 - update / config.updates
            optimiser.param_groups[0]["lr"] = config.learning_rate * min(1.0, 2 * left)
            rows = rng.choice(self._rows, config.batch_size)
            frames = self.dataset.frames(rows)
            told = torch.from_numpy(lesson.readable(frames))
            truth = torch.from_numpy(lesson.targets(state[rows])).float()
            seen = _softened(to_unit(torch.from_numpy(frames)), noise)
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                read = net(seen)
            loss = _loss(read.float(), (truth - net.mean) / net.scale, told)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            yield float(loss.detach())

    def _standardise(self, targets: Float[np.ndarray, "n d"]) -> None:
        self.net.mean.copy_(torch.from_numpy(targets.mean(0)))
        self.net.scale.copy_(torch.from_numpy(targets.std(0)).clamp(min=1e-6))

    def learned(self) -> LearnedProbe:
        net = self.net.eval().requires_grad_(False)
        return LearnedProbe(lesson=self.lesson, net=net, made=self._made())

    def _made(self) -> dict[str, Any]:
        """Errors on real frames of episodes that were held out, as medians and ninth deciles."""
        rows = self._unseen[:: max(1, len(self._unseen) // 4000)]
        real, state = self.dataset.frames(rows), self.dataset.fact("state")[rows]
        errors = told_errors(self.lesson, self.net.read(real), state, real)
        spreads = {name: told_spread(each, seed=0) for name, each in errors.items()}
        return {
            "dataset": str(self.dataset.folder),
            "hash": self.dataset.hash,
            "updates": self.config.updates,
            "frames": len(self._rows),
            "unseen_frames": len(rows),
            "median": {name: s and s.median.value for name, s in spreads.items()},
            "ninth_decile": {name: s and s.ninth_decile for name, s in spreads.items()},
        }


def _softened(frames: Float[Tensor, "b c h w"], rng: torch.Generator) -> Float[Tensor, "b c h w"]:
    half = len(frames) // 2
    padded = functional.pad(frames[:half], (1, 1, 1, 1), mode="replicate")
    mixed = torch.cat([functional.avg_pool2d(padded, 3, 1), frames[half:]])
    return mixed + 0.05 * torch.randn(mixed.shape, generator=rng)


def _loss(
    read: Float[Tensor, "b d"], truth: Float[Tensor, "b d"], told: Bool[Tensor, "b d"]
) -> Float[Tensor, ""]:
    """Of what the frames show alone."""
    each = functional.smooth_l1_loss(read, truth, reduction="none", beta=0.1)
    return (each * told).sum() / told.sum().clamp(min=1)
