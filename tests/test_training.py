"""Training learns, resumes to the same weights, stays within its seeds, and runs on many."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from test_models import autoencoder, global_model, seeded

from wm_gym.data import Dataset, Windows
from wm_gym.data.collect import Recipe, collect_episodes
from wm_gym.models.colours import to_colour, to_unit
from wm_gym.models.keypoints.heads import Heads
from wm_gym.models.protocol import ModelSpec
from wm_gym.programs.train_run import _save as save_part
from wm_gym.training.checkpoint import load_checkpoint, save_checkpoint
from wm_gym.training.encoding import encode_dataset
from wm_gym.training.keypoints.autoencoder import ReconstructionLoss, median_frame
from wm_gym.training.keypoints.denoiser import DenoisingLoss, Dreaming, Scales, astray
from wm_gym.training.keypoints.film import filmstrip
from wm_gym.training.keypoints.heads import JudgingLoss
from wm_gym.training.keypoints.latents import LatentWindows
from wm_gym.training.starts import choose_starts
from wm_gym.training.trainer import Optimisation, Trainer

CONTEXT = 2


@pytest.fixture(scope="module")
def dots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dots")
    recipe = Recipe(env_id="Real-Dot-v0", episodes=12, steps=20)
    assert len(list(collect_episodes(recipe, folder, workers=2))) == 12
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def latents(dots):
    """A latent of which everything is known: the true position, three times."""
    position = dots.fact("state")[:, :2] / 32 - 1
    return np.concatenate([position] * 3, axis=1).astype(np.float32)


def optimisation(**settings):
    return Optimisation(**{"batch_size": 8, "warmup": 5, "learning_rate": 2e-3, **settings})


def trainer(model, **settings):
    return Trainer(model, optimisation(**settings), Accelerator(cpu=True))


def frames_of(dataset, batch_size=8):
    return Windows(dataset, length=1, batch_size=batch_size, seed=0)


def windows_of(dataset, latents, length=CONTEXT + 1, batch_size=32):
    windows = Windows(dataset, length=length, batch_size=batch_size, seed=0)
    return LatentWindows(windows=windows, latents=latents)


def denoiser(dataset, latents, **sizes):
    scales = Scales.of(dataset, latents)
    sizes = {"width": 64, **sizes}
    model = global_model(latent_scale=scales.latent, change_scale=scales.change, **sizes)
    torch.nn.init.zeros_(model.out.weight)  # as it begins
    return model


def weights(trained):
    return torch.cat([p.detach().flatten() for p in trained.average.parameters()])


def test_the_autoencoder_learns_to_paint(dots):
    model, background = autoencoder(), to_unit(torch.from_numpy(median_frame(dots)))
    model.set_background(background)
    run = trainer(model, updates=150)
    updates = list(run.train(frames_of(dots), ReconstructionLoss(background)))
    first, last = (np.mean([u.loss for u in part]) for part in (updates[:10], updates[-10:]))
    assert last < 0.5 * first
    assert updates[-1].step == 150
    assert all(math.isfinite(u.gradient_norm) for u in updates)
    assert updates[-1].scores["psnr"] > updates[0].scores["psnr"]


def test_the_median_frame_shows_what_never_moves(dots):
    middle = median_frame(dots)
    frames = dots.frames(np.arange(0, dots.num_frames, 7))
    still = (frames == frames[0]).all((0, 3))
    assert still.any()
    np.testing.assert_array_equal(middle[still], frames[0][still])


@pytest.mark.parametrize("rollout", [1, 3])
def test_the_global_model_learns_the_next_latent(dots, latents, rollout):
    run = trainer(denoiser(dots, latents), updates=300, ema=0.9)
    batches = windows_of(dots, latents, CONTEXT + rollout)
    updates = list(run.train(batches, DenoisingLoss(Dreaming(), rollout=rollout)))
    first, last = (np.mean([u.scores["error"] for u in p]) for p in (updates[:10], updates[-10:]))
    assert first > 0.8  # of the change between frames
    assert last < 0.4


def test_how_far_dreams_go_astray_is_in_units_of_a_step_s_change(dots, latents):
    model, batch = denoiser(dots, latents), windows_of(dots, latents, CONTEXT + 4).batch(0)
    still = astray(model, batch, torch.Generator().manual_seed(0))  # as it begins, all stands still
    off = batch.latents[:, CONTEXT:] - batch.latents[:, CONTEXT - 1 : CONTEXT]
    expected = off.square().mean(2).sqrt().mean(1).median() / model.config.change_scale
    assert still == pytest.approx(float(expected), rel=0.1)
    run = trainer(model, updates=300, ema=0.9)
    list(run.train(windows_of(dots, latents), DenoisingLoss(Dreaming())))
    assert astray(run.average, batch, torch.Generator().manual_seed(0)) < 0.5 * still


def test_heads_learn_reward_coverage_and_how_far_a_step_is_off(dots, latents):
    dreamer = denoiser(dots, latents)
    rewards = torch.from_numpy(dots.reward)
    mean, spread = float(rewards.mean()), float(rewards.std())
    heads = seeded(
        lambda: Heads(
            latent_size=6, action_size=3, width=64, latent_scale=dreamer.config.latent_scale,
            change_scale=dreamer.config.change_scale, reward_mean=mean, reward_scale=spread,
        )
    )  # fmt: skip
    run = trainer(heads, updates=400, ema=0.9)
    updates = list(run.train(windows_of(dots, latents), JudgingLoss(dreamer)))
    assert updates[-1].scores["reward_error"] < 0.2 * spread
    assert updates[-1].scores["coverage_error"] < 0.1
    batch = windows_of(dots, latents, batch_size=256).batch(0)
    noise = torch.randn(256, 6, generator=torch.Generator().manual_seed(0))
    sigmas = torch.tensor([5.0, 0.0])
    dreamt = dreamer.next_latent(batch.latents[:, :2], batch.action[:, :2], noise, sigmas)
    judged = run.average.judge(batch.latents[:, 1], batch.action[:, 1], dreamt)
    true = (dreamt - batch.latents[:, 2]).square().mean(1).sqrt()
    assert 0.7 < judged.error.square().mean().sqrt() / true.square().mean().sqrt() < 1.4


def test_the_scales_are_those_of_latents_and_their_changes(dots, latents):
    scales = Scales.of(dots, latents)
    changes = [np.diff(latents[e["start"] : e["start"] + e["length"]], axis=0) for e in dots.index]
    assert scales.change == pytest.approx(np.sqrt(np.mean(np.concatenate(changes) ** 2)), rel=1e-5)
    assert scales.latent == pytest.approx(latents.std(0).max(), rel=0.05)


def test_a_dataset_is_encoded_row_by_row(dots):
    model, counted = autoencoder().eval(), []
    encoded = encode_dataset(
        lambda frames, _: model.encode(to_unit(frames)), dots, model.device, counted.append
    )
    assert sum(counted) == dots.num_frames == len(encoded)
    row = int(dots.index["start"][3]) + 4
    alone = model.encode(to_unit(torch.from_numpy(dots.frames([row]))))
    torch.testing.assert_close(torch.from_numpy(encoded[[row]]), alone.detach())


def resumable(dots, latents, part):
    """(a fresh trainer, its batches, its loss) of one part."""
    if part == "autoencoder":
        background = to_unit(torch.from_numpy(median_frame(dots)))
        model = autoencoder()
        return trainer(model, updates=6), frames_of(dots), ReconstructionLoss(background)
    if part == "heads":
        heads = seeded(lambda: Heads(latent_size=6, action_size=3, width=16))
        loss = JudgingLoss(denoiser(dots, latents))
        return trainer(heads, updates=6), windows_of(dots, latents), loss
    rollout = int(part[-1])
    loss = DenoisingLoss(Dreaming(), rollout=rollout)
    batches = windows_of(dots, latents, CONTEXT + rollout)
    return trainer(denoiser(dots, latents), updates=6), batches, loss


@pytest.mark.parametrize("part", ["autoencoder", "rollout 1", "rollout 3", "heads"])
def test_a_resumed_run_follows_the_same_trajectory(dots, latents, tmp_path, part):
    whole, batches, loss = resumable(dots, latents, part)
    losses = [update.loss for update in whole.train(batches, loss)]
    begun, batches, loss = resumable(dots, latents, part)
    for update in begun.train(batches, loss):
        if update.step == 3:
            break
    save_checkpoint(tmp_path / "state.pt", begun.state_dict())
    resumed, batches, loss = resumable(dots, latents, part)
    resumed.load_state_dict(load_checkpoint(tmp_path / "state.pt"))
    assert [update.loss for update in resumed.train(batches, loss)] == losses[3:]
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.slow
def test_processes_train_one_model_whatever_a_loss_calls_of_it():
    """Where a loss did not call the whole model, each process trained its own."""
    program = Path(__file__).with_name("two_processes.py")
    done = subprocess.run([sys.executable, program], check=True, capture_output=True, text=True)
    one, other = map(float, done.stdout.split())
    assert one == other


def test_training_leaves_the_global_generators_alone(dots, latents):
    for part in ("autoencoder", "rollout 3", "heads"):
        run, batches, loss = resumable(dots, latents, part)
        before = torch.get_rng_state()
        list(run.train(batches, loss))
        assert torch.equal(torch.get_rng_state(), before)


def spec(dataset, prefill):
    return ModelSpec(
        frame_shape=dataset.spec.picture, action_size=dataset.spec.action_size, noise_shape=(6,),
        prefill=prefill,
    )  # fmt: skip


def test_starts_are_whole_windows_and_first_frames(dots):
    starts = choose_starts(dots, spec(dots, prefill=4), count=20, seed=0)
    lengths = [len(starts[i].frames) for i in range(20)]
    assert sorted(set(lengths)) == [1, 4]
    assert lengths.count(1) == 10
    firsts = dots.frames(dots.index["start"])
    for i in np.flatnonzero(np.array(lengths) == 1):
        assert (starts[int(i)].frames[0] == firsts).all((1, 2, 3)).any()
    assert starts[lengths.index(4)].action.shape == (3, 3)


def test_a_film_begins_with_the_real_frame_and_its_painting(dots):
    painter, model = autoencoder().eval(), global_model(latent_size=6)
    batch = Windows(dots, length=CONTEXT + 3, batch_size=2, seed=0).batch(0)
    film = filmstrip(painter, model, batch, shown=(0, 1, 3))
    assert film.shape == (2 * 2 * 48, 3 * 64, 3)
    real = torch.from_numpy(batch.frames[1])
    np.testing.assert_array_equal(film[:48, :64], real[0])
    painted = to_colour(painter(to_unit(real))).detach()
    np.testing.assert_allclose(film[48:96, :64].astype(int), painted[0].int(), atol=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_pictures_are_saved_too(dots, tmp_path, channels):
    """Pillow refuses (h, w, 1): no training on grey frames got beyond its first save."""
    run = trainer(autoencoder(), updates=1)
    background = to_unit(torch.from_numpy(median_frame(dots)))
    updates = list(run.train(frames_of(dots), ReconstructionLoss(background)))
    shown = np.arange(8 * 6 * channels, dtype=np.uint8).reshape(8, 6, channels)
    save_part(tmp_path, run, updates, lambda model: shown)
    saved = np.asarray(Image.open(tmp_path / "picture.png"))
    np.testing.assert_array_equal(saved, np.broadcast_to(shown, (8, 6, 3)))


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    save_checkpoint(path, {"step": 3})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"state\.pt is damaged"):
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.pt")


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="rollout is 0"):
        DenoisingLoss(Dreaming(), rollout=0)
    with pytest.raises(ValueError, match="updates is 0"):
        Optimisation(updates=0)
    with pytest.raises(ValueError, match="ema is 1"):
        Optimisation(ema=1.0)
