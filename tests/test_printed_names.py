"""Names in data may be anybody's: they are shown, and no terminal obeys them."""

import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from tiny_dataset import SPEC, make_episode

import wm_gym.programs
from wm_gym.data import Dataset, DatasetWriter
from wm_gym.data.card import card_text, dataset_card, draw_card
from wm_gym.programs.failures import said
from wm_gym.storage.text import printable, printable_name

NAME = "\x1b]0;mine\x07\x1b[2J\r\u202egnp\x9b\ud800"
SHOWN = r"\x1b]0;mine\x07\x1b[2J\r\u202egnp\x9b\ud800"


def obeyed(text: str) -> str:
    return "".join(c for c in text if not c.isprintable() and c != "\n")


def test_what_a_terminal_would_obey_is_written_out():
    assert printable(f"a\t{NAME}\nb é 漢 🙂 %") == f"a\t{SHOWN}\nb é 漢 🙂 %"
    assert printable_name(f"a\t{NAME}\nb") == rf"a\t{SHOWN}\nb"


@pytest.fixture
def named(tmp_path):
    """A dataset whose names are all like that."""
    name = NAME[:-1]  # Parquet holds no half characters
    writer = DatasetWriter(tmp_path / "data", replace(SPEC, env_id=f"{name}\n$", robot_type=name))
    writer.add(0, replace(make_episode(0), behaviour=name, task=name, split=name))
    writer.finalize()
    return tmp_path / "data"


def test_a_card_shows_names_and_obeys_none(named):
    dataset = Dataset.open(named)
    text = card_text(dataset_card(dataset))
    assert text.splitlines()[0].startswith(rf"dataset of {SHOWN[:-6]}\n$")
    assert text.count(SHOWN[:-6]) == 2
    assert not obeyed(text)
    draw_card(dataset).savefig(named / "card.png", dpi=20)  # where a warning is an error


def test_a_card_shows_tasks_and_names_of_proprioception_and_obeys_none(tmp_path):
    name = NAME[:-1]
    tasks = (f"{name}a", f"{name}\nb")
    writer = DatasetWriter(tmp_path, replace(SPEC, tasks=tasks, proprio_names=(name,)))
    for number, task in enumerate(tasks):
        episode = make_episode(number)
        felt = np.zeros((len(episode.frames), 1), np.float32)
        writer.add(number, replace(episode, task=task, proprio=felt))
    writer.finalize()
    text = card_text(dataset_card(Dataset.open(tmp_path)))
    assert rf"of task: {SHOWN[:-6]}\nb" in text
    assert f"proprioception: {SHOWN[:-6]}" in text
    assert not obeyed(text)


def test_programs_print_no_controls_whatever_is_named(named, capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which main replaces

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["wm-gym", *map(str, arguments)])
        wm_gym.programs.main()

    odd = named.rename(named.parent / "\x1b[31mdata")
    run("card", odd)
    told = capsys.readouterr()
    assert r"\x1b[31mdata/card.png" in told.out
    assert not obeyed(told.out + told.err)
    with pytest.raises(SystemExit, match=r"\\x1b\[31mnothing/meta"):
        run("card", odd.parent / "\x1b[31mnothing")


def test_errors_and_warnings_are_printed_without_controls(capsys):
    assert said(ValueError(NAME)) == SHOWN
    wm_gym.programs._show_warning(UserWarning(NAME))
    assert capsys.readouterr().err == f"wm-gym: {SHOWN}\n"
