"""The smallest system with two tasks and proprioception: a disc that has two rings to go to."""

from dataclasses import replace

import numpy as np

from wm_gym.systems import DOT, Task, register_system
from wm_gym.systems.dot import GOAL, Dot, disc

GOALS = np.stack([GOAL, [12.0, 30.0, 6.0]])


class TwoRings(Dot):
    """Its picture shows what is asked."""

    task = 0

    def set_task(self, task):
        self.task = task

    def frame(self):
        frame = super().frame()
        frame[disc(*GOALS[self.task])] = (200, 0, 0)
        return frame

    def snapshot(self):
        return (*super().snapshot(), self.task)

    def restore(self, snapshot):
        *state, self.task = snapshot
        super().restore(tuple(state))


def distance(state, task):
    return np.square(state - GOALS[task]).sum(-1)


TWO_RINGS = replace(
    DOT,
    name="TwoRings",
    simulators={"Real-TwoRings-v0": f"{__name__}:TwoRings"},
    reward=lambda state, action, next_state, task: -distance(next_state, task) / 1000,
    progress=lambda state, task: np.exp(-distance(state, task) / 100),
    tasks=(
        Task("far", "Move the disc onto the far ring."),
        Task("corner", "Move the disc into the corner.", 0.5),
    ),
    context=3,
    horizon=20,
)
register_system(TWO_RINGS)
