"""What `examples/fog_vs_ppo.py` makes of its records: the verdict is theirs, whoever leads."""

import json
from dataclasses import replace

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
from headline import readme, release, trust
from headline.arrivals import times_fewer
from headline.plots import colours, curves_figure, draw_curves
from headline.records import (
    DREAM,
    GYM,
    LOCAL_WORLD,
    REAL,
    Exam,
    Progress,
    Run,
    append,
    read,
    read_run,
    read_runs,
)
from headline.table import alike_table, compare, count, duration, rendered
from headline.verdict import headline, verdict
from headline.video import (
    acted,
    film,
    film_frames,
    moving_picture,
    played,
    watched,
    write_video,
)
from moviepy import VideoFileClip
from PIL import Image
from tiny_world import make_world_model

ONE_SEED = "One seed each: intervals cover other starts, not another training."
EXAMS = 20


def exam(coverage, *, samples=0, seconds=0.0, env_id=REAL, episodes=8):
    best = (np.zeros(np.shape(coverage) or episodes) + coverage).tolist()
    returns = [-1.0] * len(best)
    return Exam(
        samples=samples, seconds=seconds, env_id=env_id, seed=0,
        returns=returns, best=best, final=best,
    )  # fmt: skip


def progress(samples, seconds, reward=-0.5):
    return Progress(
        samples=samples, local_samples=3 * samples, gradient_steps=samples // 100,
        seconds=seconds, reward=reward,
    )  # fmt: skip


def make_run(agent, *, to=1.0, budget=1_000_000, seconds=100.0, seed=0, judged=None):
    """Its coverage rises in a straight line from 0."""
    shares = [(number + 1) / EXAMS for number in range(EXAMS)]
    places = [(round(share * budget), share * seconds) for share in shares]
    return Run(
        agent=agent,
        seed=seed,
        progress=[progress(*place) for place in places],
        exams=[
            exam(to * share, samples=samples, seconds=time)
            for share, (samples, time) in zip(shares, places, strict=True)
        ],
        judged=judged or {},
    )


@pytest.mark.parametrize(("first", "second"), [("FoG", "PPO"), ("PPO", "FoG")])
def test_the_verdict_names_whoever_leads(first, second):
    runs = [make_run(first), make_run(second, budget=10_000_000, seconds=400)]
    comparison = compare(runs)
    assert verdict(comparison) == (
        f"{first} reached coverage 0.5 with 500 k samples in 50 s, {second} with 5 M in 3.3 min: "
        "10.0 × fewer samples (95 %: 10.00 to 10.00), 4.0 × less time. "
        f"{first} reached coverage 0.7 with 700 k samples in 70 s, {second} with 7 M in 4.7 min: "
        "10.0 × fewer samples (95 %: 10.00 to 10.00), 4.0 × less time. "
        f"{first} reached coverage 0.8 with 800 k samples in 80 s, {second} with 8 M in 5.3 min: "
        f"10.0 × fewer samples (95 %: 10.00 to 10.00), 4.0 × less time. {ONE_SEED}"
    )
    assert headline(comparison) == (
        f"{first} reached coverage 0.8 with 10.0 × fewer samples than {second} (one seed each)"
    )


def test_fewer_samples_in_more_time_is_said():
    runs = [make_run("FoG", seconds=1000), make_run("PPO", budget=2_000_000, seconds=100)]
    assert "2.0 × fewer samples (95 %: 2.00 to 2.00), but 10.0 × the time. " in verdict(
        compare(runs)
    )


def test_times_that_differ_less_than_machines_do_are_alike():
    runs = [make_run("FoG", seconds=100), make_run("PPO", budget=2_000_000, seconds=140)]
    assert verdict(compare(runs)).count("about as much time") == 3


def uneven(run, *, seed=0):
    """Some starts are far easier than others."""
    effect = np.linspace(-0.5, 0.5, 8)
    return replace(
        run,
        exams=[
            replace(each, seed=seed, best=(np.mean(each.best) + effect).tolist())
            for each in run.exams
        ],
    )


def test_agents_of_the_same_starts_are_compared_in_pairs():
    """In straight lines, an easier start brings both there sooner by the same factor."""
    fog, ppo = uneven(make_run("FoG")), uneven(make_run("PPO", budget=1_300_000))
    paired = times_fewer([fog], [ppo], 0.5)
    assert (paired.low, paired.high) == (pytest.approx(1.3, abs=0.02),) * 2
    elsewhere = times_fewer([fog], [uneven(ppo, seed=1)], 0.5)
    assert elsewhere.low < 1 < elsewhere.high


def test_a_lead_that_other_starts_may_turn_is_open_in_text_and_title():
    fog = uneven(make_run("FoG"))
    comparison = compare([fog, uneven(make_run("PPO", budget=1_300_000), seed=1)])
    said = verdict(comparison)
    assert said.count("who needs fewer is open (1.3 ×, 95 %: ") == 3
    assert "fewer samples (" not in said
    assert headline(comparison) == (
        "FoG and PPO reached coverage 0.8; who needs fewer samples is open (one seed each)"
    )
    alone = compare([fog, uneven(make_run("PPO", to=0.75), seed=1)])
    assert headline(alone) == (
        "FoG reached coverage 0.8, PPO did not in 1 M samples; who needs fewer is open "
        "(one seed each)"
    )


def test_who_does_not_arrive_in_a_draw_may_need_far_more():
    """One of two runs never arrives: whether the middle one of a draw does is chance."""
    good, never = make_run("PPO", budget=10_000_000), make_run("PPO", to=0.4, seed=1)
    bounds = times_fewer([make_run("FoG")], [good, never], 0.5)
    assert bounds.high == np.inf
    assert bounds.low == pytest.approx(1_000_000 / 500_000)  # never's budget, by FoG's samples
    assert times_fewer([good, never], [make_run("FoG")], 0.5).low == 0


@pytest.mark.parametrize("budget", [1_000_000, 1_050_000])
def test_equals_are_not_told_apart(budget):
    comparison = compare([make_run("FoG"), make_run("PPO", budget=budget)])
    said = verdict(comparison)
    assert said.count("about as many samples (95 %: 1.") == 3
    assert said.count("), about as much time.") == 3
    assert "fewer" not in said
    assert headline(comparison) == (
        "FoG and PPO reached coverage 0.8 with about as many samples (one seed each)"
    )


def test_where_neither_arrives_it_is_said_how_far_they_got():
    comparison = compare([make_run("FoG", to=0.4), make_run("PPO", to=0.2, budget=2_000_000)])
    assert verdict(comparison) == (
        "Neither reached coverage 0.5, 0.7 or 0.8: FoG got to 0.39 in 1 M and PPO got to 0.20 in "
        "2 M samples. When it ended, FoG's curve was still rising (+0.10, 0.10 to 0.10). When it "
        f"ended, PPO's curve was still rising (+0.05, 0.05 to 0.05). {ONE_SEED}"
    )
    assert headline(comparison) == (
        "Neither reached coverage 0.5: FoG got to 0.39 and PPO got to 0.20 (one seed each)"
    )


@pytest.mark.parametrize(("first", "second"), [("FoG", "PPO"), ("PPO", "FoG")])
def test_where_one_arrives_alone_there_is_a_bound(first, second):
    """10 M by 0.75 M samples is 13.33…, and not more than 13.4."""
    runs = [make_run(first, to=2 / 3), make_run(second, to=0.4, budget=10_000_000)]
    comparison = compare(runs)
    assert (
        f"{first} reached coverage 0.5 with 750 k samples in 75 s, {second} not within 10 M: "
        "> 13.3 × fewer samples (95 %: > 13.3). "
    ) in verdict(comparison)
    assert headline(comparison) == (
        f"{first} reached coverage 0.5, {second} did not in 10 M samples: > 13.3 × fewer "
        "(one seed each)"
    )
    assert "never (> 10 M)" in rendered(comparison)


def test_who_was_stopped_sooner_than_the_other_arrived_has_not_lost():
    said = compare([make_run("FoG"), make_run("PPO", to=0.2, budget=500_000)])
    assert "PPO not within 500 k: who needs fewer is open (> 1.0 ×, 95 %: > 1.0). " in verdict(said)
    assert headline(said) == (
        "FoG reached coverage 0.8, PPO did not in 500 k samples; who needs fewer is open "
        "(one seed each)"
    )


def test_the_title_is_of_the_highest_coverage_that_tells_them_apart():
    """At 0.8 PPO might have arrived a moment later; at 0.7 it is known that FoG needed fewer."""
    comparison = compare([make_run("FoG"), make_run("PPO", to=0.4, budget=800_000)])
    assert "who needs fewer is open (> 1.0 ×" in verdict(comparison)
    assert headline(comparison) == (
        "FoG reached coverage 0.7, PPO did not in 800 k samples: > 1.1 × fewer (one seed each)"
    )


def test_agents_are_compared_after_as_many_samples_as_all_of_them_had():
    """At 0.4 M: PPO at a tenth of its line, FoG of two seeds at 0.4 of theirs; one never dreamt."""
    cloned = replace(make_run("imitation"), exams=[exam(0.25)])
    runs = [
        make_run("FoG", seed=1), make_run("FoG", to=0.5, seed=2), cloned,
        make_run("PPO", budget=4_000_000), make_run("pure", to=0.1, budget=400_000),
    ]  # fmt: skip
    rows = alike_table(runs).replace(" ", "").splitlines()[2:]
    assert [row.split("|")[1:4] for row in rows] == [
        ["FoG", "2", "0.30(0.20–0.40)"], ["imitation", "1", "0.25(0.25–0.25)"],
        ["PPO", "1", "0.10(0.10–0.10)"], ["pure", "1", "0.10(0.10–0.10)"],
    ]  # fmt: skip


def test_one_exam_tells_how_far_a_policy_got():
    first = make_run("FoG", budget=20_480)
    short = replace(first, progress=first.progress[-1:], exams=[exam(0.45, samples=20_480)])
    assert compare([short]).rows["FoG"].peak == pytest.approx(0.45)


def test_a_curve_that_is_flat_in_the_end_is_not_rising():
    run = make_run("PPO", to=0.4)
    flat = [exam(0.4, samples=each.samples, seconds=each.seconds) for each in run.exams]
    still = Run(agent="PPO", seed=0, progress=run.progress, exams=flat)
    assert (
        "PPO's curve showed no rise that these exams can tell (+0.00, 0.00 to 0.00)"
    ) in verdict(compare([make_run("FoG"), still]))
    once = Run(agent="PPO", seed=0, progress=run.progress, exams=run.exams[:1])
    assert "PPO had too few exams" in verdict(compare([make_run("FoG"), once]))
    backwards = zip(run.exams[::-1], run.exams, strict=True)
    falling = replace(run, exams=[replace(at, best=best.best) for best, at in backwards])
    assert "PPO's curve was falling (-0.10, " in verdict(compare([make_run("FoG"), falling]))


def test_a_rise_is_measured_start_by_start():
    """Starts differ far more than the curve rises, but each of them rises."""
    run = uneven(make_run("PPO", to=0.4))
    rise = compare([run]).rows["PPO"].rise
    assert (rise.low, rise.high) == (pytest.approx(0.1), pytest.approx(0.1))


@pytest.mark.parametrize(
    ("fog", "ppo", "said"),
    [
        (0.9, 0.5, "FoG led"),
        (0.5, 0.9, "PPO led"),
        (0.7, 0.7, "no difference that the intervals would tell apart"),
    ],
)
def test_what_was_judged_in_the_end(fog, ppo, said):
    around = np.linspace(-0.1, 0.1, 100)
    runs = [
        make_run(agent, judged={e: exam(level + around, env_id=e) for e in (REAL, GYM)})
        for agent, level in (("FoG", fog), ("PPO", ppo))
    ]
    sentences = [each for each in verdict(compare(runs)).split(". ") if "Judged" in each]
    assert len(sentences) == 2
    for sentence, env_id in zip(sentences, (REAL, GYM), strict=True):
        assert sentence.startswith(f"Judged on {env_id}, best coverage (IQM) was {fog:.2f} (")
        assert sentence.endswith(f" for PPO: {said}")


def test_of_several_seeds_the_middle_one_tells():
    """Of three, one that never arrives does not count; of two it does."""
    good = [make_run("FoG", seed=seed, budget=budget) for seed, budget in ((0, 10**6), (1, 10**7))]
    never = make_run("FoG", seed=2, to=0.3)
    rows = {n: compare([*good, never][3 - n :]).rows["FoG"].reached[0.5] for n in (2, 3)}
    assert rows[3].samples == pytest.approx(5_000_000)
    assert (rows[2].samples, rows[2].spent) == (None, pytest.approx(5_000_000))
    said = verdict(compare([*good, never, make_run("PPO")]))
    assert said.endswith(
        "FoG 3 seeds, PPO one seed: of one seed, intervals cover other starts, "
        "not another training."
    )
    assert headline(compare([*good, make_run("PPO"), make_run("PPO", seed=1)])).endswith(
        "(2 seeds each)"
    )


def test_without_the_other_agent_there_is_no_verdict():
    assert verdict(compare([make_run("FoG")])) == "No run of PPO to compare."


def test_the_table_has_what_was_spent_and_what_was_judged():
    shares = np.repeat([0.99, 0.92, 0.85, 0.1], 25)
    judged = {env_id: exam(shares, env_id=env_id) for env_id in (REAL, GYM, "WM-PushT-v0")}
    text = rendered(compare([make_run("FoG", judged=judged), make_run("PPO")]))
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert lines[2] == ["FoG", "1", "1 M", "3 M", "10 k", "1.7 min", "500 k", "700 k", "800 k"]
    assert [line[0] for line in lines[7:10]] == [REAL, GYM, "WM-PushT-v0"]
    assert lines[7][1:3] == ["FoG", "100"]
    assert lines[7][3].startswith("0.89 (")
    assert [cell.split(" (")[0] for cell in lines[7][6:]] == ["75 %", "50 %", "25 %"]
    assert len({len(line) for line in text.splitlines()[:4]}) == 1
    assert "Intervals are of 95 %" in text
    assert "local model's" not in text


@pytest.mark.parametrize(("level", "said"), [(0.1, "0 % (0–4)"), (0.99, "100 % (96–100)")])
def test_none_or_all_of_a_hundred_is_not_certain(level, said):
    """Wilson's intervals of 0 and of 100 successes in 100: 0 to 3.7 %, 96.3 to 100 %."""
    judged = {REAL: exam(np.full(100, level), env_id=REAL)}
    text = rendered(compare([make_run("FoG", judged=judged)]))
    assert text.count(said) == 3


def test_what_never_dreamt_has_no_price_and_local_samples_are_called_so():
    runs = [
        Run(agent="imitation", seed=0, progress=[progress(0, 9.0)], exams=[exam(0.4)]),
        make_run(LOCAL_WORLD),
    ]
    text = rendered(compare(runs))
    assert [cell.strip() for cell in text.splitlines()[2].split("|")[-4:-1]] == ["–"] * 3
    assert "never" not in text.splitlines()[2]
    assert f"Samples of {LOCAL_WORLD} are the local model's" in text


def test_numbers_are_said_in_three_digits():
    assert [count(n) for n in (0, 999, 999_600, 1_234_567)] == ["0", "999", "1 M", "1.23 M"]
    assert [duration(s) for s in (5, 100, 5399, 7200)] == ["5 s", "1.7 min", "90.0 min", "2.0 h"]


# Records


def test_a_run_that_was_killed_and_went_on_counts_once(tmp_path):
    """What came after the last save was done again, and half a line spoils no other."""
    file = tmp_path / "FoG without look-aheads-7" / "progress.jsonl"
    for samples in (100, 200, 300):
        append(file, progress(samples, 1.0))
    with file.open("a") as lines:
        lines.write(json.dumps({"samples": 400})[:-3])
    for samples in (200, 300):
        append(file, progress(samples, 2.0))
    for env_id, seconds in ((REAL, 2.0), (GYM, 2.0), (DREAM, 1.0), (REAL, 2.0)):
        verdict = exam(0.5, samples=300, seconds=seconds, env_id=env_id)
        append(file.with_name("judged.jsonl"), verdict)
    run = read_run(file.parent)
    assert (run.agent, run.seed) == ("FoG without look-aheads", 7)
    assert [(line.samples, line.seconds) for line in run.progress] == [(100, 1), (200, 2), (300, 2)]
    assert len(read(file, Progress)) == 5
    assert sorted(run.judged) == sorted([REAL, GYM])  # the dream judged another 300


def test_runs_are_read_in_order(tmp_path):
    for name in ("PPO-0", "FoG-10", "FoG-9"):
        append(tmp_path / name / "progress.jsonl", progress(1, 1.0))
    (tmp_path / "FoG-11").mkdir()
    append(tmp_path / "FoG-1-old" / "progress.jsonl", progress(1, 1.0))  # somebody's copy
    runs = read_runs(tmp_path)
    assert [(run.agent, run.seed) for run in runs] == [("FoG", 9), ("FoG", 10), ("PPO", 0)]


# Imagined against real


@pytest.mark.parametrize(
    ("excess", "said"),
    [
        ([1.0, 2.0], "Nobody exploits the dream: it flatters none by more than 5 (the most: +1.5"),
        ([-80.0, 96.0], "+8.0 (-"),
        ([-5.0, 13.0], "+4.0 (-"),
        ([9.0, 11.0], "1 of 2 policies exploit the dream"),
    ],
)
def test_what_flatters_by_chance_is_not_called_honest(excess, said):
    real = np.array([[-50.0, -60.0] * 4, [-20.0, -30.0] * 4])
    dream = real + np.array([[0.0] * 8, excess * 4])
    imagined = trust.Imagined(names=("a, 1", "b, 2"), dream=dream, real=real)
    text = trust.rendered(imagined, imagined.agreement())
    assert said in text
    if said.startswith("+"):
        assert "No policy is shown to exploit the dream, but" in text
        assert "Nobody" not in text
    assert "fewer than 12 policies this says little" in text


def test_a_dozen_policies_say_something():
    real = np.arange(24.0).reshape(12, 2) - 50
    imagined = trust.Imagined(names=tuple("abcdefghijkl"), dream=real, real=real)
    assert "says little" not in trust.rendered(imagined, imagined.agreement())


# Release


def study_of(folder, names, shared):
    for name in names:
        for file in release.KEPT:
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / file).write_text(f'"{folder.name}"')
    (folder / "study.json").write_text(json.dumps(shared))
    return folder, [make_run("FoG", seed=int(name[-1])) for name in names]


def kept_records(folder):
    return {file.parent.name: file.read_text() for file in folder.glob("*/exams.jsonl")}


def test_records_of_a_release_stand_beside_those_of_the_same_study(tmp_path):
    kept = tmp_path / "records"
    release.keep_records(*study_of(tmp_path / "old", ("FoG-1", "FoG-2"), {"judge_seed": 1}), kept)
    release.keep_records(*study_of(tmp_path / "new", ("FoG-2", "FoG-3"), {"judge_seed": 1}), kept)
    assert kept_records(kept) == {"FoG-1": '"old"', "FoG-2": '"new"', "FoG-3": '"new"'}
    found = sorted(str(file.relative_to(kept)) for file in kept.glob("FoG-2/*"))
    assert found == sorted(f"FoG-2/{name}" for name in release.KEPT)


def test_records_of_other_exams_make_room_for_a_release(tmp_path):
    kept = tmp_path / "records"
    release.keep_records(*study_of(tmp_path / "old", ("FoG-1", "FoG-2"), {"judge_seed": 1}), kept)
    release.keep_records(*study_of(tmp_path / "new", ("FoG-2",), {"judge_seed": 2}), kept)
    assert kept_records(kept) == {"FoG-2": '"new"'}
    assert json.loads((kept / "study.json").read_text())["judge_seed"] == 2


def test_budgets_that_grew_do_not_cost_older_records(tmp_path):
    kept = tmp_path / "records"
    release.keep_records(*study_of(tmp_path / "old", ("FoG-1",), {"samples": 2}), kept)
    release.keep_records(*study_of(tmp_path / "new", ("FoG-2",), {"samples": 1}), kept)
    assert sorted(kept_records(kept)) == ["FoG-1", "FoG-2"]
    assert json.loads((kept / "study.json").read_text())["samples"] == 2


def test_runs_of_other_settings_are_not_averaged_with_those_kept(tmp_path):
    kept = tmp_path / "records"
    release.keep_records(*study_of(tmp_path / "old", ("FoG-1",), {}), kept)
    for name in (kept / "FoG-1", *(tmp_path / "new" / f"FoG-{i}" for i in (2, 3))):
        name.mkdir(parents=True, exist_ok=True)
        (name / "settings.json").write_text(json.dumps({"window": 8 if "3" in name.name else 16}))
    (tmp_path / "new" / "study.json").write_text("{}")
    runs = [make_run("FoG", seed=2), make_run("FoG", seed=3)]
    assert release.differing(tmp_path / "new", runs, kept) == ["FoG-3"]


def test_the_dream_chooses_what_is_released():
    runs = [make_run("FoG", seed=seed) for seed in (1, 2, 3)]
    returns = {"FoG-1": -30.0, "FoG-2": -20.0, "FoG-3": -40.0}
    assert release.best_dreamer(runs, returns).seed == 2


def test_what_the_readme_shows_is_told_and_drawn_from_its_records(tmp_path, capsys):
    readme.main(readme.Readme(pictures=tmp_path))
    said = capsys.readouterr().out
    assert "samples to coverage 0.8" in said
    assert "FoG reached coverage 0.5 with" in said
    assert "begins with 24,064 logged steps" in said
    for name in (readme.CURVES, readme.ABLATIONS):
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (1800, 690)


# Pictures


def test_nobody_shares_a_colour():
    agents = ["FoG", "PPO", "SAC", *(f"FoG without part {i}" for i in range(10))]
    assert len(set(colours(agents).values())) == len(agents)


def test_curves_are_drawn_over_samples_and_time(tmp_path):
    runs = [make_run("FoG"), make_run("PPO", budget=2_000_000, seconds=300)]
    study = [make_run(agent, budget=10**7) for agent in ("FoG", "PPO")]
    alone, both = curves_figure(runs), curves_figure(runs, behind=study)
    names = ["FoG, one seed", "PPO, one seed"]
    behind = ["FoG, README's study", "PPO, README's study"]
    for figure, expected in ((alone, names), (both, names + behind)):
        assert [text.get_text() for text in figure.legends[0].get_texts()] == expected
    assert [axes.get_xscale() for axes in alone.axes] == ["linear"] * 3
    assert [axes.get_xscale() for axes in both.axes] == ["log", "linear", "log"]
    time = alone.axes[1]
    assert time.get_xlabel() == "minutes of work"
    shown = {line.get_label(): line.get_xdata()[-1] for line in time.lines}
    assert shown["PPO, one seed"] == pytest.approx(5)
    draw_curves(runs, tmp_path / "new" / "curves.png", behind=study)
    with Image.open(tmp_path / "new" / "curves.png") as picture:
        assert picture.size == (1800, 690)


def test_the_mean_is_drawn_where_all_seeds_have_been():
    runs = [make_run("FoG", to=0.4), make_run("FoG", to=0.8, seed=1, budget=2_000_000)]
    line = next(line for line in curves_figure(runs).axes[0].lines if "2 seeds" in line.get_label())
    x, y = line.get_data()
    assert (x[0], x[-1]) == (100_000, 1_000_000)
    np.testing.assert_allclose(y, 0.4 * x / 1_000_000)


@pytest.mark.parametrize("runs", [[], [Run(agent="FoG", seed=0, progress=[], exams=[])]])
def test_what_has_hardly_begun_can_be_drawn(runs, tmp_path):
    draw_curves(runs, tmp_path / "curves.png")
    rendered(compare(runs))


# Video


class Scripted:
    """Acts by what it sees and by its own number, and remembers."""

    def __init__(self, number):
        self.number = number
        self.seen = []

    def predict(self, obs, state=None, episode_start=None, deterministic=False):
        assert deterministic
        assert episode_start.tolist() == [state is None]
        self.seen.append(obs)
        turn = self.number + 10 * float(obs.sum())
        return np.array([[np.cos(turn), np.sin(turn)]], np.float32), "state"


@pytest.fixture(scope="module")
def world_model():
    return make_world_model("PushT")


def test_what_is_shown_is_what_the_policy_saw(world_model):
    policy = Scripted(0)
    actions = acted(policy, world_model, seed=3, steps=4)
    real, dream = played(actions, world_model, seed=3)
    env = gym.make("Real-PushT-v0", obs_type="latent", world_model=world_model)
    seen = [env.reset(seed=3)[0]] + [env.step(action)[0] for action in actions[:-1]]
    np.testing.assert_array_equal(np.concatenate(policy.seen), seen)
    pixels = gym.make("Real-PushT-v0")
    frames = [pixels.reset(seed=3)[0]] + [pixels.step(action)[0] for action in actions]
    np.testing.assert_array_equal(real.frames, frames)
    assert real.frames.shape == dream.frames.shape == (5, 96, 96, 3)
    assert (dream.frames[1:] != dream.frames[:-1]).any()


def test_the_film_has_a_column_a_policy_and_is_the_same_twice(world_model, tmp_path):
    policies = {"FoG": Scripted(0), "PPO": Scripted(1)}
    for name in ("one.mp4", "two.mp4"):
        film(policies, world_model, tmp_path / name, seed=0, steps=5)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "one.mp4"))[0] == 6
    with VideoFileClip(str(tmp_path / "one.mp4")) as clip:
        assert (clip.size, clip.fps) == ([600, 700], 15)


def test_the_moving_picture_shows_every_other_step_of_dream_and_real(world_model, tmp_path):
    out = tmp_path / "new" / "policy.gif"
    moving_picture(Scripted(0), world_model, out, seeds=(3, 4), steps=4)
    with Image.open(out) as picture:
        assert (picture.size, picture.n_frames) == ((404, 432), 3)
    one = watched(Scripted(0), "Real-PushT-v0", world_model, seed=3, steps=2)
    other = watched(Scripted(1), "WM-PushT-v0", world_model, seed=3, steps=2)
    assert one.frames.shape == other.frames.shape == (3, 190, 190, 3)
    assert one.coverage[0] == gym.make("Real-PushT-v0").reset(seed=3)[1]["coverage"]
    assert (one.frames[0] != one.frames[2]).any()


@pytest.mark.parametrize(("number", "fps"), [(7, 15.0), (97, 10), (148, 5.0)])
def test_a_video_has_every_picture(number, fps, tmp_path):
    """An ImageSequenceClip loses the last one of these."""
    write_video(np.zeros((number, 32, 32, 3), np.uint8), tmp_path / "new" / "one.mp4", fps=fps)
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "new" / "one.mp4"))[0] == number


def test_the_film_begins_alike_for_all_and_goes_on_differently(world_model):
    columns = {
        f"{number}": played(
            acted(Scripted(number), world_model, seed=0, steps=2), world_model, seed=0
        )
        for number in range(2)
    }
    first, *_, last = film_frames(columns)
    left, right = slice(8, 296), slice(304, 592)
    tiles = slice(58, 346), slice(372, 660)
    for tile in tiles:
        np.testing.assert_array_equal(first[tile, left], first[tile, right])
        assert (last[tile, left] != last[tile, right]).any()
