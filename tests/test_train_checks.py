"""`wm-gym train` says at once what it cannot go on from, or could not save in the end."""

import json
import re
import shutil
from contextlib import redirect_stderr
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from wm_gym.data import Dataset, DatasetSpec
from wm_gym.data.collect import Recipe, collect_episodes
from wm_gym.models.world_model import WorldModel
from wm_gym.programs import progress
from wm_gym.programs.train import PRESETS, train
from wm_gym.training.checkpoint import load_checkpoint, save_checkpoint
from wm_gym.training.keypoints.settings import check_data
from wm_gym.training.keypoints.sizes import sizes_of

PARTS = ("autoencoder", "global_model", "refined", "heads", "eye", "local_model")


@pytest.fixture(autouse=True, scope="module")
def fresh_accelerator():
    """Accelerate keeps its first precision for the whole process, other tests' included."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def logged(folder, seed):
    recipe = Recipe(
        env_id="strangers:Stranger-v0", episodes=3, steps=40, behaviours=("smooth",), seed=seed
    )
    list(collect_episodes(recipe, folder, workers=1))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return logged(tmp_path_factory.mktemp("data"), seed=0)


@pytest.fixture(scope="module")
def other_data(tmp_path_factory):
    return logged(tmp_path_factory.mktemp("other"), seed=1)


TINY = PRESETS["tiny"][1]
SHORT = {
    name: replace(getattr(TINY, name), updates=2)
    for name in ("autoencoder", "global_model", "refining", "heads", "eye", "local_model")
}


def tiny(data, out, **settings):
    return replace(TINY, **{**SHORT, "data": data, "out": out, "patch": 4, **settings})


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    with (
        pytest.MonkeyPatch.context() as patched,
        (folder.parent / "told.txt").open("w") as told,
        redirect_stderr(told),
    ):
        patched.setattr(progress, "clock", count(0, 31).__next__)
        train(tiny(data, folder))
    return folder


@pytest.fixture
def run_folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_a_finished_run_is_not_gone_on_with_from_another_dataset(data, other_data, run_folder):
    before = {path: path.read_bytes() for path in run_folder.rglob("*.*")}
    with pytest.raises(ValueError, match="learned from another dataset") as caught:
        train(tiny(other_data, run_folder))
    for words in (*(Dataset.open(each).hash[:12] for each in (data, other_data)), "another --out"):
        assert words in str(caught.value)
    assert str(caught.value).endswith("delete " + " ".join(str(run_folder / p) for p in PARTS))
    assert {path: path.read_bytes() for path in run_folder.rglob("*.*")} == before
    train(tiny(data, run_folder))  # its own is fine


@pytest.mark.parametrize("part", PARTS)
def test_every_part_remembers_its_dataset(other_data, run_folder, part):
    for path in run_folder.glob("*/checkpoint.pt"):
        if path.parent.name != part:
            path.unlink()
    with pytest.raises(ValueError, match=rf"{part}/checkpoint\.pt: .* from another dataset"):
        train(tiny(other_data, run_folder))
    assert len(list(run_folder.glob("*/checkpoint.pt"))) == 1, "it trained before it looked"


def test_a_part_is_not_gone_on_with_after_another_one_before_it(data, run_folder):
    retrained = replace(SHORT["autoencoder"], seed=7)
    (run_folder / "autoencoder" / "checkpoint.pt").unlink()
    with pytest.raises(ValueError, match=r"global_model/checkpoint\.pt: .* another autoencoder"):
        train(tiny(data, run_folder, autoencoder=retrained))
    (run_folder / "global_model" / "checkpoint.pt").unlink()
    with pytest.raises(
        ValueError, match=r"refined/checkpoint\.pt: .* another global_model"
    ) as told:
        train(tiny(data, run_folder, autoencoder=retrained))
    assert "eye" not in str(told.value)
    for part in ("refined", "heads"):
        (run_folder / part / "checkpoint.pt").unlink()
    with pytest.raises(ValueError, match=r"eye/checkpoint\.pt: .* another autoencoder"):
        train(tiny(data, run_folder, autoencoder=retrained))
    for part in ("eye", "local_model"):
        (run_folder / part / "checkpoint.pt").unlink()
    train(tiny(data, run_folder, autoencoder=retrained))


def test_a_checkpoint_that_does_not_say_what_it_learned_from_is_refused(data, run_folder):
    path = run_folder / "heads" / "checkpoint.pt"
    state = load_checkpoint(path)
    del state["learned_from"]
    save_checkpoint(path, state)
    with pytest.raises(ValueError, match=r"does not say which dataset it learned from.* delete .*"):
        train(tiny(data, run_folder))


def test_an_autoencoder_that_was_chosen_may_have_learned_from_anything(
    other_data, run_folder, tmp_path
):
    train(tiny(other_data, tmp_path / "new", autoencoder_of=run_folder))
    taken, own = (
        load_checkpoint(folder / "checkpoint.pt")
        for folder in (run_folder / "autoencoder", tmp_path / "new" / "global_model")
    )
    assert own["learned_from"]["dataset"] == Dataset.open(other_data).hash
    assert torch.is_tensor(taken["average"]["background"])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"blocks": 65}, r"could not be saved: global_model\.blocks is 65, expected 1 to 64"),
        ({"width": 5000}, r"could not be saved: global_model\.width is 5000, expected 1 to 4096"),
        ({"memory": 10**9}, r"could not be saved: local_model\.memory is .*, expected 1 to 4096"),
        ({"channels": 12}, r"could not be saved: channels is 12, expected a multiple of 8"),
        ({"logged": 10**8}, r"could not be saved: 100000000 logged windows .* smaller --logged"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_settings_that_cannot_be_saved_are_refused_before_training(data, tmp_path, settings, told):
    with pytest.raises(ValueError, match=told):
        train(tiny(data, tmp_path / "run", **settings))
    assert not (tmp_path / "run").exists(), "it trained before it looked"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"proprio_names": ("x" * 1001,)}, r"not be saved: origin's task is 'xx.*expected less"),
        ({"reward": 2.0**24}, r"not be saved: heads\.reward_mean is 16777216\.0, expected"),
    ],
    ids=["names", "reward"],
)
def test_data_whose_model_cannot_be_saved_is_refused_before_training(
    data, tmp_path, change, told, monkeypatch
):
    dataset = Dataset.open(data)
    if "proprio_names" in change:
        dataset = replace(dataset, spec=replace(dataset.spec, **change))
    else:
        dataset.reward[:] = change["reward"]
    monkeypatch.setattr(Dataset, "open", lambda _: dataset)
    with pytest.raises(ValueError, match=told):
        train(tiny(data, tmp_path / "run"))
    assert not (tmp_path / "run").exists(), "it trained before it looked"


def test_a_world_that_knows_one_task_is_saved_of_a_log_of_several(data, run_folder, monkeypatch):
    """Windows that are kept with it once said tasks that it did not know."""
    dataset = Dataset.open(data)
    task = np.repeat(np.arange(len(dataset)) % 2, dataset.index["length"])
    both = replace(dataset, tasks=("push", "pull"), _task_index=task)
    monkeypatch.setattr(Dataset, "open", lambda _: both)
    shutil.rmtree(run_folder / "world-model")
    train(tiny(data, run_folder))
    assert WorldModel.from_pretrained(run_folder / "world-model").logged.task is None


def test_a_dataset_whose_system_is_no_name_is_refused(data, unchecked_types):
    content = {**Dataset.open(data).spec.to_json(), "robot_type": ["arm"]}
    with pytest.raises(ValueError, match=r"robot_type is \['arm'\], expected a text"):
        DatasetSpec.from_json(content)


def test_what_is_checked_before_training_is_what_is_trained(data, trained):
    dataset, config = Dataset.open(data), tiny(data, trained)
    saved = json.loads((trained / "world-model" / "config.json").read_text())["parts"]
    for name, sizes in sizes_of(config, dataset).items():
        for key, size in sizes.items():
            found = saved[name]["config"][key]
            assert found == (list(size) if isinstance(size, tuple) else size)


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        ((66, 96, 3), r"divisor of the frame's 66×96: give --patch 6 \(of \[1, 2, 3, 6\], which "
                      r"fit\), or log or import pictures of another size, such as 64×96"),
        ((67, 97, 3), r"divisor of the frame's 67×97: log or import .*, such as 64×96"),
    ],
    ids=["66×96", "67×97"],
)  # fmt: skip
def test_a_patch_that_does_not_fit_says_which_patches_and_pictures_do(data, picture, told):
    dataset = Dataset.open(data)
    dataset = replace(dataset, spec=replace(dataset.spec, picture=picture))
    with pytest.raises(ValueError, match=told):
        check_data(tiny(data, data, patch=8), dataset)
    if picture == (66, 96, 3):
        check_data(tiny(data, data, patch=6), dataset)


def test_training_says_where_it_is_without_a_terminal(trained):
    told = (trained.parent / "told.txt").read_text()
    assert re.search(r"latents: \d+ of \d+ frames \(\d+%\), \S+ gone", told)
    for part in PARTS:
        assert f"{part}: 1 of 2 steps (50%), 00:31 gone, about 00:31 left" in told
