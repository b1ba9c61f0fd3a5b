"""An agent's file: learning goes on by it exactly where it was, and nothing in it is run."""

import copy
import json
import zipfile
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from differentiable_envs import Linear, LinearQuadratic
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from tiny_world import make_world_model

from fog_agent import PRESETS, FoG, saving
from fog_agent.trees import pack, unpack

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
        str(update.diagnostics),
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
    assert policy.learner.state_dict().keys() == agent.learner.state_dict().keys()
    for name, value in policy.learner.state_dict().items():  # critics and scales, too
        assert torch.equal(value, agent.learner.state_dict()[name])
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


def filled(name, value):
    return lambda tensors: tensors[name].fill_(value)


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
        (json_changed("agent.json", lambda v: v["config"].update(actor_hidden=[5])), "16.* 5"),
        (json_changed("agent.json", lambda v: v["config"].update(entropy="no")), "entropy"),
        (json_changed("agent.json", lambda v: v["counters"].update(windows=True)), "windows is T"),
        (json_changed("agent.json", lambda v: v["counters"].update(seconds=-1)), "seconds is -1"),
        (json_changed("agent.json", lambda v: v["counters"].update(num_timesteps=0.5)), r"is 0\.5"),
        (lambda content: content.update({"more.txt": b""}), "expected each at most once of"),
        (json_changed("agent.json", lambda v: v["spaces"]["action"].update(dtype="O")), "object"),
        (tensors_changed("policy.safetensors", widened), r"\(2, 1\)|expected \(torch"),
        (
            tensors_changed("policy.safetensors", filled("actor.network.weight.0", torch.nan)),
            r"actor\.network\.weight\.0 is not finite",
        ),
        (tensors_changed("policy.safetensors", filled("normaliser.variance", -1.0)), "is negative"),
        (
            tensors_changed("policy.safetensors", filled("actor.reach", 100.0)),
            r"actor\.reach is \[100\.0\], the spaces say \[4\.0\]",
        ),
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


def training_changed(change):
    """`change` gets the training's parts, whose tensors are those that are kept."""

    def change_content(content):
        tensors = tensors_of(content["training.safetensors"])
        packed = dict(json.loads(content["training.json"])["dict"])
        env = packed.pop("env")
        training = unpack({"dict": list(packed.items())}, dict(tensors))
        change(training)
        changed = {}
        tree = pack(training, changed)
        rest = {f"env {name}": tensor for name, tensor in tensors.items()}
        tree["dict"].append(["env", moved(env)])
        content["training.json"] = json.dumps(tree).encode()
        content["training.safetensors"] = bytes_of({**changed, **rest})

    return change_content


def moved(packed):
    """The same tree, whose tensors have other names."""
    if isinstance(packed, list):
        return [moved(each) for each in packed]
    if not isinstance(packed, dict):
        return packed
    return {
        kind: f"env {value}" if kind in ("tensor", "array") else
        {name: moved(each) for name, each in value.items()} if kind == "record" else moved(value)
        for kind, value in packed.items()
    }  # fmt: skip


def test_a_training_that_is_only_packed_again_is_learned_on_from(file):
    other = rewritten(file, training_changed(lambda training: None))
    assert weights(FoG.load(other, linear())) == weights(FoG.load(file, linear()))


def old(training):
    training["skipped"] = 3


def test_files_of_before_are_learned_on_from(file):
    """They counted skipped windows of all kinds together, and no windows."""
    other = rewritten(file, training_changed(old))
    other = rewritten(other, json_changed("agent.json", lambda v: v["counters"].pop("windows")))
    other = rewritten(other, json_changed("agent.json", lambda v: v["config"].pop("head_start")))
    agents = [FoG.load(each, linear()).learn(2 * WINDOW) for each in (other, file)]
    assert weights(agents[0]) == weights(agents[1])


def test_files_of_when_dreams_were_kept_otherwise_are_learned_on_from_in_new_episodes(tmp_path):
    file = FoG(dream(), TINY).learn(WINDOW).save(tmp_path / "agent.zip")

    def without_outcome(tree):
        if isinstance(tree, list):
            return [without_outcome(each) for each in tree]
        if not isinstance(tree, dict):
            return tree
        return {
            kind: {n: without_outcome(v) for n, v in value.items() if n != "outcome"}
            if kind == "record" else without_outcome(value)
            for kind, value in tree.items()
        }  # fmt: skip

    def forget(tree):
        assert '"outcome"' in json.dumps(tree)
        changed = without_outcome(tree)
        tree.clear()
        tree.update(changed)

    other = rewritten(file, json_changed("training.json", forget))
    obs = np.ones((3, FoG.load(file).spaces.obs_size))
    np.testing.assert_array_equal(FoG.load(other).predict(obs)[0], FoG.load(file).predict(obs)[0])
    with pytest.warns(UserWarning, match="of another version of the environment .* new episodes"):
        agent = FoG.load(other, dream())
    assert agent.num_timesteps == FoG.load(file).num_timesteps
    agent.learn(WINDOW)
    assert agent.num_timesteps == 2 * FoG.load(file).num_timesteps


def test_policies_of_before_act_and_learn(file, tmp_path):
    """They were without critics."""

    def without_critics(tensors):
        for name in [name for name in tensors if not name.startswith(("actor.", "normaliser."))]:
            del tensors[name]

    alone = FoG.load(file).save(tmp_path / "alone", policy_only=True)
    before = rewritten(alone, tensors_changed("policy.safetensors", without_critics))
    obs = np.ones((3, 2))
    np.testing.assert_array_equal(FoG.load(before).predict(obs)[0], FoG.load(file).predict(obs)[0])
    agent = FoG.load(before, linear())
    assert agent.learner.reward_scale.isnan()
    assert agent.learn(WINDOW).learner.reward_scale > 0


def test_learning_rates_are_those_of_the_settings(file):
    """Whatever the file says of them."""

    def change(training):
        for each in training["optimisers"].values():
            each["param_groups"][0].update(lr=1e9, weight_decay=1e9, maximize=True)

    agents = [FoG.load(each, linear()).learn(WINDOW) for each in (
        rewritten(file, training_changed(change)), file)]  # fmt: skip
    assert weights(agents[0]) == weights(agents[1])


LIES = {
    "a number of rows": (lambda t: t["experience"].__setitem__(0, 10**6), "obs has shape"),
    "a count": (lambda t: t["experience"].__setitem__(0, -1), "seen is -1, expected a number"),
    "rows": (lambda t: t["experience"][1].update(action=torch.zeros(96, 2)), "action has shape"),
    "a row": (lambda t: t["experience"][1]["obs"].fill_(torch.inf), "obs is not finite"),
    "integers": (lambda t: t["experience"][1].update(reward=torch.zeros(96, dtype=torch.int)),
                 "reward is no tensor of floating point numbers"),
    "recent": (lambda t: t.update(recent=[(torch.zeros(5, 3), torch.zeros(5))]), "obs has shape"),
    "too recent": (lambda t: t.update(recent=t["recent"] * 9), "expected a list of a few"),
    "a bias": (lambda t: t.update(value_bias="none"), "value_bias is 'none'"),
    "skipped": (lambda t: t["skipped"].update(actor=0.5), r"skipped is 0\.5"),
    "weights": (lambda t: t["weights"]["critics.network.bias.0"].fill_(torch.nan),
                r"critics\.network\.bias\.0 is not finite"),
    "a scale": (lambda t: t["weights"]["reward_scale"].fill_(torch.inf), "reward_scale is not fin"),
    "moments": (lambda t: t["optimisers"]["actor"]["state"][0]["exp_avg"].fill_(torch.nan),
                "exp_avg is not finite"),
    "whose moments": (lambda t: t["optimisers"]["actor"]["state"].update({99: {}}), "moments of"),
    "an audit": (lambda t: t["audit"].__setitem__(1, torch.zeros(3)), "earned has shape"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_file_s_word_is_not_believed(lie, file):
    change, message = LIES[lie]
    other = rewritten(file, training_changed(change))
    env = Lending()
    before = copy.deepcopy(env.surrogate.state)
    with pytest.raises(ValueError, match=rf"(?s)other\.zip cannot be learned .*{message}"):
        FoG.load(other, env)
    assert env.surrogate.state == before


def test_what_is_compressed_is_not_read(file):
    with zipfile.ZipFile(file) as parts:
        content = {name: parts.read(name) for name in parts.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as parts:
        for name, part in content.items():
            parts.writestr(name, part)
    with pytest.raises(ValueError, match=r"agent\.zip .*compressed, expected it to be stored"):
        FoG.load(file)


def test_parts_that_are_too_large_are_not_read(file, monkeypatch):
    monkeypatch.setitem(saving._MEMBERS, "agent.json", 100)
    with pytest.raises(ValueError, match=r"agent\.json has [\d,]+ bytes, expected at most 100"):
        FoG.load(file)


def test_nothing_is_built_that_the_file_does_not_fill(file):
    """Networks of terabytes, of which it holds a few numbers."""
    wide = {"actor_hidden": [8192] * 16, "critic_hidden": [8192] * 16, "critics": 1000}
    other = rewritten(file, json_changed("agent.json", lambda v: v["config"].update(wide)))
    with pytest.raises(ValueError, match=r"other\.zip .*its policy has"):
        FoG.load(other)


# ------------------------------------------------------------------ the local model


class Lent(Linear):
    """A law that counts how often it was refreshed."""

    def __init__(self):
        law = LinearQuadratic(1).law
        super().__init__(*(m.tolist() for m in (law.a, law.b, law.q, law.r)), torch.float32)
        self.state = {"refreshed": 0}

    def state_dict(self):
        return dict(self.state)

    def load_state_dict(self, state):
        if set(state) != {"refreshed"}:
            raise ValueError("the state is not of a surrogate of these sizes")
        self.state = dict(state)


class Lending(LinearQuadratic):
    def __init__(self, num_envs=ENVS):
        super().__init__(num_envs, horizon=6)
        self.surrogate = Lent()

    def refresh(self, batch):
        self.surrogate.state["refreshed"] += 1
        return super().refresh(batch)


@pytest.fixture
def refreshed(tmp_path):
    return FoG(Lending(), TINY).learn(3 * WINDOW).save(tmp_path / "refreshed.zip")


def test_a_refreshed_local_model_waits_for_an_environment(refreshed, tmp_path):
    """Through saves without one, too."""
    again = FoG.load(FoG.load(refreshed).save(tmp_path / "again"))
    env = Lending(5)
    again.set_env(env)
    assert env.surrogate.state == {"refreshed": 3}
    again.learn(1)
    assert env.surrogate.state == {"refreshed": 4}  # it is handed over once
    assert FoG.load(again.save(tmp_path / "third"), Lending(5)).env.surrogate.state == {
        "refreshed": 4
    }


def test_a_refused_load_leaves_the_environment_s_local_model(refreshed, monkeypatch):
    envs = [Lending(5), Lending()]
    monkeypatch.setattr(envs[1], "set_state", lambda state: 1 / 0)
    for env, message in zip(envs, ("saved with 8 environments, got 5", "ZeroDiv"), strict=True):
        with pytest.raises(ValueError, match=message):
            FoG.load(refreshed, env)
        assert env.surrogate.state == {"refreshed": 0}


def test_an_environment_that_cannot_take_the_local_model_is_refused(refreshed, tmp_path):
    message = "LinearQuadratic has none with load_state_dict; save with policy_only=True"
    with pytest.raises(ValueError, match=rf"refreshed\.zip cannot be learned .*{message}"):
        FoG.load(refreshed, linear())
    agent = FoG.load(refreshed)
    with pytest.raises(ValueError, match=message):
        agent.set_env(linear())
    assert agent.get_env() is None
    FoG.load(agent.save(tmp_path / "alone", policy_only=True), linear()).learn(1)


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
