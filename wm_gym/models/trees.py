"""Functions of states that nobody looks into: trees whose leaves are tensors, batch first.

A tree is a tensor, or a tuple, list, dictionary or dataclass of trees; None is a tree without
leaves. Whatever holds a state, moves, masks or saves it does so by these, and names no field.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Tree = TypeVar("Tree")


def mapped(function: Callable[..., Any], tree: Tree, *more: Any) -> Tree:
    """The tree of function(leaf, ...) of the leaves of one tree, and of others like it."""
    found: Tree = _mapped(function, "the root", (tree, *more))
    return found


def _mapped(function: Callable[..., Any], where: str, trees: Sequence[Any]) -> Any:
    first = trees[0]
    if isinstance(first, Tensor) and all(isinstance(tree, Tensor) for tree in trees):
        return function(*trees)
    if any(type(tree) is not type(first) for tree in trees):
        raise ValueError(f"trees differ at {where}: {[type(tree).__name__ for tree in trees]}")
    if first is None:
        return None
    names, entries = _entries(first)
    others = [_entries(tree) for tree in trees[1:]]
    if any(each[0] != names for each in others):
        raise ValueError(f"trees differ at {where}: they have other entries than {names}")
    each = zip(names, entries, *(one[1] for one in others), strict=True)
    return _made(first, names, [_mapped(function, str(name), values) for name, *values in each])


def _entries(node: Any) -> tuple[Sequence[Any], Sequence[Any]]:
    """Names of a node's entries, and these."""
    if isinstance(node, dict):
        return list(node), list(node.values())
    if isinstance(node, (tuple, list)):
        return range(len(node)), node
    kind: Any = type(node)
    if (names := _fields(kind)) is None:
        raise TypeError(
            f"a state holds a {type(node).__name__}, expected tensors, or tuples, lists, "
            "dictionaries or dataclasses of them"
        )
    return names, [getattr(node, name) for name in names]


def _made(like: Any, names: Sequence[Any], entries: list[Any]) -> Any:
    """A node as this one, of new entries."""
    if isinstance(like, dict):
        return dict(zip(names, entries, strict=True))
    if isinstance(like, (tuple, list)):
        return getattr(type(like), "_make", type(like))(entries)
    return type(like)(**dict(zip(names, entries, strict=True)))


@cache
def _fields(kind: Any) -> tuple[str, ...] | None:
    """Names of a dataclass's fields; None of what is none."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else None


def leaves(tree: Any) -> list[Tensor]:
    """Its tensors, always in the same order."""
    if tree is None or isinstance(tree, Tensor):
        return [] if tree is None else [tree]
    return [leaf for entry in _entries(tree)[1] for leaf in leaves(entry)]


def size(tree: Any) -> int:
    """b, of a tree with any leaf."""
    while not isinstance(tree, Tensor):
        tree = next(entry for entry in _entries(tree)[1] if entry is not None)
    return len(tree)


def rows(tree: Tree, index: Int[Tensor, "n"] | slice) -> Tree:
    """These batch entries."""
    return mapped(lambda leaf: leaf[index], tree)


def put(tree: Tree, index: Int[Tensor, "n"], values: Tree) -> Tree:
    """A copy with these batch entries replaced; what was handed out before does not change."""

    def placed(base: Tensor, new: Tensor) -> Tensor:
        new = new.to(base)
        return new if len(new) == len(base) else base.index_copy(0, index, new)

    return mapped(placed, tree, values)


def where(which: Bool[Tensor, "b"], one: Tree, other: Tree) -> Tree:
    """One where `which`, the other elsewhere."""

    def chosen(a: Tensor, b: Tensor) -> Tensor:
        return a if a is b else torch.where(which.view(-1, *[1] * (a.ndim - 1)), a, b)

    return mapped(chosen, one, other)


def detached(tree: Tree) -> Tree:
    return mapped(Tensor.detach, tree)


def moved(tree: Tree, device: torch.device) -> Tree:
    return mapped(lambda leaf: leaf.to(device), tree)


def joined(trees: Sequence[Tree]) -> Tree:
    """Put together along the batch."""
    return mapped(lambda *each: torch.cat(each), trees[0], *trees[1:])


def zeros(like: Tree, n: int) -> Tree:
    """n batch entries of zeros."""
    return mapped(lambda leaf: leaf.new_zeros(n, *leaf.shape[1:]), like)


def largest(tree: Any) -> list[Float[Tensor, "b"]]:
    """Of every leaf of fractions, the largest size in each batch entry: not finite where one of
    its numbers is not."""
    found = [
        leaf.detach() for leaf in leaves(tree) if leaf.is_floating_point() and leaf[:1].numel()
    ]
    return [leaf if leaf.ndim == 1 else leaf.flatten(1).abs().amax(1) for leaf in found]


def entry(tree: Any, i: int) -> tuple[np.ndarray, ...]:
    """One batch entry as arrays of its own: picklable, and the same on every device."""
    return tuple(_portable(leaf[i]).cpu().numpy().copy() for leaf in leaves(tree))


def _portable(tensor: Tensor) -> Tensor:
    """NumPy has no bfloat16; float32 holds it exactly."""
    return tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()


def from_entry(arrays: Any, like: Tree) -> Tree:
    """A batch of the one entry that `entry` took from a tree such as `like`; ValueError where it
    is of another."""
    wanted = leaves(like)
    if not isinstance(arrays, tuple) or len(arrays) != len(wanted):
        raise ValueError(f"it has {_count(arrays)}, expected {len(wanted)} arrays")
    for array, leaf in zip(arrays, wanted, strict=True):
        _check_array(array, leaf)
    left = iter(arrays)
    return mapped(lambda leaf: torch.from_numpy(np.array(next(left)))[None].to(leaf), like)


def _check_array(array: Any, leaf: Tensor) -> None:
    kind = _portable(leaf[:0]).cpu().numpy().dtype
    shape = tuple(leaf.shape[1:])
    found = getattr(array, "dtype", type(array).__name__)
    if not isinstance(array, np.ndarray) or array.dtype != kind or array.shape != shape:
        raise ValueError(f"it has numbers {found} {np.shape(array)}, expected {kind} {shape}")
    if kind.kind == "f" and not np.isfinite(array).all():
        raise ValueError("it has numbers that are not finite")


def _count(arrays: Any) -> str:
    return f"{len(arrays)} arrays" if isinstance(arrays, tuple) else f"a {type(arrays).__name__}"
