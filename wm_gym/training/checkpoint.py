"""Checkpoints: local files that are either whole or absent. They are never fetched from a hub.

What `torch.save` writes, and behind it the SHA-256 of that.
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

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


def identity(model: nn.Module, *more: str) -> str:
    """What tells weights, and texts that go with them, from all others."""
    found = hashlib.sha256()
    for tensor in model.state_dict().values():
        found.update(tensor.cpu().numpy().tobytes())
    for text in more:
        found.update(text.encode())
    return found.hexdigest()


def check_learned_from(came: Mapping[str, str] | None, expected: Mapping[str, str]) -> None:
    """ValueError where a checkpoint learned from other data, or from other parts, by identity."""
    for name, wanted in expected.items():
        if came is None or name not in came:
            raise ValueError(
                f"checkpoint does not say which {name} it learned from, expected content "
                f"{wanted[:12]}; an older wm_gym wrote it: give another --out"
            )
        if came[name] != wanted:
            raise ValueError(
                f"checkpoint learned from another {name}, content {came[name][:12]}, expected "
                f"{wanted[:12]}: give another --out"
            )
