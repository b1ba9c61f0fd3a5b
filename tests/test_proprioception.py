"""Proprioception and tasks in datasets: logged, written, read, imported and exported."""

import json
from dataclasses import replace

import gymnasium as gym
import minari
import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_dataset import DATA_FILE, SPEC, assert_same, make_episode, open_unfinished, write

from wm_gym.data import Dataset, DatasetSpec, DatasetWriter, Windows
from wm_gym.data.card import card_text, dataset_card
from wm_gym.data.collect import Recipe, Source, collect_episodes
from wm_gym.data.facts import facts_told
from wm_gym.data.lerobot_import import LeRobotSource
from wm_gym.data.minari import MinariSource
from wm_gym.data.minari_export import export_minari
from wm_gym.data.origin import origin_of
from wm_gym.systems import DOT, Bounds

NAMES = ("shoulder", "elbow", "hand")
TASKS = ("push the T", "lift the T", "pull the T")
FELT = replace(SPEC, proprio_names=NAMES, tasks=TASKS)


def felt(number):
    """An episode that feels."""
    episode = make_episode(number)
    rng = np.random.default_rng(100 + number)
    size = (len(episode.frames), len(NAMES))
    return replace(episode, proprio=rng.normal(size=size).astype(np.float32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("felt")
    writer = DatasetWriter(folder, FELT)
    for number in range(4):
        writer.add(number, felt(number))
    unfinished = open_unfinished(folder)
    writer.finalize(file_bytes=20_000)
    assert unfinished.hash == Dataset.open(folder).hash
    np.testing.assert_array_equal(unfinished.proprio, Dataset.open(folder).proprio)
    assert unfinished.tasks == TASKS
    return folder


def test_what_was_felt_comes_back_bit_for_bit(folder):
    dataset = Dataset.open(folder)
    dataset.verify()
    for number in range(4):
        came = dataset.episode(number)
        assert_same(came, felt(number))
        np.testing.assert_array_equal(came.proprio, felt(number).proprio, strict=True)
    assert dataset.spec == FELT


def test_it_is_lerobots_observation_state(folder):
    info = json.loads((folder / "meta/info.json").read_text())
    state = {"dtype": "float32", "shape": [3], "names": list(NAMES)}
    assert info["features"]["observation.state"] == state
    table = pq.read_table(folder / DATA_FILE)
    kind = str(table.schema.field("observation.state").type).replace("element", "item")
    assert kind == "fixed_size_list<item: float>[3]"
    assert table["observation.state"].to_pylist()[0] == felt(0).proprio[0].tolist()
    mean = np.concatenate([felt(number).proprio for number in range(4)]).mean(0)
    stats = json.loads((folder / "meta/stats.json").read_text())["observation.state"]
    np.testing.assert_allclose(stats["mean"], mean, rtol=1e-5)


def test_tasks_have_the_index_that_the_spec_gives_them(folder):
    """Also those that no episode has."""
    dataset = Dataset.open(folder)
    assert dataset.tasks == TASKS
    assert dataset.index["task_index"].tolist() == [2, 0, 0, 0]
    assert pq.read_table(folder / "meta/tasks.parquet").to_pydict() == {
        "task_index": [0, 1, 2], "task": list(TASKS),
    }  # fmt: skip
    assert json.loads((folder / "meta/info.json").read_text())["total_tasks"] == 3
    rows = [pq.read_table(path) for path in sorted((folder / "data").rglob("*.parquet"))]
    on_disk = [index for table in rows for index in table["task_index"].to_pylist()]
    assert dataset.task_index.tolist() == on_disk
    part = dataset.select(behaviour="play")
    assert part.tasks == TASKS
    assert part.task_index is dataset.task_index


def test_windows_have_what_was_felt_the_task_and_the_progress(folder):
    dataset = Dataset.open(folder)
    batch = Windows(dataset, length=3, batch_size=5, seed=0).batch(0)
    rows = batch.first_row + np.arange(3)[:, None]
    np.testing.assert_array_equal(batch.proprio, dataset.proprio[rows])
    np.testing.assert_array_equal(batch.progress, dataset.fact("coverage")[rows])
    np.testing.assert_array_equal(batch.task, dataset.task_index[batch.first_row])


def test_the_card_tells_the_tasks_and_what_is_felt(folder):
    card = dataset_card(Dataset.open(folder))
    frames = [len(felt(number).frames) for number in range(4)]
    assert card.tasks == {TASKS[0]: sum(frames[1:]), TASKS[1]: 0, TASKS[2]: frames[0]}
    assert "proprioception: shoulder, elbow, hand" in card_text(card)
    assert f"of task: {TASKS[1]}" in card_text(card)


def test_data_without_any_of_it_is_what_it_was(tmp_path):
    """Its digests, its spec on the disk and its columns."""
    write(tmp_path)
    dataset = Dataset.open(tmp_path)
    known = "57c2f845cd8ee821"
    assert (dataset.proprio, dataset.episode(0).proprio) == (None, None)
    assert dataset.tasks == ("pull the T", "push the T")
    assert dataset.index["task_index"].tolist() == [0, 1, 1, 1, 1, 1]
    assert not {"proprio_names", "tasks"} & set(dataset.spec.to_json())
    assert dataset.hash.startswith(known)
    assert Windows(dataset, length=2, batch_size=2, seed=0).batch(0).proprio is None
    np.testing.assert_array_equal(dataset.progress, dataset.fact("coverage"))
    assert dataset.coverage is dataset.progress


@pytest.mark.usefixtures("unchecked_types")
def test_what_does_not_fit_is_refused(tmp_path):
    writer = DatasetWriter(tmp_path, FELT)
    for episode, words in (
        (make_episode(0), r"proprio \(numbers\) 0, but the dataset's spec has 3"),
        (replace(felt(0), proprio=felt(0).proprio[:, :2]), r"proprio \(numbers\) 2"),
        (replace(felt(0), task="throw the T"), "has task 'throw the T', but the dataset's spec"),
    ):
        with pytest.raises(ValueError, match=words):
            writer.add(0, episode)
    with pytest.raises(ValueError, match=r"proprio has shape \(2, 3\), expected 4 rows"):
        replace(felt(0), proprio=felt(0).proprio[:2])
    with pytest.raises(ValueError, match="proprio is not finite in row 1"):
        replace(felt(0), proprio=np.float32([[0], [np.inf], [0], [0]]))
    with pytest.raises(ValueError, match="expected each once"):
        replace(FELT, tasks=("a", "a"))
    with pytest.raises(ValueError, match=r"proprio_names are .* expected a list of at most"):
        DatasetSpec.from_json({**FELT.to_json(), "proprio_names": 3})


def recorded(env_id, **kwargs):
    source = Source(Recipe(env_id=env_id, steps=5, **kwargs))
    return source.spec(), [source.record(number) for number in range(2)]


@pytest.mark.parametrize(("env_id", "size"), [("Real-Dot-v0", 2), ("Real-PushT-v0", 2)])
def test_a_registered_system_logs_what_it_declares_if_asked(env_id, size):
    spec, episodes = recorded(env_id, proprioception=True)
    assert spec.proprio_names == ("x", "y")
    plain, others = recorded(env_id)
    assert plain.proprio_names == ()
    for episode, other in zip(episodes, others, strict=True):
        spec.check(episode)
        np.testing.assert_array_equal(episode.proprio, np.float32(episode.facts["state"][:, :size]))
        assert replace(episode, proprio=None).digest == other.digest
        assert episode.digest != other.digest


def test_observations_of_lerobots_names_are_shown_and_felt():
    spec, (episode, _) = recorded("strangers:Feeler-v0", proprioception=True)
    assert (spec.picture, spec.proprio_names) == ((16, 20, 3), ("agent_pos_0", "agent_pos_1"))
    spec.check(episode)
    env = gym.make("strangers:Feeler-v0", disable_env_checker=True)
    obs, _ = env.reset(seed=episode.seed)
    for t, action in enumerate(episode.action):
        np.testing.assert_array_equal(obs["pixels"], episode.frames[t])
        np.testing.assert_array_equal(np.float32(obs["agent_pos"]), episode.proprio[t])
        told = spec.bounds.from_unit(action.astype(np.float64))
        obs, *_ = env.step(np.clip(told, env.action_space.low, env.action_space.high))


def test_who_feels_nothing_says_so():
    with pytest.raises(ValueError, match=r"Stranger-v0 has no proprioception, .*leave out --prop"):
        recorded("strangers:Stranger-v0", proprioception=True)
    assert "proprioception" not in Recipe().asked()


def test_several_tasks_are_dealt_out_in_turn(tmp_path):
    recipe = Recipe(env_id="strangers:TwoTasks-v0", episodes=4, steps=3, proprioception=True)
    assert len(list(collect_episodes(recipe, tmp_path, workers=1))) == 4
    dataset = Dataset.open(tmp_path)
    assert dataset.tasks == ("Go left.", "Go right.")
    assert dataset.index["task_index"].tolist() == [0, 1, 0, 1]
    assert dataset.progress[:4].tolist() == [0.25, 0.5, 0.5, 0.5]
    origin = origin_of(dataset)
    assert (origin.task, origin.tasks) == ("Go left.", dataset.tasks)
    assert origin.proprio_names == DOT.proprio_names
    assert origin.has_coverage


def test_lerobots_proprioception_and_tasks_are_imported(folder):
    """Of what we wrote: LeRobot's own names, and its indices."""
    source = LeRobotSource(folder, given=Bounds(low=(0.0, 0.0), high=(20.0, 20.0)))
    spec = source.spec()
    assert (spec.proprio_names, spec.tasks) == (NAMES, TASKS)
    for number in range(4):
        episode = source.episode(number)
        spec.check(episode)
        np.testing.assert_array_equal(episode.proprio, felt(number).proprio)
        assert episode.task == felt(number).task


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"motors": list(NAMES)}, NAMES), ([list(NAMES)], NAMES),
        (None, ("state_0", "state_1", "state_2")), (["pose"], ("state_0", "state_1", "state_2")),
    ],
)  # fmt: skip
def test_names_are_found_in_whatever_form(folder, names, expected):
    source = LeRobotSource(folder)
    source.info["features"]["observation.state"]["names"] = names
    assert source.spec().proprio_names == expected


def test_progress_is_logged_once_under_its_older_name_where_it_has_one():
    """So that what is logged of Push-T does not change as `info` says more."""
    number = np.float64(0.5)
    assert list(facts_told({"progress": number, "coverage": number})) == ["coverage"]
    assert list(facts_told({"progress": number})) == ["progress"]
    assert list(facts_told({"progress": number, "coverage": None})) == ["progress"]


@pytest.mark.parametrize("column", ["task", "__index_level_0__"])
def test_tasks_are_found_under_either_name(folder, tmp_path, column):
    (tmp_path / "meta").mkdir()
    table = pq.read_table(folder / "meta/tasks.parquet").rename_columns(["task_index", column])
    pq.write_table(table, tmp_path / "meta/tasks.parquet")
    assert LeRobotSource(tmp_path).tasks == dict(enumerate(TASKS))


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
def test_a_round_trip_through_minari_is_exact(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    ours = Dataset.open(folder)
    made = export_minari(ours, "mine/felt-v0")
    assert set(made.observation_space.spaces) == {"pixels", "agent_pos"}
    assert minari.load_dataset("mine/felt-v0")[0].observations["agent_pos"].dtype == np.float32
    source = MinariSource(made, 10)
    assert (source.camera, source.felt) == (("pixels",), ("agent_pos",))
    assert source.spec().proprio_names == ("agent_pos_0", "agent_pos_1", "agent_pos_2")
    for number in range(4):
        came, expected = source.episode(number), ours.episode(number)
        source.spec().check(came)
        np.testing.assert_array_equal(came.proprio, expected.proprio, strict=True)
        np.testing.assert_array_equal(came.frames, expected.frames)
    with pytest.raises(
        ValueError, match=r"proprioception key among \['agent_pos'\], came 'pixels'"
    ):
        MinariSource(made, 10, proprio="pixels").spec()
