"""Episodes as rows of Parquet files, and the columns that come back.

An episode of t transitions is t + 1 rows. Row i holds frame i, the facts about it, and the action
and the reward of the transition from frame i to frame i + 1. No transition leaves the last frame:
its row has `is_last` and, in the columns of transitions, zeros. `next.terminated` and
`next.truncated` can be true in the row before the last alone.
"""

import errno
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32, Int, UInt8

from wm_gym.data import lerobot
from wm_gym.data.episode import Episode
from wm_gym.data.spec import DatasetSpec
from wm_gym.storage.files import UNREADABLE
from wm_gym.storage.png import decode_png_into, encode_png


def writer_options(schema: pa.Schema) -> dict[str, Any]:
    """For `pq.ParquetWriter`: checksums in each page, ranges only where readers filter by them."""
    scalars = [field.name for field in schema if not pa.types.is_nested(field.type)]
    return {
        "compression": "snappy",  # which leaves PNG as it is
        "use_dictionary": False,
        "write_statistics": scalars,
        "write_page_checksum": True,
    }


def to_table(spec: DatasetSpec, episode: Episode) -> pa.Table:
    """All columns but `lerobot.OF_THE_WHOLE`, which say where in the dataset the episode is."""
    columns = lerobot.features(spec)
    for name in lerobot.OF_THE_WHOLE:
        del columns[name]
    frames = len(episode.frames)
    ends = np.zeros((2, frames), np.bool_)
    ends[:, -2] = episode.terminated, episode.truncated
    values = {
        "action": np.concatenate([episode.action, np.zeros_like(episode.action[:1])]),
        "next.reward": np.append(episode.reward, np.float32(0)),
        "next.terminated": ends[0],
        "next.truncated": ends[1],
        "is_last": np.arange(frames) == frames - 1,
        "timestamp": (np.arange(frames) / spec.fps).astype(np.float32),
        "frame_index": np.arange(frames),
    }
    values |= {lerobot.fact_column(name): episode.facts[name] for name in spec.facts}
    if episode.proprio is not None:
        values[lerobot.STATE] = episode.proprio
    schema = lerobot.schema(columns)
    arrays = [
        _pictures(episode.frames, field.type)
        if field.name == lerobot.PICTURE
        else _array(values[field.name], field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Whatever a damaged file leads to becomes a ValueError that names it."""
    try:
        yield
    except (FileNotFoundError, MemoryError):
        raise
    except (OSError, pa.ArrowException, *UNREADABLE) as error:
        if isinstance(error, OSError) and error.errno in _NOT_ITS_FAULT:
            raise
        raise ValueError(
            f"{path} is damaged or cut off ({path.stat().st_size} bytes): {error}; "
            "copy or download it again, or make the dataset anew"
        ) from error


_NOT_ITS_FAULT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES)
"""Errors of the machine, and of who may read what."""


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read(columns=columns)


def column_values(table: pa.Table, name: str, shape: tuple[int, ...]) -> Any:
    """The column as a NumPy array (rows, *shape)."""
    column = table.column(name)
    if not table.num_rows:
        raise ValueError("it has no rows, expected some")
    flat = [_flat(name, chunk) for chunk in column.chunks]
    values = np.concatenate([chunk.to_numpy(zero_copy_only=False) for chunk in flat])
    if values.dtype.kind not in "biuf":
        raise ValueError(f"column {name!r} is of {column.type}, expected numbers")
    if -1 not in shape and values.size != table.num_rows * math.prod(shape):
        raise ValueError(
            f"column {name!r} has {values.size} numbers in {table.num_rows} rows, "
            f"expected {math.prod(shape)} in each"
        )
    return values.reshape(table.num_rows, *shape)


def _flat(name: str, chunk: pa.Array) -> pa.Array:
    """Lists, and lists of lists, that are all of one length."""
    while True:
        if chunk.null_count:
            raise ValueError(f"column {name!r} lacks {chunk.null_count} values, expected them all")
        if not pa.types.is_nested(chunk.type):
            return chunk
        if not pa.types.is_fixed_size_list(chunk.type):
            lengths = np.unique(np.asarray(pc.list_value_length(chunk)))
            if len(lengths) > 1:
                raise ValueError(
                    f"column {name!r} has lists of {lengths[0]:.0f} to {lengths[-1]:.0f} entries, "
                    "expected all of one length"
                )
        chunk = chunk.flatten()


@dataclass(frozen=True, eq=False)
class Pictures:
    """The PNG of each row, where Arrow put it: no object per row."""

    blobs: tuple[memoryview, ...]
    blob: Int[np.ndarray, "n"]
    """Which of the blobs holds the row; `start` and `stop` say where."""
    start: Int[np.ndarray, "n"]
    stop: Int[np.ndarray, "n"]

    def decode(
        self, rows: Int[np.ndarray, "r"], shape: tuple[int, int, int]
    ) -> UInt8[np.ndarray, "r h w c"]:
        frames = np.empty((len(rows), *shape), np.uint8)
        where = (self.blob[rows].tolist(), self.start[rows].tolist(), self.stop[rows].tolist())
        for i, (blob, start, stop) in enumerate(zip(*where, strict=True)):
            try:
                decode_png_into(self.blobs[blob][start:stop], frames[i])
            except ValueError as error:
                raise ValueError(f"the picture in row {rows[i]} cannot be read: {error}") from error
        return frames


@dataclass(frozen=True, eq=False)
class Columns:
    """Rows of one file or of many; `action`, `reward` and `terminated` are padded as on disk."""

    pictures: Pictures
    action: Float32[np.ndarray, "n a"]
    reward: Float32[np.ndarray, "n"]
    terminated: Bool[np.ndarray, "n"]
    truncated: Bool[np.ndarray, "n"]
    facts: dict[str, np.ndarray]
    proprio: Float32[np.ndarray, "n p"] | None = None

    def __len__(self) -> int:
        return len(self.reward)


def to_columns(spec: DatasetSpec, table: pa.Table) -> Columns:
    return Columns(
        pictures=_locate(table.column(lerobot.PICTURE).chunks),
        action=column_values(table, "action", (spec.action_size,)),
        reward=column_values(table, "next.reward", ()),
        terminated=column_values(table, "next.terminated", ()),
        truncated=column_values(table, "next.truncated", ()),
        facts={
            name: column_values(table, lerobot.fact_column(name), fact.shape)
            for name, fact in spec.facts.items()
        },
        proprio=(
            column_values(table, lerobot.STATE, (len(spec.proprio_names),))
            if spec.proprio_names
            else None
        ),
    )


def read_columns(spec: DatasetSpec, path: Path) -> Columns:
    facts = [lerobot.fact_column(name) for name in spec.facts]
    state = [lerobot.STATE] if spec.proprio_names else []
    names = [f"{lerobot.PICTURE}.bytes", *lerobot.OF_TRANSITIONS, *facts, *state]
    with damage_named(path):
        return to_columns(spec, read_table(path, names))


def concatenate(parts: Sequence[Columns]) -> Columns:
    firsts = np.cumsum([0, *(len(part.pictures.blobs) for part in parts)])
    pictures = Pictures(
        blobs=tuple(blob for part in parts for blob in part.pictures.blobs),
        blob=np.concatenate([p.pictures.blob + n for p, n in zip(parts, firsts[:-1], strict=True)]),
        start=np.concatenate([part.pictures.start for part in parts]),
        stop=np.concatenate([part.pictures.stop for part in parts]),
    )
    felt = [part.proprio for part in parts if part.proprio is not None]
    return Columns(
        pictures=pictures,
        action=np.concatenate([part.action for part in parts]),
        reward=np.concatenate([part.reward for part in parts]),
        terminated=np.concatenate([part.terminated for part in parts]),
        truncated=np.concatenate([part.truncated for part in parts]),
        facts={
            name: np.concatenate([part.facts[name] for part in parts]) for name in parts[0].facts
        },
        proprio=np.concatenate(felt) if felt else None,
    )


def _locate(chunks: Sequence[Any]) -> Pictures:
    """Arrow holds at most 2 GiB of binary in a chunk, so offsets are per chunk."""
    blobs, offsets = [], []
    for chunk in chunks:
        png = chunk.field("bytes")
        _, places, data = png.buffers()
        offsets.append(
            np.frombuffer(places, np.int32)[png.offset :][: len(png) + 1].astype(np.int64)
        )
        blobs.append(memoryview(data))
    return Pictures(
        blobs=tuple(blobs),
        blob=np.repeat(np.arange(len(chunks)), [len(chunk) for chunk in chunks]),
        start=np.concatenate([places[:-1] for places in offsets]),
        stop=np.concatenate([places[1:] for places in offsets]),
    )


def _pictures(frames: UInt8[np.ndarray, "n h w c"], kind: pa.DataType) -> pa.Array:
    png = pa.array([encode_png(frame) for frame in frames], pa.binary())
    return pa.StructArray.from_arrays([png, pa.nulls(len(frames), pa.string())], fields=list(kind))


def _array(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, type=kind) if pa.types.is_nested(kind) else flat
