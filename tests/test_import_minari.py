"""Minari datasets, written and read by Minari itself."""

import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from wm_gym.data import Dataset, DatasetWriter
from wm_gym.data.collect import Recipe, Source
from wm_gym.data.minari import MinariSource, load_minari
from wm_gym.programs.export_minari import export_minari as export_program
from wm_gym.programs.import_minari import import_minari

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def theirs(data_format, observation, space, *, jpeg=False, action=None, name="theirs-v0"):
    """Two episodes of unequal length; the first is terminal."""
    action = spaces.Box(np.float32([-2, 0]), np.float32([2, 1])) if action is None else action
    buffers = []
    for number, steps in enumerate((5, 8)):
        rng = np.random.default_rng(number)
        low, high = np.maximum(action.low, -9), np.minimum(action.high, 9)
        buffers.append(
            EpisodeBuffer(
                id=number, seed=70 + number,
                observations=observation(number, steps + 1),
                actions=rng.uniform(low, high, (steps, 2)).astype(np.float32),
                rewards=list(range(steps)),
                terminations=[False] * (steps - 1) + [number == 0],
                truncations=[False] * (steps - 1) + [number == 1],
            )
        )  # fmt: skip
    dataset = minari.create_dataset_from_buffers(
        name, buffers, observation_space=space, action_space=action, data_format=data_format,
        jpeg_encoding=jpeg, algorithm_name="rule", author="me", author_email="me@here",
        code_permalink="here", description="of nothing",
    )  # fmt: skip
    return dataset, buffers


def pictures(number, frames, size=(20, 24)):
    rng = np.random.default_rng(100 + number)
    return rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8)


PICTURE = spaces.Box(0, 255, (20, 24, 3), np.uint8)


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_frames_actions_and_ends_are_theirs(tmp_path, data_format, capsys):
    _, buffers = theirs(data_format, pictures, PICTURE)
    import_minari("theirs-v0", tmp_path / "ours", fps=15)
    assert "-1 and 1 stand for -2 to 2, 0 to 1" in capsys.readouterr().out
    dataset = Dataset.open(tmp_path / "ours")
    spec = dataset.spec
    assert (spec.fps, spec.picture, spec.action_size) == (15, (20, 24, 3), 2)
    for number, buffer in enumerate(buffers):
        episode = dataset.episode(number)
        np.testing.assert_array_equal(episode.frames, buffer.observations)
        told = spec.bounds.from_unit(episode.action)
        np.testing.assert_allclose(told, buffer.actions, atol=1e-6)
        assert episode.reward.tolist() == buffer.rewards
        assert (episode.terminated, episode.truncated) == (number == 0, number == 1)
        assert episode.seed == 70 + number


def test_pictures_among_other_observations_are_found(tmp_path):
    space = spaces.Dict({"arm": spaces.Dict({"view": PICTURE}), "pose": spaces.Box(-1, 1, (3,))})

    def observation(number, frames):
        return {
            "arm": {"view": pictures(number, frames)},
            "pose": np.zeros((frames, 3), np.float32),
        }

    dataset, _ = theirs("hdf5", observation, space)
    source = MinariSource(dataset, 10)
    assert source.camera == ("arm", "view")
    np.testing.assert_array_equal(source.episode(1).frames, pictures(1, 9))
    with pytest.raises(ValueError, match=r"among \['arm/view'\], came 'pose'"):
        MinariSource(dataset, 10, picture="pose").spec()


def test_unbounded_actions_are_bounded_by_the_data(tmp_path):
    free = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    dataset, buffers = theirs("hdf5", pictures, PICTURE, action=free)
    action = np.concatenate([buffer.actions for buffer in buffers])
    source = MinariSource(dataset, 10, size=(10, 12))
    np.testing.assert_allclose(source.bounds.high, action.max(0))
    assert source.spec().picture == (10, 12, 3)
    unit = np.concatenate([source.episode(i).action for i in range(2)])
    assert unit.max() == 1
    assert unit.min() == -1


def test_a_round_trip_of_ours_is_exact(tmp_path):
    """Frames, actions, rewards, facts, seeds and ends, bit for bit."""
    source = Source(Recipe(env_id="Real-Dot-v0", episodes=2, steps=6))
    writer = DatasetWriter(tmp_path / "ours", source.spec())
    for number in range(2):
        writer.add(number, source.record(number))
    writer.finalize()
    ours = Dataset.open(tmp_path / "ours")
    export_program(tmp_path / "ours", "mine/dot/random-v0")
    assert not minari.load_dataset("mine/dot/random-v0").storage.metadata["jpeg_encoding"]
    import_minari("mine/dot/random-v0", tmp_path / "back", fps=10, system="Dot")
    back = Dataset.open(tmp_path / "back")
    for number in range(2):
        came, expected = back.episode(number), ours.episode(number)
        for name in ("frames", "action", "reward"):
            np.testing.assert_array_equal(getattr(came, name), getattr(expected, name))
        for name in ("coverage", "state", "contact"):
            np.testing.assert_array_equal(came.facts[name], expected.facts[name])
        assert (came.seed, came.truncated) == (expected.seed, expected.truncated)


def test_what_cannot_be_imported_says_why(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder with data/ in it, or an id"):
        load_minari("nothing-v0")
    numbers = spaces.Box(-1, 1, (3,), np.float32)
    dataset, _ = theirs("hdf5", lambda _, n: np.zeros((n, 3), np.float32), numbers)
    with pytest.raises(ValueError, match=r"choose a picture key among \[\]"):
        MinariSource(dataset, 10).spec()
