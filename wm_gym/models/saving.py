"""Writing a world model's folder: all of it or nothing, and never over what is something else."""

import inspect
import json
import os
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save as save_arrays
from safetensors.torch import save as save_tensors
from torch import Tensor

from wm_gym.models.folder import (
    CONFIG,
    FORMAT,
    LARGEST_CONFIG,
    LOGGED,
    LOGGED_DTYPES,
    LOGGED_TOO,
    README,
    STARTS,
    STARTS_DTYPES,
    STARTS_TOO,
    checked_file,
    exists,
    files_of,
    load_world_model,
    read_json,
)
from wm_gym.models.kind import Part
from wm_gym.models.kinds import DEFAULT, kind_named, kind_of
from wm_gym.models.world_model import WorldModel
from wm_gym.storage.files import (
    OLD,
    explain_full_disk,
    sync_folder,
    temporary_folder,
    write_atomically,
)


def save_world_model(world_model: WorldModel, folder: Path, *, readme: str | None) -> None:
    """Nothing is replaced before the new folder is whole, on the disk, and has been read back."""
    folder = folder.resolve()
    if exists(folder) and not _is_ours(folder):
        raise FileExistsError(
            f"{folder} exists and is not, or not only, a world model: it is not overwritten. "
            "Save to another folder, or move it away"
        )
    with temporary_folder(folder) as fresh:
        with explain_full_disk(f"{folder} was not saved", lambda: "free some space"):
            _write(world_model, fresh, readme)
        _check_readable(fresh, folder)
        _put_in_place(fresh, folder)
    sync_folder(folder.parent)


def _is_ours(folder: Path) -> bool:
    """Whether nothing but a world model is lost with this folder."""
    if not folder.is_dir():
        return False
    if not (names := {path.name for path in folder.iterdir()}):
        return True
    try:
        checked_file(folder / CONFIG, largest=LARGEST_CONFIG)
        config = read_json((folder / CONFIG).read_bytes())
        ours = isinstance(config, dict) and {"format", "parts"} <= set(config)
        return ours and names <= files_of(kind_named(config.get("kind", DEFAULT)))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _check_readable(fresh: Path, folder: Path) -> None:
    try:
        load_world_model(fresh)
    except ValueError as error:
        reason = str(error).replace(f"{fresh}{os.sep}", "")
        raise ValueError(f"{folder} was not saved, nobody could load it: {reason}") from error


def _put_in_place(fresh: Path, folder: Path) -> None:
    if not folder.exists():
        fresh.rename(folder)
        return
    old = fresh.with_suffix(OLD)
    try:
        folder.rename(old)
        fresh.rename(folder)
    finally:
        if not folder.exists():  # stopped in between
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def _write(world_model: WorldModel, folder: Path, readme: str | None) -> None:
    kind, card = kind_of(world_model), world_model.card
    parts = kind.parts_of(world_model.global_model, world_model.local_model)
    tensors = {
        kind.files[name]: save_tensors(_small({k: _plain(v) for k, v in part.state_dict().items()}))
        for name, part in parts.items()
    }
    if (starts := world_model.starts) is not None:
        arrays = _present(starts, STARTS_DTYPES, STARTS_TOO)
        tensors[STARTS] = save_arrays({n: np.ascontiguousarray(a) for n, a in arrays.items()})
    if (logged := world_model.logged) is not None:
        told = _present(logged, LOGGED_DTYPES, LOGGED_TOO)
        plain = {n: _as_it_is(each) for n, each in told.items()}
        tensors[LOGGED] = save_tensors(plain | _small({"embedding": plain["embedding"]}))
    config = _json(
        {
            "format": FORMAT,
            **({} if kind.name == DEFAULT else {"kind": kind.name}),
            "system": card.system,
            "denoising_steps": card.denoising_steps,
            "facts": dict(card.facts),
            **({} if card.origin is None else {"origin": card.origin.to_json()}),
            "parts": {
                name: {"class": kind.parts[name].label, "config": _settings(kind.parts[name], part)}
                for name, part in parts.items()
            },
            "sha256": {name: sha256(content).hexdigest() for name, content in tensors.items()},
        }
    )
    about = (readme or _readme(world_model)).encode()
    for name, content in {**tensors, README: about, CONFIG: config}.items():
        write_atomically(folder / name, content)


def _json(config: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(config, indent=2, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the world model's card is no JSON: {error}; its facts can be texts, finite numbers, "
            "and lists and dictionaries of them"
        ) from error


def _present(record: Any, *names: Mapping[str, str]) -> dict[str, Any]:
    every = [name for some in names for name in some]
    return {name: value for name in every if (value := getattr(record, name)) is not None}


def _as_it_is(tensor: Tensor) -> Tensor:
    return _plain(tensor) if tensor.is_floating_point() else tensor.cpu().contiguous()


def _small(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """In half precision where nothing is lost by it: a kind that rounds what it has learned
    (`models.halves`) takes half the space."""
    half = {name: tensor.half() for name, tensor in tensors.items()}
    exact = all(torch.equal(half[name].float(), tensor) for name, tensor in tensors.items())
    return half if exact else tensors


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().float().contiguous()


def _settings(known: Part, part: Any) -> dict[str, Any]:
    kept = {}
    for name, parameter in inspect.signature(known.make).parameters.items():
        value = part.config[name]
        if name not in known.later or value != parameter.default:
            kept[name] = value
    return kept


def _readme(world_model: WorldModel) -> str:
    card = world_model.card
    facts = "\n".join(f"* {name}: {value}" for name, value in card.facts.items())
    return (
        "---\nlibrary_name: wm_gym\ntags: [world-model, gymnasium, diffusion]\n---\n"
        f"# A world model of {card.system}\n\n{facts}\n\n"
        '```python\nimport gymnasium as gym\n\nenv = gym.make("wm_gym:WM-v0", '
        'world_model="this folder")\n```\n'
    )


def upload_world_model(
    world_model: WorldModel, repo_id: str, *, token: str | None, private: bool
) -> str:
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        with TemporaryDirectory() as temporary:
            folder = Path(temporary) / "world-model"
            save_world_model(world_model, folder, readme=None)
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder))
    except Exception as error:
        raise RuntimeError(f"the world model was not uploaded to {repo_id!r}: {error}") from error
