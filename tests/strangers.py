"""Environments of nobody's making, in a module that worker processes can import."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Stranger(gym.Env):
    """Vector observations, its own box, pictures only when rendered."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 12}  # noqa: RUF012
    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(np.array([0.0, -0.1]), np.array([0.1, 2.0]), dtype=np.float64)

    def __init__(self, render_mode=None, colour=0):
        self.render_mode, self.colour = render_mode, colour

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.at, {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.at = np.clip(self.at + 0.1 * action, -1, 1).astype(np.float32)
        return self.at, float(self.at.sum()), bool(self.at[1] >= 1), False, {}

    def render(self):
        frame = np.full((16, 20, 3), self.colour, np.uint8)
        frame[int(7 + 7 * self.at[0]), int(9 + 9 * self.at[1])] = 255
        return frame


gym.register("Stranger-v0", entry_point=Stranger)
