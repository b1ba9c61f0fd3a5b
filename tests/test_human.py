"""Importing human demonstrations: a small file of the same layout, and the real one if there."""

import os
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import zarr

from wm_gym.data import Dataset, DatasetWriter
from wm_gym.data.human import (
    conversion_error,
    convert,
    human_spec,
    read_demonstrations,
    tool_response,
)
from wm_gym.programs.import_human import import_human

REAL = Path(os.environ.get("PUSHT_HUMAN_ZARR", "../shared/data/pusht_human_176.zarr.zip"))


def record(env, steps, seed, reach=25.0):
    """A 10 Hz human: absolute targets near the tool, as gym-pusht's layout has them."""
    env.reset(seed=seed)
    rng, states, targets = np.random.default_rng(seed), [], []
    physics = env.unwrapped._episodes.world._simulators[0].physics
    for t in range(steps):
        if t % 4 == 0:
            heading = physics.block.position - physics.tool.position
            target = np.array(physics.tool.position) + rng.normal(0, reach, 2)
            target += 0.2 * np.array(heading)
        states.append(physics.state()[:5])
        targets.append(np.clip(target, 20, 490))
        physics.tick(tuple(map(float, targets[-1])))
    return np.array(states), np.array(targets)


@pytest.fixture(scope="module", params=["folder", "zip"])
def small(request, tmp_path_factory):
    env = gym.make("Real-PushT-v0", disable_env_checker=True)
    parts = [record(env, steps, seed) for seed, steps in enumerate((41, 60, 2, 33))]
    path = tmp_path_factory.mktemp("human") / f"human.zarr{'.zip' * (request.param == 'zip')}"
    store = zarr.storage.ZipStore(path, mode="w") if request.param == "zip" else path
    root = zarr.open_group(store, mode="w", zarr_format=2)
    root["data/state"] = np.concatenate([state for state, _ in parts]).astype(np.float32)
    root["data/action"] = np.concatenate([target for _, target in parts]).astype(np.float32)
    root["meta/episode_ends"] = np.cumsum([len(state) for state, _ in parts])
    if request.param == "zip":
        store.close()
    return path


def test_episodes_are_cut_where_the_file_says(small):
    assert [len(d.state) for d in read_demonstrations(small)] == [41, 60, 2, 33]


def test_the_tool_goes_where_the_human_took_it(small):
    episodes = list(convert(read_demonstrations(small)))
    assert [len(episode.frames) for episode in episodes] == [21, 30, 17]  # 5 Hz; one too short
    error = conversion_error(episodes)
    assert error.clipped.mean() < 0.2
    for episode in episodes:
        reached = (np.abs(episode.action) < 1).all(1)
        away = episode.facts["state"][1:, :2] - episode.facts["human_state"][1:, :2]
        assert np.abs(away[reached]).max() < 1e-3
    assert np.median(error.block) < 2
    assert {(e.split, e.behaviour) for e in episodes} == {("human", "human")}


def test_frames_and_labels_are_the_real_systems_under_the_stored_actions(small):
    episode = next(convert(read_demonstrations(small)))
    env = gym.make("Real-PushT-v0")
    start = episode.facts["state"][0]
    np.testing.assert_allclose(start[:5], episode.facts["human_state"][0], atol=1e-9)
    env.reset(seed=0, options={"state": start})
    for t, action in enumerate(episode.action):
        obs, reward, *_, info = env.step(action)
        np.testing.assert_array_equal(obs, episode.frames[t + 1])
        assert np.float32(reward) == episode.reward[t]
        assert info["coverage"] == episode.facts["coverage"][t + 1]


def test_the_tool_response_is_the_physics():
    stay, coast = tool_response()
    env = gym.make("Real-PushT-v0").unwrapped
    env.reset(options={"state": [200.0, 200, 400, 400, 0, 70, -30]})
    *_, info = env.step(np.array([0.5, 0.25]))
    target = np.array([232.0, 216])
    expected = target + stay * (200 - target) + coast * np.array([70, -30])
    np.testing.assert_allclose(info["state"][:2], expected, atol=1e-6)


def test_import_is_repeatable_and_prints_what_is_lost(small, tmp_path, capsys):
    import_human(small, tmp_path)
    text = capsys.readouterr().out
    assert "re-simulated against recorded" in text
    first = Dataset.open(tmp_path).hash
    import_human(small, tmp_path)
    assert Dataset.open(tmp_path).hash == first
    assert (tmp_path / "card.png").stat().st_size > 1000


def test_what_is_no_such_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_demonstrations(tmp_path / "nothing.zarr.zip")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match="not a readable zarr"):
        read_demonstrations(tmp_path / "text.zip")
    (tmp_path / "linked.zarr").mkdir()
    (tmp_path / "linked.zarr/.zgroup").symlink_to(tmp_path / "text.zip")
    with pytest.raises(ValueError, match=r"zgroup is refused: it is a link that leaves"):
        read_demonstrations(tmp_path / "linked.zarr")
    root = zarr.open_group(tmp_path / "bad.zarr", mode="w", zarr_format=2)
    root["data/state"] = np.zeros((10, 4))
    root["meta/episode_ends"] = np.array([5, 10])
    with pytest.raises(ValueError, match=r"shape \(10, 4\), expected \(10, 5\)"):
        read_demonstrations(tmp_path / "bad.zarr")


@pytest.mark.skipif(not REAL.exists(), reason="the published demonstrations are not at hand")
def test_the_published_demonstrations():
    demonstrations = read_demonstrations(REAL)
    assert len(demonstrations) == 176
    assert sum(len(d.state) for d in demonstrations) == 21_688
    episodes = list(convert(demonstrations[:20]))
    error = conversion_error(episodes)
    assert np.median(error.tool) < 0.01
    assert np.median(error.block) < 1.0
    assert np.mean([episode.facts["coverage"].max() for episode in episodes]) > 0.6


def test_episodes_fit_the_spec(small, tmp_path):
    writer = DatasetWriter(tmp_path, human_spec("small"))
    for number, episode in enumerate(convert(read_demonstrations(small))):
        writer.add(number, episode)
    assert writer.finished() == {0, 1, 2}
