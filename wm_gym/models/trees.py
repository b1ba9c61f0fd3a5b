"""Functions of states that nobody looks into: trees whose leaves are tensors, batch first.

A tree is a tensor, or a tuple, list, dictionary or dataclass of trees; None is a tree without
leaves. Whatever holds a state, moves, masks or saves it does so by these, and names no field.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
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


def _mapped(function: Callable[..., Any], where: str, trees: tuple[Any, ...]) -> Any:
    first = trees[0]
    if isinstance(first, Tensor) and all(isinstance(tree, Tensor) for tree in trees):
        return function(*trees)
    if any(type(tree) is not type(first) for tree in trees):
        raise ValueError(f"trees differ at {where}: {[type(tree).__name__ for tree in trees]}")
    if first is None:
        return None
    names, made = _children(first)
    if any(_children(tree)[0] != names for tree in trees[1:]):
        raise ValueError(f"trees differ at {where}: they have other entries than {names}")
    return made(
        [
            _mapped(function, str(name), tuple(_child(tree, name) for tree in trees))
            for name in names
        ]
    )


def _children(node: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Names of a node's entries, and how to make one like it of new entries."""
    if isinstance(node, dict):
        names = list(node)
        return names, lambda each: dict(zip(names, each, strict=True))
    if isinstance(node, (tuple, list)):
        return list(range(len(node))), getattr(type(node), "_make", type(node))
    if is_dataclass(node) and not isinstance(node, type):
        names = [field.name for field in fields(node)]
        return names, lambda each: type(node)(**dict(zip(names, each, strict=True)))
    raise TypeError(
        f"a state holds a {type(node).__name__}, expected tensors, or tuples, lists, dictionaries "
        "or dataclasses of them"
    )


def _child(node: Any, name: Any) -> Any:
    return node[name] if isinstance(node, (dict, tuple, list)) else getattr(node, name)


def leaves(tree: Any) -> list[Tensor]:
    """Its tensors, always in the same order."""
    if tree is None or isinstance(tree, Tensor):
        return [] if tree is None else [tree]
    return [leaf for name in _children(tree)[0] for leaf in leaves(_child(tree, name))]


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
        return torch.where(which.view(-1, *[1] * (a.ndim - 1)), a, b)

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
