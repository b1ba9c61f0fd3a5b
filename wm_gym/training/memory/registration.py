"""Registration: by how much a view is off as a whole, found by comparing it with what was seen.

What is off by a few pixels is not worth painting: the best guess is then a blur, in which small
things are nowhere. So in training a view is moved to where it fits before it is painted from, and
that it should have been there is told to the flow, and through it to odometry.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, huber_loss, pad

from wm_gym.models.memory.dynamics import Dynamics, Flow, FrameEncoder, moved_pixels

COARSE = 24
"""Pixels along each side of pictures that are compared."""

ACROSS, DOWN = 4, 2
"""How many of these a view is off at most."""

LEAST, NEAR = 0.25, 1e-3
"""Least share of a picture that is compared, and what each squared pixel of a shift has to gain."""


@torch.no_grad()
def shift_between(
    view: Float[Tensor, "b c y x"], flow: Flow, true: Float[Tensor, "b c y x"]
) -> Float[Tensor, "b 2"]:
    """Across and down, where 2 is the whole picture."""
    view, true, known = (
        adaptive_avg_pool2d(each.float(), COARSE) for each in (view, true, flow.known[:, None])
    )
    margin = ACROSS, ACROSS, DOWN, DOWN
    view, known = pad(view, margin), pad((known > 0.9).float(), margin)
    costs = list[Tensor]()
    for i in range(2 * DOWN + 1):
        for j in range(2 * ACROSS + 1):
            part = slice(i, i + COARSE), slice(j, j + COARSE)
            where = known[..., part[0], part[1]]
            off = (view[..., part[0], part[1]] - true).square().mean(1, keepdim=True) * where
            size = where.sum((1, 2, 3))
            far = NEAR * ((i - DOWN) ** 2 + (j - ACROSS) ** 2)
            cost = off.sum((1, 2, 3)) / size.clamp(min=1) + far
            costs.append(torch.where(size >= LEAST * COARSE**2, cost, cost.new_full((), 9.0)))
    cost = torch.stack(costs, dim=1).view(-1, 2 * DOWN + 1, 2 * ACROSS + 1)
    best = cost.flatten(1).argmin(1)
    nothing = cost.amin((1, 2)) >= 9.0
    down, across = best // cost.shape[2], best % cost.shape[2]
    shift = torch.stack([_finer(cost, down, across), _finer(cost.mT, across, down)], dim=1)
    shift = shift - shift.new_tensor([ACROSS, DOWN])
    return torch.where(nothing[:, None], 0.0, shift * 2 / COARSE)


def _finer(
    cost: Float[Tensor, "b h w"], row: Int[Tensor, "b"], column: Int[Tensor, "b"]
) -> Float[Tensor, "b"]:
    """The lowest column in a row, near this one, of a parabola through three."""
    line = cost[torch.arange(len(cost), device=cost.device), row]
    inner = column.clamp(1, line.shape[1] - 2)
    left, middle, right = (line.gather(1, (inner + d)[:, None])[:, 0] for d in (-1, 0, 1))
    bend = left + right - 2 * middle
    move = 0.5 * (left - right) / bend.clamp(min=1e-6)
    usable = (inner == column) & (bend > 1e-6) & (torch.maximum(left, right) < 9.0)
    return column + torch.where(usable, move.clamp(-0.5, 0.5), 0.0)


def registered(
    dynamics: Dynamics,
    encoder: FrameEncoder,
    frames: Tensor,
    flow: Flow,
    row: Int[Tensor, "b"],
) -> tuple[Float[Tensor, "b e h w"], Float[Tensor, "b"]]:
    """What kept frames say of moments that were seen, moved to where it fits; and how far that is
    off, in coarse pixels, by Huber's measure."""
    true = encoder.read(row[:, None])[:, 0].movedim(3, 1).float() / 127.5 - 1
    with torch.no_grad():
        shift = shift_between(moved_pixels(frames, flow), flow, true)
    moved = flow.shifted(shift)
    view = dynamics.looked_at(encoder, moved_pixels(frames, moved), moved)
    known = flow.known[:, None].float()
    middle = (flow.place * known).sum((2, 3)) / known.sum((2, 3)).clamp(min=1)
    off = (middle - (middle + shift).detach()) * COARSE / 2
    lost = huber_loss(off, torch.zeros_like(off), reduction="none").sum(1)
    return view, lost
