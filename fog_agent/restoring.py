"""What an agent goes on learning from, out of its file: nothing of it is believed unseen."""

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fog_agent import trees
from fog_agent.abilities import needed_snapshots
from fog_agent.experience import FIELDS, Experience
from fog_agent.guard import KINDS
from fog_agent.learner import Learner
from fog_agent.protocol import DifferentiableEnv
from fog_agent.value_audit import ValueAudit

if TYPE_CHECKING:
    from fog_agent.fog import FoG

FIXED = ("actor.centre", "actor.reach")
"""What the spaces say, too."""


def count(name: str, value: Any) -> Any:
    kinds = (int, float) if name == "seconds" else (int,)
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value!r}, expected a number, 0 or more")
    return value


def check_weights(weights: Mapping[str, Tensor], learner: Learner) -> None:
    """Of shapes that are known to fit: their numbers."""
    built = learner.state_dict()
    for name, values in weights.items():
        unknown = name in ("reward_scale", "bonus_scale") and bool(values.isnan())
        if not unknown and not torch.isfinite(values).all():
            raise ValueError(f"{name} is not finite")
        if name.startswith("normaliser.") and "mean" not in name and bool((values < 0).any()):
            raise ValueError(f"{name} is negative")
        if name in FIXED and not torch.equal(values.to(built[name]), built[name]):
            raise ValueError(f"{name} is {values.tolist()}, the spaces say {built[name].tolist()}")


def restore_training(agent: "FoG", tree: Any, tensors: dict[str, Tensor]) -> tuple[Any, Any]:
    """All but the environment's part: its state, still packed, and where its audit is."""
    packed = {name: value for name, value in tree["dict"]}
    packed_env = packed.pop("env")
    saved = trees.unpack({"dict": list(packed.items())}, tensors)
    learner = agent.learner
    check_shapes(saved["weights"], {n: v.shape for n, v in learner.state_dict().items()})
    check_weights(saved["weights"], learner)
    learner.load_state_dict(saved["weights"])
    for name, optimiser in learner.optimisers.items():
        _restore_moments(optimiser, saved["optimisers"][name]["state"])
    learner.rng.set_state(saved["rng"][0])
    agent._exploring.set_state(saved["rng"][1])
    agent.recent = _recent(agent, saved["recent"])
    if not isinstance(saved["value_bias"], float):
        raise ValueError(f"value_bias is {saved['value_bias']!r}, expected a number")
    agent._value_bias = saved["value_bias"]
    if isinstance(saved["skipped"], dict):  # files of before had one number for all kinds
        agent.guard.barren |= {kind: count("skipped", saved["skipped"][kind]) for kind in KINDS}
    if saved["experience"] is not None:
        agent.experience = _experience(agent, *saved["experience"])
    agent._surrogate = saved["surrogate"]
    return packed_env, None if saved["audit"] is None else _audit(saved["audit"])


def restore_env(
    agent: "FoG",
    env: DifferentiableEnv,
    packed: Any,
    tensors: dict[str, Tensor],
    audit: list[Tensor],
) -> None:
    kept = needed_snapshots(env, "the agent's file has a snapshot of its environment")
    env.reset(seed=agent.config.seed)
    state: Any = None
    try:
        state = trees.unpack(packed, tensors, kept.get_state())
        kept.set_state(state)
    except trees.OtherRecordError as error:
        warnings.warn(
            f"the file has a snapshot of another version of the environment ({error}): new "
            "episodes begin",
            stacklevel=2,
        )
    like = env.begin_window()
    agent._move(like.device)
    agent.audit = ValueAudit(env.num_envs, like)
    if state is not None:
        each = (values.to(like.device) for values in audit)
        agent.audit.promised, agent.audit.earned, agent.audit.discount = each


def check_shapes(given: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """And that they are floating point numbers."""
    if set(given) != set(shapes):
        raise ValueError(f"there are {sorted(given)}, expected {sorted(shapes)}")
    for name, shape in shapes.items():
        values = given[name]
        if not isinstance(values, Tensor) or not values.is_floating_point():
            raise ValueError(f"{name} is no tensor of floating point numbers")
        if values.shape != shape:
            raise ValueError(f"{name} has shape {tuple(values.shape)}, expected {tuple(shape)}")


def _check_all(given: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    check_shapes(given, shapes)
    for name, values in given.items():
        if not torch.isfinite(values).all():
            raise ValueError(f"{name} is not finite")


def _restore_moments(optimiser: torch.optim.Optimizer, state: Mapping[int, Any]) -> None:
    """Learning rates and the like are those of the settings."""
    groups = optimiser.state_dict()["param_groups"]
    parameters = [each for group in optimiser.param_groups for each in group["params"]]
    if not set(state) <= set(range(len(parameters))):
        raise ValueError(f"there are moments of {sorted(state)}, expected {len(parameters)}")
    for i, moments in state.items():
        shape = parameters[i].shape
        _check_all(moments, {"step": (), "exp_avg": shape, "exp_avg_sq": shape})
        if moments["step"] < 0 or bool((moments["exp_avg_sq"] < 0).any()):
            raise ValueError("a moment is negative")
    optimiser.load_state_dict({"state": dict(state), "param_groups": groups})


def _recent(agent: "FoG", recent: Any) -> list[tuple[Tensor, Tensor]]:
    if not isinstance(recent, list) or len(recent) > agent.config.critic_windows:
        raise ValueError(f"recent windows are {type(recent).__name__}, expected a list of a few")
    for obs, target in recent:
        n = len(target)
        _check_all({"obs": obs, "target": target}, {
            "obs": (n, agent.spaces.obs_size), "target": (n,)})  # fmt: skip
    return recent


def _experience(agent: "FoG", seen: Any, rows: Any) -> Experience:
    obs, action = agent.spaces.obs_size, agent.spaces.action_size
    n = min(count("seen", seen), agent.config.experience)
    sizes: dict[str, tuple[int, ...]] = {
        "obs": (obs,), "action": (action,), "reward": (), "next_obs": (obs,)
    }  # fmt: skip
    _check_all(rows, {name: (n, *sizes[name]) for name in FIELDS})
    experience = Experience(agent.config.experience, obs, action, rows["reward"])
    for name, values in rows.items():
        experience.rows[name][:n] = values
    experience.seen = seen
    return experience


def _audit(audit: Any) -> list[Tensor]:
    names = ("promised", "earned", "discount")
    given = dict(zip(names, audit, strict=True))
    check_shapes(given, dict.fromkeys(names, (len(audit[0]),)))
    return list(audit)
