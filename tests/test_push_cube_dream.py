"""`WM-PushCube-v0`: what the contract says of it, by a tiny model and, once that is there, by the
packaged one."""

import sys
import warnings

import gymnasium as gym
import memory_world
import numpy as np
import pygame
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

from wm_gym.conformance import check_vector_env
from wm_gym.conformance.compare import difference
from wm_gym.evaluation.judge import examine, first_frames
from wm_gym.models import folder as model_folder
from wm_gym.models.world_model import WorldModel
from wm_gym.programs.play import Player, opened
from wm_gym.programs.play_session import Session
from wm_gym.programs.report import Report, report
from wm_gym.systems import PUSH_CUBE
from wm_gym.wrappers import LatentObservation

ID, NAME = "WM-PushCube-v0", "push-cube"
FELT = PUSH_CUBE.proprio_size


@pytest.fixture(
    scope="module", autouse=True, params=["tiny", pytest.param(NAME, marks=pytest.mark.packaged)]
)
def packaged(request, tmp_path_factory):
    """Which model the name stands for."""
    if request.param == NAME:
        yield model_folder.PACKAGED / NAME
        return
    home = tmp_path_factory.mktemp("packaged")
    memory_world.push_cube_model().save_pretrained(home / NAME)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_folder, "PACKAGED", home)
        yield home / NAME


@pytest.fixture(scope="module")
def model(packaged):
    """Once, for dozens of environments."""
    return WorldModel.from_pretrained(NAME)


def actions(steps, *shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, *shape)).astype(np.float32)


def test_it_is_made_by_its_name_alone():
    env = gym.make(ID)
    assert env.unwrapped._episodes.rules.horizon == 200
    assert env.observation_space == PUSH_CUBE.observation_space
    assert env.action_space == PUSH_CUBE.action_space
    both = gym.make(ID, obs_type="dict").observation_space
    assert both["pixels"] == PUSH_CUBE.observation_space
    assert both["agent_pos"].shape == (33,)
    many = gym.make_vec(ID, num_envs=3, obs_type="latent")
    size = many.unwrapped.world_model.local_model.feature_size
    assert many.single_observation_space.shape == (size,)
    assert many.unwrapped.max_episode_steps == 200


def test_it_begins_from_many_frames_and_from_one(model):
    windows = {len(model.starts[i].frames) for i in range(len(model.starts))}
    assert windows == {1, model.spec.prefill}


@pytest.mark.parametrize("obs_type", ["pixels", "dict", "latent"])
def test_gymnasium_and_stable_baselines3_accept_it(model, obs_type):
    env = gym.make(ID, world_model=model, obs_type=obs_type, render_mode="rgb_array", horizon=20)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*infinity.*")
        check_env(env.unwrapped)
        check_env_for_sb3(env)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("obs_type", "mode"), list(zip(["dict", "latent", "pixels"], AutoresetMode, strict=True))
)
def test_vectors_equal_single_dreams_bit_for_bit(model, obs_type, mode, unchecked_types):
    how = {"world_model": model, "horizon": 4, "deterministic": True, "obs_type": obs_type}
    check_vector_env(
        lambda num_envs, mode: gym.make_vec(ID, num_envs=num_envs, autoreset_mode=mode, **how),
        make_single=lambda: gym.make(ID, **how).unwrapped, modes=[mode], num_envs=2,
    )  # fmt: skip


@pytest.mark.parametrize("obs_type", ["latent", "pixels"])
def test_both_doors_are_one_step_and_its_gradient_is_finite_and_not_zero(model, obs_type):
    env, other = (
        gym.make_vec(ID, num_envs=3, world_model=model, obs_type=obs_type).unwrapped
        for _ in range(2)
    )
    env.reset(seed=0), other.reset(seed=0)
    obs, total = env.begin_window(), 0.0
    acts = torch.from_numpy(actions(8, 3, 3)).requires_grad_()
    for action in acts:
        out = env.step_with_grad(action)
        obs, reward, *_ = other.step(action.detach().numpy())
        np.testing.assert_array_equal(out.obs.detach(), obs)
        np.testing.assert_array_equal(out.reward.detach(), np.float32(reward))
        total = total + out.reward.sum()
    total.backward()
    assert acts.grad.isfinite().all()
    assert (acts.grad.abs().sum((0, 2)) > 0).all()


def test_success_is_what_the_real_system_calls_so(model):
    env = gym.make_vec(ID, num_envs=4, world_model=model)
    env.reset(seed=0)
    for action in actions(5, 4, 3):
        info = env.step(action)[4]
        np.testing.assert_array_equal(info["is_success"], info["progress"] > 0.9)
    easy = gym.make(ID, world_model=model, success_threshold=0.0)
    easy.reset(seed=0)
    assert easy.unwrapped.system.solved_for == 5


class Still:
    def predict(self, obs, state=None, episode_start=None, deterministic=True):
        return np.zeros((len(obs), 3), np.float32), None


def test_an_episode_is_solved_where_success_holds_for_five_steps(model):
    how = {"world_model": model, "ends": False, "deterministic": True, "success_threshold": 0.0}
    env, done = gym.make_vec(ID, num_envs=4, **how), []
    env.reset(seed=[0, 1, 2, 3])
    for _ in range(5):
        done.append(env.step(np.zeros((4, 3), np.float32))[4]["is_success"])
    for horizon in (4, 5):
        exam = gym.make_vec(ID, num_envs=4, horizon=horizon, **how)
        solved = examine(Still(), exam, episodes=4, seed=0).solved
        np.testing.assert_array_equal(solved, np.all(done, axis=0) & (horizon == 5))


def test_proprioception_that_nobody_tells_is_what_it_is_on_average(model):
    env = gym.make(ID, world_model=model, obs_type="dict")
    frame = env.reset(seed=0)[0]["pixels"][None]
    shown = env.reset(seed=0, options={"frames": frame})[0]["agent_pos"]
    np.testing.assert_allclose(shown, model.starts.proprio.mean(0), rtol=1e-4, atol=1e-5)
    told = np.full((1, FELT), 0.25, np.float32)
    shown = env.reset(seed=0, options={"frames": frame, "agent_pos": told})[0]["agent_pos"]
    np.testing.assert_array_equal(shown, told[0])


@pytest.mark.parametrize("mode", AutoresetMode)
def test_wrapped_dictionaries_are_its_latents(model, mode):
    how = {"num_envs": 3, "horizon": 3, "autoreset_mode": mode, "world_model": model}
    wrapped = LatentObservation(gym.make_vec(ID, obs_type="dict", **how), model)
    latent = gym.make_vec(ID, obs_type="latent", **how)
    assert wrapped.observation_space == latent.observation_space
    assert not difference(wrapped.reset(seed=1), latent.reset(seed=1))
    for action in actions(7, 3, 3):
        came, expected = wrapped.step(action), latent.step(action)
        assert not (found := difference(came, expected)), found
        if mode == AutoresetMode.DISABLED and (over := came[2] | came[3]).any():
            again = [env.reset(options={"reset_mask": over.copy()}) for env in (wrapped, latent)]
            assert not difference(*again)


def test_so_are_those_from_given_frames(model):
    wrapped = LatentObservation(gym.make(ID, obs_type="dict", world_model=model), model)
    latent = gym.make(ID, obs_type="latent", world_model=model)
    frames = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)
    given = {"frames": frames, "actions": actions(3, 3)}
    for felt in ({}, {"agent_pos": actions(4, FELT)}):
        both = [env.reset(seed=0, options={**given, **felt}) for env in (wrapped, latent)]
        assert not difference(*both)
        assert not difference(*(env.step(actions(1, 3)[0]) for env in (wrapped, latent)))


def test_pictures_alone_do_not_tell_its_latents(model):
    with pytest.raises(ValueError, match="'agent_pos', proprioception of 33 numbers"):
        LatentObservation(gym.make(ID, world_model=model), model)


def test_a_dream_needs_nothing_of_what_the_real_one_does(monkeypatch):
    for name in ("mujoco", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    env = gym.make(ID, obs_type="dict")
    env.reset(seed=0)
    env.step(env.action_space.sample())


@pytest.mark.mujoco
def test_the_real_one_shows_the_same_latents_by_default(model):
    real = gym.make("Real-PushCube-v0", obs_type="latent")
    dream = gym.make(ID, obs_type="latent")
    assert real.observation_space == dream.observation_space
    env = gym.make("Real-PushCube-v0", obs_type="dict")
    obs, _ = env.reset(seed=3)
    seen, _ = real.reset(seed=3)
    options = {"frames": obs["pixels"][None], "agent_pos": obs["agent_pos"][None]}
    dreamt, _ = dream.reset(seed=0, options=options)
    np.testing.assert_allclose(seen, dreamt, atol=1e-5)
    many = (gym.make_vec(each, num_envs=1, obs_type="dict") for each in ("Real-PushCube-v0", ID))
    shown = first_frames(next(many))([3])
    came, _ = next(many).reset(seed=0, options=shown)
    for name, each in obs.items():
        np.testing.assert_array_equal(came[name][0], each)


@pytest.fixture
def player(tmp_path):
    sides = opened(ID, None, alone=False, rules={"horizon": 20})
    made = Player(Session(*sides, seed=0), out=tmp_path)
    yield made
    made.close()


def after(player, *keys, ticks=0):
    for key in keys:
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))
    player.tick(0)
    for _ in range(ticks):
        player.tick(0.2)


@pytest.mark.mujoco
def test_it_is_played_beside_the_real_go2(player):
    session = player.session
    assert list(player.window.pictures) == ["real", "dream"]
    np.testing.assert_array_equal(session.now.real.frame, session.now.dream.frame)
    np.testing.assert_array_equal(
        session._dream.get_state().world.proprio, session.now.real.felt.astype(np.float32)
    )
    after(player, pygame.K_v, pygame.K_w, pygame.K_a, ticks=3)
    ahead, left, turn = session.now.action
    assert ahead > 0
    assert left == 0
    assert turn > 0  # to the left
    assert session.now.arrow.shape == (3,)
    after(player, pygame.K_SPACE, pygame.K_y)
    np.testing.assert_array_equal(session.now.real.frame, session.now.dream.frame)
    assert session.now.dream.uncertainty == 0
    after(player, pygame.K_v)
    assert player.films[0].stat().st_size > 0


@pytest.mark.mujoco
def test_the_real_go2_is_played_beside_its_dream_if_that_is_there(monkeypatch, tmp_path):
    rules = {"horizon": 20}
    for there in (True, False):
        if not there:
            monkeypatch.setattr(model_folder, "PACKAGED", tmp_path)
        real, dream = opened("Real-PushCube-v0", None, alone=False, rules=rules)
        assert real is not None
        assert (dream is not None) == there


def test_there_is_a_page_about_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    report(Report(world_model=NAME))
    page = (tmp_path / "out/report.html").read_text()
    assert "PushCube" in page
    assert "wm-gym evaluate" in capsys.readouterr().out


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_where_it_is_missing_that_is_said_in_a_line(make, monkeypatch, tmp_path):
    monkeypatch.setattr(model_folder, "PACKAGED", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"the world model 'push-cube' of WM-PushCube-v0 is not in this ins"
    ):
        make(ID)
