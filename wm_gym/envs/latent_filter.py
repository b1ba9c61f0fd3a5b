"""What policies see under `obs_type="latent"`: what a local model makes of all that was seen."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import Tensor, nn

from wm_gym.envs.batches import computed, finite
from wm_gym.models.fingerprint import check_fingerprint, fingerprint
from wm_gym.models.protocol import LocalModel
from wm_gym.models.starts import Start


def latent_space(local_model: LocalModel) -> Box:
    """Of one environment's features."""
    return Box(-np.inf, np.inf, (local_model.feature_size,), np.float32)


class Following:
    """A local model as a filter: what it makes of frames, the same for the same frames."""

    def __init__(self, local_model: LocalModel, *, exact: bool) -> None:
        self.local_model, self._exact = local_model, exact

    def begun(
        self,
        frames: UInt8[Tensor, "n h w c"],
        proprio: Float[Tensor, "n p"],
        task: Int[Tensor, "n"],
    ) -> Float[Tensor, "n f"]:
        """Of first frames: nothing is remembered from before."""

        def function(frames: Tensor, proprio: Tensor, task: Tensor) -> Tensor:
            return self.local_model.begin(self.local_model.embed(frames, proprio), task)

        return self._computed(function, frames, proprio, task)

    def after(
        self,
        features: Float[Tensor, "n f"],
        action: Float[Tensor, "n a"],
        frames: UInt8[Tensor, "n h w c"],
        proprio: Float[Tensor, "n p"],
    ) -> Float[Tensor, "n f"]:
        """One step later, when these are seen."""

        def function(features: Tensor, action: Tensor, frames: Tensor, proprio: Tensor) -> Tensor:
            embedding = self.local_model.embed(frames, proprio)
            return self.local_model.follow(features, action, embedding)

        return self._computed(function, features, action, frames, proprio)

    def through(
        self,
        frames: UInt8[Tensor, "n t h w c"],
        proprio: Float[Tensor, "n t p"],
        action: Float[Tensor, "n t0 a"],
        task: Int[Tensor, "n"],
    ) -> Float[Tensor, "n f"]:
        """Of some frames in a row."""
        features = self.begun(frames[:, 0], proprio[:, 0], task)
        for t in range(1, frames.shape[1]):
            features = self.after(features, action[:, t - 1], frames[:, t], proprio[:, t])
        return features

    def of(self, starts: Sequence[Start]) -> Float[Tensor, "n f"]:
        """Of one or more frames each."""
        alike = defaultdict[int, list[int]](list)
        for i, start in enumerate(starts):
            alike[len(start.frames)].append(i)
        found: list[Tensor] = [torch.empty(0)] * len(starts)
        for chosen in alike.values():
            some = [starts[i] for i in chosen]
            frames, action = (
                torch.from_numpy(np.stack([getattr(start, name) for start in some]))
                for name in ("frames", "action")
            )
            proprio = torch.from_numpy(np.stack([start.proprio for start in some]))
            task = torch.tensor([start.task for start in some])
            for i, features in zip(
                chosen, self.through(frames, proprio, action, task), strict=True
            ):
                found[i] = features
        return torch.stack(found)

    @torch.no_grad()
    def _computed(self, function: Callable[..., Any], *tensors: Tensor) -> Float[Tensor, "n f"]:
        moved = [tensor.to(self.local_model.device) for tensor in tensors]
        found: Float[Tensor, "n f"] = computed(function, *moved, exact=self._exact)
        return found


class LatentFilter:
    """n filters of any frames, each with what it remembers."""

    def __init__(self, local_model: LocalModel, num_envs: int, *, exact: bool) -> None:
        self.local_model, self._follow = local_model, Following(local_model, exact=exact)
        self.features: Float[Tensor, "b f"] = torch.zeros(
            num_envs, local_model.feature_size, dtype=torch.float32, device=local_model.device
        )

    @property
    def space(self) -> Box:
        return latent_space(self.local_model)

    def begin(self, starts: Mapping[int, Start]) -> None:
        """Anew in these environments, from one or more frames each."""
        if starts:
            self._place(np.array(list(starts)), self._follow.of(list(starts.values())))

    def begin_at(
        self,
        chosen: Int[np.ndarray, "n"],
        frames: UInt8[np.ndarray, "n h w c"],
        proprio: Float32[np.ndarray, "n p"] | None = None,
        task: Int[np.ndarray, "n"] | None = None,
    ) -> None:
        """Anew in these, from one frame each: all that a real system shows at reset."""
        if len(chosen):
            beside = np.zeros((len(chosen), 0), np.float32) if proprio is None else proprio
            of = np.zeros(len(chosen), np.int64) if task is None else task
            shown = torch.from_numpy(frames), torch.from_numpy(beside), torch.from_numpy(of)
            self._place(chosen, self._follow.begun(*shown))

    def advance(
        self,
        chosen: Int[np.ndarray, "n"],
        action: Float32[np.ndarray, "n a"],
        frames: UInt8[np.ndarray, "n h w c"],
        proprio: Float32[np.ndarray, "n p"] | None = None,
    ) -> None:
        """One step of these environments, to what was seen after it."""
        if len(chosen):
            beside = np.zeros((len(chosen), 0), np.float32) if proprio is None else proprio
            shown = [torch.from_numpy(each) for each in (action, frames, beside)]
            self._place(chosen, self._follow.after(self.features[chosen], *shown))

    def _place(self, chosen: Int[np.ndarray, "n"], features: Float[Tensor, "n f"]) -> None:
        """In a copy: what was handed out before does not change."""
        finite(chosen, features)
        index = torch.from_numpy(chosen).to(self.features.device)
        self.features = self.features.index_copy(0, index, features)

    def snapshot(self, i: int) -> Float32[np.ndarray, "f"]:
        return self.features[i].cpu().numpy().copy()

    @cached_property
    def fingerprint(self) -> str:
        assert isinstance(self.local_model, nn.Module)
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
        self._place(np.array([i]), torch.as_tensor(features)[None].to(self.features))

    def observations(self, which: Bool[np.ndarray, "b"]) -> Float32[np.ndarray, "n f"]:
        return self.features[torch.from_numpy(which)].cpu().numpy()
