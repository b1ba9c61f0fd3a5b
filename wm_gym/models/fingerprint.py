"""Which model it is, in a few letters: what belongs to one is not taken for another's."""

import json
from hashlib import sha256

import torch
from diffusers import ConfigMixin
from torch import nn

LENGTH = 16


def fingerprint(model: nn.Module) -> str:
    """Of its settings and weights; the same on every device, and in float32 and bfloat16."""
    digest = sha256()
    for name, part in model.named_modules():
        config = part.config if isinstance(part, ConfigMixin) else {}
        settings = {k: v for k, v in config.items() if not k.startswith("_")}
        digest.update(json.dumps([name, settings], sort_keys=True).encode())
    for name, tensor in model.state_dict().items():
        rounded = tensor.to(torch.bfloat16).cpu().contiguous()
        digest.update(json.dumps([name, list(tensor.shape)]).encode())
        digest.update(rounded.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:LENGTH]


def check_fingerprint(came: str, expected: str) -> None:
    """Of what a snapshot tells; one of before tells nothing, and is believed."""
    if came not in ("", expected):
        raise ValueError(
            f"the snapshot is of world model {came}, expected {expected}: it is of another world "
            "model; go on from it in an environment of that one"
        )
