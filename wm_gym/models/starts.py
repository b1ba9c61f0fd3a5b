"""Real moments that a dream can begin from, kept as PNG until they are asked for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, UInt8

from wm_gym.models.protocol import ModelSpec
from wm_gym.storage.png import decode_png, encode_png


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    frames: UInt8[np.ndarray, "k h w c"]
    action: Float32[np.ndarray, "k0 a"]
    """What led from each frame to the next."""

    felt: Float32[np.ndarray, "k p"] | None = None
    """Proprioception beside each frame."""

    task: int = 0

    @property
    def proprio(self) -> Float32[np.ndarray, "k p"]:
        """Of no numbers where there is none."""
        return np.zeros((len(self.frames), 0), np.float32) if self.felt is None else self.felt


@dataclass(frozen=True, kw_only=True, eq=False)
class Starts:
    """Windows of one or more frames. Those of one frame are all that a real system has at reset."""

    png: UInt8[np.ndarray, "bytes"]
    """All pictures in a row."""

    end: Int[np.ndarray, "p"]
    """Where each picture ends among the bytes."""

    first: Int[np.ndarray, "n1"]
    """Each window's first picture; the last entry is the number of pictures."""

    action: Float32[np.ndarray, "p a"]
    """What followed each picture; zeros after a window's last."""

    proprio: Float32[np.ndarray, "p q"] | None = None
    """Beside each picture; None: of no numbers."""

    task: Int[np.ndarray, "n0"] | None = None
    """Of each window; None: all are of the first."""

    def usual_proprio(self, size: int) -> Float32[np.ndarray, "p"]:
        """So many numbers that stand in for proprioception which nobody tells: their mean here."""
        return mean_proprio(self.proprio, size)

    def __len__(self) -> int:
        return len(self.first) - 1

    def __getitem__(self, i: int) -> Start:
        i = range(len(self))[i]  # IndexError beyond
        pictures = range(self.first[i], self.first[i + 1])
        return Start(
            frames=np.stack([self._picture(p) for p in pictures]),
            action=self.action[pictures.start : pictures.stop - 1],
            felt=self._proprio[pictures.start : pictures.stop],
            task=0 if self.task is None else int(self.task[i]),
        )

    @property
    def _proprio(self) -> Float32[np.ndarray, "p q"]:
        return np.zeros((len(self.end), 0), np.float32) if self.proprio is None else self.proprio

    def of_task(self, task: int) -> Int[np.ndarray, "n"]:
        """Which windows are of this task."""
        every = np.zeros(len(self), np.int64) if self.task is None else self.task
        return np.flatnonzero(every == task)

    def _picture(self, p: int) -> UInt8[np.ndarray, "h w c"]:
        return decode_png(self._blob(p))

    def _blob(self, p: int) -> bytes:
        begin = self.end[p - 1] if p else 0
        return self.png[begin : self.end[p]].tobytes()

    def check(self, spec: ModelSpec) -> None:
        """ValueError where these are no starts of such a model; looks at every picture."""
        frame_shape, action_size, context = spec.frame_shape, spec.action_size, spec.prefill
        self._check_sums()
        self._check_tasks(spec)
        if self.action.shape[1:] != (action_size,) or not np.isfinite(self.action).all():
            raise ValueError(
                f"its actions are of shape {self.action.shape} or not finite, expected "
                f"{action_size} finite numbers each"
            )
        if (longest := np.diff(self.first).max()) > context:
            raise ValueError(f"a window has {longest} frames, expected up to {context}")
        for p in range(len(self.end)):
            try:
                self._check_picture(p, frame_shape)
            except ValueError as error:
                raise ValueError(f"picture {p}: {error}") from error

    def _check_sums(self) -> None:
        ranks = self.png.ndim, self.end.ndim, self.first.ndim, self.action.ndim
        whole = ranks == (1, 1, 1, 2) and (
            len(self.first) > 1
            and self.first[0] == 0
            and self.first[-1] == len(self.end) == len(self.action)
            and self.end[-1] == len(self.png)
            and (np.diff(self.first) >= 1).all()
            and (np.diff(self.end, prepend=0) > 0).all()
        )
        if not whole:
            raise ValueError("its windows and pictures do not add up")

    def _check_tasks(self, spec: ModelSpec) -> None:
        proprio, size = self._proprio, spec.proprio_size
        if proprio.shape != (len(self.end), size) or not np.isfinite(proprio).all():
            raise ValueError(
                f"its proprioception is of shape {proprio.shape} or not finite, expected {size} "
                "finite numbers beside each picture"
            )
        if self.task is not None and (
            self.task.shape != (len(self),) or not np.isin(self.task, range(spec.tasks)).all()
        ):
            raise ValueError(
                f"its tasks are of shape {self.task.shape} or others than the {spec.tasks} that "
                "the model knows, expected one a window"
            )

    def _check_picture(self, p: int, frame_shape: tuple[int, ...]) -> None:
        """Its size first, as its header and its length tell it: a few bytes can inflate to much."""
        png, (height, width, _) = self._blob(p), frame_shape
        told = int.from_bytes(png[20:24]), int.from_bytes(png[16:20])
        most = 2 * math.prod(frame_shape) + 1024
        if told != (height, width) or len(png) > most:
            raise ValueError(
                f"a PNG of {len(png)} bytes and {told[0]} × {told[1]} pixels, "
                f"expected up to {most} bytes and {height} × {width}"
            )
        if (shape := decode_png(png).shape) != frame_shape:
            raise ValueError(f"it is of shape {shape}, expected {frame_shape}")

    @classmethod
    def pack(cls, starts: Sequence[Start]) -> "Starts":
        if not starts:
            raise ValueError("there are no starts to pack, expected at least one")
        pngs = [encode_png(frame) for start in starts for frame in start.frames]
        actions = [
            np.concatenate([start.action, np.zeros((1, start.action.shape[1]))]) for start in starts
        ]
        several, feels = any(s.task for s in starts), starts[0].proprio.shape[1] > 0
        return cls(
            png=np.frombuffer(b"".join(pngs), np.uint8),
            end=np.cumsum([len(png) for png in pngs], dtype=np.int64),
            first=np.cumsum([0, *(len(start.frames) for start in starts)], dtype=np.int64),
            action=np.concatenate(actions).astype(np.float32),
            proprio=np.concatenate([start.proprio for start in starts]) if feels else None,
            task=np.array([start.task for start in starts]) if several else None,
        )


def mean_proprio(felt: Float32[np.ndarray, "n p"] | None, size: int) -> Float32[np.ndarray, "p"]:
    """Zeros where there is none."""
    if felt is None or not size:
        return np.zeros(size, np.float32)
    return np.asarray(felt.mean(0, dtype=np.float64), np.float32)
