"""An agent's file: learning goes on by it exactly where it was, and nothing in it is run."""

import copy
import json
import zipfile
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from differentiable_envs import LinearQuadratic
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from tiny_world import make_world_model

from fog_agent import PRESETS, FoG

TINY = PRESETS["tiny"][1]
ENVS = 8
WINDOW = TINY.window * ENVS


def linear():
    return LinearQuadratic(ENVS, horizon=6)


def dream():
    return gym.make_vec(
        "WM-v0", num_envs=ENVS, world_model=make_world_model(), obs_type="latent", horizon=6,
        autoreset_mode="SameStep", deterministic=True,
    ).unwrapped  # fmt: skip


@pytest.fixture
def file(tmp_path):
    return FoG(linear(), TINY).learn(3 * WINDOW).save(tmp_path / "agent.zip")


def told(update):
    return (
        update.samples, update.local_samples, update.gradient_steps, update.reward,
        str(update.diagnostics), update.pull,
    )  # fmt: skip


def weights(agent):
    """All that there is of it, in bytes."""
    tensors = {f"learner.{name}": each for name, each in agent.learner.state_dict().items()}
    for name, optimiser in agent.learner.optimisers.items():
        for i, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"{name}.{i}.{moment}": each for moment, each in moments.items()}
    rows = agent.experience.rows
    tensors |= {f"experience.{n}": each[: len(agent.experience)] for n, each in rows.items()}
    tensors |= {
        f"recent.{i}": torch.cat([x, y[:, None]], 1) for i, (x, y) in enumerate(agent.recent)
    }
    tensors |= {"rng": agent.learner.rng.get_state(), "obs": agent.env.begin_window()}
    return {name: each.numpy().tobytes() for name, each in tensors.items()}


# ------------------------------------------------------------------ going on


@pytest.mark.parametrize("make", [linear, dream])
@pytest.mark.parametrize("critic_lag", [0.1, None])
def test_learning_goes_on_exactly_where_it_was(make, critic_lag, tmp_path):
    config = replace(TINY, critic_lag=critic_lag, critic_windows=2, decay_samples=12 * WINDOW)
    whole = FoG(make(), config)
    updates = [told(each) for each in whole.updates(7 * WINDOW)]
    first = FoG(make(), config).learn(3 * WINDOW)
    first.predict(np.zeros(first.spaces.obs_size), deterministic=False)
    second = FoG.load(first.save(tmp_path / "agent"), make())
    assert weights(second) == weights(first)
    rest = [told(each) for each in second.updates(4 * WINDOW)]
    assert rest == updates[3:]
    assert weights(second) == weights(whole)
    obs = np.ones(whole.spaces.obs_size)
    explored = [agent.predict(obs, deterministic=False)[0] for agent in (first, FoG.load(
        tmp_path / "agent"))]  # fmt: skip
    np.testing.assert_array_equal(*explored)


def test_saving_changes_nothing(tmp_path):
    agent, other = FoG(linear(), TINY), FoG(linear(), TINY)
    for update, plain in zip(agent.updates(4 * WINDOW), other.updates(4 * WINDOW), strict=True):
        agent.save(tmp_path / "agent.zip")
        assert told(update) == told(plain)


def test_it_goes_on_in_new_episodes_of_other_environments(file):
    agent = FoG.load(file)
    assert agent.get_env() is None
    with pytest.raises(ValueError, match="there is no environment to learn in"):
        agent.learn(1)
    agent.set_env(LinearQuadratic(5))
    before = agent.num_timesteps
    agent.learn(1)
    assert agent.num_timesteps == before + 5 * TINY.window
    assert len(agent.experience) == before + 5 * TINY.window
    with pytest.raises(ValueError, match=r"agent\.zip cannot .* saved with 8 environments, got 5"):
        FoG.load(file, LinearQuadratic(5))


def test_a_policy_alone_is_small_acts_and_learns_on(file, tmp_path):
    agent = FoG.load(file, linear())
    alone = agent.save(tmp_path / "alone", policy_only=True)
    assert alone == tmp_path / "alone.zip"
    assert alone.stat().st_size < file.stat().st_size / 2
    with zipfile.ZipFile(alone) as parts:
        assert parts.namelist() == ["agent.json", "policy.safetensors"]
    policy = FoG.load(alone)
    obs = np.random.default_rng(0).normal(size=(5, 2))
    np.testing.assert_array_equal(policy.predict(obs)[0], agent.predict(obs)[0])
    assert policy.num_timesteps == 3 * WINDOW
    assert policy.config == TINY
    policy.set_env(linear())
    policy.learn(2 * WINDOW)
    assert policy.num_timesteps == 5 * WINDOW
    assert not np.array_equal(policy.predict(obs)[0], agent.predict(obs)[0])


def test_a_name_needs_no_ending_and_a_packaged_one_no_folder(file, monkeypatch, tmp_path):
    assert FoG.load(file.with_suffix("")).num_timesteps == 3 * WINDOW
    monkeypatch.setattr("fog_agent.saving.PACKAGED", tmp_path)
    assert FoG.load("agent").num_timesteps == 3 * WINDOW
    with pytest.raises(FileNotFoundError, match=r"no agent other; packaged ones are \['agent'\]"):
        FoG.load("other")


def test_the_spaces_come_back(tmp_path):
    agent = FoG(LinearQuadratic(2, reach=2.5, centre=1.0, actions=2), TINY)
    loaded = FoG.load(agent.save(tmp_path / "agent"))
    assert loaded.action_space == agent.action_space
    assert loaded.observation_space == agent.observation_space
    with pytest.raises(ValueError, match=r"the environment's actions are in Box.* the agent's in"):
        loaded.set_env(LinearQuadratic(2, reach=1.0, actions=2))
    with pytest.raises(ValueError, match=r"\(2, 1\) observation and action numbers, the agent"):
        loaded.set_env(LinearQuadratic(2))


# ------------------------------------------------------------------ bad files


def test_there_are_no_pickles(file):
    with zipfile.ZipFile(file) as parts:
        content = {name: parts.read(name) for name in parts.namelist()}
    assert sorted(content) == [
        "agent.json", "policy.safetensors", "training.json", "training.safetensors"
    ]  # fmt: skip
    for name, part in content.items():
        json.loads(part) if name.endswith(".json") else tensors_of(part)


def test_damaged_files_are_refused(file, tmp_path):
    whole, bad = file.read_bytes(), tmp_path / "bad.zip"
    middle = len(whole) // 2
    for damaged in (b"", b"zip", whole[:-1], whole[:middle], whole[middle:], bytes(len(whole))):
        bad.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"bad\.zip is not an agent's file, or damaged"):
            FoG.load(bad, linear())
    for at in range(60, len(whole) - 400, len(whole) // 12):  # in the parts' content
        flipped = bytearray(whole)
        flipped[at] ^= 1
        bad.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"bad\.zip"):
            FoG.load(bad, linear())


def rewritten(file, change):
    """Another file, whose parts are changed; what is changed to None is left out."""
    with zipfile.ZipFile(file) as parts:
        content = {name: parts.read(name) for name in parts.namelist()}
    change(content)
    other = file.with_name("other.zip")
    with zipfile.ZipFile(other, "w") as parts:
        for name, part in content.items():
            if part is not None:
                parts.writestr(name, part)
    return other


def json_changed(name, change):
    def change_content(content):
        values = json.loads(content[name])
        change(values)
        content[name] = json.dumps(values).encode()

    return change_content


def tensors_changed(name, change):
    def change_content(content):
        tensors = tensors_of(content[name])
        change(tensors)
        content[name] = bytes_of(tensors)

    return change_content


def widened(tensors):
    """All that have an axis get one more along the last."""
    for name, tensor in tensors.items():
        if tensor.ndim:
            tensors[name] = torch.cat([tensor, tensor[..., :1]], -1).contiguous()


def renamed(tensors):
    tensors["another"] = tensors.pop(next(iter(tensors)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update({"agent.json": None}), "agent.json"),
        (lambda content: content.update({"policy.safetensors": None}), "policy.safetensors"),
        (lambda content: content.update({"training.safetensors": None}), "training.safetensors"),
        (lambda content: content.update({"agent.json": b"{"}), "is not an agent's file"),
        (json_changed("agent.json", lambda v: v.update(format=99)), "format 99, expected 1"),
        (json_changed("agent.json", lambda v: v.pop("spaces")), "is not an agent's file"),
        (json_changed("agent.json", lambda v: v["config"].update(x=1)), r"unknown settings \['x'"),
        (json_changed("agent.json", lambda v: v["config"].update(window=0)), "window is 0"),
        (json_changed("agent.json", lambda v: v["config"].update(actor_hidden=[5])), "size"),
        (json_changed("agent.json", lambda v: v["spaces"]["action"].update(dtype="O")), "object"),
        (tensors_changed("policy.safetensors", widened), "size mismatch"),
        (tensors_changed("policy.safetensors", renamed), "its policy has"),
        (tensors_changed("training.safetensors", widened), "cannot be learned on from"),
        (tensors_changed("training.safetensors", renamed), "cannot be learned on from"),
        (json_changed("training.json", lambda v: v["dict"].pop()), "cannot be learned on from"),
        (json_changed("training.json", lambda v: v.clear()), "cannot be learned on from"),
    ],
)
def test_foreign_files_are_refused(file, change, message):
    other = rewritten(file, change)
    with pytest.raises(ValueError, match=rf"(?s)other\.zip.*{message}"):
        FoG.load(other, linear())


def test_moments_of_another_shape_are_refused(file):
    def change(content):
        tree = json.loads(content["training.json"])
        tensors = tensors_of(content["training.safetensors"])
        optimisers = dict(dict(tree["dict"])["optimisers"]["dict"])
        state = dict(dict(optimisers["actor"]["dict"])["state"]["dict"])
        name = dict(state[0]["dict"])["exp_avg"]["tensor"]
        tensors[name] = tensors[name][..., :-1].contiguous()
        content["training.safetensors"] = bytes_of(tensors)

    with pytest.raises(ValueError, match=r"other\.zip.*exp_avg has shape \(1, 2, 15\), expected"):
        FoG.load(rewritten(file, change), linear())


def test_a_file_of_another_world_is_refused(file, tmp_path):
    with pytest.raises(ValueError, match="observation and action numbers, the agent"):
        FoG.load(file, dream())


@pytest.mark.parametrize("when", ["writestr", "fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_file(when, file, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    agent, before = FoG.load(file, linear()), file.read_bytes()
    agent.learn(WINDOW)
    if when == "writestr":
        written, write = [], zipfile.ZipFile.writestr

        def some(self, name, content):
            written.append(name)
            return full() if len(written) == 3 else write(self, name, content)

        monkeypatch.setattr(zipfile.ZipFile, "writestr", some)
    else:
        monkeypatch.setattr(f"os.{when}", full)
    with pytest.raises(OSError, match="No space left"):
        agent.save(file)
    monkeypatch.undo()
    assert file.read_bytes() == before
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    agent.save(file)
    assert FoG.load(file, linear()).num_timesteps == agent.num_timesteps


def test_loading_leaves_nothing_behind_in_the_file(file):
    """Two agents of one file do not share what they learn."""
    one, other = FoG.load(file, linear()), FoG.load(file, linear())
    before = copy.deepcopy(weights(other))
    one.learn(2 * WINDOW)
    assert weights(other) == before
