"""The dynamics: a memory that goes on by actions alone, and a diffusion model of what it sees."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import silu

from wm_gym.models.actions import ENCODINGS
from wm_gym.models.edm import preconditioning, sample
from wm_gym.models.networks import PictureResidual

REACH = 0.2
"""Landmarks are in units of which a camera moves about this much in a step, and turns in
radians."""

WIDE = 16
"""Outputs of a layer whose inputs may be of any number: with fewer than these, and a number that is
no multiple of 4, what a CPU makes of a row depends on which one of the batch it is."""


class Dynamics(ModelMixin, ConfigMixin):
    """What a dream goes by is a *memory*: a recurrent state h, and landmarks.

        state       hₜ = GRU(hₜ₋₁, [known·read(zₜ), known, aₜ₋₁, task])
        motion      of the camera in a plane, from the last actions, hₜ, and what it bumps into
        landmarks   are moved by the motion; where a frame is known, drawn to where it shows them
        seen        D(x; σ | hₜ, landmarks, task): the latent without its noise (EDM, σ_data = 1)

    A landmark is a point in the camera's own frame, or a direction. Nothing says what they are of;
    but a motion moves all of them rigidly, so what was out of view comes back where it should be,
    and turning has to be learned once and not for every view. A camera that stands still is a
    motion of nothing.

    A dream never reads what it has painted, so errors do not feed on themselves: the memory of a
    dreamt step is that of a frame that nobody saw.

    The sampler's first σ comes with noise alone, in training as in a dream. However large, it would
    hide no latent whose numbers go together: a network learns to read it, and in a dream there is
    none to be read.
    """

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
        told = self.context_size + 1 + tasks
        self.spread = nn.Sequential(
            nn.Linear(told, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, channels * cells[0] * cells[1]),
        )  # fmt: skip
        self.mix = nn.Conv2d(channels + cell_channels, channels, 3, padding=1)
        self.trunk = nn.Sequential(*(PictureResidual(channels) for _ in range(blocks)))
        self.out = nn.Conv2d(channels, cell_channels, 3, padding=1)
        self.felt = (
            nn.Sequential(
                nn.Linear(told + proprio_size, inputs), nn.SiLU(), nn.Linear(inputs, proprio_size)
            )
            if proprio_size
            else None
        )
        for layer in (self.by_state, self.touch[-1]):
            for weights in layer.parameters():
                nn.init.zeros_(weights)

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

    def nothing(self, n: int) -> Float[Tensor, "n m"]:
        """What is remembered before the first frame."""
        config = self.config
        state = self.first_points.new_zeros(n, config.memory)
        landmarks = torch.cat([self.first_points.flatten(), self.first_directions.flatten()])
        acts = state.new_zeros(n, (config.recent - 1) * config.action_size)
        return torch.cat([state, landmarks.expand(n, -1), acts], dim=1)

    def remember(
        self,
        memory: Float[Tensor, "b m"],
        latent: Float[Tensor, "b t d"],
        action: Float[Tensor, "b t a"],
        task: Int[Tensor, "b"],
        known: Float[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t m"]:
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
        return self._carried(memory, state, action, unseen, (place, pull))

    def go_on(
        self, memory: Float[Tensor, "b m"], action: Float[Tensor, "b t a"], task: Int[Tensor, "b"]
    ) -> Float[Tensor, "b t m"]:
        """The memory of each of the next moments, of which nothing is seen."""
        unseen = memory.new_ones(*action.shape[:2], 1)
        read = memory.new_zeros(*action.shape[:2], self.config.inputs)
        state = self._state(memory, read, action, 1 - unseen, task)
        return self._carried(memory, state, action, unseen, None)

    def _state(
        self,
        memory: Float[Tensor, "b m"],
        read: Float[Tensor, "b t n"],
        action: Float[Tensor, "b t a"],
        seen: Float[Tensor, "b t 1"],
        task: Int[Tensor, "b"],
    ) -> Float[Tensor, "b t s"]:
        asked = one_hot(task, self.config.tasks)[:, None].expand(*action.shape[:2], -1)
        told = torch.cat([read, self.encode_action(action), seen, asked], dim=2)
        before = memory[:, : self.config.memory].contiguous()[None]
        state, _ = self.gru(silu(self.stem(told)), before)
        return state.to(memory.dtype)

    def _carried(
        self,
        memory: Float[Tensor, "b m"],
        state: Float[Tensor, "b t s"],
        action: Float[Tensor, "b t a"],
        unseen: Float[Tensor, "b t 1"] | None,
        shown: tuple[Float[Tensor, "b t k 2"], Float[Tensor, "b t k 1"]] | None,
    ) -> Float[Tensor, "b t m"]:
        """Landmarks through the motions of a camera, one after the other. Where the next moment
        was seen, that says what was bumped into."""
        config, t = self.config, action.shape[1]
        _, landmarks, recent = self._parts(memory)
        past = torch.cat([recent, action], dim=1)
        acted = self.encode_action(past).unfold(1, config.recent, 1).flatten(2)
        told = self.norm(state)
        motion = (self.by_actions(acted)[..., :3] + self.by_state(told)).to(memory.dtype)
        encoded, every = self.encode_action(action), []
        for j in range(t):
            moved, pushed = motion[:, j], None
            if unseen is not None:
                here = self._features(landmarks)
                touched = self.touch(torch.cat([told[:, j], here, encoded[:, j]], dim=1))
                touched = touched.to(memory.dtype) * unseen[:, j]
                moved, pushed = moved + touched[:, :3], touched[:, 3:].unflatten(1, (-1, 2))
            landmarks = self._moved(landmarks, REACH * moved, pushed)
            if shown is not None:
                place, pull = shown[0][:, j], shown[1][:, j]
                landmarks = landmarks + pull * (place - landmarks)
            every.append(landmarks)
        after = torch.stack(every, dim=1).flatten(2)
        acts = past[:, 1:].unfold(1, config.recent - 1, 1).transpose(2, 3).flatten(2)
        return torch.cat([state, after, acts], dim=2)

    def _moved(
        self,
        landmarks: Float[Tensor, "b k 2"],
        motion: Float[Tensor, "b 3"],
        pushed: Float[Tensor, "b p 2"] | None,
    ) -> Float[Tensor, "b k 2"]:
        """As a camera sees them that goes along an arc: forward, left, and about itself."""
        (points, directions), turn = self._both(landmarks), motion[:, 2:]
        points = _turned(points - _turned(motion[:, None, :2], turn / 2), -turn)
        if pushed is not None:
            points = points + REACH * pushed
        return torch.cat([points, _turned(directions, -turn)], dim=1)

    def _parts(self, memory: Float[Tensor, "b m"]) -> tuple[Tensor, Tensor, Tensor]:
        """State, landmarks, and the last actions."""
        n, config = len(memory), self.config
        end = config.memory + 2 * (config.points + config.directions)
        state, marks, acts = memory.tensor_split((config.memory, end), dim=1)
        return state, marks.view(n, -1, 2), acts.view(n, -1, config.action_size)

    def _features(self, landmarks: Float[Tensor, "b k 2"]) -> Float[Tensor, "b f"]:
        """Where each point is to be looked for, and how near it is, finite however far off; and
        directions."""
        points, directions = self._both(landmarks)
        far = (1 + points.square().sum(2, keepdim=True)).sqrt()
        told = points / far, 1 / far, directions
        return torch.cat([part.flatten(1) for part in told], dim=1)

    def _both(self, landmarks: Float[Tensor, "b k 2"]) -> tuple[Tensor, Tensor]:
        """Points, and directions."""
        return landmarks[:, : self.config.points], landmarks[:, self.config.points :]

    def context_of(self, memory: Float[Tensor, "b m"]) -> Float[Tensor, "b c"]:
        """What is to be told of a memory: bounded numbers."""
        state, landmarks, _ = self._parts(memory)
        return torch.cat([self.norm(state).to(memory.dtype), self._features(landmarks)], dim=1)

    def forward(
        self,
        noisy: Float[Tensor, "b d"],
        sigma: Float[Tensor, "b"],
        context: Float[Tensor, "b c"],
        task: Int[Tensor, "b"],
    ) -> Float[Tensor, "b d"]:
        """D(x; σ): the clean latent."""
        pre, (rows, columns) = preconditioning(sigma, sigma_data=1.0), self.config.cells
        left = pre.c_skip[:, None] * noisy  # by c_in it would be loud where it is noise alone
        asked = one_hot(task, self.config.tasks)
        told = torch.cat([context, pre.c_noise[:, None], asked], dim=1)
        code = left[:, : self.code_size].view(len(noisy), -1, rows, columns)
        spread = self.spread(told).view(len(noisy), -1, rows, columns)
        cells = torch.cat([spread, code.to(spread)], dim=1).to(self.dtype)
        hidden = self.trunk(self.mix(cells.contiguous(memory_format=torch.channels_last)))
        clean = [self.out(hidden).flatten(1).to(noisy.dtype)]
        if self.felt is not None:
            felt = self.felt(torch.cat([told, left[:, self.code_size :]], dim=1))
            clean.append(felt.to(noisy.dtype))
        return left + pre.c_out[:, None] * torch.cat(clean, dim=1)

    def seen_from(
        self,
        memory: Float[Tensor, "b m"],
        task: Int[Tensor, "b"],
        noise: Float[Tensor, "b d"],
        sigmas: Float[Tensor, "n"],
    ) -> Float[Tensor, "b d"]:
        """A latent; one denoiser call for each σ > 0."""
        context = self.context_of(memory)

        def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
            return self(noisy, sigma, context, task)

        return sample(denoise, noise, sigmas)


def one_hot(task: Int[Tensor, "b"], tasks: int) -> Float[Tensor, "b n"]:
    """Without a look at the numbers, which a GPU would have to be waited for."""
    return (task[:, None] == torch.arange(tasks, device=task.device)).float()


def _turned(vectors: Float[Tensor, "b k 2"], angle: Float[Tensor, "b 1"]) -> Float[Tensor, "b k 2"]:
    x, y = vectors.unbind(2)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=2)
