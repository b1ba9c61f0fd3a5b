"""`obs_type="latent"` of environments that show pixels or dictionaries, ours or anybody's."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float32, Int

from wm_gym.envs.actions import checked_action
from wm_gym.envs.dream_starts import given_starts
from wm_gym.envs.latent_filter import LatentFilter
from wm_gym.envs.loading import check_sizes, loaded
from wm_gym.envs.vector import checked_mask, checked_mode
from wm_gym.envs.world import checked_options
from wm_gym.models.starts import Start, mean_proprio
from wm_gym.models.world_model import WorldModel
from wm_gym.types import PIXELS, PROPRIO, Info

AnyVectorEnv = VectorEnv[Any, Any, Any]
Moment = tuple[np.ndarray, np.ndarray]
"""What is shown: frames, and proprioception, of no numbers where the world model knows none."""

_FIRST, _ALL = np.zeros(1, np.int64), np.ones(1, bool)


@dataclass(frozen=True, kw_only=True, eq=False)
class WrappedState:
    """One wrapped environment at one moment."""

    env: Any
    """What its own get_state() says."""

    features: Float32[np.ndarray, "f"]
    over: bool
    """Whether its episode is."""

    model: str = ""
    """Fingerprint of the local model; nothing in snapshots of before."""


class LatentObservation:
    """Shows an environment of uint8 frames, single or vector, as `obs_type="latent"` does.

    Frames, and actions clipped as the environment clips them, go through the frozen filter of the
    world model's local model. Around a dream's pixels that gives the dream's own latents. Where the
    model knows proprioception, observations are dictionaries: `pixels` and `agent_pos`. Go on
    from a snapshot by this one's `set_state`: the filter hears of nothing that is done beneath it.
    """

    _filter: LatentFilter
    _usual_proprio: Float32[np.ndarray, "p"]
    """In place of what nobody tells beside given frames."""

    @overload
    def __new__(
        cls,
        env: AnyVectorEnv,
        world_model: str | Path | WorldModel,
        *,
        device: str = ...,
        dtype: str = ...,
        deterministic: bool = ...,
    ) -> "VectorLatentObservation": ...

    @overload
    def __new__(
        cls,
        env: gym.Env[Any, Any],
        world_model: str | Path | WorldModel,
        *,
        device: str = ...,
        dtype: str = ...,
        deterministic: bool = ...,
    ) -> "SingleLatentObservation": ...

    def __new__(cls, env: Any = None, *_: Any, **__: Any) -> Any:
        """Of the kind that suits the environment; without one where a copy is made."""
        if cls is LatentObservation:
            many = isinstance(env, VectorEnv)
            return object.__new__(VectorLatentObservation if many else SingleLatentObservation)
        return object.__new__(cls)

    def _given(self, options: Mapping[str, Any], num_envs: int) -> list[Start] | None:
        """All frames that a dream is asked to begin from; None where it shows one, as usual."""
        told = {name: options[name] for name in ("frames", "actions", PROPRIO) if name in options}
        if told.get("frames") is None:
            return None
        of = self._filter.local_model
        return given_starts(
            told, num_envs, frame_shape=of.frame_shape, action_size=of.action_size,
            usual_proprio=self._usual_proprio,
        )  # fmt: skip

    def _follow(self, model: WorldModel, num_envs: int, *, exact: bool) -> None:
        self._filter = LatentFilter(model.local_model, num_envs, exact=exact)
        felt = model.spec.proprio_size
        self._usual_proprio = (
            mean_proprio(None, felt) if model.starts is None else model.starts.usual_proprio(felt)
        )

    def _moment(self, shown: Any) -> Moment:
        """Of what an environment, or each of many, shows."""
        frames = np.asarray(shown[PIXELS] if isinstance(shown, Mapping) else shown)
        if not self._filter.local_model.proprio_size:
            return frames, np.zeros((*frames.shape[:-3], 0), np.float32)
        return frames, np.asarray(shown[PROPRIO], np.float32)

    def _state(self, i: int, env: Any, over: bool) -> WrappedState:
        features, model = self._filter.snapshot(i), self._filter.fingerprint
        return WrappedState(env=env, features=features, over=over, model=model)

    def _check_state(self, state: Any) -> None:
        if not isinstance(state, WrappedState):
            raise TypeError(
                f"got a {type(state).__name__}, expected what the wrapper's get_state() returned"
            )
        self._filter.check_snapshot(state.features, state.model)
        if not isinstance(state.over, (bool, np.bool_)):
            raise ValueError(f"the snapshot's over is {state.over!r}, expected True or False")


class SingleLatentObservation(
    LatentObservation, gym.Wrapper[np.ndarray, Any, np.ndarray, Any], RecordConstructorArgs
):
    """Of a `gymnasium.Env`."""

    def __init__(
        self,
        env: gym.Env[np.ndarray, Any],
        world_model: str | Path | WorldModel,
        *,
        device: str = "auto",
        dtype: str = "auto",
        deterministic: bool = False,
    ) -> None:
        if not isinstance(env, gym.Env):
            raise TypeError(f"env is a {type(env).__name__}, expected a gymnasium Env or VectorEnv")
        RecordConstructorArgs.__init__(
            self, _disable_deepcopy=True, world_model=world_model, device=device, dtype=dtype,
            deterministic=deterministic,
        )  # fmt: skip
        gym.Wrapper.__init__(self, env)
        model = loaded(world_model, device=device, dtype=dtype, deterministic=deterministic)
        check_spaces(model, env.observation_space, env.action_space)
        self._follow(model, 1, exact=bool(deterministic))
        self._over = False
        self.observation_space = self._filter.space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[np.ndarray, "f"], Info]:
        given = self._given(checked_options(options), 1)
        shown, info = self.env.reset(seed=seed, options=options)
        if given is None:
            self._filter.begin_at(_FIRST, *_stacked([self._moment(shown)]))
        else:
            self._filter.begin({0: given[0]})
        self._over = False
        return self._obs(), info

    def step(self, action: Any) -> tuple[Float32[np.ndarray, "f"], Any, bool, bool, Info]:
        assert self.action_space.shape is not None
        acted = checked_action(action, self.action_space.shape, axes="action_space.shape")
        shown, reward, terminated, truncated, info = self.env.step(action)
        self._filter.advance(_FIRST, acted[None], *_stacked([self._moment(shown)]))
        self._over = bool(terminated or truncated)
        return self._obs(), reward, terminated, truncated, info

    def get_state(self) -> WrappedState:
        """What the environment's own says, and the features."""
        return self._state(0, self.env.get_wrapper_attr("get_state")(), self._over)

    def set_state(self, state: Any) -> None:
        self._check_state(state)
        self.env.get_wrapper_attr("set_state")(state.env)
        self._filter.restore(0, state.features)
        self._over = state.over

    def _obs(self) -> Float32[np.ndarray, "f"]:
        return np.asarray(self._filter.observations(_ALL)[0])


class VectorLatentObservation(LatentObservation, VectorWrapper[Any, Any, Any, Any, Any]):
    """Of a `gymnasium.vector.VectorEnv`, in whatever autoreset mode that has.

    The filter is given whole batches in the order in which `DreamWorld` computes: those that went
    on, then those that began.
    """

    def __init__(
        self,
        env: AnyVectorEnv,
        world_model: str | Path | WorldModel,
        *,
        device: str = "auto",
        dtype: str = "auto",
        deterministic: bool = False,
    ) -> None:
        VectorWrapper.__init__(self, env)
        model = loaded(world_model, device=device, dtype=dtype, deterministic=deterministic)
        check_spaces(model, env.single_observation_space, env.single_action_space)
        self._mode = checked_mode(env.metadata.get("autoreset_mode", "not told"))
        self._follow(model, env.num_envs, exact=bool(deterministic))
        self._over = np.zeros(env.num_envs, bool)
        self._all = np.ones(env.num_envs, bool)
        self.single_observation_space = self._filter.space
        self.observation_space = batch_space(self._filter.space, env.num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Float32[np.ndarray, "b f"], Info]:
        options, which = checked_options(options), self._all
        if "reset_mask" in options:
            which = checked_mask(options["reset_mask"], self.num_envs)
        given = self._given(options, self.num_envs)
        vector_reset: Any = self.env.reset  # typed `seed: int | None`, although lists are usual
        shown, info = vector_reset(seed=seed, options=options or None)
        if given is None:
            self._begin_at(which, self._moment(shown))
        else:
            self._filter.begin({i: given[i] for i in np.flatnonzero(which).tolist()})
        self._over = self._over & ~which
        return self._obs(), info

    def step(self, actions: Any) -> tuple[Float32[np.ndarray, "b f"], Any, Any, Any, Info]:
        assert self.action_space.shape is not None
        acted = checked_action(
            actions, self.action_space.shape, axes="(num_envs, *single_action_space.shape)"
        )
        shown, reward, terminated, truncated, info = self.env.step(actions)
        now = self._moment(shown)
        ended = np.logical_or(terminated, truncated)
        nobody = np.zeros_like(ended)
        final = ended if self._mode == AutoresetMode.SAME_STEP else nobody
        ignored = self._over if self._mode == AutoresetMode.NEXT_STEP else nobody
        went_on = np.flatnonzero(~ignored)
        seen = self._with_final(now, info, final)
        self._filter.advance(went_on, acted[went_on], *_rows(seen, went_on))
        if final.any():
            info = {**info, "final_obs": self._final_obs(final)}
        self._begin_at(ignored | final, now)
        self._over = ended & ~final
        return self._obs(), reward, terminated, truncated, info

    def get_state(self) -> tuple[WrappedState, ...]:
        """One an environment, each of which a wrapped single one takes too."""
        env: Any = self.env.unwrapped
        each = enumerate(zip(env.get_state(), self._over.tolist(), strict=True))
        return tuple(self._state(i, state, over) for i, (state, over) in each)

    def set_state(self, state: Sequence[Any]) -> None:
        if not isinstance(state, Sequence):
            raise TypeError(f"got a {type(state).__name__}, expected what get_state() returned")
        for each in state:
            self._check_state(each)
        env: Any = self.env.unwrapped
        env.set_state(tuple(each.env for each in state))
        for i, each in enumerate(state):
            self._filter.restore(i, each.features)
        self._over = np.array([each.over for each in state])

    def _begin_at(self, which: Bool[np.ndarray, "b"], now: Moment) -> None:
        chosen = np.flatnonzero(which)
        self._filter.begin_at(chosen, *_rows(now, chosen))

    def _with_final(self, now: Moment, info: Info, final: Bool[np.ndarray, "b"]) -> Moment:
        """What the steps led to, before any reset."""
        if not final.any():
            return now
        chosen = np.flatnonzero(final)
        frames, proprio = (each.copy() for each in now)
        last = _stacked(self._moment(info["final_obs"][i]) for i in chosen)
        frames[chosen], proprio[chosen] = last
        return frames, proprio

    def _final_obs(self, final: Bool[np.ndarray, "b"]) -> np.ndarray:
        shown = np.full(self.num_envs, None, dtype=object)
        for i, features in zip(
            np.flatnonzero(final), self._filter.observations(final), strict=True
        ):
            shown[i] = features
        return shown

    def _obs(self) -> Float32[np.ndarray, "b f"]:
        return self._filter.observations(self._all)


def _stacked(moments: Iterable[Moment]) -> Moment:
    frames, proprio = zip(*moments, strict=True)
    return np.stack(frames), np.stack(proprio)


def _rows(moment: Moment, chosen: Int[np.ndarray, "n"]) -> Moment:
    frames, proprio = moment
    return np.ascontiguousarray(frames[chosen]), proprio[chosen]


def check_spaces(model: WorldModel, observation: gym.Space[Any], action: gym.Space[Any]) -> None:
    if model.spec.tasks > 1:
        raise ValueError(
            "the world model knows several tasks, of which no picture tells: make the environment "
            "itself with obs_type='latent'"
        )
    pixels, felt = observation, model.spec.proprio_size
    if isinstance(observation, Dict):
        pixels = observation.get(PIXELS, observation)
    if felt:
        proprio = observation.get(PROPRIO) if isinstance(observation, Dict) else None
        if proprio is None or proprio.shape != (felt,):
            raise ValueError(
                f"the environment shows {observation}, expected a Dict of {PIXELS!r} and "
                f"{PROPRIO!r}, proprioception of {felt} numbers, which the world model knows "
                "(obs_type='dict')"
            )
    if not isinstance(pixels, Box) or pixels.dtype != np.uint8:
        raise ValueError(
            f"the environment shows {observation}, expected pixels: "
            f"Box(0, 255, {model.spec.frame_shape}, uint8)"
        )
    if not isinstance(action, Box) or len(action.shape) != 1:
        raise ValueError(
            f"the environment's actions are {action}, expected "
            f"Box(-1, 1, ({model.spec.action_size},))"
        )
    check_sizes(model, pixels.shape, action.shape[0], "the environment")
