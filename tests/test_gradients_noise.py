"""What the gradient card says of systems with noise of their own, and how it goes on."""

import json
from dataclasses import replace

import memory_world
import numpy as np
import pytest
import torch
from noisy_line import NOISY_LINE, NoisyLine

from wm_gym.data import Dataset
from wm_gym.data.collect import Recipe, collect_episodes
from wm_gym.evaluation.gradients import HORIZONS, STEPS, Gradients, choose_cases
from wm_gym.evaluation.gradients_card import DIFFUSION, DREAM, READ, REAL, Measured, floors
from wm_gym.evaluation.gradients_kept import Kept
from wm_gym.evaluation.gradients_real import (
    RealSystem,
    Trial,
    averaged,
    merged,
    real_gradients,
    trials,
)
from wm_gym.evaluation.probes import posed_of, quantities
from wm_gym.models.starts import Start, Starts
from wm_gym.models.world_model import Card, WorldModel
from wm_gym.programs.gradients import GradientCard, gradients
from wm_gym.programs.gradients_real import KEPT
from wm_gym.systems import PUSH_CUBE

ENV, DELTAS = "Real-NoisyLine-v0", (0.2, 0.4)
POSED = posed_of(NOISY_LINE)


def trial(seed, state=(0.0, 0.0, 3.1)):
    action = np.full((STEPS, 2), 0.1, np.float32)
    return Trial(state=np.array(state), action=action, seed=seed)


def gains(seed):
    """Of each step, as the real system draws them."""
    simulator = NoisyLine()
    simulator.place(np.zeros(3))
    simulator.seed_noise(np.random.default_rng(seed))
    found = [0.0]
    for _ in range(STEPS):
        simulator.advance(np.array([1.0, 0.0]))
        found.append(simulator.state()[0])
    return np.diff(found)


def test_slopes_are_those_of_one_noise_that_both_ways_have_in_common():
    """Were it not in common, gains that differ by a half would be told as slopes of 0.05 / δ."""
    for seed in ((0, 0, 7), (0, 1, 7)):
        ((found, _),) = real_gradients(NOISY_LINE, ENV, [trial(seed)], DELTAS)
        drawn = gains(seed)
        for slopes in found:
            expected = [[drawn[0], 0], [0, drawn[0]], [0, 2.0]]  # about π is no jump
            np.testing.assert_allclose(slopes.pose[0], expected, atol=1e-6)
            for i, h in enumerate(HORIZONS):
                left = np.clip(h - np.arange(STEPS), 0, None)
                expected = (drawn * left)[:, None] * [1, 3]
                np.testing.assert_allclose(slopes.total[0, i], expected, atol=1e-5)
    assert abs(gains((0, 0, 7))[0] - gains((0, 1, 7))[0]) > 0.05


def test_several_noises_are_averaged_and_two_estimates_merged():
    seeds = [(0, 0), (0, 1), (0, 2)]
    tried = [trial((*seed, row)) for row in (5, 6) for seed in seeds]
    found = list(real_gradients(NOISY_LINE, ENV, tried, (0.2,)))
    (mean,), touched = averaged(found, 3)
    for i, row in enumerate((5, 6)):
        first = np.mean([gains((*seed, row))[0] for seed in seeds])
        assert mean.pose[i, 0, 0] == pytest.approx(first, abs=1e-6)
    assert touched.tolist() == [True, True]
    (both,) = merged(
        [mean], [Gradients(pose=mean.pose[1:] + 2, total=mean.total[1:])], np.array([1])
    )
    np.testing.assert_array_equal(both.pose[0], mean.pose[0])
    np.testing.assert_allclose(both.pose[1], mean.pose[1] + 1)


def test_processes_share_trials_and_keep_their_order():
    tried = [trial((0, 0, row)) for row in range(3)]
    one, two = (
        list(real_gradients(NOISY_LINE, ENV, tried, (0.2,), workers=many)) for many in (1, 2)
    )
    for (alone, touched), (shared, also) in zip(one, two, strict=True):
        np.testing.assert_array_equal(alone[0].total, shared[0].total)
        assert touched == also


def test_who_is_interrupted_goes_on_where_it_was(tmp_path):
    tried, file = [trial((0, 0, row)) for row in range(4)], tmp_path / "it" / "real.npz"
    every = list(real_gradients(NOISY_LINE, ENV, tried, DELTAS))

    def known(tried=tried, deltas=DELTAS, name="real"):
        return Kept(file, NOISY_LINE, ENV, deltas).known(name, tried)

    def stopped(many):
        kept = Kept(file, NOISY_LINE, ENV, DELTAS)
        begun = len(kept.known("real", tried))
        run = kept.added("real", iter(every[begun:]))
        for _ in range(many):
            next(run)
        run.close()

    assert known() == []
    stopped(1)
    stopped(1)
    found = known()
    assert len(found) == 2
    for (slopes, touched), (expected, also) in zip(found, every, strict=False):
        assert touched == also
        for one, other in zip(slopes, expected, strict=True):
            np.testing.assert_array_equal(one.total, other.total)
            np.testing.assert_array_equal(one.pose, other.pose)
    assert known(deltas=(0.1,)) == []
    assert known(tried=[replace(each, seed=(1,)) for each in tried]) == []
    assert known(name="another") == []
    file.write_bytes(file.read_bytes()[:100])
    assert known() == []


def made(total):
    return Gradients(pose=np.ones((len(total), 3, 2)), total=total)


def test_the_floor_is_how_two_estimates_agree():
    rng = np.random.default_rng(0)
    true, off = (rng.normal(size=(60, len(HORIZONS), STEPS, 2)) for _ in range(2))
    contact = np.arange(60) < 30
    half = 0.5 * np.where(contact, 1, 0)[:, None, None, None]
    once, again = made(true + half * off), made(true - half * off)
    both = {0.2: (once, again)}
    found = floors(
        Measured(
            contact=contact, quantities=quantities(POSED), surrogate={0: once}, diffusion=once,
            differences={name: {0.2: once} for name in (REAL, DREAM, READ)},
            repeated=dict.fromkeys((REAL, DREAM, READ), both), repeated_contact=contact,
        ),
        seed=0,
    )  # fmt: skip
    lines = {(f.system, f.horizon or f.quantity, f.contact): f for f in found}
    assert {what for _, what, _ in lines} == {"place", "heading", *HORIZONS}
    assert lines[REAL, 16, False].cosine.median.value == pytest.approx(1)
    agree = lines[REAL, 16, True].every.median.value
    assert agree == pytest.approx((1 - 0.25) / (1 + 0.25), abs=0.05)
    assert lines[REAL, "place", True].cosine.median.value == pytest.approx(1)
    assert DIFFUSION not in {system for system, *_ in lines}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "play"
    recipe = Recipe(env_id=f"noisy_line:{ENV}", episodes=6, steps=40, proprioception=True)
    assert len(list(collect_episodes(recipe, folder, workers=1))) == 6
    return Dataset.open(folder)


def test_cases_show_as_many_frames_as_are_asked_for_and_what_was_felt(dataset):
    cases = choose_cases(dataset, count=6, reach=0.4, seed=0, shown=20, felt=True)
    start = cases.at(slice(0, 2)).start
    assert start["frames"].shape == (2, 20, 48, 48, 3)
    assert start["actions"].shape == (2, 19, 2)
    np.testing.assert_array_equal(start["agent_pos"][1], dataset.proprio[cases.rows[:, 1]])
    assert "agent_pos" not in replace(cases, felt=False).start
    touched = dataset.fact("contact")[cases.rows[-1] + 1]
    assert touched.sum() == 3
    assert len(trials(cases, cases.state, [(0, 0), (0, 1)])) == 12


def remembering_model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        both = memory_world.fresh(
            (48, 48, 3), action_size=2, prefill=18, proprio_size=2, ends=False
        )  # fmt: skip
    rng = np.random.default_rng(0)
    starts = Starts.pack(
        [
            Start(
                frames=rng.integers(0, 256, (k, 48, 48, 3), dtype=np.uint8),
                action=np.zeros((k - 1, 2), np.float32), felt=np.zeros((k, 2), np.float32),
            )
            for k in (1, 18)
        ]
    )  # fmt: skip
    model = WorldModel(*both, card=Card(system="NoisyLine"), starts=starts)
    return model.eval().requires_grad_(False)


def test_the_card_of_a_dream_that_remembers_of_a_noisy_system(dataset, tmp_path, capsys):
    """No reader of its pictures, three quantities' worth of pose in two, noise, resumption."""
    out = tmp_path / "out"
    remembering_model().save_pretrained(tmp_path / "model")
    config = GradientCard(
        world_model=str(tmp_path / "model"), data=(f"play={dataset.folder}",),
        fitted=dataset.folder, out=out, windows=10,
    )  # fmt: skip
    gradients(config)
    printed = capsys.readouterr().out
    for words in ("place: surrogate to real", "heading: surrogate to dream, read linearly",
                  "return 16: real to itself"):  # fmt: skip
        assert words in printed
    assert "aim, in contact" not in printed
    assert "aims are of" not in printed
    figures = json.loads((out / "gradients.json").read_text(), parse_constant=pytest.fail)
    settings = figures["settings"]
    assert (settings["states"], settings["deltas"], settings["noises"]) == (4, [0.2], 2)
    assert {line["quantity"] for line in figures["comparisons"]} == {"place", "heading", None}
    assert figures["aims"] == []
    of_noise = {
        line["horizon"]: line["every"]["median"]["value"]
        for line in figures["floors"]
        if line["system"] == REAL and line["contact"]
    }
    assert 0.5 < of_noise[16] < 0.9999  # gains differ, but have a sign
    before = (out / KEPT).stat().st_mtime_ns
    gradients(config)
    printed = capsys.readouterr().out
    assert "real system: 8 of 8 are in" in printed
    assert "real system, other noise: 8 of 8 are in" in printed
    again = json.loads((out / "gradients.json").read_text())
    assert again["comparisons"] == figures["comparisons"]
    assert (out / KEPT).stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="noises is -1"):
        replace(config, noises=-1)


@pytest.mark.mujoco
def test_walking_faster_carries_a_go2_ahead_and_nearer_to_the_cube():
    """In the end an action carries it by 0.2 s · 0.8 m/s; within its step, by a part of that."""
    real = RealSystem(PUSH_CUBE, "Real-PushCube-v0", (0.2,))
    assert real.noisy
    real.simulator.start(np.random.default_rng(3))
    action = np.tile(np.array([0.5, 0, 0], np.float32), (STEPS, 1))
    for one in action[:6]:
        real.simulator.advance(one)
    state = real.simulator.state()
    ahead = np.array([np.cos(state[2]), np.sin(state[2])])
    state[3:5] = state[:2] + 1.7 * ahead
    (found,), touched = real.gradients(Trial(state=state, action=action, seed=(0,)))
    assert not touched
    cube, robot, turned = found.pose[0, :2], found.pose[0, 2:4], found.pose[0, 4]
    assert 0.06 < ahead @ robot[:, 0] < 0.17
    assert -0.17 < cube[0, 0] < -0.06  # it comes nearer
    assert 0.1 < turned[2] < 0.6  # 0.24 in the end, at large distances
    assert np.abs(turned[2]) > 2 * np.abs(turned[0])
    apart = 1.7 - 0.08 * np.arange(1, 9)
    nearer = 0.2 / 1.2 * (np.exp(-apart) * 0.16).sum()
    assert 0.6 * nearer < found.total[0, HORIZONS.index(8), 0, 0] < 1.6 * nearer
