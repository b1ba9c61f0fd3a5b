"""n dreams of one world model, stepped together: the world behind dreaming environments."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import Tensor

from wm_gym.data import Dataset
from wm_gym.models.noise import normal_noise
from wm_gym.models.starts import Start
from wm_gym.models.world_model import Transition, WorldModel, WorldState
from wm_gym.systems import System

if hasattr(os, "register_at_fork"):  # a forked worker that asks for OpenMP's threads never returns
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

PICTURE_SIDE = 480
"""About how tall a picture for people is."""

_STATE = ("latents", "action", "error")

EXACT_BATCH = 8
"""With `deterministic`, networks see batches of exactly this many: sums are then always the same,
whatever else is dreamt beside."""


@runtime_checkable
class StartSource(Protocol):
    """Where dreams begin: some windows, any of which can be asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Start: ...


@dataclass(frozen=True, eq=False)
class LoggedStarts:
    """Every logged frame with what came before it, as far as the context looks back."""

    dataset: Dataset
    context: int

    def __len__(self) -> int:
        return self.dataset.num_frames

    def __getitem__(self, i: int) -> Start:
        index = self.dataset.index
        ends = np.cumsum(index["length"])
        episode = int(np.searchsorted(ends, i, side="right"))
        begin = int(index["start"][episode])
        last = begin + i - int(ends[episode] - index["length"][episode])
        rows = np.arange(max(begin, last - self.context + 1), last + 1)
        return Start(frames=self.dataset.frames(rows), action=self.dataset.action[rows[:-1]])


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a model is run."""

    denoising_steps: int
    deterministic: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class DreamState:
    """One dream at one moment, in NumPy: picklable, and the same on every device."""

    latents: Float32[np.ndarray, "k d"]
    action: Float32[np.ndarray, "k0 a"]
    error: float
    frame: UInt8[np.ndarray, "h w c"]
    coverage: float
    key: int
    step: int


class DreamWorld:
    """n dreams of one world model, stepped together."""

    def __init__(
        self,
        system: System,
        model: WorldModel,
        num_envs: int,
        *,
        sampling: Sampling,
        starts: StartSource,
    ) -> None:
        self.system, self.model, self.num_envs = system, model, num_envs
        self.sampling, self._starts = sampling, starts
        self._sigmas = model.sigmas(sampling.denoising_steps)
        n, device = num_envs, model.device
        self._state = WorldState(
            latents=torch.zeros(n, model.context, model.latent_size, device=device),
            action=torch.zeros(n, model.context - 1, model.action_size, device=device),
            error=torch.zeros(n, device=device),
        )
        self._frames = np.zeros((n, *system.frame_shape), np.uint8)
        self._coverage = np.zeros(n)
        self._key, self._step = np.zeros(n, np.int64), np.zeros(n, np.int64)

    def given(self, options: Mapping[str, Any]) -> list[Start] | None:
        """`options={"frames": ..., "actions": ...}`: real frames to begin from."""
        unknown = set(options) - {"frames", "actions"}
        if unknown:
            raise ValueError(
                f"unknown reset options {sorted(unknown)}; a dream takes 'frames' and 'actions'"
            )
        if options.get("frames") is None:
            if options.get("actions") is not None:
                raise ValueError("options['actions'] without options['frames']")
            return None
        frames = _array(options["frames"], "frames")
        shape = self.system.frame_shape
        if frames.dtype != np.uint8 or frames.ndim not in (4, 5) or frames.shape[-3:] != shape:
            raise ValueError(
                f"options['frames'] is {frames.dtype} {frames.shape}, expected uint8 "
                f"(k, {', '.join(map(str, shape))}), or one more axis for each environment"
            )
        many = frames.ndim == 5
        k = frames.shape[-4]
        if k < 1 or (many and len(frames) != self.num_envs):
            raise ValueError(
                f"options['frames'] has shape {frames.shape}, expected at least one frame for "
                f"each of {self.num_envs} environments"
            )
        action = self._given_actions(options.get("actions"), k, many)
        each = zip(frames, action, strict=True) if many else [(frames, action)] * self.num_envs
        return [
            Start(frames=f[-self.model.context :], action=_last(a, self.model)) for f, a in each
        ]

    def _given_actions(self, actions: Any, k: int, many: bool) -> Float32[np.ndarray, "..."]:
        leading = (self.num_envs,) if many else ()
        expected = (*leading, k - 1, self.model.action_size)
        if actions is None and k == 1:
            return np.zeros(expected, np.float32)
        if actions is None:
            raise ValueError(f"options['actions'] is missing, expected numbers {expected}")
        array = _array(actions, "actions")
        if array.dtype.kind not in "fiu" or array.shape != expected:
            raise ValueError(
                f"options['actions'] is {array.dtype} {array.shape}, expected numbers {expected}: "
                "one action between each frame and the next"
            )
        if not np.isfinite(array).all():
            raise ValueError("options['actions'] is not finite")
        return np.clip(array, -1.0, 1.0).astype(np.float32)

    def start(
        self,
        which: Bool[np.ndarray, "b"],
        rngs: Sequence[np.random.Generator],
        given: list[Start] | None,
    ) -> None:
        chosen = np.flatnonzero(which)
        keys, begun = [], []
        for i in chosen.tolist():  # two numbers an episode, whatever is asked for
            key, pick = rngs[i].integers(2**63), rngs[i].integers(len(self._starts))
            keys.append(key)
            begun.append(self._starts[int(pick)] if given is None else given[i])
        padded = [_padded(start, self.model.context) for start in begun]
        state = self._computed(self._begin, *map(np.stack, zip(*padded, strict=True)))
        coverage = self._computed(self.model.heads.coverage_of, state.latents[:, -1])
        self._key[chosen], self._step[chosen] = keys, 0
        self._frames[chosen] = [start.frames[-1] for start in begun]
        self._coverage[chosen] = coverage.cpu().numpy()
        self._keep(state, chosen)

    def _begin(self, frames: Tensor, action: Tensor) -> WorldState:
        return self.model.begin(frames, action)

    def advance(
        self, action: Float32[np.ndarray, "b a"], which: Bool[np.ndarray, "b"]
    ) -> Float[np.ndarray, "b"]:
        chosen, reward = np.flatnonzero(which), np.zeros(self.num_envs)
        if not len(chosen):
            return reward
        noise = self._noise(chosen)
        now = self._state
        out, frames = self._computed(
            self._advance, now.latents[chosen], now.action[chosen], now.error[chosen],
            action[chosen], noise,
        )  # fmt: skip
        self._step[chosen] += 1  # nothing has changed before everything is computed
        self._keep(out.state, chosen)
        self._frames[chosen] = frames.cpu().numpy()
        self._coverage[chosen] = out.coverage.cpu().numpy()
        reward[chosen] = out.reward.cpu().numpy()
        return reward

    def _advance(
        self, latents: Tensor, actions: Tensor, error: Tensor, action: Tensor, noise: Tensor
    ) -> tuple[Transition, Tensor]:
        state = WorldState(latents=latents, action=actions, error=error)
        out = self.model.step(state, action, noise, self._sigmas)
        return out, self.model.decode(out.state.latents[:, -1])

    def _noise(self, chosen: Int[np.ndarray, "n"]) -> Float[Tensor, "n d"]:
        device = self.model.device
        key = torch.from_numpy(self._key[chosen]).to(device)
        step = torch.from_numpy(self._step[chosen]).to(device)
        return normal_noise(key, step, self.model.latent_size)

    def _keep(self, state: WorldState, chosen: Int[np.ndarray, "n"]) -> None:
        if len(chosen) == self.num_envs:
            self._state = state
            return
        for name in _STATE:
            getattr(self._state, name)[chosen] = getattr(state, name)

    def _computed(self, function: Any, *arrays: Any) -> Any:
        """function(*tensors) without gradients; in batches of one size where asked to be exact."""
        tensors = [torch.as_tensor(a, device=self.model.device) for a in arrays]
        with torch.no_grad(), explain_memory(len(tensors[0])):
            if not self.sampling.deterministic:
                return function(*tensors)
            n, parts = len(tensors[0]), []
            for first in range(0, n, EXACT_BATCH):
                part = [t[first : first + EXACT_BATCH] for t in tensors]
                parts.append(function(*(_filled(t, EXACT_BATCH) for t in part)))
        return _joined(parts, n)

    def frames(self, which: Bool[np.ndarray, "b"]) -> UInt8[np.ndarray, "n h w c"]:
        return self._frames[which]

    def coverage(self) -> Float[np.ndarray, "b"]:
        return self._coverage.copy()

    def facts(self) -> dict[str, np.ndarray]:
        return {"uncertainty": self._state.error.cpu().numpy().astype(np.float64)}

    def picture(self, i: int) -> UInt8[np.ndarray, "h w c"]:
        factor = max(1, PICTURE_SIDE // self._frames.shape[1])
        return self._frames[i].repeat(factor, axis=0).repeat(factor, axis=1)

    def snapshot(self, i: int) -> DreamState:
        return DreamState(
            latents=self._state.latents[i].cpu().numpy().copy(),
            action=self._state.action[i].cpu().numpy().copy(),
            error=float(self._state.error[i]),
            frame=self._frames[i].copy(),
            coverage=float(self._coverage[i]),
            key=int(self._key[i]),
            step=int(self._step[i]),
        )

    def check_snapshot(self, snapshot: Any) -> None:
        if not isinstance(snapshot, DreamState):
            raise TypeError("the snapshot is not of a dream")
        expected = {
            "latents": self._state.latents.shape[1:],
            "action": self._state.action.shape[1:],
            "frame": self._frames.shape[1:],
        }
        for name, shape in expected.items():
            if (came := getattr(snapshot, name).shape) != tuple(shape):
                raise ValueError(
                    f"the snapshot has a {name} of shape {came}, expected {tuple(shape)}: "
                    "it is of another world model"
                )
        numbers = (snapshot.latents, snapshot.action, snapshot.error, snapshot.coverage)
        if not all(np.isfinite(number).all() for number in numbers):
            raise ValueError("the snapshot holds numbers that are not finite")

    def restore(self, i: int, snapshot: Any) -> None:
        for name in _STATE:
            getattr(self._state, name)[i] = torch.as_tensor(getattr(snapshot, name))
        self._frames[i], self._coverage[i] = snapshot.frame, snapshot.coverage
        self._key[i], self._step[i] = snapshot.key, snapshot.step


def _last(action: Float32[np.ndarray, "k0 a"], model: WorldModel) -> Float32[np.ndarray, "k1 a"]:
    return action[len(action) - min(len(action), model.context - 1) :]


def _padded(start: Start, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Fewer frames than the context: the first stood still before."""
    missing = context - len(start.frames)
    frames = np.concatenate([start.frames[:1].repeat(missing, axis=0), start.frames])
    still = np.zeros((missing, start.action.shape[1]), np.float32)
    return frames, np.concatenate([still, start.action])


def _filled(tensor: Tensor, n: int) -> Tensor:
    if len(tensor) == n:
        return tensor
    return torch.cat([tensor, tensor[-1:].expand(n - len(tensor), *tensor.shape[1:])])


def _joined(parts: list[Any], n: int) -> Any:
    """Tensors, and tuples and records of them, put together along their first axis."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)[:n]
    if isinstance(first, tuple):
        return tuple(_joined(list(each), n) for each in zip(*parts, strict=True))
    names = first.__dataclass_fields__
    return type(first)(**{name: _joined([getattr(p, name) for p in parts], n) for name in names})


def _array(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except Exception as error:
        raise ValueError(f"options[{name!r}] is no array: {error}") from error


_OUT_OF_MEMORY = re.compile("out of memory|allocate memory")


@contextmanager
def explain_memory(num_envs: int) -> Iterator[None]:
    """Of the many ways to say that memory ran out, one that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        raise MemoryError(
            f"there is not enough memory for {num_envs} dreams at once: ask for fewer environments "
            f"({error})"
        ) from error
