"""Minari datasets, written and read by Minari itself."""

import json
import os
from dataclasses import replace

import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from minari.data_collector import EpisodeBuffer

from wm_gym.data import Dataset, DatasetSpec, DatasetWriter, Episode
from wm_gym.data.collect import Recipe, Source
from wm_gym.data.minari import MinariSource, load_minari
from wm_gym.data.minari_export import export_minari
from wm_gym.programs.export_minari import export_minari as export_program
from wm_gym.programs.import_minari import import_minari
from wm_gym.systems import Bounds

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def theirs(data_format, observation, space, *, jpeg=False, action=None, drawn=None, lengths=(5, 8)):
    """Two episodes of unequal length; the first is terminal."""
    action = spaces.Box(np.float32([-2, 0]), np.float32([2, 1])) if action is None else action
    buffers = []
    drawn = drawn or (np.maximum(action.low, -9), np.minimum(action.high, 9))
    for number, steps in enumerate(lengths):
        rng = np.random.default_rng(number)
        buffers.append(
            EpisodeBuffer(
                id=number, seed=70 + number,
                observations=observation(number, steps + 1),
                actions=rng.uniform(*drawn, (steps, 2)).astype(np.float32),
                rewards=list(range(steps)),
                terminations=np.arange(steps) == (steps - 1 if number == 0 else -1),
                truncations=np.arange(steps) == (steps - 1 if number == 1 else -1),
            )
        )  # fmt: skip
    dataset = minari.create_dataset_from_buffers(
        "theirs-v0", buffers, observation_space=space, action_space=action, data_format=data_format,
        jpeg_encoding=jpeg, algorithm_name="rule", author="me", author_email="me@here",
        code_permalink="here", description="of nothing",
    )  # fmt: skip
    return dataset, buffers


def pictures(number, frames, size=(20, 24)):
    rng = np.random.default_rng(100 + number)
    return rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8)


HUGE = spaces.Box(np.uint8(0), np.uint8(255), (1,), np.uint8)
HUGE._shape = (12_000, 12_000, 3)
PICTURE = spaces.Box(0, 255, (20, 24, 3), np.uint8)


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_frames_actions_and_ends_are_theirs(tmp_path, data_format, capsys):
    _, buffers = theirs(data_format, pictures, PICTURE)
    import_minari("theirs-v0", tmp_path / "ours", fps=12.5)
    assert "-1 and 1 stand for -2 to 2, 0 to 1" in capsys.readouterr().out
    dataset = Dataset.open(tmp_path / "ours")
    spec = dataset.spec
    assert (spec.fps, spec.picture, spec.action_size) == (12.5, (20, 24, 3), 2)
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


def written(folder, *, bounds=None, numbers=range(2)):
    """Actions among which are all that scaling could change: zeros, edges, very small ones."""
    spec = DatasetSpec(
        env_id="Odd-v0", fps=10, picture=(8, 6, 3), action_size=2, bounds=bounds
    )  # fmt: skip
    writer = DatasetWriter(folder, spec)
    for number in numbers:
        rng = np.random.default_rng(number)
        odd = [[0, 0], [1, -1], [-1, 1], [1e-12, -1e-30], [1e-40, -0.0]]
        action = np.concatenate([odd, rng.uniform(-1, 1, (200, 2))]).astype(np.float32)
        writer.add(
            number,
            Episode(
                frames=rng.integers(0, 256, (len(action) + 1, 8, 6, 3), dtype=np.uint8),
                action=action, reward=rng.normal(size=len(action)).astype(np.float32),
                terminated=False, truncated=True, facts={}, behaviour="odd", split="train",
                seed=number, task="",
            ),
        )  # fmt: skip
    writer.finalize()
    return Dataset.open(folder)


def test_a_round_trip_is_exact_whatever_the_bounds(tmp_path):
    bounds = Bounds(low=(0.0, -0.1), high=(0.1, 2.0))
    ours = written(tmp_path / "ours", bounds=bounds)
    made = export_minari(ours, "mine/odd-v0")
    assert (made.action_space.low.tolist(), made.action_space.high.tolist()) == (
        [0.0, -0.1], [0.1, 2.0],
    )  # fmt: skip
    assert all(made.action_space.contains(action) for action in made[0].actions)
    import_minari("mine/odd-v0", tmp_path / "back", fps=10)
    back = Dataset.open(tmp_path / "back")
    assert back.spec.bounds == bounds
    for number in range(2):
        came, expected = back.episode(number), ours.episode(number)
        assert came.action.tobytes() == expected.action.tobytes()
    halved = MinariSource(made, 10, given=Bounds(low=(0.0, 0.0), high=(0.05, 1.0)))
    assert halved.episode(0).action[0].tolist() == pytest.approx([1, 0.9])


def test_an_export_is_whole_or_absent(tmp_path):
    ours, name = written(tmp_path / "ours"), "mine/odd-v0"

    def stop(_):
        assert name not in minari.list_local_datasets()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_minari(ours, name, progress=stop)
    assert not minari.list_local_datasets()
    assert export_minari(ours, name).total_episodes == 2
    assert list(minari.list_local_datasets()) == [name]
    with pytest.raises(ValueError, match=r"exists already, .* `minari delete mine/odd-v0` makes"):
        export_minari(ours, name)
    with pytest.raises(ValueError, match="'mine/odd' is no Minari id, expected one as"):
        export_minari(ours, "mine/odd")


def test_an_episode_without_a_transition_is_left_out_and_told(tmp_path, capsys):
    dataset, _ = theirs("hdf5", pictures, PICTURE, lengths=(5, 8, 6))
    with h5py.File(dataset.storage.data_path / "main_data.hdf5", "a") as file:
        for name, column in file["episode_0"].items():
            column.resize(int(name == "observations"), axis=0)
        file["episode_0"].attrs["total_steps"] = 0
    import_minari("theirs-v0", tmp_path / "ours")
    assert "1 of 3 episodes left out, as they hold no transition" in capsys.readouterr().out
    assert Dataset.open(tmp_path / "ours").index["length"].tolist() == [9, 7]


def test_what_is_wrong_with_an_episode_says_with_which(tmp_path):
    dataset, buffers = theirs("arrow", pictures, PICTURE)
    dataset.update_dataset_from_buffer([replace(buffers[0], id=2, rewards=[0, 0, np.nan, 0, 0])])
    with pytest.raises(ValueError, match=r"^episode 2 of theirs-v0: reward is not finite in row 2"):
        import_minari("theirs-v0", tmp_path / "ours")


def test_actions_outside_their_own_space_are_counted_and_pictures_read_once(
    tmp_path, capsys, monkeypatch
):
    _, buffers = theirs("hdf5", pictures, PICTURE, drawn=([-3, 0], [3, 1]))
    reads, read = [], minari.MinariDataset.__getitem__
    monkeypatch.setattr(
        minari.MinariDataset, "__getitem__", lambda self, i: reads.append(i) or read(self, i)
    )
    import_minari("theirs-v0", tmp_path / "ours")
    beyond = np.mean([abs(action[0]) > 2 for buffer in buffers for action in buffer.actions])
    assert 0 < beyond < 1
    said = f"{beyond:.1%} of the actions lay beyond that, and were clipped"
    assert said in capsys.readouterr().out
    assert reads == [0, 0, 1]  # once to see what they are
    import_minari("theirs-v0", tmp_path / "ours")  # all are there: read for their actions
    assert said in capsys.readouterr().out
    assert reads == [0, 0, 1, 0, 1]


def test_what_cannot_be_imported_says_why(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder with data/ in it, or an id"):
        load_minari("nothing-v0")
    numbers = spaces.Box(-1, 1, (3,), np.float32)
    dataset, _ = theirs("hdf5", lambda _, n: np.zeros((n, 3), np.float32), numbers)
    with pytest.raises(ValueError, match=r"choose a picture key among \[\]"):
        MinariSource(dataset, 10).spec()


def large(number, frames):
    return pictures(number, frames, (48, 40))


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_a_jpeg_of_more_pixels_than_promised_is_refused(tmp_path, data_format):
    space = spaces.Box(0, 255, (48, 40, 3), np.uint8)
    dataset, _ = theirs(data_format, large, space, jpeg=True)
    assert MinariSource(dataset, 10).episode(0).frames.shape == (6, 48, 40, 3)
    smaller = spaces.Box(0, 255, (48, 39, 3), np.uint8)
    dataset.storage._observation_space = dataset._observation_space = smaller
    with pytest.raises(ValueError, match=r"too many pixels, expected at most 1,872"):
        MinariSource(dataset, 10).episode(0)


@pytest.mark.parametrize("shape", [(6, 12_000, 12_000, 3), (10**9, 20, 24, 3)])
def test_pictures_that_take_no_room_in_the_file_are_refused_before_they_take_memory(
    tmp_path, shape
):
    dataset, _ = theirs("hdf5", pictures, PICTURE)
    with h5py.File(dataset.storage.data_path / "main_data.hdf5", "a") as file:
        del file["episode_0/observations"]
        chunks = (1, *shape[1:])
        file["episode_0"].create_dataset("observations", shape, np.uint8, chunks=chunks)
    with pytest.raises(ValueError, match=r"main_data.hdf5 has pictures of .*, expected \(6, 20"):
        MinariSource(dataset, 10).spec()


def test_proprioception_that_takes_no_room_in_the_file_is_refused_before_it_takes_memory(tmp_path):
    felt = spaces.Box(-1, 1, (3,), np.float32)
    space = spaces.Dict({"view": PICTURE, "agent_pos": felt})

    def observation(number, frames):
        return {"view": pictures(number, frames), "agent_pos": np.zeros((frames, 3), np.float32)}

    dataset, _ = theirs("hdf5", observation, space)
    assert MinariSource(dataset, 10).episode(0).proprio.shape == (6, 3)
    with h5py.File(dataset.storage.data_path / "main_data.hdf5", "a") as file:
        felt = file["episode_0/observations"]
        del felt["agent_pos"]
        felt.create_dataset("agent_pos", (10**12, 3), np.float32, chunks=(1, 3))
    with pytest.raises(ValueError, match=r"has proprioception of .*, expected \(6, 3\)"):
        MinariSource(dataset, 10).spec()


def test_spaces_of_more_pixels_than_anybody_has_are_refused(tmp_path):
    dataset, _ = theirs("arrow", pictures, PICTURE)
    dataset._observation_space = spaces.Dict({"view": PICTURE, "sky": HUGE})
    with pytest.raises(ValueError, match=r"expected at most 33,554,432 pixels"):
        MinariSource(dataset, 10).episode(0)


def test_files_that_lead_out_of_the_folder_are_refused_by_name(tmp_path):
    dataset, _ = theirs("hdf5", pictures, PICTURE)
    for name in ("main_data.hdf5", "metadata.json"):
        place = dataset.storage.data_path / name
        outside = place.rename(tmp_path / "outside")
        place.symlink_to(outside)
        with pytest.raises(ValueError, match=rf"{name} is refused: it is a link that leaves"):
            load_minari("theirs-v0")
        place.unlink()
        outside.rename(place)
    assert load_minari(dataset.storage.data_path.parent).total_episodes == 2


def test_no_function_that_a_dataset_names_is_called(tmp_path, monkeypatch):
    """Minari would make the environment to ask for its spaces."""
    dataset, _ = theirs("hdf5", pictures, PICTURE)
    path = dataset.storage.data_path / "metadata.json"
    told = json.loads(path.read_text())
    del told["observation_space"]
    called = []
    monkeypatch.setattr(os, "nice", lambda **_: called.append(1) or 1 / 0)
    told["env_spec"] = EnvSpec("Any-v0", "os:nice", disable_env_checker=True).to_json()
    path.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"metadata.json has no observation_space, which would"):
        load_minari("theirs-v0")
    assert not called


def test_actions_of_another_length_are_refused_by_name(tmp_path):
    free = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    dataset, _ = theirs("hdf5", pictures, PICTURE, action=free)
    with h5py.File(dataset.storage.data_path / "main_data.hdf5", "a") as file:
        del file["episode_1/actions"]
        file["episode_1"].create_dataset("actions", data=np.zeros((8, 3), np.float32))
    with pytest.raises(ValueError, match=r"episode 1 of theirs-v0: actions have 3 .*expected 2"):
        MinariSource(dataset, 10).spec()
