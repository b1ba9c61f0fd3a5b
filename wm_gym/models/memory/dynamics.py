"""The dynamics: a memory that goes on by actions alone, and a diffusion model of what it sees."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from wm_gym.models.actions import ENCODINGS
from wm_gym.models.edm import preconditioning, sample
from wm_gym.models.networks import PictureResidual

REACH = 0.2
"""Landmarks are in units of which a camera moves about this much in a step, and turns in
radians."""

LOOKED_AT = 2
"""Kept frames that a picture is painted from."""

ALIKE = 4.0
"""How much more a cell looks into a frame that looks its own way than across, to begin with."""

WIDE = 16
"""Outputs of a layer whose inputs may be of any number: with fewer than these, and a number that is
no multiple of 4, what a CPU makes of a row depends on which one of the batch it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """Of b dreams."""

    numbers: Float[Tensor, "b m"]
    codes: Float[Tensor, "b k n"]
    """Of the kept frames."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Memories:
    """Of b sequences, one of every moment. Kept frames are the same ones for long, so they are
    told by their number."""

    numbers: Float[Tensor, "b t m"]
    kept: Int[Tensor, "b t k"]
    codes: Float[Tensor, "b f n"]
    """Of all frames that any of them keeps."""

    def at(self, which: Int[Tensor, "r"], when: Int[Tensor, "r"] | int) -> Memory:
        kept = self.kept[which, when]
        return Memory(numbers=self.numbers[which, when], codes=self.codes[which[:, None], kept])

    def of_moment(self, when: int) -> Memory:
        return self.at(torch.arange(len(self.numbers), device=self.numbers.device), when)

    def then(self, more: "Memories") -> "Memories":
        later = more.kept + self.codes.shape[1]
        return Memories(
            numbers=torch.cat([self.numbers, more.numbers], dim=1),
            kept=torch.cat([self.kept, later], dim=1),
            codes=torch.cat([self.codes, more.codes], dim=1),
        )


class Dynamics(ModelMixin, ConfigMixin):
    """What a dream goes by is a *memory*: a recurrent state h, landmarks, and frames that it keeps.

        state       hₜ = GRU(hₜ₋₁, [known·read(zₜ), known, aₜ₋₁, task])
        motion      of the camera in a plane, from the last actions, hₜ, and what it bumps into
        landmarks   are moved by the motion; where a frame is known, drawn to where it shows them
        kept        known frames, and where from and whereto they were seen, moved by the motion
        seen        D(x; σ | hₜ, landmarks, two kept frames, task): the latent without its noise
                    (EDM, σ_data = 1)

    A landmark is a point in the camera's own frame, or a direction. Nothing says what they are of;
    but a motion moves all of them rigidly, so what was out of view comes back where it should be,
    and turning has to be learned once and not for every view. A camera that stands still is a
    motion of nothing.

    Of the known frames the last is kept, and of those before it one in `apart`, so that the memory
    stays as large as it is. A picture is painted from the two that looked most the way that the
    camera looks now: each of its cells looks into cells of theirs, by a flow that depends on where
    they were seen from.

    A dream never reads what it has painted, so errors do not feed on themselves: the memory of a
    dreamt step is that of a frame that nobody saw.

    The sampler's first σ comes with noise alone, in training as in a dream. However large, it would
    hide no latent whose numbers go together: a network learns to read it, and in a dream there is
    none to be read.
    """

    grid: Float[Tensor, "c 2"]
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
        apart: int = 4,
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
        self.by_state = nn.Linear(memory, 3)
        self.touch = nn.Sequential(
            nn.Linear(self.context_size + acted, touch_width), nn.SiLU(),
            nn.Linear(touch_width, touch_width), nn.SiLU(),
            nn.Linear(touch_width, 3 + 2 * points),
        )  # fmt: skip
        self.first_points = nn.Parameter(torch.randn(points, 2))
        self.first_directions = nn.Parameter(torch.randn(directions, 2))
        told, many, thin = self.context_size + 1 + tasks, cells[0] * cells[1], channels // 2
        self.spread = nn.Sequential(
            nn.Linear(told, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, channels * many),
        )  # fmt: skip
        self.placed = nn.Sequential(nn.Linear(5, 2 * channels), nn.SiLU())
        self.flow, self.straight = nn.Linear(2 * channels, 3 * many), nn.Linear(5, 3 * many)
        self.sharp = nn.Parameter(torch.ones(()))
        self.bent = nn.Linear(2 * channels, 2 * thin)
        self.first = nn.Conv2d(cell_channels, thin, 3, padding=1)
        self.second = nn.Conv2d(thin, channels, 3, padding=1)
        self.mix = nn.Conv2d(2 * channels + cell_channels, channels, 3, padding=1)
        self.trunk = nn.Sequential(*(PictureResidual(channels) for _ in range(blocks)))
        self.out = nn.Conv2d(channels, cell_channels, 3, padding=1)
        self.felt = (
            nn.Sequential(
                nn.Linear(told + proprio_size, inputs), nn.SiLU(), nn.Linear(inputs, proprio_size)
            )
            if proprio_size
            else None
        )
        at = torch.meshgrid(torch.arange(cells[1]), torch.arange(cells[0]), indexing="xy")
        self.register_buffer("grid", torch.stack(at, 2).flatten(0, 1).float(), persistent=False)
        self.register_buffer("newest", torch.linspace(0.02, 0, kept), persistent=False)
        for layer in (self.by_state, self.touch[-1], self.flow, self.straight):
            for weights in layer.parameters():
                nn.init.zeros_(weights)
        with torch.no_grad():
            self.straight.weight[2::3, 3] = ALIKE

    @torch.no_grad()
    def begin_with(self, camera: Sequence[Sequence[float]]) -> None:
        """From how far an action of 1 is meant to move the camera forward and left in a step, and
        to turn it, for each number of an action. It is taken to need two steps."""
        numbers = ENCODINGS[self.config.action_encoding][1]
        told = torch.linspace(-1, 1, numbers) if numbers > 1 else torch.ones(1)  # an action by them
        by_step = (torch.tensor(camera)[..., None] * told).flatten(1)[..., None] / (2 * REACH)
        recent = by_step.new_zeros(*by_step.shape[:2], self.config.recent)
        recent[..., -2:] = by_step
        self.by_actions.weight[:3] = recent.flatten(1)
        self.by_actions.bias[:3] = 0

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
        for part in (self.first, self.second, self.mix, self.trunk, self.out):
            part.to(dtype)
        self.to(memory_format=torch.channels_last)

    def nothing(self, n: int) -> Memory:
        """What is remembered before the first frame."""
        config, like = self.config, self.first_points
        none = like.new_zeros(config.kept, 2)
        marks = self.first_points, none, self.first_directions, none
        flat = torch.cat([like.new_zeros(config.memory), *(mark.flatten() for mark in marks)])
        acts = like.new_zeros((config.recent - 1) * config.action_size)
        waited = like.new_full((1,), config.apart)
        return Memory(
            numbers=torch.cat([flat, acts, waited]).expand(n, -1),
            codes=like.new_zeros(n, config.kept, self.code_size),
        )

    def remember(
        self,
        memory: Memory,
        latent: Float[Tensor, "b t d"],
        action: Float[Tensor, "b t a"],
        task: Int[Tensor, "b"],
        known: Float[Tensor, "b t"] | None = None,
    ) -> Memories:
        """The memory of each moment. `action` led to each of them: zeros where none did. Where
        `known` is 0 its latent is not looked at; without it, it is 1."""
        seen = latent.new_ones(action.shape[:2])[..., None] if known is None else known[..., None]
        read = self.read(latent).to(latent.dtype) * seen
        state = self._state(memory, read, action, seen, task)
        said = self.shown(torch.cat([read, self.norm(state)], dim=2)).to(latent.dtype)
        many = self.config.points + self.config.directions
        place, drawn = said[..., : 2 * many].unflatten(2, (many, 2)), said[..., 2 * many :]
        pull = ((1 + torch.tanh(drawn / 2)) / 2 * seen)[..., None]  # a sigmoid depends on places
        unseen = None if known is None else 1 - seen
        chosen = self._chosen(self._parts(memory.numbers).waited, seen[..., 0] > 0)
        numbers = self._carried(memory, state, action, unseen, (place, pull, chosen))
        codes = torch.cat([memory.codes, latent[..., : self.code_size].to(memory.codes)], dim=1)
        return Memories(numbers=numbers, kept=chosen.number, codes=codes)

    def go_on(
        self, memory: Memory, action: Float[Tensor, "b t a"], task: Int[Tensor, "b"]
    ) -> Memories:
        """The memory of each of the next moments, of which nothing is seen."""
        (b, t), device = action.shape[:2], action.device
        unseen = action.new_ones(b, t, 1)
        read = memory.numbers.new_zeros(b, t, self.config.inputs)
        state = self._state(memory, read, action, 1 - unseen, task)
        numbers = self._carried(memory, state, action, unseen, None)
        kept = torch.arange(self.config.kept, device=device).expand(b, t, -1)
        return Memories(numbers=numbers, kept=kept, codes=memory.codes)

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
        unseen: Float[Tensor, "b t 1"] | None,
        shown: "tuple[Float[Tensor, 'b t k 2'], Float[Tensor, 'b t k 1'], Chosen] | None",
    ) -> Float[Tensor, "b t m"]:
        """Landmarks, and where kept frames were seen from, through the motions of a camera, one
        after the other. Where the next moment was seen, that says what was bumped into."""
        config, t, before = self.config, action.shape[1], self._parts(memory.numbers)
        p, d = config.points, config.directions
        points, directions = before.points, before.directions
        past = torch.cat([before.acts, action], dim=1)
        acted = self.encode_action(past).unfold(1, config.recent, 1).flatten(2)
        told = self.norm(state)
        motion = (self.by_actions(acted)[..., :3] + self.by_state(told)).to(state.dtype)
        encoded, every = self.encode_action(action), []
        for j in range(t):
            moved, pushed = motion[:, j], None
            if unseen is not None:
                here = _features(points[:, :p], directions[:, :d])
                touched = self.touch(torch.cat([told[:, j], here, encoded[:, j]], dim=1))
                touched = touched.to(state.dtype) * unseen[:, j]
                moved, pushed = moved + touched[:, :3], touched[:, 3:].unflatten(1, (-1, 2))
            points, directions = moved_by(points, directions, REACH * moved)
            if pushed is not None:
                points = points + REACH * pad(pushed, (0, 0, 0, config.kept))
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
        acts = past[:, 1:].unfold(1, config.recent - 1, 1).transpose(2, 3).flatten(2)
        steps = torch.arange(1, t + 1, device=state.device)
        waited = before.waited[:, None] + steps if shown is None else shown[2].waited
        return torch.cat([state, torch.stack(every, dim=1), acts, waited[..., None]], dim=2)

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

    def _warped(self, memory: Memory) -> Float[Tensor, "b e h w"]:
        """What the two kept frames that looked most the same way say of the present view."""
        config, parts, b = self.config, self._parts(memory.numbers), len(memory.numbers)
        places = bounded(parts.points[:, config.points :])
        headings = parts.directions[:, config.directions :]
        there = headings.square().sum(2) > 0.5
        alike = headings[..., 0] + places[..., 2] + self.newest
        few = min(LOOKED_AT, config.kept)
        best = alike.detach().masked_fill(~there, -9.0).topk(few, dim=1).indices
        which = torch.arange(b, device=best.device)[:, None]
        seen_from = torch.cat([places, headings], dim=2)[which, best]
        return self.warped(seen_from, there[which, best], memory.codes[which, best])

    def warped(
        self,
        seen_from: Float[Tensor, "b k 5"],
        there: Bool[Tensor, "b k"],
        codes: Float[Tensor, "b k n"],
    ) -> Float[Tensor, "b e h w"]:
        """What frames say of the present view, which were seen from there: each cell looks at a
        place in each of them, and sees what cells are near it."""
        (rows, columns), (b, k) = self.config.cells, there.shape
        placed = self.placed(seen_from)
        flow = (self.flow(placed) + self.straight(seen_from)).to(codes.dtype)
        flow = flow.view(b, k, rows * columns, 3)
        at, sharp = self.grid + flow[..., :2], 2 * self.sharp.square()
        level = flow[..., 2] - sharp * at.square().sum(3)
        near = sharp * (2 * at @ self.grid.mT - self.grid.square().sum(1))  # − sharp·distance²
        fit = (level[..., None] + near).masked_fill(~there[:, :, None, None], -1e4)
        looks = fit.transpose(1, 2).flatten(2).softmax(2)
        louder, more = self.bent(placed).flatten(0, 1)[..., None, None].chunk(2, dim=1)
        cells = codes.reshape(b * k, -1, rows, columns).to(self.dtype)
        first = self.first(cells.contiguous(memory_format=torch.channels_last))
        values = self.second(silu(first * (1 + louder.to(first)) + more.to(first)))
        told = values.view(b, k, -1, rows * columns).transpose(2, 3).flatten(1, 2)
        return (looks.to(told) @ told).mT.reshape(b, -1, rows, columns)

    def forward(
        self,
        noisy: Float[Tensor, "b d"],
        sigma: Float[Tensor, "b"],
        memory: Memory,
        task: Int[Tensor, "b"],
    ) -> Float[Tensor, "b d"]:
        """D(x; σ): the clean latent."""
        return self.clean(noisy, sigma, self.context_of(memory.numbers), self._warped(memory), task)

    def clean(
        self,
        noisy: Float[Tensor, "b d"],
        sigma: Float[Tensor, "b"],
        context: Float[Tensor, "b c"],
        warped: Float[Tensor, "b e h w"],
        task: Int[Tensor, "b"],
    ) -> Float[Tensor, "b d"]:
        pre, (rows, columns) = preconditioning(sigma, sigma_data=1.0), self.config.cells
        left = pre.c_skip[:, None] * noisy  # by c_in it would be loud where it is noise alone
        asked = one_hot(task, self.config.tasks)
        told = torch.cat([context, pre.c_noise[:, None], asked], dim=1)
        code = left[:, : self.code_size].view(len(noisy), -1, rows, columns)
        spread = self.spread(told).view(len(noisy), -1, rows, columns)
        cells = torch.cat([spread, warped.to(spread), code.to(spread)], dim=1).to(self.dtype)
        hidden = self.trunk(self.mix(cells.contiguous(memory_format=torch.channels_last)))
        clean = [self.out(hidden).flatten(1).to(noisy.dtype)]
        if self.felt is not None:
            felt = self.felt(torch.cat([told, left[:, self.code_size :]], dim=1))
            clean.append(felt.to(noisy.dtype))
        return left + pre.c_out[:, None] * torch.cat(clean, dim=1)

    def seen_from(
        self,
        memory: Memory,
        task: Int[Tensor, "b"],
        noise: Float[Tensor, "b d"],
        sigmas: Float[Tensor, "n"],
    ) -> Float[Tensor, "b d"]:
        """A latent; one denoiser call for each σ > 0."""
        context, warped = self.context_of(memory.numbers), self._warped(memory)

        def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
            return self.clean(noisy, sigma, context, warped, task)

        return sample(denoise, noise, sigmas)


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
