"""FoG arrives where it can be derived that it should."""

import numpy as np
import pytest
import torch
from differentiable_envs import Corridor, LinearQuadratic, Mass

from fog_agent import FoG, FoGConfig

SMALL = {
    "critic_hidden": (32,), "critic_updates": 8, "critic_batch": 256, "critic_rate": 3e-3,
    "look_aheads": 2, "look_ahead_batch": 128, "refreshes": 0,
}  # fmt: skip


def gain(agent):
    """K of u = −K x close to the origin."""

    def policy(obs):
        return agent.learner.actor.best(agent.learner.normaliser(obs))

    return -torch.autograd.functional.jacobian(policy, torch.zeros(1, 2))[0, :, 0].numpy()


@pytest.mark.parametrize("look_aheads", [2, 0])
def test_a_linear_policy_reaches_the_riccati_gain(look_aheads, unchecked_types):
    """Episodes are of ten steps, but only truncated: the best gain is that of the endless one."""
    settings = {
        **SMALL, "gamma": 0.9, "window": 8, "actor_hidden": (), "actor_rate": 1e-2,
        "entropy": False, "log_std": (-5.0, -1.0), "decay_samples": 25_000,
        "look_aheads": look_aheads,
    }  # fmt: skip
    env = LinearQuadratic(16, horizon=10)
    agent = FoG(env, FoGConfig(**settings))
    for parameter in agent.learner.actor.parameters():
        parameter.data.zero_()
    best = env.law.gain(0.9)
    assert np.abs(best).min() > 1
    assert not gain(agent).any()
    agent.learn(25_000)
    assert np.abs(gain(agent) - best).max() < 0.1 * np.abs(best).max()


def test_it_stops_before_the_wall(unchecked_types):
    env = Corridor(32)
    settings = {**SMALL, "gamma": 0.95, "actor_hidden": (32,), "actor_rate": 5e-3}
    agent = FoG(env, FoGConfig(**{**settings, "look_aheads": 0}))

    def policy(obs):
        return agent.predict(obs)[0]

    start, hurried = driven(policy), driven(lambda obs: np.sign(Mass.goal - obs[:, :1]))
    agent.learn(25_000)
    learned = driven(policy)
    for other in (start, hurried):
        assert learned.reward[30:].sum() > 0.5 * other.reward[30:].sum()  # these are costs
        assert learned.reward.sum() > 0.85 * other.reward.sum()
        assert other.touched.any()
    assert not learned.touched[30:].any()


class Driven:
    def __init__(self):
        self.reward, self.touched = [], []


def driven(policy):
    env, path = Corridor(64, staggered=False), Driven()
    obs, _ = env.reset(seed=123)
    for _ in range(env.horizon - 1):
        obs, reward, *_ = env.step(policy(obs))
        path.reward.append(reward.mean())
        path.touched.append((np.abs(obs[:, 0]) > 1).any())
    path.reward, path.touched = np.array(path.reward), np.array(path.touched)
    return path
