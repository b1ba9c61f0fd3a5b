"""Environments of nobody's making, in a module that worker processes can import."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from wm_gym.systems import DOT, Task
from wm_gym.systems.behaviours import smooth


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


class Hoarder(gym.Env):
    """One picture, one info and one state for ever: it writes to them, and to its actions."""

    metadata = {"render_modes": [], "render_fps": 10}  # noqa: RUF012
    observation_space = spaces.Box(0, 255, (16, 16, 3), np.uint8)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self):
        self.picture = np.zeros((16, 16, 3), np.uint8)
        self.info = {"coverage": 0.0, "state": np.zeros(2)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.picture[:] = self.info["coverage"] = self.info["state"][:] = 0
        return self.picture, self.info

    def step(self, action):
        self.picture += 1
        self.info["coverage"] += 0.25
        self.info["state"] += action
        action[:] = 0
        return self.picture, 1.0, False, False, self.info


class Fickle(Stranger):
    """Coverage is an int at first; state is told at a reset alone, contact from a step on."""

    def __init__(self, render_mode=None, steps=1000):
        super().__init__(render_mode)
        self.steps = steps

    def reset(self, *, seed=None, options=None):
        self.told = 0
        return super().reset(seed=seed)[0], {"coverage": 0, "state": np.zeros(3)}

    def step(self, action):
        self.told += 1
        coverage = {"coverage": 0.5} if self.told <= self.steps else {}
        return *super().step(action)[:4], {**coverage, "contact": True}


class Demanding(Stranger):
    """No picture can be had of it by default; nothing at all where it is broken."""

    def __init__(self, render_mode=None, broken=False):
        if render_mode != "rgb_array":
            raise ValueError("say how to render")
        if broken:
            raise RuntimeError("broken")
        super().__init__(render_mode)


class Stuck(Stranger):
    action_space = spaces.Box(np.array([0.0, 2.0]), np.array([0.1, 2.0]), dtype=np.float64)


class Feeler(Stranger):
    """Shows and feels, under LeRobot's names; writes to what it gave."""

    observation_space = spaces.Dict(
        {
            "pixels": spaces.Box(0, 255, (16, 20, 3), np.uint8),
            "agent_pos": spaces.Box(-1, 1, (2,), np.float64),
        }
    )

    def reset(self, *, seed=None, options=None):
        self.felt, (at, info) = np.zeros(2), super().reset(seed=seed)
        return self.sensed(at), info

    def step(self, action):
        at, *rest = super().step(action)
        return self.sensed(at), *rest

    def sensed(self, at):
        self.felt[:] = at
        return {"pixels": self.render(), "agent_pos": self.felt}


class TwoTasks(Feeler):
    """Its record, of two tasks, says what it feels; it goes where the task begins."""

    system = replace(
        DOT,
        tasks=(Task("left", "Go left."), Task("right", "Go right.", 0.5)),
        behaviours={"smooth": smooth(2)},
        play={"smooth": 1.0},
    )

    def reset(self, *, seed=None, options=None):
        obs, _ = super().reset(seed=seed)
        self.task = options["task"] if options else 0
        self.task_description = "what nobody asks for"
        return obs, {"task": self.task, "progress": 0.25}

    def step(self, action):
        return *super().step(action)[:4], {"task": self.task, "progress": 0.5}


for name, made in {
    "Stranger-v0": Stranger,
    "Hoarder-v0": Hoarder,
    "Fickle-v0": Fickle,
    "Demanding-v0": Demanding,
    "Stuck-v0": Stuck,
    "Feeler-v0": Feeler,
    "TwoTasks-v0": TwoTasks,
}.items():
    gym.register(name, entry_point=made)
