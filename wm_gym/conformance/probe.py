"""What each environment of a batch lived through, written down so that it can be compared.

The *stream* of an environment is the list of its starts and steps as a single environment would
tell them: it knows neither the batch around it nor the autoreset mode. So the streams of other
batches, of other modes and of single environments can be compared event by event.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import iterate

from wm_gym.conformance.compare import ConformanceError, difference, require
from wm_gym.conformance.walk import AnyVectorEnv, Moment, Plan, Tapes, walk
from wm_gym.types import Info

Make: TypeAlias = Callable[[int, AutoresetMode], AnyVectorEnv]
MakeSingle: TypeAlias = Callable[[], gym.Env[Any, Any]]

STEPS_AFTER_THE_LAST_END = 3  # so that the next episode is seen to begin


class Event(NamedTuple):
    """One line of a stream: a start, or one step."""

    obs: Any
    info: Info
    reward: Any = None
    terminated: bool = False
    truncated: bool = False

    @property
    def is_start(self) -> bool:
        return self.reward is None

    @property
    def is_end(self) -> bool:
        return self.terminated or self.truncated


Stream: TypeAlias = list[Event]
Streams: TypeAlias = dict[int, Stream]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a rule is given: how to make environments, to walk them and to hear what they tell."""

    make: Make
    make_single: MakeSingle | None
    seed: int
    num_envs: int
    mode: AutoresetMode
    modes: tuple[AutoresetMode, ...]
    max_steps: int
    atol: float

    @contextmanager
    def env(
        self, num_envs: int | None = None, mode: AutoresetMode | None = None
    ) -> Iterator[AnyVectorEnv]:
        env = self.make(num_envs or self.num_envs, mode or self.mode)
        try:
            yield env
        finally:
            env.close()

    @property
    def longest(self) -> int:
        return self.max_steps + self.num_envs - 1  # the steps lost to the forced resets

    def tapes(self, salt: int = 0) -> Tapes:
        """Random actions that depend on the seed, the lane and `salt`, not on the batch."""
        with self.env() as env:
            space = deepcopy(env.single_action_space)
        tapes: Tapes = {}
        for lane in range(self.num_envs):
            space.seed(int(np.random.SeedSequence([self.seed, lane, salt]).generate_state(1)[0]))
            length = self.longest + STEPS_AFTER_THE_LAST_END
            tapes[lane] = [space.sample() for _ in range(length)]
        return tapes

    @cached_property
    def longest_plan(self) -> Plan:
        lanes = tuple(range(self.num_envs))
        return Plan(
            lanes=lanes,
            seed=self.seed,
            steps=self.longest,
            tapes=self.tapes(),
            forced={lane: self.num_envs - 1 - lane for lane in lanes[:-1]},
        )

    @cached_property
    def plan(self) -> Plan:
        """Just long enough for every environment to end an episode and begin the next."""
        plan = self.longest_plan
        seen = np.zeros(self.num_envs, np.bool_)
        with self.env() as env:
            moments = (moment for moment in walk(env, plan, self.mode) if not moment.is_reset)
            for steps, moment in enumerate(moments, start=1):
                seen = seen | moment.ended
                if seen.all():
                    return replace(plan, steps=steps + STEPS_AFTER_THE_LAST_END)
        raise ConformanceError(
            f"environments {np.flatnonzero(~seen).tolist()} ended no episode within max_steps="
            f"{self.max_steps} random actions; let `make` give shorter episodes, or raise max_steps"
        )

    @cached_property
    def told(self) -> Streams:
        """The streams of `plan`, with which most rules compare."""
        return self.tell(self.plan)

    def tell(self, plan: Plan, mode: AutoresetMode | None = None) -> Streams:
        mode = mode or self.mode
        with self.env(len(plan.lanes), mode) as env:
            return streams(env, plan, mode, walk(env, plan, mode))

    @cached_property
    def told_by_singles(self) -> Streams:
        """The same lives led by single environments; rewards in the precision of the batch."""
        return {lane: self._tell_single(lane) for lane in self.plan.lanes}

    def _tell_single(self, lane: int) -> Stream:
        assert self.make_single is not None
        plan, env = self.plan, self.make_single()
        precision = next(np.asarray(e.reward).dtype for e in self.told[lane] if not e.is_start)
        try:
            stream = [Event(*deepcopy(env.reset(seed=self.seed + lane)))]
            for taken, action in enumerate(plan.tapes[lane][: plan.steps], start=1):
                obs, reward, terminated, truncated, info = deepcopy(env.step(action))
                value = np.asarray(reward).astype(precision)
                stream.append(Event(obs, info, value, bool(terminated), bool(truncated)))
                if stream[-1].is_end or plan.forced.get(lane) == taken:
                    stream.append(Event(*deepcopy(env.reset())))
        finally:
            env.close()
        return stream


def streams(
    env: AnyVectorEnv, plan: Plan, mode: AutoresetMode, moments: Iterable[Moment]
) -> Streams:
    told: Streams = {lane: [] for lane in plan.lanes}
    for moment in moments:
        rows = list(iterate(env.observation_space, moment.obs))
        for i, stream in enumerate(told.values()):
            obs, info = rows[i], row_info(moment.infos, i)
            if mode is AutoresetMode.SAME_STEP:  # these speak of the last episode
                info = {k: v for k, v in info.items() if k not in ("final_obs", "final_info")}
            if moment.acted[i]:
                final = mode is AutoresetMode.SAME_STEP and moment.ended[i]
                lived = _final(moment.infos, obs, i) if final else (obs, info)
                flags = bool(moment.terminated[i]), bool(moment.truncated[i])
                stream.append(deepcopy(Event(*lived, moment.reward[i], *flags)))
            if moment.started[i]:
                stream.append(deepcopy(Event(obs, info)))
    return told


def row_info(infos: Info, i: int) -> Info:
    """The info of environment i alone, as its masks tell it."""
    row: Info = {}
    for key, value in infos.items():
        mask = infos.get(f"_{key}")
        if mask is not None and mask[i]:
            row[key] = row_info(value, i) if isinstance(value, dict) else value[i]
    return row


def _final(infos: Info, obs: Any, i: int) -> tuple[Any, Info]:
    """SAME_STEP puts the end of an episode into `infos`; that it is there is `rule_same_step`'s."""
    final_obs = infos["final_obs"][i] if "final_obs" in infos else obs
    return final_obs, row_info(infos.get("final_info", {}), i)


def require_same(
    expected: Mapping[int, Stream], actual: Streams, what: str, *, atol: float = 0.0
) -> None:
    """Compare as far as both tell."""
    for lane, stream in expected.items():
        for k, (one, other) in enumerate(zip(stream, actual[lane], strict=False)):
            kind = "start" if one.is_start else "last step" if one.is_end else "step"
            found = difference(one._asdict(), other._asdict(), atol)
            require(not found, f"{what}, env {lane}, event {k} ({kind}){found}")
