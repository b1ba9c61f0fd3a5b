"""Programs say where they are: by a bar in a terminal, elsewhere by a line every half minute."""

import ast
import io
import sys
from pathlib import Path

import pytest

import wm_gym.programs
from wm_gym.programs import bench_timing, progress
from wm_gym.programs.progress import Bar, each


class Clock:
    """Told what time it is."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(progress, "clock", clock := Clock())
    return clock


def lines(capsys):
    out, told = capsys.readouterr()
    assert not out, "where results are printed is no place for it"
    return told.splitlines()


def test_without_a_terminal_there_is_a_line_every_half_minute(clock, capsys):
    told = []
    with Bar("heads", 200, unit="step") as bar:
        for second in range(100):
            clock.now = 100 + second
            bar.set_postfix({"loss": 0.5 - second / 1000, "rate": 1e-3})
            bar.update()
            told += [(second, line) for line in lines(capsys)]
    assert told == [
        (30, "heads: 31 of 200 steps (16%), 00:30 gone, about 02:43 left; loss 0.47, rate 0.001"),
        (60, "heads: 61 of 200 steps (30%), 01:00 gone, about 02:16 left; loss 0.44, rate 0.001"),
        (90, "heads: 91 of 200 steps (46%), 01:30 gone, about 01:47 left; loss 0.41, rate 0.001"),
    ]
    assert lines(capsys) == [
        "heads: 100 of 200 steps (50%), 01:39 gone, about 01:39 left; loss 0.401, rate 0.001"
    ]


def test_what_takes_less_than_half_a_minute_says_nothing(clock, capsys):
    for second in each(range(29), "short"):
        clock.now = 100 + second
    assert not lines(capsys)


def test_what_goes_on_where_it_was_counts_only_its_own_speed(clock, capsys):
    with Bar("heads", 1_200, unit=" samples", initial=1_000) as bar:
        clock.now += 50
        bar.update(100)
    assert lines(capsys) == ["heads: 1,100 of 1,200 samples (92%), 00:50 gone, about 00:50 left"]


def test_what_has_no_end_or_no_name_says_how_much_there_is(clock, capsys):
    with Bar() as bar:
        clock.now += 31
        bar.update(1234)
    with Bar("verifying") as bar:
        clock.now += 31
        bar.reach(3, 7)
    found = lines(capsys)
    assert found == ["1,234, 00:31 gone", "verifying: 3 of 7 (43%), 00:31 gone, about 00:41 left"]


def test_where_it_was_stopped_is_told_too(clock, capsys):
    def stopped():
        with Bar("long", 10) as bar:
            clock.now += 31
            bar.update()
            clock.now += 1
            bar.update()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [line.split(" (")[0] for line in lines(capsys)] == ["long: 1 of 10", "long: 2 of 10"]


def test_items_pass_unchanged_and_their_number_is_found(clock, capsys):
    def items():
        for i in each("abc", "letters"):
            clock.now += 31
            yield i

    assert list(items()) == ["a", "b", "c"]
    assert [line.split(" (")[0] for line in lines(capsys)] == [
        f"letters: {n} of 3" for n in (1, 2, 3)
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_in_a_terminal_there_is_a_bar_and_no_line(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    for _ in each(range(3), "letters"):
        clock.now += 31
    assert "letters: 100%|" in terminal.getvalue()
    assert "gone" not in terminal.getvalue()


@pytest.mark.parametrize("terminal", [io.StringIO, Terminal], ids=["file", "terminal"])
def test_what_is_hidden_says_nothing_anywhere(clock, monkeypatch, terminal):
    monkeypatch.setattr(sys, "stderr", file := terminal())
    with Bar("other process", 2, hidden=True) as bar:
        clock.now += 31
        bar.update()
    assert not file.getvalue()


def test_a_benchmark_says_where_it_is(clock, capsys):
    def step():
        clock.now += 40
        return 1

    bench_timing.in_turns({"step": step}, seconds=1e-9, rounds=2, title="stepping")
    assert [line.split(" (")[0] for line in lines(capsys)] == [
        f"stepping: {n} of 2" for n in (1, 2)
    ]


def test_no_program_has_a_bar_of_its_own():
    for path in Path(wm_gym.programs.__file__).parent.glob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert "tqdm" not in modules or path.name == "progress.py", path
