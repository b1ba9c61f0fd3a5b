"""Worlds that nobody registered: logged, learned, dreamt and differentiated, from end to end."""

import json
import re
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from forked import run_python
from gymnasium.utils.env_checker import check_env
from tiny_world import make_world_model

import wm_gym
from wm_gym.conformance import check_vector_env
from wm_gym.data import Dataset, DatasetSpec
from wm_gym.data.collect import Recipe, Source, collect_episodes
from wm_gym.data.origin import origin_of
from wm_gym.data.pixels import make_pixel_env, suitable_picture
from wm_gym.models.keypoints.heads import Heads
from wm_gym.models.world_model import Card, WorldModel
from wm_gym.programs.train import PRESETS as TRAIN
from wm_gym.programs.train import train
from wm_gym.systems import Bounds, Origin
from wm_gym.systems.cells import cell_of
from wm_gym.training.checkpoint import load_checkpoint
from wm_gym.training.keypoints import stages
from wm_gym.training.keypoints.settings import KeypointTraining as Train
from wm_gym.training.keypoints.settings import check_data, context_of, patch_of
from wm_gym.training.rewards import silenced

ROOT = Path(__file__).parent.parent
ORIGIN = Origin(
    fps=12,
    horizon=9,
    task="wander",
    has_coverage=False,
    bounds=Bounds(low=(0.0, 0.0), high=(1.0, 3.0)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of a system that nobody registered, with the sizes of Push-T."""
    model = make_world_model()
    model.card = Card(system="Nobody's", origin=ORIGIN)
    folder = tmp_path_factory.mktemp("own") / "world-model"
    model.save_pretrained(folder)
    return folder


def dream(folder, **kwargs):
    return gym.make("wm_gym:WM-v0", world_model=folder, **kwargs)


def test_a_dream_of_an_unregistered_system_is_an_environment(folder, unchecked_types):
    env = dream(folder, deterministic=True)
    assert env.unwrapped._max_episode_steps == 9
    assert env.metadata["render_fps"] == 12
    assert env.unwrapped.task_description == "wander"
    check_env(env.unwrapped, skip_render_check=True)
    model = WorldModel.from_pretrained(folder)  # once, for a hundred environments
    how = {"world_model": model, "horizon": 4, "deterministic": True}
    check_vector_env(
        lambda num_envs, mode: gym.make_vec("WM-v0", num_envs=num_envs, autoreset_mode=mode, **how),
        make_single=lambda: gym.make("WM-v0", **how),
    )


def test_of_coverage_that_nobody_logged_nothing_is_said(folder):
    env = dream(folder).unwrapped
    _, info = env.reset(seed=0)
    assert set(info) == {"task", "uncertainty"}
    state = env.get_state()
    one = env.step(np.zeros(2, np.float32))
    env.set_state(state)
    other = env.step(np.zeros(2, np.float32))
    np.testing.assert_array_equal(one[0], other[0])
    assert not one[2]


def test_its_gradient_is_there(folder):
    env = dream(folder, obs_type="latent").unwrapped
    env.reset(seed=0)
    env.begin_window()
    action = torch.zeros(2, requires_grad=True)
    env.step_with_grad(action).reward.backward()
    assert action.grad.abs().min() > 0


def test_the_example_says_what_to_install_for_a_world_that_is_not_there(tmp_path):
    (tmp_path / "Box2D.py").write_text("raise ImportError('hidden by a test')")
    done = run_python(
        "-W", "ignore", "examples/own_world.py", "car-racing", "--out", tmp_path,
        paths=(tmp_path, ROOT),
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("CarRacing-v3 cannot be made: Box2D is not installed")
    assert "gymnasium[box2d]" in done.stderr


def test_a_registered_record_goes_before_what_a_log_told_where_it_is_of_the_same():
    model, record = make_world_model(), wm_gym.system_named("PushT")
    model.card = Card(system="PushT", origin=replace(ORIGIN, fps=record.fps, bounds=None))
    assert model.system is record


def test_an_unknown_system_without_an_origin_is_still_refused(folder, tmp_path):
    model = make_world_model()
    model.card = Card(system="Nobody's")
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match='no system is named "Nobody\'s"'):
        dream(tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fps": 0}, "origin's fps is 0"),
        ({"horizon": True}, "origin's horizon is True"),
        ({"task": "x" * 2000}, "origin's task is 'xxx"),
        ({"has_reward": "yes"}, "has_reward is 'yes'"),
        ({"code": "x"}, "origin is .* expected a table"),
        ({"bounds": {"low": [0, 0, 0], "high": [1, 1, 1]}}, "bounds are of 3 numbers"),
        ({"bounds": {"low": [1, 1], "high": [0, 2]}}, "each low below its high"),
        ({"bounds": {"low": ["a"], "high": [2]}}, "expected numbers low and high"),
        ({"bounds": {"low": [0, 0], "high": [1, 1e999]}}, "not a finite number"),
    ],
)
def test_an_origin_from_anybody_is_checked(folder, tmp_path, change, words):
    broken = tmp_path / "world-model"
    broken.mkdir()
    for path in folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    config = json.loads((broken / "config.json").read_text())
    config["origin"] |= change
    (broken / "config.json").write_text(json.dumps(config).replace("Infinity", "1e999"))
    with pytest.raises(ValueError, match=words):
        WorldModel.from_pretrained(broken)


def test_a_dream_keeps_a_rate_that_is_not_whole(tmp_path):
    model = make_world_model()
    model.card = Card(system="Nobody's", origin=replace(ORIGIN, fps=12.5))
    model.save_pretrained(tmp_path)
    assert dream(tmp_path).metadata["render_fps"] == 12.5
    model.card = Card(system="Nobody's", origin=replace(ORIGIN, fps=12.0))
    model.save_pretrained(tmp_path / "whole")
    assert '"fps": 12,' in (tmp_path / "whole/config.json").read_text()


def test_the_packaged_model_needs_no_origin():
    assert WorldModel.from_pretrained("push-t").card.origin is None


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """Of unequal lengths, some terminal: an environment of nobody's making."""
    folder = tmp_path_factory.mktemp("logged")
    recipe = Recipe(env_id="strangers:Stranger-v0", episodes=8, steps=30, repeat=2)
    list(collect_episodes(recipe, folder, workers=1))
    return Dataset.open(folder)


def test_an_action_is_held_and_its_rewards_summed(logged):
    """Replayed in the bare environment, at the bounds that are remembered."""
    episode = logged.episode(1)
    env = gym.make("Stranger-v0", render_mode="rgb_array")
    env.reset(seed=episode.seed)
    for t, unit in enumerate(episode.action):
        np.testing.assert_array_equal(env.render(), episode.frames[t])
        total, terminated = 0.0, False
        for _ in range(2):
            if not terminated:
                action = logged.spec.bounds.from_unit(unit.astype(np.float64))
                _, reward, terminated, _, _ = env.step(action)
                total += reward
        assert total == pytest.approx(episode.reward[t], abs=1e-5)
    assert terminated == episode.terminated
    assert logged.spec.fps == 6


def test_episodes_of_unequal_length_end_as_they_ended(logged):
    lengths = logged.index["length"]
    assert len(set(lengths.tolist())) > 1
    ends = [(e.terminated, e.truncated) for e in map(logged.episode, range(len(logged)))]
    assert (True, False) in ends
    origin = origin_of(logged)
    assert (origin.horizon, origin.has_coverage) == (lengths.max() - 1, False)
    assert origin.bounds == logged.spec.bounds


def test_what_is_remembered_survives_the_disk(logged):
    spec = logged.spec
    assert DatasetSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    old = {k: v for k, v in spec.to_json().items() if k not in ("bounds", "has_reward")}
    assert DatasetSpec.from_json(old).bounds is None


def test_older_recipes_say_what_they_said():
    """Settings at their defaults are left out, so data that was logged before them is the same."""
    asked = Recipe(env_id="Real-Dot-v0").asked()
    assert not {"picture", "repeat"} & set(asked)
    assert Recipe(repeat=2, picture=(48, 48)).asked()["repeat"] == 2


def test_behaviours_of_ones_own_are_found_by_name(tmp_path, monkeypatch):
    (tmp_path / "mine_to_drive.py").write_text(
        "import numpy as np\n\n\ndef still(rng):\n    yield None\n    while True:\n"
        "        yield np.array([0.5, -1.0])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    recipe = Recipe(env_id="strangers:Stranger-v0", steps=4, behaviours=("mine_to_drive:still",))
    source = Source(recipe)
    episode = source.record(0)
    source.close()
    assert episode.behaviour == "mine_to_drive:still"
    np.testing.assert_allclose(episode.action, np.tile([0.5, -1.0], (4, 1)))


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        ((96, 96), (96, 96)), ((84, 84), (84, 84)), ((64, 64), (64, 64)), ((48, 64), (48, 64)),
        ((480, 480), (96, 96)), ((400, 600), (66, 96)), ((210, 160), (96, 72)),
        ((97, 61), (96, 60)),
    ],
)  # fmt: skip
def test_pictures_become_a_size_that_cells_fit_on(came, expected):
    height, width = suitable_picture(*came)
    assert (height, width) == expected
    cell = cell_of(height, width)
    assert height % cell == width % cell == 0
    assert 10 <= max(height, width) / cell <= 32


def test_pictures_are_resized_as_asked():
    env = make_pixel_env("strangers:Stranger-v0", steps=3, picture=(8, 10))
    bare = gym.make("Stranger-v0", render_mode="rgb_array")
    obs, _ = env.reset(seed=0)
    bare.reset(seed=0)
    mean = bare.render().reshape(8, 2, 10, 2, 3).mean((1, 3))
    np.testing.assert_allclose(obs, mean, atol=1)
    assert env.observation_space.contains(obs)


def test_sizes_follow_the_pictures(logged, tmp_path):
    config = Train(data=logged.folder, out=tmp_path, rollout=3, sequence=3)
    assert (patch_of(config, logged), context_of(config, logged)) == (1, 4)
    check_data(config, logged)
    with pytest.raises(ValueError, match="by a smaller --rollout and --sequence"):
        check_data(Train(data=logged.folder, out=tmp_path, rollout=80), logged)
    with pytest.raises(ValueError, match="patch is 3, expected a divisor of the frame's 16×20"):
        check_data(Train(data=logged.folder, out=tmp_path, patch=3, rollout=3, sequence=3), logged)


@pytest.fixture
def fresh_accelerator():
    """Accelerate keeps its first precision for the whole process, other tests' included."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_accelerator")
@pytest.mark.parametrize(("before", "after", "kept"), [(0.5, 0.4, True), (0.5, 0.6, False)])
def test_what_refining_would_spoil_stays_as_it_was(
    logged, tmp_path, monkeypatch, capsys, before, after, kept
):
    """Of two global models the one that goes less astray is the world model's."""
    off = iter((before, after))
    monkeypatch.setattr(stages, "astray", lambda *_: next(off))
    train(replace(TRAIN["tiny"][1], data=logged.folder, out=tmp_path, patch=4))
    printed = capsys.readouterr().out
    assert ("not refined, then" in printed) == (not kept)
    for part in ("heads", "local model"):
        assert re.search(rf"rewards \(.*said by the {part}: off by .* RMSE .* mean has", printed)
    model = WorldModel.from_pretrained(tmp_path / "world-model")
    assert model.card.facts["refined"] is kept
    part = "refined" if kept else "global_model"
    average = load_checkpoint(tmp_path / part / "checkpoint.pt")["average"]
    assert torch.equal(model.global_model.denoiser.out.weight, average["out.weight"])


def test_a_silenced_head_says_nothing_but_0():
    heads = Heads(latent_size=4, action_size=2, width=16, blocks=1)
    silenced(heads.reward)
    latent = torch.randn(5, 4, requires_grad=True)
    said = heads.judge(latent, torch.randn(5, 2), torch.randn(5, 4))
    assert not said.reward.any()
    said.reward.sum().backward()
    assert not latent.grad.any()
    assert said.error.min() > 0


def test_the_whole_road(tmp_path):
    """Pendulum-v1, by the program: logged, trained, judged, dreamt, differentiated."""
    done = run_python("-W", "ignore", "examples/own_world.py", "tiny", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "step_with_grad" in done.stdout
    assert (tmp_path / "real_above_dream.mp4").stat().st_size > 1000
    assert (tmp_path / "fidelity/filmstrip.png").stat().st_size > 1000
    model = WorldModel.from_pretrained(tmp_path / "run/world-model")
    assert (model.spec.frame_shape, model.spec.action_size) == ((96, 96, 3), 1)
    assert model.card.origin == Origin(
        fps=30, horizon=24, task="Pendulum-v1", has_coverage=False,
        bounds=Bounds(low=(-2.0,), high=(2.0,)),
    )  # fmt: skip
    assert not model.spec.can_end


def test_the_whole_road_to_an_end(tmp_path):
    """MountainCarContinuous-v0, whose episodes terminate; tiny, so its dreams end anywhere."""
    done = run_python(
        "-W", "ignore", "examples/own_world.py", "tiny",
        "--recipe.env-id", "MountainCarContinuous-v0", "--recipe.repeat", 4,
        "--recipe.picture", 64, 96, "--recipe.behaviours", "own_world_driver:rock",
        "--recipe.steps", 60, "--filmed", 60, "--out", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Dataset.open(tmp_path / "test").episode(0).terminated
    assert "that lead to an end" in done.stdout
    assert "the dream ended" in done.stdout
    model = WorldModel.from_pretrained(tmp_path / "run/world-model")
    assert model.spec.can_end
    told = json.loads((tmp_path / "fidelity/fidelity.json").read_text())["ends"]
    assert told["test"]["ended"] > 0
