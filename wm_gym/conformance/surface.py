"""Rules about what a vector environment is made of, returns, and lets one do."""

from collections.abc import Iterable, Iterator
from copy import deepcopy
from itertools import islice
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, create_empty_array
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from wm_gym.conformance.compare import difference, require
from wm_gym.conformance.probe import Probe, require_same, streams
from wm_gym.conformance.walk import BEFORE_1_4, AnyVectorEnv, Moment, batched, reset, walk
from wm_gym.types import Info


def rule_spaces(probe: Probe) -> None:
    """The batched spaces are `batch_space(single space, num_envs)`."""
    with probe.env() as env:
        require(
            env.num_envs == probe.num_envs,
            f"num_envs: expected {probe.num_envs}, got {env.num_envs}",
        )
        for name in ("observation", "action"):
            expected = batch_space(getattr(env, f"single_{name}_space"), probe.num_envs)
            actual = getattr(env, f"{name}_space")
            require(actual == expected, f"{name}_space: expected {expected}, got {actual}")


def rule_autoreset_metadata(probe: Probe) -> None:
    """`metadata["autoreset_mode"]` is the `AutoresetMode` asked for, whatever is made later."""
    with probe.env() as env:
        for other in probe.modes:
            with probe.env(mode=other):
                actual = env.metadata.get("autoreset_mode")
                require(actual is probe.mode, f"expected {probe.mode!r}, got {actual!r}")


def rule_outputs(probe: Probe) -> None:
    """Observations lie in the space, with its dtypes; rewards are floating point and flags bool,
    NumPy arrays of shape (num_envs,); info is a dict."""
    n = probe.num_envs
    with probe.env() as env:
        empty = create_empty_array(env.single_observation_space, n)
        for moment in walk(env, probe.longest_plan, probe.mode):
            _require_alike(empty, moment.obs, "obs")
            require(moment.obs in env.observation_space, "obs is not in observation_space")
            require(isinstance(moment.infos, dict), f"info: expected dict, got {moment.infos!r}")
            if moment.is_reset:
                continue
            _require_array(moment.reward, np.floating, n, "reward")
            _require_array(moment.terminated, np.bool_, n, "terminated")
            _require_array(moment.truncated, np.bool_, n, "truncated")


def _require_alike(empty: Any, actual: Any, name: str) -> None:
    if isinstance(empty, dict):
        for key, value in empty.items():
            _require_alike(value, actual[key], f"{name}[{key!r}]")
    elif isinstance(empty, tuple):
        for k, value in enumerate(empty):
            _require_alike(value, actual[k], f"{name}[{k}]")
    elif isinstance(empty, np.ndarray):
        kinds = [f"{type(x).__name__} {getattr(x, 'dtype', '')}" for x in (empty, actual)]
        shapes = [list(np.shape(x)) for x in (empty, actual)]
        same = kinds[0] == kinds[1] and shapes[0] == shapes[1]
        require(same, f"{name}: expected {kinds[0]}{shapes[0]}, got {kinds[1]}{shapes[1]}")


def _require_array(value: Any, kind: type[np.generic], n: int, name: str) -> None:
    fits = isinstance(value, np.ndarray) and np.issubdtype(value.dtype, kind)
    require(
        fits and value.shape == (n,),
        f"{name}: expected a {kind.__name__} array of shape ({n},), got {value!r:.200}",
    )


def rule_infos(probe: Probe) -> None:
    """Every key of info holds `num_envs` values in an array, and has a bool mask `_key`; dicts are
    batched key by key."""
    with probe.env() as env:
        for moment in walk(env, probe.plan, probe.mode):
            _require_masks(moment.infos, probe.num_envs, "info")


def _require_masks(infos: Info, n: int, name: str) -> None:
    for key, value in infos.items():
        if key.startswith("_") and key[1:] in infos:
            continue
        _require_array(infos.get(f"_{key}"), np.bool_, n, f"{name}[{f'_{key}'!r}]")
        if isinstance(value, dict):
            _require_masks(value, n, f"{name}[{key!r}]")
            continue
        fits = isinstance(value, np.ndarray) and value.shape[:1] == (n,)
        require(fits, f"{name}[{key!r}]: expected an array of {n} values, got {value!r:.200}")


def rule_outputs_are_kept(probe: Probe) -> None:
    """What was returned is not overwritten by later calls."""
    with probe.env() as env:
        moments = [(m, deepcopy(m)) for m in walk(env, probe.plan, probe.mode)]
    for k, (moment, copy) in enumerate(moments):
        found = difference(copy._asdict(), moment._asdict())
        require(not found, f"output {k} changed after it was returned{found}")


def rule_outputs_are_copies(probe: Probe) -> None:
    """Writing into what was returned changes nothing in the environment."""
    with probe.env() as env:
        moments = _spoilt(walk(env, probe.plan, probe.mode))
        told = streams(env, probe.plan, probe.mode, moments)
    require_same(probe.told, told, "after writing into the outputs")


def _spoilt(moments: Iterable[Moment]) -> Iterator[Moment]:
    for moment in moments:
        yield moment
        _spoil((moment.obs, moment.infos, moment.reward, moment.terminated, moment.truncated))


def _spoil(value: Any) -> None:
    if isinstance(value, dict | tuple | list) or getattr(value, "dtype", None) == np.object_:
        for item in value.values() if isinstance(value, dict) else value:
            _spoil(item)
    elif isinstance(value, np.ndarray) and value.flags.writeable and value.dtype.kind in "biuf":
        value[...] = ~value if value.dtype == np.bool_ else value + 1


def rule_record_episode_statistics(probe: Probe) -> None:
    """`RecordEpisodeStatistics` counts the returns and lengths that one sums by hand."""
    if BEFORE_1_4 and probe.mode is AutoresetMode.SAME_STEP:
        return  # there the wrapper itself forgets the first step of an episode
    with probe.env() as bare:
        _stagger(bare, probe)
        env = RecordEpisodeStatistics(bare)
        returns, lengths = np.zeros(probe.num_envs), np.zeros(probe.num_envs, np.int64)
        waiting = np.zeros(probe.num_envs, np.bool_)
        for actions in islice(zip(*probe.plan.tapes.values(), strict=True), probe.plan.steps):
            _, reward, terminated, truncated, infos = env.step(batched(env, list(actions)))
            ended = terminated | truncated
            returns, lengths = returns + np.where(waiting, 0, reward), lengths + ~waiting
            if ended.any():
                counted = infos["episode"]["r"], infos["episode"]["l"], infos["_episode"]
                summed = np.where(ended, returns, 0), np.where(ended, lengths, 0), ended
                found = difference(summed, counted, atol=1e-5 * float(1 + np.abs(returns).max()))
                require(not found, f"(return, length, mask){found}")
            returns, lengths = np.where(ended, 0, returns), np.where(ended, 0, lengths)
            waiting = ended if probe.mode is AutoresetMode.NEXT_STEP else waiting
            if probe.mode is AutoresetMode.DISABLED and ended.any():
                # All of them: `SyncVectorEnv` pops the mask before the wrapper sees it, which then
                # forgets everybody's statistics.
                reset(env, None)
                returns, lengths = np.zeros_like(returns), np.zeros_like(lengths)


def _stagger(env: AnyVectorEnv, probe: Probe) -> None:
    """Leave half of the environments one step ahead of the others."""
    reset(env, probe.seed)
    action = batched(env, [tape[0] for tape in probe.plan.tapes.values()])
    _, _, terminated, truncated, _ = env.step(action)
    if np.logical_or(terminated, truncated).any():
        reset(env, probe.seed)
    else:
        reset(env, None, np.arange(probe.num_envs) % 2 == 1)


def rule_render(probe: Probe) -> None:
    """In render_mode "rgb_array", `render()` returns a uint8 picture (h, w, 3) per environment."""
    with probe.env() as env:
        if env.render_mode != "rgb_array":
            return
        reset(env, probe.seed)
        frames: Any = env.render()
        count = len(frames) if isinstance(frames, tuple | list | np.ndarray) else frames
        require(count == probe.num_envs, f"expected {probe.num_envs} frames, got {count}")
        for i, frame in enumerate(frames):
            kind = f"{getattr(frame, 'dtype', type(frame).__name__)}{list(np.shape(frame))}"
            fits = isinstance(frame, np.ndarray) and frame.ndim == 3 and frame.shape[2] == 3
            require(fits and frame.dtype == np.uint8, f"frame {i} is {kind}")


def rule_close(probe: Probe) -> None:
    """`close()` may be called twice, used or not, and leaves `closed` True."""
    for used in (False, True):
        env = probe.make(probe.num_envs, probe.mode)
        if used:
            reset(env, probe.seed)
        env.close()
        require(env.closed, f"closed is {env.closed!r} after close()")
        env.close()
