"""The policy that comes with the package is one, for the world model that comes with it."""

import gymnasium as gym
import numpy as np

import wm_gym  # noqa: F401
from fog_agent import FoG


def test_it_pushes_the_block_onto_its_goal_where_it_was_never_trained():
    """A far lower bar than its card's: eight episodes, mostly solved."""
    policy = FoG.load("push-t")
    env = gym.make_vec("Real-PushT-v0", num_envs=8, obs_type="latent", world_model="push-t")
    obs, info = env.reset(seed=50_000)
    begun = info["coverage"].mean()
    for _ in range(100):
        obs, _, _, _, info = env.step(policy.predict(obs)[0])
    assert begun < 0.4
    assert np.mean(info["best_coverage"] > 0.8) >= 0.75
