"""Watching a policy, with the smallest of models."""

import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from tiny_world import make_world_model

from fog_agent import PRESETS, FoG

WATCH = Path(__file__).parent.parent / "examples" / "watch.py"


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """Of a tiny world, and that world."""
    folder = tmp_path_factory.mktemp("watch")
    model = make_world_model()
    model.save_pretrained(folder / "world")
    env = gym.make_vec(
        "WM-v0", num_envs=4, world_model=model, obs_type="latent", autoreset_mode="SameStep"
    ).unwrapped
    agent = FoG(env, PRESETS["tiny"][1])
    return agent.learn(16).save(folder / "policy", policy_only=True), folder / "world"


def watch(*arguments):
    program = [sys.executable, str(WATCH), *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("env_id", ["Real-PushT-v0", "WM-PushT-v0"])
def test_it_films_every_step_and_says_how_far_it_got(policy, env_id, tmp_path):
    from moviepy import VideoFileClip

    file, world = policy
    out = tmp_path / "watch.mp4"
    told = watch(
        "--policy", file, "--world-model", world, "--env-id", env_id, "--episodes", 2,
        "--steps", 6, "--out", out,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert [line.split(":")[0] for line in told.stdout.splitlines()][:2] == ["seed 0", "seed 1"]
    with VideoFileClip(str(out)) as clip:
        assert round(clip.duration * clip.fps) == 12


@pytest.mark.parametrize("driver", ["dummy", "offscreen", "none"])
def test_where_nobody_can_see_a_window_a_video_is_proposed(policy, driver, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", driver)
    told = watch("--policy", policy[0], "--world-model", policy[1])
    assert told.returncode != 0
    assert told.stderr.splitlines()[-1].startswith("there is no window to be had (")
    assert told.stderr.rstrip().endswith("give --out watch.mp4")


def test_a_policy_that_is_not_there_is_named(policy):
    told = watch("--policy", "nobody")
    assert told.returncode != 0
    assert "there is no agent nobody; packaged ones are" in told.stderr
