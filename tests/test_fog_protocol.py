"""FoG touches what its protocol names, all of it, and nothing else."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from differentiable_envs import LinearQuadratic
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from tiny_world import make_world_model
from torch import Tensor
from torch.testing import assert_close

from fog_agent import PRESETS, FoG, LightModel, LocalModel, RewarpedLike, diagnose, protocol
from fog_agent.cloning import clone
from fog_agent.look_ahead import Bfloat16, look_ahead
from fog_agent.protocol import members
from fog_agent.trees import map_tensors, pack, unpack

ENVS = 6
TINY = replace(PRESETS["tiny"][1], window=4, look_ahead_bfloat16=False)
WINDOW = TINY.window * ENVS

CORE = (protocol.DifferentiableEnv,)
ABILITIES = (
    protocol.LendsModel, protocol.MayTerminate, protocol.Snapshots, protocol.KnownHorizon,
)  # fmt: skip
OF_ENVS = {name for each in CORE + ABILITIES for name in members(each)}
LIGHT = (protocol.LightModel, protocol.Remembering, protocol.Restorable)
LOCAL = (protocol.LocalModel, *LIGHT[1:])

A, B = torch.tensor([[0.9, 0.3], [-0.1, 0.95]]), torch.tensor([[0.1], [0.5]])
TURN = torch.tensor([[0.6, -0.8], [0.8, 0.6]])


# ------------------------------------------------------------------ written from the protocol alone


class Law:
    """x′ = A x + B u, r = −|x′|² − 0.1 u²; all of it learned long ago."""

    def __init__(self):
        self.refreshed = torch.zeros(())

    def predict(self, obs, action):
        return obs @ A.T + action @ B.T

    def reward_of(self, next_obs, action):
        return -next_obs.square().sum(1) - 0.1 * action.square().sum(1)

    def logged(self):
        obs, action = torch.ones(3, 2), torch.zeros(3, 1)
        after = self.predict(obs, action)
        reward = self.reward_of(after, action)
        return {"obs": obs, "action": action, "reward": reward, "next_obs": after}

    def state_dict(self):
        return {"refreshed": [self.refreshed.clone()]}

    def load_state_dict(self, state):
        (self.refreshed,) = state["refreshed"]


class Memory(NamedTuple):
    steps: Tensor
    past: dict[str, list[Tensor]]


@dataclass(frozen=True)
class Turned:
    """A state in other coordinates, with a memory beside it that grows."""

    place: tuple[Tensor, Tensor]
    memory: Memory


class OwnCoordinates(Law):
    """The same law, of turned states."""

    def begin(self, obs):
        turned = obs @ TURN.T
        steps = torch.zeros(len(obs), dtype=torch.int64)
        return Turned((turned[:, 0], turned[:, 1]), Memory(steps, {"actions": []}))

    def obs_of(self, state):
        return torch.stack(state.place, dim=1) @ TURN

    def predict(self, state, action):
        after = super().predict(self.obs_of(state), action) @ TURN.T
        past = {"actions": [*state.memory.past["actions"], action]}
        return Turned((after[:, 0], after[:, 1]), Memory(state.memory.steps + 1, past))

    def reward_of(self, next_state, action):
        return super().reward_of(self.obs_of(next_state), action)

    def logged(self):
        return None


@dataclass
class Step:
    obs: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    final_obs: Tensor


class World:
    """Begins anew after 5 steps."""

    def __init__(self, model, num_envs=ENVS):
        self.model, self.num_envs = model, num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = Box(-np.inf, np.inf, (2,), np.float32)
        self.single_action_space = Box(-1, 1, (1,), np.float32)
        self.rng = np.random.default_rng(0)

    def fresh(self):
        return torch.from_numpy(self.rng.uniform(-1, 1, (self.num_envs, 2)).astype(np.float32))

    def reset(self, *, seed=None, options=None):
        which = torch.ones(self.num_envs, dtype=torch.bool)
        if options is None:
            self.obs, self.clock = self.fresh(), torch.arange(self.num_envs) % 5
        else:
            which = torch.from_numpy(options["reset_mask"])
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.begin(which)

    def begin(self, which):
        self.obs = torch.where(which[:, None], self.fresh(), self.obs)

    def begin_window(self):
        self.obs = self.obs.detach()
        return self.obs.clone()

    def step_with_grad(self, action):
        after = Law.predict(self.model, self.obs, action)
        reward = Law.reward_of(self.model, after, action)
        self.clock = self.clock + 1
        truncated = self.clock >= 5
        self.obs, self.clock = after, torch.where(truncated, 0, self.clock)
        self.begin(truncated)
        step = Step(self.obs, reward, torch.zeros_like(truncated), truncated, after)
        return guarded(step, members(protocol.GradStep), members(protocol.GradStep))

    def refresh(self, batch):
        assert set(batch) == {"obs", "action", "reward", "next_obs"}
        self.model.refreshed += 1
        return {"size": float(len(batch["reward"]))}


class Able(World):
    """… and offers all that it may."""

    can_terminate, max_episode_steps = False, 5

    def __init__(self, model, num_envs=ENVS):
        super().__init__(model, num_envs)
        kind = LOCAL if isinstance(model, OwnCoordinates) else LIGHT
        names = [name for each in kind for name in members(each)]
        self.surrogate = guarded(model, names, names + members(protocol.LocalModel))

    def get_state(self):
        return (self.obs.detach().clone(), self.clock.clone()), copy.deepcopy(self.rng)

    def set_state(self, state):
        (self.obs, self.clock), rng = state
        self.rng = copy.deepcopy(rng)


USED: set[str] = set()
"""What was read or, if it is a method, called."""


def guarded(inner, names, known):
    """All that `names` says of it; AssertionError for what is not even `known` to a protocol."""

    def member(name):
        def read(self):
            value = getattr(inner, name)
            if not callable(value):
                USED.add(name)
                return value

            def called(*args, **kwargs):
                USED.add(name)
                return value(*args, **kwargs)

            return called

        return property(read)

    def missed(self, name):
        error = AttributeError if name in known else AssertionError
        raise error(f"{name} is asked of a {type(inner).__name__}")

    given = {name: member(name) for name in names}
    return type("Guarded", (), {**given, "__getattr__": missed, "__slots__": ()})()


def bare():
    known = OF_ENVS | {protocol.OLD_HORIZON}
    return guarded(World(Law()), members(protocol.DifferentiableEnv), known)


def able(model=Law):
    return guarded(Able(model()), OF_ENVS, OF_ENVS)


def told(update):
    return update.samples, update.reward, update.diagnostics["objective"], str(update.diagnostics)


@pytest.fixture(autouse=True)
def nothing_used():
    USED.clear()


# ------------------------------------------------------------------ nothing but the protocol


@pytest.mark.parametrize("model", [Law, OwnCoordinates])
def test_an_environment_of_the_protocol_alone_goes_all_the_way(model, tmp_path):
    agent, whole = (FoG(able(model), TINY).learn(2 * WINDOW) for _ in range(2))
    assert agent.windows == 2
    found = diagnose(agent, coordinates=4)
    assert found.agreement[-1].cosine_median > 0.999
    assert found.obs_error < 1e-5
    assert found.reward_error < 1e-5
    loaded = FoG.load(agent.save(tmp_path / "agent"), able(model))
    again, on = (list(map(told, each.updates(WINDOW))) for each in (loaded, whole))
    assert again == on
    assert float(loaded.env.surrogate.state_dict()["refreshed"][0]) == 3 * TINY.refreshes
    assert list(clone(loaded, torch.zeros(4, 2), torch.zeros(4, 1), updates=1))
    walked(RewarpedLike(able(model)))
    lent = LOCAL if model is OwnCoordinates else LIGHT
    named = [name for each in (protocol.GradStep, *lent) for name in members(each)]
    assert OF_ENVS.union(named) == USED


def walked(env):
    checkpoint = env.get_checkpoint()
    env.clear_grad(checkpoint)
    env.reset()
    env.reset([0, 2])
    for _ in range(env.max_episode_length):
        env.step(torch.zeros(env.num_envs, env.num_act))


def test_abilities_may_be_absent(tmp_path):
    with pytest.raises(ValueError, match=r"env\.surrogate must offer predict and reward_of"):
        FoG(bare(), TINY)
    config = replace(TINY, look_aheads=0)
    agent = FoG(bare(), config).learn(WINDOW)
    with pytest.raises(TypeError, match="has no get_state and set_state, expected both: what an"):
        diagnose(agent)
    FoG.load(agent.save(tmp_path / "agent"), bare()).learn(WINDOW)
    with pytest.raises(ValueError, match="episode_length is None, expected a whole number"):
        RewarpedLike(bare())
    env = RewarpedLike(bare(), episode_length=5)
    with pytest.raises(TypeError, match="expected both: it cannot be taken back to a checkpoint"):
        env.get_checkpoint()


def test_what_lacks_is_named(unchecked_types):
    """A world without `refresh` and `metadata`."""
    lacking = [n for n in members(protocol.DifferentiableEnv) if n not in ("refresh", "metadata")]
    known = OF_ENVS | {"unwrapped"}
    with pytest.raises(TypeError, match=r"\(it lacks metadata, refresh\)"):
        FoG(guarded(World(Law()), lacking, known), TINY)


def dream():
    return gym.make_vec(
        "WM-v0", num_envs=2, world_model=make_world_model(), obs_type="latent", horizon=7,
        autoreset_mode="SameStep",
    )  # fmt: skip


def test_a_wrapper_that_hides_the_protocol_is_told_of(unchecked_types):
    """Gymnasium's do; one that hands attributes on, as `guarded` does, is as good as the world."""
    env = RecordEpisodeStatistics(dream())
    for door in (FoG, RewarpedLike):
        with pytest.raises(TypeError, match=r"a RecordEpisodeSt.* refresh\): give env\.unwrapped"):
            door(env)
    assert FoG(env.unwrapped, replace(TINY, experience=2)).get_env() is env.unwrapped


def test_a_dream_has_every_ability():
    env = dream().unwrapped
    for each in (*CORE, *ABILITIES):
        assert not protocol.missing(env, each)
    for each in LIGHT:
        assert not protocol.missing(env.surrogate, each)
    assert env.max_episode_steps == env._max_episode_steps == RewarpedLike(env).episode_length == 7


# ------------------------------------------------------------------ states of a model's own


def test_a_look_ahead_is_the_same_in_any_coordinates():
    agent = FoG(LinearQuadratic(ENVS), TINY)
    agent._ready()
    learner, noise, obs = agent.learner, torch.ones(3, 5, 1), torch.rand(5, 2)
    learner.reward_scale.fill_(1.0)
    learner.bonus_scale.fill_(1.0)
    parameters, found = list(learner.actor.parameters()), []
    for model in (Law(), OwnCoordinates(), Bfloat16(OwnCoordinates())):
        total, end = look_ahead(
            model, obs, noise, act=learner.act, worth=learner.worth, gamma=0.9
        )  # fmt: skip
        found.append((total, end, torch.autograd.grad((total + end.sum(1)).sum(), parameters)))
    assert all(by.any() for by in found[0][2])
    assert_close(found[1], found[0])
    assert found[2][1].dtype == torch.float32
    assert_close(found[2], found[0], rtol=0.1, atol=0.1)
    assert not torch.equal(found[2][1], found[1][1])


def test_rounded_states_go_on_from_more_bits():
    """Whatever holds them; what was no sum is as it was."""
    model, obs = OwnCoordinates(), torch.rand(4, 2)
    assert isinstance(model, LocalModel)
    assert not isinstance(Law(), LocalModel)
    assert isinstance(Law(), LightModel)
    low = Bfloat16(model)
    state = low.predict(low.begin(obs), torch.ones(4, 1))
    assert isinstance(state, Turned)
    assert isinstance(state.memory, Memory)
    assert [each.dtype for each in state.place] == [torch.float32] * 2
    assert state.memory.steps.dtype == torch.int64
    assert low.reward_of(state, torch.ones(4, 1)).dtype == torch.float32
    assert_close(low.obs_of(state), Law().predict(obs, torch.ones(4, 1)), rtol=0.02, atol=0.02)


def test_trees_of_tensors_are_mapped():
    tree = {"a": [torch.ones(2), "text"], "b": Memory(torch.zeros(1), {"c": [torch.ones(1)]}), 3: 4}
    doubled = map_tensors(lambda x: 2 * x, tree)
    assert_close(doubled["a"][0], torch.full((2,), 2.0))
    assert isinstance(doubled["b"], Memory)
    assert doubled["b"].past["c"][0] == 2
    assert (doubled["a"][1], doubled[3]) == ("text", 4)
    assert tree["a"][0][0] == 1


def test_named_tuples_come_back_by_example():
    tree, tensors = Memory(torch.ones(2), {"c": [torch.zeros(1)]}), {}
    packed: Mapping[str, Any] = pack([tree], tensors)
    (back,) = unpack(packed, tensors.copy(), [tree])
    assert isinstance(back, Memory)
    assert_close(back, tree)
    (plain,) = unpack(packed, tensors.copy())
    assert type(plain) is tuple
