"""Datasets that LeRobot's users have: read as they are laid out, with videos or pictures."""

import io
import json
import tracemalloc

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from wm_gym.data import Dataset
from wm_gym.data.lerobot_import import Columns, LeRobotSource
from wm_gym.data.pixels import resized
from wm_gym.programs.import_lerobot import import_lerobot
from wm_gym.storage.png import encode_png
from wm_gym.systems import Bounds

FPS, LENGTHS, CAMERA = 20, (7, 5, 9), "observation.images.top"
SIDE = 48


def frame_of(episode, t):
    """A square whose place and colour tell which frame it is."""
    frame = np.full((SIDE, SIDE, 3), 40, np.uint8)
    frame[16 * episode : 16 * episode + 16, 4 * t : 4 * t + 16] = (250, 20 * t, 90)
    return frame


def write_video(path, frames):
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "4", "g": "4"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv444p"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def feature(dtype, shape, names=None):
    return {"dtype": dtype, "shape": list(shape), "names": names}


def write_rows(folder, rows):
    pq.write_table(pa.Table.from_pylist(rows), folder / "data/chunk-000/file-000.parquet")


def write_lerobot(folder, *, video=True, reward=True, codebase="v3.0", lengths=LENGTHS):
    """As huggingface/lerobot lays it out: episodes behind each other in one file and one video."""
    rng, rows, episodes, frames, start = np.random.default_rng(0), [], [], [], 0
    for episode, length in enumerate(lengths):
        for t in range(length):
            frames.append(frame_of(episode, t))
            rows.append(
                {
                    "action": rng.uniform([-3, 10], [5, 20]).astype(np.float32).tolist(),
                    "observation.state": rng.normal(size=3).astype(np.float32).tolist(),
                    "next.reward": float(start + t), "next.done": t == length - 1,
                    "timestamp": t / FPS, "frame_index": t, "episode_index": episode,
                    "index": start + t, "task_index": 0,
                }
            )  # fmt: skip
            if not video:
                png = encode_png(frames[-1])
                rows[-1][CAMERA] = {"bytes": png, "path": f"frame-{t:06d}.png"}
            if not reward:
                del rows[-1]["next.reward"]
        where = {"data/chunk_index": 0, "data/file_index": 0}
        if video:
            prefix = f"videos/{CAMERA}"
            where |= {
                f"{prefix}/chunk_index": 0, f"{prefix}/file_index": 0,
                f"{prefix}/from_timestamp": start / FPS,
                f"{prefix}/to_timestamp": (start + length) / FPS,
            }  # fmt: skip
        episodes.append(
            {
                "episode_index": episode, "tasks": ["lift it"], "length": length, **where,
                "dataset_from_index": start, "dataset_to_index": start + length,
            }
        )  # fmt: skip
        start += length
    for path, content in {"data": rows, "meta/episodes": episodes}.items():
        (folder / path / "chunk-000").mkdir(parents=True)
        table = pa.Table.from_pylist(content)
        pq.write_table(table, folder / path / "chunk-000/file-000.parquet")
    if video:
        write_video(folder / f"videos/{CAMERA}/chunk-000/file-000.mp4", frames)
    features = {
        CAMERA: feature("video" if video else "image", (SIDE, SIDE, 3)),
        "action": feature("float32", (2,)), "observation.state": feature("float32", (3,)),
        "next.done": feature("bool", (1,)), "timestamp": feature("float32", (1,)),
    }  # fmt: skip
    features |= {"next.reward": feature("float32", (1,))} if reward else {}
    info = {"codebase_version": codebase, "fps": FPS, "robot_type": "arm", "features": features}
    (folder / "meta/info.json").write_text(json.dumps(info))
    return rows


@pytest.mark.parametrize("video", [True, False])
def test_frames_actions_and_rewards_are_theirs(tmp_path, video, capsys):
    rows = write_lerobot(tmp_path / "theirs", video=video)
    import_lerobot(tmp_path / "theirs", tmp_path / "ours")
    assert "3 episodes, 21 frames" in capsys.readouterr().out
    dataset = Dataset.open(tmp_path / "ours")
    assert dataset.index["length"].tolist() == list(LENGTHS)
    spec, action = dataset.spec, np.array([row["action"] for row in rows])
    assert (spec.fps, spec.robot_type, spec.picture) == (FPS, "arm", (SIDE, SIDE, 3))
    np.testing.assert_allclose(spec.bounds.low, action.min(0))
    np.testing.assert_allclose(spec.bounds.high, action.max(0))
    start = 0
    for number, length in enumerate(LENGTHS):
        episode, own = dataset.episode(number), slice(start, start + length)
        expected = np.stack([frame_of(number, t) for t in range(length)])
        off = np.abs(episode.frames.astype(int) - expected).max((1, 2, 3))
        assert off.max() <= (60 if video else 0)
        told = spec.bounds.from_unit(episode.action)
        np.testing.assert_allclose(told, action[own][:-1], atol=1e-5)
        assert episode.reward.tolist() == list(range(start, start + length - 1))
        state = [row["observation.state"] for row in rows[own]]
        np.testing.assert_allclose(episode.facts["state"], state)
        assert (episode.terminated, episode.truncated) == (False, True)
        assert (episode.task, episode.seed) == ("lift it", number)
        start += length


def test_each_frame_of_a_video_is_at_its_time(tmp_path):
    """The neighbouring frames are further off than what compression costs."""
    write_lerobot(tmp_path)
    source = LeRobotSource(tmp_path)
    for number in (2, 0, 1):  # in any order
        frames = source.episode(number).frames.astype(float)
        length = LENGTHS[number]
        truth = np.stack([frame_of(number, t) for t in range(length)]).astype(float)
        off = np.abs(frames[:, None] - truth[None]).mean((2, 3, 4))
        assert off.argmin(1).tolist() == list(range(length))
        assert off.diagonal().max() < 3


def test_given_bounds_clip_and_say_so(tmp_path, capsys):
    rows = write_lerobot(tmp_path / "theirs", video=False, reward=False)
    import_lerobot(
        tmp_path / "theirs", tmp_path / "ours", low=(-1.0, 10.0), high=(1.0, 20.0), system="mine"
    )
    dataset, said = Dataset.open(tmp_path / "ours"), capsys.readouterr().out
    beyond = np.mean([abs(row["action"][0]) > 1 for row in rows])
    assert f"{beyond:.1%} of the actions lay beyond" in said
    assert "no rewards" in said
    assert not dataset.spec.has_reward
    assert dataset.spec.robot_type == "mine"
    assert np.abs(dataset.action).max() == 1
    assert not dataset.reward.any()


def test_pictures_are_resized_by_averaging(tmp_path):
    write_lerobot(tmp_path, video=False)
    source = LeRobotSource(tmp_path, size=(24, 24))
    truth = frame_of(1, 2).reshape(24, 2, 24, 2, 3).mean((1, 3))
    np.testing.assert_allclose(source.episode(1).frames[2], truth, atol=1)
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    assert resized(grey, (2, 2))[:, :, 0].tolist() == [[3, 5], [11, 13]]


def test_an_episode_without_a_transition_is_left_out_and_told(tmp_path, capsys):
    write_lerobot(tmp_path / "theirs", video=False, lengths=(1, 5, 9))
    for _ in range(2):  # finished, and once more
        import_lerobot(tmp_path / "theirs", tmp_path / "ours")
        assert "1 of 3 episodes left out, as they hold no transition" in capsys.readouterr().out
    dataset = Dataset.open(tmp_path / "ours")
    assert dataset.index["length"].tolist() == [5, 9]
    assert dataset.index["seed"].tolist() == [1, 2]
    write_lerobot(tmp_path / "none", video=False, lengths=(1, 1))
    with pytest.raises(ValueError, match="2 episodes, expected at least one of two frames"):
        LeRobotSource(tmp_path / "none").spec()


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("next.reward", np.nan, "next.reward is not finite in frame 2"),
        ("action", [np.nan, 0.0], "action is not finite in frame 2"),
        ("frame_index", 3, r"it has the frames \[0 1 3 3 4\], expected 0 to 4"),
        (CAMERA, {"bytes": None, "path": "a.png"}, "a picture is not in the file but at 'a.png'"),
        (CAMERA, {"bytes": b"no PNG", "path": None}, r"file-000\.parquet is damaged or cut off"),
    ],
)
def test_what_is_wrong_with_an_episode_says_with_which(tmp_path, column, value, words):
    """Only what cannot be read is called damaged."""
    rows = write_lerobot(tmp_path / "theirs", video=False)
    rows[LENGTHS[0] + 2][column] = value
    write_rows(tmp_path / "theirs", rows)
    with pytest.raises(ValueError, match=rf"^episode 1 of .*theirs: .*{words}") as caught:
        import_lerobot(tmp_path / "theirs", tmp_path / "ours")
    assert ("damaged" in str(caught.value)) == ("damaged" in words)


def test_rewards_that_are_left_out_with_the_last_rows_are_counted(tmp_path, capsys):
    """Sparse ones often have nothing else."""
    rows = write_lerobot(tmp_path / "theirs", video=False)
    for row in rows:
        row["next.reward"] = float(row["next.done"] and row["episode_index"] != 1)
    write_rows(tmp_path / "theirs", rows)
    import_lerobot(tmp_path / "theirs", tmp_path / "ours")
    assert "2 of 3 episodes have a reward other than 0 in their last row" in capsys.readouterr().out
    assert not Dataset.open(tmp_path / "ours").reward.any()
    for row in rows:
        row["next.reward"] = float(not row["next.done"])
    write_rows(tmp_path / "theirs", rows)
    import_lerobot(tmp_path / "theirs", tmp_path / "dense")
    assert "last row" not in capsys.readouterr().out


def test_a_column_that_was_asked_for_has_to_be_there(tmp_path):
    write_lerobot(tmp_path, video=False, reward=False)
    assert not LeRobotSource(tmp_path).spec().has_reward  # nobody asked for one
    for name in ("action", "reward", "terminated", "state"):
        with pytest.raises(ValueError, match=r"no column 'nothing'; it has \['action'"):
            LeRobotSource(tmp_path, Columns(**{name: "nothing"})).spec()


def test_what_cannot_be_read_says_why(tmp_path):
    write_lerobot(tmp_path / "old", video=False, codebase="v2.1")
    with pytest.raises(ValueError, match=r"LeRobot v2\.1, expected v3"):
        LeRobotSource(tmp_path / "old").spec()
    with pytest.raises(FileNotFoundError, match="no LeRobot dataset"):
        LeRobotSource(tmp_path).spec()
    write_lerobot(tmp_path / "new")
    for columns, words in (
        (Columns(action="act"), "no column 'act'; it has"),
        (Columns(picture="left"), r"among \['observation.images.top'\], came 'left'"),
    ):
        with pytest.raises(ValueError, match=words):
            LeRobotSource(tmp_path / "new", columns).spec()
    with pytest.raises(ValueError, match="each low below its high"):
        Bounds(low=(0.0, 0.0), high=(1.0, 0.0))
    (tmp_path / f"new/videos/{CAMERA}/chunk-000/file-000.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"file-000\.mp4 is no readable video"):
        LeRobotSource(tmp_path / "new").episode(0)
    (tmp_path / "new/data/chunk-000/file-000.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"file-000\.parquet is missing"):
        LeRobotSource(tmp_path / "new").spec()


def test_a_robot_type_that_is_no_name_asks_for_one(tmp_path):
    write_lerobot(tmp_path, video=False)
    info = tmp_path / "meta/info.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "robot_type": ["arm"]}))
    with pytest.raises(ValueError, match=r"has robot_type \['arm'\], .*: give one with --system"):
        LeRobotSource(tmp_path).spec()
    assert LeRobotSource(tmp_path, system="arm").spec().robot_type == "arm"


def test_a_video_that_ends_too_early_is_not_padded(tmp_path):
    write_lerobot(tmp_path)
    path = tmp_path / f"videos/{CAMERA}/chunk-000/file-000.mp4"
    path.unlink()
    path.parent.rmdir()
    write_video(path, [frame_of(0, t) for t in range(6)])
    with pytest.raises(ValueError, match=r"has no frame at 0\.300 s"):
        LeRobotSource(tmp_path).episode(0)


def test_our_own_datasets_can_be_imported_too(tmp_path):
    """Ours is a LeRobot dataset: read as anybody's, it is the same but for names."""
    from tiny_dataset import make_episode, write

    write(tmp_path / "ours")
    columns = Columns(terminated="next.terminated", state="info.state")
    source = LeRobotSource(tmp_path / "ours", columns)
    for number in range(6):
        came, expected = source.episode(number), make_episode(number)
        np.testing.assert_array_equal(came.frames, expected.frames)
        np.testing.assert_array_equal(came.reward, expected.reward)
        np.testing.assert_array_equal(came.facts["state"], expected.facts["state"])
        assert came.terminated == expected.terminated
        told = source.bounds.from_unit(came.action)
        np.testing.assert_allclose(told, expected.action, atol=1e-5)


@pytest.mark.parametrize(("told", "kept"), [(12.5, 12.5), (20.0, 20), (29.97, 29.97)])
def test_a_rate_is_theirs(tmp_path, told, kept):
    write_lerobot(tmp_path, video=False)
    change_info(tmp_path, fps=told)
    fps = LeRobotSource(tmp_path).spec().fps
    assert (fps, type(fps)) == (kept, type(kept))


def change_info(folder, **changes):
    path = folder / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *(({"fps": fps}, "is .*, expected a number from") for fps in (
            0, -20, np.nan, np.inf, "20", [20], None, True, 2 * 10**6, 10**400,
        )),
        ({"robot_type": ["arm"]}, r"has robot_type \['arm'\], expected a text: give .*--system"),
        ({"features": []}, "has features .*, expected a table of tables"),
        ({"features": {"action": {"shape": [2]}}}, "has features .*, expected a table of tables"),
    ],
)  # fmt: skip
def test_metadata_of_another_kind_is_refused_by_name_before_anything_is_read(
    tmp_path, changes, words
):
    write_lerobot(tmp_path / "theirs", video=False)
    change_info(tmp_path / "theirs", **changes)
    (tmp_path / "theirs/data/chunk-000/file-000.parquet").unlink()
    with pytest.raises(ValueError, match=rf"meta/info.json.* {words}"):
        import_lerobot(tmp_path / "theirs", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_metadata_within_metadata_within_metadata_is_refused_by_name(tmp_path):
    write_lerobot(tmp_path, video=False)
    (tmp_path / "meta/info.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"meta/info.json is damaged"):
        LeRobotSource(tmp_path).spec()


@pytest.mark.parametrize("given", [None, Bounds(low=(-1.0,), high=(1.0,))])
def test_ragged_actions_are_refused_by_name(tmp_path, given):
    rows = write_lerobot(tmp_path, video=False)
    rows[2]["action"] = [0.5]
    write_rows(tmp_path, rows)
    with pytest.raises(ValueError, match=r"file-000.parquet: column 'action' has lists of 1 to 2"):
        LeRobotSource(tmp_path, given=given).spec()


def test_actions_of_another_length_in_another_file_are_refused_by_name(tmp_path):
    rows = write_lerobot(tmp_path, video=False)
    change_episodes(tmp_path, 2, "data/file_index", 1)
    for row in rows:
        row["action"] = row["action"] + [0.0] * (row["episode_index"] == 2)
    write_rows(tmp_path, [row for row in rows if row["episode_index"] < 2])
    last = pa.Table.from_pylist([row for row in rows if row["episode_index"] == 2])
    pq.write_table(last, tmp_path / "data/chunk-000/file-001.parquet")
    with pytest.raises(ValueError, match=r"file-001.parquet: column 'action' has 3 .*expected 2"):
        LeRobotSource(tmp_path).spec()


BOMB = 6000  # pixels a side: 108 MB in RGB, 36 MB in grey, 35 KB in the file


def bomb():
    with io.BytesIO() as file:
        Image.fromarray(np.zeros((BOMB, BOMB), np.uint8)).save(file, "PNG")
        return file.getvalue()


def test_a_picture_of_more_pixels_than_promised_is_refused_before_it_takes_memory(tmp_path):
    rows = write_lerobot(tmp_path, video=False)
    rows[1][CAMERA] = {"bytes": bomb(), "path": None}
    write_rows(tmp_path, rows)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"000.parquet .*too many pixels, expected at most 2,"):
            LeRobotSource(tmp_path).episode(0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("shape", [(12_000, 12_000, 3), (3, 12_000, 12_000), (48, 48), "48", None])
def test_a_promise_of_more_pixels_than_anybody_has_is_refused(tmp_path, shape):
    write_lerobot(tmp_path, video=False)
    features = json.loads((tmp_path / "meta/info.json").read_text())["features"]
    features[CAMERA]["shape"] = shape
    change_info(tmp_path, features=features)
    with pytest.raises(ValueError, match=r"info.json has shape .* of 'observation.images.top'"):
        LeRobotSource(tmp_path).episode(0)


@pytest.mark.parametrize("shape", [(SIDE, SIDE, 3), (3, SIDE, SIDE)])
def test_a_picture_may_be_promised_with_channels_first_or_last(tmp_path, shape):
    write_lerobot(tmp_path, video=False)
    features = json.loads((tmp_path / "meta/info.json").read_text())["features"]
    features[CAMERA]["shape"] = shape
    change_info(tmp_path, features=features)
    assert LeRobotSource(tmp_path).pixels == SIDE**2


def test_a_video_of_more_pixels_than_promised_is_refused_by_name(tmp_path):
    write_lerobot(tmp_path)
    features = json.loads((tmp_path / "meta/info.json").read_text())["features"]
    features[CAMERA]["shape"] = (SIDE, SIDE - 1, 3)
    change_info(tmp_path, features=features)
    with pytest.raises(ValueError, match=r"file-000.mp4 .*48×48 pixels, expected at most 2,256"):
        LeRobotSource(tmp_path).episode(0)


def change_episodes(folder, number, column, value):
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[number][column] = value
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("episode_index", None), ("data/chunk_index", -1), ("data/file_index", 0.5),
        (f"videos/{CAMERA}/from_timestamp", np.nan), (f"videos/{CAMERA}/file_index", -1),
    ],
)  # fmt: skip
def test_episodes_that_are_nowhere_are_refused_by_name(tmp_path, column, value):
    write_lerobot(tmp_path)
    change_episodes(tmp_path, 0, column, value)
    with pytest.raises(ValueError, match=rf"file-000\.parquet.*{column}"):
        LeRobotSource(tmp_path).spec()


def test_an_episode_that_promises_more_than_memory_holds_is_refused(tmp_path):
    write_lerobot(tmp_path, video=False)
    change_episodes(tmp_path, 0, "length", 10**15)
    with pytest.raises(ValueError, match=r"episode 0 .*it has the frames .*, expected 0 to 9999"):
        LeRobotSource(tmp_path).spec()


@pytest.mark.parametrize("video", [True, False])
def test_files_that_lead_out_of_the_folder_are_refused_by_name(tmp_path, video):
    folder = tmp_path / "theirs"
    write_lerobot(folder, video=video)
    path = folder / f"videos/{CAMERA}/chunk-000/file-000.mp4"
    for place in [path] if video else [*folder.rglob("*.parquet"), folder / "meta/info.json"]:
        outside = place.rename(tmp_path / "outside")
        place.symlink_to(outside)
        with pytest.raises(ValueError, match=rf"{place} is refused: it is a link that leaves"):
            LeRobotSource(folder).spec()
        place.unlink()
        outside.rename(place)


def write_tasks(folder, index, task):
    pq.write_table(pa.table({"task_index": index, "task": task}), folder / "meta/tasks.parquet")


@pytest.mark.parametrize(
    ("index", "task", "words"),
    [
        ([0.5, 1.0], ["a", "b"], r"has task_index \[0.5, 1.0\], expected whole numbers"),
        ([0, None], ["a", "b"], r"has task_index \[0, None\], expected whole numbers"),
        ([0, 0], ["a", "b"], r"has task_index \[0, 0\], expected .*, each once"),
        ([0, 1], ["a", None], r"has tasks \['a', None\], expected texts"),
        ([0, 1], [["a"], ["b"]], r"has tasks .*, expected texts"),
    ],
)
def test_tasks_of_another_kind_are_refused_by_name(tmp_path, index, task, words):
    write_lerobot(tmp_path, video=False)
    write_tasks(tmp_path, index, task)
    with pytest.raises(ValueError, match=rf"meta/tasks.parquet {words}"):
        LeRobotSource(tmp_path).spec()


def test_tasks_that_lead_out_of_the_folder_are_refused_by_name(tmp_path):
    write_lerobot(tmp_path / "theirs", video=False)
    write_tasks(tmp_path / "theirs", [0], ["a"])
    place = tmp_path / "theirs/meta/tasks.parquet"
    place.symlink_to(place.rename(tmp_path / "outside"))
    with pytest.raises(ValueError, match=r"tasks.parquet is refused: it is a link that leaves"):
        LeRobotSource(tmp_path / "theirs").spec()


def test_an_index_of_a_task_that_is_no_number_is_refused_by_name(tmp_path):
    rows = write_lerobot(tmp_path, video=False)
    write_tasks(tmp_path, [0], ["a"])
    write_rows(tmp_path, [row | {"task_index": "a"} for row in rows])
    with pytest.raises(ValueError, match=r"file-000.parquet: column 'task_index' is of string"):
        LeRobotSource(tmp_path).spec()
