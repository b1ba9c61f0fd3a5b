"""LeRobot v3 datasets that others wrote, as episodes of ours.

A row of theirs is a frame and the action that was taken in it, so n rows are n − 1 transitions:
what the last action led to was not recorded. Videos hold episodes one after the other; an episode
begins at its `from_timestamp` (huggingface/lerobot, src/lerobot/datasets, v0.4.0 to v0.6.1).
"""

import io
import json
from collections.abc import Iterator, Mapping
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
from wm_gym.data.pixels import fitted
from wm_gym.data.proprio import names_in, numbered
from wm_gym.data.rows import column_values, damage_named
from wm_gym.data.scaling import bounds_of, share_beyond, told
from wm_gym.data.spec import DatasetSpec
from wm_gym.data.video import read_frames
from wm_gym.systems import Bounds

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
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: {self.folder} is no LeRobot dataset")
        with damage_named(path):
            info = json.loads(path.read_bytes())
            version, features = str(info["codebase_version"]), info["features"]
        if not version.startswith("v3."):
            raise ValueError(
                f"{self.folder} is LeRobot {version}, expected v3: convert it with LeRobot's own "
                "lerobot.datasets.v30.convert_dataset_v21_to_v30"
            )
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
        cameras = [k for k, feature in self.features.items() if feature["dtype"] in PICTURES]
        wanted = self.columns.picture
        if wanted is None and len(cameras) == 1:
            return cameras[0]
        if wanted not in cameras:
            raise ValueError(f"choose a picture key among {cameras}, came {wanted!r}")
        return str(wanted)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One for each episode, in order."""
        paths = sorted(self.folder.glob("meta/episodes/*/*.parquet"))
        if not paths:
            raise FileNotFoundError(f"{self.folder}/meta/episodes holds no Parquet file")
        rows = [row for path in paths for row in _table(path).to_pylist()]
        if not rows:
            raise ValueError(f"{self.folder} has no episodes")
        return sorted(rows, key=lambda row: int(row["episode_index"]))

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
        for table in self._tables([key, "episode_index"]):
            episode = np.asarray(table["episode_index"])
            last = np.append(episode[1:] != episode[:-1], True)
            count += int((_values(table, key)[last] != 0).any(axis=1).sum())
        return count

    @cached_property
    def _every_action(self) -> Float[np.ndarray, "n a"]:
        key = self.columns.action
        return np.concatenate([_values(table, key) for table in self._tables([key])])

    def _tables(self, columns: list[str]) -> Iterator[pa.Table]:
        """These columns of all episodes, file by file."""
        files = {(row["data/chunk_index"], row["data/file_index"]) for row in self.rows}
        return (_table(self._data_path(*file), columns) for file in sorted(files))

    def spec(self) -> DatasetSpec:
        name = self.system or self.info.get("robot_type") or self.folder.resolve().name
        if not isinstance(name, str):
            raise ValueError(
                f"{self.name}: robot_type is {name!r}, expected the system's name; give --system"
            )
        asked = {"columns": asdict(self.columns), "camera": self.camera}
        bounds, first = self.bounds, first_whole(self.name, len(self), self.episode)
        return DatasetSpec(
            env_id=name,
            fps=max(1, round(self.info["fps"])),
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
        table = _table(path)  # of pandas, whose index has a name or has not
        sentence = {"task", "__index_level_0__"} & set(table.column_names)
        if len(sentence) != 1 or "task_index" not in table.column_names:
            raise ValueError(
                f"{path} has the columns {table.column_names}, expected task_index and task"
            )
        columns = [table[key].to_pylist() for key in ("task_index", *sentence)]
        return dict(sorted(zip(*columns, strict=True)))

    def _task(self, row: Mapping[str, Any], table: pa.Table) -> str:
        """That of its first frame."""
        if not self.tasks or "task_index" not in table.column_names:
            return str(next(iter(row.get("tasks") or ()), ""))
        index = int(np.asarray(table["task_index"])[0])
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
        expected = np.arange(int(row.get("length", len(order))))
        if not np.array_equal(order, expected):
            raise ValueError(
                f"it has the frames {order}, expected 0 to {len(expected) - 1}; "
                "download the dataset again"
            )
        if len(order) < 2:
            raise TooShortError(f"it has {len(order)} frames, expected at least 2: one transition")
        terminated = self._terminated(table)
        return Episode(
            frames=self._frames(row, table, path),
            action=told(self.bounds, _numbers(table, self.columns.action)[:-1]),
            reward=self._reward(table),
            terminated=terminated,
            truncated=not terminated,
            facts=self._facts(table),
            proprio=self._proprio(table),
            behaviour="logged",
            split="train",
            seed=int(row["episode_index"]),
            task=self._task(row, table),
        )

    def _data_path(self, chunk: int, file: int) -> Path:
        return self.folder / DATA_PATH.format(chunk_index=int(chunk), file_index=int(file))

    def _table_of(self, path: Path) -> pa.Table:
        """Many episodes lie in one file: the last one is kept."""
        kept: dict[Path, pa.Table] = self.__dict__.setdefault("_kept", {})
        if path not in kept:
            kept.clear()
            kept[path] = _table(path)
        return kept[path]

    def _reward(self, table: pa.Table) -> np.ndarray:
        if self.columns.reward not in self.features:
            return np.zeros(table.num_rows - 1, np.float32)
        return _numbers(table, self.columns.reward)[:-1, 0].astype(np.float32)

    def _facts(self, table: pa.Table) -> dict[str, np.ndarray]:
        key = self.columns.state
        return {"state": _numbers(table, key)} if key in self.features else {}

    def _proprio(self, table: pa.Table) -> np.ndarray | None:
        key = self.columns.state
        return _numbers(table, key).astype(np.float32) if key in self.features else None

    def _terminated(self, table: pa.Table) -> bool:
        """Whether the last transition that is recorded ended it: not the one that is not."""
        key = self.columns.terminated
        return key in self.features and bool(_numbers(table, key)[-2:-1].any())

    def _frames(
        self, row: Mapping[str, Any], table: pa.Table, path: Path
    ) -> UInt8[np.ndarray, "t h w c"]:
        if self.features[self.camera]["dtype"] == "image":
            cells = table.column(self.camera).to_pylist()
            return np.stack([fitted(_picture(cell, path), self.size) for cell in cells])
        where = f"videos/{self.camera}"
        video = self.folder / VIDEO_PATH.format(
            key=self.camera,
            chunk_index=int(row[f"{where}/chunk_index"]),
            file_index=int(row[f"{where}/file_index"]),
        )
        times = np.asarray(table["timestamp"]) + float(row[f"{where}/from_timestamp"])
        frames = read_frames(video, times, fps=float(self.info["fps"]))
        return np.stack([fitted(frame, self.size) for frame in frames])


def _table(path: Path, columns: list[str] | None = None) -> pa.Table:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; download the dataset again")
    with damage_named(path):
        return pq.read_table(path, columns=columns, partitioning=None)


def _values(table: pa.Table, key: str) -> Float[np.ndarray, "n k"]:
    """A row for each, whatever their shape was."""
    if key not in table.column_names:
        raise ValueError(f"the data have no column {key!r}, though {INFO_PATH} says so")
    return np.asarray(column_values(table, key, (-1,)), np.float64)


def _numbers(table: pa.Table, key: str) -> Float[np.ndarray, "n k"]:
    values = _values(table, key)
    odd = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(odd):
        raise ValueError(f"{key} is not finite in frame {odd[0]}; expected finite numbers only")
    return values


def _picture(cell: Mapping[str, Any], path: Path) -> UInt8[np.ndarray, "h w c=3"]:
    content = cell.get("bytes")
    if content is None:
        raise ValueError(
            f"a picture is not in the file but at {cell.get('path')!r}, "
            f"expected its bytes in {path}"
        )
    with damage_named(path), Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
        return np.asarray(image.convert("RGB"))
