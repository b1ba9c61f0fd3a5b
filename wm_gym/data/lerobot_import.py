"""LeRobot v3 datasets that others wrote, as episodes of ours.

A row of theirs is a frame and the action that was taken in it, so n rows are n − 1 transitions:
what the last action led to was not recorded. Videos hold episodes one after the other; an episode
begins at its `from_timestamp` (huggingface/lerobot, src/lerobot/datasets, v0.4.0 to v0.6.1).
"""

import io
import json
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float, UInt8
from PIL import Image

from wm_gym.data.episode import Episode, TooShortError
from wm_gym.data.foreign import facts_of, first_whole
from wm_gym.data.lerobot import DATA_PATH, INFO_PATH, TASKS_PATH
from wm_gym.data.pixels import MOST_PIXELS, bounded_pictures, fitted
from wm_gym.data.proprio import names_in, numbered
from wm_gym.data.rows import column_values, damage_named
from wm_gym.data.scaling import bounds_of, share_beyond, told
from wm_gym.data.spec import DatasetSpec
from wm_gym.data.video import read_frames
from wm_gym.storage.files import UNREADABLE, plain_file
from wm_gym.systems import Bounds
from wm_gym.systems.origin import rate

VIDEO_PATH = "videos/{key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
PICTURES = ("image", "video")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which of a dataset's columns are what. One that is not the default has to be there."""

    picture: str | None = None
    """A camera; without it the only one there is."""

    action: str = "action"
    reward: str = "next.reward"
    """Without such a column there are no rewards, and dreams say 0."""

    terminated: str = "next.done"
    state: str = "observation.state"
    """Proprioception, and a fact beside each frame, where there is such a column."""

    def asked(self) -> set[str]:
        """Of numbers: those that have to be there."""
        usual, chosen = asdict(Columns()), asdict(self)
        return {self.action} | {
            key for name, key in chosen.items() if name != "picture" and key != usual[name]
        }


@dataclass(frozen=True, eq=False)
class LeRobotSource:
    """A folder of theirs, and how it is to be read."""

    folder: Path
    columns: Columns = field(default_factory=Columns)
    given: Bounds | None = None
    """What ±1 is to stand for; without it the least and the greatest action in the data."""

    size: tuple[int, int] | None = None
    """Of the pictures, height and width; without it as `suitable_picture` has it."""

    system: str | None = None
    """A name for what it is of; without it the robot's type, or else the folder's name."""

    @property
    def name(self) -> str:
        return str(self.folder)

    @cached_property
    def info(self) -> dict[str, Any]:
        path = self.folder / INFO_PATH
        try:
            content = plain_file(self.folder, INFO_PATH).read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{path} does not exist: {self.folder} is no LeRobot dataset"
            ) from None
        with damage_named(path):
            info = json.loads(content)
            version = str(info["codebase_version"])
        if not version.startswith("v3."):
            raise ValueError(
                f"{self.folder} is LeRobot {version}, expected v3: convert it with LeRobot's own "
                "lerobot.datasets.v30.convert_dataset_v21_to_v30"
            )
        _check_info(info, path, named=self.system is not None)
        features = info["features"]
        if missing := self.columns.asked() - set(features):
            raise ValueError(
                f"{self.folder} has no column {sorted(missing)[0]!r}; it has {sorted(features)}"
            )
        return info

    @property
    def features(self) -> Mapping[str, Any]:
        return self.info["features"]

    @cached_property
    def camera(self) -> str:
        cameras = [key for key, feature in self.features.items() if _dtype(feature) in PICTURES]
        wanted = self.columns.picture
        if wanted is None and len(cameras) == 1:
            return cameras[0]
        if wanted not in cameras:
            raise ValueError(f"choose a picture key among {cameras}, came {wanted!r}")
        return str(wanted)

    @cached_property
    def pixels(self) -> int:
        """The most that a picture may have: as many as the metadata promise."""
        name, shape = self.camera, self.features[self.camera].get("shape")
        match shape:
            case [int(a), int(b), int(c)] if min(a, b, c) > 0:
                pixels = (
                    a * b * c // (c if c <= 4 else a)
                )  # height, width, channels; or these first
                if pixels <= MOST_PIXELS:
                    return pixels
        raise ValueError(
            f"{self.folder / INFO_PATH} has shape {reprlib.repr(shape)} of {name!r}, expected "
            f"height, width and channels, up to {MOST_PIXELS:,} pixels"
        )

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One for each episode, in order."""
        paths = sorted(self.folder.glob("meta/episodes/*/*.parquet"))
        if not paths:
            raise FileNotFoundError(f"{self.folder}/meta/episodes holds no Parquet file")
        rows: list[dict[str, Any]] = []
        for path in paths:
            table = self._table(path)
            _check_episodes(table, self._places(), path)
            rows += table.to_pylist()
        if not rows:
            raise ValueError(f"{self.folder}/meta/episodes has no episodes, expected some")
        return sorted(rows, key=lambda row: int(row["episode_index"]))

    def _places(self) -> dict[str, str]:
        """Columns that say where an episode is, and of which kind they are."""
        places = dict.fromkeys(("episode_index", "data/chunk_index", "data/file_index"), "iu")
        if _dtype(self.features[self.camera]) == "video":
            where = f"videos/{self.camera}"
            places |= {f"{where}/chunk_index": "iu", f"{where}/file_index": "iu"}
            places |= {f"{where}/from_timestamp": "iuf"}
        return places

    def __len__(self) -> int:
        """Episodes."""
        return len(self.rows)

    @cached_property
    def bounds(self) -> Bounds:
        return self.given or bounds_of(self._every_action)

    @cached_property
    def beyond(self) -> float:
        """Share of the actions that lie beyond the bounds, and are clipped."""
        return share_beyond(self.bounds, self._every_action)

    @cached_property
    def last_rewards(self) -> int:
        """How many episodes have a reward other than 0 in their last row, which is left out."""
        key = self.columns.reward
        if key not in self.features:
            return 0
        count = 0
        for path, table in self._tables([key, "episode_index"]):
            episode = _values(table, "episode_index", path)[:, 0]
            last = np.append(episode[1:] != episode[:-1], True)
            count += int((_values(table, key, path)[last] != 0).any(axis=1).sum())
        return count

    @cached_property
    def _every_action(self) -> Float[np.ndarray, "n a"]:
        key, actions = self.columns.action, list[np.ndarray]()
        for path, table in self._tables([key]):
            actions.append(_values(table, key, path))
            if actions[-1].shape[1] != actions[0].shape[1]:
                raise ValueError(
                    f"{path}: column {key!r} has {actions[-1].shape[1]} numbers in each row, "
                    f"expected {actions[0].shape[1]} as in the files before it"
                )
        return np.concatenate(actions)

    def _tables(self, columns: list[str]) -> Iterator[tuple[Path, pa.Table]]:
        """These columns of all episodes, file by file."""
        files = {(row["data/chunk_index"], row["data/file_index"]) for row in self.rows}
        paths = (self._data_path(*file) for file in sorted(files))
        return ((path, self._table(path, columns)) for path in paths)

    def _table(self, path: Path, columns: list[str] | None = None) -> pa.Table:
        plain_file(self.folder, path.relative_to(self.folder))
        with damage_named(path):
            return pq.read_table(path, columns=columns, partitioning=None)

    def spec(self) -> DatasetSpec:
        name = self.system or self.info.get("robot_type") or self.folder.resolve().name
        asked = {"columns": asdict(self.columns), "camera": self.camera}
        bounds, first = self.bounds, first_whole(self.name, len(self), self.episode)
        return DatasetSpec(
            env_id=name,
            fps=self.info["fps"],
            picture=first.frames.shape[1:],
            action_size=first.action.shape[1],
            facts=facts_of(first),
            robot_type=name,
            recipe={"source": f"LeRobot, {self.folder.resolve().name}", **asked},
            bounds=bounds,
            has_reward=self.columns.reward in self.features,
            proprio_names=self._proprio_names(first),
            tasks=tuple(self.tasks.values()) if len(self.tasks) > 1 else (),
        )

    def _proprio_names(self, first: Episode) -> tuple[str, ...]:
        """Theirs, where each number has one."""
        if first.proprio is None:
            return ()
        names, size = tuple(names_in(self.features[self.columns.state])), first.proprio.shape[1]
        return names if len(names) == size else numbered("state", size)

    @cached_property
    def tasks(self) -> Mapping[int, str]:
        """Their sentences by their index; none in folders that do not list them."""
        path = self.folder / TASKS_PATH
        if not path.exists():
            return {}
        table = self._table(path)  # of pandas, whose index has a name or has not
        sentence = {"task", "__index_level_0__"} & set(table.column_names)
        if len(sentence) != 1 or "task_index" not in table.column_names:
            raise ValueError(
                f"{path} has the columns {table.column_names}, expected task_index and task"
            )
        indices, sentences = (table[key].to_pylist() for key in ("task_index", *sentence))
        if not all(type(index) is int for index in indices) or len(set(indices)) < len(indices):
            raise ValueError(
                f"{path} has task_index {reprlib.repr(indices)}, expected whole numbers, each once"
            )
        if not all(isinstance(text, str) for text in sentences):
            raise ValueError(f"{path} has tasks {reprlib.repr(sentences)}, expected texts")
        return dict(sorted(zip(indices, sentences, strict=True)))

    def _task(self, row: Mapping[str, Any], table: pa.Table, path: Path) -> str:
        """That of its first frame."""
        if not self.tasks or "task_index" not in table.column_names:
            return str(next(iter(row.get("tasks") or ()), ""))
        index = int(_numbers(table, "task_index", path)[0, 0])
        if index not in self.tasks:
            raise ValueError(
                f"its task_index is {index}, expected one of {list(self.tasks)}, which "
                f"{TASKS_PATH} has; download the dataset again"
            )
        return self.tasks[index]

    def episode(self, i: int) -> Episode:
        """TooShortError where it holds no transition."""
        row = self.rows[i]
        path = self._data_path(row["data/chunk_index"], row["data/file_index"])
        table = self._table_of(path)
        table = table.filter(pc.equal(table["episode_index"], row["episode_index"]))
        order = np.asarray(table["frame_index"])
        length = int(row.get("length", len(order)))
        if length != len(order) or not np.array_equal(order, np.arange(length)):
            raise ValueError(
                f"it has the frames {order}, expected 0 to {length - 1}; download the dataset again"
            )
        if len(order) < 2:
            raise TooShortError(f"it has {len(order)} frames, expected at least 2: one transition")
        terminated = self._terminated(table, path)
        return Episode(
            frames=self._frames(row, table, path),
            action=told(self.bounds, _numbers(table, self.columns.action, path)[:-1]),
            reward=self._reward(table, path),
            terminated=terminated,
            truncated=not terminated,
            facts=self._facts(table, path),
            proprio=self._proprio(table, path),
            behaviour="logged",
            split="train",
            seed=int(row["episode_index"]),
            task=self._task(row, table, path),
        )

    def _data_path(self, chunk: int, file: int) -> Path:
        return self.folder / DATA_PATH.format(chunk_index=int(chunk), file_index=int(file))

    def _table_of(self, path: Path) -> pa.Table:
        """Many episodes lie in one file: the last one is kept."""
        kept: dict[Path, pa.Table] = self.__dict__.setdefault("_kept", {})
        if path not in kept:
            kept.clear()
            kept[path] = self._table(path)
        return kept[path]

    def _reward(self, table: pa.Table, path: Path) -> np.ndarray:
        if self.columns.reward not in self.features:
            return np.zeros(table.num_rows - 1, np.float32)
        return _numbers(table, self.columns.reward, path)[:-1, 0].astype(np.float32)

    def _facts(self, table: pa.Table, path: Path) -> dict[str, np.ndarray]:
        key = self.columns.state
        return {"state": _numbers(table, key, path)} if key in self.features else {}

    def _proprio(self, table: pa.Table, path: Path) -> np.ndarray | None:
        key = self.columns.state
        return _numbers(table, key, path).astype(np.float32) if key in self.features else None

    def _terminated(self, table: pa.Table, path: Path) -> bool:
        """Whether the last transition that is recorded ended it: not the one that is not."""
        key = self.columns.terminated
        return key in self.features and bool(_numbers(table, key, path)[-2:-1].any())

    def _frames(
        self, row: Mapping[str, Any], table: pa.Table, path: Path
    ) -> UInt8[np.ndarray, "t h w c"]:
        if self.features[self.camera]["dtype"] == "image":
            cells, most = table.column(self.camera).to_pylist(), self.pixels
            return np.stack([fitted(_picture(cell, path, most), self.size) for cell in cells])
        where = f"videos/{self.camera}"
        video = self.folder / VIDEO_PATH.format(
            key=self.camera,
            chunk_index=int(row[f"{where}/chunk_index"]),
            file_index=int(row[f"{where}/file_index"]),
        )
        times = np.asarray(table["timestamp"]) + float(row[f"{where}/from_timestamp"])
        plain_file(self.folder, video.relative_to(self.folder))
        frames = read_frames(video, times, fps=float(self.info["fps"]), pixels=self.pixels)
        return np.stack([fitted(frame, self.size) for frame in frames])


def _check_info(info: Mapping[str, Any], path: Path, *, named: bool) -> None:
    """What is asked of `meta/info.json` is of its kind: it may be anybody's. Where the system is
    `named`, nobody asks for the robot's type."""
    fps, robot, features = info.get("fps"), info.get("robot_type"), info.get("features")
    rate(fps, f"fps in {path}")
    if not named and robot is not None and not isinstance(robot, str):
        raise ValueError(
            f"{path} has robot_type {reprlib.repr(robot)}, expected a text: give one with --system"
        )
    if not isinstance(features, dict) or None in map(_dtype, features.values()):
        raise ValueError(
            f"{path} has features {reprlib.repr(features)}, expected a table of tables with a dtype"
        )


def _dtype(feature: Any) -> str | None:
    kind = feature.get("dtype") if isinstance(feature, dict) else None
    return kind if isinstance(kind, str) else None


def _check_episodes(table: pa.Table, places: Mapping[str, str], path: Path) -> None:
    for name, kinds in places.items():
        with _named(path):
            values = np.asarray(column_values(table, name, ()))
            if values.dtype.kind not in kinds or not (np.isfinite(values) & (values >= 0)).all():
                raise ValueError(
                    f"column {name!r} has {reprlib.repr(values.tolist())}, expected "
                    f"{'times' if 'f' in kinds else 'whole numbers'} of 0 or more"
                )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What can be read and is not as expected says in which file."""
    try:
        yield
    except (pa.ArrowException, *UNREADABLE) as error:
        raise ValueError(f"{path}: {error}") from error


def _values(table: pa.Table, key: str, path: Path) -> Float[np.ndarray, "n k"]:
    """A row for each, whatever their shape was."""
    with _named(path):
        if key not in table.column_names:
            raise ValueError(f"there is no column {key!r}, though {INFO_PATH} says so")
        return np.asarray(column_values(table, key, (-1,)), np.float64)


def _numbers(table: pa.Table, key: str, path: Path) -> Float[np.ndarray, "n k"]:
    values = _values(table, key, path)
    odd = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(odd):
        raise ValueError(f"{key} is not finite in frame {odd[0]}; expected finite numbers only")
    return values


def _picture(cell: Mapping[str, Any], path: Path, most: int) -> UInt8[np.ndarray, "h w c=3"]:
    content = cell.get("bytes")
    if content is None:
        raise ValueError(
            f"a picture is not in the file but at {cell.get('path')!r}, "
            f"expected its bytes in {path}"
        )
    with damage_named(path), bounded_pictures(most):
        image = Image.open(io.BytesIO(content), formats=["PNG", "JPEG"])
        return np.asarray(image.convert("RGB"))
