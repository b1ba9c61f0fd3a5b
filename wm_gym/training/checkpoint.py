"""Checkpoints: local files that are either whole or absent. They are never fetched from a hub."""

import io
from pathlib import Path
from typing import Any

import torch

from wm_gym.data.files import explain_full_disk, write_atomically


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with explain_full_disk(
        f"checkpoint {path} was not saved", lambda: "the one before is safe; free some space"
    ):
        write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"checkpoint {path} is damaged: {error}; delete it to begin anew"
        ) from error
