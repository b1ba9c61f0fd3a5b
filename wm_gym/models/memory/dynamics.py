"""The dynamics: a memory that goes on by actions alone, and a diffusion model of what it sees."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float, Int, Num, UInt8
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, grid_sample, interpolate, pad, silu

from wm_gym.models.actions import ENCODINGS
from wm_gym.models.edm import preconditioning, sample
from wm_gym.models.memory.tokenizer import CELL, Tokenizer
from wm_gym.models.networks import PictureResidual

REACH = 0.2
"""Landmarks are in units of which a camera moves about this much in a step, and turns in
radians."""

LOOKED_AT = 2
"""Kept frames that a picture is painted from."""

FINER = 2
"""Vectors of the flow along a side of a cell."""

WIDE = 16
"""Outputs of a layer whose inputs may be of any number: with fewer than these, and a number that is
no multiple of 4, what a CPU makes of a row depends on which one of the batch it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """Of b dreams."""

    numbers: Float[Tensor, "b m"]
    felt: Float[Tensor, "b k p"]
    """Proprioception of the kept frames."""

    frames: Num[Tensor, "b k ..."]
    """The kept frames, or what they are told by (`FrameEncoder`)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Motions:
    """Of a camera, besides what the last actions tell."""

    expected: Float[Tensor, "b n 3"]
    found: Float[Tensor, "b n 3"]
    """By odometry."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Memories:
    """Of b sequences, one of every moment. Kept frames are the same ones for long, so they are
    told by their number."""

    numbers: Float[Tensor, "b t m"]
    kept: Int[Tensor, "b t k"]
    felt: Float[Tensor, "b f p"]
    frames: Num[Tensor, "b f ..."]
    """All that any of them keeps."""

    motions: Motions | None = None
    """Of steps that odometry was told while nothing else was seen."""

    def at(self, which: Int[Tensor, "r"], when: Int[Tensor, "r"] | int) -> Memory:
        kept = self.kept[which, when]
        rows = which[:, None], kept
        return Memory(
            numbers=self.numbers[which, when], felt=self.felt[rows], frames=self.frames[rows]
        )

    def of_moment(self, when: int) -> Memory:
        return self.at(torch.arange(len(self.numbers), device=self.numbers.device), when)

    def then(self, more: "Memories") -> "Memories":
        later = more.kept + self.frames.shape[1]
        return Memories(
            numbers=torch.cat([self.numbers, more.numbers], dim=1),
            kept=torch.cat([self.kept, later], dim=1),
            felt=torch.cat([self.felt, more.felt], dim=1),
            frames=torch.cat([self.frames, more.frames], dim=1),
            motions=more.motions,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameEncoder:
    """What a memory keeps of frames, as pictures, and pictures as codes. In training a frame is
    told by its row in a dataset, and only what is looked at is read."""

    tokenizer: Tokenizer
    read: Callable[[Num[Tensor, "b k ..."]], UInt8[Tensor, "b k h w c"]] = lambda frames: frames

    def codes(self, pictures: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Of pictures whose colours are from −1 to 1."""
        return self.tokenizer.seen(pictures)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """What is told of each moment."""

    latent: Float[Tensor, "b t d"]
    frames: Num[Tensor, "b t ..."]
    known: Bool[Tensor, "b t"] | None = None
    """Where it is not, nothing else is looked at. None: all are."""


class Dynamics(ModelMixin, ConfigMixin):
    """What a dream goes by is a *memory*: a recurrent state h, landmarks, and frames that it keeps.

        state       hₜ = GRU(hₜ₋₁, [known·read(zₜ), known, aₜ₋₁, task])
        motion      of the camera in a plane: where two frames in a row are known, odometry tells it
                    from these; else it is expected from the last actions, hₜ and landmarks
        landmarks   are moved by the motion; where a frame is known, drawn to where it shows them
        kept        known frames, and where from and whereto they were seen, moved by the motion
        felt        D(x; σ | hₜ, landmarks, task): proprioception without its noise (EDM, σ_data 1)
        seen        D(x; σ | hₜ, landmarks, view, felt, task): the picture's code without its noise

    A landmark is a point in the camera's own frame, or a direction. Nothing says what they are of;
    but a motion moves all of them rigidly, so what was out of view comes back where it should be,
    and turning has to be learned once and not for every view. A camera that stands still is a
    motion of nothing.

    Of the known frames the last is kept, and of those before it one in `apart`, so that the memory
    stays as large as it is. The *view* is what is known of the present picture: the two kept frames
    that looked most the way that the camera looks now, their pixels moved by a flow, and seen by
    the tokenizer. The flow depends on where they were seen from, and on proprioception then and
    now, which knows how the camera tilts.

    In training, motion and proprioception are told by what was logged, and what a dream expects of
    them is learned beside. So a small thing is painted sharply where it is expected to be. Were a
    picture painted without being told, it would be the mean over all places where it may be.

    A dream never reads what it has painted, so errors do not feed on themselves: the memory of a
    dreamt step is that of a frame that nobody saw.

    The sampler's first σ comes with noise alone, in training as in a dream. However large, it would
    hide no latent whose numbers go together: a network learns to read it, and in a dream there is
    none to be read.
    """

    newest: Float[Tensor, "k"]

    @register_to_config
    def __init__(
        self,
        cells: tuple[int, int] = (6, 6),
        cell_channels: int = 16,
        proprio_size: int = 0,
        action_size: int = 2,
        tasks: int = 1,
        memory: int = 256,
        points: int = 32,
        directions: int = 8,
        kept: int = 12,
        apart: int = 3,
        recent: int = 8,
        inputs: int = 256,
        touch_width: int = 192,
        width: int = 512,
        channels: int = 64,
        blocks: int = 2,
        prefill: int = 32,
        action_encoding: str = "linear",
        sigma_max: float = 20.0,
        sigma_min: float = 0.3,
    ) -> None:
        super().__init__()
        if action_encoding not in ENCODINGS:
            raise ValueError(f"action_encoding {action_encoding!r}, expected {sorted(ENCODINGS)}")
        self.encode_action, numbers = ENCODINGS[action_encoding]
        acted, landmarks = action_size * numbers, points + directions
        self.read = nn.Sequential(
            nn.Linear(self.latent_size, width), nn.SiLU(), nn.Linear(width, inputs), nn.SiLU()
        )
        self.stem = nn.Linear(inputs + acted + 1 + tasks, inputs)
        self.gru = nn.GRU(inputs, memory, batch_first=True)
        self.norm = nn.LayerNorm(memory)
        self.shown = nn.Sequential(
            nn.Linear(inputs + memory, width), nn.SiLU(), nn.Linear(width, 3 * landmarks)
        )
        self.by_actions = nn.Linear(acted * recent, WIDE)
        self.expected = nn.Sequential(
            nn.Linear(self.context_size + acted * recent, touch_width), nn.SiLU(),
            nn.Linear(touch_width, touch_width), nn.SiLU(),
            nn.Linear(touch_width, 3 + 2 * points),
        )  # fmt: skip
        self.odometry = nn.Sequential(
            nn.Linear(2 * (proprio_size or self.code_size) + acted * recent, inputs), nn.SiLU(),
            nn.Linear(inputs, inputs), nn.SiLU(),
            nn.Linear(inputs, WIDE),
        )  # fmt: skip
        self.first_points = nn.Parameter(torch.randn(points, 2))
        self.first_directions = nn.Parameter(torch.randn(directions, 2))
        told, many = self.context_size + 1 + tasks, cells[0] * cells[1]
        self.spread = nn.Sequential(
            nn.Linear(told + proprio_size, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, channels * many),
        )  # fmt: skip
        vectors = 2 * FINER**2 * many
        self.flow = nn.Sequential(
            nn.Linear(5 + 2 * proprio_size, 2 * channels), nn.SiLU(),
            nn.Linear(2 * channels, 2 * channels), nn.SiLU(),
            nn.Linear(2 * channels, vectors),
        )  # fmt: skip
        self.straight = nn.Linear(5, vectors)
        self.mix = nn.Conv2d(channels + 2 * cell_channels + 1, channels, 3, padding=1)
        self.trunk = nn.Sequential(*(PictureResidual(channels) for _ in range(blocks)))
        self.out = nn.Conv2d(channels, cell_channels, 3, padding=1)
        self.felt = (
            nn.Sequential(
                nn.Linear(told + proprio_size, inputs), nn.SiLU(), nn.Linear(inputs, proprio_size)
            )
            if proprio_size
            else None
        )
        self.register_buffer("newest", torch.linspace(0.02, 0, kept), persistent=False)
        for layer in (self.expected[-1], self.odometry[-1], self.flow[-1], self.straight):
            for weights in layer.parameters():
                nn.init.zeros_(weights)

    @torch.no_grad()
    def begin_with(self, camera: Sequence[Sequence[float]]) -> None:
        """From how far an action of 1 is meant to move the camera forward and left in a step, and
        to turn it, for each number of an action. It is taken to need two steps. That is not
        trained any more: odometry tells what else there is to a motion."""
        numbers = ENCODINGS[self.config.action_encoding][1]
        told = torch.linspace(-1, 1, numbers) if numbers > 1 else torch.ones(1)  # an action by them
        by_step = (torch.tensor(camera)[..., None] * told).flatten(1)[..., None] / (2 * REACH)
        recent = by_step.new_zeros(*by_step.shape[:2], self.config.recent)
        recent[..., -2:] = by_step
        self.by_actions.weight[:3] = recent.flatten(1)
        self.by_actions.bias[:3] = 0
        self.by_actions.requires_grad_(False)

    @property
    def code_size(self) -> int:
        rows, columns = self.config.cells
        return int(self.config.cell_channels * rows * columns)

    @property
    def latent_size(self) -> int:
        return self.code_size + int(self.config.proprio_size)

    @property
    def context_size(self) -> int:
        config = self.config
        return int(config.memory + 3 * config.points + 2 * config.directions)

    @property
    def device(self) -> torch.device:
        return self.out.weight.device  # diffusers' own search takes 0.2 ms

    @property
    def dtype(self) -> torch.dtype:
        """Of what paints."""
        return self.out.weight.dtype

    def train(self, mode: bool = True) -> "Dynamics":
        """The GRU has no dropout, and on a GPU has gradients in this mode alone."""
        super().train(mode)
        self.gru.train()
        return self

    def cast(self, dtype: torch.dtype) -> None:
        """The memory stays float32: what it rounds off once is lost for good."""
        for part in (self.mix, self.trunk, self.out):
            part.to(dtype)
        self.to(memory_format=torch.channels_last)

    def nothing(self, n: int, frames: Num[Tensor, "..."]) -> Memory:
        """What is remembered before the first frame; frames are like this one."""
        config, like = self.config, self.first_points
        none = like.new_zeros(config.kept, 2)
        marks = self.first_points, none, self.first_directions, none
        flat = torch.cat([like.new_zeros(config.memory), *(mark.flatten() for mark in marks)])
        acts = like.new_zeros((config.recent - 1) * config.action_size)
        waited = like.new_full((1,), config.apart)
        return Memory(
            numbers=torch.cat([flat, acts, waited]).expand(n, -1),
            felt=like.new_zeros(n, config.kept, config.proprio_size),
            frames=torch.zeros_like(frames).expand(n, config.kept, *frames.shape),
        )

    def remember(
        self,
        memory: Memory,
        seen: Shown,
        action: Float[Tensor, "b t a"],
        task: Int[Tensor, "b"],
        last: "tuple[Float[Tensor, 'b d'], Bool[Tensor, 'b']] | None" = None,
    ) -> Memories:
        """The memory of each moment. `action` led to each of them: zeros where none did. `last` is
        the latent of the moment before them, and whether it is known."""
        latent, known = seen.latent, seen.known
        shown = latent.new_ones(action.shape[:2]) if known is None else known.to(latent)
        read = self.read(latent).to(latent.dtype) * shown[..., None]
        state = self._state(memory, read, action, shown[..., None], task)
        said = self.shown(torch.cat([read, self.norm(state)], dim=2)).to(latent.dtype)
        many = self.config.points + self.config.directions
        place, drawn = said[..., : 2 * many].unflatten(2, (many, 2)), said[..., 2 * many :]
        pull = (1 + torch.tanh(drawn / 2)) / 2 * shown[..., None]  # a sigmoid depends on places
        before = (
            (torch.zeros_like(latent[:, 0]), shown.new_zeros(len(latent))) if last is None else last
        )
        latents = torch.cat([before[0][:, None], latent], dim=1)
        both = torch.cat([before[1].to(shown)[:, None], shown[:, :-1]], dim=1) * shown
        moved, unseen = Moved(latents, both), None if known is None else 1 - shown
        chosen = self._chosen(self._parts(memory.numbers).waited, shown > 0)
        marked = place, pull[..., None], chosen
        numbers, _ = self._carried(memory, state, action, moved, unseen, marked)
        felt = latent[..., self.code_size :].to(memory.felt)
        return Memories(
            numbers=numbers,
            kept=chosen.number,
            felt=torch.cat([memory.felt, felt], dim=1),
            frames=torch.cat([memory.frames, seen.frames], dim=1),
        )

    def go_on(
        self,
        memory: Memory,
        action: Float[Tensor, "b t a"],
        task: Int[Tensor, "b"],
        latents: Float[Tensor, "b t1 d"] | None = None,
    ) -> Memories:
        """The memory of each of the next moments, of which nothing is seen. Where latents of the
        present and of these are told, odometry alone looks at them."""
        (b, t), device = action.shape[:2], action.device
        read = memory.numbers.new_zeros(b, t, self.config.inputs)
        state = self._state(memory, read, action, read[..., :1], task)
        told = None if latents is None else Moved(latents, action.new_ones(b, t))
        numbers, motions = self._carried(memory, state, action, told, action.new_ones(b, t), None)
        return Memories(
            numbers=numbers,
            kept=torch.arange(self.config.kept, device=device).expand(b, t, -1),
            felt=memory.felt,
            frames=memory.frames,
            motions=motions,
        )

    def keeps(self, memory: Memory) -> Bool[Tensor, "b k"]:
        """Whether there is a frame yet."""
        headings = self._parts(memory.numbers).directions[:, self.config.directions :]
        return headings.square().sum(2) > 0.5

    def after(self, memory: Memory, action: Float[Tensor, "b a"], task: Int[Tensor, "b"]) -> Memory:
        """The memory of the next moment, of which nothing is seen."""
        return replace(memory, numbers=self.go_on(memory, action[:, None], task).numbers[:, 0])

    def between(
        self, latent: Float[Tensor, "b t1 d"], acted: Float[Tensor, "b t n"]
    ) -> Float[Tensor, "b t 3"]:
        """What odometry makes of each two moments in a row, besides what the last actions tell:
        by proprioception, or where there is none, by pictures."""
        told = latent[..., self.code_size :] if self.config.proprio_size else latent
        pairs = torch.cat([told[:, :-1], told[:, 1:], acted], dim=2)
        return self.odometry(pairs)[..., :3].to(latent.dtype)

    def last_acts(
        self, before: Float[Tensor, "b r a"], action: Float[Tensor, "b t a"]
    ) -> Float[Tensor, "b t n"]:
        """The `recent` ones that led to each moment, encoded; `before` are those before these."""
        past = torch.cat([before, action], dim=1)
        return self.encode_action(past).unfold(1, self.config.recent, 1).flatten(2)

    def _state(
        self,
        memory: Memory,
        read: Float[Tensor, "b t n"],
        action: Float[Tensor, "b t a"],
        seen: Float[Tensor, "b t 1"],
        task: Int[Tensor, "b"],
    ) -> Float[Tensor, "b t s"]:
        asked = one_hot(task, self.config.tasks)[:, None].expand(*action.shape[:2], -1)
        told = torch.cat([read, self.encode_action(action), seen, asked], dim=2)
        before = memory.numbers[:, : self.config.memory].contiguous()[None]
        state, _ = self.gru(silu(self.stem(told)), before)
        return state.to(memory.numbers.dtype)

    def _chosen(self, waited: Float[Tensor, "b"], seen: Bool[Tensor, "b t"]) -> "Chosen":
        """Which frames are kept after each moment, by number: those kept before, then the new
        ones."""
        config, (b, t) = self.config, seen.shape
        number = torch.arange(config.kept, device=seen.device).expand(b, -1)
        every = list[tuple[Tensor, Tensor, Tensor]]()
        for j in range(t):
            due = seen[:, j] & (waited >= config.apart)
            here = number.new_tensor([config.kept + j])
            number = _newest(number[..., None], here, seen[:, j], due)[..., 0]
            waited = torch.where(due, 1.0, waited + 1)
            every.append((number, due, waited))
        return Chosen(seen, *(torch.stack(each, dim=1) for each in zip(*every, strict=True)))

    def _carried(
        self,
        memory: Memory,
        state: Float[Tensor, "b t s"],
        action: Float[Tensor, "b t a"],
        told: "Moved | None",
        unseen: Float[Tensor, "b t"] | None,
        shown: "tuple[Float[Tensor, 'b t k 2'], Float[Tensor, 'b t k 1'], Chosen] | None",
    ) -> "tuple[Float[Tensor, 'b t m'], Motions | None]":
        """Landmarks, and where kept frames were seen from, through the motions of a camera, one
        after the other; and these, where they were told. `unseen` is None where all moments are
        seen."""
        config, t, before = self.config, action.shape[1], self._parts(memory.numbers)
        p, d = config.points, config.directions
        points, directions = before.points, before.directions
        acted = self.last_acts(before.acts, action)
        steady, standing = self.by_actions(acted)[..., :3].to(state.dtype), self.norm(state)
        found = None if told is None else self.between(told.latent, acted)
        every, expected = list[Tensor](), list[Tensor]()
        for j in range(t):
            more, pushed = torch.zeros_like(steady[:, j]), None
            if unseen is not None or j == 0:
                here = _features(points[:, :p], directions[:, :d])
                said = self.expected(torch.cat([standing[:, j], here, acted[:, j]], dim=1))
                begun = directions[:, d].square().sum(1, keepdim=True) > 0.5  # a frame is kept
                more, pushed = said.to(state.dtype).mul(begun).tensor_split((3,), dim=1)
            if told is not None and found is not None:
                expected.append(more)
                more = torch.where(told.where[:, j, None] > 0, found[:, j], more)
            points, directions = moved_by(points, directions, REACH * (steady[:, j] + more))
            if unseen is not None and pushed is not None:
                push = (unseen[:, j, None] * pushed).unflatten(1, (-1, 2))
                points = points + REACH * pad(push, (0, 0, 0, config.kept))
            if shown is not None:
                place, pull, chosen = shown
                marks = torch.cat([points[:, :p], directions[:, :d]], dim=1)
                marks = marks + pull[:, j] * (place[:, j] - marks)
                now, due = chosen.seen[:, j], chosen.due[:, j]
                places = _newest(points[:, p:], points.new_zeros(2), now, due)
                ahead = points.new_tensor([1.0, 0.0])
                headings = _newest(directions[:, d:], ahead, now, due)
                points = torch.cat([marks[:, :p], places], dim=1)
                directions = torch.cat([marks[:, p:], headings], dim=1)
            every.append(torch.cat([points, directions], dim=1).flatten(1))
        past = torch.cat([before.acts, action], dim=1)
        acts = past[:, 1:].unfold(1, config.recent - 1, 1).transpose(2, 3).flatten(2)
        steps = torch.arange(1, t + 1, device=state.device)
        waited = before.waited[:, None] + steps if shown is None else shown[2].waited
        numbers = torch.cat([state, torch.stack(every, dim=1), acts, waited[..., None]], dim=2)
        if found is None:
            return numbers, None
        return numbers, Motions(expected=torch.stack(expected, dim=1), found=found)

    def _parts(self, numbers: Float[Tensor, "b m"]) -> "Parts":
        n, config = len(numbers), self.config
        points, directions = config.points + config.kept, config.directions + config.kept
        sizes = [
            config.memory,
            2 * points,
            2 * directions,
            (config.recent - 1) * config.action_size,
        ]
        ends = tuple(sum(sizes[: i + 1]) for i in range(len(sizes)))
        state, places, headings, acts, waited = numbers.tensor_split(ends, dim=1)
        return Parts(
            state=state,
            points=places.view(n, -1, 2),
            directions=headings.view(n, -1, 2),
            acts=acts.view(n, -1, config.action_size),
            waited=waited[:, 0],
        )

    def context_of(self, numbers: Float[Tensor, "b m"]) -> Float[Tensor, "b c"]:
        """What is to be told of a memory besides frames: bounded numbers."""
        parts, config = self._parts(numbers), self.config
        here = _features(parts.points[:, : config.points], parts.directions[:, : config.directions])
        return torch.cat([self.norm(parts.state).to(numbers.dtype), here], dim=1)

    def view(
        self, encoder: FrameEncoder, memory: Memory, proprio: Float[Tensor, "b p"]
    ) -> Float[Tensor, "b e h w"]:
        """What kept frames say of the present picture: its code, and of each cell how much they
        reach."""
        frames, flow = self.looked_back(encoder, memory, proprio)
        return self.looked_at(encoder, moved_pixels(frames, flow), flow)

    def looked_back(
        self, encoder: FrameEncoder, memory: Memory, proprio: Float[Tensor, "b p"]
    ) -> "tuple[UInt8[Tensor, 'b k y x c'], Flow]":
        """The two kept frames that looked most the same way, and where to look in them."""
        config, parts, b = self.config, self._parts(memory.numbers), len(memory.numbers)
        places = bounded(parts.points[:, config.points :])
        headings = parts.directions[:, config.directions :]
        there = self.keeps(memory)
        alike = headings[..., 0] + places[..., 2] + self.newest
        few = min(LOOKED_AT, config.kept)
        best = alike.detach().masked_fill(~there, -9.0).topk(few, dim=1).indices
        rows = torch.arange(b, device=best.device)[:, None], best
        seen_from = torch.cat([places, headings], dim=2)[rows]
        frames, felt = encoder.read(memory.frames[rows]), memory.felt[rows]
        high, wide = frames.shape[2:4]
        return frames, self.flow_from(seen_from, there[rows], felt, proprio, (high, wide))

    def looked_at(
        self, encoder: FrameEncoder, pictures: Float[Tensor, "b c y x"], flow: "Flow"
    ) -> Float[Tensor, "b e h w"]:
        rows, columns = self.config.cells
        codes = encoder.codes(pictures).view(len(pictures), -1, rows, columns)
        reach = flow.known[:, None].float()
        share = avg_pool2d(reach, CELL, ceil_mode=True, count_include_pad=False)
        return torch.cat([codes, share.to(codes)], dim=1)

    def flow_from(
        self,
        seen_from: Float[Tensor, "b k 5"],
        there: Bool[Tensor, "b k"],
        felt: Float[Tensor, "b k p"],
        proprio: Float[Tensor, "b p"],
        size: tuple[int, int],
    ) -> "Flow":
        """Where to look in frames that were seen from there; the first one goes before the others
        wherever it reaches."""
        (rows, columns), (b, k), (high, wide) = self.config.cells, there.shape, size
        told = torch.cat([seen_from, felt, proprio[:, None].expand(-1, k, -1)], dim=2)
        vectors = (self.flow(told) + self.straight(seen_from)).float()
        coarse = vectors.view(b, k, 2, FINER * rows, FINER * columns)
        down = _finer(FINER * rows, high, coarse.device)
        across = _finer(FINER * columns, wide, coarse.device)
        at = _grid(high, wide, coarse.device) + down @ coarse @ across.mT
        reach = _within(at) & there[..., None, None]
        place, known = at[:, 0], reach[:, 0]
        frame = torch.zeros_like(known, dtype=at.dtype)
        for j in range(1, k):
            here = reach[:, j] & ~known
            place, frame = torch.where(here[:, None], at[:, j], place), frame + j * here
            known = known | here
        return Flow(place=place, frame=frame, known=known)

    def forward(
        self,
        noisy: Float[Tensor, "b d"],
        sigma: Float[Tensor, "b"],
        context: Float[Tensor, "b c"],
        view: Float[Tensor, "b e h w"],
        proprio: Float[Tensor, "b p"],
        task: Int[Tensor, "b"],
    ) -> Float[Tensor, "b d"]:
        """D(x; σ): the clean latent. The picture is told proprioception without its noise."""
        code, felt = noisy.tensor_split((self.code_size,), dim=1)
        said = [self.clean_code(code, sigma, context, view, proprio, task)]
        if self.felt is not None:
            said.append(self.clean_proprio(felt, sigma, context, task))
        return torch.cat(said, dim=1)

    def clean_code(
        self,
        noisy: Float[Tensor, "b n"],
        sigma: Float[Tensor, "b"],
        context: Float[Tensor, "b c"],
        view: Float[Tensor, "b e h w"],
        proprio: Float[Tensor, "b p"],
        task: Int[Tensor, "b"],
    ) -> Float[Tensor, "b n"]:
        pre, (rows, columns) = preconditioning(sigma, sigma_data=1.0), self.config.cells
        left = pre.c_skip[:, None] * noisy  # by c_in it would be loud where it is noise alone
        asked = one_hot(task, self.config.tasks)
        told = torch.cat([context, pre.c_noise[:, None], asked, proprio], dim=1)
        spread = self.spread(told).view(len(noisy), -1, rows, columns)
        code = left.view(len(noisy), -1, rows, columns)
        cells = torch.cat([spread, view.to(spread), code.to(spread)], dim=1).to(self.dtype)
        hidden = self.trunk(self.mix(cells.contiguous(memory_format=torch.channels_last)))
        return left + pre.c_out[:, None] * self.out(hidden).flatten(1).to(noisy.dtype)

    def clean_proprio(
        self,
        noisy: Float[Tensor, "b p"],
        sigma: Float[Tensor, "b"],
        context: Float[Tensor, "b c"],
        task: Int[Tensor, "b"],
    ) -> Float[Tensor, "b p"]:
        assert self.felt is not None
        pre = preconditioning(sigma, sigma_data=1.0)
        left = pre.c_skip[:, None] * noisy
        asked = one_hot(task, self.config.tasks)
        said = self.felt(torch.cat([context, pre.c_noise[:, None], asked, left], dim=1))
        return left + pre.c_out[:, None] * said.to(noisy.dtype)

    def seen_from(
        self,
        encoder: FrameEncoder,
        memory: Memory,
        task: Int[Tensor, "b"],
        noise: Float[Tensor, "b d"],
        sigmas: Float[Tensor, "n"],
    ) -> Float[Tensor, "b d"]:
        """A latent: proprioception, and then what is seen with it. One denoiser call each for each
        σ > 0."""
        context = self.context_of(memory.numbers)
        for_code, felt = noise.tensor_split((self.code_size,), dim=1)
        if self.felt is not None:
            felt = sample(lambda x, s: self.clean_proprio(x, s, context, task), felt, sigmas)
        view = self.view(encoder, memory, felt)
        code = sample(
            lambda x, s: self.clean_code(x, s, context, view, felt, task), for_code, sigmas
        )
        return torch.cat([code, felt], dim=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Flow:
    """Where each pixel of a picture looks."""

    place: Float[Tensor, "b 2 y x"]
    """Across and down, from −1 to 1."""

    frame: Float[Tensor, "b y x"]
    """In which frame, by number."""

    known: Bool[Tensor, "b y x"]
    """Whether that is within a frame at all."""

    def shifted(self, by: Float[Tensor, "b 2"]) -> "Flow":
        place = self.place + by[..., None, None]
        return Flow(place=place, frame=self.frame, known=self.known & _within(place))


def _within(place: Float[Tensor, "*b 2 y x"]) -> Bool[Tensor, "*b y x"]:
    return place.detach().abs().amax(dim=-3) <= 1


def moved_pixels(frames: UInt8[Tensor, "b k y x c"], flow: Flow) -> Float[Tensor, "b c y x"]:
    """With colours from −1 to 1. Where no frame reaches, there is what is at its edge."""
    b, k, high, wide = frames.shape[:4]
    edge = flow.place.new_tensor([1 - 1 / wide, 1 - 1 / high])[:, None, None]
    x, y = flow.place.clamp(-edge, edge).unbind(1)
    in_all = torch.stack([x, (y + 1 + 2 * flow.frame) / k - 1], dim=3)  # frames below each other
    tall = frames.reshape(b, k * high, wide, -1).movedim(3, 1).float().sub_(127.5).div_(127.5)
    return grid_sample(tall, in_all, padding_mode="border", align_corners=False)


@lru_cache(maxsize=16)
def _grid(high: int, wide: int, device: torch.device) -> Float[Tensor, "2 y x"]:
    """Where the middle of each pixel is, from −1 to 1. Not to be written to."""
    y, x = ((torch.arange(n, device=device) + 0.5) * 2 / n - 1 for n in (high, wide))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))


@lru_cache(maxsize=16)
def _finer(few: int, many: int, device: torch.device) -> Float[Tensor, "m f"]:
    """Between neighbours, linearly. Not to be written to."""
    whole = torch.eye(few, device=device)[None]
    return interpolate(whole, size=many, mode="linear", align_corners=False)[0].mT.contiguous()


@dataclass(frozen=True, eq=False)
class Moved:
    """What odometry looks at, and of which steps it can be told."""

    latent: Float[Tensor, "b t1 d"]
    where: Float[Tensor, "b t"]


@dataclass(frozen=True, eq=False)
class Parts:
    """What the numbers of a memory are."""

    state: Float[Tensor, "b s"]
    points: Float[Tensor, "b pk 2"]
    """Landmarks, and after them where the kept frames were seen from."""

    directions: Float[Tensor, "b dk 2"]
    """Landmarks, and after them where the kept frames looked; zeros where there is none."""

    acts: Float[Tensor, "b r a"]
    """The last ones."""

    waited: Float[Tensor, "b"]
    """Moments since one of the kept frames, the last one left aside, was new."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """What becomes of kept frames, moment by moment."""

    seen: Bool[Tensor, "b t"]
    number: Int[Tensor, "b t k"]
    due: Bool[Tensor, "b t"]
    """Whether the frame is kept for long."""

    waited: Float[Tensor, "b t"]


def one_hot(task: Int[Tensor, "b"], tasks: int) -> Float[Tensor, "b n"]:
    """Without a look at the numbers, which a GPU would have to be waited for."""
    return (task[:, None] == torch.arange(tasks, device=task.device)).float()


def moved_by(
    points: Float[Tensor, "b p 2"], directions: Float[Tensor, "b d 2"], motion: Float[Tensor, "b 3"]
) -> tuple[Float[Tensor, "b p 2"], Float[Tensor, "b d 2"]]:
    """As a camera sees them that goes along an arc: forward, left, and about itself."""
    turn = motion[:, 2:]
    points = _turned(points - _turned(motion[:, None, :2], turn / 2), -turn)
    return points, _turned(directions, -turn)


def _turned(vectors: Float[Tensor, "b k 2"], angle: Float[Tensor, "b 1"]) -> Float[Tensor, "b k 2"]:
    x, y = vectors.unbind(2)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=2)


def bounded(points: Float[Tensor, "b p 2"]) -> Float[Tensor, "b p 3"]:
    """Where each is to be looked for, and how near it is, finite however far off."""
    far = (1 + points.square().sum(2, keepdim=True)).sqrt()
    return torch.cat([points / far, 1 / far], dim=2)


def _features(
    points: Float[Tensor, "b p 2"], directions: Float[Tensor, "b d 2"]
) -> Float[Tensor, "b f"]:
    return torch.cat([bounded(points).flatten(1), directions.flatten(1)], dim=1)


def _newest(
    old: Num[Tensor, "b k n"],
    new: Num[Tensor, "n"],
    now: Bool[Tensor, "b"],
    due: Bool[Tensor, "b"],
) -> Num[Tensor, "b k n"]:
    """The first is of the last frame, the others of frames that are kept for long."""
    fresh = new.expand(len(old), 1, -1)
    shifted = torch.cat([fresh, old[:, 1:-1]], dim=1)
    long = torch.where(due[:, None, None], shifted, old[:, 1:])
    return torch.cat([torch.where(now[:, None, None], fresh, old[:, :1]), long], dim=1)
