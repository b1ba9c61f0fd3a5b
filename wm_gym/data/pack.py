"""Loose episodes become a LeRobotDataset; nothing is deleted before all of it is on the disk."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wm_gym.data import lerobot
from wm_gym.data.layout import LOOSE_FOLDER, Entry, Meta, loose_episodes, tasks_of
from wm_gym.data.rows import column_values, damage_named, read_table, to_columns, writer_options
from wm_gym.data.spec import DatasetSpec
from wm_gym.data.stats import Moments, column_moments, picture_moments
from wm_gym.storage.files import atomic_file, remove_strays, sha256, write_atomically

_PICTURES_PER_EPISODE = 8
"""How many pictures of each episode the statistics look at."""


@dataclass(frozen=True, kw_only=True)
class _Packed:
    entry: Entry
    file: int
    first_row: int
    moments: dict[str, Moments]


def pack(folder: Path, spec: DatasetSpec, *, file_bytes: int) -> None:
    loose, _ = loose_episodes(folder)
    if not loose:
        raise ValueError(f"{folder} holds no complete episode: add some before finalize()")
    for name in ("data", "meta/episodes"):  # of an earlier attempt
        shutil.rmtree(folder / name, ignore_errors=True)
    remove_strays(folder / "meta")
    packed = list(_pack_data(folder, spec, list(loose.values()), file_bytes))
    entries = [episode.entry for episode in packed]
    tasks = tasks_of(spec, entries)
    _write_meta_tables(folder, packed, tasks)
    info = lerobot.info(
        spec,
        episodes=len(entries),
        frames=sum(entry.length for entry in entries),
        tasks=len(tasks),
        splits=[entry.split for entry in entries],
    )
    files = _checksums(folder, data_files=packed[-1].file + 1)
    Meta(spec=spec, files=files, entries=entries).write(folder)
    write_atomically(folder / lerobot.INFO_PATH, json.dumps(info, indent=4).encode())


def remove_loose(folder: Path) -> None:
    shutil.rmtree(folder / LOOSE_FOLDER, ignore_errors=True)


def _pack_data(
    folder: Path, spec: DatasetSpec, loose: Sequence[Path], file_bytes: int
) -> Iterator[_Packed]:
    schema = lerobot.schema(lerobot.features(spec))
    tasks = {task: index for index, task in enumerate(spec.tasks)}
    episode_index = row = 0
    for number, paths in enumerate(_groups(loose, file_bytes)):
        with (
            atomic_file(folder / lerobot.data_path(number)) as file,
            pq.ParquetWriter(file, schema, **writer_options(schema)) as writer,
        ):
            for path in paths:
                with damage_named(path):
                    table = read_table(path)
                    entry = Entry.attached(table)
                    task = tasks.setdefault(entry.task, len(tasks))
                    table = _placed(table, schema, (episode_index, row, task))
                    moments = _moments(spec, table)
                writer.write_table(table)  # one row group per episode, as LeRobot has them
                yield _Packed(entry=entry, file=number, first_row=row, moments=moments)
                episode_index, row = episode_index + 1, row + entry.length


def _groups(loose: Sequence[Path], file_bytes: int) -> Iterator[list[Path]]:
    """By the sizes of the loose files, which sum to a little more than the packed ones."""
    group: list[Path] = []
    filled = 0
    for path in loose:
        size = path.stat().st_size
        if group and filled + size > file_bytes:
            yield group
            group, filled = [], 0
        group.append(path)
        filled += size
    yield group


def _placed(table: pa.Table, schema: pa.Schema, place: tuple[int, int, int]) -> pa.Table:
    episode_index, first_row, task_index = place
    rows = np.arange(table.num_rows)
    whole = (np.full_like(rows, episode_index), rows + first_row, np.full_like(rows, task_index))
    for name, values in zip(lerobot.OF_THE_WHOLE, whole, strict=True):
        table = table.append_column(name, pa.array(values))
    return table.select(schema.names).cast(schema)


def _moments(spec: DatasetSpec, table: pa.Table) -> dict[str, Moments]:
    """Of every feature, padding left out: it would make (0, 0) the smallest action."""
    moments = {}
    for name, feature in lerobot.features(spec).items():
        if name == lerobot.PICTURE:
            rows = np.linspace(0, table.num_rows - 1, _PICTURES_PER_EPISODE).round()
            pictures = to_columns(spec, table).pictures
            frames = pictures.decode(np.unique(rows).astype(np.int64), spec.picture)
            moments[name] = picture_moments(frames)
        else:
            values = column_values(table, name, tuple(feature["shape"]))
            padding = 1 if name in lerobot.OF_TRANSITIONS else 0
            moments[name] = column_moments(values[: len(values) - padding])
    return moments


def _write_meta_tables(folder: Path, packed: Sequence[_Packed], tasks: Sequence[str]) -> None:
    rows = [_episode_row(i, episode) for i, episode in enumerate(packed)]
    tables = {
        lerobot.EPISODES_PATH: lerobot.episodes_table(rows),
        lerobot.TASKS_PATH: lerobot.tasks_table(tasks),
    }
    for path, table in tables.items():
        with atomic_file(folder / path) as file:
            pq.write_table(table, file)
    totals = {
        name: reduce(Moments.merge, (episode.moments[name] for episode in packed)).to_json()
        for name in packed[0].moments
    }
    write_atomically(folder / lerobot.STATS_PATH, json.dumps(totals, indent=4).encode())


def _episode_row(episode_index: int, episode: _Packed) -> dict[str, Any]:
    chunk, file = divmod(episode.file, lerobot.FILES_PER_CHUNK)
    entry = episode.entry
    row = {
        "episode_index": episode_index,
        "tasks": [entry.task],
        "length": entry.length,
        "data/chunk_index": chunk,
        "data/file_index": file,
        "dataset_from_index": episode.first_row,
        "dataset_to_index": episode.first_row + entry.length,
        "behaviour": entry.behaviour,
        "split": entry.split,
        "seed": entry.seed,
    }
    for name, moments in episode.moments.items():
        row |= {f"stats/{name}/{key}": value for key, value in moments.to_json().items()}
    return row


def _checksums(folder: Path, *, data_files: int) -> dict[str, dict[str, Any]]:
    paths = [lerobot.data_path(number) for number in range(data_files)]
    paths += [lerobot.EPISODES_PATH, lerobot.TASKS_PATH, lerobot.STATS_PATH]
    return {
        path: {"bytes": (folder / path).stat().st_size, "sha256": sha256(folder / path)}
        for path in paths
    }
