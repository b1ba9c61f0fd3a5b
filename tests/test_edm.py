"""The diffusion maths against closed forms."""

import math

import pytest
import torch

from wm_gym.models.edm import karras_sigmas, loss_weight, preconditioning, sample

SIGMAS = torch.tensor([0.01, 0.3, 0.5, 2.0, 20.0], dtype=torch.float64)


def test_network_inputs_and_targets_have_unit_variance():
    """Karras et al. 2022, appendix B.6, for data of standard deviation sigma_data."""
    data = 0.5
    pre = preconditioning(SIGMAS, data)
    torch.testing.assert_close(pre.c_in**2 * (data**2 + SIGMAS**2), torch.ones_like(SIGMAS))
    # the target (y − c_skip (y + n)) / c_out
    variance = ((1 - pre.c_skip) ** 2 * data**2 + pre.c_skip**2 * SIGMAS**2) / pre.c_out**2
    torch.testing.assert_close(variance, torch.ones_like(SIGMAS))


def test_the_weight_undoes_c_out():
    pre = preconditioning(SIGMAS, 0.5)
    torch.testing.assert_close(loss_weight(SIGMAS, 0.5) * pre.c_out**2, torch.ones_like(SIGMAS))


def test_noise_levels_fall_from_largest_to_smallest_and_then_zero():
    sigmas = karras_sigmas(5, sigma_min=0.002, sigma_max=80.0)
    assert sigmas[0] == pytest.approx(80.0)
    assert sigmas[-2] == pytest.approx(0.002)
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()
    assert karras_sigmas(1, sigma_min=0.002, sigma_max=5.0).tolist() == [5.0, 0.0]


def gaussian_denoiser(mean, std):
    """The exact denoiser of N(mean, std²): the posterior mean."""

    def denoise(x, sigma):
        share = std**2 / (std**2 + sigma[:, None] ** 2)
        return share * x + (1 - share) * mean

    return denoise


def test_many_steps_map_noise_onto_gaussian_data():
    """The exact flow takes x at σ_max to mean + (x − mean) · std / √(std² + σ_max²)."""
    mean, std, first = 0.3, 0.7, 20.0
    noise = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigmas = karras_sigmas(400, sigma_min=1e-3, sigma_max=first).double()
    made = sample(gaussian_denoiser(mean, std), noise, sigmas)
    exact = mean + (noise * first - mean) * std / math.hypot(std, first)
    torch.testing.assert_close(made, exact, atol=2e-2, rtol=0)
    assert made.std().item() == pytest.approx(std, rel=0.05)


def test_one_step_gives_the_conditional_mean():
    noise = torch.randn(5, 1, generator=torch.Generator().manual_seed(0))
    made = sample(
        gaussian_denoiser(0.3, 0.01), noise, karras_sigmas(1, sigma_min=1.0, sigma_max=5.0)
    )
    torch.testing.assert_close(made, torch.full((5, 1), 0.3), atol=1e-4, rtol=0)
