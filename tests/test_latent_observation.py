"""obs_type="latent" outside the dream: what a policy sees of real frames, and of a dream's."""

import copy
import pickle
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import TransformReward
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3
from strangers import Stranger
from tiny_world import MEMORY, drive, make_world_model

from baselines.sb3_vec_env import Sb3VecEnv
from wm_gym.conformance import check_vector_env
from wm_gym.conformance.compare import difference
from wm_gym.envs.latent_filter import LatentFilter
from wm_gym.systems import system_named
from wm_gym.wrappers import LatentObservation

SIZE = 8 + MEMORY
MODES = list(AutoresetMode)
REAL_IDS = {"Real-PushT-v0": "PushT", "Real-GymPushT-v0": "PushT", "Real-Dot-v0": "Dot"}


@pytest.fixture(scope="module")
def models():
    return {system: make_world_model(system) for system in ("PushT", "Dot")}


@pytest.fixture(scope="module")
def model(models):
    return models["PushT"]


def actions(*shape, seed=0):
    """A little beyond the box."""
    return np.random.default_rng(seed).uniform(-1.3, 1.3, shape).astype(np.float32)


def assert_same(one, other, where):
    assert not (found := difference(one, other)), f"{where}{found}"


def live_alike(one, other, *, steps, mode, masks=None, **reset):
    """Both vectors go through the same, staggered by `masks`; how many episodes ended."""
    assert_same(one.reset(**copy.deepcopy(reset)), other.reset(**copy.deepcopy(reset)), "reset")
    ended = 0
    for t, action in enumerate(actions(steps, *one.action_space.shape)):
        came, expected = one.step(action), other.step(action)
        assert_same(came, expected, f"step {t}")
        over = came[2] | came[3]
        ended += over.sum()
        mask = over if mode == AutoresetMode.DISABLED else np.zeros_like(over)
        mask = mask | (masks or {}).get(t, False)
        if mask.any():
            again = [each.reset(options={"reset_mask": mask.copy()}) for each in (one, other)]
            assert_same(*again, f"reset after step {t}")
    return ended


def live_alike_alone(one, other, *, steps, **reset):
    assert_same(one.reset(**reset), other.reset(**reset), "reset")
    for t, action in enumerate(actions(steps, *one.action_space.shape)):
        came, expected = one.step(action), other.step(action)
        assert_same(came, expected, f"step {t}")
        if came[2] or came[3]:
            assert_same(one.reset(), other.reset(), f"reset after step {t}")


STAGGERED = {
    0: np.array([True, False, False]),
    2: np.array([False, False, True]),
    4: np.array([True, False, False]),  # with a horizon of 4, as it has just ended
}


# Wrapping the dream's pixels gives the dream's own latents


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_wrapped_dreams_are_latent_dreams_bit_for_bit(model, mode, deterministic):
    kwargs = {
        "num_envs": 3, "world_model": model, "horizon": 4, "autoreset_mode": mode,
        "deterministic": deterministic,
    }  # fmt: skip
    wrapped = LatentObservation(gym.make_vec("WM-v0", **kwargs), model, deterministic=deterministic)
    latent = gym.make_vec("WM-v0", obs_type="latent", **kwargs)
    ended = live_alike(wrapped, latent, steps=14, mode=mode, masks=STAGGERED, seed=3)
    assert ended >= 6


def test_so_is_a_single_one(model):
    kwargs = {"world_model": model, "horizon": 4}
    wrapped = LatentObservation(gym.make("WM-v0", **kwargs), model)
    latent = gym.make("WM-v0", obs_type="latent", **kwargs)
    live_alike_alone(wrapped, latent, steps=11, seed=3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("frames", [1, 3, 6])
def test_so_are_those_from_given_frames(model, mode, frames):
    """All of them are filtered, also those before the dream's context."""
    rng = np.random.default_rng(frames)
    starts = [drive(system_named("PushT"), frames - 1, rng) for _ in range(3)]
    options = {
        "frames": np.stack([start.frames for start in starts]),
        "actions": np.stack([start.action for start in starts]) * 1.5,
    }
    kwargs = {"world_model": model, "horizon": 3}
    vectors = {"num_envs": 3, "autoreset_mode": mode, **kwargs}
    wrapped = LatentObservation(gym.make_vec("WM-v0", **vectors), model)
    latent = gym.make_vec("WM-v0", obs_type="latent", **vectors)
    live_alike(wrapped, latent, steps=8, mode=mode, masks=STAGGERED, seed=0, options=options)
    mask = np.array([False, True, True])
    again = [env.reset(options={"reset_mask": mask, **options}) for env in (wrapped, latent)]
    assert_same(*again, "a partial reset from given frames")
    wrapped = LatentObservation(gym.make("WM-v0", **kwargs), model)
    latent = gym.make("WM-v0", obs_type="latent", **kwargs)
    alone = {"frames": options["frames"][0], "actions": options["actions"][0]}
    live_alike_alone(wrapped, latent, steps=5, seed=0, options=alone)


def test_frames_before_the_last_are_remembered(model):
    start = drive(system_named("PushT"), 5, np.random.default_rng(0))
    env = LatentObservation(gym.make("WM-v0", world_model=model), model)
    whole = env.reset(options={"frames": start.frames, "actions": start.action})[0]
    last = env.reset(options={"frames": start.frames[-1:]})[0]
    np.testing.assert_array_equal(last[8:], 0)
    assert (whole[8:] != 0).all()


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "float32"])
def test_so_is_the_packaged_one_in_any_precision(dtype):
    mode = AutoresetMode.SAME_STEP
    kwargs = {"num_envs": 3, "horizon": 2, "autoreset_mode": mode, "dtype": dtype}
    wrapped = LatentObservation(gym.make_vec("WM-PushT-v0", **kwargs), "push-t", dtype=dtype)
    latent = gym.make_vec("WM-PushT-v0", obs_type="latent", **kwargs)
    assert live_alike(wrapped, latent, steps=4, mode=mode, masks=STAGGERED, seed=1) >= 3
    alone = LatentObservation(gym.make("WM-PushT-v0", dtype=dtype), "push-t", dtype=dtype)
    latent = gym.make("WM-PushT-v0", obs_type="latent", dtype=dtype)
    live_alike_alone(alone, latent, steps=3, seed=1)


@pytest.mark.parametrize("mode", MODES)
def test_gymnasiums_own_vectors_of_pixels_can_be_wrapped(model, mode):
    """Also beneath another wrapper; they compute one by one, so equality asks for exactness."""
    kwargs = {"world_model": model, "horizon": 4, "deterministic": True}
    sync = SyncVectorEnv([lambda: gym.make("WM-v0", **kwargs)] * 3, autoreset_mode=mode)
    doubled = TransformReward(sync, lambda reward: 2 * reward)
    wrapped = LatentObservation(doubled, model, deterministic=True)
    latent = gym.make_vec("WM-v0", num_envs=3, obs_type="latent", autoreset_mode=mode, **kwargs)
    latent = TransformReward(latent, lambda reward: 2 * reward)
    assert live_alike(wrapped, latent, steps=14, mode=mode, masks=STAGGERED, seed=5) >= 6


# Real systems


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", REAL_IDS)
def test_real_latents_are_wrapped_real_pixels_bit_for_bit(models, env_id, mode):
    model = models[REAL_IDS[env_id]]
    kwargs = {"num_envs": 3, "horizon": 4, "autoreset_mode": mode}
    wrapped = LatentObservation(gym.make_vec(env_id, **kwargs), model)
    latent = gym.make_vec(env_id, obs_type="latent", world_model=model, **kwargs)
    assert live_alike(wrapped, latent, steps=14, mode=mode, masks=STAGGERED, seed=3) >= 6


@pytest.mark.parametrize("env_id", REAL_IDS)
def test_single_ones_too(models, env_id):
    model = models[REAL_IDS[env_id]]
    wrapped = LatentObservation(gym.make(env_id, horizon=4), model)
    latent = gym.make(env_id, horizon=4, obs_type="latent", world_model=model)
    live_alike_alone(wrapped, latent, steps=11, seed=3)


def test_features_are_those_of_the_frames_so_far_and_of_clipped_actions(model):
    """Against the local model's own equations."""
    pixels = gym.make("Real-PushT-v0")
    latent = gym.make("Real-PushT-v0", obs_type="latent", world_model=model, deterministic=True)
    local, (frame, _), (obs, _) = model.local_model, pixels.reset(seed=1), latent.reset(seed=1)
    felt = torch.zeros(1, 0)
    features = local.begin(local.embed(torch.from_numpy(frame)[None], felt), torch.tensor([0]))
    for action in 2 * actions(6, 2).astype(np.float64):
        np.testing.assert_allclose(obs, features[0], atol=1e-5)
        frame, obs = pixels.step(action)[0], latent.step(action)[0]
        clipped = torch.from_numpy(action).clamp(-1, 1).float()[None]
        features = local.follow(features, clipped, local.embed(torch.from_numpy(frame)[None], felt))
    np.testing.assert_allclose(obs, features[0], atol=1e-5)


def test_the_packaged_world_model_of_the_system_is_the_default():
    given = gym.make("Real-PushT-v0", obs_type="latent", world_model="push-t")
    default = gym.make("Real-PushT-v0", obs_type="latent")
    live_alike_alone(default, given, steps=3, seed=0)


def test_a_policy_of_latents_is_judged_in_gym_pusht(model):
    env = gym.make("Real-GymPushT-v0", obs_type="latent", world_model=model, horizon=30)
    gain = np.random.default_rng(0).normal(size=(2, SIZE)).astype(np.float32)
    obs, info = env.reset(seed=0)
    before, steps, truncated = info["state"], 0, False
    while not truncated:
        obs, _, terminated, truncated, info = env.step(np.tanh(gain @ obs))
        assert not terminated
        assert env.observation_space.contains(obs)
        steps += 1
    assert steps == 30
    assert (info["state"][:2] != before[:2]).any()


@pytest.mark.parametrize("env_id", ["WM-v0", "Real-PushT-v0"])
def test_env_i_of_a_vector_sees_what_a_single_one_sees(model, env_id):
    kwargs = {"world_model": model, "obs_type": "latent", "horizon": 4, "deterministic": True}
    acts, seen = actions(6, 9, 2), {}
    for n in (2, 9):
        env = gym.make_vec(env_id, num_envs=n, autoreset_mode="SameStep", **kwargs)
        seen[n] = [env.reset(seed=7)[0], *(env.step(each[:n])[0] for each in acts)]
    for i in range(2):
        env = gym.make(env_id, **kwargs)
        obs = [env.reset(seed=7 + i)[0]]
        for each in acts:
            now, _, _, truncated, _ = env.step(each[i])
            obs.append(env.reset()[0] if truncated else now)
        for n in (2, 9):
            np.testing.assert_array_equal(np.stack(seen[n])[:, i], np.stack(obs))


def test_pixels_need_no_torch():
    code = "import gymnasium as g, wm_gym, sys; g.make('Real-PushT-v0').reset(); "
    run = subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"])
    assert run.returncode == 0


# What others ask


def latent_kwargs(model):
    return {"obs_type": "latent", "world_model": model, "deterministic": True}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", ["WM-v0", "Real-PushT-v0"])
def test_latent_vectors_keep_gymnasiums_contract(model, env_id, mode, unchecked_types):
    kwargs = {"horizon": 3, **latent_kwargs(model)}
    check_vector_env(
        lambda n, mode: gym.make_vec(env_id, num_envs=n, autoreset_mode=mode, **kwargs),
        make_single=lambda: gym.make(env_id, **kwargs),
        modes=[mode],
        num_envs=2,
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", ["WM-v0", "Real-PushT-v0"])
def test_wrapped_vectors_keep_it_too(model, env_id, mode, unchecked_types):
    kwargs = {"horizon": 3}
    if env_id == "WM-v0":
        kwargs |= {"world_model": model, "deterministic": True}

    def make(n, mode):
        vector = gym.make_vec(env_id, num_envs=n, autoreset_mode=mode, **kwargs)
        return LatentObservation(vector, model, deterministic=True)

    def make_single():
        return LatentObservation(gym.make(env_id, **kwargs), model, deterministic=True)

    check_vector_env(make, make_single=make_single, modes=[mode], num_envs=2)


def test_wrapped_vectors_of_gymnasium_keep_it_too(model, unchecked_types):
    def make(n, mode):
        one = lambda: gym.make("Real-PushT-v0", horizon=3)  # noqa: E731
        vector = SyncVectorEnv([one] * n, autoreset_mode=mode)
        return LatentObservation(vector, model, deterministic=True)

    check_vector_env(make, modes=[AutoresetMode.SAME_STEP], num_envs=2)


@pytest.mark.parametrize("env_id", ["WM-v0", *REAL_IDS])
def test_gymnasium_and_sb3_accept_single_ones(models, env_id):
    model = models[REAL_IDS.get(env_id, "PushT")]
    native = gym.make(env_id, obs_type="latent", world_model=model, render_mode="rgb_array")
    own = {"world_model": model} if env_id == "WM-v0" else {}
    wrapped = LatentObservation(gym.make(env_id, render_mode="rgb_array", **own), model)
    for env in (native.unwrapped, wrapped):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is different from the unwrapped version")
            warnings.filterwarnings("ignore", message=".*Box observation space m.*imum value is.*")
            check_env(env)
            check_env_for_sb3(env)
        size = models[REAL_IDS.get(env_id, "PushT")].local_model.feature_size
        assert env.observation_space == spaces.Box(-np.inf, np.inf, (size,), np.float32)


def test_stable_baselines3_trains_on_wrapped_frames(model):
    vector = gym.make_vec("Real-PushT-v0", num_envs=2, horizon=4, autoreset_mode="SameStep")
    env = Sb3VecEnv(LatentObservation(vector, model))
    PPO("MlpPolicy", env, n_steps=8, batch_size=8, n_epochs=1, device="cpu", seed=0).learn(16)
    assert env.observation_space.shape == (SIZE,)


def test_it_is_one_name_for_both_kinds_and_can_be_made_again_from_its_spec(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    single = LatentObservation(gym.make("Real-PushT-v0"), tmp_path / "model", deterministic=True)
    vector = LatentObservation(gym.make_vec("Real-PushT-v0", num_envs=2), model)
    assert isinstance(single, LatentObservation)
    assert isinstance(single, gym.Wrapper)
    assert isinstance(vector, LatentObservation)
    assert isinstance(vector, gym.vector.VectorWrapper)
    assert vector.observation_space.shape == (2, SIZE)
    assert vector.single_observation_space == single.observation_space
    live_alike_alone(gym.make(single.spec), single, steps=3, seed=0)


# Snapshots


def futures(env, state, acts):
    env.set_state(state)
    return copy.deepcopy([env.step(action) for action in acts])


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("env_id", ["WM-v0", "Real-PushT-v0"])
def test_a_branch_has_the_features_of_its_past(model, env_id, native):
    own = {"world_model": model} if env_id == "WM-v0" else {}
    if native:
        make = lambda: gym.make(env_id, **{**own, **latent_kwargs(model)}).unwrapped  # noqa: E731
    else:
        make = lambda: LatentObservation(gym.make(env_id, **own).unwrapped, model)  # noqa: E731
    env, acts = make(), actions(4, 2)
    env.reset(seed=0)
    for action in acts:
        env.step(action)
    state = pickle.loads(pickle.dumps(env.get_state()))
    expected = futures(env, state, acts)
    assert_same(futures(env, state, acts), expected, "the same future twice")
    assert_same(futures(make(), state, acts), expected, "in a fresh environment")


@pytest.mark.parametrize("env_id", ["WM-v0", "Real-PushT-v0"])
@pytest.mark.parametrize("mode", MODES)
def test_a_wrapped_vector_branches_also_where_an_episode_is_over(model, env_id, mode):
    own = {"world_model": model, "deterministic": True} if env_id == "WM-v0" else {}

    def make():
        kwargs = {"num_envs": 3, "horizon": 4, "autoreset_mode": mode, **own}
        return LatentObservation(gym.make_vec(env_id, **kwargs), model, deterministic=True)

    env, acts = make(), actions(4, 3, 2)
    env.reset(seed=0)
    env.step(acts[0])
    env.reset(options={"reset_mask": np.array([False, True, True])})
    for action in acts[:3]:  # now the first one is over
        env.step(action)
    state = env.get_state()
    assert [each.over for each in state] == [mode != AutoresetMode.SAME_STEP, False, False]
    if mode == AutoresetMode.DISABLED:
        env.reset(options={"reset_mask": np.array([True, False, False])})
        assert not env.get_state()[0].over
        state = env.get_state()
        acts = acts[:1]
    assert_same(futures(make(), state, acts), futures(env, state, acts), "a fresh vector")
    single = gym.make(env_id, **own).unwrapped  # Gymnasium's wrappers would ask for a reset first
    single = LatentObservation(single, model, deterministic=True)
    alone, together = futures(single, state[1], acts[:1, 1]), futures(env, state, acts[:1])
    obs, *_, info = together[0]
    np.testing.assert_array_equal(alone[0][0], info.get("final_obs", obs)[1])


def test_what_a_filter_handed_out_does_not_change(model):
    """Gradient steps hold on to it, while episodes begin anew beside them."""
    filters, frames = LatentFilter(model.local_model, 2, exact=False), np.zeros((2, 96, 96, 3))
    frames = frames.astype(np.uint8)
    every, action = np.arange(2), np.ones((2, 2), np.float32)
    filters.begin_at(every, frames)
    filters.advance(every, action, frames)
    held = filters.features
    kept = held.clone()
    filters.begin_at(every[:1], frames[:1])
    filters.advance(every, action, frames)
    assert torch.equal(held, kept)
    assert (filters.features != kept).any()


def test_the_successor_of_a_gradient_step_is_that_before_the_reset(model):
    env = gym.make_vec(
        "WM-v0", num_envs=2, world_model=model, obs_type="latent", horizon=2,
        autoreset_mode="SameStep",
    ).unwrapped  # fmt: skip
    env.reset(seed=0)
    env.begin_window()
    for _ in range(2):
        out = env.step_with_grad(torch.zeros(2, 2))
    for i in range(2):
        np.testing.assert_array_equal(out.final_obs[i].detach(), out.info["final_obs"][i])


# Refusals


class Board(gym.Env):
    """Pixels of some size, and some actions."""

    def __init__(self, shape=(96, 96, 3), actions=2, dtype=np.uint8):
        self.observation_space = spaces.Box(0, 255, shape, dtype)
        self.action_space = spaces.Box(-1, 1, (actions,), np.float32)


PIXELS = "expected pixels: Box(0, 255, (96, 96, 3), uint8)"
SIZES = "the world model has frames (96, 96, 3) and 2 action numbers, expected "


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Stranger, f"the environment shows Box(-1.0, 1.0, (2,), float32), {PIXELS}"),
        (lambda: Board(dtype=np.float32), PIXELS),
        (lambda: Board((84, 84, 3)), f"{SIZES}(84, 84, 3) and 2 of the environment"),
        (lambda: Board(actions=3), f"{SIZES}(96, 96, 3) and 3 of the environment"),
        (lambda: gym.make("Real-Dot-v0"), SIZES),
        (lambda: gym.make_vec("Real-Dot-v0", num_envs=2), SIZES),
        (lambda: gym.make("CartPole-v1"), PIXELS),
        (lambda: gym.make_vec("CartPole-v1", num_envs=2), PIXELS),
    ],
)
def test_environments_that_do_not_fit_are_refused(model, make, message):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        LatentObservation(make(), model)
    assert message in str(refusal.value)


def test_actions_must_be_numbers_of_a_box(model, unchecked_types):
    env = Board()
    env.action_space = spaces.Discrete(4)
    with pytest.raises(ValueError, match=r"actions are Discrete\(4\), expected Box\(-1, 1, \(2,\)"):
        LatentObservation(env, model)
    with pytest.raises(TypeError, match="env is a str, expected a gymnasium Env or VectorEnv"):
        LatentObservation("Real-PushT-v0", model)


@pytest.mark.parametrize("make", [gym.make, lambda i, **kw: gym.make_vec(i, num_envs=2, **kw)])
@pytest.mark.parametrize(
    ("env_id", "of", "message"),
    [
        ("Real-Dot-v0", None, "obs_type='latent' needs a world_model: none is packaged for 'Dot'"),
        ("Real-PushT-v0", "Dot", "the world model is of 'Dot', expected 'PushT'"),
        ("Real-Dot-v0", "PushT", "the world model is of 'PushT', expected 'Dot'"),
    ],
)
def test_real_systems_refuse_models_of_others(models, make, env_id, of, message):
    given = {} if of is None else {"world_model": models[of]}
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        make(env_id, obs_type="latent", **given)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    "unused",
    [{"world_model": "push-t"}, {"device": "cpu"}, {"dtype": "float32"}, {"deterministic": True}],
)
def test_real_pixels_refuse_what_only_latents_use(unused):
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ValueError, match=r"for obs_type='latent'.*came 'pixels'"):
            make("Real-PushT-v0", **unused)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"device": "nowhere"}, "device 'nowhere' is not to be had here"),
        ({"dtype": "float16"}, "dtype is 'float16', expected 'auto' or one of"),
        ({"deterministic": 1}, "deterministic is 1, expected True or False"),
        ({"dtype": "bfloat16"}, "but the WorldModel computes in torch.float32: cast it"),
        ({"dtype": "bfloat16", "deterministic": True}, "deterministic=True computes in float32"),
    ],
)
def test_a_wrapper_and_a_real_system_choose_as_dreams_do(model, kwargs, message, unchecked_types):
    env = gym.make("Real-PushT-v0")
    for make in (
        lambda: LatentObservation(env, model, **kwargs),
        lambda: gym.make("WM-v0", world_model=model, **kwargs),
        lambda: gym.make("Real-PushT-v0", obs_type="latent", world_model=model, **kwargs),
    ):
        with pytest.raises(ValueError) as refusal:  # noqa: PT011
            make()
        assert message in str(refusal.value)


def test_snapshots_without_features_or_of_other_models_are_refused(model):
    wrapped = LatentObservation(gym.make("Real-PushT-v0"), model)
    native = gym.make("Real-PushT-v0", obs_type="latent", world_model=model).unwrapped
    pixels = gym.make("Real-PushT-v0").unwrapped
    for env in (wrapped, native, pixels):
        env.reset(seed=0)
    for env, other in ((wrapped, native), (native, pixels), (native, wrapped), (pixels, native)):
        before = env.get_state()
        with pytest.raises(TypeError):
            env.set_state(other.get_state())
        acts = actions(2, 2)
        assert_same(futures(env, before, acts), futures(env, before, acts), "as if not asked")
    state = wrapped.get_state()
    short = type(state)(env=state.env, features=state.features[:-1], over=False)
    with pytest.raises(ValueError, match=rf"shape \({SIZE - 1},\), expected \({SIZE},\): it is of"):
        wrapped.set_state(short)
    wild = type(state)(env=state.env, features=state.features * np.nan, over=False)
    with pytest.raises(ValueError, match="features that are not finite"):
        wrapped.set_state(wild)


@pytest.mark.parametrize("native", [False, True])
def test_features_of_another_model_of_equal_sizes_are_refused(model, native):
    def make(model):
        if native:
            kwargs = {"obs_type": "latent", "world_model": model}
            return gym.make_vec("Real-PushT-v0", num_envs=2, **kwargs)
        return LatentObservation(gym.make_vec("Real-PushT-v0", num_envs=2), model)

    env, other = make(model), make(make_world_model(seed=1))
    for each in (env, other):
        each.reset(seed=0)
    before = env.get_state()
    env.step(actions(1, 2, 2)[0])
    now = pickle.dumps(env.get_state())
    with pytest.raises(ValueError, match="it is of another world model"):
        env.set_state((before[0], other.get_state()[1]))
    assert pickle.dumps(env.get_state()) == now


def test_a_bad_action_or_mask_changes_nothing(model):
    env = LatentObservation(gym.make_vec("Real-PushT-v0", num_envs=2), model)
    env.reset(seed=0)
    state = env.get_state()
    for bad in (np.full((2, 2), np.nan), np.zeros((2, 3)), np.zeros(2)):
        with pytest.raises(ValueError, match="action"):
            env.step(bad)
    for mask in (np.zeros(2, bool), np.ones(3, bool)):
        with pytest.raises(ValueError, match="reset_mask"):
            env.reset(options={"reset_mask": mask})
    acts = actions(2, 2, 2)
    came = [env.step(action)[0] for action in acts]
    expected = futures(env, state, acts)
    assert_same(came, [each[0] for each in expected], "as if not asked")
