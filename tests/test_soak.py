"""A soak passes what is sound, and catches what leaks or breaks."""

import mmap

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import VectorWrapper
from tiny_world import make_world_model

from wm_gym.programs import soak as program
from wm_gym.programs.soak import MIB, Reading, Scale, Soak, soak, soaking


def dreams(num_envs=8, horizon=10):
    model = make_world_model()
    return gym.make_vec("WM-v0", num_envs=num_envs, world_model=model, horizon=horizon)


def last(envs, steps=800, growth=64 * MIB):
    return list(soaking(envs, steps=steps, growth=growth, seed=0))[-1]


class Leak(VectorWrapper):
    """Keeps a mebibyte of every step; a mapping of its own, for what others freed is used again."""

    def step(self, actions):
        block = mmap.mmap(-1, MIB)
        block.write(bytes([1]) * MIB)
        self.kept = [*getattr(self, "kept", []), block]
        return self.env.step(actions)


class Odd(VectorWrapper):
    """Says something odd in its twentieth step."""

    def __init__(self, env, change):
        super().__init__(env)
        self.change, self.count = change, 0

    def step(self, actions):
        obs, reward, terminated, truncated, info = self.env.step(actions)
        self.count += 1
        if self.count == 20:
            obs, reward, info = self.change(obs, reward, info)
        return obs, reward, terminated, truncated, info


def at_three(numbers):
    numbers = numbers.copy()
    numbers[3] = np.nan
    return numbers


def test_a_dream_stays_flat_for_a_few_thousand_steps():
    reading = last(dreams(num_envs=30, horizon=15), steps=3000)
    assert reading.steps == 3000
    assert reading.memory > 50 * MIB
    assert reading.grown < 64 * MIB


def test_a_leak_is_caught():
    with pytest.raises(RuntimeError, match=r"memory has grown by \d+ MiB .* something is kept"):
        last(Leak(dreams()), steps=1600, growth=32 * MIB)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda o, r, i: (o, at_three(r), i), r"reward is not finite in environment \[3\]"),
        (
            lambda o, r, i: (o, r, i | {"uncertainty": at_three(i["uncertainty"])}),
            r"uncertainty is not finite in environment \[3\]",
        ),
        (lambda o, r, i: (o[:, 1:], r, i), "the observation is uint8 .* expected uint8"),
        (lambda o, r, i: (o.astype(np.float32), r, i), "the observation is float32"),
        (lambda o, r, i: (o, r, {}), "'uncertainty'"),
    ],
)
def test_what_breaks_is_caught(change, words):
    with pytest.raises(RuntimeError, match=words):
        last(Odd(dreams(), change))


def test_too_few_steps_say_nothing_about_memory():
    with pytest.raises(RuntimeError, match="too few"):
        last(dreams(num_envs=2, horizon=50), steps=100)


def test_memory_that_comes_and_goes_is_no_leak_and_memory_that_stays_is():
    never, over = np.array([False]), np.array([True])
    scale = Scale(num_envs=1, tenth=3)
    assert [scale.weigh(100, end) for end in (never, never, over, never)] == [0] * 4
    assert scale.warm
    assert [scale.weigh(memory, never) for memory in (300, 90, 300, 300)] == [0, 0, -10, -10]
    assert scale.weigh(200, never) == 100


def test_warming_up_takes_in_the_step_that_begins_anew():
    never, over = np.array([False]), np.array([True])
    scale = Scale(num_envs=1, tenth=1)
    for memory, end in ((100, never), (100, over), (500, never)):
        assert scale.weigh(memory, end) == 0
    assert scale.weigh(400, never) == -100


def test_the_program_says_how_it_went(capsys):
    soak(Soak(steps=310, num_envs=1, world_model="tiny"))
    printed = capsys.readouterr().out
    assert printed.startswith("nothing broke: 310 steps at ")
    assert "MiB of memory" in printed


def test_an_interrupted_program_says_how_far_it_came(monkeypatch, capsys):
    def interrupted(*_, **__):
        yield Reading(steps=40, memory=100 * MIB, grown=0)
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "soaking", interrupted)
    with pytest.raises(SystemExit, match="130"):
        soak(Soak(num_envs=2, world_model="tiny"))
    assert "stopped; until then, 40 steps" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [{"steps": 0}, {"num_envs": 0}, {"growth": 0.0}])
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ValueError, match="expected"):
        Soak(**settings)
