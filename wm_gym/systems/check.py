"""Is my system right? What every simulator and record must keep, tried out."""

import pickle

import numpy as np
from jaxtyping import Float

from wm_gym.systems.registry import Simulator, System

STEPS = 12


def check_system(system: System, *, seed: int = 0) -> None:
    """Raises AssertionError with what was expected and what came, for each of its simulators."""
    for env_id in system.simulators:
        simulator = system.make_simulator(env_id)
        _require(isinstance(simulator, Simulator), env_id, "lacks methods of Simulator")
        _check_outputs(system, simulator, env_id, seed)
        _check_starts(system, simulator, env_id, seed)
        _check_snapshots(system, simulator, env_id, seed)
    _check_behaviours(system, seed)


def _require(holds: bool | np.bool_, where: str, what: str) -> None:
    if not holds:
        raise AssertionError(f"{where}: {what}")


def _actions(system: System, seed: int) -> Float[np.ndarray, "t a"]:
    return np.random.default_rng(seed).uniform(-1, 1, (STEPS, system.action_size))


def _check_outputs(system: System, simulator: Simulator, where: str, seed: int) -> None:
    simulator.start(np.random.default_rng(seed))
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
        reward, coverage = system.reward(before, action, state), system.coverage(state)
        _require(bool(np.isfinite(reward)), where, f"the reward is {reward}, expected finite")
        _require(bool(0 <= coverage <= 1), where, f"the coverage is {coverage}, expected 0 to 1")
        frame[:], state[:] = 0, 0
        _require(
            bool(simulator.frame().any() and simulator.state().any()), where,
            "frame() or state() hands out its own memory, expected a copy",
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


def _check_snapshots(system: System, simulator: Simulator, where: str, seed: int) -> None:
    simulator.start(np.random.default_rng(seed))
    half = STEPS // 2
    for action in _actions(system, seed)[:half]:
        simulator.advance(action)
    frame, state = simulator.frame(), simulator.state()
    snapshot = pickle.loads(pickle.dumps(simulator.snapshot()))
    futures = []
    for _ in range(2):
        simulator.restore(snapshot)
        _require(np.array_equal(simulator.state(), state), where, "restore() changed the state")
        _require(np.array_equal(simulator.frame(), frame), where, "restore() changed the frame")
        for action in _actions(system, seed)[half:]:
            simulator.advance(action)
        futures.append(simulator.state())
    _require(np.array_equal(futures[0], futures[1]), where, "one snapshot has two futures")


def _check_behaviours(system: System, seed: int) -> None:
    simulator = system.make_simulator()
    for name, behaviour in system.behaviours.items():
        rng = np.random.default_rng(seed)
        pilot = behaviour(rng)
        state = next(pilot)
        if state is None:
            simulator.start(rng)
        else:
            simulator.place(state)
        for _ in range(STEPS):
            action = pilot.send({"state": simulator.state(), "contact": simulator.contact})
            _require(
                np.shape(np.asarray(action)) == (system.action_size,), f"behaviour {name!r}",
                f"yielded {action}, expected {system.action_size} numbers",
            )  # fmt: skip
            simulator.advance(np.clip(np.asarray(action, np.float64), -1, 1))
