"""The benchmark measures what it says, and says what it measured."""

import json
import math

import pytest
import torch
from tiny_world import make_world_model
from torch import nn

from wm_gym.programs import bench_dream, bench_profile
from wm_gym.programs.bench import Bench, bench
from wm_gym.programs.bench_diamond import SIDE, DiamondSized, dreaming, size_of
from wm_gym.programs.bench_dream import Dreams
from wm_gym.programs.bench_timing import Speed, in_turns


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


def run(folder, tmp_path, *parts, **settings):
    out = tmp_path / "bench.json"
    dreams = tiny(folder, **settings)
    bench(Bench(parts=parts, seconds=0.01, rounds=2, dreams=dreams, out=out))
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
    compiled = []

    def no_compiler(function, **_):
        compiled.append(function.__name__)
        return function

    monkeypatch.setattr(bench_dream.torch, "compile", no_compiler)
    rows = run(folder, tmp_path, "compiled")["compiled"]
    assert list(rows) == ["WM-v0, 2, 1 step, float32", "WM-v0, 2, 1 step, float32, compiled"]
    assert compiled == ["step", "decode"]
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
    linear = [m for m in model.global_model.modules() if isinstance(m, nn.Linear)]
    expected = 2 * sum(m.weight.numel() for m in linear)
    assert bench_profile.denoiser_flops(model) == expected
    painter = model.autoencoder.painter
    cells = math.prod(model.autoencoder.place.shape[-2:])
    wide = {id(m) for m in [painter.down, *painter.wide.modules()]}
    places = {True: cells // 4, False: cells}
    convs = [m for m in painter.modules() if isinstance(m, nn.Conv2d)]
    expected = 2 * sum(m.weight.numel() * places[id(m) in wide] for m in convs)
    assert bench_profile.painter_flops(model) == expected


@pytest.mark.parametrize("settings", [{"seconds": 0}, {"rounds": 0}])
def test_nothing_cannot_be_measured(settings):
    with pytest.raises(ValueError, match="above 0"):
        Bench(**settings)


def test_an_empty_grid_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Dreams(num_envs=())
