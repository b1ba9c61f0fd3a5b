"""What is not understood is refused: with the right type, in words that help, and at no cost.

A row is (what, how, exception, message). After a refused call an environment is as it was before.
"""

import errno
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from gymnasium.error import ResetNeeded
from tiny_dataset import SPEC, make_episode, write
from tiny_world import make_world_model

from wm_gym.data import DatasetWriter
from wm_gym.models.keypoints.autoencoder import Autoencoder
from wm_gym.models.keypoints.denoiser import Denoiser
from wm_gym.models.keypoints.eye import Eye
from wm_gym.models.keypoints.global_model import KeypointGlobalModel
from wm_gym.models.keypoints.kind import KEYPOINTS
from wm_gym.models.keypoints.local_model import KeypointLocalModel
from wm_gym.models.starts import Starts
from wm_gym.models.world_model import Card, WorldModel
from wm_gym.systems import register_system, system_named
from wm_gym.training.checkpoint import load_checkpoint, save_checkpoint
from wm_gym.training.trainer import Optimisation, Trainer

pytestmark = [
    pytest.mark.usefixtures("unchecked_types"),  # as in production
    pytest.mark.filterwarnings("ignore:.*initialised with render_mode"),
]

SEED_ERROR = gym.error.Error
LATENTS, ACTION, ERROR = range(3)
"""Where the arrays of a snapshot's state are, as KeypointState has them."""

Row = tuple[str, Callable[..., Any], type[Exception], str]


def rows(*table: Row) -> pytest.MarkDecorator:
    params = [pytest.param(*rest, id=what) for what, *rest in table]
    return pytest.mark.parametrize(("how", "exception", "message"), params)


def dream(world, **kwargs):
    return gym.make("WM-PushT-v0", **{"world_model": world.model, **kwargs})


def dreams(world, num_envs=2, **kwargs):
    kwargs = {"world_model": world.model, **kwargs}
    return gym.make_vec("WM-PushT-v0", num_envs=num_envs, **kwargs)


def carded(**card) -> WorldModel:
    model = make_world_model()
    model.card = Card(**{"system": "PushT", **card})
    return model


def without_starts() -> WorldModel:
    model = make_world_model()
    model.starts = None
    return model


def local(**changes) -> KeypointLocalModel:
    return KeypointLocalModel(**{"keypoints": 4, "width": 8, "head_width": 8, **changes})


def with_local(world, local_model: KeypointLocalModel) -> WorldModel:
    return WorldModel(world.model.global_model, local_model, card=world.model.card)


def assembled(world, local_model: KeypointLocalModel) -> WorldModel:
    """As it is of the parts of a folder."""
    parts = KEYPOINTS.parts_of(world.model.global_model, world.model.local_model)
    models = KEYPOINTS.assembled({**parts, "local_model": local_model})
    return WorldModel(*models, card=world.model.card)


def logging(other: WorldModel) -> WorldModel:
    """A model with what another one has logged."""
    model = make_world_model()
    model.logged = other.logged
    return model


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Models in memory and on disk, datasets, and what is neither."""
    folder = tmp_path_factory.mktemp("world")
    world = SimpleNamespace(model=make_world_model(), dot=make_world_model("Dot"), folder=folder)
    world.dot.save_pretrained(folder / "dot")
    write(folder / "tiny-pictures")
    write_with_actions_of(3, folder / "other-actions")
    (folder / "file").write_text("no folder")
    return world


def write_with_actions_of(size: int, folder) -> None:
    episode = make_episode(0)
    steps = len(episode.action)
    writer = DatasetWriter(
        folder, replace(SPEC, picture=(96, 96, 3), action_size=size, facts={}, robot_type="PushT")
    )
    writer.add(0, replace(
        episode, frames=np.zeros((steps + 1, 96, 96, 3), np.uint8),
        action=np.zeros((steps, size), np.float32), facts={},
    ))  # fmt: skip
    writer.finalize()


# Making an environment.


def each(name: str, message: str, *values, exception=ValueError) -> list[Row]:
    """Rows for values that one argument cannot have."""
    return [
        (f"{name}={value!r}", lambda make, v=value: make(**{name: v}), exception,
         message.replace("{}", re_escape(repr(value))))
        for value in values
    ]  # fmt: skip


def re_escape(text: str) -> str:
    return "".join(f"\\{c}" if c in "()[]{}.*+?^$|\\" else c for c in text)


@rows(
    *each("device", "device {} is not to be had here: ", "gpu9", "cuda:99", None, "", "meta"),
    *each("dtype", "dtype is {}, expected 'auto' or one of", "float16", "", None, torch.float32),
    *each("denoising_steps", "denoising_steps is {}, expected a whole number from 1 to 100",
          0, -1, True, 1.5, 101, "2"),
    *each("obs_type", r"obs_type is {}, expected one of \('pixels', 'latent', 'dict'\)",
          "latents", "state", "Pixels", "", None, 3, True, b"latent", ["latent"], ("pixels",)),
    *each("gradient", r"gradient is {}, expected one of \('surrogate', 'none', 'diffusion'\)",
          "surogate", "Diffusion", "local", "", None, 0, True, b"none", ["none"]),
    *each("render_mode", "render_mode is {}, expected None or one of", "ansi", ""),
    *each("horizon", "horizon is {}, expected a whole number of steps ≥ 1", 0, -1, True, 1.5, "9"),
    *each("success_threshold", "success_threshold is {}, expected", 2, -0.1, np.nan, np.inf, "x"),
    *each("terminate_on_success", "terminate_on_success is {}, expected True or False", "no", 2),
    *each("ends", "ends is {}, expected True or False", "no", 2, None),
    *each("deterministic", "deterministic is {}, expected True or False", "no", 2),
    *each("starts", "starts is {}, expected ", None, 3, exception=(TypeError, ValueError)),
    *each("world_model", "world_model is a .*, expected a packaged name .* folder, a Hub id or a W",
          3, b"push-t", ["push-t"], torch.nn.Identity(), exception=TypeError),
    ("an unknown keyword", lambda make: make(colour="red"), TypeError,
     "unknown argument colour; expected some of .*'device'"),
    ("a keyword with a slip", lambda make: make(denoising_step=3), TypeError,
     "unknown argument denoising_step; expected some of .*'denoising_steps'"),
    ("half precision, exactly", lambda make: make(dtype="bfloat16", deterministic=True), ValueError,
     "deterministic=True computes in float32, not dtype='bfloat16'"),
    ("a dtype for a model that is there", lambda make: make(dtype="bfloat16"), ValueError,
     "dtype is 'bfloat16', .*WorldModel"),
    ("no name", lambda make: make(world_model=""), ValueError, "world_model is empty, expected a"),
    ("no such folder", lambda make: make(world_model="./nowhere"), FileNotFoundError,
     "world_model './nowhere' is no packaged name .*no folder, and no Hub id"),
    ("proprioception that is not dreamt", lambda make: make(obs_type="dict"), ValueError,
     "which this world model does not dream: ask for 'pixels' or 'latent'"),
    ("no such task", lambda make: make(task="fly"), ValueError, "task is 'fly', expected 0 to 0 "),
    ("no starts", lambda make: make(world_model=without_starts()), ValueError,
     "the world model has no starts of its own: give starts="),
    ("no such starts", lambda make: make(starts="./nowhere"), FileNotFoundError,
     "nowhere is not a wm_gym dataset; give the folder"),
)  # fmt: skip
@pytest.mark.parametrize("maker", [dream, dreams])
def test_arguments_of_an_environment(world, maker, how, exception, message):
    with pytest.raises(exception, match=message):
        how(lambda **kwargs: maker(world, **kwargs))


def run_folder(world):
    world.model.save_pretrained(world.folder / "run" / "world-model")
    return world.folder / "run"


@rows(
    ("a file for a folder", lambda w: dream(w, world_model=w.folder / "file"), FileNotFoundError,
     "file is not a folder; a world model is one, with config.json"),
    ("a dataset for a model", lambda w: dream(w, world_model=w.folder / "tiny-pictures"),
     FileNotFoundError, "config.json is missing: this is no whole world model"),
    ("another system", lambda w: dream(w, world_model=w.dot), ValueError,
     "dreams of 'Dot', expected 'PushT'; 'WM-v0' dreams of any system"),
    ("another system's folder", lambda w: dream(w, world_model=w.folder / "dot"), ValueError,
     "dreams of 'Dot', expected 'PushT'; 'WM-v0' dreams of any system"),
    ("a system that nobody registered", lambda w: gym.make("WM-v0", world_model=carded(system="X")),
     ValueError, "no system is named 'X'; known are .*'PushT'"),
    ("a model of other frames", lambda w: gym.make("WM-v0", world_model=carded(system="Dot")),
     ValueError, r"has frames \(96, 96, 3\) and 2 action numbers, expected \(48, 64, 3\) and 3"),
    ("no model at all", lambda w: gym.make("WM-v0"), TypeError,
     r"world_model is missing, expected a packaged name \[.*'push-t'\], a folder, a Hub id or a W"),
    ("no model of many", lambda w: gym.make_vec("WM-v0", num_envs=2), TypeError,
     r"world_model is missing, expected a packaged name \[.*'push-t'\], a folder, a Hub id or a W"),
    ("a packaged name with a slip", lambda w: gym.make("WM-v0", world_model="Push_T"),
     FileNotFoundError, r"no Hub id .*; did you mean 'push-t'\?"),
    ("a run for its world model", lambda w: gym.make("WM-v0", world_model=run_folder(w)),
     FileNotFoundError, "run is the folder of a training run; its world model is .*/world-model"),
    ("steps of a card", lambda w: dream(w, world_model=carded(denoising_steps=0)), ValueError,
     "denoising_steps is 0, expected a whole number"),
    ("a model for starts", lambda w: dream(w, starts=w.folder / "dot"), FileNotFoundError,
     "dot is not a wm_gym dataset; give the folder"),
    ("a file for starts", lambda w: dream(w, starts=w.folder / "file"), OSError,
     "file is not a wm_gym dataset; give the folder"),
    ("starts of other pictures", lambda w: dream(w, starts=w.folder / "tiny-pictures"), ValueError,
     r"has pictures of shape \(8, 6, 3\), expected \(96, 96, 3\)"),
    ("starts of other actions", lambda w: dream(w, starts=w.folder / "other-actions"), ValueError,
     "actions of 3 numbers, expected 2"),
    ("num_envs=0", lambda w: dreams(w, 0), ValueError, "num_envs is 0, expected"),
    ("num_envs=-1", lambda w: dreams(w, -1), ValueError, "num_envs is -1, expected"),
    ("num_envs=True", lambda w: dreams(w, True), ValueError, "num_envs is True, expected"),
    ("num_envs=1.5", lambda w: dreams(w, 1.5), ValueError, "num_envs is 1.5, expected"),
    ("num_envs='2'", lambda w: dreams(w, "2"), ValueError, "num_envs is '2', expected"),
    ("autoreset_mode", lambda w: dreams(w, autoreset_mode="sometimes"), ValueError,
     "autoreset_mode.*'sometimes'.*expected.*NextStep"),
    ("a horizon with two names", lambda w: dreams(w, horizon=3, max_episode_steps=4), ValueError,
     "horizon=3 and its alias max_episode_steps=4 disagree"),
    ("its alias", lambda w: dreams(w, max_episode_steps=0), ValueError, "horizon is 0, expected"),
    ("many windows", lambda w: dreams(w, render_mode="human"), ValueError, "is 'human', expected"),
)  # fmt: skip
def test_what_an_environment_is_made_of(world, how, exception, message):
    with pytest.raises(exception, match=message):
        how(world)


@pytest.mark.parametrize("name", ["horizon", "max_episode_steps"])
def test_a_horizon_of_numpy_is_a_whole_number(world, name):
    for env in (dreams(world, **{name: np.int64(3)}), gym.make_vec(
        "Real-Dot-v0", num_envs=2, **{name: np.int32(3)})):  # fmt: skip
        assert env.unwrapped._max_episode_steps == 3
        assert type(env.unwrapped._max_episode_steps) is int


# An environment at work.


@pytest.fixture(scope="module", params=["single", "vector"])
def env_(request, world):
    yield (env := (dream if request.param == "single" else dreams)(world).unwrapped)
    env.close()


@pytest.fixture
def env(env_):
    """In the middle of an episode."""
    env_.reset(seed=1)
    env_.step(zero_action(env_))
    return env_


def zero_action(env) -> np.ndarray:
    return np.zeros(env.action_space.shape, np.float32)


def check_refused(env, call, exception, message) -> None:
    """Nothing is lost: the same state, and the same future."""
    state = env.get_state()
    before = pickle.dumps(state)
    with pytest.raises(exception, match=message):
        call()
    assert pickle.dumps(env.get_state()) == before
    action = zero_action(env)
    futures = [env.step(action)[:4]]
    env.set_state(state)
    futures.append(env.step(action)[:4])
    for first, second in zip(*futures, strict=True):
        np.testing.assert_array_equal(first, second)
        assert np.isfinite(first).all()


def one_nan(zero):
    zero = zero.copy()
    zero.flat[-1] = np.nan
    return zero


@rows(
    ("NaN", lambda zero: zero * np.nan, ValueError, "action is not finite"),
    ("one NaN", one_nan, ValueError, "action is not finite"),
    ("infinity", lambda zero: zero + np.inf, ValueError, "action is not finite"),
    ("minus infinity", lambda zero: zero - np.inf, ValueError, "action is not finite"),
    ("another shape", lambda zero: np.zeros(3), ValueError, r"action has shape \(3,\), expected"),
    ("an axis more", lambda zero: zero[None], ValueError, r"action has shape \(1, 2.*, expected"),
    ("a number", lambda zero: 0.5, ValueError, r"action has shape \(\), expected"),
    ("nothing", lambda zero: [], ValueError, r"action has shape \(0,\), expected"),
    ("texts", lambda zero: zero.astype(str), TypeError, "dtype <U32, expected real numbers"),
    ("a text", lambda zero: "left", TypeError, "action has dtype <U4, expected real numbers"),
    ("None", lambda zero: None, TypeError, "action has dtype object, expected real numbers"),
    ("complex numbers", lambda zero: zero + 1j, TypeError, "dtype complex.*, expected real"),
    ("truths", lambda zero: zero > 1, TypeError, "action has dtype bool, expected real numbers"),
    ("times", lambda zero: zero.astype("M8[s]"), TypeError, "dtype datetime64.*, expected real"),
    ("a dictionary", lambda zero: {"x": 1}, TypeError, "dtype object, expected real numbers"),
    ("ragged lists", lambda zero: [[1], [1, 2]], TypeError, "is not an array of numbers: "),
    ("a tensor with a gradient", lambda zero: torch.tensor(zero, requires_grad=True), TypeError,
     r"is not an array of numbers: .*Use tensor.detach\(\)"),
)  # fmt: skip
def test_actions(env, how, exception, message):
    action = how(zero_action(env))
    check_refused(env, lambda: env.step(action), exception, message)


FRAMES, ACTIONS = np.zeros((4, 96, 96, 3), np.uint8), np.zeros((3, 2), np.float32)


def frames(value, actions=ACTIONS):
    return lambda: {"frames": value, "actions": actions}


def actions(value):
    return frames(FRAMES, value)


@rows(
    ("unknown", lambda: {"state": 1, "frame": 2}, ValueError,
     r"unknown reset options \['frame', 'state'\]; a dream takes 'frames', 'actions', "
     "'agent_pos' and 'task'"),
    ("no such task", lambda: {"task": 1}, ValueError, "task is 1, expected 0 to 0 or one of"),
    ("tasks for five", lambda: {"task": [0] * 5}, ValueError, "has 5 entries, expected one, or "),
    ("no dictionary", lambda: ["frames"], (TypeError, ValueError), "options"),
    ("float frames", frames(FRAMES.astype("f4")), ValueError, "is float32 .*expected uint8"),
    ("small frames", frames(FRAMES[:, :50]), ValueError, r"\(4, 50, 96, 3\), expected .*96, 96, 3"),
    ("channels first", frames(FRAMES.transpose(0, 3, 1, 2)), ValueError, "expected uint8"),
    ("one frame without its axis", frames(FRAMES[0]), ValueError, r"expected uint8 \(k, 96"),
    ("too many axes", frames(FRAMES[None, None]), ValueError, "expected uint8"),
    ("no frames", frames(FRAMES[:0], ACTIONS[:0]), ValueError, "expected at least one frame for"),
    ("a text", frames("real.png"), ValueError, r"is <U8 \(\), expected uint8"),
    ("ragged frames", frames([[1], [1, 2]]), (TypeError, ValueError), r"options\['frames'\]"),
    ("frames for five", frames(FRAMES[None].repeat(5, 0)), ValueError, "for each of [12] env"),
    ("no actions", frames(FRAMES, None), ValueError, r"\['actions'\] is (None|missing), expected"),
    ("a lost action", actions(ACTIONS[:2]), ValueError, r"\(2, 2\), expected numbers \(3, 2\)"),
    ("an action too many", actions(np.zeros((4, 2))), ValueError, r"expected numbers \(3, 2\)"),
    ("NaN actions", actions(ACTIONS * np.nan), ValueError, r"options\['actions'\] is not finite"),
    ("infinite actions", actions(ACTIONS + np.inf), ValueError, r"\['actions'\] is not finite"),
    ("texts", actions(ACTIONS.astype(str)), ValueError, r"is <U32 .*, expected numbers"),
    ("complex actions", actions(ACTIONS + 1j), ValueError, r"is complex.*, expected numbers"),
    ("ragged actions", actions([[1], [1, 2], [1]]), (TypeError, ValueError), r"\['actions'\]"),
    ("actions alone", lambda: {"actions": ACTIONS}, ValueError, r"\['actions'\] without"),
)  # fmt: skip
def test_reset_options(env, how, exception, message):
    check_refused(env, lambda: env.reset(options=how()), exception, message)


@rows(
    ("negative", lambda env: -1, SEED_ERROR, "greater or equal to zero, actual value: -1"),
    ("a fraction", lambda env: 1.5, (SEED_ERROR, TypeError), "[Ss]eed"),
    ("a text", lambda env: "one", (SEED_ERROR, ValueError), "[Ss]eed"),
    ("too many", lambda env: [1, 2, 3], (SEED_ERROR, ValueError), "[Ss]eed"),
    ("one of them negative", lambda env: [1, -1], SEED_ERROR, "[Ss]eed"),
    ("one of them a text", lambda env: [1, "two"], SEED_ERROR, "[Ss]eed"),
)
def test_seeds(env, how, exception, message):
    check_refused(env, lambda: env.reset(seed=how(env)), exception, message)


@rows(
    ("a list", lambda: [True, False], TypeError, "'reset_mask'] is a list, expected a NumPy array"),
    ("too long", lambda: np.ones(3, bool), ValueError, r"has shape \(3,\), expected \(2,\)"),
    ("numbers", lambda: np.ones(2, int), TypeError, "has dtype int64, expected bool"),
    ("none", lambda: np.zeros(2, bool), ValueError, "resets none: expected at least one True"),
)
def test_reset_masks(world, how, exception, message):
    env = dreams(world)
    env.reset(seed=1)
    check_refused(env, lambda: env.reset(options={"reset_mask": how()}), exception, message)


def in_world(**changes):
    """A snapshot whose dream is changed."""

    def make(state, world):
        dreamt = {name: change(getattr(state.world, name)) for name, change in changes.items()}
        return replace(state, world=replace(state.world, **dreamt))

    return make


def in_array(name, i, change):
    """A snapshot in whose dream one array is changed, of its state or its outcome."""
    return in_world(**{name: lambda arrays: (*arrays[:i], change(arrays[i]), *arrays[i + 1 :])})


def of_real(state, world):
    env = gym.make("Real-PushT-v0").unwrapped
    env.reset(seed=0)
    return env.get_state()


def of_dot(state, world):
    env = gym.make("WM-v0", world_model=world.dot).unwrapped
    env.reset(seed=0)
    return env.get_state()


def of_another_model(state, world):
    env = gym.make("WM-v0", world_model=make_world_model(seed=1)).unwrapped
    env.reset(seed=0)
    return env.get_state()


@rows(
    ("None", lambda state, world: None, TypeError, "got a NoneType, expected what get_state"),
    ("a number", lambda state, world: 5, TypeError, "got a int, expected what get_state"),
    ("a dictionary", lambda state, world: {}, TypeError, "got a dict, expected what get_state"),
    ("a real system's", of_real, TypeError, "of a SimulatedWorld, not of a DreamWorld"),
    ("another system's", of_dot, ValueError, "the snapshot is of Dot, expected one of PushT"),
    ("of nothing", lambda state, world: replace(state, world=None), TypeError, "not of a dream"),
    ("other latents", in_array("state", LATENTS, lambda z: z[:, :3]), ValueError,
     r"state is not as this world model's: .* float32 \(4, 3\), expected float32 \(4, 8\)"),
    ("a shorter context", in_array("state", LATENTS, lambda z: z[1:]), ValueError,
     r"state is not as this world model's: .* float32 \(3, 8\), expected float32 \(4, 8\)"),
    ("other actions", in_array("state", ACTION, lambda a: a[:1]), ValueError,
     r"state is not as this world model's: .* float32 \(1, 2\), expected float32 \(3, 2\)"),
    ("latents of another type", in_array("state", LATENTS, np.float64), ValueError,
     r"state is not as this world model's: .* float64 \(4, 8\), expected float32 \(4, 8\)"),
    ("another reward", in_array("outcome", 0, lambda r: r[None]), ValueError,
     r"outcome is not as this world model's: .* float32 \(1,\), expected float32 \(\)"),
    ("no outcome", in_world(outcome=lambda each: each[:3]), ValueError,
     r"outcome is not as this world model's: it has 3 arrays, expected 4 arrays"),
    ("no state", in_world(state=lambda each: None), ValueError,
     r"state is not as this world model's: it has a NoneType, expected 3 arrays"),
    ("other frames", in_world(frame=lambda f: f[:50]), ValueError, "another world model"),
    ("NaN", in_array("state", LATENTS, lambda z: z * np.nan), ValueError, "finite"),
    ("NaN of its worth", in_array("outcome", 0, lambda r: np.full_like(r, np.nan)), ValueError,
     "finite"),
    ("another model of equal sizes", of_another_model, ValueError, "it is of another world model"),
    ("a frame of numbers", in_world(frame=lambda f: f / 2), ValueError, "a frame of float64"),
    ("no latents", in_array("state", LATENTS, lambda z: None), ValueError,
     r"state is not as this world model's: .* NoneType \(\), expected float32 \(4, 8\)"),
    ("a key too long", in_world(key=lambda k: 2**64), ValueError, "key is 1844674"),
    ("a clock of texts", lambda state, world: replace(state, elapsed="x"), ValueError,
     "the snapshot's elapsed is 'x', expected a whole number"),
    ("no generator", lambda state, world: replace(state, rng=None), TypeError, "a Generator"),
)  # fmt: skip
def test_snapshots(env, world, how, exception, message):
    good = env.get_state()
    bad = how(good[0], world) if isinstance(good, tuple) else how(good, world)
    given = (good[0], bad) if isinstance(good, tuple) else bad
    env.step(zero_action(env))  # so that a half of what is given would show
    check_refused(env, lambda: env.set_state(given), exception, message)


@rows(
    ("one for two", lambda state: state[:1], ValueError, "got 1 snapshots for 2 environments"),
    ("none", lambda state: (), ValueError, "got 0 snapshots for 2 environments"),
    ("four for two", lambda state: state + state, ValueError, "got 4 snapshots for 2 environments"),
    ("one alone", lambda state: state[0], TypeError, "got a EnvState, expected"),
    ("a number", lambda state: 5, TypeError, "got a int, expected"),
    ("None", lambda state: None, TypeError, "got a NoneType, expected"),
)
def test_snapshots_of_many(world, how, exception, message):
    env = dreams(world)
    env.reset(seed=1)
    bad = how(env.get_state())
    check_refused(env, lambda: env.set_state(bad), exception, message)


@pytest.mark.parametrize("kind", ["single", "vector"])
def test_a_dreams_snapshot_is_refused_by_the_real_system(world, kind):
    if kind == "single":
        env, other = gym.make("Real-PushT-v0").unwrapped, dream(world).unwrapped
    else:
        env, other = gym.make_vec("Real-PushT-v0", num_envs=2), dreams(world)
    for each in (env, other):
        each.reset(seed=0)
    given = other.get_state() if kind == "single" else (env.get_state()[1], other.get_state()[0])
    before = pickle.dumps(env.get_state())
    with pytest.raises(TypeError, match="the snapshot is"):
        env.set_state(given)
    assert pickle.dumps(env.get_state()) == before


@pytest.mark.parametrize("kind", ["single", "vector"])
@pytest.mark.parametrize("bad", [None, (), (1.0, 2.0), "xyz"])
def test_a_bad_snapshot_of_a_real_system_changes_none_of_them(kind, bad):
    many = kind == "vector"
    env = gym.make_vec("Real-Dot-v0", num_envs=2) if many else gym.make("Real-Dot-v0").unwrapped
    env.reset(seed=0)
    good = env.get_state()
    env.step(zero_action(env) + 1)
    given = (good[0], replace(good[1], world=bad)) if many else replace(good, world=bad)
    before = pickle.dumps(env.get_state())
    with pytest.raises(ValueError, match=r"the snapshot's world is .*, expected what Dot.snapshot"):
        env.set_state(given)
    assert pickle.dumps(env.get_state()) == before


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_snapshot_goes_on_in_whatever_is_loaded_from_the_same_folder(world, dtype):
    folder = world.folder / "same"
    world.model.save_pretrained(folder)
    env, other = dream(world).unwrapped, dream(world, world_model=folder, dtype=dtype).unwrapped
    env.reset(seed=0)
    other.set_state(env.get_state())
    assert other.get_state().world.model == env.get_state().world.model != ""


def test_a_snapshot_of_before_that_tells_no_model_is_restored(world):
    env = dream(world).unwrapped
    env.reset(seed=0)
    state = env.get_state()
    env.set_state(replace(state, world=replace(state.world, model="")))


@rows(
    ("a step", lambda env: env.step(zero_action(env)), ResetNeeded, r"call env.reset\(\) first"),
    ("a snapshot", lambda env: env.get_state(), ResetNeeded, r"call env.reset\(\) first"),
    ("a picture", lambda env: env.render(), ResetNeeded, r"call env.reset\(\) first"),
)
@pytest.mark.parametrize("maker", [dream, dreams])
def test_before_the_first_reset(world, maker, how, exception, message):
    with pytest.raises(exception, match=message):
        how(maker(world, render_mode="rgb_array").unwrapped)


def test_a_first_reset_of_some(world):
    with pytest.raises(ValueError, match="the first reset must be of all environments"):
        dreams(world).reset(options={"reset_mask": np.array([True, False])})


@pytest.mark.parametrize("maker", [dream, dreams])
def test_a_step_after_the_end(world, maker):
    options = {"autoreset_mode": "Disabled"} if maker is dreams else {}
    env = maker(world, horizon=1, **options).unwrapped
    env.reset(seed=1)
    env.step(zero_action(env))
    before = pickle.dumps(env.get_state())
    with pytest.raises(ResetNeeded, match=r"environment \[0.*\] is over: reset it before stepping"):
        env.step(zero_action(env))
    assert pickle.dumps(env.get_state()) == before


# Numbers that are finite and far too large.

TOO_LARGE = "is not finite, so nothing was done: .* too large"


def with_huge(part: str) -> WorldModel:
    """A model, one of whose parts has weights that no training gives it."""
    model = make_world_model()
    for weights in model.get_submodule(part).parameters():
        weights.mul_(1e30)
    return model


@pytest.mark.parametrize("of", [LATENTS, ERROR], ids=["latents", "error"])
def test_a_dream_that_a_snapshot_makes_absurd_is_not_stepped(env, of):
    good = env.get_state()
    last = good[-1] if isinstance(good, tuple) else good
    bad = in_array("state", of, lambda each: np.full_like(each, 1e30))(last, None)
    env.set_state((*good[:-1], bad) if isinstance(good, tuple) else bad)
    before = pickle.dumps(env.get_state())
    with pytest.raises(FloatingPointError, match=rf"environments \[\d\] {TOO_LARGE}"):
        env.step(zero_action(env))
    assert pickle.dumps(env.get_state()) == before
    env.set_state(good)
    assert np.isfinite(env.step(zero_action(env))[1]).all()


@pytest.mark.parametrize(
    "part", ["global_model.heads.reward", "global_model.heads.error", "local_model.dynamics"]
)
@pytest.mark.parametrize("with_grad", [False, True])
@pytest.mark.parametrize("maker", [dream, dreams])
def test_a_step_of_absurd_weights_is_refused(world, maker, part, with_grad):
    env = maker(world, world_model=with_huge(part), obs_type="latent").unwrapped
    env.reset(seed=0)
    before = pickle.dumps(env.get_state())
    action = zero_action(env)
    with pytest.raises(FloatingPointError, match=TOO_LARGE):
        env.step_with_grad(torch.from_numpy(action)) if with_grad else env.step(action)
    assert pickle.dumps(env.get_state()) == before


@pytest.mark.parametrize("part", ["global_model.autoencoder.encoder", "local_model.posterior"])
@pytest.mark.parametrize("maker", [dream, dreams])
def test_a_reset_to_absurd_numbers_is_refused(world, maker, part):
    with pytest.raises(FloatingPointError, match=TOO_LARGE):
        maker(world, world_model=with_huge(part), obs_type="latent").unwrapped.reset(seed=0)


# Too little memory.

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    MemoryError("Unable to allocate 25.1 GiB for an array"),
]


def failing(error):
    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["device", "torch", "numpy"])
def test_too_little_memory_for_so_many_dreams(world, monkeypatch, error):
    monkeypatch.setattr(torch, "zeros", failing(error))
    with pytest.raises((MemoryError, RuntimeError), match=r"64 .*fewer"):
        dreams(world, 64)


@pytest.mark.parametrize("env_id", ["WM-v0", "Real-Dot-v0"])
def test_too_little_memory_for_the_spaces_of_so_many(world, monkeypatch, env_id):
    monkeypatch.setattr("wm_gym.envs.vector.batch_space", failing(MemoryError("12.3 GiB")))
    model = {"world_model": world.model} if env_id == "WM-v0" else {}
    with pytest.raises(MemoryError, match=r"not enough memory for 64 environments .* fewer"):
        gym.make_vec(env_id, num_envs=64, **model)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["device", "torch", "numpy"])
def test_too_little_memory_for_a_step(env, monkeypatch, error):
    with monkeypatch.context() as patch:
        patch.setattr(type(env._episodes.world.model), "step", failing(error))
        before = pickle.dumps(env.get_state())
        with pytest.raises((MemoryError, RuntimeError), match="fewer"):
            env.step(zero_action(env))
    assert pickle.dumps(env.get_state()) == before
    env.step(zero_action(env))


def test_an_error_of_our_own_is_not_taken_for_too_little_memory(env, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(type(env._episodes.world.model), "step", failing(RuntimeError("a slip")))
        with pytest.raises(RuntimeError, match=r"^a slip$"):
            env.step(zero_action(env))


# Models, training, systems.


@rows(
    ("a patch that does not divide", lambda w: Autoencoder(patch=7), ValueError,
     "patch is 7, expected a divisor of the frame's 96×96"),
    ("no patch", lambda w: Autoencoder(patch=0), ValueError, "patch is 0, expected"),
    ("odd channels", lambda w: Autoencoder(channels=17), ValueError, "channels is 17, expected"),
    ("no keypoints", lambda w: Autoencoder(keypoints=0), ValueError, "keypoints is 0, expected"),
    ("an unknown encoding", lambda w: Denoiser(action_encoding="one-hot"), ValueError,
     r"action_encoding 'one-hot', expected \['linear', 'two-hot'\]"),
    ("no context", lambda w: Denoiser(context=0), ValueError, "context is 0, expected"),
    ("parts that disagree", lambda w: KeypointGlobalModel(
        w.model.global_model.autoencoder, w.dot.global_model.denoiser, w.model.global_model.heads,
     ), ValueError,
     r"parts disagree: latents of \{8\}, actions of \{2, 3\} numbers"),
    ("an eye's patch that does not divide", lambda w: KeypointLocalModel(patch=7), ValueError,
     "patch is 7, expected a divisor of the frame's 96×96"),
    ("an eye's patch that divides but the height", lambda w: Eye((48, 64, 3), 12, 4, 8), ValueError,
     "patch is 12, expected a divisor of the frame's 48×64"),
    ("an eye without a patch", lambda w: KeypointLocalModel(patch=0), ValueError,
     "patch is 0, expected"),
    ("an eye without keypoints", lambda w: KeypointLocalModel(keypoints=0), ValueError,
     "keypoints is 0"),
    ("an eye of one channel", lambda w: KeypointLocalModel(channels=1), ValueError,
     "channels is 1, expected at least 2"),
    *[(f"a local model of {name}=0", lambda w, n=name: KeypointLocalModel(**{n: 0}), ValueError,
       f"{name} is 0, expected at least 1")
      for name in ("action_size", "memory", "width", "blocks", "head_width")],
    ("a local model of another system", lambda w: with_local(w, w.dot.local_model), ValueError,
     r"actions of \{2, 3\} numbers, frames of \{\(.*\), \(.*\)\}"),
    ("a local model of other keypoints", lambda w: assembled(w, local(keypoints=5)), ValueError,
     r"parts disagree: latents of \{8, 10\}"),
    ("saving a local model of other keypoints", lambda w: with_local(w, local(keypoints=5))
     .save_pretrained(w.folder / "k"), ValueError, "nobody could load it: .*parts disagree"),
    ("a local model of other frames", lambda w: with_local(w, local(frame_shape=(96, 96, 1))),
     ValueError, r"frames of \{\(96, 96, [13]\), \(96, 96, [13]\)\}"),
    ("no local model", lambda w: WorldModel(w.model.global_model, card=w.model.card), TypeError,
     "'local_model'"),
    ("a local model that is none", lambda w: with_local(w, None), TypeError,
     "local_model is a NoneType, expected a torch module"),
    ("what another system logged", lambda w: w.dot.logged.check(w.model.local_model), ValueError,
     r"its action is of shape \(3, 4, 3\) or not finite, expected \(3, 4, 2\)"),
    ("what another eye saw", lambda w: w.model.logged.check(local(keypoints=5)), ValueError,
     r"its embedding is of shape \(3, 5, 8\) or not finite, expected \(3, 5, 10\)"),
    ("saving what another system logged", lambda w: logging(w.dot).save_pretrained(w.folder / "l"),
     ValueError, r"nobody could load it: logged.safetensors is refused: its action is of shape"),
    ("a path that is a file", lambda w: w.model.save_pretrained(w.folder / "file"), FileExistsError,
     "file exists and is not, or not only, a world model: it is not overwritten"),
    ("a folder of other things", lambda w: w.model.save_pretrained(w.folder), FileExistsError,
     "is not overwritten"),
    ("no start", lambda w: w.model.starts[4], IndexError, ""),
    ("no starts", lambda w: Starts.pack([]), ValueError, "no starts to pack, expected at"),
    ("an unknown system", lambda w: system_named("Pusht"), ValueError,
     r"no system is named 'Pusht'; known are \["),
    ("a system twice", lambda w: register_system(system_named("Dot")), ValueError,
     "a system named 'Dot' is registered already"),
)  # fmt: skip
def test_parts_and_systems(world, how, exception, message):
    with pytest.raises(exception, match=message or None):
        how(world)


@pytest.mark.parametrize(("name", "value"), [
    ("updates", 0), ("updates", -1), ("updates", 1.5), ("batch_size", 0), ("ema", 1.0),
    ("ema", -0.1), ("ema", float("nan")), ("learning_rate", -1.0), ("learning_rate", float("nan")),
    ("clip", 0.0), ("warmup", -5), ("weight_decay", -1.0), ("seed", -1),
])  # fmt: skip
def test_settings_of_an_optimisation(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}, expected"):
        Optimisation(**{name: value})


def trainer_of(system: str) -> Trainer:
    heads = make_world_model(system).global_model.heads.requires_grad_(True)
    return Trainer(heads, Optimisation(updates=1), Accelerator(cpu=True))


@pytest.mark.parametrize("damage", [
    lambda content: b"", lambda content: content[:-100], lambda content: content[: 1000],
    lambda content: b"hello" * 10, lambda content: pickle.dumps(os.getcwd),
    lambda content: content[:2000] + bytes([content[2000] ^ 1]) + content[2001:],
], ids=["empty", "cut", "cut early", "text", "pickle", "flipped"])  # fmt: skip
def test_a_damaged_checkpoint(tmp_path, damage):
    save_checkpoint(tmp_path / "c.pt", trainer_of("PushT").state_dict())
    content = (tmp_path / "c.pt").read_bytes()
    (tmp_path / "c.pt").write_bytes(damage(content))
    with pytest.raises(ValueError, match=r"c.pt is damaged.*; delete it to begin anew") as caught:
        load_checkpoint(tmp_path / "c.pt")
    assert "weights_only" not in str(caught.value), "advice that would run a stranger's code"


def test_a_checkpoint_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt"):
        load_checkpoint(tmp_path / "nothing.pt")


@pytest.mark.parametrize("state", [{}, None], ids=["of nothing", "of another model"])
def test_a_checkpoint_of_something_else(state):
    state = trainer_of("Dot").state_dict() if state is None else state
    with pytest.raises(ValueError, match="checkpoint is of"):
        trainer_of("PushT").load_state_dict(state)


def test_a_full_disk_keeps_the_older_checkpoint(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "c.pt", {"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(
            OSError, match=r"the disk is full: checkpoint .*c.pt was not saved; the"
        ):
            save_checkpoint(tmp_path / "c.pt", {"step": 2})
    assert load_checkpoint(tmp_path / "c.pt") == {"step": 1}
    assert os.listdir(tmp_path) == ["c.pt"]
