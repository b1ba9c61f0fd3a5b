"""n dreams of one world model, behind the shells: the NumPy door."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Space
from jaxtyping import Bool, Float, Float32, Int, Int64, UInt8
from torch import Tensor

from wm_gym.envs.batches import computed, finite
from wm_gym.envs.dream_starts import StartSource, given_starts, last_frame, prefill_of
from wm_gym.envs.dreams import Dreams, Step, begun, example, following, noise_of
from wm_gym.envs.latent_filter import Following, latent_space
from wm_gym.envs.snapshots import check_counts, check_finite
from wm_gym.envs.world import Observations, asked_task, dict_space
from wm_gym.models import trees
from wm_gym.models.colours import to_colour
from wm_gym.models.fingerprint import check_fingerprint, fingerprint
from wm_gym.models.protocol import Outcome
from wm_gym.models.starts import Start
from wm_gym.models.trees import Tree
from wm_gym.models.world_model import WorldModel
from wm_gym.systems import System
from wm_gym.types import PIXELS, PROPRIO

if hasattr(os, "register_at_fork"):  # a forked worker that asks for OpenMP's threads never returns
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

PICTURE_SIDE = 480
"""About how tall a picture for people is."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a model is run."""

    denoising_steps: int
    deterministic: bool
    obs_type: str
    ends: bool
    """Whether dreams end where the model says so."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DreamState:
    """One dream at one moment, in NumPy: picklable, and the same on every device."""

    state: tuple[np.ndarray, ...]
    """Whatever the kind of model keeps."""

    outcome: tuple[np.ndarray, ...]
    frame: UInt8[np.ndarray, "h w c"]
    proprio: Float32[np.ndarray, "p"]
    features: Float32[np.ndarray, "f"]
    """None of them where observations are no latents."""

    task: int
    key: int
    step: int
    model: str
    """Fingerprint of the world model."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """What a reset of dreams asks for."""

    starts: list[Start] | None
    """None: any of the world's own."""

    task: list[int | None]
    """None: whatever the start is of."""


@contextmanager
def untracked() -> Iterator[None]:
    """Without gradients, and without inference mode, whose tensors no later window could use."""
    with torch.inference_mode(False), torch.no_grad():
        yield


class DreamWorld:
    """n dreams of one world model, stepped together."""

    def __init__(
        self,
        system: System,
        model: WorldModel,
        num_envs: int,
        *,
        sampling: Sampling,
        starts: StartSource,
        task: int | None = None,
    ) -> None:
        """`task` is what is dreamt of where `reset` is not told; None: whatever a start is of."""
        self.system, self.model, self.num_envs = system, model, num_envs
        self.sampling, self._starts, self._default = sampling, starts, task
        self.filter = Following(model.local_model, exact=sampling.deterministic)
        self.filtering = sampling.obs_type == "latent"
        """Whether observations are what the filter says."""
        origin = model.card.origin
        self._covers = origin is None or origin.has_coverage
        self.ends = sampling.ends and model.spec.can_end
        """Whether there can be any end but that of time."""
        with untracked():
            self._like = example(model)
        self.now: Dreams = trees.zeros(self._like, num_envs)
        """All of them, without gradients; replaced as they go on, never changed."""

        self._filtered = np.ones(num_envs, bool)
        """Whose filter has seen the last frame: a dream of pictures filters only where it must."""

        self.waits = model.device.type == "cpu"
        """Whether each step is looked at before the next, which costs nothing on a CPU. Elsewhere
        steps with gradients are not waited for; `settle` looks at all of them."""

        nobody = torch.zeros(num_envs, dtype=torch.bool, device=model.device)
        self._lost = self._misled = self._nobody = nobody
        """Whose numbers, and whose actions, were not finite in steps that were not looked at."""

        self._doubted = False
        """Whether there are any such steps."""

        self._everybody = torch.arange(num_envs, device=model.device)

    @property
    def observation_space(self) -> Space[Any]:
        if self.filtering:
            return latent_space(self.model.local_model)
        pixels = self.system.observation_space
        if self.sampling.obs_type == "dict":
            return dict_space(pixels, self.model.spec.proprio_size)
        return pixels

    def given(self, options: Mapping[str, Any]) -> "Asked":
        """`options={"frames": ..., "actions": ..., "task": ...}`: real frames to begin from."""
        spec, more = self.model.spec, {k: v for k, v in options.items() if k != "task"}
        task = asked_task(self.system, self._default, options.get("task"), self.num_envs)
        if spec.tasks == 1 and any(task):
            raise ValueError(
                f"task is {options.get('task', self._default)!r}, but this world model knows only "
                f"{self.system.tasks[0].name!r}"
            )
        starts = given_starts(
            more, self.num_envs, frame_shape=self.system.frame_shape,
            action_size=spec.action_size, usual_proprio=self._usual_proprio, task=task,
        )  # fmt: skip
        if starts is None:
            for one in {each for each in task if each is not None}:
                self._starts_of(one)  # that there are any
        return Asked(starts=starts, task=task)

    def _starts_of(self, task: int) -> Int[np.ndarray, "n"]:
        if not len(some := self._starts.of_task(task)):
            raise ValueError(
                f"there are no starts of task {task} ({self.system.tasks[task].name}): give "
                "options={'frames': ...}, or starts='path/to/dataset' that has some"
            )
        return some

    def start(
        self,
        which: Bool[np.ndarray, "b"],
        rngs: Sequence[np.random.Generator],
        given: "Asked",
    ) -> None:
        chosen = np.flatnonzero(which)
        keys, starts = [], []
        for i in chosen.tolist():  # two numbers an episode, whatever is asked for
            keys.append(rngs[i].integers(2**63))
            starts.append(self._start(rngs[i], given, i))
        seen = starts if given.starts is not None else [last_frame(start) for start in starts]

        def function(*inputs: Any) -> Dreams:
            return begun(self.model, *inputs)

        with untracked():
            features = self.filter.of(seen) if self.filtering else self.now.features[chosen]
            prefill = prefill_of(starts, self.model.spec.prefill, self.model.device)
            key = torch.from_numpy(np.array(keys, np.int64)).to(self.model.device)
            fresh = self._computed(function, prefill, features, key)
        finite(chosen, fresh.outcome, fresh.state, fresh.features)
        self.place(chosen, fresh, filtered=self.filtering)
        self._trusted(chosen)

    def _start(self, rng: np.random.Generator, given: "Asked", i: int) -> Start:
        task = given.task[i]
        if given.starts is not None or task is None or self.model.spec.tasks == 1:
            pick = rng.integers(len(self._starts))
        else:
            some = self._starts_of(task)
            pick = some[rng.integers(len(some))]
        return self._starts[int(pick)] if given.starts is None else given.starts[i]

    def advance(
        self, action: Float32[np.ndarray, "b a"], which: Bool[np.ndarray, "b"]
    ) -> Float[np.ndarray, "b"]:
        self.settle()
        if not which.any():
            return np.zeros(self.num_envs)
        chosen = np.flatnonzero(which)
        with untracked():
            acted = torch.from_numpy(action[which]).to(self.model.device)
            step = self.dreamt(self.rows(self.now, chosen), acted, self.filtering)
        after = step.dreams
        finite(chosen, after.outcome, after.state, after.features)
        self._go_on(chosen, after, filtered=self.filtering)
        reward = np.zeros(self.num_envs)
        reward[chosen] = after.outcome.reward.cpu().numpy()
        return reward

    def dreamt(self, dreams: Dreams, action: Float[Tensor, "n a"], filtering: bool) -> Step:
        """One step of some dreams, differentiable; nothing is changed by it."""

        def function(dreams: Dreams, action: Tensor) -> Step:
            noise = noise_of(dreams, self.model.spec.noise_shape)
            steps = self.sampling.denoising_steps
            return following(
                self.model, dreams, action, noise, denoising_steps=steps, filtering=filtering
            )

        step: Step = self._computed(function, dreams, action)
        return step

    def accept(self, chosen: Int[np.ndarray, "n"], step: Step, *, filtered: bool) -> None:
        """Go on from there; where it can be waited for, only if all of it is finite."""
        after = trees.detached(step.dreams)
        numbers = after.outcome, after.state, after.features
        if self.waits:
            finite(chosen, numbers)
        else:
            finites = torch.stack([each.isfinite() for each in trees.largest(numbers)]).all(0)
            self._lost = self._lost.index_copy(0, self.index(chosen), ~finites)
            self._doubted = True
        self._go_on(chosen, after, filtered=filtered)

    def _go_on(self, chosen: Int[np.ndarray, "n"], after: Dreams, *, filtered: bool) -> None:
        if len(chosen) < self.num_envs:
            self.place(chosen, after, filtered=filtered)
            return
        self.now = after
        self._filtered[:] = filtered

    def doubt_actions(self, action: Float[Tensor, "b a"]) -> None:
        """Let `settle` say whether these are finite."""
        self._misled = self._misled | ~action.detach().isfinite().all(1)

    def settle(self) -> None:
        """Raises where a step that nobody waited for went wrong: such dreams have to begin anew."""
        if not self._doubted:
            return
        lost, misled = self._lost, self._misled
        self._lost, self._misled, self._doubted = self._nobody, self._nobody, False
        if (which := misled.cpu().numpy()).any():
            raise ValueError(
                f"action is not finite in environments {np.flatnonzero(which).tolist()}, in a step "
                "of this window: reset them"
            )
        if (which := lost.cpu().numpy()).any():
            raise FloatingPointError(
                f"what was computed for environments {np.flatnonzero(which).tolist()} is not "
                "finite, in a step of this window: the world model's weights, or the snapshot or "
                "frames that these went on from, hold numbers that are too large. Reset them, or "
                "use another world model"
            )

    def _trusted(self, chosen: Int[np.ndarray, "n"]) -> None:
        """Whatever went wrong there, it is gone."""
        if not self.waits:
            anew = self._nobody.index_fill(0, self.index(chosen), True)
            self._lost, self._misled = self._lost & ~anew, self._misled & ~anew

    def place(self, chosen: Int[np.ndarray, "n"], dreams: Dreams, *, filtered: bool) -> None:
        with untracked():
            self.now = trees.put(self.now, self.index(chosen), dreams)
        self._filtered[chosen] = filtered

    def catch_up(self) -> None:
        """Let filters see what they have not, as far as the model recalls it."""
        behind = np.flatnonzero(~self._filtered)
        if not len(behind):
            return
        late = trees.rows(self.now, self.index(behind))
        with untracked():
            known = self.model.global_model.recalled(late.state)
            past = late.state if known is None else known.states
            seen = self._computed(self.model.decode, past)
            frames, proprio = (
                each.unflatten(0, (len(behind), -1))
                for each in (to_colour(seen.frames), seen.proprio)
            )
            nothing = seen.proprio.new_zeros(len(behind), 0, self.model.spec.action_size)
            action = nothing if known is None else known.action
            features = self.filter.through(frames, proprio, action, late.task)
        finite(behind, features)
        self.place(behind, dataclasses.replace(late, features=features), filtered=True)

    def index(self, chosen: Int[np.ndarray, "n"]) -> Int[Tensor, "n"]:
        """On the device; of all of them, without a copy that would wait for it."""
        if len(chosen) == self.num_envs:
            return self._everybody
        return torch.from_numpy(chosen).to(self.model.device)

    def rows(self, tree: Tree, chosen: Int[np.ndarray, "n"]) -> Tree:
        """Of these dreams; of all of them, the tree itself."""
        every = len(chosen) == self.num_envs
        return tree if every else trees.rows(tree, self.index(chosen))

    def mask(self, which: Bool[np.ndarray, "b"]) -> Bool[Tensor, "b"]:
        """The same of a mask; of none or all, without a copy."""
        if not which.any():
            return self._nobody.clone()
        return ~self._nobody if which.all() else torch.from_numpy(which).to(self.model.device)

    def _computed(self, function: Any, *inputs: Any) -> Any:
        return computed(function, *inputs, exact=self.sampling.deterministic)

    def observations(self, which: Bool[np.ndarray, "b"]) -> Observations:
        now, index = self.now, self.index(np.flatnonzero(which))
        if self.filtering:
            return now.features[index].cpu().numpy()
        frames = now.frames[index].cpu().numpy()
        if self.sampling.obs_type == "dict":
            return {PIXELS: frames, PROPRIO: now.proprio[index].cpu().numpy()}
        return frames

    def noted(self) -> "NotedDreams":
        now = self.now
        return NotedDreams(now.outcome, now.task, covers=self._covers, ends=self.ends)

    def picture(self, i: int) -> UInt8[np.ndarray, "h w c"]:
        frame = self.now.frames[i].cpu().numpy()
        factor = max(1, PICTURE_SIDE // frame.shape[0])
        return frame.repeat(factor, axis=0).repeat(factor, axis=1)

    def snapshot(self, i: int) -> DreamState:
        self.settle()
        now = self.now
        features = now.features[i] if self.filtering else now.features[0, :0]
        return DreamState(
            state=trees.entry(now.state, i),
            outcome=trees.entry(now.outcome, i),
            frame=now.frames[i].cpu().numpy().copy(),
            proprio=now.proprio[i].cpu().numpy().copy(),
            features=features.cpu().numpy().copy(),
            task=int(now.task[i]),
            key=int(now.key[i]),
            step=int(now.step[i]),
            model=self._fingerprint,
        )

    @cached_property
    def _usual_proprio(self) -> Float32[np.ndarray, "p"]:
        return self._starts.usual_proprio(self.model.spec.proprio_size)

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.model)

    def check_snapshot(self, snapshot: Any) -> None:
        if not isinstance(snapshot, DreamState):
            raise TypeError("the snapshot is not of a dream")
        if not hasattr(snapshot, "state"):  # unpickled: of a time when there was one kind
            raise ValueError("the snapshot is of an older wm_gym, which this one cannot go on from")
        for name in ("state", "outcome"):
            try:
                trees.from_entry(getattr(snapshot, name), getattr(self._like, name))
            except ValueError as error:
                raise ValueError(
                    f"the snapshot's {name} is not as this world model's: {error}; it is of another"
                ) from error
        for name, like in {"frame": self._like.frames, "proprio": self._like.proprio}.items():
            if (came := np.shape(getattr(snapshot, name))) != tuple(like.shape[1:]):
                raise ValueError(
                    f"the snapshot has a {name} of shape {came}, expected {tuple(like.shape[1:])}: "
                    "it is of another world model"
                )
        if self.filtering and np.shape(snapshot.features) != self._like.features.shape[1:]:
            raise ValueError(
                f"the snapshot has {np.size(snapshot.features)} features, expected "
                f"{self._like.features.shape[1]}: take it from an environment with "
                "obs_type='latent'"
            )
        if (kind := np.asarray(snapshot.frame).dtype) != np.uint8:
            raise ValueError(f"the snapshot has a frame of {kind}, expected uint8")
        check_finite(snapshot, "features", "proprio")
        check_counts(snapshot, "key", "step", "task")
        if snapshot.task >= (tasks := self.model.spec.tasks):
            raise ValueError(f"the snapshot's task is {snapshot.task}, expected 0 to {tasks - 1}")
        check_fingerprint(snapshot.model, self._fingerprint)

    def restore(self, i: int, snapshot: Any) -> None:
        with untracked():
            self.place(np.array([i]), self._restored(snapshot), filtered=self.filtering)
        self._trusted(np.array([i]))

    def _restored(self, snapshot: DreamState) -> Dreams:
        like, device = self._like, self.model.device
        features = torch.zeros_like(like.features)
        if self.filtering:
            features = torch.tensor(snapshot.features)[None].to(features)
        return Dreams(
            state=trees.from_entry(snapshot.state, like.state),
            outcome=trees.from_entry(snapshot.outcome, like.outcome),
            frames=torch.tensor(snapshot.frame)[None].to(device),
            proprio=torch.tensor(snapshot.proprio)[None].to(like.proprio),
            features=features,
            task=torch.full_like(like.task, snapshot.task),
            key=torch.full_like(like.key, snapshot.key),
            step=torch.full_like(like.step, snapshot.step),
        )


@dataclass(frozen=True, eq=False)
class NotedDreams:
    """What is noted of dreams at one moment; read from their device when it is asked for."""

    outcome: Outcome
    asked: Int64[Tensor, "b"]
    covers: bool = field(kw_only=True)
    ends: bool = field(kw_only=True)

    def task(self) -> Int64[np.ndarray, "b"]:
        return self.asked.cpu().numpy().copy()

    def progress(self) -> Float[np.ndarray, "b"]:
        """NaN where nobody logged any: the head has learned nothing."""
        progress = self.outcome.progress
        if not self.covers:
            return np.full(len(progress), np.nan)
        return progress.cpu().numpy().astype(np.float64)

    def success(self) -> Bool[np.ndarray, "b"] | None:
        found = self.outcome.success
        return None if found is None else found.cpu().numpy()

    def ended(self) -> Bool[np.ndarray, "b"]:
        ended = self.outcome.ended
        return ended.cpu().numpy().copy() if self.ends else np.zeros(len(ended), bool)

    def facts(self) -> dict[str, np.ndarray]:
        uncertainty = self.outcome.uncertainty
        return {"uncertainty": uncertainty.cpu().numpy().astype(np.float64)}
