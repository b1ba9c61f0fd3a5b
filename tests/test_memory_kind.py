"""Worlds with a memory: what they remember, what they see of the past, how they are trained."""

import dataclasses

import gymnasium as gym
import memory_world
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.nn.functional import interpolate
from torch.utils.flop_counter import FlopCounterMode

from wm_gym.models import trees
from wm_gym.models.halves import half_of, halved
from wm_gym.models.memory.dynamics import (
    Dynamics,
    Flow,
    FrameEncoder,
    Shown,
    moved_by,
    moved_pixels,
)
from wm_gym.models.memory.heads import Heads
from wm_gym.models.memory.kind import MEMORY
from wm_gym.models.memory.local_model import Follower
from wm_gym.models.protocol import Prefill
from wm_gym.models.starts import Start, Starts
from wm_gym.models.world_model import Card, WorldModel
from wm_gym.training.memory.dynamics import DynamicsLoss, Remembering, Worthy, rolled_out
from wm_gym.training.memory.heads import JudgingLoss, moments
from wm_gym.training.memory.local_model import Following, FollowingLoss, Recalling
from wm_gym.training.memory.registration import registered, shift_between
from wm_gym.training.memory.sequences import SequenceBatch, Sequences, split
from wm_gym.training.memory.warp import WarpLoss, travelled
from wm_gym.training.memory.weights import rarity
from wm_gym.training.trainer import Optimisation, Trainer

SHAPE, K = (32, 48, 3), 6


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


@pytest.fixture(scope="module")
def models():
    return seeded(lambda: memory_world.fresh(SHAPE, prefill=K, ends=False))


def prefill(n=2, k=K, seed=0, shape=SHAPE, known=None):
    rng = torch.Generator().manual_seed(seed)
    return Prefill(
        frames=torch.randint(0, 256, (n, k, *shape), generator=rng, dtype=torch.uint8),
        proprio=torch.zeros(n, k, 0),
        action=torch.rand(n, k - 1, 3, generator=rng) * 2 - 1,
        known=torch.ones(n, k, dtype=torch.bool) if known is None else known,
        task=torch.zeros(n, dtype=torch.int64),
    )


def stepped(model, state, steps, seed=1):
    rng = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        n = len(state.age)
        action = torch.rand(n, 3, generator=rng) * 2 - 1
        noise = torch.randn(n, *model.spec.noise_shape, generator=rng)
        state = model.step(state, action, noise, 1).state
    return state


# Memory


@torch.no_grad()
def test_a_step_costs_the_same_whatever_came_before(models):
    model, _ = models
    costs = []
    for steps in (4, 96):
        state = stepped(model, model.begin(prefill()).state, steps)
        with FlopCounterMode(display=False) as counter:
            stepped(model, state, 1)
        size = sum(leaf.numel() for leaf in trees.leaves(state))
        costs.append((counter.get_total_flops(), size))
    assert costs[0] == costs[1]


@torch.no_grad()
def test_one_frame_is_the_last_of_a_window_whose_others_are_missing(models):
    """Whatever stands in for them."""
    model, _ = models
    whole = prefill()
    known = torch.zeros(2, K, dtype=torch.bool)
    known[:, -1] = True
    missing = model.begin(dataclasses.replace(whole, known=known))
    last = Prefill(
        frames=whole.frames[:, -1:], proprio=whole.proprio[:, -1:], action=whole.action[:, :0],
        known=known[:, -1:], task=whole.task,
    )  # fmt: skip
    alone = model.begin(last)
    assert_alike(missing.state.memory, alone.state.memory)
    torch.testing.assert_close(missing.state.latent, alone.state.latent)
    assert (model.begin(whole).state.memory.numbers != alone.state.memory.numbers).any()
    assert (alone.outcome.uncertainty == 0).all()
    assert (stepped(model, alone.state, 1).age == 1).all()


def assert_alike(one, other):
    for pair in zip(trees.leaves(one), trees.leaves(other), strict=True):
        torch.testing.assert_close(*pair)


@torch.no_grad()
def test_a_hidden_frame_tells_nothing_but_the_action_that_led_to_it(models):
    model, _ = models
    known = torch.ones(2, K, dtype=torch.bool)
    known[:, 3] = False
    one, other = prefill(known=known), prefill(known=known)
    other.frames[:, 3] = 255 - other.frames[:, 3]
    assert_alike(model.begin(one).state.memory, model.begin(other).state.memory)
    other.action[:, 2] *= -1
    memories = [model.begin(each).state.memory.numbers for each in (one, other)]
    assert (memories[0] != memories[1]).any()


@torch.no_grad()
@pytest.mark.parametrize("shape", [(48, 64, 3), (20, 36, 3), (8, 6, 1), (64, 64, 4)])
def test_pictures_of_any_size_are_seen_and_painted(shape):
    model, local_model = seeded(lambda: memory_world.fresh(shape, prefill=2))
    state = model.begin(prefill(k=2, shape=shape)).state
    seen = model.decode(state)
    assert seen.frames.shape == (2, shape[2], *shape[:2])
    frames = prefill(k=1, shape=shape).frames[:, 0]
    torch.testing.assert_close(
        local_model.embed(frames, torch.zeros(2, 0)),
        local_model.embed(frames.float(), torch.zeros(2, 0)),
    )


@torch.no_grad()
def test_a_dream_goes_by_its_memory_and_never_by_what_it_painted(models):
    model, _ = models
    state = model.begin(prefill()).state
    other = dataclasses.replace(state, latent=-state.latent)
    after = [stepped(model, each, 3) for each in (state, other)]
    assert all(map(torch.equal, *(trees.leaves(each.memory) for each in after)))
    assert torch.equal(after[0].latent, after[1].latent)
    louder = model.step(state, torch.zeros(2, 3), torch.ones(2, *model.spec.noise_shape), 2)
    softer = model.step(state, torch.zeros(2, 3), torch.zeros(2, *model.spec.noise_shape), 2)
    assert (louder.state.latent != softer.state.latent).any()
    assert all(map(torch.equal, *(trees.leaves(each.state.memory) for each in (louder, softer))))


@torch.no_grad()
def test_landmarks_move_as_a_camera_sees_them():
    """Distances stay; a turn and its inverse, a walk and its way back, lead where they began;
    directions turn alone."""
    points, directions = torch.randn(1, 4, 2), torch.randn(1, 2, 2)
    marks = torch.cat([points, directions], dim=1)

    def moved(marks, *motion):
        both = moved_by(marks[:, :4], marks[:, 4:], torch.tensor([motion]))
        return torch.cat(both, dim=1)

    left = moved(marks, 0.0, 0.0, np.pi / 2)  # what was ahead is on the right
    torch.testing.assert_close(left[..., 0], marks[..., 1])
    torch.testing.assert_close(left[..., 1], -marks[..., 0])
    ahead = moved(marks, 1.5, 0.0, 0.0)
    torch.testing.assert_close(ahead[:, :4], points - torch.tensor([1.5, 0.0]))
    torch.testing.assert_close(ahead[:, 4:], directions)
    arc = moved(marks, 0.3, -0.2, 0.7)
    torch.testing.assert_close(moved(arc, -0.3, 0.2, -0.7), marks)
    gone, many = marks, 40
    for _ in range(many):
        gone = moved(gone, 2 * np.pi / many, 0.0, 2 * np.pi / many)  # once around a circle
    torch.testing.assert_close(gone, marks, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        torch.cdist(arc[:, :4], arc[:, :4]), torch.cdist(points, points), atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_some_frames_are_kept_and_where_they_were_seen_from():
    """The last one, and before it one in `apart`; where the camera is told to go, that is."""
    camera = ((0.3, 0.0), (0.0, 0.0), (0.0, 0.5))  # forward, left, turn, by each of two numbers
    sizes = {"memory": 16, "points": 2, "directions": 1, "width": 32, "channels": 16, "inputs": 32}
    dynamics = seeded(lambda: Dynamics((1, 2), 2, kept=3, apart=2, **sizes))
    dynamics.begin_with(camera)
    n, t = 2, 6
    latent = torch.randn(n, t, 4)
    action = torch.zeros(n, t + 2, 2)
    nobody, task = torch.zeros((), dtype=torch.int64), torch.zeros(n).long()
    number = torch.arange(1, t + 1).expand(n, -1)
    shown = Shown(latent=latent, frames=number)
    memories = dynamics.remember(dynamics.nothing(n, nobody), shown, action[:, :t], task)
    kept = memories.of_moment(-1)
    assert kept.frames.tolist() == [[6, 5, 3]] * n
    assert memories.of_moment(0).frames.tolist() == [[1, 1, 0]] * n

    action[:, t:, 1] = 1.0  # for two steps; a motion takes two to be done
    after = dynamics.go_on(kept, action[:, t:], task).of_moment(-1)
    assert torch.equal(after.frames, kept.frames)
    heading = dynamics._parts(after.numbers).directions[:, 1:]
    turned = -torch.tensor(0.25 + 0.5)
    expected = torch.stack([turned.cos(), turned.sin()]).expand(n, 3, 2)
    torch.testing.assert_close(heading, expected)
    again = Shown(latent=latent[:, :1], frames=number[:, :1])
    newest = dynamics.remember(after, again, action[:, :1], task).of_moment(0)
    assert newest.frames.tolist() == [[1, 1, 5]] * n


@torch.no_grad()
def test_a_flow_moves_pixels_and_tells_where_there_are_none():
    """By half a picture to the left: the right half is of the next frame, or nobody knows it."""
    dynamics = seeded(lambda: Dynamics((2, 2), 2, **SMALL))
    picture = torch.randint(0, 256, (1, 2, 32, 32, 3), dtype=torch.uint8)
    place, felt = torch.zeros(1, 2, 5), torch.zeros(1, 2, 0)
    place[:, 1, 0] = 1.0
    dynamics.straight.weight[:16, 0] = -1.0
    dynamics.straight.bias[:16] = 1.0  # x; frames of place 1 are not moved
    for there, second in ((True, picture[:, 1, :, 16:]), (False, picture[:, 0, :, -1:])):
        known = torch.tensor([[True, there]])
        flow = dynamics.flow_from(place, known, felt, felt[:, 0], (32, 32))
        moved = moved_pixels(picture, flow)
        moved = (moved.movedim(1, -1) + 1) * 127.5
        torch.testing.assert_close(moved[:, :, :16], picture[:, 0, :, 16:].float())
        torch.testing.assert_close(moved[:, :, 16:], second.float().expand(1, 32, 16, 3))
        assert flow.known[..., :16].all()
        assert (flow.known[..., 16:] == there).all()


@pytest.mark.parametrize(("across", "down"), [(0, 0), (7, 0), (-5, 3), (14, -6)])
def test_a_view_is_moved_to_where_it_fits(across, down):
    """By whole and half coarse pixels; where nothing is known it stays where it is."""
    rng = torch.Generator().manual_seed(abs(across))
    rough = torch.rand(2, 3, 16, 16, generator=rng) * 2 - 1
    wide = interpolate(rough, size=(128, 128), mode="bicubic").clamp(-1, 1)
    view = wide[..., 16:112, 16:112]
    true = wide[..., 16 + down : 112 + down, 16 + across : 112 + across]
    place = torch.zeros(2, 2, 96, 96)
    known = torch.tensor([True, False])[:, None, None].expand(2, 96, 96)
    flow = Flow(place=place, frame=place[:, 0], known=known)
    shift = shift_between(view, flow, true) * 48
    expected = torch.tensor([[across, down], [0.0, 0.0]])
    torch.testing.assert_close(shift, expected, atol=0.7, rtol=0)


def test_a_flow_learns_where_a_view_fits(unchecked_types):
    """By registration alone: what is painted is not asked."""
    dynamics = seeded(lambda: Dynamics((2, 2), 2, **SMALL))
    rough = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    wide = interpolate(rough, size=(64, 64), mode="bicubic").clamp(0, 255).byte()
    kept, seen = (wide[..., 16:48, x : x + 32].movedim(1, -1) for x in (16, 20))

    class Kept(FrameEncoder):
        def __init__(self):
            pass

        def read(self, row):
            return seen[:, None]

        def codes(self, pictures):
            return torch.zeros(len(pictures), 8)

    known, place, felt = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, 5), torch.zeros(1, 0)
    optimiser = torch.optim.Adam(dynamics.parameters(), 0.01)
    off = []
    for _ in range(80):
        flow = dynamics.flow_from(place, known, felt[:, None], felt, (32, 32))
        _, amiss = registered(dynamics, Kept(), kept[:, None], flow, torch.zeros(1).long())
        off.append(amiss.item())
        optimiser.zero_grad()
        amiss.sum().backward()
        optimiser.step()
    assert off[-1] < 0.02 < 1 < off[0]
    assert abs(float(flow.place.detach().mean((0, 2, 3))[0] - 4 / 16)) < 0.05


@torch.no_grad()
def test_odometry_is_asked_where_two_frames_in_a_row_are_known():
    dynamics = seeded(lambda: Dynamics((1, 2), 2, **SMALL))
    for layer in (dynamics.odometry[-1], dynamics.expected[-1]):
        torch.nn.init.normal_(layer.weight)
    latent, action, task = torch.randn(2, 3, 4), torch.randn(2, 3, 2), torch.zeros(2).long()
    number = torch.zeros(2, 3, dtype=torch.int64)

    def places(known, last=None):
        shown = Shown(latent=latent, frames=number, known=known)
        begun = dynamics.nothing(2, number[0, 0])
        after = dynamics.remember(begun, shown, action, task, last).of_moment(-1)
        return dynamics._parts(after.numbers).points

    every, gap = torch.ones(2, 3, dtype=torch.bool), torch.tensor([[True, False, True]] * 2)
    torch.testing.assert_close(places(every), places(None))
    hidden = places(gap)
    latent[:, 1] = torch.randn(2, 4)
    torch.testing.assert_close(places(gap), hidden)


@torch.no_grad()
def test_what_odometry_finds_is_gone_by_and_is_what_is_to_be_expected():
    dynamics = seeded(lambda: Dynamics((1, 2), 2, **SMALL))
    torch.nn.init.normal_(dynamics.odometry[-1].weight)
    begun, task = dynamics.nothing(2, torch.zeros((), dtype=torch.int64)), torch.zeros(2).long()
    action, latent = torch.randn(2, 4, 2), torch.randn(2, 5, 4)
    gone = dynamics.go_on(begun, action, task, latent)
    acted = dynamics.last_acts(torch.zeros(2, 2, 2), action)
    found = dynamics.between(latent, acted)
    torch.testing.assert_close(gone.motions.found, found)
    assert (gone.motions.expected == 0).all()
    points, heading = begun.numbers[:, 16:24].view(2, 4, 2), torch.zeros(2, 0, 2)
    for motion in (dynamics.by_actions(acted)[..., :3] + found).unbind(1):
        points, _ = moved_by(points, heading, 0.2 * motion)
    where = dynamics._parts(gone.of_moment(-1).numbers).points[:, :4]
    torch.testing.assert_close(where, points)


SMALL = {
    "memory": 16, "points": 4, "directions": 1, "width": 32, "channels": 16, "inputs": 32,
    "kept": 3, "apart": 2, "recent": 3,
}  # fmt: skip


class Drawn(FrameEncoder):
    """Of frames that tell their own code by their number; a picture has a column for each number
    of the code."""

    def __init__(self, code):
        object.__setattr__(self, "code", code)

    def read(self, row):
        shades = ((self.code(row) + 2) / 4 * 255).round().to(torch.uint8)
        return shades[:, :, None, :, None].expand(-1, -1, 2, -1, 3)

    def codes(self, pictures):
        return pictures[:, 0, 0] * 2


ONE_CELL = {
    "cells": (1, 1), "cell_channels": 6, "action_size": 1, "memory": 32, "points": 2,
    "directions": 1, "recent": 2, "inputs": 32, "touch_width": 16, "width": 32, "channels": 16,
    "blocks": 1,
}  # fmt: skip


# A camera that turns

VIEWS = torch.arange(6) * (2 * np.pi / 6)


def views(heading):
    return 2 * (2 * (torch.cos(heading[..., None] - VIEWS) - 1)).exp() - 0.8


def turns(n, length, seed):
    """What is seen tells where a camera on the spot looks; an action turns it."""
    rng = torch.Generator().manual_seed(seed)
    turn = torch.rand(n, length, 1, generator=rng) * 2 - 1
    turn[:, 0] = 0
    begun = torch.rand(n, 1, generator=rng) * 2 * np.pi
    heading = begun + 0.5 * turn[..., 0].cumsum(1)
    row = (heading.remainder(2 * np.pi) * 1000).long()
    return SequenceBatch(
        latent=views(heading), action=turn, reward=views(heading)[..., 0], progress=None,
        terminated=torch.zeros(n, length, dtype=torch.bool),
        valid=torch.ones(n, length, dtype=torch.bool), task=torch.zeros(n, dtype=torch.int64),
        row=row,
    )  # fmt: skip


PANORAMA = Drawn(lambda row: views(row / 1000))


@dataclasses.dataclass(frozen=True)
class Turns:
    length: int = 20

    def batch(self, k):
        return turns(32, self.length, k), turns(16, self.length, 10**6)


def test_a_camera_that_turned_knows_where_it_looks(unchecked_types):
    """Long after its last look; to know nothing is to be off by the standard deviation."""
    sizes = {**ONE_CELL, "points": 4, "directions": 4, "width": 64}
    run = trainer(seeded(lambda: Worthy(sizes=sizes)), updates=300, ema=0.9, learning_rate=5e-3)
    loss = DynamicsLoss(Remembering(seen=4, ahead=16, noise=0.0), PANORAMA)
    off = [update.scores["error_15"] for update in run.train(Turns(), loss)]
    assert np.mean(off[-20:]) < 0.45 * float(turns(100, 20, 0).latent.std())


def test_a_motion_is_learned_from_what_one_frame_says_of_later_ones(unchecked_types):
    """And it is the camera's: how far it turned, in whatever unit."""
    sizes = {**ONE_CELL, "memory": 16, "points": 1, "inputs": 16, "channels": 64}
    run = trainer(seeded(lambda: Worthy(sizes=sizes)), updates=300, ema=0.9, learning_rate=5e-3)
    loss = WarpLoss(Remembering(noise=0.0), PANORAMA)
    off = [u.scores["error_1_to_5"] for u in run.train(Turns(), loss)]
    shown = turns(200, 8, 10**6)
    still = (shown.latent[:, 6] - shown.latent[:, 1]).square().mean().sqrt()
    assert np.mean(off[-20:]) < 0.5 * float(still)
    with torch.no_grad():
        seen_from, _ = travelled(run.average.dynamics, shown.latent, shown.action, 1)
    turned = torch.atan2(seen_from[:, 4, 4], seen_from[:, 4, 3])
    true = 0.5 * shown.action[:, 2:7, 0].sum(1)
    assert torch.corrcoef(torch.stack([turned, true]))[0, 1].abs() > 0.9


def test_short_sequences_are_warped_too():
    """Of as few frames as a log may have, where fewer actions are known than a motion is told."""
    run = trainer(seeded(lambda: Worthy(sizes={**ONE_CELL, "recent": 8})), updates=2)
    batches = Turns(length=4)
    scores = [
        u.scores["error_1_to_5"] for u in run.train(batches, WarpLoss(Remembering(), PANORAMA))
    ]
    assert np.isfinite(scores).all()


# A flag that is shown once


def flags(n, length, seed):
    """The first moment's number is told again by the last four; nothing between tells it."""
    rng = torch.Generator().manual_seed(seed)
    latent = 0.1 * torch.randn(n, length, 2, generator=rng)
    flag = torch.randint(0, 2, (n,), generator=rng).float() * 2 - 1
    latent[:, 0, 0] = flag
    latent[:, -4:, 0] = flag[:, None]
    return SequenceBatch(
        latent=latent, action=torch.zeros(n, length, 1), reward=latent[..., 0].clone(),
        progress=None, terminated=torch.zeros(n, length, dtype=torch.bool),
        valid=torch.ones(n, length, dtype=torch.bool), task=torch.zeros(n, dtype=torch.int64),
        row=latent[..., 0].round().long() + 1,
    )  # fmt: skip


RAISED = Drawn(lambda row: torch.stack([row - 1.0, torch.zeros(row.shape)], dim=-1))


@dataclasses.dataclass(frozen=True)
class Flags:
    length: int = 10

    def batch(self, k):
        return flags(32, self.length, k), flags(4, self.length, 10**6)


def trainer(model, **kwargs):
    settings = {"updates": 10, "batch_size": 4, "warmup": 2, "learning_rate": 3e-3, **kwargs}
    return Trainer(model, Optimisation(**settings), Accelerator(cpu=True))


def small():
    return seeded(lambda: Worthy(sizes={**ONE_CELL, "cell_channels": 2}))


HOW = Remembering(seen=8, ahead=8, noise=0.0)


@pytest.fixture(scope="module")
def remembering():
    run = trainer(small(), updates=320, ema=0.9, learning_rate=5e-3)
    list(run.train(Flags(), DynamicsLoss(HOW, RAISED)))
    return run.average.dynamics


@torch.no_grad()
def test_what_was_seen_once_is_recalled(remembering):
    """By its memory: where that is emptied in between, it guesses."""
    shown, n = flags(64, 10, 77), 64
    off, generator = [], torch.Generator().manual_seed(0)
    for first in (0, 2):
        told = Shown(latent=shown.latent[:, first:4], frames=shown.row[:, first:4])
        begun = remembering.nothing(n, shown.row[0, 0])
        seen = remembering.remember(begun, told, shown.action[:, first:4], shown.task)
        memory = seen.of_moment(-1)
        latent, _ = rolled_out(
            remembering, RAISED, memory, shown.action[:, 4:], shown.task, generator
        )
        off.append(float((latent[:, -1, 0] - shown.latent[:, -1, 0]).abs().mean()))
    assert off[0] < 0.4 < 0.7 < off[1]


def test_training_goes_on_as_if_it_had_not_stopped():
    whole = trainer(small())
    updates = list(whole.train(Flags(), DynamicsLoss(HOW, RAISED)))
    assert {"error_1", "loss_unseen", "loss_reward"} <= set(updates[-1].scores)
    first = trainer(small())
    begun = first.train(Flags(), DynamicsLoss(HOW, RAISED))
    for _ in range(4):
        next(begun)
    begun.close()
    second = trainer(small())
    second.load_state_dict(first.state_dict())
    list(second.train(Flags(), DynamicsLoss(HOW, RAISED)))
    for one, other in zip(
        whole.average.state_dict().values(), second.average.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_heads_learn_of_real_and_dreamt_moments_and_change_nothing_else(remembering):
    before = [value.clone() for value in remembering.state_dict().values()]
    shown = moments(remembering, RAISED, flags(3, 10, 0), 4, torch.Generator().manual_seed(0))
    assert shown.latent.shape == (3, 14, 2)
    assert shown.age.tolist() == [0] * 10 + [1, 2, 3, 4]
    assert (shown.at[10:] - shown.at[10] == torch.arange(4)).all()
    make = Heads(latent_size=2, context_size=remembering.context_size, width=32)
    run = trainer(make, updates=60, ema=0.9)
    scores = [u.scores for u in run.train(Flags(), JudgingLoss(remembering, RAISED, 4))]
    for name in ("reward_error", "uncertainty_error"):
        assert np.mean([s[name] for s in scores[-10:]]) < np.mean([s[name] for s in scores[:5]])
    assert all(map(torch.equal, before, remembering.state_dict().values()))
    assert all(parameter.grad is None for parameter in remembering.parameters())


def test_the_local_model_learns_and_its_features_tell_what_is_out_of_view(remembering):
    sizes = {"latent_size": 2, "action_size": 1, "memory": 16, "width": 32, "blocks": 1}
    told = {"sizes": {**sizes, "head_width": 32}, "context_size": remembering.context_size}
    model = seeded(lambda: Recalling(**told))
    model.follower.dynamics.change.fill_(0.3)
    run = trainer(model, updates=80, ema=0.9)
    scores = [u.scores for u in run.train(Flags(), FollowingLoss(Following(), remembering, RAISED))]
    for name in ("error", "loss_recall", "loss_reward"):
        assert np.mean([s[name] for s in scores[-10:]]) < np.mean([s[name] for s in scores[:5]])
    assert all(torch.isfinite(p).all() for p in run.average.parameters())


def test_the_surrogate_begins_as_the_local_model():
    _, local_model = seeded(lambda: memory_world.fresh(SHAPE, tasks=2))
    surrogate = local_model.surrogate(None)
    latent = torch.randn(4, local_model.embedding_size)
    features = local_model.begin(latent, torch.tensor([0, 1, 0, 1]))
    action = torch.rand(4, 3)
    expected = local_model.predict(features, action)
    assert torch.equal(surrogate.predict(features, action), expected)
    assert torch.equal(
        surrogate.reward_of(expected, action), local_model.reward_of(expected, action)
    )
    assert torch.equal(expected[:, -2:], features[:, -2:])  # the task stays what it is
    same = local_model.follow(features, action, local_model.follower.dynamics.parts(expected)[1])
    torch.testing.assert_close(same, expected)
    assert (local_model.away(features, features) == 0).all()


# Data


class Log:
    """As much of a dataset as sequences ask for."""

    def __init__(self, lengths):
        self.index = np.zeros(len(lengths), [("start", "i8"), ("length", "i8")])
        self.index["length"] = lengths
        self.index["start"] = np.cumsum([0, *lengths[:-1]])
        n = sum(lengths)
        self.action = np.arange(n, dtype=np.float32)[:, None]
        self.reward = np.arange(n, dtype=np.float32)
        self.terminated = np.zeros(n, bool)
        self.terminated[self.index["start"] + self.index["length"] - 2] = True
        self.progress = None
        self.task_index = np.zeros(n, np.int64)


def test_sequences_stay_within_episodes_and_say_where_these_end(unchecked_types):
    log = Log([5, 9])
    latents = np.arange(14, dtype=np.float32)[:, None]
    drawn = Sequences(dataset=log, latents=latents, length=7, batch_size=64, seed=0, tasks=1).batch(
        0
    )
    begins = drawn.latent[:, 0, 0].long()
    assert set(begins.tolist()) == {0, 5, 6, 7}
    assert (drawn.valid.sum(1) == torch.where(begins < 5, 5, 7)).all()
    assert (drawn.action[:, 0] == 0).all()
    assert (drawn.reward[:, 0] == 0).all()
    moved = drawn.valid[:, 1:]
    assert (drawn.action[:, 1:, 0] == drawn.latent[:, :-1, 0])[moved].all()
    assert drawn.terminated.any(1)[begins == 0].all()
    again = Sequences(dataset=log, latents=latents, length=7, batch_size=64, seed=0, tasks=1).batch(
        0
    )
    assert torch.equal(again.latent, drawn.latent)


def test_some_episodes_are_held_out(two_rings):
    learned, held = split(two_rings)
    assert len(held) == 1
    assert sorted([*learned.index["number"], *held.index["number"]]) == [*range(len(two_rings))]


def test_a_small_thing_weighs_as_much_as_a_large_one():
    frames = torch.zeros(2, 40, 40, 3, dtype=torch.uint8)
    frames[0, 10:14, 10:14] = frames[1, :20] = torch.tensor([230, 50, 25], dtype=torch.uint8)
    weight = rarity(frames, 0.5)[:, 0]
    torch.testing.assert_close(weight.mean((1, 2)), torch.ones(2))
    small, rest = weight[0, 12, 12], weight[0, 0, 0]
    torch.testing.assert_close(small / rest, torch.tensor(((40 * 40 - 16) / 16) ** 0.5))
    torch.testing.assert_close(weight[1], torch.ones(40, 40))
    torch.testing.assert_close(rarity(frames, 0.0), torch.ones(2, 1, 40, 40))


@pytest.fixture(scope="module")
def two_rings(tmp_path_factory):
    from wm_gym.data import Dataset
    from wm_gym.data.collect import Recipe, collect_episodes

    folder = tmp_path_factory.mktemp("rings") / "data"
    recipe = Recipe(env_id="two_tasks:Real-TwoRings-v0", episodes=5, steps=8)
    assert len(list(collect_episodes(recipe, folder, workers=1))) == 5
    return Dataset.open(folder)


# On disk


def test_what_was_rounded_takes_half_the_space_and_is_the_same(tmp_path):
    both = seeded(lambda: memory_world.fresh(SHAPE, prefill=K))
    frames = prefill(n=1, k=1).frames[0].numpy()
    starts = Starts.pack([Start(frames=frames, action=np.zeros((0, 3), np.float32))])
    sizes = []
    for name in ("whole", "half"):
        model = WorldModel(*both, card=Card(system="Dot"), starts=starts).eval()
        model.requires_grad_(False)
        model.save_pretrained(tmp_path / name)
        parts = [tmp_path / name / file for file in MEMORY.files.values()]
        sizes.append(sum(part.stat().st_size for part in parts))
        again = WorldModel.from_pretrained(tmp_path / name)
        for one, other in zip(
            model.state_dict().values(), again.state_dict().values(), strict=True
        ):
            assert torch.equal(one, other)
        for part in MEMORY.parts_of(*both).values():
            halved(part)
    assert sizes[1] < 0.6 * sizes[0]
    assert again.global_model.tokenizer is again.local_model.tokenizer
    assert float(half_of(torch.tensor([1e9]))) == 65504


def test_a_world_without_proprioception_is_checked_as_any_other(tmp_path):
    both = seeded(lambda: memory_world.fresh((48, 64, 3), prefill=K, proprio_size=0))
    model = WorldModel(*both, card=Card(system="Dot"))
    model.save_pretrained(tmp_path / "it")
    file = tmp_path / "it" / "config.json"
    text = file.read_text()
    assert '"proprio_size": 0' in text
    file.write_text(text.replace('"proprio_size": 0', '"proprio_size": -1'))
    with pytest.raises(ValueError, match="proprio_size is -1, expected 0 to 4096"):
        WorldModel.from_pretrained(tmp_path / "it")


def test_it_is_profiled_and_counted():
    both = seeded(lambda: MEMORY.fresh((48, 64, 3), 3, 4, True))
    assert {word for *_, word in MEMORY.timed(*both)} >= {"denoiser", "heads", "painter"}
    assert all(count > 0 for count in MEMORY.flops(*both).values())


def test_a_whole_model_is_of_the_size_that_it_should_be():
    with torch.device("meta"):
        both = MEMORY.fresh((96, 96, 3), 3, 32, False)
    parts = MEMORY.parts_of(*both)
    many = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    assert many["tokenizer"] < 2e6
    assert 2 * sum(many.values()) < 13.8e6  # bytes, in half precision


def test_parts_that_disagree_are_refused():
    parts = MEMORY.parts_of(*seeded(lambda: memory_world.fresh(SHAPE)))
    for name, wrong in {
        "heads": Heads(latent_size=24, context_size=48),
        "local_model": Follower(latent_size=15, action_size=3),
        "dynamics": Dynamics(cells=(3, 2), cell_channels=4, action_size=3),
    }.items():
        with pytest.raises(ValueError, match="parts disagree"):
            MEMORY.assembled({**parts, name: wrong})


def test_a_dream_of_dot_begins_from_one_frame_as_from_many():
    both = seeded(lambda: memory_world.fresh((48, 64, 3), prefill=4, ends=False))
    rng = np.random.default_rng(0)
    starts = Starts.pack(
        [
            Start(
                frames=rng.integers(0, 256, (k, 48, 64, 3), dtype=np.uint8),
                action=np.zeros((k - 1, 3), np.float32),
            )
            for k in (1, 4, 2)
        ]
    )
    model = WorldModel(*both, card=Card(system="Dot"), starts=starts).eval().requires_grad_(False)
    env = gym.make_vec("WM-v0", num_envs=4, world_model=model, horizon=3)
    for seed in range(2):
        obs, _ = env.reset(seed=seed)
        assert obs.shape == (4, 48, 64, 3)
        obs, reward, *_, info = env.step(env.action_space.sample() * 0)
        assert np.isfinite(reward).all()
        assert (info["uncertainty"] > 0).all()
    env.close()
