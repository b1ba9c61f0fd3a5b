"""What lies where in a dataset's folder, besides LeRobot's own files (see `lerobot`).

meta/wm_gym.json                    spec and recipe; once finished, also all checksums
episodes/episode-000123.parquet     one complete episode each, until they are packed
meta/info.json                      written last: its presence means that all is packed
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from wm_gym.data import lerobot
from wm_gym.data.episode import Episode
from wm_gym.data.spec import DatasetSpec
from wm_gym.storage.files import plain_file, write_atomically

META_PATH = "meta/wm_gym.json"
LOOSE_FOLDER = "episodes"

_VERSION = 1
_LOOSE_NAME = re.compile(r"episode-(\d{6,})\.parquet")
_ENTRY_KEY = b"wm_gym"
_MAGIC = b"PAR1"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of an episode without its rows."""

    number: int
    length: int
    """Rows, which are frames: one more than transitions."""
    behaviour: str
    split: str
    seed: int
    task: str
    digest: str

    @classmethod
    def of(cls, number: int, episode: Episode) -> "Entry":
        return cls(
            number=int(number),
            length=len(episode.frames),
            behaviour=episode.behaviour,
            split=episode.split,
            seed=int(episode.seed),
            task=episode.task,
            digest=episode.digest,
        )

    def attach(self, table: pa.Table) -> pa.Table:
        metadata = {**(table.schema.metadata or {}), _ENTRY_KEY: json.dumps(asdict(self))}
        return table.replace_schema_metadata(metadata)

    @classmethod
    def attached(cls, table: pa.Table) -> "Entry":
        return cls(**json.loads(table.schema.metadata[_ENTRY_KEY]))


def loose_path(folder: Path, number: int) -> Path:
    return folder / LOOSE_FOLDER / f"episode-{number:06d}.parquet"


def loose_episodes(folder: Path) -> tuple[dict[int, Path], list[Path]]:
    """Complete episodes by number, in order; and files that were cut off behind our back."""
    whole, cut_off = {}, []
    for path in (folder / LOOSE_FOLDER).glob("*.parquet"):
        if match := _LOOSE_NAME.fullmatch(path.name):
            if is_whole(plain_file(folder, path.relative_to(folder))):
                whole[int(match[1])] = path
            else:
                cut_off.append(path)
    return dict(sorted(whole.items())), sorted(cut_off)


def is_finished(folder: Path) -> bool:
    return (folder / lerobot.INFO_PATH).is_file()


def content_hash(digests: Iterable[str]) -> str:
    """Of the decoded content of all episodes, in order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Meta:
    """The content of `meta/wm_gym.json`: the spec alone, until the dataset is packed."""

    spec: DatasetSpec
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By path: `bytes` and `sha256`."""
    entries: Sequence[Entry] = ()

    def write(self, folder: Path) -> None:
        content = {
            "format": "wm_gym dataset",
            "version": _VERSION,
            "spec": self.spec.to_json(),
            "hash": content_hash(entry.digest for entry in self.entries),
            "files": self.files,
            "episodes": [asdict(entry) for entry in self.entries],
        }
        write_atomically(folder / META_PATH, json.dumps(content, indent=1).encode())

    @classmethod
    def read(cls, folder: Path) -> "Meta":
        path = folder / META_PATH
        try:
            content = plain_file(folder, META_PATH).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f"{path} does not exist, so {folder} is not a wm_gym dataset; "
                "give the folder that a dataset was written to"
            ) from None
        try:
            return cls._parsed(json.loads(content))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} cannot be read ({type(error).__name__}: {error}); "
                "copy or download the dataset again"
            ) from error

    @classmethod
    def _parsed(cls, content: Mapping[str, Any]) -> "Meta":
        if content["version"] != _VERSION:
            raise ValueError(
                f"its version is {content['version']}, expected {_VERSION}: use a newer wm_gym"
            )
        entries = [Entry(**entry) for entry in content["episodes"]]
        if content_hash(entry.digest for entry in entries) != content["hash"]:
            raise ValueError("its hash is not that of its episodes")
        files = {
            path: {"bytes": file["bytes"], "sha256": file["sha256"]}
            for path, file in content["files"].items()
        }
        return cls(spec=DatasetSpec.from_json(content["spec"]), files=files, entries=entries)


def is_whole(path: Path) -> bool:
    """A Parquet file begins and ends with its magic word."""
    with path.open("rb") as file:
        begins = file.read(4) == _MAGIC
        return begins and file.seek(0, 2) >= 12 and file.seek(-4, 2) > 0 and file.read() == _MAGIC
