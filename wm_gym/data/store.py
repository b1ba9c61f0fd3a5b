"""Writing a dataset: episodes one by one, in any order, from any number of processes; then packed.

Killed at any moment, every episode whose `add` returned stays readable, and the work goes on with
the numbers that `finished` does not have. What lies where is told in `layout` and `lerobot`.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wm_gym.data import lerobot
from wm_gym.data.episode import Episode
from wm_gym.data.layout import (
    LOOSE_FOLDER,
    META_PATH,
    Entry,
    Meta,
    is_finished,
    is_whole,
    loose_episodes,
    loose_path,
)
from wm_gym.data.pack import pack, remove_loose
from wm_gym.data.rows import to_table, writer_options
from wm_gym.data.spec import DatasetSpec
from wm_gym.storage.files import explain_full_disk, locked, remove_strays, write_atomically


@dataclass(frozen=True)
class DatasetWriter:
    """No state but the folder: every process may have its own, or a copy of one."""

    folder: Path
    spec: DatasetSpec

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        if not (self.folder / META_PATH).exists():
            self._begin()
        if differences := self.spec.differences(Meta.read(self.folder).spec):
            raise ValueError(
                f"{self.folder} already holds a dataset with another spec or recipe, and nothing "
                "was overwritten; choose another folder, or go on with the same. "
                f"Asked for {'; '.join(differences)}"
            )

    def _begin(self) -> None:
        """Several processes may begin at once: one does, the others then find it begun."""
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file, expected a folder to write to")
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, patiently=True):
            if not (self.folder / META_PATH).exists():
                _refuse_foreign_data(self.folder)
                Meta(spec=self.spec).write(self.folder)

    def add(self, number: int, episode: Episode) -> None:
        """Once this returns, the episode is on the disk. Numbers give the order; gaps are fine."""
        self.spec.check(episode)
        path = self._free_path(number)
        table = Entry.of(number, episode).attach(to_table(self.spec, episode))
        with explain_full_disk(
            f"episode {number} was not saved in {self.folder}",
            lambda: (
                f"{len(self._complete())} complete episodes are safe there; "
                "free some space and run again what was writing"
            ),
        ):
            write_atomically(path, _parquet(table))

    def holds(self, number: int) -> bool:
        path = loose_path(self.folder, number)
        return path.exists() and is_whole(path)

    def finished(self) -> set[int]:
        """Numbers of the complete episodes; half-written ones are removed, with a warning."""
        half_written = remove_strays(self.folder / LOOSE_FOLDER)
        _, cut_off = loose_episodes(self.folder)
        for path in cut_off:
            path.unlink()
        complete = self._complete()
        if dropped := half_written + len(cut_off):
            warnings.warn(
                f"{self.folder}: {dropped} half-written episode(s) dropped, "
                f"{len(complete)} complete",
                stacklevel=2,
            )
        return complete

    def finalize(self, *, file_bytes: int = lerobot.FILE_MB * 2**20) -> None:
        """Packs the episodes into data files of at most `file_bytes`; may be repeated if killed.

        Until the packed dataset is on the disk, the loose episodes stay: it needs room for both.
        """
        with locked(self.folder):
            self._finalize(file_bytes)

    def _finalize(self, file_bytes: int) -> None:
        if not is_finished(self.folder):
            self.finished()
            with explain_full_disk(
                f"{self.folder} was not finalized",
                lambda: (
                    f"all {len(self._complete())} episodes are safe in {LOOSE_FOLDER}/; "
                    "free some space and run again what was writing"
                ),
            ):
                pack(self.folder, self.spec, file_bytes=file_bytes)
        remove_loose(self.folder)

    def _free_path(self, number: int) -> Path:
        if is_finished(self.folder):
            raise ValueError(f"{self.folder} is finalized: write episode {number} to a new folder")
        if number < 0:
            raise ValueError(f"episode number is {number}, expected 0 or more")
        if self.holds(number):
            raise ValueError(
                f"episode {number} is already in {self.folder}; "
                "add only numbers that finished() does not have"
            )
        return loose_path(self.folder, number)

    def _complete(self) -> set[int]:
        if is_finished(self.folder):
            return {entry.number for entry in Meta.read(self.folder).entries}
        return set(loose_episodes(self.folder)[0])


def _refuse_foreign_data(folder: Path) -> None:
    if any(folder.iterdir()):
        raise ValueError(
            f"{folder} is not empty and has no {META_PATH}, so what it holds is not ours, "
            "and nothing was overwritten; choose an empty folder"
        )


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **writer_options(table.schema))
    return sink.getvalue().to_pybytes()
