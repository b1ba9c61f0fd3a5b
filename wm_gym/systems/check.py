"""Is my system right? What every simulator and record must keep, tried out."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from wm_gym.systems.registry import NoisySimulator, Simulator, System, TaskSimulator

STEPS = 12


def check_system(system: System, *, seed: int = 0) -> None:
    """Raises AssertionError with what was expected and what came, for each of its simulators."""
    for env_id in system.simulators:
        simulator = system.make_simulator(env_id)
        _require(isinstance(simulator, Simulator), env_id, "lacks methods of Simulator")
        _require(
            len(system.tasks) == 1 or isinstance(simulator, TaskSimulator), env_id,
            f"lacks set_task(task), as the system has {len(system.tasks)} tasks",
        )  # fmt: skip
        for task in range(len(system.tasks)):
            where = env_id if len(system.tasks) == 1 else f"{env_id}, task {task}"
            _begin(system, simulator, task)
            states = _check_outputs(system, simulator, where, seed, task)
            _check_states(system, states, where, task)
            _check_starts(system, simulator, where, seed)
            _check_snapshots(system, simulator, where, seed, task)
            _check_noise(system, simulator, where, seed)
    _check_success(system)
    _check_behaviours(system, seed)


def _begin(system: System, simulator: Simulator, task: int) -> None:
    """With what is asked of the simulators of several tasks alone."""
    if len(system.tasks) > 1:
        assert isinstance(simulator, TaskSimulator)
        simulator.set_task(task)


def _require(holds: bool | np.bool_, where: str, what: str) -> None:
    if not holds:
        raise AssertionError(f"{where}: {what}")


def _actions(system: System, seed: int) -> Float[np.ndarray, "t a"]:
    return np.random.default_rng(seed).uniform(-1, 1, (STEPS, system.action_size))


def _check_outputs(
    system: System, simulator: Simulator, where: str, seed: int, task: int
) -> Float[np.ndarray, "t s"]:
    """The states that came by."""
    simulator.start(np.random.default_rng(seed))
    states = [simulator.state()]
    for action in _actions(system, seed):
        before = simulator.state()
        simulator.advance(action)
        frame, state, picture = simulator.frame(), simulator.state(), simulator.picture()
        _require(
            frame.shape == system.frame_shape and frame.dtype == np.uint8, where,
            f"frame() is {frame.dtype} {frame.shape}, expected uint8 {system.frame_shape}",
        )  # fmt: skip
        _require(
            state.shape == (len(system.state_names),) and bool(np.isfinite(state).all()), where,
            f"state() is {state}, expected a finite number for each of {system.state_names}",
        )  # fmt: skip
        _require(
            picture.ndim == 3 and picture.dtype == np.uint8, where,
            f"picture() is {picture.dtype} {picture.shape}, expected uint8 (h, w, c)",
        )  # fmt: skip
        states.append(state.copy())
        reward = system.reward_of(before, action, state, task)
        _require(
            np.shape(reward) == () and bool(np.isfinite(reward)), where,
            f"the reward is {reward}, expected one finite number",
        )  # fmt: skip
        if system.progress is not None:
            progress = system.progress_of(state, task)
            _require(
                np.shape(progress) == () and bool(0 <= progress <= 1), where,
                f"the progress is {progress}, expected one number from 0 to 1",
            )  # fmt: skip
        frame[:], state[:] = 0, 0
        _require(
            bool(simulator.frame().any() and simulator.state().any()), where,
            "frame() or state() hands out its own memory, expected a copy",
        )  # fmt: skip
    return np.stack(states)


def _check_states(system: System, states: Float[np.ndarray, "t s"], where: str, task: int) -> None:
    """What is said of many states at once is what is said of each."""
    tasks = np.arange(len(states)) % len(system.tasks)
    action = np.zeros((len(states), system.action_size))
    functions: dict[str, Callable[..., Any]] = {
        "reward": lambda s, a, t: system.reward(s, a, s, *system.asked(t, s))
    }
    if (progress := system.progress) is not None:
        functions["progress"] = lambda s, a, t: progress(s, *system.asked(t, s))
    if system.ended is not None:
        functions["end"] = lambda s, a, t: system.ended_in(s)
    if (proprioception := system.proprioception) is not None:
        functions["proprioception"] = lambda s, a, t: proprioception(s)
    for name, function in functions.items():
        one = np.asarray(function(states[0], action[0], task))
        expected = (system.proprio_size,) if name == "proprioception" else ()
        _require(
            one.shape == expected and bool(np.isfinite(one).all()), where,
            f"the {name} of one state is {one}, expected finite numbers of shape {expected}",
        )  # fmt: skip
        each = [function(*row) for row in zip(states, action, tasks.tolist(), strict=True)]
        together = np.asarray(function(states, action, tasks))
        _require(
            together.shape == (len(states), *expected), where,
            f"the {name} of {len(states)} states has shape {together.shape}, "
            f"expected {(len(states), *expected)}: one row for each state",
        )  # fmt: skip
        _require(
            np.allclose(together, np.stack(each), atol=1e-6), where,
            f"the {name} of many states is not that of each, with the task that each has",
        )  # fmt: skip


def _check_success(system: System) -> None:
    """There is nothing beyond a threshold of 1."""
    if system.progress is None:
        return
    for index, task in enumerate(system.tasks):
        threshold = system.success_thresholds[index]
        _require(
            bool(system.success_of(np.asarray(1.0), index)), f"task {task.name!r}",
            f"is never done: its success_threshold is {threshold}, expected less than 1",
        )  # fmt: skip


def _check_starts(system: System, simulator: Simulator, where: str, seed: int) -> None:
    states = []
    for number in (seed, seed + 1, seed):
        simulator.start(np.random.default_rng(number))
        states.append(simulator.state())
    _require(np.array_equal(states[0], states[2]), where, "equal seeds start in other states")
    _require(not np.array_equal(states[0], states[1]), where, "other seeds start in equal states")
    wanted = np.clip(states[1], system.state_low, system.state_high)
    simulator.place(wanted)
    _require(
        np.allclose(simulator.state(), wanted, atol=1e-6), where,
        f"place({wanted}) led to {simulator.state()}",
    )  # fmt: skip


def _check_snapshots(
    system: System, simulator: Simulator, where: str, seed: int, task: int
) -> None:
    rng = np.random.default_rng(seed)
    simulator.start(rng)
    if isinstance(simulator, NoisySimulator):
        simulator.seed_noise(rng)
    half = STEPS // 2
    for action in _actions(system, seed)[:half]:
        simulator.advance(action)
    frame, state = simulator.frame(), simulator.state()
    snapshot = pickle.loads(pickle.dumps(simulator.snapshot()))
    futures = []
    for other in range(2):
        _begin(system, simulator, (task + other) % len(system.tasks))
        simulator.restore(snapshot)
        _require(np.array_equal(simulator.state(), state), where, "restore() changed the state")
        _require(np.array_equal(simulator.frame(), frame), where, "restore() changed the frame")
        for action in _actions(system, seed)[half:]:
            simulator.advance(action)
        futures.append(simulator.state())
    _require(np.array_equal(futures[0], futures[1]), where, "one snapshot has two futures")


def _check_noise(system: System, simulator: Simulator, where: str, seed: int) -> None:
    """That it has a seed, of those simulators that have noise."""
    if not isinstance(simulator, NoisySimulator):
        return
    simulator.start(np.random.default_rng(seed))
    begun, futures = simulator.state(), []
    for number in (seed, seed + 1, seed):
        simulator.place(begun)
        simulator.seed_noise(np.random.default_rng(number))
        for action in _actions(system, seed):
            simulator.advance(action)
        futures.append(simulator.state())
    _require(np.array_equal(futures[0], futures[2]), where, "equal seeds have other noise")
    _require(not np.array_equal(futures[0], futures[1]), where, "other seeds have equal noise")


def _check_behaviours(system: System, seed: int) -> None:
    simulator = system.make_simulator()
    for name, behaviour in system.behaviours.items():
        rng = np.random.default_rng(seed)
        pilot = behaviour(rng)
        _begin(system, simulator, 0)
        state = next(pilot)
        if state is None:
            simulator.start(rng)
        else:
            simulator.place(state)
        for _ in range(STEPS):
            info = {"state": simulator.state(), "contact": simulator.contact, "task": 0}
            action = pilot.send(info)
            _require(
                np.shape(np.asarray(action)) == (system.action_size,), f"behaviour {name!r}",
                f"yielded {action}, expected {system.action_size} numbers",
            )  # fmt: skip
            simulator.advance(np.clip(np.asarray(action, np.float64), -1, 1))
