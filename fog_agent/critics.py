"""Values of states: several networks, of whose disagreement each user takes what it needs."""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fog_agent.networks import Ensemble


class Critics(nn.Module):
    """Values V_k(x), and slow copies that follow them, if there is a lag."""

    def __init__(
        self,
        n: int,
        obs_size: int,
        hidden: Sequence[int],
        *,
        lag: float | None,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        self.n, self.lag = n, lag
        self.network = Ensemble(n, (obs_size, *hidden, 1), rng=rng)
        self.slow = None if lag is None else copy.deepcopy(self.network).requires_grad_(False)

    def forward(self, x: Float[Tensor, "b x"]) -> Float[Tensor, "k b"]:
        """As they learn."""
        return self.network(x)[..., 0]

    def _trusted(self, x: Float[Tensor, "b x"]) -> Float[Tensor, "k b"]:
        return (self.network if self.slow is None else self.slow)(x)[..., 0]

    def mean(self, x: Float[Tensor, "b x"]) -> Float[Tensor, "b"]:
        """For the actor at the end of a window: the gradient of many is smoother than of one."""
        return self._trusted(x).mean(dim=0)

    def least(self, x: Float[Tensor, "b x"]) -> Float[Tensor, "b"]:
        """For the actor after look-aheads, which go where nobody was: the least of all."""
        return self._trusted(x).amin(dim=0)

    def least_of_two(self, x: Float[Tensor, "b x"], *, rng: torch.Generator) -> Float[Tensor, "b"]:
        """For targets: the least of two random ones, against flattery; of one, that one."""
        two = torch.randperm(self.n, generator=rng)[:2].to(x.device)
        return self._trusted(x)[two].amin(dim=0)

    @torch.no_grad()
    def begin_at(self, value: float) -> None:
        """Shifts all values by as much; it takes long to learn where they are from far away."""
        for network in (self.network, self.slow):
            if network is not None:
                network.bias[-1] += value

    @torch.no_grad()
    def follow(self) -> None:
        """Slow copies go a step after the fast ones."""
        if self.slow is None or self.lag is None:
            return
        for slow, fast in zip(self.slow.parameters(), self.network.parameters(), strict=True):
            slow.lerp_(fast, self.lag)

    @torch.no_grad()
    def catch_up(self) -> None:
        """Slow copies are where the fast ones are."""
        if self.slow is not None:
            self.slow.load_state_dict(self.network.state_dict())
