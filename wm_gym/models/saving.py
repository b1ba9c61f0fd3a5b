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
from safetensors.numpy import save as save_arrays
from safetensors.torch import save as save_tensors
from torch import Tensor

from wm_gym.models.folder import (
    CONFIG,
    FILES,
    FORMAT,
    LARGEST_CONFIG,
    LATER,
    LOGGED,
    LOGGED_DTYPES,
    PART_FILES,
    PARTS,
    README,
    STARTS,
    STARTS_DTYPES,
    checked_file,
    exists,
    load_world_model,
    read_json,
)
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
    except (OSError, ValueError, RecursionError):
        return False
    return names <= set(FILES) and isinstance(config, dict) and {"format", "parts"} <= set(config)


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
    parts, card = {name: getattr(world_model, name) for name in PARTS}, world_model.card
    tensors = {
        PART_FILES[name]: save_tensors({k: _plain(v) for k, v in part.state_dict().items()})
        for name, part in parts.items()
    }
    if (starts := world_model.starts) is not None:
        arrays = {name: np.ascontiguousarray(getattr(starts, name)) for name in STARTS_DTYPES}
        tensors[STARTS] = save_arrays(arrays)
    if (logged := world_model.logged) is not None:
        tensors[LOGGED] = save_tensors({n: _plain(getattr(logged, n)) for n in LOGGED_DTYPES})
    config = _json(
        {
            "format": FORMAT,
            "system": card.system,
            "denoising_steps": card.denoising_steps,
            "facts": dict(card.facts),
            **({} if card.origin is None else {"origin": card.origin.to_json()}),
            "parts": {
                name: {"class": type(part).__name__, "config": _settings(name, part)}
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


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().float().contiguous()


def _settings(of: str, part: Any) -> dict[str, Any]:
    kept = {}
    for name, parameter in inspect.signature(type(part)).parameters.items():
        value = part.config[name]
        if name not in LATER.get(of, ()) or value != parameter.default:
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
