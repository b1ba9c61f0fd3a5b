"""What an environment may offer beyond the protocol's core: each asked for in one place."""

from collections.abc import Mapping
from typing import Any, cast

from jaxtyping import Float
from torch import Tensor

from fog_agent.protocol import (
    OLD_HORIZON,
    DifferentiableEnv,
    KnownHorizon,
    LendsModel,
    Lent,
    LightModel,
    LocalModel,
    MayTerminate,
    Remembering,
    Restorable,
    Snapshots,
    missing,
)


def can_terminate(env: DifferentiableEnv) -> bool:
    """False where it does not say."""
    return not missing(env, MayTerminate) and cast(MayTerminate, env).can_terminate


def known_horizon(env: DifferentiableEnv) -> Any:
    """Unchecked; None where it does not say."""
    if not missing(env, KnownHorizon):
        return cast(KnownHorizon, env).max_episode_steps
    return getattr(env, OLD_HORIZON, None)


# ------------------------------------------------------------------ snapshots


def snapshots(env: DifferentiableEnv) -> Snapshots | None:
    """The environment itself, if it can be taken back to where it was."""
    return None if missing(env, Snapshots) else cast(Snapshots, env)


def needed_snapshots(env: DifferentiableEnv, why: str) -> Snapshots:
    found = snapshots(env)
    if found is None:
        raise TypeError(
            f"{type(env).__name__} has no get_state and set_state, expected both: {why}"
        )
    return found


# ------------------------------------------------------------------ the lent model


def lent_model(env: DifferentiableEnv) -> Lent | None:
    lent = None if missing(env, LendsModel) else cast(LendsModel, env).surrogate
    return None if lent is None or missing(lent, LightModel) else lent


def needed_model(env: DifferentiableEnv) -> Lent:
    found = lent_model(env)
    if found is None:
        raise ValueError(
            "to look ahead, env.surrogate must offer predict and reward_of "
            "(fog_agent.LightModel); without it give FoGConfig(look_aheads=0)"
        )
    return found


def restorable_model(env: DifferentiableEnv) -> Restorable | None:
    """The lent model, if an agent can be saved with what it has learned."""
    lent = None if missing(env, LendsModel) else cast(LendsModel, env).surrogate
    return None if missing(lent, Restorable) else cast(Restorable, lent)


def logged_steps(env: DifferentiableEnv) -> Mapping[str, Float[Tensor, "n *x"]] | None:
    """Of the logs that the lent model learned from, if it has any."""
    lent = lent_model(env)
    return None if missing(lent, Remembering) else cast(Remembering, lent).logged()


def with_states(model: Lent) -> LocalModel[Any]:
    """A light model is a local model whose states are observations."""
    if not missing(model, LocalModel):
        return cast(LocalModel[Any], model)
    return _Observed(cast(LightModel, model))


class _Observed:
    def __init__(self, model: LightModel) -> None:
        self.predict, self.reward_of = model.predict, model.reward_of

    def begin(self, obs: Float[Tensor, "b x"], /) -> Float[Tensor, "b x"]:
        return obs

    def obs_of(self, state: Float[Tensor, "b x"], /) -> Float[Tensor, "b x"]:
        return state
