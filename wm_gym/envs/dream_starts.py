"""Where dreams begin: from real frames, packaged, logged or given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int

from wm_gym.data import Dataset
from wm_gym.models import trees
from wm_gym.models.protocol import ModelSpec, Prefill
from wm_gym.models.starts import Start, mean_proprio
from wm_gym.types import PROPRIO


@runtime_checkable
class StartSource(Protocol):
    """Where dreams begin: some windows, any of which can be asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Start: ...

    def of_task(self, task: int) -> Int[np.ndarray, "n"]:
        """Which of them are of this task."""

    def usual_proprio(self, size: int) -> Float32[np.ndarray, "p"]:
        """So many numbers that stand in for proprioception which nobody tells: their mean here."""


@dataclass(frozen=True, eq=False)
class LoggedStarts:
    """Every logged frame that something came after, or may have, with what came before it, as far
    as the model looks back."""

    dataset: Dataset
    spec: ModelSpec

    def __len__(self) -> int:
        return int(self._many().sum())

    def _many(self) -> Int[np.ndarray, "episodes"]:
        """Frames of each episode, without the one where it terminated."""
        return np.asarray(self.dataset.index["length"] - self.dataset.ended)

    def __getitem__(self, i: int) -> Start:
        index, many = self.dataset.index, self._many()
        ends = np.cumsum(many)
        episode = int(np.searchsorted(ends, i, side="right"))
        begin = int(index["start"][episode])
        last = begin + i - int(ends[episode] - many[episode])
        rows = np.arange(max(begin, last - self.spec.prefill + 1), last + 1)
        return logged_start(self.dataset, self.spec, rows)

    def of_task(self, task: int) -> Int[np.ndarray, "n"]:
        """Windows of a model that knows one task are all of that."""
        of = self.dataset.index["task_index"] * (self.spec.tasks > 1)
        return np.flatnonzero(np.repeat(of, self._many()) == task)

    def usual_proprio(self, size: int) -> Float32[np.ndarray, "p"]:
        felt = self.dataset.proprio
        return mean_proprio(felt, size)


def logged_start(dataset: Dataset, spec: ModelSpec, rows: Int[np.ndarray, "k"]) -> Start:
    """Of these rows of one episode; proprioception and task only where the model knows them."""
    felt = dataset.proprio if spec.proprio_size else None
    return Start(
        frames=dataset.frames(rows),
        action=dataset.action[rows[:-1]],
        felt=None if felt is None else felt[rows],
        task=int(dataset.task_index[rows[0]]) if spec.tasks > 1 else 0,
    )


def last_frame(start: Start) -> Start:
    """All that a real system shows at reset, and so all that a filter begins with."""
    return Start(
        frames=start.frames[-1:], action=start.action[:0], felt=start.proprio[-1:],
        task=start.task,
    )  # fmt: skip


def prefill_of(starts: Sequence[Start], k: int, device: torch.device) -> Prefill:
    """The last k frames of each; where there are fewer, the first ones are missing."""
    frames, proprio, action, known = zip(*(_last(start, k) for start in starts), strict=True)
    return trees.moved(
        Prefill(
            frames=torch.from_numpy(np.stack(frames)),
            proprio=torch.from_numpy(np.stack(proprio)),
            action=torch.from_numpy(np.stack(action)),
            known=torch.from_numpy(np.stack(known)),
            task=torch.tensor([start.task for start in starts]),
        ),
        device,
    )


def _last(start: Start, k: int) -> tuple[np.ndarray, ...]:
    missing = max(k - len(start.frames), 0)
    action = start.action[len(start.action) - (k - 1 - missing) :]

    def filled(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros((missing, *values.shape[1:]), values.dtype), values])

    known = np.arange(k) >= missing
    return filled(start.frames[-k:]), filled(start.proprio[-k:]), filled(action), known


def given_starts(
    options: Mapping[str, Any],
    num_envs: int,
    *,
    frame_shape: tuple[int, ...],
    action_size: int,
    usual_proprio: Float32[np.ndarray, "p"] | None = None,
    task: Sequence[int | None] = (),
) -> list[Start] | None:
    """What reset's options ask for: real frames, the actions between them, and proprioception
    beside them, in place of which there may be the usual one; None if nothing."""
    unknown = set(options) - {"frames", "actions", PROPRIO}
    if unknown:
        raise ValueError(
            f"unknown reset options {sorted(unknown)}; a dream takes 'frames', 'actions', "
            f"{PROPRIO!r} and 'task'"
        )
    if options.get("frames") is None:
        if options.get("actions") is not None:
            raise ValueError("options['actions'] without options['frames']")
        return None
    frames = _array(options["frames"], "frames")
    if frames.dtype != np.uint8 or frames.ndim not in (4, 5) or frames.shape[-3:] != frame_shape:
        raise ValueError(
            f"options['frames'] is {frames.dtype} {frames.shape}, expected uint8 "
            f"(k, {', '.join(map(str, frame_shape))}), or one more axis for each environment"
        )
    many = frames.ndim == 5
    k = frames.shape[-4]
    if k < 1 or (many and len(frames) != num_envs):
        raise ValueError(
            f"options['frames'] has shape {frames.shape}, expected at least one frame for "
            f"each of {num_envs} environments"
        )
    lead = (num_envs,) if many else ()
    action = _given_actions(options.get("actions"), (*lead, k - 1, action_size))
    usual = np.zeros(0, np.float32) if usual_proprio is None else usual_proprio
    proprio = _given_proprio(options.get(PROPRIO), (*lead, k), usual)
    told = (frames, action, proprio)
    each = list(zip(*told, strict=True)) if many else [told] * num_envs
    asked = [one or 0 for one in task] or [0] * num_envs
    return [
        Start(frames=f, action=a, felt=p, task=t) for (f, a, p), t in zip(each, asked, strict=True)
    ]


def _given_proprio(
    proprio: Any, lead: tuple[int, ...], usual: Float32[np.ndarray, "p"]
) -> Float32[np.ndarray, "..."]:
    expected = (*lead, len(usual))
    if proprio is None or not len(usual):  # nobody knows, or nobody asks
        return np.broadcast_to(usual, expected).copy()
    array = _array(proprio, PROPRIO)
    if array.dtype.kind not in "fiu" or array.shape != expected or not np.isfinite(array).all():
        raise ValueError(
            f"options[{PROPRIO!r}] is {array.dtype} {array.shape}, expected finite numbers "
            f"{expected}: proprioception beside each frame"
        )
    return array.astype(np.float32)


def _given_actions(actions: Any, expected: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    if actions is None and expected[-2] == 0:
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


def _array(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except Exception as error:
        raise ValueError(f"options[{name!r}] is no array: {error}") from error
