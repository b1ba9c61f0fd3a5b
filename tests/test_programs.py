"""The command line and the examples, run as a user runs them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import psutil
import pytest
from forked import run_python
from tiny_world import make_world_model

from wm_gym.data import Dataset
from wm_gym.models.world_model import WorldModel
from wm_gym.programs import evaluate, gradients
from wm_gym.programs.evaluate import _folders, open_datasets
from wm_gym.programs.train import _facts
from wm_gym.training.checkpoint import load_checkpoint
from wm_gym.training.keypoints.settings import KeypointTraining as Train

ROOT = Path(__file__).parent.parent


def run(*command, ok=True):
    done = run_python("-W", "ignore", *command)
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done


def wm_gym(*arguments, ok=True):
    return run("-m", "wm_gym.programs", *arguments, ok=ok)


def test_collect_prints_a_card_and_goes_on(tmp_path):
    arguments = (
        "any",
        "--env-id",
        "Real-Dot-v0",
        "--episodes",
        4,
        "--steps",
        10,
        "--out",
        tmp_path,
    )
    first, again = (wm_gym("collect", *arguments) for _ in range(2))
    assert "4 episodes, 44 frames" in first.stdout
    assert first.stdout == again.stdout
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["episodes"] == 4
    verified = wm_gym("card", tmp_path, "--verify")
    assert verified.stdout == "verified: all 4 episodes are intact\n" + first.stdout


def test_help_lists_the_programs_and_is_light():
    assert "import-human" in wm_gym("--help").stdout
    assert "import-human" in wm_gym("colect", ok=False).stderr
    code = "import sys, wm_gym.programs.collect; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True)


def test_hints_name_the_whole_command():
    said = wm_gym("collect", "any", "--env-id", "X", "--out", "x", "--epsodes", "3", ok=False)
    assert "in wm-gym collect any --help" in said.stderr
    assert "wm-gym any" not in said.stderr


def test_without_datasets_it_says_what_to_do_for_any_world():
    usual = ("play=no/such/folder",)
    with pytest.raises(FileNotFoundError, match=r"Give --data name=folder, .* `wm-gym collect`"):
        _folders(usual, usual)


@pytest.mark.parametrize("program", [evaluate, gradients])
def test_a_world_model_of_another_system_is_told_nothing_of_push_t_s_datasets(program, capsys):
    with pytest.raises(ValueError, match=r"dreams of 'Dot', .*Give --data name=folder") as told:
        open_datasets(program.DATA, program.DATA, make_world_model("Dot"))
    assert "make data" not in str(told.value) + capsys.readouterr().out


def test_a_module_in_this_folder_can_be_logged(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\n"
        "from wm_gym.systems import DOT, register_system\n"
        "dot = 'wm_gym.systems.dot:Dot'\n"
        "register_system(replace(DOT, name='Mine', simulators={'Real-Mine-v0': dot}))\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", "from wm_gym.programs import main; main()"]
    arguments = ["collect", "any", "--env-id", "mine:Real-Mine-v0", "--episodes", "2"]
    arguments += ["--steps", "4", "--out", "data", "--env-kwargs", "terminate_on_success", "True"]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "2 episodes, 10 frames" in done.stdout


def test_a_damaged_dataset_is_one_clear_line_and_a_failure(tmp_path):
    wm_gym("collect", "push-t-test", "--episodes", 2, "--steps", 5, "--out", tmp_path)
    data = next(tmp_path.glob("data/*/*.parquet"))
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 0xFF
    data.write_bytes(content)
    failed = wm_gym("card", tmp_path, "--verify", ok=False)
    assert "Traceback" not in failed.stderr
    assert data.name in failed.stderr


def test_a_killed_run_takes_its_workers_along_and_goes_on(tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "killed"
    recipe = ("any", "--env-id", "Real-PushT-v0", "--episodes", "12", "--steps", "60")
    command = [sys.executable, "-W", "ignore", "-m", "wm_gym.programs", "collect", *recipe]
    killed = subprocess.Popen([*command, "--out", out], cwd=ROOT)
    deadline = time.monotonic() + 120
    while not list(out.glob("episodes/episode-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    killed.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    left = len(list(out.glob("episodes/episode-*")))
    assert 1 <= left < 12
    wm_gym("collect", *recipe, "--out", out)
    wm_gym("collect", *recipe, "--out", whole)
    assert Dataset.open(out).hash == Dataset.open(whole).hash


def test_an_interrupt_is_one_line_and_no_traceback(tmp_path):
    command = [sys.executable, "-W", "ignore", "-m", "wm_gym.programs", "collect", "push-t-test"]
    started = subprocess.Popen(
        [*command, "--out", tmp_path / "data"],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while not (tmp_path / "data" / "meta").exists():  # its workers are about to start
        assert started.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    os.killpg(started.pid, signal.SIGINT)
    _, text = started.communicate(timeout=60)
    assert started.returncode == 130
    assert text.strip() == "wm-gym: stopped; the same command goes on where it was"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("card", "/nowhere"), "is not a wm_gym dataset"),
        (("collect", "push-t-test", "--episodes", "0", "--out", "/tmp/x"), "episodes is 0"),
        (("collect", "any", "--env-id", "Nothing-v0", "--out", "/tmp/x"), "Nothing"),
        (("import-human", "/nowhere.zip", "--out", "/tmp/x"), "does not exist"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(arguments, words):
    failed = wm_gym(*arguments, ok=False)
    assert words in failed.stderr
    assert "Traceback" not in failed.stderr


def test_bench_measures_and_writes(tmp_path):
    out = tmp_path / "bench.json"
    done = wm_gym("bench", "--seconds", "0.05", "--rounds", "1", "--episodes", "2", "--out", out)
    figures = json.loads(out.read_text())
    assert figures["systems"]["Real-PushT-v0"]["steps_per_second"]
    assert "fresh windows" in done.stdout


def test_train_goes_on_where_it_was_and_leaves_a_world_model(tmp_path):
    data, out = tmp_path / "data", tmp_path / "run"
    wm_gym("collect", "push-t-test", "--episodes", 4, "--steps", 60, "--out", data)
    command = ("train", "tiny", "--data", data, "--test", data, "--out", out, "--save-minutes", 0)
    wm_gym(*command, "--autoencoder.updates", 3, "--global-model.updates", 2, "--heads.updates", 2)
    assert len(curve_of(out / "autoencoder")) == 3
    kept = (out / "autoencoder" / "checkpoint.pt").read_bytes()
    command = (
        *command, "--autoencoder.updates", 3, "--global-model.updates", 4, "--heads.updates", 3
    )  # fmt: skip
    later = [str(out / part) for part in ("refined", "heads", "local_model")]
    assert "another global_model, content" in (refused := wm_gym(*command, ok=False).stderr)
    assert refused.strip().endswith(f"to train anew, delete {' '.join(later)}")
    for folder in later:
        shutil.rmtree(folder)
    done = wm_gym(*command)
    assert (out / "autoencoder" / "checkpoint.pt").read_bytes() == kept
    for part, steps in (("autoencoder", 3), ("global_model", 4), ("refined", 5), ("heads", 3)):
        assert [line["step"] for line in curve_of(out / part)] == list(range(1, steps + 1))
    assert (out / "autoencoder" / "picture.png").stat().st_size > 1000
    assert (out / "global_model" / "picture.png").stat().st_size > 1000
    assert str(out / "world-model") in done.stdout
    world_model = WorldModel.from_pretrained(out / "world-model")
    assert world_model.card.system == "PushT"
    assert world_model.card.facts["dataset"]["frames"] == 4 * 61
    env = gym.make("WM-PushT-v0", world_model=out / "world-model")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    release_of(out, tmp_path)
    compared = run(
        "examples/action_encodings.py", "--run", out, "--data", data, "--play", data, "--random",
        data, "--seeds", 1, "--updates", 2, "--rollouts", 2, "--out", tmp_path / "encodings",
    )  # fmt: skip
    assert "play, two-hot" in compared.stdout
    (out / "heads" / "checkpoint.pt").write_bytes(b"damaged")
    failed = wm_gym(*command, ok=False)
    assert "checkpoint.pt is damaged" in failed.stderr


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("/usr/bin/wm-gym", "wm-gym"),
        (str(ROOT / "wm_gym/programs/__main__.py"), "wm-gym"),
        ("examples/own_world.py", "python examples/own_world.py"),
        (str(ROOT / "examples/own_world.py"), "python examples/own_world.py"),
        ("/home/somebody/mine.py", "python mine.py"),
    ],
)
def test_a_model_is_of_the_command_that_made_it(monkeypatch, script, name):
    """`wm-gym pendulum` there is not."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [script, "pendulum", "--out", "x"])
    spec = SimpleNamespace(fps=5)
    dataset = SimpleNamespace(hash="c0ffee", num_frames=3, spec=spec)
    config = Train(data=Path("data/x"), out=Path("x"))
    assert _facts(config, dataset)["command"] == f"{name} pendulum --out x"


def release_of(run_folder, tmp_path):
    """The model goes into a folder of its own, with its scores; those of another do not."""
    facts = WorldModel.from_pretrained(run_folder / "world-model").card.facts
    row = {"50": {"median": {"value": 2.5}}}
    found = {
        "settings": {"denoising_steps": None, "dtype": "float32"},
        "model": {"facts": facts},
        "behaviours": {"play": {"figures": {"block_position": row, "ssim": row}}},
        "datasets": {"play": {"hash": "abc"}},
    }
    fidelity, to = tmp_path / "fidelity.json", tmp_path / "released"
    fidelity.write_text(json.dumps(found))
    for _ in range(2):  # an older release is replaced
        wm_gym("release", run_folder, to, "--fidelity", fidelity)
    released = WorldModel.from_pretrained(to)
    assert released.card.facts["scores"] == {"play": {"block_position": {"50": 2.5}}}
    assert "| play | block position error [px] | 2.5 |" in (to / "README.md").read_text()
    assert (to / "curves.png").stat().st_size > 1000
    fidelity.write_text(json.dumps({**found, "model": {"facts": {}}}))
    assert (
        "of another world model"
        in wm_gym("release", run_folder, to, "--fidelity", fidelity, ok=False).stderr
    )


def curve_of(folder):
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]


def test_an_interrupted_training_saves_a_whole_update_and_goes_on(tmp_path):
    data, out = tmp_path / "data", tmp_path / "run"
    wm_gym("collect", "push-t-test", "--episodes", 4, "--steps", 20, "--out", data)
    command = [sys.executable, "-W", "ignore", "-m", "wm_gym.programs", "train", "tiny"]
    command += ["--data", data, "--out", out, "--save-minutes", "0"]
    endless = subprocess.Popen(
        [*map(str, command), "--autoencoder.updates", "1000000"], cwd=ROOT,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (out / "autoencoder" / "curve.jsonl").exists():
        assert endless.poll() is None
        time.sleep(0.1)
    endless.send_signal(signal.SIGINT)
    assert "the same command goes on" in endless.communicate(timeout=60)[1]
    state = load_checkpoint(out / "autoencoder" / "checkpoint.pt")
    assert state["step"] == curve_of(out / "autoencoder")[-1]["step"] > 0


def test_data_that_a_world_model_cannot_learn_from_is_refused_at_once(tmp_path):
    wm_gym("collect", "push-t-test", "--episodes", 2, "--steps", 5, "--out", tmp_path / "short")
    command = ("train", "tiny", "--data", tmp_path / "short", "--out", tmp_path / "run")
    assert "no episode has 12 frames" in wm_gym(*command, ok=False).stderr
    assert not (tmp_path / "run").exists()


def test_train_runs_on_several_processes(tmp_path, monkeypatch):
    """Through `accelerate`, with no code of ours: they end with equal weights, and one saves."""
    data, out = tmp_path / "data", tmp_path / "run"
    wm_gym("collect", "push-t-test", "--episodes", 4, "--steps", 20, "--out", data)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", 2, "-m"]
    settings = ["--autoencoder.updates", 3, "--global-model.updates", 3, "--heads.updates", 3]
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    run(*launch, "wm_gym.programs", "train", "tiny", "--data", data, "--out", out, *settings)
    for part in ("autoencoder", "global_model", "heads"):
        assert [line["step"] for line in curve_of(out / part)] == [3]
    WorldModel.from_pretrained(out / "world-model")


def test_first_look(tmp_path):
    out = ("--out", tmp_path)
    done = run("examples/first_look.py", "--episodes", 4, "--steps", 6, *out)
    assert "4 episodes, 28 frames" in done.stdout
    assert (tmp_path / "card.png").stat().st_size > 10_000
    assert (tmp_path / "push_t.mp4").stat().st_size > 1_000


def test_dream_example(tmp_path):
    done = run("examples/dream.py", "--episodes", 1, "--steps", 8, "--out", tmp_path)
    assert "in the real system" in done.stdout
    assert (tmp_path / "real_above_dream.mp4").stat().st_size > 1_000


@pytest.mark.parametrize("gradient", ["surrogate", "diffusion"])
def test_plan_example(tmp_path, gradient):
    sizes = ("--starts", 3, "--steps", 3, "--iterations", 4, "--gradient", gradient)
    printed = run("examples/plan.py", *sizes, "--out", tmp_path / "plan.png").stdout
    dreamt = [float(line.split()[-7]) for line in printed.splitlines() if "   real" in line]
    drawn, planned = dreamt
    assert planned > drawn
    assert (tmp_path / "plan.png").stat().st_size > 10_000


def test_reward_map(tmp_path):
    run("examples/reward_map.py", "--out", tmp_path / "reward.png")
    assert (tmp_path / "reward.png").stat().st_size > 10_000
