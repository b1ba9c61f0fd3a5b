"""Rules about what each environment lives through: seeds, chance, neighbours, partial resets."""

import random
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector.utils import iterate

from wm_gym.conformance.compare import difference, require
from wm_gym.conformance.probe import Probe, Stream, Streams, require_same, streams
from wm_gym.conformance.walk import BEFORE_1_4, AnyVectorEnv, Flags, Moment, reset, walk
from wm_gym.types import Info


def rule_episodes_end(probe: Probe) -> None:
    """Random actions end an episode of every environment within `max_steps`: the other rules need
    to see it."""
    _ = probe.plan  # its length is found by waiting for those ends


class GlobalRng(NamedTuple):
    name: str
    get_state: Callable[[], Any]
    set_state: Callable[[Any], None]
    draw: Callable[[], Any]


def _global_rngs() -> Iterator[GlobalRng]:
    yield GlobalRng("random", random.getstate, random.setstate, random.random)
    numpy = np.random
    yield GlobalRng("numpy.random", numpy.get_state, numpy.set_state, numpy.random)
    if torch := sys.modules.get("torch"):  # not imported for this
        rand = torch.rand
        yield GlobalRng("torch", torch.get_rng_state, torch.set_rng_state, partial(rand, 1))
        if torch.cuda.is_initialized():
            cuda = torch.cuda
            draw = partial(rand, 1, device="cuda")
            yield GlobalRng("torch.cuda", cuda.get_rng_state, cuda.set_rng_state, draw)


def rule_global_rng(probe: Probe) -> None:
    """The global RNGs of Python, NumPy and torch are neither drawn from nor seeded."""
    rngs = list(_global_rngs())
    kept = [rng.get_state() for rng in rngs]
    try:
        for rng in rngs:
            rng.draw()  # or seeding it once more with the same number would go unseen
        before = [rng.get_state() for rng in rngs]
        with probe.env() as env:
            for _ in walk(env, probe.plan, probe.mode):
                pass
            reset(env, None)
        for rng, state in zip(rngs, before, strict=True):
            require(not difference(state, rng.get_state()), f"the state of {rng.name} changed")
    finally:
        for rng, state in zip(rngs, kept, strict=True):
            rng.set_state(state)


def rule_seeding(probe: Probe) -> None:
    """The int seed s means [s, s + 1, …], on a used environment too; None may stand in a list; a
    single environment with seed s + i starts as the i-th does."""
    seeds = probe.plan.seeds
    with probe.env() as env:
        by_list = _starts(probe, env, seeds)
        require_same(
            by_list, _starts(probe, env, probe.seed), "expected as with seed=[s, s + 1, ...]"
        )
        some = _starts(probe, env, [seeds[0], *[None] * (probe.num_envs - 1)])
        require_same({0: by_list[0]}, some, "seed=[s, None, ...]")
    if probe.make_single is not None:
        starts = {lane: stream[:1] for lane, stream in probe.told_by_singles.items()}
        require_same(starts, by_list, "seed s + i in a single environment", atol=probe.atol)


def _starts(probe: Probe, env: AnyVectorEnv, seeds: int | list[int | None]) -> Streams:
    everybody = np.ones(probe.num_envs, np.bool_)
    moment = Moment(*reset(env, seeds), everybody, ~everybody)
    return streams(env, probe.plan, probe.mode, [moment])


def rule_determinism(probe: Probe) -> None:
    """Equal seeds and actions give equal episodes, the first and those after it, on a fresh
    environment and on a used one."""
    with probe.env() as env:
        for use in ("a fresh environment", "a used environment"):
            again = streams(env, probe.plan, probe.mode, walk(env, probe.plan, probe.mode))
            require_same(probe.told, again, use)


def rule_independence(probe: Probe) -> None:
    """The actions of one environment change nothing for the others."""
    others = probe.tapes(salt=1)
    for lane in (0, probe.num_envs - 1):
        tapes = {**probe.plan.tapes, lane: others[lane]}
        told = probe.tell(replace(probe.plan, tapes=tapes))
        neighbours = {other: stream for other, stream in probe.told.items() if other != lane}
        what = f"other actions in env {lane} alone"
        require_same(neighbours, told, what, atol=probe.atol)


def rule_reset_mask(probe: Probe) -> None:
    """`reset_mask` leaves the rows of all other environments as they were, and says nothing of them
    in info."""
    with probe.env() as env:
        moments = map(deepcopy, walk(env, probe.plan, probe.mode))
        for before, after in pairwise(moments):
            if not after.is_reset or after.started.all():
                continue
            rows = [iterate(env.observation_space, moment.obs) for moment in (before, after)]
            for i, (expected, actual) in enumerate(zip(*rows, strict=True)):
                found = "" if after.started[i] else difference(expected, actual)
                require(not found, f"obs of env {i} with reset_mask={after.started}{found}")
            _require_silence(after.infos, ~after.started)


def _require_silence(infos: Info, others: Flags) -> None:
    for key in infos:
        mask = infos.get(f"_{key}")
        spoken = mask is not None and bool((mask & others).any())
        require(not spoken, f"info['_{key}'] is {mask} with reset_mask={~others}")


def rule_reset_mask_errors(probe: Probe) -> None:
    """A `reset_mask` that is no bool array is a TypeError; one of another shape, or without a True,
    a ValueError."""
    n = probe.num_envs
    cases: list[tuple[str, Any, type[Exception]]] = [
        ("a list", [True] * n, TypeError),
        ("an int array", np.ones(n, np.int64), TypeError),
        ("a mask for one environment more", np.ones(n + 1, np.bool_), ValueError),
        ("no True", np.zeros(n, np.bool_), ValueError),
    ]
    with probe.env() as env:
        for name, mask, error in cases:
            reset(env, probe.seed)
            came = _raised(partial(env.reset, options={"reset_mask": mask}))
            # Gymnasium itself raised AssertionErrors before 1.4.
            fits = isinstance(came, (error, AssertionError) if BEFORE_1_4 else error)
            require(fits, f"{name}: expected {error.__name__}, got {came!r}")


def _raised(call: Callable[[], Any]) -> Exception | None:
    try:
        call()
    except Exception as error:
        return error
    return None


def rule_staggered_ends(probe: Probe) -> None:
    """An environment that `reset_mask` sends back to its seed halfway lives its episode once more,
    to its end, while the others go on: each has its own step counter and its own RNG."""
    plain = probe.tell(replace(probe.plan, forced={}))
    replayed = probe.tell(replace(probe.plan, replay=True))
    for lane, stream in plain.items():
        cut = _index_after_steps(stream, probe.plan.forced.get(lane, 0))
        again = [*stream[:cut], *stream] if cut and not stream[cut - 1].is_end else stream
        require_same({lane: again}, replayed, "replayed", atol=probe.atol)


def _index_after_steps(stream: Stream, steps: int) -> int:
    indices = [k + 1 for k, event in enumerate(stream) if not event.is_start]
    return indices[steps - 1] if 0 < steps <= len(indices) else 0


def rule_single_env(probe: Probe) -> None:
    """Environment i lives through the same as a single environment with seed s + i."""
    if probe.make_single is None:
        return
    single = probe.make_single()
    with probe.env() as env:
        for name in ("observation_space", "action_space"):
            expected, actual = getattr(single, name), getattr(env, f"single_{name}")
            require(expected == actual, f"single_{name}: expected {expected}, got {actual}")
    single.close()
    what = "expected as in single environments"
    require_same(probe.told_by_singles, probe.told, what, atol=probe.atol)


def rule_batch_size(probe: Probe) -> None:
    """Environment i depends on seed + i alone: in a batch of one it lives through the same."""
    for lane in probe.plan.lanes:
        alone = probe.tell(replace(probe.plan, lanes=(lane,)))
        require_same(alone, probe.told, "expected as in a batch of one", atol=probe.atol)
