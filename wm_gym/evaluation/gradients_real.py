"""The real system's gradients: central differences from restored states."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32

from wm_gym.evaluation.gradients import Cases, Gradients, central_differences, offsets
from wm_gym.evaluation.linear_probe import pose_of
from wm_gym.systems import Simulator, System


def real_gradients(
    system: System,
    cases: Cases,
    state: Float[np.ndarray, "b s"],
    deltas: Sequence[float],
) -> tuple[list[Gradients], Bool[np.ndarray, "b"]]:
    """For each δ, and whether the tool touched the block in the first step."""
    env_id = cases.dataset.spec.env_id
    simulator = system.make_simulator(env_id if env_id in system.simulators else None)
    shift = offsets(deltas, system.action_size)
    parts, touched = [], []
    for start, action in zip(state, cases.action.swapaxes(0, 1), strict=True):
        snapshots, touch = _nominal(simulator, start, action)
        touched.append(touch)

        def perturbed(
            t: int, snapshots: list[object] = snapshots, action: Float32[np.ndarray, "t a"] = action
        ) -> tuple[np.ndarray, np.ndarray]:
            tried = np.repeat(action[None, t:], len(shift), axis=0)
            tried[:, 0] += shift
            states = np.stack([_rolled(simulator, snapshots[t], each) for each in tried])
            rewards = system.reward(states[:, :-1], tried, states[:, 1:])
            return rewards[None], pose_of(states[:, 1])[None, None]

        parts.append(central_differences(perturbed, deltas, system.action_size)[0])
    joined = [Gradients.joined(each) for each in zip(*parts, strict=True)]
    return joined, np.array(touched)


def _nominal(
    simulator: Simulator, start: Float[np.ndarray, "s"], action: Float32[np.ndarray, "t a"]
) -> tuple[list[object], bool]:
    """A snapshot before each step."""
    simulator.place(start)
    snapshots, touched = [], False
    for t, one in enumerate(action):
        snapshots.append(simulator.snapshot())
        simulator.advance(one)
        touched = simulator.contact if t == 0 else touched
    return snapshots, bool(touched)


def _rolled(
    simulator: Simulator, snapshot: object, action: Float32[np.ndarray, "t a"]
) -> Float[np.ndarray, "t1 s"]:
    simulator.restore(snapshot)
    states = [simulator.state()]
    for one in action:
        simulator.advance(one)
        states.append(simulator.state())
    return np.stack(states)
