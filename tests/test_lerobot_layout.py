"""A finished dataset is a LeRobotDataset v3.0: these are the names and types LeRobot expects."""

import json

import numpy as np
import pyarrow.parquet as pq
from tiny_dataset import DATA_FILE, make_episode, write

from wm_gym.storage.png import decode_png


def test_info_json_is_lerobots(tmp_path):
    write(tmp_path)

    def scalar(dtype):
        return {"dtype": dtype, "shape": [1], "names": None}

    assert json.loads((tmp_path / "meta/info.json").read_text()) == {
        "codebase_version": "v3.0",
        "robot_type": "pusht",
        "total_episodes": 6,
        "total_frames": 31,
        "total_tasks": 2,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 10,
        "splits": {"train": "0:4", "test": "4:6"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "features": {
            "observation.image": {
                "dtype": "image",
                "shape": [8, 6, 3],
                "names": ["height", "width", "channels"],
            },
            "action": {"dtype": "float32", "shape": [2], "names": ["action_0", "action_1"]},
            "next.reward": scalar("float32"),
            "next.terminated": scalar("bool"),
            "next.truncated": scalar("bool"),
            "info.contact": scalar("bool"),
            "info.corners": {"dtype": "int16", "shape": [8], "names": None},
            "info.coverage": scalar("float32"),
            "info.state": {"dtype": "float64", "shape": [7], "names": None},
            "is_last": scalar("bool"),
            "timestamp": scalar("float32"),
            "frame_index": scalar("int64"),
            "episode_index": scalar("int64"),
            "index": scalar("int64"),
            "task_index": scalar("int64"),
        },
    }


def test_data_files_are_typed_as_hugging_face_types_them(tmp_path):
    write(tmp_path)
    file = pq.ParquetFile(tmp_path / DATA_FILE)
    assert file.num_row_groups == 6
    schema = file.schema_arrow
    assert {field.name: str(field.type).replace("element", "item") for field in schema} == {
        "observation.image": "struct<bytes: binary, path: string>",
        "action": "fixed_size_list<item: float>[2]",
        "next.reward": "float",
        "next.terminated": "bool",
        "next.truncated": "bool",
        "info.contact": "bool",
        "info.corners": "fixed_size_list<item: int16>[8]",
        "info.coverage": "float",
        "info.state": "fixed_size_list<item: double>[7]",
        "is_last": "bool",
        "timestamp": "float",
        "frame_index": "int64",
        "episode_index": "int64",
        "index": "int64",
        "task_index": "int64",
    }
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names
    assert features["observation.image"] == {"_type": "Image"}
    assert features["is_last"] == {"dtype": "bool", "_type": "Value"}
    assert features["action"] == {
        "feature": {"dtype": "float32", "_type": "Value"},
        "length": 2,
        "_type": "List",
    }


def test_rows_number_themselves_as_lerobot_numbers_them(tmp_path):
    writer = write(tmp_path, [7, 2], finalize=False)  # 4 and 7 rows; LeRobot wants no gaps
    writer.add(0, make_episode(0))
    writer.finalize()
    columns = pq.read_table(tmp_path / DATA_FILE).to_pydict()
    lengths = [4, 6, 7]
    assert columns["index"] == list(range(17))
    assert columns["episode_index"] == np.repeat([0, 1, 2], lengths).tolist()
    assert columns["frame_index"] == [i for length in lengths for i in range(length)]
    assert columns["task_index"] == np.repeat([0, 1, 1], lengths).tolist()
    assert columns["is_last"] == [i == n - 1 for n in lengths for i in range(n)]
    np.testing.assert_allclose(columns["timestamp"], np.array(columns["frame_index"]) / 10)
    png = columns["observation.image"][16]["bytes"]
    np.testing.assert_array_equal(decode_png(png), make_episode(7).frames[-1])


def test_tasks_parquet_is_what_pandas_would_write(tmp_path):
    write(tmp_path)
    table = pq.read_table(tmp_path / "meta/tasks.parquet")
    assert table.to_pydict() == {"task_index": [0, 1], "task": ["pull the T", "push the T"]}
    pandas = json.loads(table.schema.metadata[b"pandas"])
    assert pandas["index_columns"] == ["task"]
    assert [column["pandas_type"] for column in pandas["columns"]] == ["int64", "unicode"]


def test_episodes_parquet_says_where_each_episode_is(tmp_path):
    write(tmp_path, file_bytes=1)
    table = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-000.parquet")
    row = table.to_pylist()[3]
    stats = {name for name in row if name.startswith("stats/")}
    assert {name: row[name] for name in row if name not in stats} == {
        "episode_index": 3,
        "tasks": ["push the T"],
        "length": 7,
        "data/chunk_index": 0,
        "data/file_index": 3,
        "dataset_from_index": 4 + 5 + 6,
        "dataset_to_index": 4 + 5 + 6 + 7,
        "behaviour": "random",
        "split": "train",
        "seed": 3,
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
    }
    features = json.loads((tmp_path / "meta/info.json").read_text())["features"]
    kinds = ("min", "max", "mean", "std", "count")
    assert stats == {f"stats/{name}/{kind}" for name in features for kind in kinds}
    assert np.shape(row["stats/observation.image/mean"]) == (3, 1, 1)
    assert row["stats/action/count"] == [6]


def test_statistics_are_those_of_all_episodes_without_padding(tmp_path):
    write(tmp_path)
    stats = json.loads((tmp_path / "meta/stats.json").read_text())
    episodes = [make_episode(number) for number in range(6)]
    action = np.concatenate([episode.action for episode in episodes]).astype(np.float64)
    frames = np.concatenate([episode.frames for episode in episodes]) / 255
    for name, values, axes in (("action", action, 0), ("observation.image", frames, (0, 1, 2))):
        came = {kind: np.asarray(values) for kind, values in stats[name].items()}
        assert came.pop("count").tolist() == [len(values)]
        for kind, expected in {
            "min": values.min(axes),
            "max": values.max(axes),
            "mean": values.mean(axes),
            "std": values.std(axes),
        }.items():
            np.testing.assert_allclose(came[kind].ravel(), expected, rtol=1e-12)
            assert came[kind].shape == ((2,) if name == "action" else (3, 1, 1))
    assert stats["is_last"]["min"] == [False]
    assert stats["is_last"]["max"] == [True]
    assert stats["index"]["max"] == [30]
