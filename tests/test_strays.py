"""What a killed writer left is removed by the next that writes there; a living one's stays."""

import fcntl
import os
from contextlib import contextmanager, suppress

import pytest
from tiny_world import make_world_model

import baselines.files
import fog_agent.files
from wm_gym.programs.train_checks import remove_half_written
from wm_gym.storage.files import temporary_folder
from wm_gym.training.keypoints.stages import RECIPE


@contextmanager
def alive(path):
    """As its writer holds it while it lives."""
    handle = os.open(path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


@pytest.mark.parametrize("package", [fog_agent.files, baselines.files], ids=["fog", "baselines"])
def test_strays_of_an_agent_s_file_go_when_it_is_written(package, tmp_path):
    path = tmp_path / "agent.zip"
    names = (".agent.zip.123456789abc.tmp", ".agent.zip.ba9876543210.tmp", ".other.zip.12.tmp")
    stray, living, other = (tmp_path / name for name in names)
    for each in (stray, living, other):
        each.write_bytes(b"half")
    with alive(living), package.atomic_file(path) as file:
        assert not stray.exists()
        with package.atomic_file(path) as at_once:  # another writer, who leaves this one's alone
            at_once.write(b"first")
        file.write(b"whole")
    assert path.read_bytes() == b"whole"
    assert set(tmp_path.iterdir()) == {path, living, other}


def test_strays_of_a_model_folder_go_when_it_is_saved(tmp_path):
    model, folder = make_world_model(), tmp_path / "model"
    names = ("model.1a.tmp", "model.2b.tmp", "model.3c.old", "model.2b.old", "other.1a.tmp")
    stray, living, old, living_old, other = (tmp_path / f".{name}" for name in names)
    for each in (stray, living, old, living_old, other):
        each.mkdir()
        (each / "config.json").write_text("{")
    with alive(living):
        model.save_pretrained(folder)
    assert set(tmp_path.iterdir()) == {folder, living, living_old, other}


def test_what_a_folder_was_is_kept_until_another_one_is_in_its_place(tmp_path):
    old = tmp_path / ".model.1a.old"
    old.mkdir()
    with suppress(OSError), temporary_folder(tmp_path / "model") as fresh:
        assert fresh.is_dir()
        raise OSError("full")
    assert set(tmp_path.iterdir()) == {old}
    with temporary_folder(tmp_path / "model") as fresh:
        fresh.rename(tmp_path / "model")
    assert set(tmp_path.iterdir()) == {tmp_path / "model"}


def test_strays_of_checkpoints_go_when_training_begins(tmp_path):
    strays = [tmp_path / part / ".checkpoint.pt.12.tmp" for part in RECIPE.learns_from]
    strays.append(tmp_path / ".latents-1.npy.12.tmp")
    for each in strays:
        each.parent.mkdir(exist_ok=True)
        each.write_bytes(b"half")
    with alive(strays[0]):
        remove_half_written(RECIPE, tmp_path)
    assert [each for each in strays if each.exists()] == strays[:1]
