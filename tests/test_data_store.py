"""What is written comes back bit for bit, whatever was killed or full in between."""

import errno
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_dataset import (
    DATA_FILE,
    SPEC,
    assert_same,
    make_episode,
    open_unfinished,
    run_python,
    write,
)

from wm_gym.data import Dataset, DatasetWriter, Fact
from wm_gym.data.card import dataset_card
from wm_gym.data.layout import Meta, loose_path
from wm_gym.programs.card import write_card
from wm_gym.programs.failures import said
from wm_gym.storage.files import locked


@pytest.mark.parametrize("file_bytes", [1, 2**30])
def test_episodes_come_back_bit_for_bit(tmp_path, file_bytes):
    write(tmp_path, file_bytes=file_bytes)
    dataset = Dataset.open(tmp_path)
    assert len(dataset) == 6
    assert dataset.spec == SPEC
    assert len(list(tmp_path.glob("data/*/*.parquet"))) == (6 if file_bytes == 1 else 1)
    for number in range(6):
        assert_same(dataset.episode(number), make_episode(number))
    dataset.verify()


def test_rows_are_aligned_as_documented(tmp_path):
    write(tmp_path)
    dataset = Dataset.open(tmp_path)
    start, length = dataset.index["start"][2], dataset.index["length"][2]
    episode = make_episode(2)
    rows = np.arange(start, start + length)
    np.testing.assert_array_equal(dataset.frames(rows), episode.frames)
    np.testing.assert_array_equal(dataset.frames(rows[::-2]), episode.frames[::-2])
    np.testing.assert_array_equal(dataset.action[rows[:-1]], episode.action)
    np.testing.assert_array_equal(dataset.reward[rows[:-1]], episode.reward)
    assert dataset.action[rows[-1]].tolist() == [0, 0]
    assert dataset.reward[rows[-1]] == 0
    assert dataset.terminated[rows].tolist() == [False] * (length - 2) + [True, False]
    np.testing.assert_array_equal(dataset.fact("corners")[rows], episode.facts["corners"])


def test_the_hash_depends_on_content_not_on_packing_order_or_gaps(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", [5, 3, 0, 1, 2, 4], file_bytes=1)
    write(tmp_path / "c", [5], finalize=False)
    for number in range(5):
        DatasetWriter(tmp_path / "c", SPEC).add(number, make_episode(number))
    hashes = [Dataset.open(tmp_path / name).hash for name in "ab"]
    hashes.append(open_unfinished(tmp_path / "c").hash)
    assert len(set(hashes)) == 1
    write(tmp_path / "d", [0, 1, 2, 3, 4, 6])
    assert Dataset.open(tmp_path / "d").hash not in hashes


def test_a_selection_has_the_chosen_episodes_and_the_same_rows(tmp_path):
    write(tmp_path)
    dataset = Dataset.open(tmp_path)
    chosen = dataset.select(split="train", behaviour="random")
    assert chosen.index["number"].tolist() == [1, 3]
    assert_same(chosen.episode(1), make_episode(3))
    assert chosen.num_frames == sum(len(make_episode(number).frames) for number in (1, 3))
    assert chosen.action is dataset.action
    assert dataset.select(split="train").select(behaviour="random").hash == chosen.hash
    with pytest.raises(ValueError, match=r"split='dev'.*'test', 'train'"):
        dataset.select(split="dev")


def test_an_episode_of_another_kind_is_refused(tmp_path):
    writer = DatasetWriter(tmp_path, replace(SPEC, action_size=3))
    with pytest.raises(ValueError, match=r"action \(2,\), but the dataset's spec has \(3,\)"):
        writer.add(0, make_episode(0))
    for name, facts, message in [
        ("fewer", {"coverage": Fact(dtype="float32")}, "facts"),
        ("wider", {**SPEC.facts, "coverage": Fact(dtype="float64")}, "float32, .* has float64"),
        ("longer", {**SPEC.facts, "state": Fact(dtype="float64", shape=(8,))}, r"has \(8,\)"),
    ]:
        writer = DatasetWriter(tmp_path / name, replace(SPEC, facts=facts))
        with pytest.raises(ValueError, match=message):
            writer.add(0, make_episode(0))


def test_another_spec_or_recipe_is_refused_and_nothing_is_overwritten(tmp_path):
    writer = write(tmp_path, finalize=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with pytest.raises(ValueError, match=r"nothing was overwritten.*recipe"):
        DatasetWriter(tmp_path, replace(SPEC, recipe={"seed": 1}))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
    writer.finalize()
    with pytest.raises(ValueError, match="fps: 30, found 10"):
        DatasetWriter(tmp_path, replace(SPEC, fps=30))


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match="choose an empty folder"):
        DatasetWriter(tmp_path, SPEC)


def test_no_episode_is_written_twice_or_after_the_end(tmp_path):
    writer = write(tmp_path, finalize=False)
    with pytest.raises(ValueError, match="episode 3 is already in"):
        writer.add(3, make_episode(3))
    writer.finalize()
    with pytest.raises(ValueError, match="is finalized"):
        writer.add(7, make_episode(7))
    assert writer.finished() == set(range(6))


def test_two_processes_write_what_one_would(tmp_path):
    write(tmp_path / "one", range(8))
    children = [
        run_python(f"write(Path({str(tmp_path / 'two')!r}), range({first}, 8, 2), finalize=False)")
        for first in (0, 1)
    ]
    assert [child.wait(60) for child in children] == [0, 0]
    for child in children:
        child.stdout.close()
    writer = DatasetWriter(tmp_path / "two", SPEC)
    assert writer.finished() == set(range(8))
    writer.finalize()
    dataset = Dataset.open(tmp_path / "two")
    dataset.verify()
    assert dataset.hash == Dataset.open(tmp_path / "one").hash


def test_many_that_begin_at_once_begin_one_dataset(tmp_path, monkeypatch):
    """The slowest moment drawn out: the folder is there, its `meta` too, the file in it is not."""
    write_meta = Meta.write

    def slow(meta, folder):
        (folder / "meta").mkdir()
        time.sleep(0.3)
        write_meta(meta, folder)

    monkeypatch.setattr(Meta, "write", slow)
    with ThreadPoolExecutor(4) as pool:
        writers = list(pool.map(lambda _: DatasetWriter(tmp_path / "new", SPEC), range(4)))
    assert [writer.finished() for writer in writers] == [set()] * 4


def test_a_killed_writer_loses_only_the_half_written_episode(tmp_path):
    child = run_python(f"""
writer = write(Path({str(tmp_path)!r}), range(3), finalize=False)
def stuck(handle):
    print("half written", flush=True)
    signal.pause()
os.fsync = stuck
writer.add(3, make_episode(3))
""")
    assert child.stdout.readline() == "half written\n"
    writer = DatasetWriter(tmp_path, SPEC)
    assert writer.finished() == {0, 1, 2}  # no warning: its writer is alive, so it is left alone
    assert len(list(tmp_path.glob("episodes/.*"))) == 1
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    child.stdout.close()

    with pytest.warns(UserWarning, match="3 episodes are complete .* 1 half-written left out"):
        dataset = Dataset.open(tmp_path)
    for number in range(3):
        assert_same(dataset.episode(number), make_episode(number))
    with pytest.warns(UserWarning, match="1 half-written episode.* dropped, 3 complete"):
        assert writer.finished() == {0, 1, 2}
    assert list(tmp_path.glob("episodes/.*")) == []
    writer.add(3, make_episode(3))
    writer.finalize()
    assert_same(Dataset.open(tmp_path).episode(3), make_episode(3))


def test_a_loose_episode_that_was_cut_off_counts_as_half_written(tmp_path):
    writer = write(tmp_path, finalize=False)
    path = loose_path(tmp_path, 4)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="5 episodes are complete .* 1 half-written"):
        assert Dataset.open(tmp_path).index["number"].tolist() == [0, 1, 2, 3, 5]
    with pytest.warns(UserWarning, match="1 half-written"):
        assert writer.finished() == {0, 1, 2, 3, 5}
    writer.add(4, make_episode(4))
    assert writer.finished() == set(range(6))


def disk_fills_up(monkeypatch, after: int) -> None:
    calls = iter(range(after))
    sync = os.fsync

    def fsync(handle: int) -> None:
        if next(calls, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_full_disk_costs_one_episode_and_says_so(tmp_path, monkeypatch):
    writer = write(tmp_path, range(2), finalize=False)
    with monkeypatch.context() as patch:
        disk_fills_up(patch, after=0)
        with pytest.raises(OSError, match=r"episode 2 was not saved.*2 complete.*free") as caught:
            writer.add(2, make_episode(2))
    assert caught.value.errno == errno.ENOSPC
    assert sorted(path.name for path in tmp_path.glob("episodes/*")) == [
        "episode-000000.parquet",
        "episode-000001.parquet",
    ]
    writer.add(2, make_episode(2))
    assert writer.finished() == {0, 1, 2}


@pytest.mark.parametrize("after", [0, 1, 6, 11, 12, 14, 17, 18, 19, 20])
def test_finalize_can_be_repeated_wherever_the_disk_was_full(tmp_path, monkeypatch, after):
    """Two syncs for each of 6 data files, 2 tables and 3 JSON files, of which info.json is last."""
    writer = write(tmp_path, finalize=False)
    with monkeypatch.context() as patch:
        disk_fills_up(patch, after)
        with pytest.raises(OSError, match=r"not finalized; all 6 episodes are safe in episodes/"):
            writer.finalize(file_bytes=1)
    assert writer.finished() == set(range(6))
    assert_same(open_unfinished(tmp_path).episode(5), make_episode(5))
    DatasetWriter(tmp_path, SPEC).finalize()
    dataset = Dataset.open(tmp_path)
    dataset.verify()
    assert [dataset.episode(i).digest for i in range(6)] == [
        make_episode(i).digest for i in range(6)
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "meta"]
    assert list(tmp_path.rglob(".*")) == []


@pytest.mark.parametrize("after", [8, 16])
def test_finalize_can_be_repeated_where_it_was_killed(tmp_path, after):
    """In the middle of a data file, and of stats.json."""
    child = run_python(f"""
writer = write(Path({str(tmp_path)!r}), finalize=False)
syncs = iter(range({after}))
def stuck(handle):
    if next(syncs, None) is None:
        print("half packed", flush=True)
        signal.pause()
os.fsync = stuck
writer.finalize(file_bytes=1)
""")
    assert child.stdout.readline() == "half packed\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    child.stdout.close()
    expected = open_unfinished(tmp_path).hash
    DatasetWriter(tmp_path, SPEC).finalize()
    dataset = Dataset.open(tmp_path)
    dataset.verify()
    assert dataset.hash == expected
    assert list(tmp_path.rglob(".*")) == []


def test_finalize_killed_while_it_deletes_loose_episodes_changes_nothing(tmp_path):
    writer = write(tmp_path)
    loose_path(tmp_path, 0).parent.mkdir()
    loose_path(tmp_path, 0).write_bytes(b"PAR1 what was left")
    expected = Dataset.open(tmp_path).hash
    writer.finalize()
    assert not loose_path(tmp_path, 0).parent.exists()
    assert Dataset.open(tmp_path).hash == expected


def test_without_episodes_there_is_nothing_to_finalize_or_open(tmp_path):
    writer = DatasetWriter(tmp_path, SPEC)
    with pytest.raises(ValueError, match="no complete episode"):
        writer.finalize()
    with pytest.raises(ValueError, match="no complete episode"):
        Dataset.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="not a wm_gym dataset"):
        Dataset.open(tmp_path / "elsewhere")


def test_a_rate_that_is_not_whole_is_kept_and_times_follow_it(tmp_path):
    writer = DatasetWriter(tmp_path, replace(SPEC, fps=12.5))
    writer.add(0, make_episode(0))
    writer.finalize()
    assert Dataset.open(tmp_path).spec.fps == 12.5
    assert json.loads((tmp_path / "meta/info.json").read_text())["fps"] == 12.5
    table = pq.read_table(tmp_path / DATA_FILE)
    np.testing.assert_allclose(table["timestamp"], np.arange(4) / 12.5, rtol=1e-6)


def test_a_whole_rate_is_an_int_in_every_file(tmp_path):
    write(tmp_path / "int")
    writer = DatasetWriter(tmp_path / "float", replace(SPEC, fps=10.0))
    for number in range(6):
        writer.add(number, make_episode(number))
    writer.finalize()
    for path in (tmp_path / "int").rglob("*.*"):
        other = tmp_path / "float" / path.relative_to(tmp_path / "int")
        assert path.read_bytes() == other.read_bytes()
    assert '"fps": 10,' in (tmp_path / "float/meta/info.json").read_text()
    assert '"fps": 10,' in (tmp_path / "float/meta/wm_gym.json").read_text()


@pytest.mark.parametrize("fps", [0, -1, 2 * 10**6, np.nan, np.inf, True, "10", 1e-9])
def test_a_rate_that_is_none_is_refused(fps, unchecked_types):
    with pytest.raises(ValueError, match=r"fps is .*, expected a number from 0.001 to 1,000,000"):
        replace(SPEC, fps=fps)


@pytest.mark.parametrize(("after", "name"), [(0, "card.png"), (2, "card.json")])
def test_a_full_disk_leaves_the_card_that_was_there_and_is_named(
    tmp_path, monkeypatch, after, name
):
    """Two syncs for each of the picture and the numbers."""
    write(tmp_path)
    dataset = Dataset.open(tmp_path)
    card = dataset_card(dataset)
    write_card(dataset, replace(card, episodes=5))
    before = {path: path.read_bytes() for path in tmp_path.glob("card.*")}
    with monkeypatch.context() as patch:
        disk_fills_up(patch, after)
        with pytest.raises(OSError, match="No space left") as caught:
            write_card(dataset, card)
    assert {path: path.read_bytes() for path in tmp_path.glob("card.*")} == before
    assert not list(tmp_path.glob(".*"))
    assert str(tmp_path / name) in said(caught.value)


def test_a_card_whose_writer_was_killed_leaves_nothing_for_the_next(tmp_path):
    write(tmp_path)
    dataset = Dataset.open(tmp_path)
    (tmp_path / ".card.png.0a1b2c.tmp").write_bytes(b"half")
    write_card(dataset, dataset_card(dataset))
    assert not list(tmp_path.glob(".*"))


def test_a_lock_is_not_blamed_for_what_goes_wrong_under_it(tmp_path):
    with pytest.raises(BlockingIOError, match="no more processes"), locked(tmp_path):
        raise BlockingIOError(errno.EAGAIN, "no more processes")
    with (
        locked(tmp_path),
        pytest.raises(RuntimeError, match="another process is packing"),
        locked(tmp_path),
    ):
        pass
