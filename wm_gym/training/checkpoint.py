"""Checkpoints: local files that are either whole or absent. They are never fetched from a hub.

What `torch.save` writes, and behind it the SHA-256 of that.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from wm_gym.storage.files import explain_full_disk, write_atomically

_DIGEST = hashlib.sha256().digest_size


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    saved = buffer.getvalue()
    with explain_full_disk(
        f"checkpoint {path} was not saved", lambda: "the one before is safe; free some space"
    ):
        write_atomically(path, saved + hashlib.sha256(saved).digest())


def load_checkpoint(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    saved, digest = content[:-_DIGEST], content[-_DIGEST:]
    if hashlib.sha256(saved).digest() != digest:
        raise ValueError(
            f"checkpoint {path} is damaged: its checksum is wrong; delete it to begin anew"
        )
    return torch.load(io.BytesIO(saved), map_location="cpu", weights_only=True)
