"""Kinds other than the first pass everything that is not of one kind: `token_kind`, which is as
small as can be, and `memory`."""

import copy
import json
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import memory_world
import numpy as np
import pytest
import token_kind
import torch
from accelerate.state import AcceleratorState
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO
from token_kind import GRID, TokenTraining
from two_tasks import TWO_RINGS

from baselines import Sb3VecEnv
from fog_agent import FoG
from fog_agent.config import PRESETS as FOG
from wm_gym.conformance import check_vector_env
from wm_gym.data import Dataset
from wm_gym.data.collect import Recipe, collect_episodes
from wm_gym.models.kinds import kind_named, kinds
from wm_gym.models.starts import Start, Starts
from wm_gym.models.world_model import Card, WorldModel
from wm_gym.programs.evaluate import Evaluate, evaluate
from wm_gym.programs.release import release
from wm_gym.programs.report import Report, report
from wm_gym.programs.train import named, train
from wm_gym.training.recipes import recipes
from wm_gym.wrappers import LatentObservation

TINY = replace(FOG["tiny"][1], look_aheads=1)
MODES = ["NextStep", "SameStep", "Disabled"]
OBS_TYPES = ["pixels", "latent", "dict"]
GRADIENTS = ["surrogate", "none", "diffusion"]


MAKE = {
    "tokens": lambda: token_kind.fresh(TWO_RINGS.frame_shape, 3, 3, True),
    "memory": lambda: memory_world.fresh(
        TWO_RINGS.frame_shape, action_size=3, prefill=3, proprio_size=2, tasks=2
    ),
}


@pytest.fixture(scope="module", params=["tokens", "memory"])
def model(request):
    return made(request.param)


@pytest.fixture(scope="module")
def tokens():
    return made("tokens")


def made(kind):
    """Untrained; some starts of one frame, some of more, of both tasks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        both = MAKE[kind]()
    rng, starts = np.random.default_rng(0), []
    for number in range(6):
        env = gym.make("Real-TwoRings-v0", obs_type="dict", task=number % 2)
        seen = [env.reset(seed=number)[0]]
        action = rng.uniform(-1, 1, (number // 2, 3)).astype(np.float32)
        seen += [env.step(one)[0] for one in action]
        frames, felt = (np.stack([each[name] for each in seen]) for name in ("pixels", "agent_pos"))
        starts.append(Start(frames=frames, action=action, felt=felt, task=number % 2))
    card = Card(system="TwoRings", facts={"made": "at random"})
    model = WorldModel(*both, card=card, starts=Starts.pack(starts)).eval().requires_grad_(False)
    if kind == "memory":  # whose surrogate rehearses
        model.logged = memory_world.logged_of(model.local_model)
    return model


def single(model, **kwargs):
    kwargs = {"deterministic": True, "horizon": 6, **kwargs}
    return gym.make("WM-v0", world_model=model, disable_env_checker=True, **kwargs)


def vector(model, n=3, **kwargs):
    kwargs = {"deterministic": True, "horizon": 6, **kwargs}
    return gym.make_vec("WM-v0", num_envs=n, world_model=model, **kwargs).unwrapped


def acts(env, steps, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (steps, *env.action_space.shape)).astype(np.float32)


def same(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            same(one[name], other[name])
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for each in zip(one, other, strict=True):
            same(*each)
    else:
        np.testing.assert_array_equal(one, other)


# Kinds


def test_it_is_registered_beside_the_first():
    assert {"keypoints", "tokens"} <= set(kinds())
    with pytest.raises(ValueError, match="kind 'voxels' is not registered here, expected one of"):
        kind_named("voxels")


def test_a_folder_is_saved_and_loaded_with_its_kind(tokens, tmp_path):
    tokens.save_pretrained(tmp_path / "it")
    config = json.loads((tmp_path / "it" / "config.json").read_bytes())
    assert config["kind"] == "tokens"
    assert {name: part["class"] for name, part in config["parts"].items()} == {
        "tokenizer": "Tokenizer", "dynamics": "TokenDynamics", "follower": "Follower",
    }  # fmt: skip
    again = WorldModel.from_pretrained(tmp_path / "it")
    assert again.kind.name == "tokens"
    assert again.spec == tokens.spec
    one, other = single(tokens, obs_type="dict"), single(again, obs_type="dict")
    same(one.reset(seed=0), other.reset(seed=0))
    for action in acts(one, 4):
        same(one.step(action), other.step(action))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "voxels"}, "kind 'voxels' is not registered"),
        ({"kind": 3}, "kind is 3, expected a str"),
        ({"kind": "keypoints"}, "parts are .*expected .*autoencoder"),
    ],
)
def test_a_folder_of_another_kind_is_refused(tokens, tmp_path, change, reason):
    tokens.save_pretrained(tmp_path / "it")
    file = tmp_path / "it" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **change}))
    with pytest.raises(ValueError, match=reason):
        WorldModel.from_pretrained(tmp_path / "it")


def test_starts_that_are_not_of_the_model_are_refused(tokens):
    with pytest.raises(ValueError, match=r"proprioception is of shape .* expected 2"):
        Starts.pack([Start(frames=s.frames, action=s.action) for s in tokens.starts]).check(
            tokens.spec
        )
    with pytest.raises(ValueError, match=r"tasks are .* expected one a window"):
        Starts.pack(
            [Start(frames=s.frames, action=s.action, felt=s.felt, task=5) for s in tokens.starts]
        ).check(tokens.spec)


# The contract


@pytest.mark.filterwarnings("ignore:.*infinity. This is probably too")
@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_gymnasium_accepts_single_ones(model, obs_type):
    env = single(model, obs_type=obs_type).unwrapped
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("obs_type", ["pixels", "latent"])
def test_vectors_equal_single_ones_bit_for_bit(model, obs_type, mode, unchecked_types):
    settings = {"obs_type": obs_type, "ends": False}
    check_vector_env(
        lambda n, mode: vector(model, n, autoreset_mode=mode, **settings),
        make_single=lambda: single(model, **settings), modes=[gym.vector.AutoresetMode(mode)],
        num_envs=3,
    )  # fmt: skip


def test_a_dictionary_of_many_is_that_of_each(model):
    many, alone = (
        vector(model, obs_type="dict", ends=False),
        single(model, obs_type="dict", ends=False),
    )
    obs, _ = many.reset(seed=4)
    actions = acts(many, 5)
    returned = [obs, *(many.step(each)[0] for each in actions)]
    first = alone.reset(seed=5)[0]
    for t, obs in enumerate([first, *(alone.step(each[1])[0] for each in actions)]):
        same({name: values[1] for name, values in returned[t].items()}, obs)
    assert many.observation_space.contains(returned[0])
    assert set(first) == {"pixels", "agent_pos"}


@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_a_final_observation_is_that_before_the_reset(model, obs_type):
    env = vector(model, obs_type=obs_type, autoreset_mode="SameStep", horizon=2, ends=False)
    other = vector(model, obs_type=obs_type, autoreset_mode="Disabled", horizon=2, ends=False)
    env.reset(seed=0)
    other.reset(seed=0)
    for action in acts(env, 2):
        _, _, _, truncated, info = env.step(action)
        expected = other.step(action)[0]
    assert truncated.all()
    for i, final in enumerate(info["final_obs"]):
        came = {n: v[i] for n, v in expected.items()} if obs_type == "dict" else expected[i]
        same(final, came)


@pytest.mark.parametrize("obs_type", OBS_TYPES)
def test_a_snapshot_goes_on_as_it_did(model, obs_type):
    env = vector(model, obs_type=obs_type)
    env.reset(seed=0)
    actions = acts(env, 6)
    env.step(actions[0])
    kept = pickle.loads(pickle.dumps(env.get_state()))
    expected = [env.step(action) for action in actions[1:]]
    other = vector(model, obs_type=obs_type)
    other.reset(seed=9)
    other.set_state(kept)
    for action, came in zip(actions[1:], expected, strict=True):
        same(other.step(action)[:4], came[:4])


def test_a_snapshot_of_the_other_kind_changes_nothing(model):
    env, pushing = single(model), gym.make("WM-PushT-v0", deterministic=True)
    env.reset(seed=0)
    pushing.reset(seed=0)
    kept = env.unwrapped.get_state()
    with pytest.raises(ValueError, match="the snapshot is of TwoRings"):
        pushing.unwrapped.set_state(kept)
    foreign = pickle.loads(pickle.dumps(kept))
    object.__setattr__(foreign, "world", pushing.unwrapped.get_state().world)
    with pytest.raises(ValueError, match="the snapshot's state is not as this world model's"):
        env.unwrapped.set_state(foreign)
    action = acts(env, 1)[0]
    came = env.step(action)
    env.unwrapped.set_state(kept)
    same(env.step(action)[0], came[0])


def test_some_are_reset_and_others_go_on(model):
    env, other = vector(model, autoreset_mode="Disabled"), vector(model, autoreset_mode="Disabled")
    env.reset(seed=0)
    other.reset(seed=0)
    actions = acts(env, 2)
    env.step(actions[0])
    other.step(actions[0])
    env.reset(options={"reset_mask": np.array([True, False, False])})
    came, expected = env.step(actions[1])[0], other.step(actions[1])[0]
    np.testing.assert_array_equal(came[1:], expected[1:])
    assert (came[0] != expected[0]).any()


# Memory and prefill


def test_all_given_frames_are_looked_at_and_none_is_made_up(tokens):
    """A memory remembers what led to equal last frames."""
    env = single(tokens)
    start = tokens.starts[5]
    assert len(start.frames) == 3
    given = {"frames": start.frames, "actions": start.action, "agent_pos": start.felt}
    last = {"frames": start.frames[-1:], "agent_pos": start.felt[-1:]}
    states = [
        (env.reset(seed=0, options=options), env.unwrapped.get_state().world.state)[1]
        for options in (given, last)
    ]
    memory = [next(leaf for leaf in state if leaf.shape == (16,)) for state in states]
    assert (memory[1] == 0).all()
    assert (memory[0] != 0).any()


def test_proprioception_beside_given_frames_may_be_left_out_but_not_be_another(model):
    env = single(model, obs_type="dict")
    frames = model.starts[0].frames[:1]
    told = env.reset(options={"frames": frames})[0]["agent_pos"]
    np.testing.assert_allclose(told, model.starts.proprio.mean(0), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"options\['agent_pos'\] is .* expected finite"):
        env.reset(options={"frames": frames, "agent_pos": np.zeros((1, 3))})


# Tasks


def test_a_reset_asks_for_a_task_by_number_name_or_sentence(model):
    env = single(model)
    for asked, expected in {1: 1, "far": 0, "Move the disc into the corner.": 1}.items():
        _, info = env.reset(seed=0, options={"task": asked})
        assert info["task"] == expected
        assert env.unwrapped.task_description == TWO_RINGS.tasks[expected].description
        assert env.step(acts(env, 1)[0])[4]["task"] == expected
    with pytest.raises(ValueError, match="task is 'near', expected 0 to 1 or one of"):
        env.reset(options={"task": "near"})
    assert {single(model, task="corner").reset(seed=s)[1]["task"] for s in range(5)} == {1}
    assert {env.reset(seed=s)[1]["task"] for s in range(8)} == {0, 1}


@pytest.mark.parametrize("env_id", ["WM-v0", "Real-TwoRings-v0"])
def test_each_environment_can_have_its_own_task(model, env_id):
    settings = {"world_model": model} if env_id == "WM-v0" else {}
    env = gym.make_vec(env_id, num_envs=3, **settings).unwrapped
    _, info = env.reset(seed=0, options={"task": [1, 0, "corner"]})
    assert info["task"].tolist() == [1, 0, 1]
    assert env.call("task_description") == tuple(TWO_RINGS.tasks[i].description for i in (1, 0, 1))
    with pytest.raises(ValueError, match=r"options\['task'\] has 2 entries"):
        env.reset(options={"task": [0, 1]})


def test_frames_can_be_given_for_a_task_that_has_no_start(tokens):
    far = WorldModel(
        tokens.global_model, tokens.local_model, card=tokens.card,
        starts=Starts.pack([start for start in tokens.starts if start.task == 0]),
    )  # fmt: skip
    env = single(far)
    with pytest.raises(ValueError, match=r"no starts of task 1 \(corner\)"):
        env.reset(options={"task": 1})
    _, info = env.reset(options={"task": 1, "frames": tokens.starts[0].frames[:1]})
    assert info["task"] == 1


def test_a_threshold_that_is_asked_for_is_what_success_is(model):
    env = vector(model, 8, ends=False, success_threshold=0.0, autoreset_mode="Disabled")
    env.reset(seed=0)
    assert env.step(acts(env, 1)[0])[4]["is_success"].all()


def test_pictures_alone_are_not_wrapped_for_a_model_that_asks_for_more(tokens):
    with pytest.raises(ValueError, match="make the environment itself with obs_type='latent'"):
        LatentObservation(gym.make("Real-TwoRings-v0"), tokens)


def test_a_model_of_other_tasks_than_the_system_is_refused(model):
    three = copy.deepcopy(model)
    three.global_model.spec = replace(model.spec, tasks=3)
    with pytest.raises(ValueError, match="knows 3 tasks, expected 1 or the 2 of system"):
        single(three)


def test_a_snapshot_is_not_shared(model):
    env = single(model)
    env.reset(seed=0)
    kept = env.unwrapped.get_state()
    env.unwrapped.set_state(kept)
    kept.world.frame[:] = 7
    kept.world.state[0][:] = 7
    assert (env.unwrapped.get_state().world.frame != 7).any()
    assert (env.unwrapped.get_state().world.state[0] != 7).any()


def test_a_step_whose_gradient_fails_was_taken(model, monkeypatch):
    """The clock of the dream and that of the episode are one."""
    env = vector(model, obs_type="latent", ends=False)
    env.reset(seed=0)
    env.begin_window()
    monkeypatch.setattr(env.surrogate, "predict", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        env.step_with_grad(torch.zeros(3, 3))
    state = env.get_state()[0]
    assert state.elapsed == state.world.step == 1


def test_the_same_dream_is_worth_something_else_in_the_other_task(model):
    env = vector(model, 2, ends=False)
    start = model.starts[4]
    given = {"frames": start.frames, "actions": start.action, "agent_pos": start.felt}
    env.reset(seed=0, options={**given, "task": [0, 1]})
    _, reward, _, _, info = env.step(np.zeros((2, 3), np.float32))
    assert reward[0] != reward[1]
    assert info["progress"][0] != info["progress"][1]


def test_success_and_ends_are_what_the_model_says(tokens):
    env = vector(tokens, 8, horizon=1000, autoreset_mode="Disabled", ends=False)
    env.reset(seed=0)
    info = env.step(acts(env, 1)[0])[4]
    state = env.dreams.state
    said = tokens.global_model.dynamics.said(state["memory"][0], state["task"])
    np.testing.assert_array_equal(info["is_success"], (said[2] > 0.2).numpy())
    assert env.can_terminate is False
    assert vector(tokens).can_terminate is True


def test_a_real_system_with_two_tasks_judges_each_by_its_own():
    env = gym.make("Real-TwoRings-v0")
    at = np.array([12.0, 30.0, 6.0])  # where the second task is done
    for task, solved in {0: False, 1: True}.items():
        env.reset(seed=0, options={"state": at, "task": task})
        _, reward, _, _, info = env.step(np.zeros(3, np.float32))
        assert info["is_success"] is solved
        assert (reward > -0.01) == solved
        kept = env.unwrapped.get_state()
        env.reset(seed=1, options={"task": 1 - task})
        env.unwrapped.set_state(kept)
        assert env.step(np.zeros(3, np.float32))[4]["task"] == task


# Gradients


@pytest.mark.parametrize("obs_type", ["pixels", "latent"])
@pytest.mark.parametrize("how", GRADIENTS)
def test_step_and_step_with_grad_are_the_same_step(model, obs_type, how):
    one, other = (vector(model, obs_type=obs_type, autoreset_mode="SameStep") for _ in range(2))
    one.reset(seed=0)
    other.reset(seed=0)
    other.begin_window(gradient=how)
    actions = acts(one, 8)
    given = torch.from_numpy(actions).requires_grad_()
    total = torch.zeros(())
    for t, action in enumerate(actions):
        obs, reward, terminated, truncated, _ = one.step(action)
        came = other.step_with_grad(given[t])
        np.testing.assert_array_equal(came.obs.detach().numpy(), obs.astype(np.float32))
        np.testing.assert_array_equal(came.reward.detach().numpy(), reward.astype(np.float32))
        np.testing.assert_array_equal(came.terminated.numpy(), terminated)
        np.testing.assert_array_equal(came.truncated.numpy(), truncated)
        total = total + came.reward.sum()
    if how == "none":
        assert not total.requires_grad
        return
    (found,) = torch.autograd.grad(total, given)
    assert torch.isfinite(found).all()
    assert (found != 0).any(dim=(1, 2)).all()


def test_gradients_are_those_of_the_surrogate_at_the_dreams_own_features(model):
    env = vector(model, obs_type="latent", ends=False)
    env.reset(seed=0)
    obs = env.begin_window()
    action = torch.from_numpy(acts(env, 1)[0]).requires_grad_()
    out = env.step_with_grad(action)
    (found,) = torch.autograd.grad(out.reward.sum(), action)
    free = action.detach().clone().requires_grad_()
    predicted = env.surrogate.predict(obs, free)
    after = out.obs.detach() + (predicted - predicted.detach())
    (expected,) = torch.autograd.grad(env.surrogate.reward_of(after, free).sum(), free)
    torch.testing.assert_close(found, expected)


def test_dictionaries_have_no_gradients_and_say_so(model):
    env = vector(model, obs_type="dict")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="dictionaries have no gradients"):
        env.begin_window()


def test_refreshing_changes_gradients_and_no_value(model):
    env = vector(model, obs_type="latent")
    obs, _ = env.reset(seed=0)
    action = acts(env, 1)[0]
    kept = env.get_state()
    next_obs, reward, *_ = env.step(action)
    batch = {"obs": obs, "action": action, "reward": reward, "next_obs": next_obs}
    before = env.surrogate.predict(torch.from_numpy(obs), torch.from_numpy(action))
    env.refresh(batch)
    after = env.surrogate.predict(torch.from_numpy(obs), torch.from_numpy(action))
    assert (before != after).any()
    env.set_state(kept)
    same(env.step(action)[0], next_obs)


# All the way: log, train, judge, show, learn


@pytest.fixture(scope="module", params=["tokens", "memory"])
def trained(tmp_path_factory, request):
    """The folder of a run, and of the data it learned from."""
    home = tmp_path_factory.mktemp(request.param)
    recipe = Recipe(env_id="two_tasks:Real-TwoRings-v0", episodes=6, steps=12, proprioception=True)
    assert len(list(collect_episodes(recipe, home / "data", workers=1))) == 6
    alone(config_of(home))
    return home


def config_of(home):
    """Its name is in the folder's."""
    kind = "memory" if home.name.startswith("memory") else "tokens"
    config = named(*recipes())[f"{kind}-tiny"][1]
    settings = {"data": home / "data", "out": home / "run", "starts": 6, "logged": 3}
    if kind == "memory":
        return replace(config, **settings, start_windows=3, prefill=3)
    assert isinstance(config, TokenTraining)
    return TokenTraining(**settings)


def alone(config):
    """Trained as a program does it, whatever else was trained in this process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    train(config)
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_trained_one_knows_tasks_and_proprioception(trained):
    dataset = Dataset.open(trained / "data")
    assert len(dataset.tasks) == 2
    model = WorldModel.from_pretrained(trained / "run" / "world-model")
    assert model.kind.name in MAKE
    assert (model.spec.tasks, model.spec.proprio_size) == (2, 2)
    assert {start.task for start in model.starts} == {0, 1}
    assert model.logged.task is not None
    env = vector(model, obs_type="dict")
    obs, _ = env.reset(seed=0)
    assert obs["agent_pos"].shape == (3, 2)


def test_dreams_begin_from_logged_frames_with_what_was_felt_and_asked(trained):
    model = WorldModel.from_pretrained(trained / "run" / "world-model")
    dataset = Dataset.open(trained / "data")
    env = single(model, obs_type="dict", starts=trained / "data")
    for task in (0, 1):
        for seed in range(3):
            obs, info = env.reset(seed=seed, options={"task": task})
            rows = np.flatnonzero((dataset.proprio == obs["agent_pos"]).all(1))
            assert task in dataset.task_index[rows]
            assert info["task"] == task


def test_training_goes_on_where_it_was(trained, capsys):
    """Everything is there: nothing is trained, and the same is written."""
    file = trained / "run" / "world-model" / "dynamics.safetensors"
    before = file.read_bytes()
    alone(config_of(trained))
    assert file.read_bytes() == before
    assert "world model:" in capsys.readouterr().out


def test_it_is_judged_released_and_shown(trained, monkeypatch):
    monkeypatch.chdir(trained)
    folder = trained / "run" / "world-model"
    with pytest.warns(UserWarning, match="is what the world model learned from"):
        evaluate(
            Evaluate(
                world_model=str(folder),
                data=("test=data",),
                out=Path("fidelity"),
                rollouts=4,
                transitions=8,
                filmed=1,
            )
        )
    figures = json.loads(Path("fidelity/fidelity.json").read_bytes())["behaviours"]["test"]
    assert {"psnr", "reward", "coverage", "uncertainty"} <= set(figures["figures"])
    release(Path("run"), Path("released"), fidelity=Path("fidelity/fidelity.json"))
    card = Path("released/README.md").read_text()
    assert WorldModel.from_pretrained("released").kind.summary in card
    report(Report(world_model="released", out=Path("report.html")))
    page = Path("report.html").read_text()
    assert "tokenizer" in page
    assert "keypoint" not in page


def test_fog_learns_in_it_and_is_saved(trained, tmp_path):
    model = WorldModel.from_pretrained(trained / "run" / "world-model")
    env = vector(model, 4, obs_type="latent", autoreset_mode="SameStep", ends=False)
    agent = FoG(env, TINY)
    agent.learn(48)
    agent.save(tmp_path / "agent.zip")
    again = FoG.load(tmp_path / "agent.zip", env)
    obs, _ = env.reset(seed=0)
    np.testing.assert_array_equal(agent.predict(obs)[0], again.predict(obs)[0])


def test_stable_baselines_learns_from_pictures_and_proprioception(model):
    envs = Sb3VecEnv(vector(model, 2, obs_type="dict", autoreset_mode="SameStep", ends=False))
    nothing = {"net_arch": [8], "features_extractor_kwargs": {"cnn_output_dim": 8}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would like smaller pictures on a CPU
        agent = PPO("MultiInputPolicy", envs, n_steps=4, batch_size=8, policy_kwargs=nothing)
    agent.learn(16)
    assert agent.num_timesteps == 16


def test_the_real_system_is_seen_as_the_dream_is(trained):
    """Through the same filter, by picture, proprioception and task."""
    model = WorldModel.from_pretrained(trained / "run" / "world-model")
    real = gym.make("Real-TwoRings-v0", obs_type="latent", world_model=model, deterministic=True)
    shown = gym.make("Real-TwoRings-v0", obs_type="dict")
    obs, info = real.reset(seed=3)
    seen, _ = shown.reset(seed=3)
    local = model.local_model
    told = torch.from_numpy(seen["pixels"])[None], torch.from_numpy(seen["agent_pos"])[None]
    features = local.begin(local.embed(*told), torch.tensor([info["task"]]))
    np.testing.assert_allclose(obs, features[0].detach(), atol=1e-5)
    assert obs.shape == (local.feature_size,)


def test_noise_has_the_shape_that_the_model_asks_for(tokens):
    assert tokens.spec.noise_shape == (GRID, GRID, 8)
    env = vector(tokens)
    env.reset(seed=0)
    one = env.step(acts(env, 1)[0])[0]
    env.reset(seed=7)
    assert (env.step(acts(env, 1)[0])[0] != one).any()
