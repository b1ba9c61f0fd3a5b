"""Whatever is cut off, lost or changed on the disk is refused, by name."""

import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_dataset import DATA_FILE, make_episode, write

from wm_gym.data import Dataset
from wm_gym.data.layout import META_PATH as META
from wm_gym.data.layout import Entry, loose_path
from wm_gym.data.rows import damage_named


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize("name", [DATA_FILE, "meta/tasks.parquet", "meta/stats.json"])
def test_a_file_that_was_cut_off_or_lost_is_refused_by_name(tmp_path, name):
    write(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1])
    with pytest.raises(ValueError, match=rf"{name} has {len(content) - 1} bytes, expected"):
        Dataset.open(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        Dataset.open(tmp_path)


def test_every_flipped_byte_of_a_data_file_is_found_by_name(tmp_path):
    write(tmp_path, range(2))
    path = tmp_path / DATA_FILE
    size = path.stat().st_size
    for place in [*range(5), *range(5, size, size // 60), size - 1]:
        flip(path, place)
        with pytest.raises(ValueError, match=rf"{DATA_FILE} (has changed|is damaged)"):
            Dataset.open(tmp_path).verify()
        flip(path, place)
    Dataset.open(tmp_path).verify()


def test_verify_finds_an_episode_that_is_not_what_was_written(tmp_path):
    writer = write(tmp_path, finalize=False)
    path = loose_path(tmp_path, 1)
    table = pq.read_table(path)
    entry = Entry.attached(table)
    other = make_episode(2).digest
    pq.write_table(replace(entry, digest=other).attach(table), path)
    writer.finalize()
    checked = []
    with pytest.raises(ValueError, match="episode 1 has changed"):
        Dataset.open(tmp_path).verify(lambda *progress: checked.append(progress))
    assert checked == [(i, 10) for i in range(1, 11)]  # 4 files and 6 episodes


def test_a_damaged_loose_episode_is_refused_by_name(tmp_path):
    writer = write(tmp_path, finalize=False)
    flip(loose_path(tmp_path, 1), 200)
    with (
        pytest.warns(UserWarning, match="not finished"),
        pytest.raises(ValueError, match=r"episode-000001.*is damaged"),
    ):
        Dataset.open(tmp_path)
    with pytest.raises(ValueError, match=r"episode-000001.*is damaged"):
        writer.finalize()


def test_damaged_metadata_is_refused_by_name(tmp_path):
    write(tmp_path)
    path = tmp_path / "meta/wm_gym.json"
    meta = json.loads(path.read_text())
    meta["episodes"][0], meta["episodes"][1] = meta["episodes"][1], meta["episodes"][0]
    path.write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"wm_gym.json cannot be read .*hash"):
        Dataset.open(tmp_path)
    path.write_text(path.read_text()[:-1])
    with pytest.raises(ValueError, match=r"wm_gym.json cannot be read"):
        Dataset.open(tmp_path)


def change_meta(folder: Path, **changes) -> None:
    path = folder / META
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", ["data/../../outside", "/dev/zero"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    write(tmp_path / "ours")
    outside = (tmp_path / "ours" / DATA_FILE).rename(tmp_path / "outside")
    size = outside.stat().st_size if "outside" in name else 0
    change_meta(tmp_path / "ours", files={name: {"bytes": size, "sha256": "0"}})
    with pytest.raises(ValueError, match=rf"{name} is refused: it leaves .*ours"):
        Dataset.open(tmp_path / "ours")


@pytest.mark.parametrize("name", [DATA_FILE, META, "episodes/episode-000001.parquet"])
def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    write(tmp_path / "ours", finalize="episodes" not in name)
    place = tmp_path / "ours" / name
    outside = place.rename(tmp_path / "outside")
    for target, words in (
        (outside, "is a link that leaves"),
        (Path("/dev/zero"), "is a link that leaves"),
        (place, "is refused: "),  # to itself
    ):
        place.symlink_to(target)
        with pytest.raises(ValueError, match=rf"{name} .*{words}"):
            Dataset.open(tmp_path / "ours")
        place.unlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize("name", [DATA_FILE, META, "episodes/episode-000001.parquet"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path, name):
    write(tmp_path, finalize="episodes" not in name)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} is refused: it is not a regular file"):
        Dataset.open(tmp_path)


def test_links_within_the_cache_of_the_hub_are_its_files(tmp_path):
    write(tmp_path / "ours")
    snapshot, blobs = tmp_path / "repository/snapshots/1", tmp_path / "repository/blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted((tmp_path / "ours").rglob("*.*"))):
        blob, link = blobs / str(number), snapshot / path.relative_to(tmp_path / "ours")
        path.rename(blob)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    assert len(Dataset.open(snapshot)) == 6


def test_metadata_within_metadata_within_metadata_is_refused_by_name(tmp_path):
    write(tmp_path)
    (tmp_path / META).write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"wm_gym.json cannot be read .RecursionError"):
        Dataset.open(tmp_path)


def test_a_dataset_without_files_or_episodes_is_refused_by_name(tmp_path):
    write(tmp_path)
    change_meta(tmp_path, files={})
    with pytest.raises(ValueError, match=r"wm_gym.json names 0 files in data/ and 6 episodes"):
        Dataset.open(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"length": 4.0}, r"length 4.0, expected an int"),
        ({"length": True}, r"length True, expected an int"),
        ({"length": 1}, r"length is 1, expected 2 or more"),
        ({"number": 2**64}, r"number is 18446744073709551616, expected 0 or more"),
        ({"behaviour": ["play"]}, r"behaviour \['play'\], expected a str"),
    ],
)
def test_an_episode_of_another_kind_is_refused_by_name(tmp_path, changes, words):
    write(tmp_path)
    episodes = json.loads((tmp_path / META).read_text())["episodes"]
    change_meta(tmp_path, episodes=[episodes[0] | changes, *episodes[1:]])
    with pytest.raises(ValueError, match=rf"wm_gym.json cannot be read .*{words}"):
        Dataset.open(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"picture": [8.5, 6, 3]}, r"picture is \(8.5, 6, 3\), expected whole numbers"),
        ({"picture": [math.inf, 6, 3]}, "expected whole numbers"),
        ({"action_size": 2.0}, r"action_size is \(2.0,\), expected whole"),
        ({"robot_type": ["arm"]}, r"robot_type is \['arm'\], expected a text"),
        ({"env_id": None}, "env_id is None, expected a text"),
        ({"facts": []}, "AttributeError"),
    ],
)
def test_a_spec_of_another_kind_is_refused_by_name(tmp_path, changes, words, unchecked_types):
    write(tmp_path)
    spec = json.loads((tmp_path / META).read_text())["spec"]
    change_meta(tmp_path, spec=spec | changes)
    with pytest.raises(ValueError, match=rf"wm_gym.json cannot be read .*{words}"):
        Dataset.open(tmp_path)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (pa.array([[0.0, 1.0]] * 4 + [[2.0]]), "lists of 1 to 2 entries, expected all of one"),
        (pa.array([[0.0]] * 5), "5 numbers in 5 rows, expected 2 in each"),
        (pa.array([[0.0, 1.0]] * 4 + [[2.0, None]]), "lacks 1 values"),
        (pa.array([["a", "b"]] * 5), "is of list<.*>, expected numbers"),
    ],
)
def test_actions_that_are_no_table_of_numbers_are_refused_by_name(tmp_path, action, words):
    write(tmp_path, [1], finalize=False)
    path = loose_path(tmp_path, 1)
    table = pq.read_table(path)
    place = table.column_names.index("action")
    pq.write_table(table.set_column(place, "action", action), path)
    with (
        pytest.warns(UserWarning, match="not finished"),
        pytest.raises(ValueError, match=rf"000001.parquet is damaged .*column 'action'.*{words}"),
    ):
        Dataset.open(tmp_path)


def test_what_the_machine_lacks_is_no_damage(tmp_path):
    for number, kind in ((errno.EMFILE, OSError), (errno.EACCES, PermissionError)):
        with pytest.raises(kind, match="told"), damage_named(tmp_path):
            raise OSError(number, "told")
    with pytest.raises(MemoryError), damage_named(tmp_path):
        raise pa.ArrowMemoryError("told")
