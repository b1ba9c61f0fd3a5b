"""A registered system that was logged otherwise: resized, or with actions that are held."""

import json
from dataclasses import replace

import gymnasium as gym
import pytest
from tiny_world import make_world_model

from wm_gym.data import Dataset
from wm_gym.data.collect import Recipe, collect_episodes
from wm_gym.data.origin import origin_of
from wm_gym.models.world_model import WorldModel
from wm_gym.systems import DOT, PUSH_T, Bounds, Origin, Task

AS_REGISTERED = Origin(fps=PUSH_T.fps, horizon=7)


def log(folder, **settings):
    recipe = Recipe(env_id="Real-Dot-v0", episodes=2, steps=4, **settings)
    assert len(list(collect_episodes(recipe, folder, workers=1))) == 2
    return Dataset.open(folder)


def test_a_log_of_a_system_as_it_is_registered_needs_no_origin(tmp_path):
    assert origin_of(log(tmp_path)) is None


@pytest.mark.parametrize("settings", [{"repeat": 2}, {"picture": (24, 32)}])
def test_a_log_at_another_rate_or_size_has_an_origin(tmp_path, settings):
    dataset = log(tmp_path, **settings)
    origin = origin_of(dataset)
    assert (origin.fps, origin.horizon) == (DOT.fps // settings.get("repeat", 1), 4)
    assert origin.has_coverage


def test_the_record_holds_for_what_was_logged_as_it_was_registered():
    model = make_world_model()
    for bounds in (None, Bounds(low=(-1.0, -1.0), high=(1.0, 1.0))):
        model.card = replace(model.card, origin=replace(AS_REGISTERED, bounds=bounds))
        assert model.system is PUSH_T


@pytest.mark.parametrize(
    ("sizes", "change"),
    [
        ("PushT", {"fps": 2}),
        ("PushT", {"bounds": Bounds(low=(0.0, 0.0), high=(1.0, 2.0))}),
        ("Dot", {}),  # another picture and another action
    ],
)
def test_a_dream_of_what_was_logged_otherwise_keeps_to_its_log(tmp_path, sizes, change):
    """The record has another rate, size or horizon: such models did not load as environments."""
    model, origin = make_world_model(sizes), replace(AS_REGISTERED, **change)
    model.card = replace(model.card, system="PushT", origin=origin)
    model.save_pretrained(tmp_path / "model")
    assert not WorldModel.from_pretrained(tmp_path / "model").system.simulators
    env = gym.make("WM-PushT-v0", world_model=tmp_path / "model").unwrapped
    assert (env.metadata["render_fps"], env._max_episode_steps) == (origin.fps, 7)
    obs, info = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    assert "coverage" in info
    assert env.system.success_threshold == PUSH_T.success_threshold


def test_an_origin_of_one_task_is_written_as_it_always_was():
    origin = Origin(fps=5, horizon=7, task="Go.", bounds=Bounds(low=(0.0,), high=(1.0,)))
    assert json.dumps(origin.to_json()) == (
        '{"fps": 5, "horizon": 7, "task": "Go.", "has_reward": true, "has_coverage": true, '
        '"bounds": {"low": [0.0], "high": [1.0]}}'
    )
    assert Origin.from_json(json.loads(json.dumps(origin.to_json()))) == origin


def test_tasks_and_proprioception_survive_the_disk_and_make_the_system(tmp_path):
    origin = replace(
        AS_REGISTERED, task="Go.", tasks=("Go.", PUSH_T.tasks[0].description),
        proprio_names=("x", "y", "z"),
    )  # fmt: skip
    model = make_world_model()
    model.card = replace(model.card, origin=origin)
    model.save_pretrained(tmp_path / "model")
    loaded = WorldModel.from_pretrained(tmp_path / "model")
    assert loaded.card.origin == origin
    assert loaded.system.tasks == (Task("Go.", "Go."), PUSH_T.tasks[0])
    assert (loaded.system.proprio_names, loaded.system.proprio_size) == (("x", "y", "z"), 3)
    assert loaded.system.progress is None


@pytest.mark.parametrize(
    ("change", "registered"),
    [
        ({}, True),
        ({"task": "Do what you like."}, True),
        ({"proprio_names": ("x", "y")}, True),
        ({"proprio_names": ("x", "y", "z")}, False),
        ({"task": "Go.", "tasks": ("Go.", "Stay.")}, False),
    ],
)
def test_other_tasks_or_another_proprioception_are_not_as_registered(change, registered):
    model = make_world_model()
    model.card = replace(model.card, origin=replace(AS_REGISTERED, **change))
    assert (model.system is PUSH_T) == registered


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tasks": ["Go."]}, "expected several, each once"),
        ({"tasks": ["Go.", "Go."]}, "expected several, each once"),
        ({"tasks": ["Stay.", "Go."]}, "origin's task is 'Go.', expected the first of its tasks"),
        ({"tasks": "Go."}, "tasks are 'Go.', expected a list"),
        ({"proprio_names": [1]}, r"proprio_names are \[1\], expected strings"),
        ({"proprio_names": ["x"] * 10_001}, "expected a list of at most 10000 strings"),
        ({"proprio_names": ["x" * 2000]}, "expected less of it"),
    ],
)
def test_tasks_and_names_from_anybody_are_checked(change, words):
    content = Origin(fps=5, horizon=7, task="Go.").to_json()
    with pytest.raises(ValueError, match=words):
        Origin.from_json({**content, **change})
