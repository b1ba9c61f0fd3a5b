"""Dreams with memory are judged rightly: by dreamers that remember all, forget, or stand still."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from carousel import CAROUSEL, NOISE, TURN, drawn, red
from tiny_world import make_world_model
from torch import nn

from wm_gym.data import Dataset, DatasetWriter
from wm_gym.data.collect import Recipe, Source, collect_episodes
from wm_gym.evaluation.choices import choices, dreamt_returns, true_returns
from wm_gym.evaluation.learned_probe import LearnedProbeConfig, ProbeTraining, load_probe
from wm_gym.evaluation.melting import Bank, Melting, bank_of, blurred, melting
from wm_gym.evaluation.noisy_floor import (
    SHARPNESS,
    SPREAD,
    floor_of,
    floor_plan,
    sampled,
    shuffle_ratios,
    shuffled,
)
from wm_gym.evaluation.pictures import edge_energy, ms_ssim, ssim
from wm_gym.evaluation.probes import lesson_of, probe_of, units_of
from wm_gym.evaluation.returns import Ended, ended_takes, returns
from wm_gym.evaluation.rollouts import Dreamer, Rollouts, dream_rollouts
from wm_gym.evaluation.statistics import ratio, told_spread
from wm_gym.evaluation.takes import Takes
from wm_gym.models.colours import to_unit
from wm_gym.models.protocol import ModelSpec, Outcome, Seen, Transition
from wm_gym.models.world_model import WorldModel
from wm_gym.programs.evaluate import Evaluate, evaluate
from wm_gym.programs.evaluate_scenarios import found_probe
from wm_gym.programs.report import Report, report
from wm_gym.programs.report_memory import as_markdown, as_text, sheets
from wm_gym.systems.push_cube import probe as cube_probe
from wm_gym.systems.scenarios import Scenario, scenarios_of

ENV = "carousel:Real-Carousel-v0"


def log(folder, episodes, **settings):
    recipe = Recipe(env_id=ENV, episodes=episodes, seed=3, **settings)
    source = Source(recipe)
    writer = DatasetWriter(folder, source.spec())
    for case in range(episodes // source.takes):
        for number, episode in source.recorded(case):
            writer.add(number, episode)
    writer.finalize()
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    many = {"away": 16, "choices": 36, "floor": 24}
    for name, episodes in many.items():
        log(folder / f"carousel-{name}", episodes, scenario=f"carousel-{name}")
    log(folder / "carousel-play", 40, steps=20)
    log(folder / "carousel-test", 8, steps=20)
    return folder


@pytest.fixture(scope="module")
def probe(data):
    training = ProbeTraining(
        lesson_of(CAROUSEL), Dataset.open(data / "carousel-play"),
        LearnedProbeConfig(updates=160, batch_size=32),
    )  # fmt: skip
    losses = list(training)
    assert np.mean(losses[-20:]) < 0.2 * np.mean(losses[:20])
    return training.learned()


class Turning(nn.Module):
    """A dreamer that knows the toy: a state is where the bar is, and how much is painted of it."""

    spec = ModelSpec(frame_shape=(48, 48, 3), action_size=1, noise_shape=(1,), prefill=5)
    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, *, remembers=True, moves=True, noise=0.0, ends=1.0):
        super().__init__()
        self.remembers, self.moves, self.noise, self.ends = remembers, moves, noise, ends

    def begin(self, prefill):
        columns = (torch.arange(48) + 0.5) / 48 * np.pi / 2 - np.pi / 4
        shown = torch.from_numpy(red(prefill.frames[:, -1].numpy())).float()
        off = (shown * columns).sum((1, 2)) / shown.sum((1, 2)).clamp(min=1)
        return self.after({"off": off, "seen": shown.sum((1, 2)) > 0})

    def after(self, state):
        reward = -state["off"].abs()
        outcome = Outcome(
            reward=reward, progress=reward.exp(), ended=reward > self.ends, uncertainty=-reward
        )
        return Transition(state=state, outcome=outcome)

    def step(self, state, action, noise, denoising_steps):
        if not self.moves:
            return self.after(state)
        off = state["off"] - TURN * action[:, 0] - self.noise * noise[:, 0]
        off = torch.remainder(off + np.pi, 2 * np.pi) - np.pi
        seen = state["seen"] & (off.abs() < np.pi / 4) if not self.remembers else state["seen"]
        return self.after({"off": off, "seen": seen})

    def decode(self, state):
        frames = [
            drawn(float(off) if seen else 9.0)
            for off, seen in zip(state["off"], state["seen"], strict=True)
        ]
        frames = to_unit(torch.from_numpy(np.stack(frames)))
        return Seen(frames=frames, proprio=torch.zeros(len(frames), 0))

    def reconstruct(self, frames, proprio):
        return Seen(frames=to_unit(frames), proprio=proprio)

    def judge(self, before, action, frames, proprio):
        raise NotImplementedError

    def recalled(self, state):
        return None

    def cast(self, dtype):
        pass


def dreamer(**how):
    made = make_world_model("Carousel")
    model = WorldModel(Turning(**how), made.local_model, card=made.card)
    return Dreamer(model=model, denoising_steps=1, seed=0)


def takes_of(data, name):
    return Takes.of(Dataset.open(data / f"carousel-{name}"), 5)


# Logging


def test_scenarios_are_logged_case_by_case_and_resumed(tmp_path, data):
    recipe = Recipe(env_id=ENV, episodes=6, seed=3, scenario="carousel-choices")
    begun = collect_episodes(recipe, tmp_path / "it", workers=1)
    first = next(begun)
    begun.close()
    rest = list(collect_episodes(recipe, tmp_path / "it", workers=1))
    assert first.number not in {logged.number for logged in rest}
    dataset, same = Dataset.open(tmp_path / "it"), Dataset.open(data / "carousel-choices")
    assert dataset.index["digest"].tolist() == same.index["digest"].tolist()[:6]
    takes = Takes.of(dataset, 5)
    assert takes.case.tolist() == [0, 0, 0, 1, 1, 1]
    assert takes.kind.tolist() == ["left", "stay", "right"] * 2
    assert takes.steps.tolist() == [4] * 6
    start = dataset.fact("state")[takes.first + takes.context - 1]
    np.testing.assert_array_equal(start[0], start[1])  # one start, several ways to go on
    assert not np.array_equal(start[0], start[3])
    rewards = dataset.reward[takes.last[0] - 4 : takes.last[0]]
    np.testing.assert_allclose(true_returns(takes)[0], rewards.sum(), rtol=1e-6)


def test_what_cannot_be_staged_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no scenario 'walk', expected one of"):
        Source(Recipe(env_id=ENV, scenario="walk"))
    with pytest.raises(ValueError, match="multiple of 3"):
        Source(Recipe(env_id=ENV, scenario="carousel-choices", episodes=4))
    with pytest.raises(ValueError, match="has its own behaviours"):
        Recipe(env_id=ENV, scenario="carousel-away", behaviours=("smooth",))
    with pytest.raises(ValueError, match="form is 'near'"):
        Scenario(form="near", stage=lambda *_: None)
    with pytest.raises(ValueError, match="has no \\['case', 'shown'\\]"):
        Takes.of(log(tmp_path / "play", 2, steps=5), 5)
    assert scenarios_of(replace(CAROUSEL, scenarios=None)) == {}


# Probe


def test_a_probe_learns_to_read_and_says_how_well(probe, data, tmp_path):
    test = Dataset.open(data / "carousel-test")
    frames, state = test.frames(np.arange(test.num_frames)), test.fact("state")
    seen = ~probe.hidden(frames)["bearing"]
    off = probe.errors(probe.read_state(frames).state, state)["bearing"][seen]
    assert np.median(off) < 0.1
    assert probe.made["median"]["bearing"] < 0.1
    probe.save(tmp_path / "probe.safetensors")
    again = load_probe(tmp_path / "probe.safetensors", probe.lesson, CAROUSEL.frame_shape)
    np.testing.assert_array_equal(
        again.read_state(frames[:9]).state, probe.read_state(frames[:9]).state
    )
    assert again.made == probe.made
    (tmp_path / "probe.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="is no probe"):
        load_probe(tmp_path / "probe.safetensors", probe.lesson, CAROUSEL.frame_shape)
    assert load_probe(tmp_path / "none", probe.lesson, CAROUSEL.frame_shape) is None
    assert probe_of(CAROUSEL) is None  # before it has learned
    assert units_of(CAROUSEL) == {"bearing": "rad"}


# Returns


@pytest.mark.parametrize(("remembers", "there"), [(True, 1.0), (False, 0.0)])
def test_who_remembers_finds_it_again_and_who_forgets_does_not(data, probe, remembers, there):
    takes = takes_of(data, "away")
    parts = list(ended_takes(dreamer(remembers=remembers), probe, takes))
    groups = scenarios_of(CAROUSEL)["carousel-away"].groups
    found = returns(Ended.joined(parts), takes, probe, groups, seed=0)
    assert list(found) == ["any", "back, 4", "back, 8"]
    every = found["any"]
    assert every.count == 16 == found["back, 4"].count + found["back, 8"].count
    assert every.present.value == there
    assert 0 < every.absent < 3
    assert every.off_real.median.value < 0.1
    assert every.off_still.median.value > 0.1
    if remembers:
        assert every.within.value > 0.8
        assert every.off_present.median.value < 0.2
    else:
        assert every.off_present is None


# Choices


def test_who_knows_the_toy_picks_the_best_and_who_stands_still_does_not(data):
    takes = takes_of(data, "choices")

    def found(**how):
        dreamt = np.zeros(len(takes))
        for which, total in dreamt_returns(dreamer(**how), takes):
            dreamt[which] = total
        return choices(dreamt, takes, seed=0)

    good, still = found(), found(moves=False)
    assert good.cases == 12
    assert good.chance == pytest.approx(1 / 3)
    assert good.best.value > 0.8
    assert good.without_noise.value > 0.8
    assert good.kept.value > 0.9
    assert still.best.value < 0.8
    at_once = np.concatenate([total for _, total in dreamt_returns(dreamer(ends=-9.0), takes)])
    whole = np.concatenate([total for _, total in dreamt_returns(dreamer(), takes)])
    assert (at_once >= whole).all()  # rewards are below 0: what comes after an end is not counted
    assert at_once.sum() > 0.5 * whole.sum()
    few = replace(takes.dataset, index=takes.dataset.index[:-1])
    with pytest.raises(ValueError, match="cases of 2 to 3 takes"):
        choices(np.zeros(35), Takes.of(few, 5), seed=0)


# The floor


def test_the_floor_is_what_noise_alone_does(data, probe):
    takes = takes_of(data, "floor")
    floor = floor_of(takes, probe)
    assert floor.steps == (1, 5, 15)
    apart = np.nanmedian(floor.figures["bearing"], axis=1)
    assert apart[0] == pytest.approx(np.sqrt(2) * NOISE * 0.67, rel=0.6)  # |N(0, 2σ²)|'s median
    assert apart[0] < apart[-1] < 0.3
    dreams = dream_rollouts(dreamer(), probe, takes.dataset, floor_plan(takes))
    figures = Rollouts.joined(list(dreams)).figures
    assert np.nanmedian(figures["bearing"][-1]) < 0.3
    assert np.nanmedian(figures["bearing.still"][-1]) > np.nanmedian(figures["bearing"][-1])
    hidden = red(takes.frames(floor_plan(takes).at(15))).sum((1, 2)) < 100
    np.testing.assert_array_equal(np.isnan(figures["bearing"][-1]), hidden)


def test_wrong_actions_are_worse_unless_nothing_moves(data, probe):
    takes = takes_of(data, "floor")

    def at(step, **how):
        found = Rollouts.joined(list(shuffled(dreamer(**how), probe, takes)))
        return shuffle_ratios(found, seed=0)["bearing"].by_step[step].value

    assert at(15) > 1.5
    assert at(15, moves=False) == 1
    alone = Takes.of(replace(takes.dataset, index=takes.dataset.index[:2]), 5)
    with pytest.raises(ValueError, match="has 1 cases of two takes, expected two or more"):
        next(shuffled(dreamer(), probe, alone))


def test_samples_spread_by_the_noise_that_they_are_given(data, probe):
    takes = takes_of(data, "floor")

    def spread_at_end(**how):
        found = Rollouts.joined(list(sampled(dreamer(**how), probe, takes)))
        np.testing.assert_allclose(found.figures[SHARPNESS][0], 1, atol=0.3)
        return np.nanmedian(found.figures[f"bearing.{SPREAD}"], axis=1)[-1]

    truth = np.nanmedian(floor_of(takes, probe).figures["bearing"], axis=1)[-1]
    assert spread_at_end() == 0
    assert spread_at_end(noise=NOISE) == pytest.approx(truth, rel=0.7)
    assert spread_at_end(noise=4 * NOISE) > 2 * truth


# Pictures


def test_multi_scale_ssim_is_one_of_equals_and_falls_with_blur():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    frames = blurred(frames, 3)
    shown = [torch.from_numpy(blurred(frames, n)) for n in (1, 3, 5, 9, 15)]
    alike = torch.stack([ms_ssim(each, shown[0]) for each in shown])
    torch.testing.assert_close(alike[0], torch.ones(3))
    assert (alike.diff(dim=0) < 0).all()
    assert (alike >= 0).all()
    small = shown[0][:, :20, :20], shown[2][:, :20, :20]
    torch.testing.assert_close(ms_ssim(*small), ssim(*small))  # of one scale
    assert (ms_ssim(255 - shown[0], shown[0]) == 0).all()
    sharp = torch.stack([edge_energy(each) for each in shown])
    assert (sharp.diff(dim=0) < 0).all()


def test_contrast_alone_is_told_as_the_paper_says():
    """Half the contrast about the mean: (c s) = (2 ½ v + C₂) / (v + v / 4 + C₂), of any scale."""
    board = np.kron(np.indices((12, 12)).sum(0) % 2, np.ones((8, 8)))[None, ..., None] * 200 + 27
    half = (board - 127) / 2 + 127
    alike = ms_ssim(*(torch.from_numpy(x.astype(np.uint8)) for x in (board, half)))
    assert alike.item() == pytest.approx(2 * 0.5 / 1.25, abs=0.01)


# Melting


def test_a_melted_picture_is_caught_and_real_ones_pass(data):
    dataset = Dataset.open(data / "carousel-play")
    bank, others = bank_of(dataset, most=400, seed=0)
    rng = np.random.default_rng(0)
    assert bank.holds(others).mean() > 0.95
    mean = np.repeat(others.mean(0, keepdims=True).astype(np.uint8), 9, 0)
    melted = {
        "blurred": blurred(others),
        "mean": blurred(mean, 7),
        "noise": rng.integers(0, 256, others.shape, dtype=np.uint8),
        "noisy": np.clip(others + rng.normal(0, 30, others.shape), 0, 255).astype(np.uint8),
        "faded": others // 2 + 64,
        "other colours": np.ascontiguousarray(others[..., ::-1]),
        "grey": np.full_like(others, 90),
    }
    for name, frames in melted.items():
        assert bank.holds(frames).mean() < 0.05, name
    *done, found = melting(dreamer(), dataset, bank, others, context=5, rollouts=6, seed=0)
    assert isinstance(found, Melting)
    assert sum(done) == found.rollouts == 6
    assert min(each.value for each in found.dream.values()) == 1
    assert found.real.value > 0.95
    assert found.blurred.value < 0.05


def test_pictures_too_small_for_patches_are_refused():
    frames = np.zeros((4, 24, 23, 3), np.uint8)
    with pytest.raises(ValueError, match="frames are 24 × 23 pixels, expected 24 or more a side"):
        Bank.of(frames, frames)


# Statistics


def test_what_nobody_can_tell_does_not_count():
    values = np.array([1.0, np.nan, 3.0])
    assert told_spread(values, seed=0).count == 2
    assert told_spread(np.full(3, np.nan), seed=0) is None
    rng = np.random.default_rng(0)
    below = rng.uniform(1, 2, 40)
    below[3] = np.nan
    twice = ratio(2 * below, below, seed=0)
    assert (twice.value, twice.low, twice.high) == pytest.approx((2, 2, 2))
    assert ratio(values, 0 * values, seed=0) is None
    assert ratio(np.ones(3), np.array([0.0, 1.0, 1.0]), seed=0) is None  # its interval is endless


# Push Cube's own reading, of pictures alone


def painted(*boxes):
    frame = np.full((96, 96, 3), (90, 100, 110), np.uint8)
    for top, left, side in boxes:
        frame[top : top + side, left : left + side] = (230, 51, 26)
    return frame


def test_one_cube_is_told_from_none_half_a_one_and_two():
    real = np.stack([painted((40, 40, 20))] * 5 + [painted((40, 40, 3))])
    frames = np.stack([
        painted((10, 70, 20)), painted((40, 40, 12)), painted(), painted((40, 40, 8)),
        painted((40, 40, 20), (5, 5, 15)), painted((40, 40, 3)),
    ])  # fmt: skip
    lacks = cube_probe.missing(frames, real)
    np.testing.assert_allclose(lacks[:5], [0, 0.64, 1, 0.84, 1], atol=1e-9)
    assert np.isnan(lacks[5])  # it can hardly be seen in truth
    assert (lacks[:5] < cube_probe.WHOLE).tolist() == [True, True, False, False, False]
    snake = np.zeros((1, 9, 9), bool)
    snake[0, 0], snake[0, :, 8], snake[0, 8], snake[0, 4, :3] = True, True, True, True
    assert cube_probe.regions(snake).tolist() == [[25, 3]]


def test_errors_of_a_reading_are_in_the_robots_frame():
    state = np.zeros((1, 66))
    state[0, :5] = 1.0, 2.0, np.pi / 2, 1.0, 3.5
    np.testing.assert_allclose(cube_probe.targets(state)[0], [1.5, 0, 1, 2, 0, 1], atol=1e-9)
    read = np.array([[1.5, 0.3, 1.0, 2.4, np.sin(-0.1), np.cos(-0.1)]])
    found = cube_probe.errors(read, state)
    np.testing.assert_allclose([found[n][0] for n in ("cube", "robot")], [0.3, 0.4])
    assert found["heading"][0] == pytest.approx(np.degrees(0.1))
    assert max(e[0] for e in cube_probe.errors(state, state).values()) == pytest.approx(0)


# The program


def test_the_program_asks_all_of_it_and_the_page_shows_it(data, tmp_path, capsys):
    model, out = tmp_path / "model", tmp_path / "out"
    make_world_model("Carousel").save_pretrained(model)
    config = Evaluate(
        world_model=str(model), data=(f"test={data / 'carousel-test'}",), out=out, scenarios=data,
        probes=tmp_path / "probes", probe_updates=20, rollouts=3, transitions=9, filmed=1,
    )  # fmt: skip
    evaluate(config)
    printed = capsys.readouterr().out
    for words in ("Look away and return", "Which action sequence", "wrong actions", "this world"):
        assert words in printed
    content = json.loads((out / "fidelity.json").read_text(), parse_constant=pytest.fail)
    memory = content["memory"]
    assert set(memory["returns"]["carousel-away"]) == {"any", "back, 4", "back, 8"}
    assert set(memory["samples"]["carousel-floor"]) == {"real", "1", "2", "4"}
    assert content["behaviours"]["carousel-floor"]["floor"]["bearing"]["15"]["count"] > 3
    told = sheets(content)
    assert (out / "scenarios.md").read_text() == as_markdown(told)
    assert all(len(row) == len(each.head) for each in told for row in each.rows)
    assert max(len(line) for each in told for line in as_text(each).split("\n")) > 20
    known = found_probe(CAROUSEL, tmp_path, config.probes, LearnedProbeConfig())
    assert known.made == memory["probe"]  # without the data that it learned from
    for updates in (20, 3):  # with them, as it was asked for
        learning = LearnedProbeConfig(updates=updates)
        known = found_probe(CAROUSEL, data, config.probes, learning)
        assert (known.made == memory["probe"]) is (updates == 20)
    assert known.made["updates"] == 3
    report(Report(world_model=str(model), out=tmp_path / "page.html", fidelity=out))
    page = (tmp_path / "page.html").read_text()
    assert "Look away and return" in page
    assert "Dreams with memory: all figures" in page


def test_what_is_not_logged_is_left_out(data, tmp_path, capsys):
    model, out = tmp_path / "model", tmp_path / "out"
    make_world_model("Carousel").save_pretrained(model)
    evaluate(
        Evaluate(
            world_model=str(model), data=(f"test={data / 'carousel-test'}",), out=out,
            scenarios=tmp_path, probes=tmp_path / "probes", rollouts=2, transitions=9, filmed=1,
        )
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "`wm-gym collect carousel-away --out" in printed
    assert "`wm-gym collect carousel-play --out" in printed
    assert "memory" not in json.loads((out / "fidelity.json").read_text())
    assert not (out / "scenarios.md").exists()


# Push Cube's own scenarios


@pytest.mark.mujoco
@pytest.mark.parametrize("name", ["away", "choices", "floor"])
def test_push_cube_stages_its_scenarios(name, tmp_path):
    recipe = Recipe(
        env_id="Real-PushCube-v0", scenario=f"push-cube-{name}", episodes=10, seed=1,
        proprioception=True,
    )  # fmt: skip
    source = Source(recipe)
    recorded = [episode for _, episode in source.recorded(0)]
    shown = int(recorded[0].facts["shown"][0])
    seen = np.array([cube_probe.cube_pixels(frame).sum() for frame in recorded[0].frames])
    if name == "away":
        ((_, again),) = source.recorded(0)
        assert again.digest == recorded[0].digest
        assert shown >= 32
        assert seen[shown - 1] > 60
        assert seen[-1] > 60
        assert (seen[shown:] == 0).sum() >= 4
        assert recorded[0].facts["absent"][0] >= 5
    else:
        assert shown == 32
        for other in recorded[1:]:
            np.testing.assert_array_equal(other.frames[:32], recorded[0].frames[:32])
    if name == "choices":
        assert len({one.behaviour for one in recorded}) == 5
        earned = sorted(float(one.reward[shown - 1 :].sum()) for one in recorded)
        assert earned[-1] - earned[-2] >= 0.15
    if name == "floor":
        np.testing.assert_array_equal(recorded[0].action, recorded[1].action)
        apart = np.abs(recorded[0].facts["state"] - recorded[1].facts["state"])[:, :2].max(1)
        assert apart[:32].max() == 0
        assert 0 < apart[33] < apart[-1]
