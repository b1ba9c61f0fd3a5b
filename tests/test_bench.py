"""The benchmark measures what it says, and says what it measured."""

import json
import math

import memory_world
import numpy as np
import pytest
import torch
from tiny_world import make_world_model
from torch import nn

from wm_gym.models.starts import Start, Starts
from wm_gym.models.world_model import Card, WorldModel
from wm_gym.programs import bench_dream, bench_gradient, bench_memory, bench_profile
from wm_gym.programs.bench import Bench, bench
from wm_gym.programs.bench_diamond import CONDITION, SIDE, DiamondSized, dreaming, size_of
from wm_gym.programs.bench_dream import Dreams
from wm_gym.programs.bench_gradient import MODES, Cost, Gradients, Group
from wm_gym.programs.bench_memory import Pasts
from wm_gym.programs.bench_timing import Speed, in_turns
from wm_gym.programs.bench_windows import Window, _memory, made, memory_of, saving, step_of
from wm_gym.programs.report import Report, report
from wm_gym.systems import system_named


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "world-model"
    make_world_model().save_pretrained(path)
    return str(path)


@pytest.fixture(autouse=True)
def _threads():
    """Programs may choose how many; other tests do not want to know."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def tiny(folder, **settings):
    chosen = {
        "num_envs": (1, 3),
        "denoising_steps": (1, 2),
        "dtypes": ("float32",),
        "peer_batches": (),
        "compiled_envs": (2,),
    }
    return Dreams(world_model=folder, **(chosen | settings))


TINY_WINDOWS = {"window": 3, "window_envs": (2,), "peer_frames": 1, "obs_envs": 2}


def run(folder, tmp_path, *parts, **settings):
    out = tmp_path / "bench.json"
    dreams, gradients = tiny(folder, **settings), Gradients(**TINY_WINDOWS)
    bench(Bench(parts=parts, seconds=0.01, rounds=2, dreams=dreams, gradients=gradients, out=out))
    return json.loads(out.read_text())


def test_rows_are_measured_in_turn_and_steps_are_counted():
    calls = []
    rows = {name: lambda name=name: calls.append(name) or 7 for name in "ab"}
    speeds = in_turns(rows, seconds=0.005, rounds=2, title="")
    turns = [name for name, before in zip(calls, ["", *calls], strict=False) if name != before]
    assert turns == ["a", "b", "a", "b"]
    for speed in speeds.values():
        assert len(speed.steps_per_second) == 2
        assert speed.median <= 7 / min(speed.times)


def test_the_slowest_in_a_hundred_is_told():
    speed = Speed([10.0, 30.0, 20.0], [0.001] * 98 + [0.5] * 3)
    assert speed.median == 20
    assert speed.figures()["median_ms"] == pytest.approx(1)
    assert speed.figures()["p99_ms"] == pytest.approx(500)


def test_the_peer_has_the_published_size_and_dreams_frames():
    net = DiamondSized()
    assert size_of(net) == pytest.approx(4.4e6, rel=0.02)
    seen = []

    def watched(noisy, sigma, context, action):
        seen.append((noisy.shape, context.shape, sigma[0].item()))
        return torch.zeros_like(noisy)

    step = dreaming(watched, batch=2)
    assert step() == 2
    assert [noisy for noisy, _, _ in seen] == [(2, 3, SIDE, SIDE)] * 3
    assert seen[0][2] == pytest.approx(5)


def test_every_dream_of_the_grid_and_what_it_is_compared_with_is_a_row(folder, tmp_path, capsys):
    rows = run(folder, tmp_path, "dream", peer_batches=(1,))["dream"]
    printed = capsys.readouterr().out
    dreams = [name for name in rows if name.startswith("WM-v0")]
    assert dreams == [f"WM-v0, {n}, {s}, float32" for n in (1, 3) for s in ("1 step", "2 steps")]
    assert {"gym-pusht, pixels", "Real-PushT-v0, 16 in one"} < set(rows)
    assert any(name.startswith("DIAMOND-sized (4.4 M), 1") for name in rows)
    for name, row in rows.items():
        assert name in printed
        assert len(row["steps_per_second"]) == 2
        assert 0 < row["median_ms"] <= row["p99_ms"]


def test_a_compiled_dream_is_measured_beside_the_plain_one(folder, tmp_path, monkeypatch, capsys):
    compiled, called = [], set()

    def no_compiler(function, **_):
        compiled.append(function.__name__)
        return lambda *given: called.add(function.__name__) or function(*given)

    monkeypatch.setattr(bench_dream.torch, "compile", no_compiler)
    rows = run(folder, tmp_path, "compiled")["compiled"]
    assert list(rows) == ["WM-v0, 2, 1 step, float32", "WM-v0, 2, 1 step, float32, compiled"]
    assert compiled == ["step", "decode"]
    assert called == {"step", "decode"}
    assert "compiling took" in capsys.readouterr().out


def test_a_machine_without_a_compiler_says_so_and_measures_on(
    folder, tmp_path, monkeypatch, capsys
):
    def broken(*_, **__):
        raise RuntimeError("no C++ compiler\nat some length")

    monkeypatch.setattr(bench_dream.torch, "compile", lambda function, **_: broken)
    rows = run(folder, tmp_path, "compiled")["compiled"]
    failed = rows["WM-v0, 2, 1 step, float32, compiled"]["failed"]
    assert failed == "RuntimeError: no C++ compiler"
    assert rows["WM-v0, 2, 1 step, float32"]["steps_per_second"]
    assert failed in capsys.readouterr().out


def test_the_parts_of_a_step_are_shares_of_it(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_profile, "NUM_ENVS", 4)
    figures = run(folder, tmp_path, "profile")["profile"]["float32"]
    took = figures["ms"]
    parts = ("noise", "denoiser", "heads", "painter", "uint8", "environment shell")
    assert set(took) == {*parts, "step", "reset"}
    assert all(0 < took[part] < took["step"] for part in parts)
    assert figures["matmul_flops_per_second"] > 1e8
    printed = capsys.readouterr().out
    assert all(part in printed for part in parts)


def test_flops_are_two_for_each_weight_and_place_it_is_used_at(folder):
    model = make_world_model()
    autoencoder, denoiser = model.global_model.autoencoder, model.global_model.denoiser
    flops = model.kind.flops(model.global_model, model.local_model)
    linear = [m for m in denoiser.modules() if isinstance(m, nn.Linear)]
    expected = 2 * sum(m.weight.numel() for m in linear)
    assert flops["denoiser"] == expected
    painter = autoencoder.painter
    cells = math.prod(autoencoder.place.shape[-2:])
    wide = {id(m) for m in [painter.down, *painter.wide.modules()]}
    places = {True: cells // 4, False: cells}
    convs = [m for m in painter.modules() if isinstance(m, nn.Conv2d)]
    expected = 2 * sum(m.weight.numel() * places[id(m) in wide] for m in convs)
    assert flops["painter"] == expected


@pytest.mark.parametrize("settings", [{"seconds": 0}, {"rounds": 0}])
def test_nothing_cannot_be_measured(settings):
    with pytest.raises(ValueError, match="above 0"):
        Bench(**settings)


def test_a_file_that_figures_cannot_go_to_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(ValueError, match="which is a folder, expected a file"):
        Bench(out=tmp_path)


def test_an_empty_grid_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Dreams(num_envs=())


# What memory costs


def test_a_step_is_measured_by_its_past_beside_a_network_that_is_told_as_much(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(bench_memory, "BATCH", 2)
    record = system_named("Dot")
    both = memory_world.fresh(record.frame_shape, prefill=3)
    rng = np.random.default_rng(0)
    starts = [
        Start(
            frames=rng.integers(0, 256, (k, *record.frame_shape), dtype=np.uint8),
            action=np.zeros((k - 1, 3), np.float32),
        )
        for k in (1, 3)
    ]
    WorldModel(*both, card=Card(system="Dot"), starts=Starts.pack(starts)).save_pretrained(
        tmp_path / "model"
    )
    out = tmp_path / "bench.json"
    pasts = Pasts(pasts=(2, 5), memory_envs=(1, 2), told=5, told_batch=1)
    dreams = Dreams(world_model=str(tmp_path / "model"))
    bench(Bench(parts=("memory",), seconds=0.01, rounds=2, dreams=dreams, pasts=pasts, out=out))
    found = json.loads(out.read_text())["memory"]
    assert set(found["dreams"]) == {
        "latent, 1", "pixels, 1", "latent, 2", "pixels, 2", "DIAMOND-sized, told 5 frames, 1",
    }  # fmt: skip
    assert [row["frames"] for row in found["by_past"]] == [2, 5]
    assert all(row["ms"] > 0 < row["peer_ms"] for row in found["by_past"])
    assert len(found["aims"]) == 6
    printed = capsys.readouterr().out
    for aim in found["aims"]:
        assert f"{'met' if aim['met'] else 'missed':<8}{aim['aim']}: {aim['came']}" in printed
    report(Report(world_model=str(tmp_path / "model"), bench=(out,), out=tmp_path / "page.html"))
    assert "by the length of its past" in (tmp_path / "page.html").read_text()


def test_a_frame_more_that_the_network_is_told_is_a_wider_first_layer():
    sizes = [size_of(DiamondSized(context=k, side=96, action=3)) for k in (4, 5, 96)]
    one = 3 * 64 * 9 + 3 * CONDITION  # its filters, and its action
    assert sizes[1] - sizes[0] == one
    assert sizes[2] - sizes[0] == 92 * one


@pytest.mark.parametrize("pasts", [(4,), (32, 4), (4, 4)])
def test_pasts_are_told_least_first(pasts):
    with pytest.raises(ValueError, match="two or more numbers, least first"):
        Pasts(pasts=pasts)


# What gradients cost


def window(world_model, mode, **changes):
    settings = {"num_envs": 2, "length": 3, "denoising_steps": 1, "dtype": "float32"}
    return Window(world_model=world_model, mode=mode, device="cpu", **{**settings, **changes})


@pytest.fixture
def in_this_process(monkeypatch):
    """Memory is weighed here, which is quick and less exact."""
    monkeypatch.setattr(bench_gradient, "memory_of", _memory)


def test_every_window_is_measured_in_each_mode(folder, tmp_path, capsys, in_this_process):
    settings = {"peer_batches": (1,), "denoising_steps": (1,)}
    figures = run(folder, tmp_path, "gradient", **settings)["gradient"]
    printed = capsys.readouterr().out
    peer = "DIAMOND-sized (4.4 M), 1, 1 step, float32"
    assert list(figures["windows"]) == [f"{folder}, 2, 1 step, float32", peer]
    for name, row in figures["windows"].items():
        assert name in printed
        assert row["scale"] == (3 if name == peer else 1)
        assert all(len(row["seconds"][mode]) == 2 and min(row["seconds"][mode]) > 0
                   for mode in MODES)  # fmt: skip
        assert row["kept"]["none"] == 0 < row["kept"]["surrogate"] < row["kept"]["diffusion"]
        assert row["diffusion_kept"] == row["kept"]["diffusion"] / row["kept"]["surrogate"]
    assert f"{peer}: measured on 1 dreams and 1 of 3 steps, and multiplied by 3" in printed
    assert set(figures["obs"]) == {"pixels", "latent"}
    assert len(figures["aims"]) == 5
    for aim in figures["aims"]:
        assert f"{'met' if aim['met'] else 'missed':<8}{aim['aim']}: {aim['came']}" in printed


@pytest.mark.parametrize("steps", [1, 2])
def test_windows_dream_the_same_in_every_mode(folder, steps):
    totals = [made(window(folder, mode, denoising_steps=steps))[0](3) for mode in MODES]
    assert [total.requires_grad for total in totals] == [False, True, True]
    for total in totals[1:]:
        torch.testing.assert_close(total.detach(), totals[0], rtol=0, atol=0)


def test_the_peer_without_a_local_model_dreams_the_same_with_a_gradient_and_without():
    none, through = (made(window(None, mode))[0](2) for mode in ("none", "diffusion"))
    assert through.requires_grad
    torch.testing.assert_close(through.detach(), none, rtol=0, atol=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("peer", [False, True])
def test_a_policy_alone_has_a_gradient_but_without_one(folder, peer, mode):
    chosen = window(None if peer else folder, mode, num_envs=1, length=2)
    forward, (policy, *others) = made(chosen)
    if (total := forward(2)).requires_grad:
        total.backward()
    for parameter in policy.parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == (mode != "none")
    for network in others:
        assert not any(parameter.grad is not None for parameter in network.parameters())


def test_a_step_counts_every_dream_of_every_step(folder):
    assert step_of(window(folder, "surrogate"))() == 6


def test_what_is_kept_is_counted_once_and_weights_never():
    network, x = nn.Linear(5, 5, bias=False), torch.ones(3, 5, requires_grad=True)
    with saving([network]) as kept:
        y = network(x)  # keeps x for the weight, and the weight for x
        assert kept() == 3 * 5 * 4
        z = (y * y).sum() + y.sin().sum()  # all keep y
        assert kept() == 2 * 3 * 5 * 4
        z.backward()
        assert kept() == 0
        y = network(x[:1])  # a part of a storage keeps all of it
        assert kept() == 3 * 5 * 4
        del y
        assert kept() == 0


@pytest.mark.parametrize("mode", ["surrogate", "diffusion"])
def test_what_is_kept_grows_with_steps_and_dreams(folder, mode):
    def kept(**changes):
        return _memory(window(folder, mode, **changes)).kept

    once = kept(length=4) - kept(length=2)
    assert kept(length=6) - kept(length=4) == pytest.approx(once, rel=0.05)
    assert kept(num_envs=4) == pytest.approx(2 * kept(num_envs=2), rel=0.05)


@pytest.mark.slow
def test_a_process_of_its_own_weighs_what_this_one_does(folder):
    came = memory_of(window(folder, "diffusion"))
    assert came.kept == _memory(window(folder, "diffusion")).kept
    assert came.peak > 50 * 2**20


@pytest.mark.parametrize(("num_envs", "length", "expected"), [
    (16, 16, (16, 2, 8.0)), (64, 16, (32, 1, 32.0)), (1, 16, (1, 16, 1.0)), (5, 16, (5, 6, 16 / 6)),
])  # fmt: skip
def test_a_peers_window_is_cut_and_what_it_costs_multiplied(num_envs, length, expected):
    whole = {mode: window(None, mode, num_envs=num_envs, length=length) for mode in MODES}
    cut = bench_gradient._shortened(Group(windows=whole, scale=1.0), 32)
    for short in cut.windows.values():
        assert (short.num_envs, short.length, cut.scale) == expected


def cost(surrogate, diffusion, kept=(0, 1, 30), peak=(90, 2, 30)):
    seconds = {"none": [1.0, 2.0], "surrogate": surrogate, "diffusion": diffusion}
    weighed = [dict(zip(MODES, each, strict=True)) for each in (kept, peak)]
    return Cost(seconds=seconds, kept=weighed[0], peak=weighed[1])


def test_costs_are_extra_over_none_round_by_round():
    came = cost([1.2, 2.4], [2.0, 3.5])
    assert came.extra_seconds("surrogate") == pytest.approx([0.2, 0.4])
    assert came.surrogate_time == pytest.approx([0.2, 0.2])
    assert came.diffusion_time == pytest.approx(1.25 / 0.3)
    assert (came.diffusion_kept, came.diffusion_peak) == (30, 15)
    nothing = cost([1.0, 2.0], [2.0, 3.5])
    assert nothing.diffusion_time == math.inf
    assert nothing.figures()["diffusion_time"] is None


def test_an_aim_is_judged_where_it_is_hardest_to_meet():
    good, bad = cost([1.2, 2.4], [2.0, 3.5]), cost([1.6, 3.2], [1.7, 3.4], kept=(0, 4, 39))
    assert [aim["met"] for aim in bench_gradient._aims({"good": good})] == [True] * 4
    aims = bench_gradient._aims({"good": good, "bad": bad})
    assert [aim["met"] for aim in aims] == [False, False, False, True]
    assert [aim["came"].split(", ")[1] for aim in aims] == ["bad", "bad", "bad", "good"]
    assert aims[0]["came"].startswith("0.60 × (0.60–0.60)")


@pytest.mark.parametrize(("settings", "words"), [
    ({"window": 0}, "window is 0, expected at least 1"),
    ({"peer_frames": 0}, "peer_frames is 0, expected at least 1"),
    ({"obs_envs": -1}, "obs_envs is -1, expected at least 1"),
    ({"window_envs": ()}, "at least one of window_envs"),
    ({"window_dtypes": ()}, "at least one of window_envs and window_dtypes"),
])  # fmt: skip
def test_windows_of_nothing_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Gradients(**settings)
