"""The parts of a world model, each against what can be known of it without training."""

from statistics import NormalDist

import numpy as np
import pytest
import torch

from wm_gym.models.actions import BINS, ENCODINGS, two_hot
from wm_gym.models.edm import karras_sigmas
from wm_gym.models.keypoints.autoencoder import Autoencoder
from wm_gym.models.keypoints.denoiser import Denoiser
from wm_gym.models.keypoints.heads import Heads
from wm_gym.models.noise import normal_noise

TINY = {"latent_size": 6, "action_size": 3, "context": 2, "width": 16, "blocks": 1}


def seeded(make, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def global_model(**changes):
    model = seeded(lambda: Denoiser(**{**TINY, **changes}))
    with torch.no_grad():
        model.out.weight.copy_(torch.linspace(-1, 1, model.out.weight.numel()).view(6, -1))
    return model


def autoencoder(**changes):
    settings = {"frame_shape": (48, 64, 3), "patch": 8, "keypoints": 3, "channels": 16}
    return seeded(lambda: Autoencoder(**{**settings, **changes}))


def inputs(b=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(b, 6, generator=g),
        torch.full((b,), 5.0),
        torch.rand(b, 2, 6, generator=g) * 2 - 1,
        torch.rand(b, 2, 3, generator=g) * 2 - 1,
        torch.zeros(b),
    )


# Actions


def test_two_hot_weights_the_two_bins_around_a_value():
    weights = two_hot(torch.tensor([[0.0, 1.0, -0.97]])).view(3, BINS)
    expected = torch.eye(BINS)[[10, 20, 0]]
    expected[2, :2] = torch.tensor([0.7, 0.3])
    torch.testing.assert_close(weights, expected, atol=1e-6, rtol=0)


def test_at_a_bin_two_hot_has_the_mean_of_the_slopes_on_both_sides():
    still = torch.zeros(1)
    slope = torch.autograd.functional.jacobian(two_hot, still)[:, 0]
    right, left = two_hot(still + 0.05), two_hot(still - 0.05)
    torch.testing.assert_close(slope, (right - left) / 0.1, atol=1e-4, rtol=0)


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


# The autoencoder


def test_a_keypoint_is_where_the_softmax_points():
    """A network that is sure of one cell says that cell's centre and its offset, (x, y)."""
    model = autoencoder(keypoints=1)

    def points_at_row_2_column_5(cells):
        out = torch.zeros(len(cells), 3, 6, 8)
        out[:, 0, 2, 5] = 50.0
        out[:, 1], out[:, 2] = 0.25, -0.5  # of a cell to the right, up
        return out

    model.encoder.forward = points_at_row_2_column_5
    x, y = ((5 + 0.5 + 0.25) / 8 * 2 - 1, (2 + 0.5 - 0.5) / 6 * 2 - 1)
    latent = model.encode(torch.zeros(2, 3, 48, 64))
    torch.testing.assert_close(latent, torch.tensor([[x, y]] * 2))


def test_the_painter_is_told_the_way_to_each_keypoint():
    model, told = autoencoder(keypoints=1), []
    model.painter.forward = lambda cells: told.append(cells) or torch.zeros(1, 192, 6, 8)
    at = model.place[0, :, 2, 5]  # right on a cell's centre
    model.decode(at[None])
    bump, way_x, way_y = told[0][0, :3]
    assert bump.max() == bump[2, 5] == 1
    assert way_x[2, 5] == way_y[2, 5] == 0
    assert way_x[2, 6] > 0 > way_x[2, 4]
    assert way_y[3, 5] > 0 > way_y[1, 5]
    torch.testing.assert_close(bump[2, 6], torch.tensor(np.exp(-1 / 1.5**2 / 2)).float())


def test_an_untrained_painter_paints_the_background():
    model = autoencoder()
    frame = torch.rand(3, 48, 64)
    model.set_background(frame)
    torch.nn.init.zeros_(model.painter.out.weight)
    torch.nn.init.zeros_(model.painter.out.bias)
    torch.testing.assert_close(model(torch.rand(2, 3, 48, 64)), frame.expand(2, -1, -1, -1))


@pytest.mark.parametrize(("frame_shape", "patch"), [((48, 64, 3), 8), ((30, 42, 1), 6)])
def test_frames_of_any_size_come_back_in_shape(frame_shape, patch):
    model = autoencoder(frame_shape=frame_shape, patch=patch)
    height, width, colours = frame_shape
    frames = torch.rand(2, colours, height, width)
    assert model.encode(frames).shape == (2, model.latent_size) == (2, 6)
    assert model(frames).shape == frames.shape


def test_all_of_the_autoencoder_has_a_gradient():
    model = autoencoder()
    for module in model.modules():  # residual branches begin at zero, which hides what is before
        if isinstance(module, torch.nn.Conv2d) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.1)
    model(torch.rand(4, 3, 48, 64)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


# The global model


def test_the_action_matters_and_every_part_has_a_gradient():
    model, (noisy, sigma, latents, action, blur) = global_model(), inputs()
    action.requires_grad_()
    model(noisy, sigma, latents, action, blur).square().mean().backward()
    assert (action.grad.abs().sum((1, 2)) > 0).all()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_model_that_says_zero_is_the_exact_denoiser_of_nothing_known():
    """F = 0 leaves c_skip x, the posterior mean of unit normal data under noise σ: x / (1 + σ²)."""
    model, (noisy, sigma, *rest) = global_model(), inputs()
    for parameter in model.out.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(model(noisy, sigma, *rest), noisy / 26)


def test_the_next_latent_is_the_last_one_and_the_scaled_change():
    model, (noise, _, latents, action, _) = global_model(change_scale=0.01), inputs()
    sigmas = karras_sigmas(1, sigma_min=1.0, sigma_max=5.0)
    change = model(5 * noise, torch.full((3,), 5.0), latents, action, torch.zeros(3))
    came = model.next_latent(latents, action, noise, sigmas)
    torch.testing.assert_close(came, latents[:, -1] + 0.01 * change)


def test_a_sampled_step_is_differentiable_in_context_and_action():
    model, (noise, _, latents, action, _) = global_model().double(), inputs()
    sigmas = karras_sigmas(2, sigma_min=0.1, sigma_max=5.0).double()
    action = action.clamp(-0.93, 0.93)  # away from the kinks of two-hot

    def step(latents, action):
        return model.next_latent(latents, action, noise.double(), sigmas)

    arguments = [x.double().requires_grad_() for x in (latents, action)]
    assert torch.autograd.gradcheck(step, arguments, eps=1e-7, atol=1e-5)
    for gradient in torch.autograd.grad(step(*arguments).square().sum(), arguments):
        assert (gradient != 0).any()


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="divisor"):
        autoencoder(patch=7)
    with pytest.raises(ValueError, match="one-cold"):
        global_model(action_encoding="one-cold")


# Heads


def test_heads_judge_in_the_units_of_the_task():
    heads = seeded(lambda: Heads(latent_size=6, action_size=3, reward_mean=-0.5, reward_scale=0.2))
    latents, action = torch.rand(2, 4, 6), torch.rand(4, 3)
    raw = heads(latents[0], action, latents[1])
    judged = heads.judge(latents[0], action, latents[1])
    torch.testing.assert_close(judged.reward, -0.5 + 0.2 * raw[:, 0])
    torch.testing.assert_close(judged.coverage, raw[:, 1].clamp(0, 1))
    torch.testing.assert_close(judged.coverage, heads.coverage_of(latents[1]))
    torch.testing.assert_close(judged.error, 0.03 * raw[:, 2].exp())
    for network in (heads.coverage, heads.error):
        torch.nn.init.constant_(network[-1].bias, 1e6)
    extreme = heads.judge(latents[0], action, latents[1])
    assert (extreme.coverage == 1).all()
    assert extreme.error.isfinite().all()


# Noise


def test_noise_is_normal_and_uncorrelated():
    key = torch.arange(2000) * 7919
    step = torch.zeros(2000, dtype=torch.int64)
    noise = normal_noise(key, step, 32).double().numpy()
    shares = np.array([0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
    expected = [NormalDist().inv_cdf(share) for share in shares]
    spread = np.sqrt(shares * (1 - shares) / noise.size)  # of the share below a quantile
    below = [(noise < quantile).mean() for quantile in expected]
    np.testing.assert_array_less(np.abs(below - shares), 4 * spread)
    following = normal_noise(key, step + 1, 32).double().numpy()
    for other in (following, noise[:, ::-1], np.roll(noise, 1, axis=0), np.roll(noise, 1, axis=1)):
        assert abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 0.02


def test_noise_depends_on_its_address_alone():
    key, step = torch.tensor([3, -(2**62), 2**62]), torch.tensor([0, 5, 149])
    noise = normal_noise(key, step, 7)
    for i in range(3):
        torch.testing.assert_close(
            normal_noise(key[i : i + 1], step[i : i + 1], 7)[0], noise[i], rtol=0, atol=0
        )
    assert (normal_noise(key, step + 1, 7) != noise).all()
    assert (normal_noise(key + 1, step, 7) != noise).all()


def test_noise_is_the_same_in_every_release():
    """Recorded dreams are replayed by their seeds."""
    noise = normal_noise(torch.tensor([1, 2**63 - 1]), torch.tensor([0, 7]), 3)
    torch.testing.assert_close(noise, torch.tensor(GOLDEN), atol=1e-6, rtol=0)


GOLDEN = [
    [-1.5099468, -0.7924485, -1.5045618],
    [-0.5505476, 1.2116361, -1.4674960],
]
