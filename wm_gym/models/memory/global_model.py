"""The global model: latents of moments, their memory, their next ones by diffusion, their worth."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from wm_gym.models import trees
from wm_gym.models.edm import sigmas_on
from wm_gym.models.memory.dynamics import Dynamics, FrameEncoder, Memory, Shown
from wm_gym.models.memory.heads import Heads, Judgement
from wm_gym.models.memory.tokenizer import Tokenizer
from wm_gym.models.protocol import ModelSpec, Outcome, Prefill, Seen, Transition


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryState:
    """All that the future of b dreams depends on, besides actions and noise; as large after a
    thousand steps as after one."""

    latent: Float[Tensor, "b d"]
    """Of the moment they are at."""

    memory: Memory
    """Of it and of all before it."""

    age: Int[Tensor, "b"]
    """Steps since the last real frame."""

    task: Int[Tensor, "b"]


class MemoryGlobalModel(nn.Module):
    """Remembers by numbers that are as many after a thousand steps as after one, so a step costs
    the same however much came before."""

    def __init__(self, tokenizer: Tokenizer, dynamics: Dynamics, heads: Heads) -> None:
        super().__init__()
        self.tokenizer, self.dynamics, self.heads = tokenizer, dynamics, heads
        self._encoder = FrameEncoder(tokenizer=tokenizer)
        config, judged = dynamics.config, heads.config
        sizes = {tokenizer.latent_size, dynamics.latent_size, judged.latent_size}
        contexts = {dynamics.context_size, judged.context_size}
        cells, tasks = {tokenizer.cells, tuple(config.cells)}, {config.tasks, judged.tasks}
        if max(map(len, (sizes, contexts, cells, tasks))) > 1:
            raise ValueError(
                f"parts disagree: latents of {sizes} in cells of {cells}, contexts of {contexts} "
                f"numbers, {tasks} tasks"
            )
        self.spec = ModelSpec(
            frame_shape=tokenizer.frame_shape,
            action_size=int(config.action_size),
            noise_shape=(tokenizer.latent_size,),
            prefill=int(config.prefill),
            proprio_size=tokenizer.proprio_size,
            tasks=int(config.tasks),
            can_end=bool(heads.config.ends),
        )

    @property
    def device(self) -> torch.device:
        return self.dynamics.device

    @property
    def dtype(self) -> torch.dtype:
        return self.dynamics.dtype

    def cast(self, dtype: torch.dtype) -> None:
        """Latents, memory, sampler and heads stay float32."""
        self.tokenizer.cast(dtype)
        self.dynamics.cast(dtype)

    def sigmas(self, denoising_steps: int) -> Float[Tensor, "n"]:
        config = self.dynamics.config
        return sigmas_on(self.device, denoising_steps, config.sigma_min, config.sigma_max)

    def begin(self, prefill: Prefill) -> Transition:
        """Before the first frame that is known nothing is remembered; between known ones, those
        that are not are gone through by their actions."""
        state = self._after(prefill)
        judged = self._judged(state)
        nothing = torch.zeros_like(judged.reward)
        outcome = Outcome(
            reward=nothing,
            progress=judged.progress,
            ended=torch.zeros_like(judged.ended),
            uncertainty=nothing,
        )
        return Transition(state=state, outcome=outcome)

    def _after(self, prefill: Prefill) -> MemoryState:
        """One frame of all dreams at a time: where results must be exact, batches are of one
        size. Frames go by their number until all are chosen."""
        known = prefill.known
        number = torch.arange(known.shape[1], device=known.device)
        begun, memory = known.cumsum(1) > 0, self.dynamics.nothing(len(known), number[0])
        latent = memory.numbers.new_zeros(len(known), self.tokenizer.latent_size)
        none = prefill.action.new_zeros(len(known), 1, self.spec.action_size)
        moved = torch.cat([none, prefill.action], dim=1)
        first = int(begun.int().argmax(dim=1).min())
        led = torch.cat([torch.zeros_like(begun[:, :1]), begun[:, :-1]], dim=1)
        last = latent, torch.zeros_like(known[:, 0])
        for t in range(first, known.shape[1]):
            seen = self.tokenizer.encode(prefill.frames[:, t], prefill.proprio[:, t])
            latent = torch.where(known[:, t, None], seen, latent)
            shown = Shown(
                latent=latent[:, None],
                frames=number[t].expand(len(known), 1),
                known=known[:, t, None],
            )
            action = (moved[:, t] * led[:, t, None])[:, None]
            after = self.dynamics.remember(memory, shown, action, prefill.task, last).of_moment(0)
            memory = trees.where(begun[:, t], after, memory)
            last = latent, known[:, t]
        rows = torch.arange(len(known), device=known.device)[:, None]
        frames = prefill.frames[rows, memory.frames]
        frames[~self.dynamics.keeps(memory)] = 0
        memory = replace(memory, frames=frames)
        age = torch.zeros_like(prefill.task)
        return MemoryState(latent=latent, memory=memory, age=age, task=prefill.task)

    def step(
        self,
        state: MemoryState,
        action: Float[Tensor, "b a"],
        noise: Float[Tensor, "b d"],
        denoising_steps: int,
    ) -> Transition:
        memory = self.dynamics.after(state.memory, action, state.task)
        sigmas = self.sigmas(denoising_steps)
        latent = self.dynamics.seen_from(self._encoder, memory, state.task, noise, sigmas)
        following = MemoryState(latent=latent, memory=memory, age=state.age + 1, task=state.task)
        return Transition(state=following, outcome=_outcome(self._judged(following)))

    def decode(self, state: MemoryState) -> Seen:
        return self.tokenizer.decode(state.latent)

    def reconstruct(self, frames: UInt8[Tensor, "b h w c"], proprio: Float[Tensor, "b p"]) -> Seen:
        return self.tokenizer.decode(self.tokenizer.encode(frames, proprio))

    def judge(
        self,
        before: Prefill,
        action: Float[Tensor, "b a"],
        frames: UInt8[Tensor, "b h w c"],
        proprio: Float[Tensor, "b p"],
    ) -> Outcome:
        """The error is that of one dreamt step."""
        latent = self.tokenizer.encode(frames, proprio)
        state = self._after(before)
        shown = Shown(latent=latent[:, None], frames=frames[:, None])
        told = action[:, None], state.task, (state.latent, before.known[:, -1])
        memory = self.dynamics.remember(state.memory, shown, *told).of_moment(0)
        after = MemoryState(latent=latent, memory=memory, age=state.age + 1, task=state.task)
        return _outcome(self._judged(after))

    def _judged(self, state: MemoryState) -> Judgement:
        context = self.dynamics.context_of(state.memory.numbers)
        return self.heads.judge(state.latent, context, state.task, state.age)

    def recalled(self, state: MemoryState) -> None:
        """What the memory knows of the past is no pictures."""


def _outcome(judged: Judgement) -> Outcome:
    return Outcome(
        reward=judged.reward,
        progress=judged.progress,
        ended=judged.ended,
        uncertainty=judged.error,
    )
