"""What is measured of dreams is what is so: worlds whose errors are known, and known statistics."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_world import make_world_model
from torch import nn

from wm_gym.data import Dataset
from wm_gym.data.collect import Recipe, collect_episodes
from wm_gym.evaluation import calibration, rollouts
from wm_gym.evaluation.calibration import Judged, calibration_card, judge, transitions
from wm_gym.evaluation.drawing import film, film_frames, filmstrip
from wm_gym.evaluation.fidelity import detection, fidelity
from wm_gym.evaluation.pictures import psnr, ssim
from wm_gym.evaluation.probes import probe_of
from wm_gym.evaluation.report import calibration_text, fidelity_text
from wm_gym.evaluation.rollouts import (
    REAL,
    RECONSTRUCTION,
    STILL,
    UNCERTAINTY,
    Dreamer,
    Rollouts,
    dream_rollouts,
    floor_rollouts,
    plans,
)
from wm_gym.evaluation.statistics import auroc, auroc_interval, share, spread
from wm_gym.models.colours import to_unit
from wm_gym.models.protocol import ModelSpec, Outcome, Seen, Transition
from wm_gym.models.world_model import WorldModel
from wm_gym.programs.evaluate import Evaluate, evaluate
from wm_gym.systems import DOT, PUSH_T

PROBE = probe_of(PUSH_T)


def log(folder, episodes, steps, env_id="Real-PushT-v0", **settings):
    recipe = Recipe(env_id=env_id, episodes=episodes, steps=steps, **settings)
    assert len(list(collect_episodes(recipe, folder, workers=1))) == episodes
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return log(tmp_path_factory.mktemp("data") / "play", 4, 150)


class Replay(nn.Module):
    """A global model that has learned the dataset by heart: a state is the number of a row, from
    which a dream goes `pace` rows on in a step."""

    spec = ModelSpec(frame_shape=(96, 96, 3), action_size=2, noise_shape=(1,), prefill=4)
    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, dataset, *, pace=1, reward_lag=0):
        super().__init__()
        self.dataset, self.pace, self.reward_lag = dataset, pace, reward_lag
        self.row_of = {
            frame.tobytes(): row
            for row, frame in enumerate(dataset.frames(np.arange(dataset.num_frames)))
        }
        self.row_by_action = {a.tobytes(): row for row, a in enumerate(dataset.action)}

    def rows(self, frames):
        return torch.tensor([self.row_of[frame.tobytes()] for frame in frames.numpy()])

    def begin(self, prefill):
        """Frames can be equal where little moves; actions never are."""
        first = [self.row_by_action[a.tobytes()] for a in prefill.action[:, 0].numpy()]
        rows = torch.tensor(first) + self.spec.prefill - 1
        state = {"row": rows, "error": torch.zeros(len(rows))}
        return Transition(state=state, outcome=self.outcome(rows - 1, rows, state["error"]))

    def decode(self, state):
        frames = to_unit(torch.from_numpy(self.dataset.frames(state["row"].numpy())))
        return Seen(frames=frames, proprio=torch.zeros(len(frames), 0))

    def reconstruct(self, frames, proprio):
        return self.decode({"row": self.rows(frames)})

    def step(self, state, action, noise, denoising_steps):
        after, error = state["row"] + self.pace, state["error"] + 1
        outcome = self.outcome(state["row"], after, error)
        return Transition(state={"row": after, "error": error}, outcome=outcome)

    def judge(self, before, action, frames, proprio):
        after = self.rows(frames)
        return self.outcome(self.rows(before.frames[:, -1]), after, torch.ones(len(after)))

    def recalled(self, state):
        return None

    def cast(self, dtype):
        pass

    def outcome(self, before, after, error):
        row, following = before.numpy(), after.numpy()
        reward = self.dataset.reward[row - self.reward_lag]
        coverage = self.dataset.fact("coverage")[following].astype(np.float32)
        return Outcome(
            reward=torch.from_numpy(reward), progress=torch.from_numpy(coverage),
            ended=torch.from_numpy(self.dataset.terminated[row]), uncertainty=error,
        )  # fmt: skip


def replay(dataset, **how):
    """Its local model is never asked."""
    made = make_world_model()
    return WorldModel(Replay(dataset, **how), made.local_model, card=made.card)


def measured(dataset, model, probe=PROBE, count=3, **settings):
    dreamer = Dreamer(model=model, denoising_steps=1, seed=0)
    chosen = plans(dataset, context=4, horizon=150, rollouts=count, seed=0, **settings)
    return [Rollouts.joined(list(dream_rollouts(dreamer, probe, dataset, p))) for p in chosen]


def test_rollouts_lie_within_episodes_and_long_ones_are_whole_episodes(dataset):
    short, long = plans(dataset, context=4, horizon=150, rollouts=30, seed=0)
    assert short.steps == (1, 5, 15, 30, 50)
    assert long.steps == (100, 147)
    assert short.rows.shape == (54, 30)
    assert set(long.rows[0]) == set(dataset.index["start"])  # each of the four episodes once
    for plan in (short, long):
        assert len(np.unique(plan.rows // 151, axis=0)) == 1
        np.testing.assert_array_equal(plan.at(plan.steps[-1]), plan.rows[-1])
        np.testing.assert_array_equal(np.concatenate([p.rows for p in plan.parts()], 1), plan.rows)


def test_short_episodes_have_short_rollouts_only(tmp_path):
    few = log(tmp_path, 2, 12)
    (plan,) = plans(few, context=4, horizon=150, rollouts=5, seed=0)
    assert plan.steps == (1, 5)
    with pytest.raises(ValueError, match="longest episode has 13 frames"):
        plans(few, context=13, horizon=150, rollouts=5, seed=0)


def test_a_model_that_replays_the_truth_has_no_errors(dataset):
    for each in measured(dataset, replay(dataset)):
        figures = each.figures
        for name in ("coverage", "reward"):
            np.testing.assert_allclose(figures[name], 0, atol=1e-6)
        assert (figures["psnr"] > 58).all()
        np.testing.assert_allclose(figures["ssim"], 1, atol=1e-6)
        for name in (*PROBE.UNITS, "residual"):
            np.testing.assert_array_equal(figures[name], figures[name + REAL])
            np.testing.assert_array_equal(figures[name], figures[name + RECONSTRUCTION])
        assert np.median(figures["block_position"]) < 1
        assert figures["tool_position" + STILL].max() > 5


def test_a_model_that_stands_still_has_the_errors_of_standing_still(dataset):
    for each in measured(dataset, replay(dataset, pace=0)):
        figures = each.figures
        for name in ("psnr", "ssim"):
            np.testing.assert_array_equal(figures[name], figures[name + STILL])
        np.testing.assert_allclose(figures["coverage"], figures["coverage" + STILL], atol=1e-6)
        for name in PROBE.UNITS:  # but for what the probe misreads of the standing frame
            assert np.abs(figures[name] - figures[name + STILL]).max() < 2


def test_the_mean_frame_is_of_all_episodes_of_a_selection(dataset):
    one = replace(dataset, index=dataset.index[[1, 3]])
    rows = np.concatenate([np.arange(151, 302), np.arange(453, 604)])
    expected = np.round(dataset.frames(rows).mean(0))
    np.testing.assert_array_equal(rollouts.mean_frame(one), expected)
    for each in measured(dataset, replay(dataset)):
        assert (each.figures["psnr.mean"] < each.figures["psnr"]).all()


def test_a_dream_is_the_same_whatever_is_dreamt_beside_it(dataset, monkeypatch):
    dreamer = Dreamer(model=make_world_model("PushT"), denoising_steps=1, seed=0)
    (plan, _) = plans(dataset, context=4, horizon=150, rollouts=3, seed=0)
    plan = replace(plan, steps=(1, 5, 15))
    (together,) = dream_rollouts(dreamer, None, dataset, plan)
    monkeypatch.setattr(rollouts, "AT_ONCE", 4)
    alone = Rollouts.joined(list(dream_rollouts(dreamer, None, dataset, plan)))
    for name, values in together.figures.items():
        np.testing.assert_allclose(values, alone.figures[name], rtol=1e-3, atol=1e-3)


def test_the_floor_is_nothing_without_a_nudge_and_begins_with_it(dataset):
    (short, _) = plans(dataset, context=4, horizon=150, rollouts=6, seed=0)

    class Unmoved:
        UNITS, WHOLE, WRONG = PROBE.UNITS, PROBE.WHOLE, PROBE.WRONG
        read_state, errors = staticmethod(PROBE.read_state), staticmethod(PROBE.errors)

        def nudged(self, state, rng):
            return state

    (same,) = floor_rollouts(PUSH_T, Unmoved(), dataset, short, seed=0)
    assert max(values.max() for values in same.figures.values()) == 0
    (nudged,) = floor_rollouts(PUSH_T, PROBE, dataset, short, seed=0)
    assert np.median(nudged.figures["block_position"][0]) == pytest.approx(0.5, abs=0.1)
    (again,) = floor_rollouts(PUSH_T, PROBE, dataset, short, seed=0)
    for name, values in nudged.figures.items():
        np.testing.assert_array_equal(values, again.figures[name])


def test_the_floor_starts_where_the_log_was(dataset):
    """Run from a logged state under logged actions, the simulator meets the logged states."""
    (short, _) = plans(dataset, context=4, horizon=150, rollouts=1, seed=0)
    simulator, states = PUSH_T.make_simulator(), dataset.fact("state")
    simulator.place(states[short.at(0)[0]])
    for step in range(1, 6):
        simulator.advance(dataset.action[short.at(step - 1)[0]])
        logged = states[short.at(step)[0]]
        assert PROBE.errors(simulator.state()[None], logged[None])["block_position"][0] < 0.5


def test_uncertainty_that_knows_the_errors_detects_them_all(dataset):
    each = measured(dataset, replay(dataset, pace=0), count=20)
    error = each[0].figures["block_position"]
    for score, expected in ((error, 1.0), (-error, 0.0)):
        knowing = replace(each[0], figures={**each[0].figures, UNCERTAINTY: score})
        assert detection([knowing], PROBE, seed=0).auroc.value == expected
    found = fidelity(each, [each[0]], PROBE, seed=0)
    assert found.whole["dream"][50].value == 1
    assert found.wrong["dream"][1].value < found.wrong["dream"][50].value
    assert found.figures["block_position"][50].count == 20
    right = replace(each[0], figures={**each[0].figures, "block_position": 0 * error})
    assert detection([right], PROBE, seed=0).auroc is None


def test_a_system_without_a_probe_is_judged_by_pictures_and_rewards(tmp_path):
    dots = log(tmp_path, 3, 120, env_id="Real-Dot-v0")
    dreamer = Dreamer(model=make_world_model("Dot"), denoising_steps=1, seed=0)
    (plan,) = plans(dots, context=96, horizon=120, rollouts=3, seed=0)
    assert plan.steps == (1, 5, 15, 25)
    parts = list(dream_rollouts(dreamer, probe_of(DOT), dots, plan))
    found = fidelity([Rollouts.joined(parts)], [], probe_of(DOT), seed=0)
    assert {"reward", "coverage", "psnr", "ssim", UNCERTAINTY} <= set(found.figures)
    assert not found.whole
    assert found.detection is None
    assert "step 25" in fidelity_text("dots", found, {})


def test_heads_that_know_the_log_are_calibrated_and_a_lag_shows(dataset):
    drawn, ends = transitions(dataset, count=300, seed=0)
    assert set(dataset.index["start"] + dataset.index["length"] - 2) == set(ends)
    assert not set(dataset.index["start"] + dataset.index["length"] - 1) & set(drawn)

    def card(model):
        parts = [*judge(model, dataset, drawn, last=False), *judge(model, dataset, ends, last=True)]
        return {line.name: line for line in calibration_card(Judged.joined(parts))}

    lines = card(replay(dataset))
    assert lines["all"].count == 300 == sum(
        line.count for name, line in lines.items() if name.startswith("coverage")
    )  # fmt: skip
    assert lines["last of episodes"].count == 4
    assert lines["all"].coverage_error < 1e-3  # equal frames can hide a little
    assert lines["all"].reward_error < 1e-3
    last, before = (lines[name] for name in ("last of episodes", "against the reward before"))
    assert last.reward_error < 0.1 * before.reward_error
    late = card(replay(dataset, reward_lag=1))
    last, before = (late[name] for name in ("last of episodes", "against the reward before"))
    assert before.reward_error < 0.1 * last.reward_error


def test_bands_of_coverage_hold_what_their_names_say():
    true = np.array([0.0, 0.1, 0.2, 0.4, 0.5, 0.7, 0.9, 0.95, 0.99])
    zero, last = np.zeros(len(true)), np.zeros(len(true), bool)
    last[:1] = True
    judged = Judged(
        coverage=true + 0.1, true_coverage=true, reward=zero, true_reward=zero,
        reward_before=zero, last=last,
    )  # fmt: skip
    lines = {line.name: line for line in calibration_card(judged)}
    counts = {name: line.count for name, line in lines.items() if name.startswith("coverage")}
    expected = {"0–0.2": 2, "0.2–0.5": 2, "0.5–0.8": 1, "0.8–0.95": 2, "0.95–1": 1}
    assert counts == {f"coverage {name}": count for name, count in expected.items()}
    assert lines["all"].coverage_bias == pytest.approx(0.1)
    assert calibration.EDGES[0] == 0


def test_auroc_is_1_or_0_or_a_half():
    wrong = np.arange(40) >= 30
    score = np.arange(40.0)
    assert auroc(score, wrong) == 1
    assert auroc(-score, wrong) == 0
    assert auroc(np.zeros(40), wrong) == 0.5
    rng = np.random.default_rng(0)
    assert auroc(rng.normal(size=20_000), rng.random(20_000) < 0.3) == pytest.approx(0.5, abs=0.02)
    assert np.isnan(auroc(score, np.zeros(40, bool)))


def test_auroc_counts_pairs_and_weights_count_as_repeats():
    rng = np.random.default_rng(0)
    score, wrong = rng.integers(0, 5, 30).astype(float), rng.random(30) < 0.4
    bad, good = score[wrong][:, None], score[~wrong]
    assert auroc(score, wrong) == pytest.approx(((bad > good) + 0.5 * (bad == good)).mean())
    times = rng.integers(0, 4, (2, 30))
    for row, weight in enumerate(times):
        repeated = auroc(score.repeat(weight), wrong.repeat(weight))
        assert auroc(score, wrong, times.astype(float))[row] == pytest.approx(repeated)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    found = [spread(rng.exponential(size=40), seed=0).median for _ in range(200)]
    covered = np.mean([each.low <= np.log(2) <= each.high for each in found])
    assert 0.88 < covered < 0.99
    assert all(each.low <= each.value <= each.high for each in found)
    shares = [share(rng.random(60) < 0.3, seed=0) for _ in range(200)]
    assert 0.88 < np.mean([each.low <= 0.3 <= each.high for each in shares]) < 0.99


def test_frames_of_one_rollout_do_not_count_as_independent():
    rng = np.random.default_rng(0)
    score, wrong = rng.normal(size=60), rng.random(60) < 0.5
    score[wrong] += 1
    once = auroc_interval(score, wrong, np.arange(60), seed=0)
    group = np.arange(60).repeat(9)
    copied = auroc_interval(score.repeat(9), wrong.repeat(9), group, seed=0)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    assert 0.5 < once.low < once.value < once.high < 1


def test_psnr_and_ssim_are_what_the_papers_say():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (2, 12, 11, 3), dtype=np.uint8)
    b = np.clip(a.astype(int) + rng.integers(-40, 40, a.shape), 0, 255).astype(np.uint8)
    square = np.square(a - b.astype(float)).mean((1, 2, 3))
    torch_a, torch_b = torch.from_numpy(a), torch.from_numpy(b)
    expected = torch.from_numpy(10 * np.log10(255**2 / square)).float()
    torch.testing.assert_close(psnr(torch_a, torch_b), expected)
    way = np.arange(11) - 5
    window = np.exp(-(way[:, None] ** 2 + way**2) / 4.5)[..., None] / 1
    window /= window.sum()
    values = []
    for top in (0, 1):  # the window has two places in 12 rows
        x, y = (f[0, top : top + 11].astype(float) for f in (a, b))
        mx, my = ((window * z).sum((0, 1)) for z in (x, y))
        vx, vy, xy = ((window * z).sum((0, 1)) for z in ((x - mx) ** 2, (y - my) ** 2,
                                                        (x - mx) * (y - my)))  # fmt: skip
        c1, c2 = 2.55**2, 7.65**2
        values.append((2 * mx * my + c1) * (2 * xy + c2)
                      / ((mx**2 + my**2 + c1) * (vx + vy + c2)))  # fmt: skip
    assert ssim(torch_a, torch_b)[0].item() == pytest.approx(np.mean(values), abs=1e-4)
    torch.testing.assert_close(ssim(torch_a, torch_a), torch.ones(2))


def test_a_film_shows_the_truth_above_and_can_be_encoded(dataset):
    (short, _) = plans(dataset, context=4, horizon=150, rollouts=2, seed=0)
    short = replace(short, steps=(1, 15))
    shown = film(Dreamer(model=replay(dataset), denoising_steps=1, seed=0), dataset, short)
    np.testing.assert_array_equal(shown.real, shown.dream)
    assert shown.real.shape == (16, 2, 96, 96, 3)
    np.testing.assert_array_equal(shown.real[7], dataset.frames(short.at(7)))
    frames = np.stack(list(film_frames(shown)))
    assert frames.shape[1] % 2 == frames.shape[2] % 2 == 0
    np.testing.assert_array_equal(*np.split(frames, 2, axis=1))
    assert filmstrip(shown).shape[1] > 4 * 2 * 96  # steps 0, 1, 5 and 15


def test_a_long_film_is_cut_and_drawn_picture_by_picture(dataset):
    """All pictures of long episodes took gigabytes."""
    (_, long) = plans(dataset, context=4, horizon=150, rollouts=2, seed=0)
    cut = long.cut(7)
    assert (cut.steps, cut.rows.shape) == ((7,), (4 + 7, 2))
    np.testing.assert_array_equal(cut.at(7), long.at(7))
    assert long.cut(147) is long.cut(600) is long
    shown = film(Dreamer(model=replay(dataset), denoising_steps=1, seed=0), dataset, cut)
    np.testing.assert_array_equal(shown.real, dataset.frames(cut.rows[3:].ravel()).reshape(
        8, 2, 96, 96, 3
    ))  # fmt: skip
    pictures = film_frames(shown)
    assert next(pictures).shape == (2 * (3 * 96 + 4), 2 * (3 * 96 + 4), 3)
    assert len(list(pictures)) == 7


def test_rewards_that_nobody_logged_are_not_judged(dataset):
    """A silent head against zeros would be perfect."""
    meta = replace(dataset.spec, has_reward=False)
    silent = Dataset.open(dataset.folder)
    object.__setattr__(silent, "spec", meta)
    figures = measured(silent, replay(dataset))[0].figures
    assert "reward" not in figures
    assert "coverage" in figures
    drawn, ends = transitions(silent, count=20, seed=0)
    parts = [*judge(replay(dataset), silent, drawn, last=False)]
    parts += [*judge(replay(dataset), silent, ends, last=True)]
    lines = calibration_card(Judged.joined(parts))
    assert {line.reward_error for line in lines} == {None}
    assert lines[-1].name == "last of episodes"
    assert "all" in calibration_text(lines)
    both = [*parts, *judge(replay(dataset), dataset, drawn, last=False)]
    assert calibration_card(Judged.joined(both))[0].reward_error < 1e-3


def test_the_program_prints_tables_and_writes_figures_and_a_film(dataset, tmp_path, capsys):
    model, out = tmp_path / "model", tmp_path / "out"
    make_world_model("PushT").save_pretrained(model)
    data = (f"play={dataset.folder}",)
    config = Evaluate(
        world_model=str(model), data=data, out=out, rollouts=2, transitions=20, filmed=1
    )
    evaluate(config)
    printed = capsys.readouterr().out
    for words in ("block position error [px]", "the real system, nudged", "step 147", "AUROC"):
        assert words in printed
    figures = json.loads((out / "fidelity.json").read_text(), parse_constant=pytest.fail)
    assert figures["datasets"]["play"]["hash"] == dataset.hash
    play = figures["behaviours"]["play"]
    assert set(play["figures"]["block_angle"]) == {"1", "5", "15", "30", "50", "100", "147"}
    assert figures["settings"]["rollouts"] == 2
    for name in ("fidelity.png", "filmstrip.png", "dream.mp4"):
        assert (out / name).stat().st_size > 1000


def test_what_cannot_be_evaluated_is_refused(dataset, tmp_path):
    model = tmp_path / "model"
    make_world_model("Dot").save_pretrained(model)

    def config(*data, **settings):
        return Evaluate(world_model=str(model), data=data, out=tmp_path / "out", **settings)

    with pytest.raises(ValueError, match=r"is of the system 'PushT', but .* dreams of 'Dot'"):
        evaluate(config(f"play={dataset.folder}"))
    with pytest.raises(ValueError, match="name=folder"):
        evaluate(config("play"))
    with pytest.raises((ValueError, OSError), match="nowhere"):
        evaluate(config(f"play={tmp_path / 'nowhere'}"))
    with pytest.raises(ValueError, match="rollouts is 0"):
        config(rollouts=0)
    assert not (tmp_path / "out").exists()
