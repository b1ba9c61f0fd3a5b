"""An expert: tries pushes in the exact simulator and does the best one.

It knows the true state and the true physics, so it serves imitation and fidelity tests; no world
model behind a headline is trained on what it does.
"""

import math

import numpy as np
from jaxtyping import Float

from wm_gym.systems.pusht import geometry
from wm_gym.systems.pusht.pushes import Push, aim, error, perform, random_push
from wm_gym.systems.pusht.reward import pose_error
from wm_gym.systems.pusht.simulator import PushT
from wm_gym.systems.registry import Pilot

DRAWN, TRIED = 96, 20
"""Pushes drawn for each decision, and how many of them, the best aimed, are tried."""

ENOUGH = 0.97
"""Coverage at which it rests."""

PRICE = 0.02
"""Halvings of the pose error that a step must be worth."""


def expert(rng: np.random.Generator) -> Pilot:
    imagined = PushT()
    info = yield None
    while True:
        if geometry.coverage(info["state"][2:5]) > ENOUGH:
            info = yield np.zeros(2)
        else:
            push, speed = _best(imagined, info["state"], rng)
            info = yield from perform(push, info, speed=speed)


def _best(
    imagined: PushT, state: Float[np.ndarray, "s=7"], rng: np.random.Generator
) -> tuple[Push, float]:
    pose = state[2:5]
    left = math.hypot(*error(pose))
    lengths = left * rng.uniform(0.3, 1.3, DRAWN) + rng.uniform(0, 8, DRAWN)
    pushes = sorted((random_push(rng, length) for length in lengths), key=lambda p: -aim(p, pose))
    speeds = rng.uniform(0.15, 1.0, TRIED) if left > 25 else rng.uniform(0.05, 0.4, TRIED)
    plans = list(zip(pushes[:TRIED], speeds.tolist(), strict=True))
    return max(plans, key=lambda plan: _worth(imagined, state, *plan))


def _worth(imagined: PushT, state: Float[np.ndarray, "s=7"], push: Push, speed: float) -> float:
    """How often the pose error is halved by the push, less the price of its steps."""
    imagined.place(state)
    run, used = perform(push, {"state": state}, speed=speed), 0
    try:
        action = next(run)
        while True:
            imagined.advance(action)
            used += 1
            action = run.send({"state": imagined.state()})
    except StopIteration:
        return -0.5 * math.log2(pose_error(imagined.state()[2:5]) + 1e-3) - PRICE * used
