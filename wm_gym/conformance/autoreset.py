"""Rules about how an episode ends and the next begins, in each of the three autoreset modes."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import iterate

from wm_gym.conformance.compare import difference, require
from wm_gym.conformance.probe import Probe, require_same
from wm_gym.conformance.walk import AnyVectorEnv, Moment, batched, walk


def rule_next_step(probe: Probe) -> None:
    """NEXT_STEP: the step after an end ignores the action and returns the next start, reward 0 and
    both flags False; `reset_mask` may come before it."""
    if probe.mode is not AutoresetMode.NEXT_STEP:
        return
    with probe.env() as env:
        for moment in map(deepcopy, walk(env, probe.plan, probe.mode)):
            waited = ~moment.acted
            if moment.is_reset or not waited.any():
                continue
            for name in ("reward", "terminated", "truncated"):
                value = getattr(moment, name)
                require(not value[waited].any(), f"{name} is {value}, envs {waited} being reset")
    by_hand = probe.tell(replace(probe.plan, by_hand=True))
    require_same(by_hand, probe.told, "expected as if reset by hand", atol=probe.atol)


def rule_same_step(probe: Probe) -> None:
    """SAME_STEP: the step that ends an episode returns the next start; info["final_obs"] (an object
    array, None where nothing ended) and info["final_info"] hold the end."""
    if probe.mode is not AutoresetMode.SAME_STEP:
        return
    with probe.env() as env:
        for moment in walk(env, probe.plan, probe.mode):
            _require_final_masks(moment)
            final_obs = moment.infos.get("final_obs", np.full(probe.num_envs, None))
            kind = getattr(final_obs, "dtype", type(final_obs).__name__)
            require(kind == np.object_, f"final_obs: expected an object array, got {kind}")
            for i, (obs, ended) in enumerate(zip(final_obs, moment.ended, strict=True)):
                fits = obs in env.single_observation_space if ended else obs is None
                which = "one in single_observation_space" if ended else "None"
                require(fits, f"final_obs[{i}]: expected {which}, got {obs!r:.200}")
    _require_as_in_another_mode(probe, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED)


def _require_final_masks(moment: Moment) -> None:
    for key in ("final_obs", "final_info"):
        mask = moment.infos.get(f"_{key}", np.zeros_like(moment.ended))
        agree = bool((mask == moment.ended).all())
        require(agree, f"info['_{key}']: expected {moment.ended}, got {mask}")


def rule_disabled(probe: Probe) -> None:
    """DISABLED: nothing is reset but by the caller; a step after an end is refused (as in
    `SyncVectorEnv`) or goes on from there (as in `AsyncVectorEnv`)."""
    if probe.mode is not AutoresetMode.DISABLED:
        return
    with probe.env() as env:
        moments = walk(env, probe.plan, probe.mode)
        ended = next(moment.ended for moment in moments if moment.ended.any())
        _require_no_start(probe, env, int(np.flatnonzero(ended)[0]))
    _require_as_in_another_mode(probe, AutoresetMode.NEXT_STEP)


def _require_no_start(probe: Probe, env: AnyVectorEnv, lane: int) -> None:
    """Step on, although env `lane` has just ended its first episode."""
    stream = probe.told[lane]
    start = next(stream[k + 1] for k, event in enumerate(stream) if event.is_end)
    try:
        obs, *rest, _ = env.step(batched(env, [tape[0] for tape in probe.plan.tapes.values()]))
    except Exception:
        return
    row = list(iterate(env.observation_space, obs))[lane]
    reset = not difference(start.obs, row) and not any(value[lane] for value in rest)
    require(not reset, f"env {lane} ended, and the next step reset it")


def _require_as_in_another_mode(probe: Probe, *others: AutoresetMode) -> None:
    for mode in [mode for mode in others if mode in probe.modes][:1]:
        what = f"expected as in {mode.name}"
        require_same(probe.tell(probe.plan, mode), probe.told, what, atol=probe.atol)
