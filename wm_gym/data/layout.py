"""What lies where in a dataset's folder, besides LeRobot's own files (see `lerobot`).

meta/wm_gym.json                    spec and recipe; once finished, also all checksums
episodes/episode-000123.parquet     one complete episode each, until they are packed
meta/info.json                      written last: its presence means that all is packed
"""

import hashlib
import json
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from wm_gym.data import lerobot
from wm_gym.data.episode import Episode
from wm_gym.data.spec import DatasetSpec
from wm_gym.storage.files import UNREADABLE, plain_file, write_atomically

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
        return cls.from_json(json.loads((table.schema.metadata or {})[_ENTRY_KEY]))

    @classmethod
    def from_json(cls, content: Any) -> "Entry":
        """As it came from a file, where a length may be 4.0, or anything."""
        kinds: dict[str, type] = {"number": int, "length": int, "seed": int}
        kinds |= {name: str for name in ("behaviour", "split", "task", "digest")}
        _expect_kinds("an episode", content, kinds)
        for name, least in {"number": 0, "length": 2, "seed": 0}.items():
            if not least <= content[name] < 2**63:
                raise ValueError(
                    f"an episode's {name} is {content[name]}, expected {least} or more"
                )
        return cls(**{name: content[name] for name in kinds})


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


def tasks_of(spec: DatasetSpec, entries: Iterable[Entry]) -> tuple[str, ...]:
    """By index: as the spec has them, or else in order of appearance."""
    return spec.tasks or tuple(dict.fromkeys(entry.task for entry in entries))


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
        except UNREADABLE as error:
            raise ValueError(
                f"{path} cannot be read ({type(error).__name__}: {error}); "
                "copy or download the dataset again"
            ) from error

    @classmethod
    def _parsed(cls, content: Any) -> "Meta":
        kinds = {"version": int, "spec": dict, "hash": str, "files": dict, "episodes": list}
        _expect_kinds("it", content, kinds)
        if content["version"] != _VERSION:
            raise ValueError(
                f"its version is {content['version']}, expected {_VERSION}: use a newer wm_gym"
            )
        entries = [Entry.from_json(entry) for entry in content["episodes"]]
        if content_hash(entry.digest for entry in entries) != content["hash"]:
            raise ValueError("its hash is not that of its episodes")
        for name, file in content["files"].items():
            _expect_kinds(f"files has an entry {name!r} that", file, {"bytes": int, "sha256": str})
        files = {
            path: {"bytes": file["bytes"], "sha256": file["sha256"]}
            for path, file in content["files"].items()
        }
        return cls(spec=DatasetSpec.from_json(content["spec"]), files=files, entries=entries)


def _expect_kinds(what: str, content: Any, kinds: Mapping[str, type]) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{what} is {reprlib.repr(content)}, expected a table of {[*kinds]}")
    for name, kind in kinds.items():
        if type(content[name]) is not kind:
            came, a = reprlib.repr(content[name]), "an" if kind is int else "a"
            raise ValueError(f"{what} has {name} {came}, expected {a} {kind.__name__}")


def is_whole(path: Path) -> bool:
    """A Parquet file begins and ends with its magic word."""
    with path.open("rb") as file:
        begins = file.read(4) == _MAGIC
        return begins and file.seek(0, 2) >= 12 and file.seek(-4, 2) > 0 and file.read() == _MAGIC
