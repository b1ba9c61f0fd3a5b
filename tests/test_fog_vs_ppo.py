"""The headline program, at its smallest: does it train, judge, go on and refuse as it says?"""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import fog_vs_ppo
import numpy as np
import pytest
from fog_vs_ppo import PRESETS
from headline import study as studies
from headline.contenders import contenders
from headline.easy import COVERED
from headline.local_dream import LocalDream
from headline.records import Exam, Progress, read, read_runs
from headline.study import DREAM, EXAM_SEED, JUDGE_SEED, check_folder, train
from headline.table import GYM, REAL
from headline.trust import SEED as TRUST_SEED

TINY = PRESETS["tiny"][1]
EXAMPLES = Path(fog_vs_ppo.__file__).parent


def lines_of(folder):
    return {file.name: file.read_text().splitlines() for file in sorted(folder.glob("*/*.jsonl"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One whole run of the program, as users start it."""
    out = tmp_path_factory.mktemp("study") / "tiny"
    program = [sys.executable, str(EXAMPLES / "fog_vs_ppo.py"), "tiny", "--out", str(out)]
    told = subprocess.run(program, capture_output=True, text=True, check=False, timeout=600)
    assert told.returncode == 0, told.stderr
    return out, told.stdout


def test_it_ends_with_a_table_a_verdict_a_plot_and_a_film(whole):
    out, told = whole
    text = (out / "fog_vs_ppo.md").read_text()
    assert text in told
    assert "| FoG " in text
    assert "| PPO " in text
    assert "Neither reached coverage" in text
    assert "policies, 4 episodes each from the same starts" in text
    for name in ("fog_vs_ppo.png", "fog_vs_ppo.mp4", "imagined.png"):
        assert (out / name).stat().st_size > 1000


def test_both_have_equal_samples_and_the_same_exams(whole):
    runs = read_runs(whole[0])
    assert [run.agent for run in runs] == ["FoG", "PPO"]
    assert [[line.samples for line in run.progress] for run in runs] == [[32, 64]] * 2
    assert [[exam.samples for exam in run.exams] for run in runs] == [[32, 64]] * 2
    for run in runs:
        assert set(run.judged) == {REAL, GYM, DREAM}
        assert {len(exam.best) for exam in run.judged.values()} == {TINY.judge_episodes}
    starts = [run.judged[REAL] for run in runs]
    assert starts[0].seed == starts[1].seed == JUDGE_SEED


def test_what_is_done_is_not_done_again(whole, capsys):
    out, _ = whole
    before = lines_of(out)
    fog_vs_ppo.main(replace(TINY, out=out))
    assert lines_of(out) == before
    assert "judging" not in capsys.readouterr().out


def test_seeds_that_judge_are_never_seen_before():
    each = [
        (EXAM_SEED, max(study.exam_episodes for _, study in PRESETS.values())),
        (TRUST_SEED, max(study.judge_episodes for _, study in PRESETS.values())),
        (JUDGE_SEED, max(study.judge_episodes for _, study in PRESETS.values())),
    ]
    seen = [seed for first, n in each for seed in range(first, first + n)]
    assert len(seen) == len(set(seen))


class StoppedError(Exception):
    pass


def test_a_run_that_was_stopped_anywhere_ends_as_one_that_was_not(tmp_path, monkeypatch):
    """FoG's; killed as an exam was written and the agent was not yet saved."""
    known = contenders(TINY)["fog"]
    straight, halted = replace(TINY, out=tmp_path / "one"), replace(TINY, out=tmp_path / "other")
    train(straight, known, 0, 64)
    saved = studies._save
    calls = iter([saved])

    def once(*args):
        if (save := next(calls, None)) is None:
            raise StoppedError
        save(*args)

    monkeypatch.setattr(studies, "_save", once)
    with pytest.raises(StoppedError):
        train(halted, known, 0, 64)
    monkeypatch.setattr(studies, "_save", saved)
    train(halted, known, 0, 64)
    one, other = (read_runs(each.out)[0] for each in (straight, halted))
    assert [exam.best for exam in one.exams] == [exam.best for exam in other.exams]
    assert [line.reward for line in one.progress] == [line.reward for line in other.progress]


def test_a_folder_of_other_settings_is_refused(tmp_path):
    study = replace(TINY, out=tmp_path / "study")
    check_folder(study)
    check_folder(replace(study, agents=("sac",), seeds=(3,)))
    with pytest.raises(SystemExit, match=r"other settings \(horizon\)"):
        check_folder(replace(study, horizon=11))


def test_agents_that_are_not_known_are_refused():
    with pytest.raises(ValueError, match=r"\['dqn'\] are not known, expected some of \['fog'"):
        replace(TINY, agents=("fog", "dqn"))


@pytest.mark.parametrize(
    "name", ["no-diffusion", "no-refresh", "no-entropy", "no-look-aheads", "pure", "sac"]
)
def test_each_ablation_learns_in_the_same_dream(name, tmp_path):
    tiny = replace(TINY, samples=32, out=tmp_path)
    known = contenders(tiny)
    train(tiny, known[name], 1, 32 if name != "pure" else 8 * known_window(known[name], tiny))
    run = read_runs(tmp_path)[0]
    assert (run.agent, run.seed) == (known[name].name, 1)
    assert run.progress[-1].samples >= 32
    assert np.isfinite(run.progress[-1].reward)


def known_window(contender, study):
    env = study.dream()
    return contender.begin(env, 0).config.window


def test_without_diffusion_the_local_model_is_the_world():
    env = TINY.dream()
    local = LocalDream(env)
    local.reset(seed=0)
    obs = local.begin_window()
    action = obs.new_zeros(len(obs), 2)
    first = local.step_with_grad(action)
    assert (first.obs == env.surrogate.predict(obs, action)).all()
    assert (first.reward == env.surrogate.reward_of(first.obs, action)).all()
    ends = [first.truncated, *(local.step_with_grad(action).truncated for _ in range(9))]
    assert [int(end.sum()) for end in ends] == [0, 1, 1, 1, 1, 0, 1, 1, 1, 1]  # staggered
    kept = local.get_state()
    once = local.step_with_grad(action).obs
    local.set_state(kept)
    assert (local.step_with_grad(action).obs == once).all()


def test_records_say_what_the_policy_got(whole):
    """The last exam, played again with the saved policy."""
    out, _ = whole
    study = replace(TINY, out=out)
    known = contenders(study)["ppo"]
    folder = study.folder(known, 0)
    exam, line = (read(folder / name, kind)[-1] for name, kind in
                  (("exams.jsonl", Exam), ("progress.jsonl", Progress)))  # fmt: skip
    policy = known.resume(folder / "policies" / "64.zip", None)
    again = studies.Exams(study, REAL, envs=2).of(policy, line, episodes=2, seed=EXAM_SEED)
    assert again == exam


def test_settings_are_kept_beside_the_records(whole):
    kept = json.loads((whole[0] / "study.json").read_text())
    assert kept["samples"] == 64
    assert kept["fog"]["window"] == TINY.fog.window
    assert list(islice(kept, 1)) == ["samples"]


def test_easy_starts_are_near_the_goal_in_the_dream_and_in_the_real_system(tmp_path):
    study = replace(TINY, easy=True, out=tmp_path)
    dream = study.dream()
    _, info = dream.reset(seed=0)
    assert (info["coverage"] > COVERED - 0.1).all()  # begun from the last of several frames
    assert np.mean(info["coverage"]) > 0.5
    easy, hard = (
        studies.Exams(each, env_id, envs=2).of(
            StandStill(), LINE, episodes=6, seed=EXAM_SEED
        )
        for each, env_id in ((study, REAL), (replace(study, easy=False), REAL))
    )  # fmt: skip
    assert min(easy.final) > 0.2
    assert np.mean(easy.final) > np.mean(hard.final) + 0.3
    imagined = studies.Exams(study, DREAM, envs=2).of(
        StandStill(), LINE, episodes=6, seed=EXAM_SEED
    )
    np.testing.assert_allclose(imagined.final, easy.final, atol=0.1)


LINE = Progress(samples=1, local_samples=0, gradient_steps=0, seconds=0.0, reward=0.0)


class StandStill:
    def predict(self, obs, state=None, episode_start=None, deterministic=True):
        return np.zeros((len(obs), 2), np.float32), state
