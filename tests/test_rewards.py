"""Rewards of rare events: which logs have them, how they are learned, and how their errors show."""

import numpy as np
import pytest
import torch
from test_models import seeded
from torch import nn
from torch.nn.functional import huber_loss

from wm_gym.models.global_model import GlobalModel
from wm_gym.models.heads import Heads
from wm_gym.models.local_model import LocalModel
from wm_gym.models.logged import Logged
from wm_gym.models.rewards import are_rare, rare_rewards, reward_loss
from wm_gym.models.surrogate import Surrogate
from wm_gym.training.heads import JudgingLoss
from wm_gym.training.latents import LatentBatch
from wm_gym.training.local_model import FilterBatch, Filtering, FilteringLoss

PAYS, OFTEN, CONTEXT, UPDATES = 10.0, 0.01, 2, 60
SHAPE = {"latent_size": 2, "action_size": 1}


def test_the_share_is_that_of_the_furthest_tenth():
    reward = torch.tensor([0.0] * 9 + [10.0, -1.0, 3.0])  # two of twelve
    off = np.sort(np.square(reward.numpy() - reward.numpy().mean()))
    assert rare_rewards(reward) == pytest.approx(off[-2:].sum() / off.sum())
    paid = torch.zeros(1000)
    paid[:80] = 1  # 20 more steps without
    expected = (0.08 * 0.92**2 + 0.02 * 0.08**2) / (0.08 * 0.92)
    assert rare_rewards(paid) == pytest.approx(expected)
    assert rare_rewards(torch.ones(30)) == 0
    assert rare_rewards(3 - 7 * paid.reshape(10, 100)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.003, True), (0.01, True), (0.08, True), (0.3, False), (0.5, False)]
)
def test_events_are_rare_where_few_steps_pay(share, expected):
    reward = torch.where(torch.arange(1000) < 1000 * share, 3.7, -0.4)
    assert are_rare(reward) is expected


def test_smooth_logs_are_not_of_rare_events():
    draw = torch.Generator().manual_seed(0)
    uniform, normal = torch.rand(5000, generator=draw), torch.randn(5000, generator=draw)
    assert rare_rewards(uniform) == pytest.approx(0.27, abs=0.02)
    assert rare_rewards(normal) == pytest.approx(0.44, abs=0.02)
    assert not are_rare(uniform)
    assert not are_rare(normal)


def test_the_loss_of_smooth_logs_is_hubers_and_of_rare_events_the_square():
    said, true = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    smooth = reward_loss(said, true, rare=False)
    assert torch.equal(smooth, huber_loss(said, true, delta=0.05) / 0.05)
    square = reward_loss(said, true, rare=True)
    torch.testing.assert_close(square, 0.5 * (said - true).square().mean())


class Events:
    """A latent of two positions that wanders; where the first is far, one step in three pays."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        self.latents = torch.randn(4096, CONTEXT + 1, 2, generator=draw)
        paying = torch.rand(4096, CONTEXT, generator=draw) < 2 * OFTEN
        self.latents[:, 1:, 0] = torch.where(paying, 4.0, self.latents[:, 1:, 0].clamp(-2, 2))
        coin = torch.rand(4096, CONTEXT, generator=draw) < 1 / 3
        self.reward = torch.where(paying & coin, PAYS, 0.0)
        self.paying = paying

    def batch(self, generator: torch.Generator) -> LatentBatch:
        pick = torch.randint(len(self.latents), (512,), generator=generator)
        return self.rows(pick)

    def rows(self, pick: torch.Tensor) -> LatentBatch:
        return LatentBatch(
            latents=self.latents[pick], action=torch.zeros(len(pick), CONTEXT, 1),
            reward=self.reward[pick], coverage=None,
            terminated=torch.zeros(len(pick), CONTEXT, dtype=torch.bool),
        )  # fmt: skip

    @property
    def logged(self) -> Logged:
        every = self.rows(torch.arange(len(self.latents)))
        return Logged(embedding=every.latents, action=every.action, reward=every.reward)

    @property
    def scales(self) -> dict[str, float]:
        return {
            "reward_mean": float(self.reward.mean()), "reward_scale": float(self.reward.std()),
            "change_scale": 1.0,
        }  # fmt: skip


@pytest.fixture(scope="module")
def events():
    return Events()


@pytest.fixture(scope="module")
def dreamer():
    return seeded(lambda: GlobalModel(**SHAPE, context=CONTEXT, width=16, blocks=1))


def learn(model: nn.Module, loss, batch_of, updates: int) -> None:
    draw = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(updates):
        worst, _ = loss(model, batch_of(draw), draw)
        optimiser.zero_grad()
        worst.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()


def filtering(events: Events) -> LocalModel:
    return seeded(
        lambda: LocalModel(
            frame_shape=(8, 8, 3), action_size=1, patch=4, keypoints=1, channels=16, memory=4,
            width=16, blocks=1, head_width=32, scale=1.0, **events.scales,
        )
    )  # fmt: skip


def expected(events: Events) -> float:
    """The mean of what is paid where something may be: a third of 10."""
    return float(events.reward[events.paying].mean())


@pytest.mark.parametrize("rare", [True, False])
def test_heads_say_what_a_rare_event_pays(events, dreamer, rare):
    """As they learned before, a median, they say nothing is ever paid."""
    heads = seeded(lambda: Heads(**SHAPE, width=32, blocks=1, latent_scale=1.0, **events.scales))
    learn(heads, JudgingLoss(dreamer, rare), events.batch, updates=UPDATES)
    every = events.rows(torch.arange(len(events.latents)))
    with torch.no_grad():
        said = heads.judge(every.latents[:, 1], every.action[:, 1], every.latents[:, 2]).reward
    tell(said, events.reward[:, 1], events.paying[:, 1], expected(events), rare=rare)


@pytest.mark.parametrize("rare", [True, False])
def test_the_local_model_says_what_a_rare_event_pays(events, dreamer, rare):
    local_model = filtering(events)

    def filtered(draw: torch.Generator) -> FilterBatch:
        batch = events.batch(draw)
        return FilterBatch(embedding=batch.latents, logged=batch)

    learn(local_model, FilteringLoss(Filtering(), dreamer, rare), filtered, updates=UPDATES)
    steps = events.logged.transitions(local_model)
    with torch.no_grad():
        said = local_model.reward_of(steps.next_features, steps.action)
    tell(said, steps.reward, events.paying.flatten(), expected(events), rare=rare)


def test_refreshing_keeps_to_what_a_rare_event_pays(events):
    local_model = filtering(events)
    surrogate = Surrogate(local_model, events.logged, learning_rate=1e-2)
    steps, draw = events.logged.transitions(local_model), torch.Generator().manual_seed(0)
    for _ in range(UPDATES):
        surrogate.refresh(steps[torch.randint(len(steps), (512,), generator=draw)])
    said = surrogate.reward_of(steps.next_features, steps.action)
    tell(said, steps.reward, events.paying.flatten(), expected(events), rare=True)


def tell(said, true, paying, truth, *, rare):
    """How far a head that learned by either loss is off: the square sees the event."""
    assert are_rare(true)
    if rare:
        assert 0.6 * truth < said[paying].mean() < 1.4 * truth
        assert said[~paying].mean().abs() < 0.1
    else:
        assert said[paying].mean() < 0.2 * truth
