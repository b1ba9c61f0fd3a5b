"""Rewards of rare events: which logs have them, how they are learned, and how their errors show."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from test_models import seeded
from torch import nn
from torch.nn.functional import huber_loss

from wm_gym.evaluation.calibration import Judged, calibration_card
from wm_gym.evaluation.report import calibration_text
from wm_gym.evaluation.rewards import reward_bands, reward_errors, rewards_of, rewards_text
from wm_gym.models.keypoints.denoiser import Denoiser
from wm_gym.models.keypoints.heads import Heads
from wm_gym.models.keypoints.local_model import KeypointLocalModel
from wm_gym.models.keypoints.surrogate import surrogate_of
from wm_gym.models.logged import Logged
from wm_gym.models.rewards import are_rare, rare_rewards, reward_loss
from wm_gym.models.trees import rows
from wm_gym.training.keypoints.heads import JudgingLoss
from wm_gym.training.keypoints.latents import LatentBatch
from wm_gym.training.keypoints.local_model import FilterBatch, Filtering, FilteringLoss
from wm_gym.training.keypoints.rewards import said_by_heads, said_by_local_model

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
    return seeded(lambda: Denoiser(**SHAPE, context=CONTEXT, width=16, blocks=1))


def learn(model: nn.Module, loss, batch_of, updates: int) -> None:
    draw = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(updates):
        worst, _ = loss(model, batch_of(draw), draw)
        optimiser.zero_grad()
        worst.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()


def filtering(events: Events) -> KeypointLocalModel:
    return seeded(
        lambda: KeypointLocalModel(
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
    surrogate = surrogate_of(local_model, events.logged, learning_rate=1e-2)
    steps, draw = events.logged.transitions(local_model), torch.Generator().manual_seed(0)
    for _ in range(UPDATES):
        surrogate.refresh(rows(steps, torch.randint(len(steps), (512,), generator=draw)))
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


def test_bias_and_rmse_stand_beside_a_constant_s():
    """What a median says: its small error hides what its RMSE shows."""
    true = np.repeat([0.0, 10.0], [97, 3])
    whole, low, high = reward_errors(np.full(100, 0.1), true)
    assert (whole.name, whole.count) == ("all", 100)
    assert whole.bias == pytest.approx(0.1 - 0.3)
    assert whole.error == pytest.approx(0.97 * 0.1 + 0.03 * 9.9)
    assert whole.rmse == pytest.approx(np.sqrt(0.97 * 0.1**2 + 0.03 * 9.9**2))
    assert whole.constant_rmse == pytest.approx(true.std())
    assert (low.name, low.count, low.bias) == ("reward 0", 97, pytest.approx(0.1))
    assert (high.name, high.count, high.bias) == ("reward 10", 3, pytest.approx(-9.9))
    assert (high.rmse, high.constant_rmse) == (pytest.approx(9.9), pytest.approx(9.7))
    text = rewards_text([whole, low, high])
    assert "off by -0.2 on average, RMSE 1.72 where always saying the mean has 1.71" in text
    assert "reward 10 (3 steps): -9.9, RMSE 9.9" in text


@pytest.mark.parametrize(
    ("values", "counts", "expected"),
    [
        (range(100), [1] * 100, {"0 to 9": 10, "10 to 89": 80, "90 to 99": 10}),
        ([-0.4, 3.7], [92, 8], {"-0.4": 92, "3.7": 8}),
        ([-5, 0, 5], [1, 98, 1], {"-5": 1, "0": 98, "5": 1}),
        ([0, 1], [50, 50], {"0": 50, "1": 50}),
        ([0, 1, 2, 3], [40, 55, 3, 2], {"0": 40, "1": 55, "2 to 3": 5}),
        ([2], [30], {}),
    ],
)
def test_bands_of_reward_keep_equal_rewards_together(values, counts, expected):
    true = np.random.default_rng(0).permutation(np.repeat(np.array(values, float), counts))
    bands = reward_bands(true)
    assert {name: int(each.sum()) for name, each in bands} == {
        f"reward {name}": count for name, count in expected.items()
    }
    if bands:
        assert (sum(each.astype(int) for _, each in bands) == 1).all()


def test_heads_are_calibrated_without_coverage():
    """Of a world whose logs know rewards alone."""
    true, unknown, last = np.repeat([0.0, 10.0], [97, 3]), np.full(100, np.nan), np.zeros(100, bool)
    last[-1] = True
    judged = Judged(
        coverage=np.zeros(100), true_coverage=unknown, reward=true + 0.5, true_reward=true,
        reward_before=0 * true, last=last,
    )  # fmt: skip
    lines = calibration_card(judged)
    assert [(line.name, line.count) for line in lines] == [
        ("all", 99), ("reward 0", 97), ("reward 10", 2), ("last of episodes", 1),
        ("against the reward before", 1),
    ]  # fmt: skip
    assert {(line.coverage_bias, line.coverage_error) for line in lines} == {(None, None)}
    assert [line.reward_bias for line in lines] == pytest.approx([0.5] * 4 + [10.5])
    assert lines[0].reward_rmse == pytest.approx(0.5)
    assert lines[0].constant_rmse == pytest.approx(true[:-1].std())
    text = calibration_text(lines).splitlines()
    assert all(len(row) <= 100 for row in text)
    assert "–" in text[1]
    kept = rewards_of([asdict(line) for line in lines])
    assert kept == reward_errors(judged.reward[:-1], true[:-1])
    old = [{k: v for k, v in asdict(line).items() if "rmse" not in k} for line in lines]
    assert rewards_of(old) == []


def test_what_is_remarked_after_training_is_of_the_logged_steps(events):
    heads = seeded(lambda: Heads(**SHAPE, width=16, blocks=1, **events.scales))
    batch = events.rows(torch.arange(9))
    said, true = said_by_heads(heads, batch)
    np.testing.assert_array_equal(true, batch.reward[:, -1].numpy())
    with torch.no_grad():
        one = heads.judge(batch.latents[3:4, -2], batch.action[3:4, -1], batch.latents[3:4, -1])
    assert said[3] == pytest.approx(float(one.reward), rel=1e-5)
    local_model = filtering(events)
    said, true = said_by_local_model(
        local_model, FilterBatch(embedding=batch.latents, logged=batch)
    )
    np.testing.assert_array_equal(true, batch.reward.flatten().numpy())
    with torch.no_grad():
        first = local_model.begin(batch.latents[:1, 0], torch.zeros(1, dtype=torch.int64))
        features = local_model.follow(first, batch.action[:1, 0], batch.latents[:1, 1])
        expected = local_model.reward_of(features, batch.action[:1, 0])
    assert said[0] == pytest.approx(float(expected), rel=1e-5)
