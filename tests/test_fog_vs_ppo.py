"""The headline program, at its smallest: does it train, judge, go on and refuse as it says?"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import fog_vs_ppo
import numpy as np
import pytest
from fog_vs_ppo import PRESETS, filmed, study_of
from forked import run_python
from headline import easy, trust
from headline import study as studies
from headline.contenders import HEAD_START, contenders
from headline.easy import COVERED
from headline.folder import AGENT, alone, check_folder, finished
from headline.local_dream import LocalDream
from headline.records import DREAM, GYM, LOCAL_WORLD, REAL, Exam, Progress, append, read, read_runs
from headline.release import Release
from headline.seeds import (
    CHOICE_SEED,
    EXAM_SEED,
    FILM_SEED,
    JUDGE_SEED,
    TRUST_SEED,
    TUNED_SEEDS,
)
from headline.study import Study, judge, train

from fog_agent import PRESETS as FOG
from fog_agent import FoG
from wm_gym.data.collect import Recipe, collect_episodes
from wm_gym.envs.dream import DreamVectorEnv

TINY = PRESETS["tiny"][1]
EXAMPLES = Path(fog_vs_ppo.__file__).parent
IN_A_TERMINAL = """
import os, runpy, sys
sys.stderr.isatty = lambda: True  # so that there are bars
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def lines_of(folder):
    return {file.name: file.read_text().splitlines() for file in sorted(folder.glob("*/*.jsonl"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One whole run of the program, as users start it."""
    out = tmp_path_factory.mktemp("study") / "tiny"
    program = EXAMPLES / "fog_vs_ppo.py"
    told = run_python("-c", IN_A_TERMINAL, program, "tiny", "--out", out, timeout=600)
    assert told.returncode == 0, told.stderr
    return out, told.stdout, told.stderr


@pytest.fixture
def copied(whole, tmp_path):
    """That study, in a folder of its own."""
    return replace(TINY, out=Path(shutil.copytree(whole[0], tmp_path / "copy")))


def test_without_arguments_it_is_quick(tmp_path):
    assert study_of([]) == PRESETS["quick"][1]
    assert study_of(["--out", str(tmp_path)]) == replace(PRESETS["quick"][1], out=tmp_path)
    assert study_of(["paper", "--seeds", "5"]) == replace(PRESETS["paper"][1], seeds=(5,))
    with pytest.raises(SystemExit):
        study_of(["papper"])


def test_it_ends_with_a_table_a_verdict_a_plot_and_a_film(whole):
    out, told, bars = whole
    text = (out / "fog_vs_ppo.md").read_text()
    assert text in told
    assert "| FoG " in text
    assert "| PPO " in text
    assert "Neither reached coverage" in text
    assert "policies, 4 episodes each from the same starts" in text
    for name in ("fog_vs_ppo.png", "fog_vs_ppo.mp4", "imagined.png"):
        assert (out / name).stat().st_size > 1000
    assert "exam 2/2: real coverage" in bars
    assert f"2/2: judging PPO, seed 0, in {REAL}: 100%" in bars


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


def test_what_is_done_is_not_done_again(whole, capsys, monkeypatch):
    """Nor is a dream made for it: easy starts take a while to choose."""
    out = whole[0]
    before = lines_of(out)
    monkeypatch.setattr(Study, "dream", None)
    fog_vs_ppo.main(replace(TINY, out=out))
    assert lines_of(out) == before
    assert "judging" not in capsys.readouterr().err


def test_seeds_that_judge_are_never_seen_before():
    presets = [study for _, study in PRESETS.values()]
    each = [
        *TUNED_SEEDS,
        range(EXAM_SEED, EXAM_SEED + max(study.exam_episodes for study in presets)),
        *(
            range(first, first + max(study.judge_episodes for study in presets))
            for first in (TRUST_SEED, JUDGE_SEED)
        ),
        range(FILM_SEED, FILM_SEED + 1),
        range(CHOICE_SEED, CHOICE_SEED + Release.dreams),
    ]
    seen = [seed for seeds in each for seed in seeds]
    assert len(seen) == len(set(seen))
    assert {study.film_seed for study in presets} == {FILM_SEED}
    assert 0 not in PRESETS["paper"][1].seeds  # settings were chosen by runs of that one


def test_exams_are_at_the_same_samples_as_far_as_both_learn():
    paper = replace(PRESETS["paper"][1], samples=512_000, ppo_samples=4_096_000)
    fog, ppo = (paper.exam_places(contenders(paper)[name]) for name in ("fog", "ppo"))
    assert fog == list(range(25_600, 512_001, 25_600))
    assert ppo[: len(fog)] == fog
    assert set(np.diff(ppo[len(fog) - 1 : -1])) == {102_400}
    assert (ppo[-1], len(ppo)) == (4_096_000, 20 + 35)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"samples": 0}, "samples is 0, expected at least 1"),
        ({"ppo_samples": 0}, "ppo_samples is 0, expected at least 1"),
        ({"judge_episodes": -1}, "judge_episodes is -1, expected at least 1"),
        ({"seeds": ()}, r"seeds \(\), expected one of each or more"),
        ({"seeds": (-1,)}, "no seed below 0"),
        ({"agents": ()}, r"agents are \(\) .* expected one of each or more"),
        ({"agents": ("fog", "dqn")}, r"\['dqn'\] are not known, expected some of \['fog'"),
        ({"trusted": 1}, "trusted is 1, expected 0, or 2 or more"),
        ({"fog": replace(TINY.fog, seed=3)}, "fog.seed is 3: runs are seeded by `seeds`"),
    ],
)
def test_what_makes_no_study_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        replace(TINY, **wrong)


@pytest.mark.parametrize("stage", ["check_folder", "train", "judge", "report"])
def test_stopped_by_hand_it_says_one_line_wherever_it_was(whole, stage, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fog_vs_ppo, stage, stop)
    with pytest.raises(SystemExit, match=f"stopped; run it again, and it goes on from {whole[0]}"):
        fog_vs_ppo.main(replace(TINY, out=whole[0], trusted=0))


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("killed", ["64.zip", AGENT])
def test_a_run_that_was_stopped_anywhere_ends_as_one_that_was_not(
    killed, whole, tmp_path, monkeypatch
):
    """FoG's; killed as an exam was written and its policy was not yet saved, or the agent not."""
    known = contenders(TINY)["fog"]
    halted = replace(TINY, out=tmp_path)
    save, seen = FoG.save, []

    def stopping(agent, path, **how):
        seen.append(path.name)
        if path.name == killed and "64.zip" in seen:
            raise StoppedError
        return save(agent, path, **how)

    monkeypatch.setattr(FoG, "save", stopping)
    with pytest.raises(StoppedError):
        train(halted, known, 0)
    monkeypatch.undo()
    assert FoG.load(halted.out / "FoG-0" / AGENT).num_timesteps == 32
    train(halted, known, 0)
    one, other = (read_runs(out)[0] for out in (whole[0], halted.out))
    assert [exam.best for exam in one.exams] == [exam.best for exam in other.exams]
    assert [line.reward for line in one.progress] == [line.reward for line in other.progress]


def test_a_folder_of_other_settings_is_refused(copied):
    """Each agent's settings are its own; what is refused is named."""
    check_folder(replace(copied, agents=("sac",), seeds=(3,)))
    with pytest.raises(SystemExit, match=r"other settings \(horizon is 10 there, 11 here\)"):
        check_folder(replace(copied, horizon=11))
    other = replace(copied, fog=replace(TINY.fog, window=8))
    check_folder(replace(other, agents=("ppo",)))
    check_folder(replace(other, seeds=(1,)))
    with pytest.raises(SystemExit, match=r"FoG-0 .* \(fog.window is 4 there, 8 here\)"):
        check_folder(other)
    with pytest.raises(SystemExit, match=r"PPO-0 .* \(ppo.n_steps is 4 there, 8 here\)"):
        check_folder(replace(copied, ppo=replace(TINY.ppo, n_steps=8)))


def test_another_world_model_of_the_same_name_is_refused(copied):
    file = copied.out / "study.json"
    kept = json.loads(file.read_text())
    assert "global_model.safetensors" in kept["world_model"]
    file.write_text(json.dumps({**kept, "world_model": kept["world_model"].replace("a", "b")}))
    with pytest.raises(SystemExit, match=r"\(world_model is "):
        check_folder(copied)


@pytest.mark.parametrize("content", ["", '{"samples": 6', "[1]"])
def test_damaged_settings_are_named(copied, content):
    (copied.out / "study.json").write_text(content)
    with pytest.raises(SystemExit, match=r"study.json is missing or damaged"):
        check_folder(copied)


def test_budgets_may_grow_and_unfinished_runs_do_not_count(copied):
    longer = replace(copied, samples=96, agents=("fog",))
    check_folder(longer)
    said = r"\(long_samples is 192 there, 128 here; ppo_samples is 96 there, 64 here; samples is 96"
    with pytest.raises(SystemExit, match=said):
        check_folder(copied)
    assert finished(copied.out) == (
        [], ["FoG, seed 0 (64 of 96 samples)", "PPO, seed 0 (64 of 96 samples)"]
    )  # fmt: skip
    train(longer, contenders(longer)["fog"], 0)
    assert finished(copied.out)[1][0] == "FoG, seed 0 (not judged)"
    judge(longer)
    done, others = finished(copied.out)
    assert [run.progress[-1].samples for run in done] == [96]
    assert [exam.samples for exam in done[0].exams] == [32, 64, 96]
    assert others == ["PPO, seed 0 (64 of 96 samples)"]
    assert list(filmed(longer, done)) == ["FoG"]
    assert filmed(replace(copied, agents=("ppo",)), done) == {}  # it is not finished
    assert {folder.name for folder, _ in trust.spread_out(longer)} == {"FoG-0"}


def test_a_verdict_of_what_was_learned_again_is_out_of_date(copied):
    """A killed run comes by the same samples again, in other seconds."""
    last = read(copied.out / "PPO-0" / "progress.jsonl", Progress)[-1]
    append(copied.out / "PPO-0" / "progress.jsonl", replace(last, seconds=last.seconds + 1))
    assert finished(copied.out)[1] == ["PPO, seed 0 (not judged)"]
    judge(copied)
    assert finished(copied.out)[1] == []
    assert len(read(copied.out / "PPO-0" / "judged.jsonl", Exam)) == 6


def test_two_processes_do_not_work_at_one_run(copied):
    fog, ppo = (contenders(copied)[name] for name in ("fog", "ppo"))
    with alone(copied.folder(fog, 0)):
        with pytest.raises(SystemExit, match=r"another process is at work in .*FoG-0"):
            train(copied, fog, 0)
        train(copied, ppo, 0)
    train(copied, fog, 0)


def test_the_film_is_of_the_first_seeds_of_fog_and_ppo(copied):
    shutil.copytree(copied.out / "FoG-0", copied.out / "FoG-7")
    (copied.out / "FoG-7" / "policies" / "64.zip").unlink()
    runs, _ = finished(copied.out)
    assert [run.name for run in runs] == ["FoG-0", "FoG-7", "PPO-0"]
    assert list(filmed(replace(copied, agents=("sac",)), runs)) == ["FoG", "PPO"]


def test_one_policy_is_not_compared_with_itself(tmp_path, capsys):
    study = replace(TINY, out=tmp_path)
    check_folder(study)
    assert trust.imagine(study) is None
    assert "the dream is not compared: 0 policies are there" in capsys.readouterr().out


# Ablations


@pytest.fixture(scope="module")
def dream():
    return TINY.dream()


def updated(name, env, study=TINY):
    agent = contenders(study)[name].begin(env, 1)
    update = next(agent.updates(1))
    assert np.isfinite(update.reward)
    return agent, update


@pytest.fixture
def called(monkeypatch):
    """What is asked of the dream."""
    names = []

    def noting(name, method):
        def noted(*args):
            names.append(name)
            return method(*args)

        monkeypatch.setattr(DreamVectorEnv, name, noted)

    noting("step_with_grad", DreamVectorEnv.step_with_grad)
    noting("refresh", DreamVectorEnv.refresh)
    return names


def test_fog_itself_does_all_that_ablations_leave_out(dream, called):
    agent, update = updated("fog", dream)
    assert set(called) == {"step_with_grad", "refresh"}
    assert agent.learner.temperature > 0
    assert update.local_samples > 0


def test_without_refreshing_nothing_is_refreshed(dream, called):
    updated("no-refresh", dream)
    assert set(called) == {"step_with_grad"}


def test_without_entropy_the_temperature_is_zero(dream):
    assert updated("no-entropy", dream)[0].learner.temperature == 0


def test_without_look_aheads_the_local_model_is_not_sampled(dream):
    assert updated("no-look-aheads", dream)[1].local_samples == 0


def test_pure_is_the_preset_with_the_rates_of_the_study(dream):
    study = replace(TINY, fog=replace(TINY.fog, decay_samples=512))
    agent, update = updated("pure", dream, study)
    assert agent.config == replace(FOG["pure"][1], seed=1000, decay_samples=512)
    assert update.samples == 16 * TINY.num_envs


def test_rates_and_noise_fall_over_the_budget_unless_it_is_said_otherwise():
    study = study_of(["paper", "--samples", "384000"])
    known = contenders(study)
    falls = {name: known[name].settings["fog"]["decay_samples"] for name in ("fog", "long", "pure")}
    assert falls == {"fog": 384_000, "long": 768_000, "pure": 384_000}
    assert study.exam_places(known["long"])[-1] == 768_000
    said = study_of(["paper", "--samples", "384000", "--fog.decay-samples", "9"])
    assert contenders(said)["fog"].settings["fog"]["decay_samples"] == 9


def test_without_diffusion_the_global_model_is_never_asked(tmp_path, called):
    study = replace(TINY, samples=32, out=tmp_path)
    known = contenders(study)["no-diffusion"]
    train(study, known, 1)
    assert called == []
    (run,) = read_runs(tmp_path)
    assert (run.agent, run.seed) == (LOCAL_WORLD, 1)
    ahead = TINY.fog.look_ahead_steps * TINY.fog.look_ahead_batch
    assert (run.progress[-1].samples, run.progress[-1].local_samples) == (32, 32 + ahead)


def test_sac_learns_in_the_same_dream(tmp_path):
    study = replace(TINY, samples=32, out=tmp_path)
    train(study, contenders(study)["sac"], 1)
    (run,) = read_runs(tmp_path)
    assert (run.agent, run.progress[-1].samples) == ("SAC", 64)  # a whole rollout
    assert np.isfinite(run.progress[-1].reward)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "demonstrations"
    list(collect_episodes(Recipe(episodes=2, steps=6, seed=0), folder))
    return folder


def test_imitation_is_examined_before_it_dreams(shown, tmp_path):
    study = replace(
        TINY, samples=32, expert=shown, clone_updates=3, agents=("imitation", "refined"),
        out=tmp_path,
    )  # fmt: skip
    check_folder(study)
    for contender, seed in study.taking_part:
        train(study, contender, seed)
    imitation, refined = read_runs(tmp_path)
    assert [line.samples for line in imitation.progress] == [0]
    assert [exam.samples for exam in refined.exams] == [0, 32]
    first, last = refined.progress
    assert (first.gradient_steps, imitation.progress[0].gradient_steps) == (3, 3)
    assert 0 < first.seconds < last.seconds
    agent = FoG.load(tmp_path / refined.name / AGENT)
    assert (agent.config.head_start, agent.num_timesteps) == (HEAD_START, 32)


def test_without_demonstrations_it_says_at_once_where_they_come_from(tmp_path):
    study = replace(TINY, agents=("fog", "imitation"), expert=tmp_path / "none", out=tmp_path)
    with pytest.raises(SystemExit, match=r"there is no .*none to imitate: `make data` logs it"):
        check_folder(study)


def test_without_diffusion_the_local_model_is_the_world(dream):
    env, local = dream, LocalDream(dream)
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
    study = replace(TINY, out=whole[0])
    known = contenders(study)["ppo"]
    folder = study.folder(known, 0)
    exam, line = (read(folder / name, kind)[-1] for name, kind in
                  (("exams.jsonl", Exam), ("progress.jsonl", Progress)))  # fmt: skip
    policy = known.resume(folder / "policies" / "64.zip", None)
    again = studies.Exams(study, REAL, envs=2).of(policy, line, episodes=2, seed=EXAM_SEED)
    assert again == exam


def test_settings_are_kept_beside_the_records(whole):
    kept = json.loads((whole[0] / "study.json").read_text())
    assert (kept["samples"], kept["ppo_samples"], kept["exam_seed"]) == (64, 64, EXAM_SEED)
    own = json.loads((whole[0] / "FoG-0" / "settings.json").read_text())
    assert own["fog"]["window"] == TINY.fog.window
    assert set(own) == {"goes_by", "fog"}


def test_easy_starts_are_near_the_goal_in_the_dream_and_in_the_real_system(tmp_path):
    study = replace(TINY, easy=True, out=tmp_path)
    _, info = study.dream().reset(seed=0)
    assert easy.near_the_goal("push-t") is easy.near_the_goal("push-t")  # looked for once
    assert (info["coverage"] > COVERED - 1e-3).all()
    assert np.mean(info["coverage"]) > 0.5
    near, anywhere = (
        studies.Exams(each, env_id, envs=2).of(
            StandStill(), LINE, episodes=6, seed=EXAM_SEED
        )
        for each, env_id in ((study, REAL), (replace(study, easy=False), REAL))
    )  # fmt: skip
    assert min(near.final) > COVERED
    assert np.mean(near.final) > np.mean(anywhere.final) + 0.3
    imagined = studies.Exams(study, DREAM, envs=2).of(
        StandStill(), LINE, episodes=6, seed=EXAM_SEED
    )
    np.testing.assert_allclose(imagined.final, near.final, atol=0.1)


LINE = Progress(samples=1, local_samples=0, gradient_steps=0, seconds=0.0, reward=0.0)


class StandStill:
    def predict(self, obs, state=None, episode_start=None, deterministic=True):
        return np.zeros((len(obs), 2), np.float32), state
