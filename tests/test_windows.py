"""Windows lie within one episode, all are as likely, and a batch depends on its number alone."""

import threading
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from wm_gym.data import Dataset, DatasetSpec, DatasetWriter, Episode, Fact, Windows, prefetch

SPEC = DatasetSpec(
    env_id="Tiny-v0",
    fps=10,
    picture=(3, 5, 1),
    action_size=2,
    facts={"clock": Fact(dtype="int64"), "state": Fact(dtype="float32", shape=(2,))},
)
FRAMES = [4, 9, 2, 6, 130]
"""Of each episode."""


def make_episode(number: int) -> Episode:
    """Everything tells its episode and time: frame i shows (number, i), action i is (number, i)."""
    count = FRAMES[number]
    clock = np.arange(count)
    frames = np.zeros((count, 3, 5, 1), np.uint8)
    frames[:, 0] = number
    frames[:, 1:] = clock[:, None, None, None]
    told = np.stack([np.full(count, number), clock], axis=1).astype(np.float32)
    return Episode(
        frames=frames,
        action=told[:-1],
        reward=told[:-1, 1],
        terminated=number != 3,
        truncated=number == 3,
        facts={"clock": clock, "state": told},
        behaviour="still",
        split="test" if number == 3 else "train",
        seed=0,
        task="",
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("data")
    writer = DatasetWriter(folder, SPEC)
    for number in range(len(FRAMES)):
        writer.add(number, make_episode(number))
    writer.finalize(file_bytes=1)
    return Dataset.open(folder)


def assert_equal(came, expected) -> None:
    for name in ("frames", "action", "reward", "terminated", "first_row"):
        np.testing.assert_array_equal(getattr(came, name), getattr(expected, name), strict=True)
    for name, values in expected.facts.items():
        np.testing.assert_array_equal(came.facts[name], values, strict=True)


def batch_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("length", [2, 5, 96])
def test_a_window_is_a_stretch_of_one_episode(dataset, length):
    batch = Windows(dataset, length=length, batch_size=40, seed=0).batch(0)
    assert batch.frames.shape == (length, 40, 3, 5, 1)
    assert batch.frames.dtype == np.uint8
    assert batch.action.shape == (length - 1, 40, 2)
    assert batch.facts["state"].shape == (length, 40, 2)
    for i in range(40):
        number, first = (int(batch.frames[0, i, row, 0, 0]) for row in (0, 1))
        episode, window = make_episode(number), slice(first, first + length)
        assert batch.first_row[i] == sum(FRAMES[:number]) + first
        np.testing.assert_array_equal(batch.frames[:, i], episode.frames[window])
        np.testing.assert_array_equal(batch.facts["state"][:, i], episode.facts["state"][window])
        np.testing.assert_array_equal(batch.facts["clock"][:, i], episode.facts["clock"][window])
        between = slice(first, first + length - 1)
        np.testing.assert_array_equal(batch.action[:, i], episode.action[between])
        np.testing.assert_array_equal(batch.reward[:, i], episode.reward[between])
        at_the_end = first + length == FRAMES[number]
        assert batch.terminated[:-1, i].tolist() == [False] * (length - 2)
        assert batch.terminated[-1, i] == (at_the_end and episode.terminated)


def test_a_batch_is_a_function_of_seed_and_number_alone(dataset):
    windows = Windows(dataset, length=4, batch_size=8, seed=3)
    tenth = windows.batch(10)
    windows.batch(11)
    assert_equal(windows.batch(10), tenth)
    assert_equal(Windows(dataset, length=4, batch_size=8, seed=3).batch(10), tenth)
    for other in (windows.batch(11), Windows(dataset, length=4, batch_size=8, seed=4).batch(10)):
        assert other.first_row.tolist() != tenth.first_row.tolist()


def test_batches_leave_the_global_rng_alone(dataset):
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    Windows(dataset, length=4, batch_size=8, seed=3).batch(0)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_all_windows_are_equally_likely(dataset):
    """χ² of the counts; the 99.9 % quantile for 9 + 135 − 1 degrees of freedom is 200."""
    windows = Windows(dataset, length=4, batch_size=4000, seed=0)
    assert len(windows) == (4 - 3) + (9 - 3) + 0 + (6 - 3) + (130 - 3)
    drawn = np.concatenate([windows.batch(k).first_row for k in range(7)])
    rows, counts = np.unique(drawn, return_counts=True)
    assert len(rows) == len(windows)
    expected = len(drawn) / len(windows)
    assert ((counts - expected) ** 2 / expected).sum() < 200


def test_episodes_that_are_too_short_are_left_out(dataset):
    assert len(Windows(dataset, length=130, batch_size=1, seed=0)) == 1
    with pytest.raises(ValueError, match="no episode has 131 frames, the longest has 130"):
        Windows(dataset, length=131, batch_size=1, seed=0)


def test_a_selection_gives_only_its_own_windows(dataset):
    windows = Windows(dataset.select(split="test"), length=3, batch_size=50, seed=0)
    assert set(windows.batch(0).first_row) == {15, 16, 17, 18}
    with pytest.raises(ValueError, match="the longest has 6"):
        Windows(dataset.select(split="test"), length=7, batch_size=1, seed=0)


@pytest.mark.parametrize("wrong", [{"length": 0}, {"batch_size": 0}, {"seed": -1}])
def test_impossible_windows_are_refused(dataset, wrong):
    with pytest.raises(ValueError, match="expected"):
        Windows(dataset, **({"length": 4, "batch_size": 8, "seed": 0} | wrong))


def test_prefetched_batches_are_the_same_in_the_same_order(dataset):
    windows = Windows(dataset, length=5, batch_size=4, seed=1)
    for k, batch in enumerate(islice(prefetch(windows, start=7, depth=3), 12)):
        assert_equal(batch, windows.batch(7 + k))
    assert batch_threads() == []


def test_prefetch_decodes_no_more_than_depth_ahead(dataset):
    windows = Windows(dataset, length=5, batch_size=4, seed=1)
    decode, started = windows.batch, []

    def batch(k: int):
        started.append(k)
        return decode(k)

    windows.batch = batch
    batches = prefetch(windows, depth=2)
    next(batches)
    batches.close()
    assert max(started) <= 2
    assert batch_threads() == []


def test_what_fails_in_the_thread_is_raised_in_its_turn(dataset):
    windows = Windows(dataset, length=5, batch_size=4, seed=1)
    decode = windows.batch

    def batch(k: int):
        if k == 3:
            raise RuntimeError("batch 3 is broken")
        return decode(k)

    windows.batch = batch
    batches = prefetch(windows, depth=2)
    assert len(list(islice(batches, 3))) == 3
    with pytest.raises(RuntimeError, match="batch 3 is broken"):
        next(batches)
    assert batch_threads() == []


def test_the_thread_ends_when_the_consumer_fails(dataset):
    batches = prefetch(Windows(dataset, length=5, batch_size=4, seed=1))
    next(batches)
    assert batch_threads() != []
    with pytest.raises(KeyError):
        batches.throw(KeyError)
    assert batch_threads() == []


def test_a_damaged_picture_is_refused_with_its_row(dataset, tmp_path: Path):
    pictures = dataset._columns.pictures
    broken = replace(pictures, start=pictures.start + 1)
    columns = replace(dataset._columns, pictures=broken)
    windows = Windows(replace(dataset, _columns=columns), length=5, batch_size=4, seed=1)
    with pytest.raises(ValueError, match=r"the picture in row \d+ cannot be read: not a PNG"):
        next(prefetch(windows))


def test_a_window_of_one_frame_has_no_transitions(dataset):
    batch = Windows(dataset, length=1, batch_size=50, seed=0).batch(0)
    assert batch.frames.shape == (1, 50, 3, 5, 1)
    assert batch.action.shape == (0, 50, 2)
    assert {4, 14} & set(batch.first_row)  # some of them last frames
