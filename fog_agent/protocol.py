"""What a first-order agent needs of an environment, whoever provides it.

An environment is a `DifferentiableEnv`; its steps are `GradStep`s. All else is an ability that it
may have, and `fog_agent.abilities` asks for each in one place:

    LendsModel      a local model to look ahead with: a `LightModel` or a `LocalModel`, which may
                    be `Remembering` and `Restorable`
    MayTerminate    whether anything but time ends its episodes
    Snapshots       to be taken back to where it was
    KnownHorizon    how long its episodes are

Nothing here is called or read that is not named here, and nothing is named that is never used.
"""

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Float
from torch import Tensor

State = TypeVar("State")
"""A batch of a model's own states: any tree of tensors (see `fog_agent.trees`), batch first."""


@runtime_checkable
class GradStep(Protocol):
    """One step of n environments, as tensors."""

    @property
    def obs(self) -> Float[Tensor, "b *obs"]:
        """Differentiable; of the new episode, and without gradient, where one was begun."""

    @property
    def reward(self) -> Float[Tensor, "b"]:
        """Differentiable."""

    @property
    def terminated(self) -> Bool[Tensor, "b"]: ...

    @property
    def truncated(self) -> Bool[Tensor, "b"]: ...

    @property
    def final_obs(self) -> Float[Tensor, "b *obs"]:
        """The differentiable successor before any reset: bootstrap from it."""


@runtime_checkable
class DifferentiableEnv(Protocol):
    """All that an agent asks of a world: environments that each start anew when they end."""

    @property
    def num_envs(self) -> int: ...

    @property
    def single_observation_space(self) -> Box: ...

    @property
    def single_action_space(self) -> Box: ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """As Gymnasium's; `metadata["autoreset_mode"]` is `AutoresetMode.SAME_STEP`."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> object:
        """Begin all episodes anew; what it returns is not looked at.

        `options={"reset_mask": ...}`, a NumPy array of one bool for each environment, begins those
        alone; only `RewarpedLike.reset(env_ids)` asks for it.
        """

    def begin_window(self) -> Float[Tensor, "b *obs"]:
        """The current observations, detached: cuts the graph and keeps the episodes going."""

    def step_with_grad(self, action: Float[Tensor, "b a"]) -> GradStep:
        """The same step as `step`, differentiable in the action and in all since `begin_window`."""

    def refresh(self, batch: Mapping[str, Float[Tensor, "n *x"]]) -> Mapping[str, float]:
        """Train what gives the gradients on new experience; no value of `step` changes by it.

        The batch has "obs", "action", "reward" and "next_obs", as steps of any time had them.
        FloatingPointError where its own gradients are not finite, and then nothing has changed.
        """


# ------------------------------------------------------------------ abilities of an environment


@runtime_checkable
class LendsModel(Protocol):
    """Lends out what its gradients come from. Needed by look-aheads."""

    @property
    def surrogate(self) -> "Lent": ...


@runtime_checkable
class MayTerminate(Protocol):
    """Says how its episodes can end; one that does not say is taken to end by time alone."""

    @property
    def can_terminate(self) -> bool:
        """Whether there can be any end but that of time."""


@runtime_checkable
class Snapshots(Protocol):
    """Can be taken back. Needed by `diagnose` and checkpoints; a saved agent keeps a snapshot, and
    begins new episodes where there is none.

    To be saved, a snapshot is made of numbers, text, lists, tuples, dictionaries, dataclasses,
    tensors, arrays and NumPy's generators.
    """

    def get_state(self) -> Any:
        """A copy of all that the next steps depend on, noise included, without any graph."""

    def set_state(self, state: Any, /) -> None:
        """The same snapshot has always the same future."""


@runtime_checkable
class KnownHorizon(Protocol):
    """Says how long episodes are, under this name or, as it used to, under `OLD_HORIZON`."""

    @property
    def max_episode_steps(self) -> int: ...


OLD_HORIZON = "_max_episode_steps"
"""As Gymnasium's `TimeLimit` and LeRobot call it: read where there is no `max_episode_steps`."""


# ------------------------------------------------------------------ the lent model


@runtime_checkable
class LightModel(Protocol):
    """A local model whose states are the observations themselves.

    It knows no ends of episodes. Where one could terminate within a look-ahead's few steps, what is
    looked at there is a world that goes on.
    """

    def predict(
        self, obs: Float[Tensor, "b x"], action: Float[Tensor, "b a"], /
    ) -> Float[Tensor, "b x"]:
        """The next observation, differentiable in both."""

    def reward_of(
        self, next_obs: Float[Tensor, "b x"], action: Float[Tensor, "b a"], /
    ) -> Float[Tensor, "b"]: ...


@runtime_checkable
class LocalModel(Protocol[State]):
    """A local model with states of its own, of which nothing is known but what it says of them.

    All is differentiable. It knows no ends of episodes, either.
    """

    def begin(self, obs: Float[Tensor, "b x"], /) -> State:
        """Where an environment is that shows this. What an observation does not tell (an older
        past, say) is the model's to make up for."""

    def obs_of(self, state: State, /) -> Float[Tensor, "b x"]:
        """What a policy sees there: the environment's own observation."""

    def predict(self, state: State, action: Float[Tensor, "b a"], /) -> State:
        """The next state; the one that was given stays as it is."""

    def reward_of(
        self, next_state: State, action: Float[Tensor, "b a"], /
    ) -> Float[Tensor, "b"]: ...


Lent: TypeAlias = LightModel | LocalModel[Any]


@runtime_checkable
class Remembering(Protocol):
    """A lent model that also lends out steps of the logs that it learned from."""

    def logged(self) -> Mapping[str, Float[Tensor, "n *x"]] | None:
        """Named as `refresh` takes them; None where there are none."""


@runtime_checkable
class Restorable(Protocol):
    """A lent model that changes as it is refreshed, so that agents are saved with what it learned.

    Its state is made of numbers, text, lists, tuples, dictionaries and tensors.
    """

    def state_dict(self) -> Any:
        """A copy."""

    def load_state_dict(self, state: Any, /) -> object:
        """Refused with an error, nothing has changed."""


# ------------------------------------------------------------------ at the door


def missing(given: object, protocol: type) -> list[str]:
    """Which members of a protocol it lacks; wrappers that hand attributes on have them.

    `isinstance` does not see these from Python 3.12 on.
    """
    return [name for name in members(protocol) if not hasattr(given, name)]


def members(protocol: type) -> list[str]:
    return [name for name in vars(protocol) if not name.startswith("_")]


def check_env(env: DifferentiableEnv) -> None:
    if lacking := missing(env, DifferentiableEnv):
        hidden = not missing(getattr(env, "unwrapped", None), DifferentiableEnv)
        raise TypeError(
            f"env is a {type(env).__name__}, expected a DifferentiableEnv, that is a vector "
            f"environment with begin_window and step_with_grad (it lacks {', '.join(lacking)}): "
            + ("give env.unwrapped" if hidden else "gym.make_vec of a dream (WM-…) makes one")
        )
    mode = env.metadata.get("autoreset_mode")
    if mode != AutoresetMode.SAME_STEP:
        raise ValueError(
            f"the environment's autoreset_mode is {mode}, expected {AutoresetMode.SAME_STEP}: "
            "make it with autoreset_mode='SameStep'"
        )
