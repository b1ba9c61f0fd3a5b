"""Watching a policy, with the smallest of models."""

from pathlib import Path

import gymnasium as gym
import pygame
import pytest
import watch as watch_program
from forked import run_python
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
    return run_python(WATCH, *arguments)


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


def in_a_window(policy, monkeypatch, **settings):
    """As where there is a screen; what was shown, and at which rate."""
    rates = []

    class Clock:
        def tick(self, fps):
            rates.append(fps)

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(watch_program, "_check_display", lambda: None)
    monkeypatch.setattr(pygame.time, "Clock", Clock)
    file, world = policy
    config = watch_program.Watch(
        policy=str(file), world_model=str(world), episodes=2, steps=3, **settings
    )
    return watch_program.main, config, rates


def test_a_window_shows_it_as_fast_as_it_was_asked_to(policy, monkeypatch):
    main, config, rates = in_a_window(policy, monkeypatch, speed=4.0)
    main(config)
    assert rates == [20.0] * 6


def test_a_window_that_is_closed_ends_it(policy, monkeypatch):
    main, config, rates = in_a_window(policy, monkeypatch)
    closed = [[], [pygame.event.Event(pygame.QUIT)]]
    monkeypatch.setattr(pygame.event, "get", lambda kind: closed.pop(0))
    with pytest.raises(SystemExit, match="closed"):
        main(config)
    assert rates == [15.0] * 2


def test_a_policy_that_is_not_there_is_named(policy):
    told = watch("--policy", "nobody")
    assert told.returncode != 0
    assert "there is no agent nobody; packaged ones are" in told.stderr
