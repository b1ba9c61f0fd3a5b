"""Small correct vector environments, and a zoo of broken ones that each break one rule."""

import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode
FLOAT_OBS = Box(-np.inf, np.inf, (2,), np.float32)
PIXEL_OBS = Box(0, 255, (4, 5, 3), np.uint8)
DICT_OBS = Dict(where=FLOAT_OBS, side=Discrete(2))
TUPLE_OBS = Tuple((FLOAT_OBS, Box(-np.inf, np.inf, (1,), np.float32)))
FORCE = Box(-1.0, 1.0, (2,), np.float32)


class Drift(gym.Env[Any, Any]):
    """A noisy point: ends when its horizon is reached (truncated) or it is far off (terminated)."""

    def __init__(
        self,
        *,
        horizon: int = 5,
        reach: float = 2.5,
        gain: float = 1.0,
        observation_space: gym.Space[Any] = FLOAT_OBS,
        action_space: gym.Space[Any] = FORCE,
        render_mode: str | None = None,
        says: dict[str, Any] | None = None,
    ) -> None:
        self.metadata = {
            "render_modes": ["rgb_array"]
        }  # of the instance: Gymnasium 1.2 writes to it
        self.observation_space, self.action_space = observation_space, action_space
        self.horizon, self.reach, self.gain, self.render_mode = horizon, reach, gain, render_mode
        self.position, self.elapsed, self.start_rng = np.zeros(2), 0, None
        self.says = says or {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        rng = self.np_random if seed is not None or self.start_rng is None else self.start_rng
        self.position, self.elapsed = rng.normal(size=2), 0
        return self._obs(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.position = self.position + self.gain * np.asarray(action) / 2
        self.position = self.position + 0.1 * self.np_random.normal(size=2)
        self.elapsed += 1
        distance = float(np.abs(self.position).max())
        truncated = self.elapsed >= self.horizon
        return self._obs(), -distance, distance > self.reach, truncated, self._info()

    def render(self) -> Any:
        return np.full((6, 7, 3), self.elapsed, np.uint8)

    def _obs(self) -> Any:
        where = self.position.astype(np.float32)
        if isinstance(self.observation_space, Tuple):
            return where, where[:1]
        if isinstance(self.observation_space, Dict):
            return {"where": where, "side": int(where[0] > 0)}
        if self.observation_space.dtype == np.uint8:
            return np.full((4, 5, 3), np.abs(where[0]) * 50 % 256, np.uint8)
        return where

    def _info(self) -> dict[str, Any]:
        info: dict[str, Any]
        info = {"far": bool(self.position[0] > 1), "position": self.position.copy(), **self.says}
        if self.elapsed:  # some keys only now and then, as is usual
            info["clock"] = {"elapsed": self.elapsed, "left": float(self.horizon - self.elapsed)}
            info["note"] = "late" if self.elapsed > 2 else None
        return info


class Drifts(SyncVectorEnv):  # not subscriptable before Gymnasium 1.4
    """Correct; what follows below it is not."""

    single: ClassVar[Callable[[], gym.Env[Any, Any]] | None] = None
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, num_envs: int, autoreset_mode: AutoresetMode, **options: Any) -> None:
        super().__init__([lambda: Drift(**self.options)] * num_envs, autoreset_mode=autoreset_mode)

    @property
    def ended(self) -> Any:
        return self._autoreset_envs


BROKEN: list[tuple[str, type[Drifts]]] = []


def breaks(name: str) -> Callable[[type[Drifts]], type[Drifts]]:
    def register(broken: type[Drifts]) -> type[Drifts]:
        BROKEN.append((name, broken))
        return broken

    return register


def sync(
    single: Callable[[], gym.Env[Any, Any]],
) -> Callable[[int, AutoresetMode], VectorEnv[Any, Any, Any]]:
    return lambda num_envs, mode: SyncVectorEnv([single] * num_envs, autoreset_mode=mode)


# What does not: `breaks` says which rule must be named


@breaks("rule_spaces")
class NarrowActionSpace(Drifts):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.action_space = Box(-0.5, 0.5, (self.num_envs, 2), np.float32)


@breaks("rule_spaces")
class MiscountsItself(Drifts):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.num_envs += 1


@breaks("rule_spaces")
class SpaceWithoutBatchAxis(Drifts):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.observation_space = self.single_observation_space


@breaks("rule_autoreset_metadata")
class ModeAsString(Drifts):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.metadata["autoreset_mode"] = self.autoreset_mode.value


@breaks("rule_autoreset_metadata")
class MetadataOfTheClass(Drifts):
    shared: ClassVar[dict[str, Any]] = {}

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.shared["autoreset_mode"] = self.autoreset_mode
        self.metadata = self.shared


class Altered(Drifts):
    """Leaves it to `alter` to spoil what `step` returns."""

    def step(self, actions: Any) -> Any:
        return self.alter(actions, *super().step(actions))

    def alter(self, actions: Any, obs: Any, reward: Any, *rest: Any) -> Any:
        raise NotImplementedError


@breaks("rule_outputs")
class DoubleObs(Altered):
    def alter(self, actions: Any, obs: Any, *rest: Any) -> Any:
        return obs.astype(np.float64), *rest


@breaks("rule_outputs")
class HalfObs(Altered):
    def alter(self, actions: Any, obs: Any, *rest: Any) -> Any:
        return obs.astype(np.float16), *rest


@breaks("rule_outputs")
class HalfObsInADict(Altered):
    options: ClassVar[dict[str, Any]] = {"observation_space": DICT_OBS}

    def alter(self, actions: Any, obs: Any, *rest: Any) -> Any:
        return {**obs, "where": obs["where"].astype(np.float16)}, *rest


@breaks("rule_outputs")
class HalfObsInATuple(Altered):
    options: ClassVar[dict[str, Any]] = {"observation_space": TUPLE_OBS}

    def alter(self, actions: Any, obs: Any, *rest: Any) -> Any:
        return (obs[0], obs[1].astype(np.float16)), *rest


@breaks("rule_outputs")
class InfoAsList(Altered):
    def alter(self, actions: Any, *rest: Any) -> Any:
        return *rest[:-1], [rest[-1]] * self.num_envs


@breaks("rule_outputs")
class ObsOutsideTheSpace(Altered):
    options: ClassVar[dict[str, Any]] = {"observation_space": Box(-0.1, 0.1, (2,), np.float32)}

    def alter(self, actions: Any, obs: Any, *rest: Any) -> Any:
        return obs * 0 + 1, *rest


@breaks("rule_outputs")
class IntegerReward(Altered):
    def alter(self, actions: Any, obs: Any, reward: Any, *rest: Any) -> Any:
        return obs, reward.astype(np.int64), *rest


@breaks("rule_outputs")
class RewardColumn(Altered):
    def alter(self, actions: Any, obs: Any, reward: Any, *rest: Any) -> Any:
        return obs, reward[:, None], *rest


@breaks("rule_outputs")
class TerminatedAsIntegers(Altered):
    def alter(self, actions: Any, obs: Any, reward: Any, terminated: Any, *rest: Any) -> Any:
        return obs, reward, terminated.astype(np.uint8), *rest


@breaks("rule_outputs")
class TruncatedAsIntegers(Altered):
    def alter(self, actions: Any, *rest: Any) -> Any:
        return *rest[:3], rest[3].astype(np.uint8), rest[4]


@breaks("rule_infos")
class InfoWithoutMask(Altered):
    def alter(self, actions: Any, *rest: Any) -> Any:
        rest[-1].pop("_far")
        return rest


@breaks("rule_infos")
class NestedInfoWithoutMask(Altered):
    def alter(self, actions: Any, *rest: Any) -> Any:
        rest[-1].get("clock", {}).pop("_left", None)
        return rest


@breaks("rule_infos")
class FinalInfoWithoutMask(Altered):
    def alter(self, actions: Any, *rest: Any) -> Any:
        rest[-1].get("final_info", {}).pop("_far", None)
        return rest


@breaks("rule_infos")
class InfoOfOneEnv(Altered):
    def alter(self, actions: Any, *rest: Any) -> Any:
        rest[-1]["position"] = rest[-1]["position"][0]
        return rest


@breaks("rule_close")
class ClosesOnce(Drifts):
    def close(self, **kwargs: Any) -> None:
        if self.closed:
            raise RuntimeError("already closed")
        super().close(**kwargs)


@breaks("rule_close")
class NeverSaysClosed(Drifts):
    def close(self, **kwargs: Any) -> None:
        self.close_extras()


@breaks("rule_episodes_end")
class LongEpisodes(Drifts):
    options: ClassVar[dict[str, Any]] = {"horizon": 1000, "reach": np.inf}


@breaks("rule_global_rng")
class DrawsFromNumPy(Altered):
    def alter(self, actions: Any, *rest: Any) -> Any:
        np.random.random()  # noqa: NPY002
        return rest


@breaks("rule_global_rng")
class DrawsFromTorch(Altered):
    def alter(self, actions: Any, *rest: Any) -> Any:
        torch.rand(1)
        return rest


@breaks("rule_global_rng")
class DrawsFromPython(Altered):
    def alter(self, actions: Any, *rest: Any) -> Any:
        random.random()
        return rest


@breaks("rule_global_rng")
class SeedsTorch(Drifts):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        torch.manual_seed(0)
        return super().reset(seed=seed, options=options)


@breaks("rule_seeding")
class EqualSeeds(Drifts):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        seed = [seed] * self.num_envs if isinstance(seed, int) else seed
        return super().reset(seed=seed, options=options)


@breaks("rule_seeding")
class SeedsOnce(Drifts):
    seeded = False

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        seed, self.seeded = None if self.seeded else seed, True
        return super().reset(seed=seed, options=options)


@breaks("rule_seeding")
class TakesIntSeedsOnce(Drifts):
    seeded = False

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        seed = None if self.seeded and isinstance(seed, int) else seed
        self.seeded = True
        return super().reset(seed=seed, options=options)


@breaks("rule_seeding")
class SeedsAllOrNone(Drifts):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        seed = None if options is None and isinstance(seed, list) and None in seed else seed
        return super().reset(seed=seed, options=options)


@breaks("rule_seeding")
class SeedsUnlikeTheSingleEnv(Drifts):
    single: ClassVar = Drift

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        seed = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        seed = seed and [one if one is None else one + 1000 for one in seed]
        return super().reset(seed=seed, options=options)


@breaks("rule_seeding")
class RefusesNoneAmongSeeds(Drifts):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        if isinstance(seed, list) and options is None and None in seed:
            raise TypeError("None is no seed")
        return super().reset(seed=seed, options=options)


@breaks("rule_determinism")
class NoiseWithoutSeed(Altered):
    def alter(self, actions: Any, obs: Any, reward: Any, *rest: Any) -> Any:
        return obs, reward + np.random.default_rng().normal(), *rest


@breaks("rule_determinism")
class AgeingWithUse(Altered):
    age = 0

    def alter(self, actions: Any, obs: Any, reward: Any, *rest: Any) -> Any:
        self.age += 1
        return obs, reward - 0.01 * self.age * (not rest[0].any()) * (reward != 0), *rest


@breaks("rule_outputs_are_kept")
class OneBufferForAllObs(Drifts):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.copy = False


@breaks("rule_outputs_are_kept")
class OneBufferForAllRewards(Altered):
    buffer = np.zeros(0)

    def alter(self, actions: Any, obs: Any, reward: Any, *rest: Any) -> Any:
        if self.buffer.shape != reward.shape:
            self.buffer = reward
        self.buffer[:] = reward
        return obs, self.buffer, *rest


@breaks("rule_outputs_are_copies")
class ObsIsTheState(Altered):
    last: Any = None

    def step(self, actions: Any) -> Any:
        for env, row in zip(self.envs, self.last, strict=True):
            env.unwrapped.position = row.astype(np.float64)  # type: ignore[attr-defined]
        return super().step(actions)

    def alter(self, actions: Any, obs: Any, *rest: Any) -> Any:
        self.last = obs
        return obs, *rest

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.last, infos = super().reset(seed=seed, options=options)
        return self.last, infos


@breaks("rule_independence")
class RewardAboveTheMean(Altered):
    def alter(self, actions: Any, obs: Any, reward: Any, *rest: Any) -> Any:
        return obs, np.where(reward != 0, reward - actions.mean(), 0), *rest


@breaks("rule_reset_mask")
class PartialResetBlanksTheOthers(Drifts):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        mask = (options or {}).get("reset_mask")
        obs, infos = super().reset(seed=seed, options=options)
        if mask is not None:
            obs[~mask] = 0
        return obs, infos


@breaks("rule_reset_mask")
class PartialResetSpeaksOfAll(Drifts):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        obs, infos = super().reset(seed=seed, options=options)
        infos["_far"][:] = True
        return obs, infos


@breaks("rule_reset_mask_errors")
class TakesMasksFromLists(Drifts):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        if isinstance((options or {}).get("reset_mask"), list):
            options["reset_mask"] = np.array(options["reset_mask"])
        return super().reset(seed=seed, options=options)


@breaks("rule_reset_mask_errors")
class TakesMasksOfIntegers(Drifts):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        if isinstance(mask := (options or {}).get("reset_mask"), np.ndarray):
            options["reset_mask"] = mask.astype(np.bool_)
        return super().reset(seed=seed, options=options)


@breaks("rule_reset_mask_errors")
class TakesLongMasks(Drifts):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        if isinstance(mask := (options or {}).get("reset_mask"), np.ndarray):
            options["reset_mask"] = mask[: self.num_envs]
        return super().reset(seed=seed, options=options)


@breaks("rule_reset_mask_errors")
class TakesEmptyMasks(Drifts):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        if isinstance(mask := (options or {}).get("reset_mask"), np.ndarray) and not mask.any():
            options = None
        return super().reset(seed=seed, options=options)


@breaks("rule_staggered_ends")
class OneStepCounter(Drifts):
    options: ClassVar[dict[str, Any]] = {"reach": np.inf}

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        elapsed = [env.unwrapped.elapsed for env in self.envs]  # type: ignore[attr-defined]
        ended = self.ended.copy()
        partial = "reset_mask" in (options or {})
        result = super().reset(seed=seed, options=options)
        for env, count, end in zip(self.envs, elapsed, ended, strict=True):
            if partial and not end:
                env.unwrapped.elapsed = count  # type: ignore[attr-defined]
        return result


@breaks("rule_staggered_ends")
class PartialResetRewindsAll(Drifts):
    options: ClassVar[dict[str, Any]] = {"reach": np.inf}

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        result = super().reset(seed=seed, options=options)
        for env in self.envs:
            env.unwrapped.elapsed = 0  # type: ignore[attr-defined]
        return result


@breaks("rule_staggered_ends")
class PartialResetForgetsSeeds(Drifts):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return super().reset(seed=None if options else seed, options=options)


@breaks("rule_staggered_ends")
class OthersFreezeDuringAnAutoreset(Drifts):
    """As in Gymnasium's FunctionalJaxVectorEnv."""

    options: ClassVar[dict[str, Any]] = {"reach": np.inf}

    def step(self, actions: Any) -> Any:
        frozen = ~self.ended & (self.ended.any() and self.autoreset_mode is NEXT_STEP)
        before = {i: deepcopy(self.envs[i]) for i in np.flatnonzero(frozen)}
        rest: Any
        obs, *rest = super().step(actions)
        for i, env in before.items():
            self.envs[i] = env
            obs[i] = self._env_obs[i] = env.unwrapped._obs()  # type: ignore[attr-defined]
            self._autoreset_envs[i] = False
            rest[1][i] = rest[2][i] = False
        return obs, *rest


@breaks("rule_staggered_ends")
class OneRngForAllStarts(Drifts):
    options: ClassVar[dict[str, Any]] = {"reach": np.inf}

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        if options is None and seed is not None:
            first = seed if isinstance(seed, int) else seed[0]
            shared = np.random.default_rng(first)
            for env in self.envs:
                env.unwrapped.start_rng = shared  # type: ignore[attr-defined]
        return super().reset(seed=seed, options=options)


@breaks("rule_single_env")
class StrongerThanTheSingleEnv(Drifts):
    single: ClassVar = Drift
    options: ClassVar[dict[str, Any]] = {"gain": 1.5}


@breaks("rule_single_env")
class SingleEnvWithAnotherSpace(Drifts):
    single: ClassVar = lambda: Drift(action_space=Box(-1.0, 2.0, (2,), np.float32))


@breaks("rule_next_step")
class RewardForBeingReset(Altered):
    waiting: Any = False

    def step(self, actions: Any) -> Any:
        self.waiting = self.ended & (self.autoreset_mode is NEXT_STEP)
        return super().step(actions)

    def alter(self, actions: Any, obs: Any, reward: Any, *rest: Any) -> Any:
        return obs, np.where(self.waiting, 1.0, reward), *rest


@breaks("rule_next_step")
class ActsWhileReset(RewardForBeingReset):
    def alter(self, actions: Any, obs: Any, *rest: Any) -> Any:
        for i in np.flatnonzero(self.waiting):
            obs[i] = self._env_obs[i] = obs[i] + actions[i]
        return obs, *rest


@breaks("rule_next_step")
class ResetsAtOnce(Drifts):
    """Says NEXT_STEP, does SAME_STEP."""

    def step(self, actions: Any) -> Any:
        claimed = self.autoreset_mode
        self.autoreset_mode = SAME_STEP if claimed is NEXT_STEP else claimed
        result = super().step(actions)
        self.autoreset_mode = claimed
        return result


@breaks("rule_next_step")
class ResetsTwice(Drifts):
    """Forgets, on a partial reset, that no autoreset is due any more."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        due = self.ended.copy() & (self.autoreset_mode is NEXT_STEP) & (options is not None)
        result = super().reset(seed=seed, options=options)
        self._autoreset_envs = self._autoreset_envs | due
        return result


@breaks("rule_same_step")
class ReturnsTheEnd(Altered):
    def alter(self, actions: Any, obs: Any, *rest: Any) -> Any:
        for i, final_obs in enumerate(rest[-1].get("final_obs", ())):
            if final_obs is not None:
                obs[i] = self._env_obs[i] = final_obs
        return obs, *rest


@breaks("rule_same_step")
class FinalObsIsTheStart(Altered):
    def alter(self, actions: Any, obs: Any, *rest: Any) -> Any:
        for i, final_obs in enumerate(rest[-1].get("final_obs", ())):
            rest[-1]["final_obs"][i] = None if final_obs is None else obs[i].copy()
        return obs, *rest


@breaks("rule_same_step")
class ForgetsFinalObs(Altered):
    forgotten = "final_obs"

    def alter(self, actions: Any, *rest: Any) -> Any:
        for key in (self.forgotten, f"_{self.forgotten}"):
            rest[-1].pop(key, None)
        return rest


@breaks("rule_same_step")
class ForgetsFinalInfo(ForgetsFinalObs):
    forgotten = "final_info"


@breaks("rule_same_step")
class FinalObsOfEverybody(Altered):
    def alter(self, actions: Any, obs: Any, *rest: Any) -> Any:
        for i, final_obs in enumerate(rest[-1].get("final_obs", ())):
            rest[-1]["final_obs"][i] = obs[i] if final_obs is None else final_obs
        return obs, *rest


@breaks("rule_same_step")
class FinalMaskOfEverybody(Altered):
    def alter(self, actions: Any, *rest: Any) -> Any:
        rest[-1].get("_final_obs", np.zeros(0))[:] = True
        return rest


@breaks("rule_same_step")
class FinalObsInADenseArray(Altered):
    def alter(self, actions: Any, obs: Any, *rest: Any) -> Any:
        if "final_obs" in (infos := rest[-1]):
            rows = [obs[i] if x is None else x for i, x in enumerate(infos["final_obs"])]
            infos["final_obs"] = np.stack(rows)
        return obs, *rest


@breaks("rule_same_step")
class FinalObsInADenseArrayWhereAllEnd(FinalObsInADenseArray):
    options: ClassVar[dict[str, Any]] = {"horizon": 1}


@breaks("rule_disabled")
class AutoresetsThoughDisabled(Drifts):
    def __init__(self, num_envs: int, autoreset_mode: AutoresetMode) -> None:
        super().__init__(num_envs, autoreset_mode)
        if autoreset_mode is DISABLED:
            self.autoreset_mode = NEXT_STEP


@breaks("rule_disabled")
class ResetsAtOnceThoughDisabled(Drifts):
    def step(self, actions: Any) -> Any:
        if self.autoreset_mode is DISABLED:
            assert not self.ended.any()
            self.autoreset_mode = SAME_STEP
            *result, infos = super().step(actions)
            self.autoreset_mode = DISABLED
            for key in ("final_obs", "_final_obs", "final_info", "_final_info"):
                infos.pop(key, None)
            return *result, infos
        return super().step(actions)


@breaks("rule_batch_size")
class RewardSharedByAll(Altered):
    def alter(self, actions: Any, obs: Any, reward: Any, *rest: Any) -> Any:
        return obs, reward / self.num_envs, *rest


@breaks("rule_record_episode_statistics")
class KeepsItsOwnStatistics(Drifts):
    options: ClassVar[dict[str, Any]] = {"says": {"episode": 1}}


@breaks("rule_render")
class OnePictureForAll(Drifts):
    options: ClassVar[dict[str, Any]] = {"render_mode": "rgb_array"}

    def render(self) -> Any:
        return super().render()[:1]


@breaks("rule_render")
class OneTiledPicture(OnePictureForAll):
    def render(self) -> Any:
        return np.concatenate(Drifts.render(self))


@breaks("rule_render")
class PicturesInFloats(OnePictureForAll):
    def render(self) -> Any:
        frames: Any = Drifts.render(self)
        return tuple(frame / 255 for frame in frames)
