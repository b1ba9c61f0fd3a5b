"""Numbers that make no sense are refused by name before a program begins."""

import math
from dataclasses import replace
from pathlib import Path

import action_encodings
import dream
import first_look
import plan
import pytest

from wm_gym.programs.bench import Bench
from wm_gym.programs.bench_dream import Dreams
from wm_gym.programs.bench_gradient import Gradients
from wm_gym.programs.evaluate import Evaluate
from wm_gym.programs.gradients import GradientCard
from wm_gym.programs.import_lerobot import import_lerobot
from wm_gym.programs.import_minari import import_minari
from wm_gym.programs.play import play
from wm_gym.programs.soak import Soak
from wm_gym.programs.train import PRESETS
from wm_gym.training.keypoints.denoiser import Dreaming
from wm_gym.training.keypoints.local_model import Filtering

NOWHERE = Path("nowhere")
TINY = replace(PRESETS["tiny"][1], data=NOWHERE, out=NOWHERE)


def train(**settings):
    return replace(TINY, **settings)


@pytest.mark.parametrize("minutes", [-1.0, -0.001, math.nan, math.inf])
def test_checkpoints_are_saved_after_a_time_that_can_pass(minutes):
    with pytest.raises(ValueError, match=rf"save_minutes is {minutes}, expected at least 0"):
        train(save_minutes=minutes)
    assert train(save_minutes=0.0).save_minutes == 0  # after each update


@pytest.mark.parametrize(
    ("begin", "told"),
    [
        (lambda: train(dreaming=Dreaming(blur=-1.0)), "blur is -1.0, expected at least 0"),
        (lambda: train(dreaming=Dreaming(sigma_mean=math.nan)), "sigma_mean is nan, expected a"),
        (lambda: train(filtering=Filtering(what_if=math.nan)), "what_if is nan, expected at"),
        (lambda: Evaluate(world_model="nowhere", seed=-1), "seed is -1, expected at least 0"),
        (lambda: GradientCard(world_model="nowhere", denoising_steps=0), "denoising_steps is 0"),
        (lambda: Soak(seed=-1), "seed is -1, expected at least 0"),
        (lambda: Bench(seconds=math.inf), "seconds is inf"),
        (lambda: Dreams(num_envs=(1, 0)), "num_envs is 0, expected at least 1"),
        (lambda: Dreams(denoising_steps=(-2,)), "denoising_steps is -2, expected 1 to 100"),
        (lambda: Gradients(window_envs=(-1,)), "window_envs is -1, expected at least 1"),
        (lambda: play("nothing", seed=-3), "seed is -3, expected at least 0"),
        (lambda: play("nothing", horizon=0), "horizon is 0, expected at least 1"),
        (lambda: import_lerobot(NOWHERE, NOWHERE, picture=(0, 96)), r"picture is \(0, 96\)"),
        (
            lambda: import_minari("nowhere", NOWHERE, fps=0),
            "fps is 0, expected a number from 0.001",
        ),
        (lambda: dream.Dream(episodes=0), "episodes is 0, expected at least 1"),
        (lambda: first_look.FirstLook(seed=-1), "seed is -1, expected at least 0"),
        (lambda: plan.Plan(rate=math.nan), "rate is nan, expected at least 0"),
        (
            lambda: action_encodings.ActionEncodings(run=NOWHERE, seeds=0),
            "seeds is 0, expected at least 1",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_number_that_makes_no_sense_is_refused_at_once(begin, told):
    with pytest.raises(ValueError, match=told):
        begin()
