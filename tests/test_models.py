"""The global model, and that training it learns, resumes and stays within its seeds."""

import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from wm_gym.data import Dataset
from wm_gym.data.collect import Recipe, collect_episodes
from wm_gym.models.actions import BINS, ENCODINGS, two_hot
from wm_gym.models.global_model import GlobalModel
from wm_gym.training.checkpoint import load_checkpoint, save_checkpoint
from wm_gym.training.global_model import GlobalTrainer, GlobalTraining

TINY = {
    "frame_shape": (48, 64, 3),
    "action_size": 3,
    "context": 2,
    "patch": 8,
    "channels": (16, 32),
}


def tiny(seed=0, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GlobalModel(**{**TINY, **changes})


def inputs(b=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(b, 3, 48, 64, generator=g),
        torch.full((b,), 5.0),
        torch.rand(b, 2, 3, 48, 64, generator=g) * 2 - 1,
        torch.rand(b, 2, 3, generator=g) * 2 - 1,
        torch.zeros(b),
    )


def test_two_hot_weights_the_two_bins_around_a_value():
    weights = two_hot(torch.tensor([[0.0, 1.0, -0.97]])).view(3, BINS)
    expected = torch.eye(BINS)[[10, 20, 0]]
    expected[2, :2] = torch.tensor([0.7, 0.3])
    torch.testing.assert_close(weights, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ENCODINGS)
def test_encodings_lose_nothing_and_are_differentiable(name):
    encode, numbers = ENCODINGS[name]
    action = torch.linspace(-0.99, 0.99, 44, dtype=torch.float64).view(11, 4).requires_grad_()
    code = encode(action)
    assert code.shape == (11, 4 * numbers)
    bins = torch.linspace(-1, 1, numbers, dtype=torch.float64) if numbers > 1 else torch.ones(1)
    torch.testing.assert_close((code.view(11, 4, numbers) * bins).sum(-1), action)
    assert torch.autograd.gradcheck(encode, (action,))
    (gradient,) = torch.autograd.grad(code.square().sum(), action)
    assert (gradient != 0).all()


def test_it_can_copy_and_it_can_paint():
    """A head at zero but for the copy's bias gives the last frame, or none of it."""
    model, (noisy, sigma, frames, action, blur) = tiny(), inputs()
    for weight in model.unet.conv_out.parameters():
        torch.nn.init.zeros_(weight)
    copy = model.unet.conv_out.bias.data[3 * 64 :]
    copy.fill_(50.0)
    torch.testing.assert_close(model(noisy, sigma, frames, action, blur), frames[:, -1])
    copy.fill_(-50.0)
    painted = model(noisy, sigma, frames, action, blur)
    torch.testing.assert_close(painted, noisy * 0.25 / (25 + 0.25))


def test_the_action_matters_and_every_part_has_a_gradient():
    model, (noisy, sigma, frames, action, blur) = tiny(), inputs()
    action.requires_grad_()
    model(noisy, sigma, frames, action, blur).square().mean().backward()
    assert (action.grad.abs().sum((1, 2)) > 0).all()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_it_round_trips_through_a_folder(tmp_path):
    model = tiny(action_encoding="linear")
    model.save_pretrained(tmp_path)
    again = GlobalModel.from_pretrained(tmp_path)
    torch.testing.assert_close(again(*inputs()), model.eval()(*inputs()), rtol=0, atol=0)
    assert again.config.action_encoding == "linear"


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="divisor"):
        tiny(patch=7)
    with pytest.raises(ValueError, match="one-cold"):
        tiny(action_encoding="one-cold")
    with pytest.raises(ValueError, match="rollout is 0"):
        GlobalTraining(rollout=0)


@pytest.fixture(scope="module")
def dots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dots")
    recipe = Recipe(env_id="Real-Dot-v0", episodes=12, steps=20)
    assert len(list(collect_episodes(recipe, folder, workers=2))) == 12
    return Dataset.open(folder)


def trainer(**settings):
    config = GlobalTraining(batch_size=8, warmup=5, decay=1, learning_rate=2e-3, **settings)
    return GlobalTrainer(tiny(), config, Accelerator(cpu=True))


def weights(trained):
    return torch.cat([p.detach().flatten() for p in trained.average.parameters()])


def test_training_learns(dots):
    updates = list(trainer(updates=150).train(dots))
    first, last = (np.mean([u.loss for u in part]) for part in (updates[:10], updates[-10:]))
    assert last < 0.5 * first
    assert updates[-1].step == 150
    assert all(math.isfinite(u.gradient_norm) for u in updates)


@pytest.mark.parametrize("rollout", [1, 3])
def test_a_resumed_run_follows_the_same_trajectory(dots, tmp_path, rollout):
    whole = trainer(updates=6, rollout=rollout)
    losses = [update.loss for update in whole.train(dots)]
    begun = trainer(updates=6, rollout=rollout)
    for update in begun.train(dots):
        if update.step == 3:
            break
    save_checkpoint(tmp_path / "state.pt", begun.state_dict())
    resumed = trainer(updates=6, rollout=rollout)
    resumed.load_state_dict(load_checkpoint(tmp_path / "state.pt"))
    assert [update.loss for update in resumed.train(dots)] == losses[3:]
    assert torch.equal(weights(resumed), weights(whole))


def test_training_leaves_the_global_generators_alone(dots):
    run = trainer(updates=3)
    before = torch.get_rng_state()
    list(run.train(dots))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    save_checkpoint(path, {"step": 3})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"state\.pt is damaged"):
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.pt")
