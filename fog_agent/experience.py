"""The last transitions, to be drawn from again."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

FIELDS = ("obs", "action", "reward", "next_obs")


class Experience:
    """A ring of transitions."""

    def __init__(self, capacity: int, obs_size: int, action_size: int, like: Tensor) -> None:
        sizes = {
            "obs": (obs_size,),
            "action": (action_size,),
            "reward": (),
            "next_obs": (obs_size,),
        }
        self.rows = {name: like.new_zeros(capacity, *sizes[name]) for name in FIELDS}
        self.capacity, self.seen = capacity, 0

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def add(self, batch: Mapping[str, Float[Tensor, "n *x"]]) -> None:
        n = min(len(batch["reward"]), self.capacity)  # of more, the last ones
        at = (torch.arange(n, device=batch["reward"].device) + self.seen) % self.capacity
        for name in FIELDS:
            self.rows[name][at] = batch[name][-n:].detach()
        self.seen += n

    def draw(self, n: int, *, last: int, rng: torch.Generator) -> dict[str, Float[Tensor, "n *x"]]:
        """With replacement, from the `last` ones."""
        back = torch.randint(min(len(self), last), (n,), generator=rng)
        at = ((self.seen - 1 - back) % self.capacity).to(self.rows["reward"].device)
        return {name: self.rows[name][at] for name in FIELDS}
