"""Nested state, of whatever tensors: changed tensor by tensor, or kept as JSON, without pickles.

Numbers, text, lists, tuples, dictionaries, tensors and arrays come back as they were, but NumPy's
numbers as Python's. Dataclasses, named tuples and NumPy's generators come back by the example of
one at hand, so no file says what to build; fields that came later have their defaults.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

PLAIN = (bool, int, float, str, type(None))


def map_tensors(change: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """The same tree of changed tensors; what is none stays."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {key: map_tensors(change, each) for key, each in tree.items()}
    if isinstance(tree, (list, tuple)):
        return _alike([map_tensors(change, each) for each in tree], tree)
    if is_dataclass(tree) and not isinstance(tree, type):
        each = {field.name: getattr(tree, field.name) for field in fields(tree) if field.init}
        return replace(tree, **{name: map_tensors(change, value) for name, value in each.items()})
    return tree


def _alike(each: list[Any], like: Any) -> Any:
    """A list, tuple or named tuple."""
    return type(like)(*each) if hasattr(like, "_fields") else type(like)(each)


class OtherRecordError(ValueError):
    """What was packed is of a dataclass with other fields, as an older version may have had."""


def pack(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """What JSON takes; tensors and arrays go into `tensors`, named 0, 1, …"""
    if isinstance(tree, np.generic):
        tree = tree.item()
    if isinstance(tree, PLAIN):
        return tree
    if isinstance(tree, (Tensor, np.ndarray)):
        name = str(len(tensors))
        given = tree if isinstance(tree, Tensor) else torch.from_numpy(np.ascontiguousarray(tree))
        tensors[name] = given.detach().cpu().clone().contiguous().view(tree.shape)
        return {"tensor" if isinstance(tree, Tensor) else "array": name}
    if isinstance(tree, (list, tuple)):
        kind = "tuple" if isinstance(tree, tuple) else "list"
        return {kind: [pack(each, tensors) for each in tree]}
    if isinstance(tree, dict):
        pairs = [[pack(key, tensors), pack(value, tensors)] for key, value in tree.items()]
        return {"dict": pairs}
    if isinstance(tree, np.random.Generator):
        return {"generator": pack(tree.bit_generator.state, tensors)}
    if is_dataclass(tree) and not isinstance(tree, type):
        each = {field.name: pack(getattr(tree, field.name), tensors) for field in fields(tree)}
        return {"record": each}
    raise TypeError(f"a {type(tree).__name__} cannot be kept")


def unpack(packed: Any, tensors: dict[str, Tensor], like: Any = None) -> Any:
    """`like` is an example with the same dataclasses and generators in the same places.

    Each of `tensors` is taken out once: what is told is never more than what is there.
    """
    if isinstance(packed, PLAIN):
        return packed
    (kind, value), = packed.items()  # fmt: skip
    if kind == "tensor":
        return tensors.pop(value).clone()
    if kind == "array":
        return tensors.pop(value).numpy().copy()
    if kind in ("list", "tuple"):
        examples = _examples(like, len(value))
        each = [unpack(v, tensors, e) for v, e in zip(value, examples, strict=True)]
        if kind == "list":
            return each
        named = isinstance(like, tuple) and examples is like
        return _alike(each, like) if named else tuple(each)
    if kind == "dict":
        known = like if isinstance(like, dict) else {}
        pairs = [(unpack(key, tensors), v) for key, v in value]
        return {key: unpack(v, tensors, known.get(key)) for key, v in pairs}
    if kind == "generator":
        return _generator(unpack(value, tensors), like)
    if kind == "record":
        return _record(value, tensors, like)
    raise ValueError(f"there is a {kind!r}, expected a tensor, list, dict or the like")


def _examples(like: Any, n: int) -> Sequence[Any]:
    fits = isinstance(like, (list, tuple)) and len(like) == n
    return like if fits else [None] * n


def _generator(state: Any, like: Any) -> np.random.Generator:
    if not isinstance(like, np.random.Generator):
        raise ValueError("there is a random generator where the environment has none")
    drawn = copy.deepcopy(like)
    drawn.bit_generator.state = state
    return drawn


def _record(values: dict[str, Any], tensors: dict[str, Tensor], like: Any) -> Any:
    if not is_dataclass(like) or isinstance(like, type):
        raise ValueError(f"there are {sorted(values)} where the environment has no record")
    known = {field.name: field.default is MISSING for field in fields(like)}
    if not {name for name, needed in known.items() if needed} <= set(values) <= set(known):
        raise OtherRecordError(
            f"there are {sorted(values)}, expected those of a {type(like).__name__}"
        )
    each = {name: unpack(v, tensors, getattr(like, name)) for name, v in values.items()}
    return type(like)(**each)
