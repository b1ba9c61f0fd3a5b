"""Reading a dataset, finished or not. What a row is, and how it is padded, is told in `rows`."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from wm_gym.data.episode import Episode
from wm_gym.data.layout import (
    LOOSE_FOLDER,
    META_PATH,
    Entry,
    Meta,
    content_hash,
    is_finished,
    loose_episodes,
    tasks_of,
)
from wm_gym.data.rows import (
    Columns,
    concatenate,
    damage_named,
    read_columns,
    read_table,
    to_columns,
)
from wm_gym.data.spec import DatasetSpec
from wm_gym.storage.files import count_strays, plain_file, sha256


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Rows are numbered through the whole dataset, also in a selection: it has a shorter index."""

    folder: Path
    spec: DatasetSpec
    index: np.ndarray
    """One record per episode: start (its first row), length (its rows), number, behaviour, split,
    seed, task, task_index, digest."""
    _columns: Columns
    _files: Mapping[str, Mapping[str, Any]]
    tasks: tuple[str, ...]
    """Sentences, by index, of the whole dataset, also in a selection."""
    _task_index: Int[np.ndarray, "n"]

    @classmethod
    def open(cls, folder: Path | str) -> "Dataset":
        """Numbers go to NumPy and pictures stay PNG, all in memory. An unfinished folder warns."""
        folder = Path(folder)
        meta = Meta.read(folder)
        if is_finished(folder):
            return cls._open_finished(folder, meta)
        return cls._open_loose(folder, meta.spec)

    @classmethod
    def _open_finished(cls, folder: Path, meta: Meta) -> "Dataset":
        for name, file in meta.files.items():
            _check_size(plain_file(folder, name), file["bytes"])
        data = [folder / name for name in meta.files if name.startswith("data/")]
        if not data or not meta.entries:
            raise ValueError(
                f"{folder / META_PATH} names {len(data)} files in data/ and {len(meta.entries)} "
                "episodes, expected some of both; copy or download the dataset again"
            )
        columns = concatenate([read_columns(meta.spec, path) for path in data])
        return cls._opened(folder, meta.spec, meta.entries, columns, meta.files)

    @classmethod
    def _open_loose(cls, folder: Path, spec: DatasetSpec) -> "Dataset":
        whole, cut_off = loose_episodes(folder)
        half_written = count_strays(folder / LOOSE_FOLDER) + len(cut_off)
        if not whole:
            raise ValueError(
                f"{folder} is not finished and holds no complete episode "
                f"({half_written} half-written); run again what was writing it"
            )
        warnings.warn(
            f"{folder} is not finished: {len(whole)} episodes are complete and were read, "
            f"{half_written} half-written left out; running again what wrote it finishes it",
            stacklevel=3,
        )
        parts, entries = [], []
        for path in whole.values():
            with damage_named(path):
                table = read_table(path)
                parts.append(to_columns(spec, table))
                entries.append(Entry.attached(table))
        columns = concatenate(parts)
        return cls._opened(folder, spec, entries, columns, {})

    @classmethod
    def _opened(
        cls,
        folder: Path,
        spec: DatasetSpec,
        entries: Sequence[Entry],
        columns: Columns,
        files: Mapping[str, Mapping[str, Any]],
    ) -> "Dataset":
        tasks = tasks_of(spec, entries)
        index = _index(entries, columns, folder, tasks)
        rows = np.repeat(index["task_index"], index["length"])
        return cls(folder, spec, index, columns, files, tasks, rows)

    def __len__(self) -> int:
        """Episodes."""
        return len(self.index)

    def __repr__(self) -> str:
        return f"Dataset({str(self.folder)!r}: {len(self)} episodes, {self.num_frames} frames)"

    @property
    def num_frames(self) -> int:
        return int(self.index["length"].sum())

    @property
    def hash(self) -> str:
        """Of the decoded content of these episodes, in order."""
        return content_hash(self.index["digest"].tolist())

    @property
    def action(self) -> Float32[np.ndarray, "n a"]:
        """By row: the action taken in that frame; zeros in an episode's last."""
        return self._columns.action

    @property
    def reward(self) -> Float32[np.ndarray, "n"]:
        """By row: the reward of the transition leaving that frame; zero in an episode's last."""
        return self._columns.reward

    @property
    def terminated(self) -> Bool[np.ndarray, "n"]:
        """By row: whether the transition that leaves that frame reaches a terminal state."""
        return self._columns.terminated

    @property
    def ended(self) -> Bool[np.ndarray, "episodes"]:
        """Which episodes terminated, in the order of the index."""
        return self.terminated[self.index["start"] + self.index["length"] - 2]

    @property
    def proprio(self) -> Float32[np.ndarray, "n p"] | None:
        """By row: what the robot felt in that frame; None where nobody logged it."""
        return self._columns.proprio

    @property
    def progress(self) -> Float[np.ndarray, "n"] | None:
        """By row: the share of its task that is achieved in that frame; None where nobody logged
        it."""
        name = self.spec.progress_fact
        return None if name is None else self.fact(name)

    @property
    def coverage(self) -> Float[np.ndarray, "n"] | None:
        """An alias of `progress`."""
        return self.progress

    @property
    def task_index(self) -> Int[np.ndarray, "n"]:
        """By row: which of `tasks` it is of."""
        return self._task_index

    def fact(self, name: str) -> np.ndarray:
        """By row, shaped (n, *shape)."""
        if name not in self.spec.facts:
            raise ValueError(f"no fact {name!r}; this dataset has {sorted(self.spec.facts)}")
        return self._columns.facts[name]

    def frames(self, rows: Sequence[int] | Int[np.ndarray, "r"]) -> UInt8[np.ndarray, "r h w c"]:
        return self._columns.pictures.decode(np.asarray(rows, np.int64), self.spec.picture)

    def episode(self, i: int) -> Episode:
        """The i-th of this selection."""
        entry, columns = self.index[i], self._columns
        frames = slice(int(entry["start"]), int(entry["start"] + entry["length"]))
        transitions = slice(frames.start, frames.stop - 1)
        return Episode(
            frames=self.frames(np.arange(frames.start, frames.stop)),
            action=columns.action[transitions],
            reward=columns.reward[transitions],
            terminated=bool(columns.terminated[frames.stop - 2]),
            truncated=bool(columns.truncated[frames.stop - 2]),
            facts={name: values[frames] for name, values in columns.facts.items()},
            behaviour=str(entry["behaviour"]),
            split=str(entry["split"]),
            seed=int(entry["seed"]),
            task=str(entry["task"]),
            proprio=None if columns.proprio is None else columns.proprio[frames],
        )

    def select(self, *, split: str | None = None, behaviour: str | None = None) -> "Dataset":
        """Fewer episodes of the same memory; row numbers stay what they were."""
        chosen = np.ones(len(self), np.bool_)
        for name, wanted in {"split": split, "behaviour": behaviour}.items():
            if wanted is not None:
                chosen &= self.index[name] == wanted
        if not chosen.any():
            has = {name: np.unique(self.index[name]).tolist() for name in ("split", "behaviour")}
            raise ValueError(
                f"no episode has split={split!r} and behaviour={behaviour!r} (None is any); "
                f"there are {has}"
            )
        return replace(self, index=self.index[chosen])

    def verify(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Hashes all files, and all episodes of this selection anew; ValueError names the damaged.

        progress(checked, total) is called after each of them.
        """
        checks = [partial(self._file_problem, name) for name in self._files]
        checks += [partial(self._episode_problem, i) for i in range(len(self))]
        damaged = []
        for checked, check in enumerate(checks, start=1):
            if problem := check():
                damaged.append(problem)
            if progress is not None:
                progress(checked, len(checks))
        if damaged:
            raise ValueError(
                f"{self.folder} is damaged: {'; '.join(damaged[:5])}"
                f"{f'; and {len(damaged) - 5} more' if len(damaged) > 5 else ''}. "
                "Copy or download it again, or make it anew"
            )

    def _file_problem(self, name: str) -> str | None:
        path = self.folder / name
        if not path.exists():
            return f"{name} is missing"
        return None if sha256(path) == self._files[name]["sha256"] else f"{name} has changed"

    def _episode_problem(self, i: int) -> str | None:
        name = f"episode {self.index['number'][i]}"
        try:
            digest = self.episode(i).digest
        except ValueError as error:
            return f"{name} cannot be read: {error}"
        return None if digest == self.index["digest"][i] else f"{name} has changed"


def _index(
    entries: Sequence[Entry], columns: Columns, folder: Path, tasks: Sequence[str]
) -> np.ndarray:
    places = {task: index for index, task in enumerate(tasks)}
    if unknown := {entry.task for entry in entries} - set(places):
        raise ValueError(
            f"{folder} has an episode of task {min(unknown)!r}, expected one of {list(tasks)}; "
            "copy or download it again"
        )
    lengths = np.array([entry.length for entry in entries])
    if lengths.sum() != len(columns):
        raise ValueError(
            f"{folder} holds {len(columns)} rows, expected {lengths.sum()} "
            f"for its {len(entries)} episodes; copy or download it again"
        )
    fields = {
        "start": np.cumsum(lengths) - lengths,
        "length": lengths,
        **{
            name: np.array([getattr(entry, name) for entry in entries])
            for name in ("number", "behaviour", "split", "seed", "task", "digest")
        },
        "task_index": np.array([places[entry.task] for entry in entries]),
    }
    index = np.empty(len(entries), [(name, values.dtype) for name, values in fields.items()])
    for name, values in fields.items():
        index[name] = values
    return index


def _check_size(path: Path, expected: int) -> None:
    if (size := path.stat().st_size) != expected:
        raise ValueError(
            f"{path} has {size} bytes, expected {expected}: it was cut off or changed; "
            "copy or download it again"
        )
