"""An agent as one zip file of JSON and safetensors: no pickle, nothing in it is ever run.

agent.json            settings, spaces, counters
policy.safetensors    what acting needs; where there is nothing else, critics and scales as well
training.json         what only learning needs, as a tree
training.safetensors  … and its tensors: optimisers, experience, the environment's own state

Nothing is compressed, so that no file takes more memory than it is long, but for the experience,
which settings bound. Networks are built once their tensors are known to fit.
"""

import json
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
from fog_agent.abilities import restorable_model, snapshots
from fog_agent.config import FoGConfig, from_json, to_json
from fog_agent.files import atomic_file
from fog_agent.learner import Learner
from fog_agent.protocol import DifferentiableEnv
from fog_agent.restoring import check_weights, count, restore_env, restore_training
from fog_agent.spaces import Spaces

if TYPE_CHECKING:
    from fog_agent.fog import FoG

FORMAT = 1
PACKAGED = Path(__file__).parent / "packaged"
COUNTERS = ("num_timesteps", "local_samples", "gradient_steps", "windows", "seconds")
_ACTING = ("actor.", "normaliser.")
_MEMBERS = {
    "agent.json": 1 << 24, "policy.safetensors": 1 << 34, "training.json": 1 << 28,
    "training.safetensors": 1 << 36,
}  # fmt: skip
"""Most bytes of each part."""


def save(agent: "FoG", path: Path, *, policy_only: bool) -> Path:
    path = path.with_name(f"{path.name}.zip") if path.suffix != ".zip" else path
    with atomic_file(path) as file, zipfile.ZipFile(file, "w") as parts:
        for name, content in _parts(agent, policy_only=policy_only).items():
            parts.writestr(name, content)
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
        "policy.safetensors": bytes_of(weights if policy_only else acting),
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
    kept_back = agent._surrogate
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
        "skipped": agent.guard.barren,
        "env": None if audit is None else _env_state(agent.env),
        "surrogate": _model_state(agent.env) if kept_back is None else kept_back,
    }


def _env_state(env: DifferentiableEnv | None) -> Any:
    """Where the environment tells; elsewhere its episodes begin anew."""
    found = None if env is None else snapshots(env)
    return None if found is None else found.get_state()


def _model_state(env: DifferentiableEnv | None) -> Any:
    found = None if env is None else restorable_model(env)
    return None if found is None else found.state_dict()


def lend(state: Any, env: DifferentiableEnv) -> None:
    """The local model that an agent was saved with, to the environment that it is to learn in."""
    found = restorable_model(env)
    if found is None:
        raise ValueError(
            "the agent was saved with the local model that it refreshed, expected an environment "
            f"whose surrogate takes it, {type(env).__name__} has none with load_state_dict; save "
            "with policy_only=True to go on elsewhere"
        )
    found.load_state_dict(state)


def load(kind: type["FoG"], path: str | Path, env: DifferentiableEnv | None) -> "FoG":
    file = _found(path)
    with _explained(f"{file} is not an agent's file, or damaged"):
        content = _content(file)
        agent = _acting(kind, content)
        tree, tensors = None, {}
        if "training.json" in content:
            tree = json.loads(content["training.json"])
            tensors = tensors_of(content["training.safetensors"])
    if env is not None:
        agent.check_env(env)
    state, audit = None, None
    with _explained(f"{file} cannot be learned on from"):
        if tree is not None:
            state, audit = restore_training(agent, tree, tensors)
        if env is not None:
            _enter(agent, env, state, audit, tensors)
    return agent


def _enter(
    agent: "FoG", env: DifferentiableEnv, state: Any, audit: Any, tensors: dict[str, torch.Tensor]
) -> None:
    """Where it is refused, the environment's local model is as it was."""
    goes_on = state is not None and audit is not None and snapshots(env) is not None
    if goes_on and len(audit[0]) != env.num_envs:
        raise ValueError(
            f"it was saved with {len(audit[0])} environments, got {env.num_envs}: to go on in new "
            "episodes of these, load it without an environment, then set_env(env)"
        )
    before = _model_state(env)
    try:
        agent.set_env(env)
        if goes_on:
            restore_env(agent, env, state, tensors, audit)
    except Exception:
        if before is not None:
            lend(before, env)
        raise


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Errors of zip, JSON, safetensors, or of what they hold."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what}: {type(error).__name__}: {error}") from error


def _content(file: Path) -> dict[str, bytes]:
    """Parts by name, of which none is larger than the file tells."""
    with zipfile.ZipFile(file) as parts:
        listed = parts.infolist()
        names = [each.filename for each in listed]
        if len(set(names)) < len(names) or not set(names) <= set(_MEMBERS):
            raise ValueError(f"it has {names}, expected each at most once of {list(_MEMBERS)}")
        for each in listed:
            if each.compress_type != zipfile.ZIP_STORED or each.file_size > each.compress_size:
                raise ValueError(f"{each.filename} is compressed, expected it to be stored")
            if each.file_size > _MEMBERS[each.filename]:
                raise ValueError(
                    f"{each.filename} has {each.file_size:,} bytes, expected at most "
                    f"{_MEMBERS[each.filename]:,}"
                )
        return {name: parts.read(name) for name in names}


def _acting(kind: type["FoG"], content: dict[str, bytes]) -> "FoG":
    about = json.loads(content["agent.json"])
    if about["format"] != FORMAT:
        raise ValueError(f"it has format {about['format']}, expected {FORMAT}")
    spaces = Spaces(**{name: _space(values) for name, values in about["spaces"].items()})
    config = from_json(about["config"])
    tensors = tensors_of(content["policy.safetensors"])
    _check_fit(tensors, config, spaces)
    agent = kind.__new__(kind)
    agent._begin(spaces, config)
    for name in COUNTERS:
        setattr(agent, name, count(name, about["counters"].get(name, 0)))
    agent.learner.set_rates(agent.num_timesteps)
    check_weights(tensors, agent.learner)
    agent.learner.load_state_dict(tensors, strict=False)
    return agent


def _check_fit(tensors: dict[str, torch.Tensor], config: FoGConfig, spaces: Spaces) -> None:
    """Against networks of these settings, which take no memory here."""
    with torch.device("meta"):
        weights = Learner(config, spaces).state_dict()
    acting = {name for name in weights if name.startswith(_ACTING)}
    if set(tensors) not in (acting, set(weights)):
        raise ValueError(f"its policy has {sorted(tensors)}, expected {sorted(acting)}")
    for name, tensor in tensors.items():
        found, expected = ((each.dtype, tuple(each.shape)) for each in (tensor, weights[name]))
        if found != expected:
            raise ValueError(f"{name} is {found}, expected {expected}")


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
