"""What the programs say of a world of one's own: no simulator, no probe, no reward, no coverage."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from test_report import Tags
from tiny_world import make_world_model

from wm_gym.data import Dataset, DatasetSpec, DatasetWriter, Episode
from wm_gym.models.keypoints.kind import KEYPOINTS
from wm_gym.models.world_model import Card, WorldModel
from wm_gym.programs import evaluate as program
from wm_gym.programs.evaluate import Evaluate, evaluate
from wm_gym.programs.gradients import GradientCard, gradients
from wm_gym.programs.release import release
from wm_gym.programs.report import Report, report
from wm_gym.systems import Origin

STEPS = 24
SPEC = DatasetSpec(
    env_id="Own-v0", fps=12, picture=(96, 96, 3), action_size=2, robot_type="Own", has_reward=False
)
ORIGIN = Origin(fps=12, horizon=STEPS, has_reward=False, has_coverage=False)


def log(folder, *, paid=None):
    """With `paid`, the fifth step of each episode is, and no other."""
    writer = DatasetWriter(folder, replace(SPEC, has_reward=paid is not None))
    for number in range(2):
        rng = np.random.default_rng(number)
        frames = np.full((STEPS + 1, 96, 96, 3), 255, np.uint8)
        for t in range(STEPS + 1):
            frames[t, 3 * t : 3 * t + 20, 30 * number : 30 * number + 20] = 0
        writer.add(
            number,
            Episode(
                frames=frames, action=rng.uniform(-1, 1, (STEPS, 2)).astype(np.float32),
                reward=np.where(np.arange(STEPS) == 4, paid or 0, 0).astype(np.float32),
                terminated=False, truncated=True, facts={},
                behaviour="own", split="test", seed=number, task="own",
            ),
        )  # fmt: skip
    writer.finalize()
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """As `wm-gym train` leaves it; beside it the data to judge it by."""
    run, model = tmp_path_factory.mktemp("own") / "run", make_world_model()
    dataset = Dataset.open(log(run.parent / "data"))
    facts = {
        "dataset": {"name": "own", "hash": "c0ffee", "frames": 50, "fps": 12},
        "command": "python mine.py", "commit": "abc", "torch": "2",
    }  # fmt: skip
    model.card = Card(system="Own", origin=ORIGIN, facts=facts)
    model.save_pretrained(run / "world-model")
    for part, scores in KEYPOINTS.curves.items():
        rows = [{"step": step, "loss": 0.5, scores[-1]: 0.25} for step in (1, 2)]
        (run / part).mkdir()
        (run / part / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not dataset.spec.has_reward
    return run


def judging(run, out):
    return Evaluate(
        world_model=str(run / "world-model"), data=(f"own={run.parent / 'data'}",), out=out,
        rollouts=2, filmed=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fidelity(run):
    evaluate(judging(run, run.parent / "fidelity"))
    return run.parent / "fidelity"


def test_of_rewards_that_nobody_logged_nothing_is_measured(run, tmp_path, capsys):
    evaluate(judging(run, tmp_path))
    assert "reward error" not in capsys.readouterr().out
    figures = json.loads((tmp_path / "fidelity.json").read_text())["behaviours"]["own"]["figures"]
    assert set(figures) == {
        "uncertainty",
        *(
            name + of
            for name in ("psnr", "ssim", "msssim")
            for of in ("", ".reconstruction", ".still", ".mean")
        ),
    }


def test_rewards_are_judged_where_nobody_logged_coverage(run, tmp_path, capsys):
    """By what is printed, the figures, the model card and the page: a constant beside them."""
    data = log(tmp_path / "data", paid=5)
    evaluate(replace(judging(run, tmp_path), data=(f"own={data}",)))
    printed = capsys.readouterr().out
    assert "constant: the RMSE of always saying the mean reward" in printed
    lines = json.loads((tmp_path / "fidelity.json").read_text())["calibration"]
    told = {line["name"]: line for line in lines}
    assert (told["reward 5"]["count"], told["reward 0"]["count"]) == (2, 2 * (STEPS - 1))
    share = 1 / STEPS
    assert told["all"]["constant_rmse"] == pytest.approx(5 * np.sqrt(share * (1 - share)))
    assert told["all"]["coverage_bias"] is None
    release(run, tmp_path / "released", fidelity=tmp_path / "fidelity.json")
    card = (tmp_path / "released" / "README.md").read_text()
    assert "| reward 5 | 2 |" in card
    page = tmp_path / "report.html"
    report(Report(world_model=str(tmp_path / "released"), fidelity=tmp_path, out=page))
    text = Tags(page.read_text()).text
    assert "Rewards, said of real frames: off by" in text
    assert "where always saying the mean has 0.999" in text
    assert "constant rmse" in text


def test_figures_are_safe_before_the_film_and_no_older_film_is_beside_them(
    run, tmp_path, monkeypatch
):
    def fail(*_, **__):
        raise MemoryError

    (tmp_path / "dream.mp4").write_bytes(b"of another model")
    monkeypatch.setattr(program, "write_film", fail)
    with pytest.raises(MemoryError):
        evaluate(judging(run, tmp_path))
    assert json.loads((tmp_path / "fidelity.json").read_text())["behaviours"]
    assert not (tmp_path / "dream.mp4").exists()


def test_a_film_ends_after_so_many_steps(run, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "LONGEST_FILM", 6)
    evaluate(judging(run, tmp_path))
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "dream.mp4"))[0] == 1 + 6
    assert not list(tmp_path.glob(".*"))


def test_a_film_that_cannot_be_drawn_leaves_nothing(tmp_path):
    def pictures():
        yield np.zeros((4, 6, 3), np.uint8)
        raise MemoryError

    with pytest.raises(MemoryError):
        program.write_film(tmp_path / "dream.mp4", pictures(), fps=5)
    assert not list(tmp_path.iterdir())


def test_the_page_has_what_can_be_known_of_it_and_asks_for_no_more(
    run, fidelity, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    report(Report(world_model=str(run / "world-model"), fidelity=fidelity))
    seen = Tags(Path("out/report.html").read_text())
    sections = [attrs["id"] for tag, attrs in seen.tags if tag == "section"]
    assert sections == ["films", "fidelity", "training", "provenance"]
    assert [attrs["href"] for tag, attrs in seen.tags if tag == "a"] == [f"#{n}" for n in sections]
    assert set(seen.attributes("data-figure")) == {"film", "filmstrip", "fidelity", "training"}
    assert "Left out: gradients, policies, imagined against real, speed." in seen.text
    assert "heads: reward error" in seen.text
    printed = capsys.readouterr().out
    assert "Left out: gradients" in printed
    for command in ("wm-gym gradients", "fog_vs_ppo.py", "wm-gym bench"):
        assert command not in seen.text + printed


def test_its_headline_is_the_likeness_of_its_pictures(run, fidelity, tmp_path):
    report(
        Report(
            world_model=str(run / "world-model"), fidelity=fidelity, out=tmp_path / "report.html"
        )
    )
    seen = Tags((tmp_path / "report.html").read_text())
    row = json.loads((fidelity / "fidelity.json").read_text())["behaviours"]["own"]["figures"]
    value = row["psnr"]["15"]["median"]["value"]
    assert f"dream fidelity{value:.3g} dBPSNR after 15 steps of own, median" in seen.text
    assert "reward error" not in seen.text.replace("heads: reward error", "")


def test_what_was_measured_of_it_nevertheless_is_shown(run, tmp_path):
    model = str(run / "world-model")
    row = {"steps_per_second": [9.0, 10.0], "median_ms": 1.0}
    found = {
        "parts": ["dream"], "rounds": 2, "machine": "m", "dreams": {"world_model": model},
        "dream": {"WM-v0, 1, 1 step, float32": row},
    }  # fmt: skip
    (tmp_path / "bench.json").write_text(json.dumps(found))
    report(
        Report(world_model=model, bench=(tmp_path / "bench.json",), out=tmp_path / "report.html")
    )
    seen = Tags((tmp_path / "report.html").read_text())
    assert "Left out: gradients, policies, imagined against real." in seen.text
    assert "speed" in seen.attributes("data-figure")
    assert "wm-gym bench" not in seen.text


def test_gradients_say_what_they_need(run, tmp_path):
    config = GradientCard(world_model=str(run / "world-model"), out=tmp_path / "out")
    with pytest.raises(ValueError, match="'Own', which has no probe or no simulator"):
        gradients(config)


def test_data_of_other_pictures_is_refused(run, tmp_path):
    model = make_world_model("Dot")
    model.card = replace(model.card, system="Own", origin=ORIGIN)
    model.save_pretrained(tmp_path / "model")
    config = replace(judging(run, tmp_path / "out"), world_model=str(tmp_path / "model"))
    with pytest.raises(ValueError, match=r"pictures of shape \(96, 96, 3\), but .* \(48, 64, 3\)"):
        evaluate(config)


def test_who_judges_by_what_was_learned_from_is_told_so_everywhere(run, tmp_path, capsys):
    """By what is printed, the figures, the model card and the page."""
    again, out = tmp_path / "run", tmp_path / "fidelity"
    shutil.copytree(run, again)
    model = WorldModel.from_pretrained(again / "world-model")
    learned = {**model.card.facts["dataset"], "hash": Dataset.open(run.parent / "data").hash}
    model.card = replace(model.card, facts={**model.card.facts, "dataset": learned})
    model.save_pretrained(again / "world-model")
    with pytest.warns(UserWarning, match="is what the world model learned from"):
        evaluate(replace(judging(run, out), world_model=str(again / "world-model")))
    assert "own: the world model learned from these episodes" in capsys.readouterr().out
    assert json.loads((out / "fidelity.json").read_text())["datasets"]["own"]["learned_from"]
    release(again, tmp_path / "released", fidelity=out / "fidelity.json")
    card = (tmp_path / "released" / "README.md").read_text()
    assert "episodes that were **trained on** (own):" in card
    page = tmp_path / "report.html"
    report(Report(world_model=str(again / "world-model"), fidelity=out, out=page))
    assert "episodes that were trained on (own)" in Tags(page.read_text()).text


def test_the_mean_frame_of_the_data_is_a_row_beside_that_nothing_moved(fidelity, run, tmp_path):
    found = json.loads((fidelity / "fidelity.json").read_text())["behaviours"]["own"]["figures"]
    frames = Dataset.open(run.parent / "data").frames(np.arange(2 * (STEPS + 1)))
    error = np.square(frames - np.round(frames.mean(0))).mean((1, 2, 3))
    psnr = 10 * np.log10(255**2 / error)
    median = found["psnr.mean"]["1"]["median"]["value"]
    assert psnr.min() <= median <= psnr.max()
    page = tmp_path / "report.html"
    report(Report(world_model=str(run / "world-model"), fidelity=fidelity, out=page))
    text = Tags(page.read_text()).text
    assert text.index("if nothing moved") < text.index("of the mean frame of the data")


def test_it_is_released_and_its_card_speaks_of_it_alone(run, fidelity, tmp_path):
    release(run, tmp_path / "released", fidelity=fidelity / "fidelity.json")
    card = (tmp_path / "released" / "README.md").read_text()
    assert "| heads | 2 | 0.5 | reward error 0.25 |" in card
    assert "trained on logged frames and actions\nalone" in card
    assert "one T" not in card
    assert "It knows what its log shows." in card
    assert "| own | PSNR [dB] |" in card
    assert "| own | PSNR [dB] of the mean frame of the data |" in card
    assert "episodes that were never trained on:" in card
    assert (tmp_path / "released" / "curves.png").stat().st_size > 1000
