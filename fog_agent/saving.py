"""An agent as one zip file of JSON and safetensors: no pickle, nothing in it is ever run.

agent.json            settings, spaces, counters
policy.safetensors    what acting needs
training.json         what only learning needs, as a tree
training.safetensors  … and its tensors: optimisers, experience, the environment's own state
"""

import json
import os
import secrets
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.spaces import Box
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of

from fog_agent import trees
from fog_agent.config import from_json, to_json
from fog_agent.experience import Experience
from fog_agent.spaces import Spaces
from fog_agent.value_audit import ValueAudit

if TYPE_CHECKING:
    from fog_agent.fog import FoG

FORMAT = 1
PACKAGED = Path(__file__).parent / "packaged"
COUNTERS = ("num_timesteps", "local_samples", "gradient_steps", "seconds")
_ACTING = ("actor.", "normaliser.")


def save(agent: "FoG", path: Path, *, policy_only: bool) -> Path:
    path = path.with_name(f"{path.name}.zip") if path.suffix != ".zip" else path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w") as parts:
            for name, content in _parts(agent, policy_only=policy_only).items():
                parts.writestr(name, content)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _parts(agent: "FoG", *, policy_only: bool) -> dict[str, bytes]:
    weights = {name: tensor.contiguous() for name, tensor in agent.learner.state_dict().items()}
    spaces = {name: getattr(agent.spaces, name) for name in ("observation", "action")}
    about = {
        "format": FORMAT,
        "config": to_json(agent.config),
        "spaces": {name: _box(space) for name, space in spaces.items()},
        "counters": {name: getattr(agent, name) for name in COUNTERS},
    }
    acting = {name: tensor for name, tensor in weights.items() if name.startswith(_ACTING)}
    parts = {
        "agent.json": json.dumps(about, indent=1).encode(),
        "policy.safetensors": bytes_of(acting),
    }
    if not policy_only:
        tensors: dict[str, torch.Tensor] = {}
        tree = trees.pack(_training(agent), tensors)
        parts["training.json"] = json.dumps(tree).encode()
        parts["training.safetensors"] = bytes_of(tensors)
    return parts


def _box(space: Box) -> dict[str, Any]:
    return {"low": space.low.tolist(), "high": space.high.tolist(), "dtype": str(space.dtype)}


def _training(agent: "FoG") -> dict[str, Any]:
    learner, experience, audit = agent.learner, agent.experience, agent.audit
    kept = None
    if experience is not None:
        rows = {name: rows[: len(experience)] for name, rows in experience.rows.items()}
        kept = [experience.seen, rows]
    return {
        "weights": dict(learner.state_dict()),
        "optimisers": {name: each.state_dict() for name, each in learner.optimisers.items()},
        "rng": [learner.rng.get_state(), agent._exploring.get_state()],
        "experience": kept,
        "recent": agent.recent,
        "audit": None if audit is None else [audit.promised, audit.earned, audit.discount],
        "value_bias": agent._value_bias,
        "skipped": agent._skipped,
        "env": None if audit is None else _env_state(agent.env),
        "surrogate": _surrogate_state(agent.env),
    }


def _env_state(env: Any) -> Any:
    """Where the environment tells; elsewhere its episodes begin anew."""
    return env.get_state() if hasattr(env, "get_state") and hasattr(env, "set_state") else None


def _surrogate_state(env: Any) -> Any:
    surrogate: Any = getattr(env, "surrogate", None)
    return surrogate.state_dict() if hasattr(surrogate, "load_state_dict") else None


def load(kind: type["FoG"], path: str | Path, env: Any) -> "FoG":
    file = _found(path)
    with _explained(f"{file} is not an agent's file, or damaged"):
        with zipfile.ZipFile(file) as parts:
            content = {name: parts.read(name) for name in parts.namelist()}
        agent = _acting(kind, content)
        training = None
        if "training.json" in content:
            tensors = tensors_of(content["training.safetensors"])
            training = json.loads(content["training.json"]), tensors
    if env is not None:
        agent.set_env(env)
    if training is not None:
        with _explained(f"{file} cannot be learned on from"):
            _restore_training(agent, *training)
    return agent


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Errors of zip, JSON, safetensors, or of what they hold."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what}: {type(error).__name__}: {error}") from error


def _acting(kind: type["FoG"], content: dict[str, bytes]) -> "FoG":
    about = json.loads(content["agent.json"])
    if about["format"] != FORMAT:
        raise ValueError(f"it has format {about['format']}, expected {FORMAT}")
    agent = kind.__new__(kind)
    spaces = Spaces(**{name: _space(values) for name, values in about["spaces"].items()})
    agent._begin(spaces, from_json(about["config"]))
    for name in COUNTERS:
        setattr(agent, name, about["counters"][name])
    tensors = tensors_of(content["policy.safetensors"])
    expected = {name for name in agent.learner.state_dict() if name.startswith(_ACTING)}
    if set(tensors) != expected:
        raise ValueError(f"its policy has {sorted(tensors)}, expected {sorted(expected)}")
    agent.learner.load_state_dict(tensors, strict=False)
    return agent


def _found(path: str | Path) -> Path:
    given = Path(path)
    packaged = PACKAGED / f"{path}.zip"
    for file in (given, given.with_name(f"{given.name}.zip"), packaged):
        if file.is_file():
            return file
    known = sorted(file.stem for file in PACKAGED.glob("*.zip"))
    raise FileNotFoundError(f"there is no agent {path}; packaged ones are {known}")


def _space(values: dict[str, Any]) -> Box:
    dtype = np.dtype(values["dtype"])
    if dtype.kind != "f":
        raise ValueError(f"a space of {dtype}, expected floating point numbers")
    low, high = (np.array(values[name], dtype) for name in ("low", "high"))
    return Box(low, high, dtype=dtype.type)


def _restore_training(agent: "FoG", tree: Any, tensors: dict[str, torch.Tensor]) -> None:
    """All of it; the environment's part only where there is one to take it."""
    packed = {name: value for name, value in tree["dict"]}
    packed_env = packed.pop("env")
    saved = trees.unpack({"dict": list(packed.items())}, tensors)
    learner = agent.learner
    learner.load_state_dict(saved["weights"])
    for name, each in learner.optimisers.items():
        each.load_state_dict(saved["optimisers"][name])
        _check_moments(each)
    learner.rng.set_state(saved["rng"][0])
    agent._exploring.set_state(saved["rng"][1])
    agent.recent, agent._value_bias = saved["recent"], saved["value_bias"]
    agent._skipped = saved["skipped"]
    if saved["experience"] is not None:
        agent.experience = _experience(agent, *saved["experience"])
    if agent.env is None:
        return
    if saved["surrogate"] is not None:
        agent.env.surrogate.load_state_dict(saved["surrogate"])  # type: ignore[attr-defined]
    if packed_env is not None and hasattr(agent.env, "set_state"):
        _restore_env(agent, agent.env, packed_env, tensors, saved["audit"])


def _restore_env(
    agent: "FoG", env: Any, packed: Any, tensors: dict[str, torch.Tensor], audit: Any
) -> None:
    if len(audit[0]) != env.num_envs:
        raise ValueError(
            f"it was saved with {len(audit[0])} environments, got {env.num_envs}: to go on in new "
            "episodes of these, load it without an environment, then set_env(env)"
        )
    env.reset(seed=agent.config.seed)
    env.set_state(trees.unpack(packed, tensors, env.get_state()))
    like = env.begin_window()
    agent._move(like.device)
    agent.audit = ValueAudit(env.num_envs, like)
    each = (values.to(like.device) for values in audit)
    agent.audit.promised, agent.audit.earned, agent.audit.discount = each


def _check_moments(optimiser: torch.optim.Optimizer) -> None:
    """Torch takes any."""
    for parameter, moments in optimiser.state.items():
        for name, value in moments.items():
            if name != "step" and value.shape != parameter.shape:
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}, expected {tuple(parameter.shape)}"
                )


def _experience(agent: "FoG", seen: int, rows: dict[str, torch.Tensor]) -> Experience:
    sizes = agent.spaces.obs_size, agent.spaces.action_size
    experience = Experience(agent.config.experience, *sizes, rows["reward"])
    for name, values in rows.items():
        experience.rows[name][: len(values)] = values
    experience.seen = seen
    return experience
