"""The local model learns to see, to filter, to expect, and what other actions would have done."""

import numpy as np
import pytest
import torch
from test_models import autoencoder, seeded
from test_training import CONTEXT, denoiser, dots, frames_of, latents, trainer, windows_of
from torch.distributions import Normal, kl_divergence

from wm_gym.models.local_model import Belief, LocalModel
from wm_gym.training.eye import SeeingLoss, SeenWindows
from wm_gym.training.global_model import DenoisingLoss, Dreaming, Scales
from wm_gym.training.latents import LatentWindows
from wm_gym.training.local_model import (
    Filtering,
    FilteringLoss,
    FilterWindows,
    choose_logged,
    divergence,
    what_ifs,
)

__all__ = ["dots", "latents"]  # fixtures

LENGTH = 6


def local_model(dataset, scales):
    height, width, colours = dataset.spec.picture
    return seeded(
        lambda: LocalModel(
            frame_shape=(height, width, colours), action_size=dataset.spec.action_size,
            patch=4, keypoints=3, channels=16,
            memory=8, width=64, blocks=1, head_width=32, scale=scales.latent,
            change_scale=scales.change, reward_mean=float(dataset.reward.mean()),
            reward_scale=float(dataset.reward.std()),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def dreamer(dots, latents):
    run = trainer(denoiser(dots, latents), updates=300, ema=0.9)
    list(run.train(windows_of(dots, latents), DenoisingLoss(Dreaming())))
    return run.average


@pytest.fixture(scope="module")
def run(dots, latents, dreamer):
    """Of a local model that is shown the truth: its embedding is the latent."""
    run = trainer(local_model(dots, Scales.of(dots, latents)), updates=400, ema=0.9)
    batches = filter_windows(dots, latents, batch_size=16)
    run.updates = list(run.train(batches, FilteringLoss(Filtering(), dreamer)))
    return run


def filter_windows(dataset, latents, *, batch_size):
    windows = windows_of(dataset, latents, LENGTH, batch_size).windows
    logged = LatentWindows(windows=windows, latents=latents)
    return FilterWindows(logged=logged, embedding=latents)


def test_the_eye_learns_to_point_where_the_autoencoder_does(dots, latents):
    run = trainer(local_model(dots, Scales.of(dots, latents)), updates=300)
    batches = SeenWindows(windows=frames_of(dots), latents=latents)
    updates = list(run.train(batches, SeeingLoss(autoencoder(keypoints=3))))
    first, last = (
        np.mean([u.scores["off"] for u in part]) for part in (updates[:10], updates[-10:])
    )
    assert last < 0.5 * first


def test_the_eye_also_learns_from_painted_frames(dots, latents):
    painter, seen = autoencoder(keypoints=3), []
    painter.decode = lambda z: seen.append(len(z)) or torch.zeros(len(z), *frame_shape(dots))
    run = trainer(local_model(dots, Scales.of(dots, latents)), updates=1)
    list(run.train(SeenWindows(windows=frames_of(dots), latents=latents), SeeingLoss(painter)))
    assert seen == [2]  # a quarter of eight


def frame_shape(dataset):
    height, width, colours = dataset.spec.picture
    return colours, height, width


def test_the_local_model_learns_all_that_it_tells(run):
    first, last = (
        {name: np.mean([u.scores[name] for u in part]) for name in part[0].scores}
        for part in (run.updates[:10], run.updates[-10:])
    )
    for name in ("prior_error", "reward_error", "coverage_error", "what_if_error"):
        assert last[name] < 0.5 * first[name], name
    assert last["prior_error"] < 0.4  # of the change between frames
    assert last["reconstruction_error"] < 0.2


def test_its_prior_foresees_what_the_global_model_says_of_other_actions(
    run, dots, latents, dreamer
):
    batch = filter_windows(dots, latents, batch_size=64).batch(1000)
    model, logged = run.average, batch.logged
    belief = model.begin(batch.embedding[:, 0])
    for t in range(CONTEXT - 1):
        belief = model.infer(
            model.predict(belief.features, logged.action[:, t]), batch.embedding[:, t + 1]
        )
    context, taken = logged.latents[:, :CONTEXT], logged.action[:, :CONTEXT]
    other = -taken[:, -1]
    truth = what_ifs(dreamer, context, taken, other, torch.Generator().manual_seed(0))
    there, here = (model.predict(belief.features, a).mean for a in (other, taken[:, -1]))
    assert (there - here - truth).square().mean() < 0.2 * truth.square().mean()


def test_what_ifs_are_the_dream_s_own_differences(dreamer):
    generator = torch.Generator().manual_seed(0)
    context = torch.rand(4, CONTEXT, 6, generator=generator)
    action = torch.rand(4, CONTEXT, 3, generator=generator)
    other = torch.rand(4, 3, generator=generator)
    found = what_ifs(dreamer, context, action, other, torch.Generator().manual_seed(1))
    noise = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    sigmas = torch.tensor([dreamer.config.sigma_max, 0.0])
    instead = torch.cat([action[:, :-1], other[:, None]], dim=1)
    there, here = (dreamer.next_latent(context, a, noise, sigmas) for a in (instead, action))
    torch.testing.assert_close(found, there - here)
    same = what_ifs(dreamer, context, action, action[:, -1], torch.Generator().manual_seed(1))
    assert same.abs().max() == 0


def test_the_divergence_is_that_of_torch():
    draw = torch.Generator().manual_seed(0)
    mean, wide = torch.randn(2, 5, 3, generator=draw), torch.rand(2, 5, 3, generator=draw) + 0.1
    q, p = (
        Belief(mean=m, deviation=w, memory=torch.zeros(5, 1))
        for m, w in zip(mean, wide, strict=True)
    )
    expected = kl_divergence(Normal(mean[0], wide[0]), Normal(mean[1], wide[1])).mean()
    torch.testing.assert_close(divergence([q], [p]), expected)


def test_the_eye_is_left_alone_while_the_filter_learns(dots, latents, dreamer):
    model = local_model(dots, Scales.of(dots, latents))
    model.eye.requires_grad_(False)
    before = {name: value.clone() for name, value in model.eye.state_dict().items()}
    run = trainer(model, updates=3)
    list(
        run.train(filter_windows(dots, latents, batch_size=4), FilteringLoss(Filtering(), dreamer))
    )
    assert all(
        torch.equal(value, before[name]) for name, value in run.average.eye.state_dict().items()
    )


def test_logged_windows_are_of_single_episodes(dots, latents):
    logged = choose_logged(dots, latents, count=7, length=5, seed=0)
    rows = window_rows(dots)
    for embedding, action, reward in zip(
        logged.embedding, logged.action, logged.reward, strict=True
    ):
        first = int(np.flatnonzero((latents == embedding[0].numpy()).all(1))[0])
        assert first in rows
        np.testing.assert_array_equal(latents[first : first + 5], embedding.numpy())
        np.testing.assert_array_equal(dots.action[first : first + 4], action.numpy())
        np.testing.assert_array_equal(dots.reward[first : first + 4], reward.numpy())


def window_rows(dataset):
    """Where a window of five can begin."""
    return {int(e["start"]) + i for e in dataset.index for i in range(int(e["length"]) - 4)}
