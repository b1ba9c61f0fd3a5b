"""The LeRobotDataset v3.0 layout: what it calls things, and the files it wants in `meta/`.

Names and types follow huggingface/lerobot (src/lerobot/datasets, v0.4.0 to v0.6.1) as it writes
datasets with `image` features. Row i of an episode holds frame i with the action and the reward of
the transition that leaves it, so the last row, which no transition leaves, has zeros and `is_last`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from wm_gym.data.spec import DatasetSpec

Feature: TypeAlias = dict[str, Any]

FILES_PER_CHUNK = 1000
FILE_MB = 100
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
TASKS_PATH = "meta/tasks.parquet"
STATS_PATH = "meta/stats.json"
INFO_PATH = "meta/info.json"

PICTURE = "observation.image"
STATE = "observation.state"
"""Proprioception, as LeRobot calls it."""
OF_TRANSITIONS = ("action", "next.reward", "next.terminated", "next.truncated")
"""Columns whose last row in each episode is only padding."""
OF_THE_WHOLE = ("episode_index", "index", "task_index")
"""Columns that are known once all episodes are."""


def fact_column(name: str) -> str:
    return f"info.{name}"


def features(spec: DatasetSpec) -> dict[str, Feature]:
    """Columns in order. LeRobot has no scalars: shape [1] is one. Tensors are stored flat."""
    names = [f"action_{i}" for i in range(spec.action_size)]
    columns = {
        PICTURE: _feature("image", spec.picture, ["height", "width", "channels"]),
        **_state(spec),
        "action": _feature("float32", (spec.action_size,), names),
        "next.reward": _feature("float32"),
        "next.terminated": _feature("bool"),
        "next.truncated": _feature("bool"),
    }
    for name, fact in spec.facts.items():
        columns[fact_column(name)] = _feature(fact.dtype, (math.prod(fact.shape),))
    columns |= {"is_last": _feature("bool"), "timestamp": _feature("float32")}
    columns |= {name: _feature("int64") for name in ("frame_index", *OF_THE_WHOLE)}
    return columns


def _state(spec: DatasetSpec) -> dict[str, Feature]:
    names = list(spec.proprio_names)
    return {STATE: _feature("float32", (len(names),), names)} if names else {}


def schema(columns: Mapping[str, Feature]) -> pa.Schema:
    """As Hugging Face `datasets` types these features, and says so in the file."""
    typed = {name: _hf_type(feature) for name, feature in columns.items()}
    metadata = {"huggingface": json.dumps({"info": {"features": typed}})}
    arrow = [(name, _arrow_type(feature)) for name, feature in columns.items()]
    return pa.schema(arrow, metadata=metadata)


def info(
    spec: DatasetSpec, *, episodes: int, frames: int, tasks: int, splits: Sequence[str]
) -> dict[str, Any]:
    return {
        "codebase_version": "v3.0",
        "robot_type": spec.robot_type,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": FILE_MB,
        "video_files_size_in_mb": 200,
        "fps": spec.fps,
        "splits": _split_ranges(splits),
        "data_path": DATA_PATH,
        "video_path": None,
        "features": features(spec),
    }


def tasks_table(tasks: Sequence[str]) -> pa.Table:
    """As pandas writes a frame with the column `task_index` and the index `task`."""
    columns = [
        {
            "name": name,
            "field_name": name,
            "pandas_type": kind,
            "numpy_type": numpy,
            "metadata": None,
        }
        for name, kind, numpy in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": columns}
    arrays = {
        "task_index": pa.array(range(len(tasks)), pa.int64()),
        "task": pa.array(tasks, pa.string()),
    }
    return pa.table(arrays).replace_schema_metadata({"pandas": json.dumps(pandas)})


def episodes_table(episodes: Sequence[Mapping[str, Any]]) -> pa.Table:
    """One row per episode, from mappings that all have the same keys, in LeRobot's order."""
    place = {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
    return pa.Table.from_pylist([{**episode, **place} for episode in episodes])


def data_path(number: int) -> str:
    chunk, file = divmod(number, FILES_PER_CHUNK)
    return DATA_PATH.format(chunk_index=chunk, file_index=file)


def _feature(dtype: str, shape: Sequence[int] = (1,), names: list[str] | None = None) -> Feature:
    return {"dtype": dtype, "shape": list(shape), "names": names}


def _arrow_type(feature: Feature) -> pa.DataType:
    if feature["dtype"] == "image":
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    value = pa.bool_() if feature["dtype"] == "bool" else pa.type_for_alias(feature["dtype"])
    (size,) = feature["shape"]
    return value if size == 1 else pa.list_(value, size)


def _hf_type(feature: Feature) -> dict[str, Any]:
    if feature["dtype"] == "image":
        return {"_type": "Image"}
    value = {"dtype": feature["dtype"], "_type": "Value"}
    (size,) = feature["shape"]
    return value if size == 1 else {"feature": value, "length": size, "_type": "List"}


def _split_ranges(splits: Sequence[str]) -> dict[str, str]:
    """`{"train": "0:90", "test": "90:100"}`, or nothing where a split is in several runs."""
    starts = [i for i, split in enumerate(splits) if i == 0 or split != splits[i - 1]]
    if len(starts) != len(set(splits)):
        return {}
    stops = [*starts[1:], len(splits)]
    return {splits[a]: f"{a}:{b}" for a, b in zip(starts, stops, strict=True)}
