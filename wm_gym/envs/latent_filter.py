"""What policies see under `obs_type="latent"`: the local model's posterior of the frames so far."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import Tensor

from wm_gym.envs.batches import computed, finite
from wm_gym.models.fingerprint import check_fingerprint, fingerprint
from wm_gym.models.local_model import LocalModel
from wm_gym.models.starts import Start


class LatentFilter:
    """n posterior filters, of dreams or of any other frames: the same numbers for the same frames.

    A filter begins with the first frame that it is shown, and remembers nothing from before.
    """

    def __init__(self, local_model: LocalModel, num_envs: int, *, exact: bool) -> None:
        self.local_model, self._exact = local_model, exact
        self.features: Float[Tensor, "b f"] = torch.zeros(
            num_envs, local_model.feature_size, dtype=torch.float32, device=local_model.device
        )

    @property
    def space(self) -> Box:
        """Of one environment's features."""
        return Box(-np.inf, np.inf, (self.local_model.feature_size,), np.float32)

    def begin(self, starts: Mapping[int, Start]) -> None:
        """Anew in these environments, from one or more frames each."""
        alike = defaultdict[int, list[int]](list)
        for i, start in starts.items():
            alike[len(start.frames)].append(i)
        begun: list[tuple[list[int], Tensor]] = []
        for length, chosen in alike.items():
            frames = np.stack([starts[i].frames for i in chosen])
            action = np.stack([starts[i].action for i in chosen])
            features = self._computed(self._begun, frames[:, 0])
            for t in range(1, length):
                features = self._computed(self._next, features, action[:, t - 1], frames[:, t])
            finite(chosen, features)
            begun.append((chosen, features))
        for chosen, features in begun:
            self._place(np.array(chosen), features)

    def begin_at(self, chosen: Int[np.ndarray, "n"], frames: UInt8[np.ndarray, "n h w c"]) -> None:
        """Anew in these, from one frame each: all that a real system shows at reset."""
        if len(chosen):
            features = self._computed(self._begun, frames)
            finite(chosen, features)
            self._place(chosen, features)

    def advance(
        self,
        chosen: Int[np.ndarray, "n"],
        action: Float32[np.ndarray, "n a"],
        frames: UInt8[np.ndarray, "n h w c"],
    ) -> None:
        """One step of these environments, to what was seen after it."""
        if len(chosen):
            features = self._computed(self._next, self.features[chosen], action, frames)
            finite(chosen, features)
            self._place(chosen, features)

    def _begun(self, frames: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n f"]:
        return self.local_model.begin(self.local_model.embed(frames)).features

    def _next(
        self,
        features: Float[Tensor, "n f"],
        action: Float[Tensor, "n a"],
        frames: UInt8[Tensor, "n h w c"],
    ) -> Float[Tensor, "n f"]:
        return self.local_model.follow(features, action, self.local_model.embed(frames))

    @torch.no_grad()
    def _computed(
        self, function: Callable[..., Any], *arrays: np.ndarray | Tensor
    ) -> Float[Tensor, "n f"]:
        tensors = [torch.as_tensor(a, device=self.features.device) for a in arrays]
        found: Float[Tensor, "n f"] = computed(function, *tensors, exact=self._exact)
        return found

    def _place(self, chosen: Int[np.ndarray, "n"], features: Float[Tensor, "n f"]) -> None:
        """In a copy: what was handed out before does not change."""
        index = torch.from_numpy(chosen).to(self.features.device)
        self.features = self.features.index_copy(0, index, features)

    def snapshot(self, i: int) -> Float32[np.ndarray, "f"]:
        return self.features[i].cpu().numpy().copy()

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.local_model)

    def check_snapshot(self, features: Any, model: str) -> None:
        """`model`: the fingerprint that goes with the features."""
        size = self.local_model.feature_size
        if (shape := np.shape(features)) != (size,):
            raise ValueError(
                f"the snapshot has features of shape {shape}, expected ({size},): "
                "it is of another world model"
            )
        if not np.isfinite(features).all():
            raise ValueError("the snapshot holds features that are not finite")
        check_fingerprint(model, self.fingerprint)

    def restore(self, i: int, features: Float32[np.ndarray, "f"]) -> None:
        placed = torch.as_tensor(features)[None].to(self.features)
        self._place(np.array([i]), placed)

    def observations(self, which: Bool[np.ndarray, "b"]) -> Float32[np.ndarray, "n f"]:
        return self.features[torch.from_numpy(which)].cpu().numpy()
