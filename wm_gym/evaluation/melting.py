"""Whether a picture is still one of this world: a check that no network has learned.

Real frames are kept as a bank of small pictures, histograms of colours and patches. A picture
belongs to them if, in these four ways, it is no further from the bank than real frames of other
episodes are, with some slack:

    place     the nearest small picture of the bank is near
    colours   the nearest histogram is near
    patches   its own have near ones, on average
    edges     Σ g² / Σ |g| of the differences g of neighbouring pixels: a step of height h that is w
              wide has h / w, so this falls as edges blur, however many there are

A blurred or mean picture has soft edges; one that lies over another, or is bent, has patches that
the world has not; a faded one has other colours; noise has all of that.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from wm_gym.data import Dataset
from wm_gym.evaluation.rollouts import AT_ONCE, Dreamer, Plan
from wm_gym.evaluation.statistics import Interval, share
from wm_gym.models.colours import to_colour

_SMALL, _LEVELS, _AT_ONCE = 12, 4, 100
_PATCH, _STRIDE, _PATCHES = 8, 16, 4000

SLACK = 1.1
"""What a distance may be, beyond that of nearly all real frames."""

SOFTEST = 0.33
"""Share that steepness may have of what nearly all real frames have: a tokenizer softens, and that
is judged elsewhere. A mean over a square of 3 pixels passes, one of 7 does not; nor do the pictures
of a tokenizer that has learned for minutes, at 19 dB, whose blocks stand for edges."""

_NEARLY = 99.5
"""Percentage of real frames that lie within each bound without slack."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Looks:
    """Of some pictures; distances of small ones and of patches are in colour values."""

    small: Float[Tensor, "n d"]
    colours: Float[Tensor, "n k"]
    steepness: Float[Tensor, "n"]

    @classmethod
    def of(cls, frames: UInt8[np.ndarray, "n h w c"]) -> "Looks":
        shown = torch.from_numpy(frames)
        n, h, w, c = shown.shape
        pictures = shown.movedim(-1, 1).float()
        small = functional.adaptive_avg_pool2d(pictures, min(_SMALL, h, w)).flatten(1)
        level = (shown.long() * _LEVELS).div(256, rounding_mode="floor")
        place = (level * _LEVELS ** torch.arange(c)).sum(-1).flatten(1)
        each = torch.full(place.shape, 1 / (h * w))
        return cls(
            small=small / small.shape[1] ** 0.5,
            colours=torch.zeros(n, _LEVELS**c).scatter_add_(1, place, each),
            steepness=steepness(pictures),
        )


def steepness(pictures: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
    """Σ g² / Σ |g|; 0 of a picture of one colour."""
    ways = [pictures.diff(dim=2).flatten(1), pictures.diff(dim=3).flatten(1)]
    square, size = (sum(f(way).mean(1) for way in ways) for f in (torch.square, torch.abs))
    return torch.as_tensor(square / torch.clamp(torch.as_tensor(size), min=1e-6))


def _patches(frames: UInt8[np.ndarray, "n h w c"]) -> Float[Tensor, "n p d"]:
    """On a grid."""
    shown = torch.from_numpy(frames).movedim(-1, 1).float()
    side = min(_PATCH, *shown.shape[-2:])
    cut = shown.unfold(2, side, _STRIDE).unfold(3, side, _STRIDE).permute(0, 2, 3, 1, 4, 5)
    patches = cut.flatten(1, 2).flatten(2)
    return patches / patches.shape[-1] ** 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """What real frames of this world look like."""

    looks: Looks
    patches: Float[Tensor, "m d"]
    bounds: dict[str, float]
    """Of each way: what a distance may be, or steepness has to be."""

    @classmethod
    def of(
        cls, frames: UInt8[np.ndarray, "n h w c"], others: UInt8[np.ndarray, "m h w c"]
    ) -> "Bank":
        """Bounds are those of real frames of other episodes."""
        if min(height_and_width := frames.shape[1:3]) < (least := _STRIDE + _PATCH):
            raise ValueError(
                f"frames are {' × '.join(map(str, height_and_width))} pixels, expected {least} or "
                f"more a side: they are told by patches of {_PATCH}, cut anywhere within {_STRIDE}"
            )
        rng = np.random.default_rng(0)
        shifted = np.stack([np.roll(f, rng.integers(_STRIDE, size=2), (0, 1)) for f in frames])
        cut = _patches(shifted[:, _STRIDE:, _STRIDE:]).flatten(0, 1)  # off what rolled around
        chosen = torch.from_numpy(rng.permutation(len(cut))[:_PATCHES])
        bank = cls(looks=Looks.of(frames), patches=cut[chosen], bounds={})
        told = bank._compared(others)
        bounds = {way: SLACK * float(np.percentile(each, _NEARLY)) for way, each in told.items()}
        bounds["edges"] = SOFTEST * float(np.percentile(told["edges"], 100 - _NEARLY))
        return cls(looks=bank.looks, patches=bank.patches, bounds=bounds)

    def holds(self, frames: UInt8[np.ndarray, "n h w c"]) -> Bool[np.ndarray, "n"]:
        """Which pictures are of this world."""
        told = self._compared(frames)
        held = told.pop("edges") >= self.bounds["edges"]
        for way, distance in told.items():
            held = held & (distance <= self.bounds[way])
        return np.asarray(held)

    def _compared(self, frames: UInt8[np.ndarray, "n h w c"]) -> dict[str, np.ndarray]:
        parts = [self._compared_part(part) for part in _batches(frames)]
        return {way: np.concatenate([part[way] for part in parts]) for way in parts[0]}

    def _compared_part(self, frames: UInt8[np.ndarray, "n h w c"]) -> dict[str, np.ndarray]:
        looks, patches = Looks.of(frames), _patches(frames)
        strange = torch.cdist(looks.colours, self.looks.colours, p=1).min(1).values
        near = torch.cdist(patches.flatten(0, 1), self.patches).min(1).values
        return {
            "place": torch.cdist(looks.small, self.looks.small).min(1).values.numpy(),
            "colours": (strange / 2).numpy(),
            "patches": near.view(len(frames), -1).mean(1).numpy(),
            "edges": looks.steepness.numpy(),
        }


def bank_of(dataset: Dataset, *, most: int, seed: int) -> tuple[Bank, UInt8[np.ndarray, "m h w c"]]:
    """Of a half of the episodes, with bounds from a quarter; and frames of the last one."""
    order = np.random.default_rng(seed).permutation(len(dataset))
    if len(order) < 4:
        raise ValueError(
            f"{dataset.folder} has {len(order)} episodes, expected 4 or more to tell what real "
            "frames look like"
        )
    half, three = len(order) // 2, -(-3 * len(order) // 4)
    groups, many = np.split(order, (half, three)), (most, most // 4, most // 8)
    bank, bounds, others = (
        dataset.frames(_rows(dataset, *each)) for each in zip(groups, many, strict=True)
    )
    return Bank.of(bank, bounds), others


def _rows(dataset: Dataset, episodes: Int[np.ndarray, "e"], most: int) -> Int[np.ndarray, "n"]:
    """Some of their frames, spread evenly."""
    index = dataset.index[episodes]
    rows = np.concatenate(
        [np.arange(s, s + n) for s, n in zip(index["start"], index["length"], strict=True)]
    )
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]


STEPS = (50, 100, 200)
"""After which dreams are looked at."""


@dataclass(frozen=True, kw_only=True)
class Melting:
    """Shares of pictures that are of this world."""

    rollouts: int
    dream: dict[int, Interval]
    reconstruction: Interval
    real: Interval
    """Of other episodes than those that say what real frames look like."""

    blurred: Interval
    """Of real frames, so that it is seen to catch something."""

    doubled: Interval
    """Two real frames, one over the other."""


@torch.no_grad()
def melting(
    dreamer: Dreamer,
    dataset: Dataset,
    bank: Bank,
    others: UInt8[np.ndarray, "m h w c"],
    *,
    context: int,
    rollouts: int,
    seed: int,
) -> Iterator[int | Melting]:
    """How many dreams are done; in the end, what was found. Where a log is shorter than the
    dreams, its actions begin anew."""
    index = dataset.index[dataset.index["length"] > context]
    order = np.random.default_rng(seed).permutation(len(index))[:rollouts]
    held: dict[int, list[np.ndarray]] = {step: [] for step in STEPS}
    many = max(1, AT_ONCE // context)
    for i in range(0, len(order), many):
        part = index[order[i : i + many]]
        plan, taken = _endless(dataset, part["start"], part["length"], context)
        for step, out in dreamer.dream(dataset, plan, taken):
            if step in held:
                shown = to_colour(dreamer.model.decode(out.state).frames).cpu().numpy()
                held[step].append(bank.holds(shown))
        yield len(part)
    model = dreamer.model
    proprio = torch.zeros(len(others), model.spec.proprio_size, device=model.device)
    seen = model.global_model.reconstruct(torch.from_numpy(others).to(model.device), proprio)
    shares = {
        "reconstruction": to_colour(seen.frames).cpu().numpy(),
        "real": others,
        "blurred": blurred(others),
        "doubled": doubled(others, seed=seed),
    }
    yield Melting(
        rollouts=len(order),
        dream={step: share(np.concatenate(each), seed=seed) for step, each in held.items()},
        **{name: share(bank.holds(frames), seed=seed) for name, frames in shares.items()},
    )


def _endless(
    dataset: Dataset, start: Int[np.ndarray, "b"], length: Int[np.ndarray, "b"], context: int
) -> tuple[Plan, np.ndarray]:
    plan = Plan(rows=start + np.arange(context)[:, None], context=context, steps=(STEPS[-1],))
    step = np.arange(STEPS[-1])[:, None]
    rows = start + (context - 1 + step) % (length - 1)
    return plan, dataset.action[rows]


def blurred(frames: UInt8[np.ndarray, "n h w c"], cells: int = 7) -> UInt8[np.ndarray, "n h w c"]:
    """Each pixel the mean of a square around it, of so many pixels a side."""
    shown = torch.from_numpy(frames).movedim(-1, 1).float()
    side = cells // 2
    padded = functional.pad(shown, (side, side, side, side), mode="replicate")
    return functional.avg_pool2d(padded, cells, 1).round().byte().movedim(1, -1).numpy()


def doubled(frames: UInt8[np.ndarray, "n h w c"], *, seed: int) -> UInt8[np.ndarray, "n h w c"]:
    """Each half transparent above another, as a mean of what might be."""
    other = np.random.default_rng(seed).permutation(len(frames))
    mixed = (frames.astype(np.uint16) + frames[other]) // 2
    return np.asarray(mixed.astype(np.uint8))


def _batches(frames: UInt8[np.ndarray, "n h w c"]) -> Iterator[UInt8[np.ndarray, "m h w c"]]:
    for i in range(0, max(len(frames), 1), _AT_ONCE):
        yield frames[i : i + _AT_ONCE]
