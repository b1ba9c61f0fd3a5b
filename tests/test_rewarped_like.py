"""An agent that knows DiffRL's and rewarped's names alone trains on our protocol."""

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from tiny_world import make_world_model
from torch import Tensor, nn

from fog_agent import DifferentiableEnv
from fog_agent.rewarped_like import RewarpedLike

A, B = torch.tensor([[1.0, 0.2], [0.0, 1.0]]), torch.tensor([[0.0], [0.2]])


@dataclass
class Step:
    obs: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    final_obs: Tensor
    valid: Tensor
    info: dict[str, Any] = field(default_factory=dict)


class LinearQuadratic:
    """x′ = A x + B u, r = −|x′|² − 0.01 u²; over after 20 steps, or where |x| > 10."""

    _max_episode_steps = 20

    def __init__(self, num_envs=16, mode=AutoresetMode.SAME_STEP):
        self.num_envs, self.metadata = num_envs, {"autoreset_mode": mode}
        self.single_observation_space = Box(-np.inf, np.inf, (2,), np.float32)
        self.single_action_space = Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        if seed is not None or not hasattr(self, "rng"):
            self.rng = torch.Generator().manual_seed(seed or 0)
            self.x = torch.zeros(self.num_envs, 2)
            self.steps = torch.zeros(self.num_envs, dtype=torch.int64)
        which = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        self._begin(torch.from_numpy(which))
        return self.x.detach().numpy(), {}

    def _begin(self, which):
        self.steps = torch.where(which, 0, self.steps)
        fresh = torch.rand(self.num_envs, 2, generator=self.rng) * 2 - 1
        self.x = torch.where(which[:, None], fresh, self.x)

    def begin_window(self):
        self.x = self.x.detach()
        return self.x.clone()

    def step_with_grad(self, action):
        after = self.x @ A.T + action.clamp(-1, 1) @ B.T
        reward = -after.square().sum(1) - 0.01 * action.square().sum(1)
        self.steps = self.steps + 1
        truncated, terminated = self.steps >= self._max_episode_steps, after.norm(dim=1) > 10
        self.x = after
        self._begin(truncated | terminated)
        return Step(self.x, reward, terminated, truncated, after, torch.ones_like(truncated))

    def refresh(self, batch):
        return {}


class Agent:
    """Short-horizon actor-critic (Xu et al. 2022), no longer than it must be."""

    def __init__(self, env, *, horizon=8, gamma=0.95, width=32, rate=1e-2):
        torch.manual_seed(0)
        self.env, self.horizon, self.gamma = env, horizon, gamma
        self.actor = network(env.num_obs, width, env.num_actions)
        self.critic = network(env.num_observations, width, 1)
        self.actor_optimiser = torch.optim.Adam(self.actor.parameters(), rate)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), rate)
        self.length = torch.zeros(env.num_envs, dtype=torch.int64, device=env.device)
        env.reset()

    def value(self, obs):
        return self.critic(obs)[:, 0]

    def update(self):
        """The mean reward of a window."""
        env, n = self.env, self.env.num_envs
        env.clear_grad()
        obs = env.initialize_trajectory()
        total, discount, rewards, told = torch.zeros(()), torch.ones(n), [], []
        for t in range(self.horizon):
            before = obs.detach()
            obs, reward, over, extras = env.step(torch.tanh(self.actor(obs)))
            self.length += 1
            following = obs
            if over.any():
                assert (extras["obs_before_reset"][~over] == obs[~over]).all()
                following = extras["obs_before_reset"]
            else:
                assert extras["obs_before_reset"] is None
            # a failure, were it not for the time
            failed = over & (self.length < env.max_episode_length)
            worth = torch.where(failed, 0.0, self.value(following))
            total = total + (discount * reward).sum()
            ends = over | (t == self.horizon - 1)
            total = total + (self.gamma * discount * worth)[ends].sum()
            discount = torch.where(over, 1.0, discount * self.gamma)
            self.length[over] = 0
            rewards.append(reward.detach())
            told.append((before, (reward + self.gamma * worth).detach()))
        self.actor_optimiser.zero_grad()
        (-total / (n * self.horizon)).backward()
        self.norm = nn.utils.clip_grad_norm_(self.actor.parameters(), 1.0)
        self.actor_optimiser.step()
        self._learn(told)
        return torch.stack(rewards).mean().item()

    def _learn(self, told):
        obs, target = (torch.cat(each) for each in zip(*told, strict=True))
        for _ in range(4):
            loss = (self.value(obs) - target).square().mean()
            self.critic_optimiser.zero_grad()
            loss.backward()
            self.critic_optimiser.step()


def network(inputs, width, outputs):
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, outputs))


@pytest.fixture
def own_generator():
    with torch.random.fork_rng(devices=[]):
        yield


def dreams(num_envs=3, **kwargs):
    kwargs = {"autoreset_mode": "SameStep", "horizon": 5, "obs_type": "latent", **kwargs}
    world_model = make_world_model()
    return gym.make_vec("WM-v0", num_envs=num_envs, world_model=world_model, **kwargs).unwrapped


def test_a_short_horizon_agent_learns_a_linear_quadratic_problem(own_generator):
    env = LinearQuadratic()
    assert isinstance(env, DifferentiableEnv)
    agent = Agent(RewarpedLike(env, seed=0))
    rewards = [agent.update() for _ in range(60)]
    assert np.mean(rewards[-10:]) > 0.5 * np.mean(rewards[:10])  # they are costs
    assert np.mean(rewards[-10:]) > 0.2 * without_control()


def without_control():
    env = RewarpedLike(LinearQuadratic(), no_grad=True, seed=0)
    nothing = torch.zeros(env.num_envs, env.num_actions)
    return np.mean([env.step(nothing)[1].mean().item() for _ in range(80)])


@pytest.mark.parametrize("obs_type", ["latent", "pixels"])
def test_the_same_agent_runs_in_a_dream(obs_type, own_generator):
    env = RewarpedLike(dreams(obs_type=obs_type), seed=0)
    if obs_type == "pixels":
        env = Flat(env)
    agent = Agent(env, horizon=4, rate=1e-5)
    for _ in range(3):
        assert np.isfinite(agent.update())
        assert 0 < agent.norm < np.inf


class Flat:
    """Pixels in a row, as that agent wants its observations."""

    def __init__(self, env):
        self.env = env

    def __getattr__(self, name):
        return getattr(self.env, name)

    def initialize_trajectory(self):
        return self.env.initialize_trajectory().flatten(1) / 255

    def step(self, actions):
        obs, reward, over, extras = self.env.step(actions)
        if (before := extras["obs_before_reset"]) is not None:
            extras["obs_before_reset"] = before.flatten(1) / 255
        return obs.flatten(1) / 255, reward, over, extras


def test_sizes_go_by_all_their_names():
    env = RewarpedLike(dreams())
    assert env.num_envs == 3
    assert env.num_obs == env.num_observations == 20
    assert env.num_act == env.num_actions == 2
    assert env.max_episode_steps == env.max_episode_length == env.episode_length == 5
    assert env.obs_space == env.observation_space == env.env.single_observation_space
    assert env.act_space == env.action_space == env.env.single_action_space
    assert env.device == torch.device("cpu")
    assert env.requires_grad
    assert not env.no_grad


def test_what_was_before_a_reset_keeps_its_gradient():
    env = RewarpedLike(dreams(), seed=0)
    env.reset()
    acts = torch.full((5, 3, 2), 0.1, requires_grad=True)
    for action in acts[:4]:
        _, _, over, extras = env.step(action)
        assert not over.any()
        assert extras["obs_before_reset"] is None
    obs, reward, over, extras = env.step(acts[4])
    assert over.all()
    assert extras["truncated"].all()
    assert not (extras["terminated"] | extras["episode_end"]).any()
    assert (extras["obs_before_reset"] != obs).any(1).all()
    (by,) = torch.autograd.grad(extras["obs_before_reset"].sum(), acts, retain_graph=True)
    assert (by != 0).all()
    (by,) = torch.autograd.grad((obs.sum() + 0 * reward.sum()), acts)
    assert (by == 0).all()


def test_trajectories_begin_without_the_past():
    env = RewarpedLike(dreams(horizon=50), seed=0)
    env.reset()
    for cut in (env.initialize_trajectory, env.clear_grad, lambda: env.reset([1])):
        acts = torch.full((2, 3, 2), 0.1, requires_grad=True)
        before = env.step(acts[0])[0].detach()
        cut()
        now = env.initialize_trajectory()
        assert not now.requires_grad
        assert torch.equal(now[[0, 2]], before[[0, 2]])
        (by,) = torch.autograd.grad(env.step(acts[1])[0].sum(), acts)
        assert (by[0] == 0).all()
        assert (by[1] != 0).all()


def test_some_can_be_reset():
    env = RewarpedLike(dreams(horizon=50), seed=0)
    before = env.reset()
    for env_ids in (torch.tensor([0, 2]), [0, 2]):
        after = env.reset(env_ids, clear_grad=True)
        assert torch.equal(after[1], before[1])
    assert torch.equal(env.reset([]), after)
    obs = [env.reset() for _ in range(5)]
    assert any((one != obs[0]).any() for one in obs)


def test_a_checkpoint_has_one_future():
    env = RewarpedLike(dreams(horizon=50, deterministic=True), seed=0)
    action = torch.full((3, 2), 0.1, requires_grad=True)
    env.step(action)
    checkpoint = env.get_checkpoint(detach=True)
    obs, reward, _, _ = env.step(action)
    env.clear_grad(checkpoint)
    again, reward_again, _, _ = env.step(action)
    assert torch.equal(again, obs)
    assert torch.equal(reward_again, reward)


def test_without_gradients_there_are_none():
    env = RewarpedLike(dreams(), no_grad=True)
    assert not env.requires_grad
    obs, reward, _, _ = env.step(torch.zeros(3, 2, requires_grad=True))
    assert not obs.requires_grad
    assert not reward.requires_grad


def test_it_says_what_it_cannot_wrap(unchecked_types):
    for env in (gym.make_vec("Real-PushT-v0"), "an environment"):
        with pytest.raises(TypeError, match="expected a DifferentiableEnv"):
            RewarpedLike(env)
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED):
        for env in (dreams(autoreset_mode=mode), LinearQuadratic(mode=mode)):
            with pytest.raises(ValueError, match=f"autoreset_mode is {mode}, expected .*SAME_STEP"):
                RewarpedLike(env)
    env = LinearQuadratic()
    with pytest.raises(TypeError, match="LinearQuadratic has no get_state and set_state"):
        RewarpedLike(env).get_checkpoint()
    env._max_episode_steps = None
    with pytest.raises(ValueError, match="episode_length is None, expected a whole number"):
        RewarpedLike(env)
    assert RewarpedLike(env, episode_length=7).max_episode_length == 7
