"""Whatever is cut off, lost or changed on the disk is refused, by name."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_dataset import DATA_FILE, make_episode, write

from wm_gym.data import Dataset
from wm_gym.data.layout import Entry, loose_path


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
