"""A kind of world model that has nothing in common with keypoints: tokens of a picture, a recurrent
memory, two tasks, proprioception. It is as small as it can be; nobody expects it to learn.

Whatever works with it has no eye for what a state holds.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn.functional import one_hot

from wm_gym.models.colours import to_unit
from wm_gym.models.kind import Kind, Part
from wm_gym.models.kinds import register_kind
from wm_gym.models.protocol import ModelSpec, Outcome, Seen, Transition, Transitions
from wm_gym.training.logged import choose_logged
from wm_gym.training.recipe import Recipe, Stage, Trained, Training
from wm_gym.training.recipes import register_recipe
from wm_gym.training.trainer import Optimisation

GRID, CHANNELS, PREFILL = 4, 8, 3
TOKENS = GRID * GRID * CHANNELS


class Tokenizer(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, frame_shape: tuple[int, int, int] = (48, 64, 3), channels: int = 8) -> None:
        super().__init__()
        height, width, colours = frame_shape
        patch = height // GRID, width // GRID
        self.read = nn.Conv2d(colours, channels, patch, patch)
        self.paint = nn.ConvTranspose2d(channels, colours, patch, patch)

    def encode(self, frames):
        return torch.tanh(self.read(to_unit(frames))).permute(0, 2, 3, 1)

    def decode(self, tokens):
        return torch.tanh(self.paint(tokens.permute(0, 3, 1, 2)))


class Dynamics(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(
        self, action_size: int = 3, proprio_size: int = 2, tasks: int = 2, memory: int = 16
    ) -> None:
        super().__init__()
        self.gru = nn.GRUCell(TOKENS + action_size + proprio_size + tasks, memory)
        self.change = nn.Linear(memory, TOKENS)
        self.felt = nn.Linear(memory, proprio_size)
        self.worth = nn.Linear(memory, 4 * tasks)

    def remember(self, memory, tokens, action, felt, task):
        told = [tokens.flatten(1), action, felt / 64, one_hot(task, self.config.tasks)]
        return self.gru(torch.cat(told, dim=1), memory)

    def said(self, memory, task):
        """Reward, progress, success and end of these tasks."""
        every = self.worth(memory).view(len(memory), self.config.tasks, 4)
        return every[torch.arange(len(memory)), task].unbind(1)


class TokenGlobalModel(nn.Module):
    """Its state is a dictionary; memory is as long as a recurrent one is."""

    def __init__(self, tokenizer: Tokenizer, dynamics: Dynamics) -> None:
        super().__init__()
        self.tokenizer, self.dynamics = tokenizer, dynamics
        config = dynamics.config
        self.spec = ModelSpec(
            frame_shape=tuple(tokenizer.config.frame_shape),
            action_size=config.action_size,
            proprio_size=config.proprio_size,
            tasks=config.tasks,
            noise_shape=(GRID, GRID, CHANNELS),
            prefill=PREFILL,
            can_end=True,
        )

    @property
    def device(self):
        return self.dynamics.change.weight.device

    @property
    def dtype(self):
        return self.dynamics.change.weight.dtype

    def cast(self, dtype):
        """It is small: float32 it stays."""

    def begin(self, prefill):
        n = len(prefill.task)
        memory = torch.zeros(n, self.dynamics.config.memory, device=self.device)
        for t in range(prefill.frames.shape[1] - 1):
            tokens = self.tokenizer.encode(prefill.frames[:, t])
            after = self.dynamics.remember(
                memory, tokens, prefill.action[:, t], prefill.proprio[:, t], prefill.task
            )
            memory = torch.where(prefill.known[:, t, None], after, memory)
        state = {
            "tokens": self.tokenizer.encode(prefill.frames[:, -1]),
            "memory": (memory, [prefill.proprio[:, -1]]),
            "task": prefill.task,
            "doubt": memory.new_zeros(n),
        }
        return Transition(state=state, outcome=self._outcome(state, reward=memory.new_zeros(n)))

    def step(self, state, action, noise, denoising_steps):
        memory, (felt,) = state["memory"]
        memory = self.dynamics.remember(memory, state["tokens"], action, felt, state["task"])
        change = self.dynamics.change(memory).view_as(noise) + 0.1 * noise / denoising_steps
        after = {
            "tokens": torch.tanh(state["tokens"] + 0.1 * change),
            "memory": (memory, [felt + self.dynamics.felt(memory)]),
            "task": state["task"],
            "doubt": state["doubt"] + 0.1,
        }
        return Transition(state=after, outcome=self._outcome(after))

    def _outcome(self, state, reward=None):
        said, progress, success, end = self.dynamics.said(state["memory"][0], state["task"])
        return Outcome(
            reward=said if reward is None else reward,
            progress=torch.sigmoid(progress),
            success=success > 0.2,
            ended=end > 1.0,
            uncertainty=state["doubt"],
        )

    def decode(self, state):
        return Seen(frames=self.tokenizer.decode(state["tokens"]), proprio=state["memory"][1][0])

    def reconstruct(self, frames, proprio):
        return Seen(frames=self.tokenizer.decode(self.tokenizer.encode(frames)), proprio=proprio)

    def judge(self, before, action, frames, proprio):
        state = self.begin(before).state
        memory, (felt,) = state["memory"]
        memory = self.dynamics.remember(memory, state["tokens"], action, felt, state["task"])
        return self._outcome({**state, "memory": (memory, [proprio])})

    def recalled(self, state):
        return None


class TokenLocalModel(ModelMixin, ConfigMixin):
    """Its coordinates are its own: numbers of a picture's mean colours, and the task."""

    @register_to_config
    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (48, 64, 3),
        action_size: int = 3,
        proprio_size: int = 2,
        tasks: int = 2,
        memory: int = 16,
    ) -> None:
        super().__init__()
        self.see = nn.Linear(frame_shape[2] + proprio_size, 16)
        self.gru = nn.GRUCell(16 + action_size, memory)
        self.outlook = nn.Linear(memory + tasks + action_size, memory)
        self.reward = nn.Linear(memory + tasks + action_size, 1)
        self.progress = nn.Linear(memory + tasks, 1)
        self.paint = nn.Linear(memory, TOKENS)

    @property
    def frame_shape(self):
        return tuple(self.config.frame_shape)

    @property
    def proprio_size(self):
        return self.config.proprio_size

    @property
    def action_size(self):
        return self.config.action_size

    @property
    def embedding_size(self):
        return 16

    @property
    def feature_size(self):
        return self.config.memory + self.config.tasks

    def cast(self, dtype):
        pass

    def embed(self, frames, proprio):
        shown = frames.float().sum((1, 2)) / (255 * frames[0, ..., 0].numel())  # an exact sum
        return self.see(torch.cat([shown, proprio / 64], dim=1))

    def begin(self, embedding, task):
        nothing = embedding.new_zeros(len(embedding), self.config.memory)
        still = embedding.new_zeros(len(embedding), self.config.action_size)
        memory = self.gru(torch.cat([embedding, still], dim=1), nothing)
        return torch.cat([memory, one_hot(task, self.config.tasks)], dim=1)

    def follow(self, features, action, embedding):
        memory, task = features.split([self.config.memory, self.config.tasks], dim=1)
        return torch.cat([self.gru(torch.cat([embedding, action], dim=1), memory), task], dim=1)

    def predict(self, features, action):
        memory, task = features.split([self.config.memory, self.config.tasks], dim=1)
        moved = torch.tanh(self.outlook(torch.cat([features, action], dim=1)))
        return torch.cat([memory + 0.1 * moved, task], dim=1)

    def reward_of(self, next_features, action):
        return self.reward(torch.cat([next_features, action], dim=1))[:, 0]

    def progress_of(self, features):
        return torch.sigmoid(self.progress(features))[:, 0]

    def away(self, features, others):
        return (features - others).square().mean(1).sqrt()

    def picture(self, features, global_model):
        tokens = torch.tanh(self.paint(features[:, : self.config.memory]))
        frames = global_model.tokenizer.decode(tokens.view(-1, GRID, GRID, CHANNELS))
        return Seen(frames=frames, proprio=features.new_zeros(len(features), self.proprio_size))

    def surrogate(self, logged):
        return TokenSurrogate(self, logged)


class TokenSurrogate:
    reward_scale = 1.0

    def __init__(self, local_model, logged):
        self.local_model, self._logged = local_model, logged
        self.lent = copy.deepcopy(local_model).requires_grad_(False)
        self.action_size = local_model.action_size

    def predict(self, features, action):
        return self.lent.predict(features, action)

    def reward_of(self, next_features, action):
        return self.lent.reward_of(next_features, action)

    def modules(self):
        return (self.lent,)

    def missed(self, batch):
        off = self.predict(batch.features, batch.action) - batch.next_features
        reward = self.reward_of(batch.next_features, batch.action) - batch.reward
        return off.square().mean(1), reward

    def refresh(self, batch):
        with torch.enable_grad():
            self.lent.requires_grad_(True)
            moved, reward = self.missed(batch)
            (moved.mean() + reward.square().mean()).backward()
            with torch.no_grad():
                for parameter in self.lent.parameters():
                    if parameter.grad is not None:
                        parameter -= 1e-2 * parameter.grad.clamp(-1, 1)
            self.lent.requires_grad_(False)
            self.lent.zero_grad(set_to_none=True)
        return {"missed": moved.mean().item()}

    def logged(self):
        if self._logged is None:
            return None
        steps: Transitions = self._logged.transitions(self.local_model)
        return {
            "obs": steps.features, "action": steps.action, "reward": steps.reward,
            "next_obs": steps.next_features,
        }  # fmt: skip

    def state_dict(self):
        return {"lent": {name: value.clone() for name, value in self.lent.state_dict().items()}}

    def load_state_dict(self, state):
        self.lent.load_state_dict(state["lent"])


def assembled(parts: Mapping[str, Any]):
    return TokenGlobalModel(parts["tokenizer"], parts["dynamics"]), parts["follower"]


def parts_of(global_model, local_model):
    if not isinstance(global_model, TokenGlobalModel):
        return {}
    return {
        "tokenizer": global_model.tokenizer,
        "dynamics": global_model.dynamics,
        "follower": local_model,
    }


def fresh(frame_shape, action_size, prefill, tiny):
    follower = TokenLocalModel(frame_shape, action_size)
    return TokenGlobalModel(Tokenizer(frame_shape), Dynamics(action_size)), follower


KIND = Kind(
    name="tokens",
    parts={
        "tokenizer": Part(make=Tokenizer, label="Tokenizer"),
        "dynamics": Part(make=Dynamics, label="TokenDynamics"),
        "follower": Part(make=TokenLocalModel, label="Follower"),
    },
    assembled=assembled,
    parts_of=parts_of,
    fresh=fresh,
    summary="A recurrent model of a picture's tokens",
    curves={"tokenizer": ("off",), "dynamics": ("off",), "follower": ("off",)},
)
register_kind(KIND)


# How it is trained


@dataclass(frozen=True, kw_only=True)
class TokenTraining(Training):
    memory: int = 16
    """Numbers that the dynamics remember by."""

    part: Optimisation = field(
        default_factory=lambda: Optimisation(updates=6, batch_size=4, warmup=1)
    )
    """Of each part."""


def reconstruction(model, batch, generator):
    tokenizer = getattr(model, "module", model)
    frames = torch.from_numpy(batch.frames[0])
    off = (tokenizer.decode(tokenizer.encode(frames)) - to_unit(frames)).square().mean()
    return off, {"off": off.item()}


@dataclass(frozen=True)
class Ahead:
    """Every frame of a window is supervised: the tokens and the reward after it."""

    tokenizer: Tokenizer

    def __call__(self, model, batch, generator):
        dynamics = getattr(model, "module", model)
        n, losses = len(batch.task), []
        memory = torch.zeros(n, dynamics.config.memory)
        with torch.no_grad():
            tokens = [self.tokenizer.encode(torch.from_numpy(each)) for each in batch.frames]
        task = torch.from_numpy(batch.task)
        for t, action in enumerate(torch.from_numpy(batch.action)):
            felt = torch.from_numpy(batch.proprio[t])
            memory = dynamics.remember(memory, tokens[t], action, felt, task)
            off = tokens[t] + 0.1 * dynamics.change(memory).view_as(tokens[t]) - tokens[t + 1]
            reward = dynamics.said(memory, task)[0] - torch.from_numpy(batch.reward[t])
            losses.append(off.square().mean() + reward.square().mean())
        loss = torch.stack(losses).mean()
        return loss, {"off": loss.item()}


def following(model, batch, generator):
    follower = getattr(model, "module", model)
    frames, felt = torch.from_numpy(batch.frames), torch.from_numpy(batch.proprio)
    features = follower.begin(follower.embed(frames[0], felt[0]), torch.from_numpy(batch.task))
    losses = []
    for t, action in enumerate(torch.from_numpy(batch.action)):
        expected = follower.predict(features, action)
        features = follower.follow(features, action, follower.embed(frames[t + 1], felt[t + 1]))
        reward = follower.reward_of(features, action) - torch.from_numpy(batch.reward[t])
        losses.append((expected - features).square().mean() + reward.square().mean())
    loss = torch.stack(losses).mean()
    return loss, {"off": loss.item()}


LEARNS_FROM = {"tokenizer": (), "dynamics": ("tokenizer",), "follower": ()}


def train(config: TokenTraining, run) -> Trained:
    spec = run.dataset.spec
    sizes = {"action_size": spec.action_size, "proprio_size": len(spec.proprio_names)}
    sizes |= {"tasks": len(run.dataset.tasks)}

    def stage(name, make, length, loss, **learned_from):
        return run.trained(
            Stage(
                folder=config.out / name, make=make, optimisation=config.part, loss=loss,
                batches=run.windows(config.part, length), learned_from=learned_from,
            )
        )  # fmt: skip

    tokenizer = stage("tokenizer", lambda: Tokenizer(spec.picture), 1, reconstruction)
    dynamics = stage(
        "dynamics", lambda: Dynamics(**sizes, memory=config.memory), 4, Ahead(tokenizer),
        tokenizer=tokenizer,
    )  # fmt: skip
    follower = stage("follower", lambda: TokenLocalModel(spec.picture, **sizes), 4, following)
    seen = run.encoded("embedding", config.out, follower, follower.embed)
    return Trained(
        global_model=TokenGlobalModel(tokenizer, dynamics),
        local_model=follower,
        logged=choose_logged(run.dataset, seen, count=config.logged, length=4, seed=0),
        facts={"refined": True},
    )


def check(config: TokenTraining, dataset) -> None:
    if not dataset.spec.proprio_names:
        raise ValueError("tokens need proprioception: collect with --proprioception")


RECIPE = Recipe(
    kind="tokens",
    presets={"tiny": ("Seconds.", TokenTraining(data=Path(), out=Path(), starts=8, logged=4))},
    learns_from=LEARNS_FROM,
    check=check,
    train=train,
)
register_recipe(RECIPE)
