"""Imagined against real: closed forms, cases worked by hand, and who is caught flattering whom."""

import numpy as np
import pytest

from wm_gym.evaluation.agreement import agreement, mmrv, pearson, spearman


def judged(means, episodes=200, noise=0.0, seed=0):
    """Returns of policies with these means."""
    drawn = np.random.default_rng(seed).normal(size=(len(means), episodes))
    return np.array(means, np.float64)[:, None] + noise * drawn


def test_correlations_are_those_of_the_books():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30))
    assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert pearson(x, 3 * x - 1) == pytest.approx(1)
    assert spearman(x, np.exp(x)) == pytest.approx(1)
    assert spearman(x, -np.exp(x)) == pytest.approx(-1)
    # without ties 1 − 6 Σd² / (n (n² − 1)); the ranks of the other are 1 3 2 4 6 5
    one, other = np.array([1.0, 2, 3, 4, 5, 6]), np.array([1.0, 3, 2, 4, 7, 5])
    assert spearman(one, other) == pytest.approx(1 - 6 * 4 / (6 * 35))
    tied, ranks = np.array([5.0, 5, 7, 1]), np.array([2.5, 2.5, 4, 1])
    assert spearman(tied, one[:4]) == pytest.approx(np.corrcoef(ranks, one[:4])[0, 1])


def test_correlations_of_many_at_once_are_each_one_s():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 7)).round(1)
    for figure in (pearson, spearman, mmrv):
        np.testing.assert_allclose(figure(x, y), [figure(*each) for each in zip(x, y, strict=True)])


def test_rank_violations_are_as_large_as_the_truth_they_hide():
    real = np.array([0.1, 0.4, 0.9])
    assert mmrv(np.array([-5.0, 0.0, 5.0]), real) == 0
    assert mmrv(np.array([0.4, 0.1]), np.array([0.1, 0.4])) == pytest.approx(0.3)  # a swap
    # the first two swapped: they hide 0.3 each, the last is in its place
    assert mmrv(np.array([0.5, 0.3, 0.9]), real) == pytest.approx((0.3 + 0.3 + 0) / 3)
    # all reversed: the worst pairs are 0.8, 0.5 and 0.8 apart
    assert mmrv(-real, real) == pytest.approx((0.8 + 0.5 + 0.8) / 3)
    assert mmrv(np.array([0.3, 0.3]), np.array([0.1, 0.4])) == pytest.approx(0.3)
    assert mmrv(np.array([0.1, 0.4]), np.array([0.3, 0.3])) == 0  # nothing true is hidden


def test_a_dream_that_ranks_right_is_said_to():
    means = np.linspace(-100, -10, 12)
    found = agreement(
        judged(means, noise=5), judged(0.8 * means, noise=5, seed=1), margin=1e9, seed=0
    )
    assert found.spearman.value == 1
    assert found.spearman.low > 0.95
    assert found.pearson.value > 0.99
    assert found.mmrv.value == 0
    reverse = agreement(judged(-means, noise=5), judged(means, noise=5), margin=1e9, seed=0)
    assert reverse.spearman.value == -1
    assert reverse.pearson.value < -0.99


def test_who_exploits_the_dream_is_named():
    real = judged([-50.0, -40, -30, -20], noise=4)
    imagined = judged([-51.0, -38, -10, -19.5], noise=4, seed=1)
    found = agreement(imagined, real, margin=5.0, seed=0)
    assert [each.exploits for each in found.policies] == [False, False, True, False]
    assert found.exploited
    exploiter = found.policies[2]
    assert 18 < exploiter.excess.low < exploiter.excess.value < exploiter.excess.high < 22
    assert exploiter.excess.value == pytest.approx(exploiter.imagined.value - exploiter.real.value)
    # much flattered on average, but by one episode alone: that is not beyond doubt
    lucky = real.copy()
    lucky[1, 0] += 200 * 8
    doubtful = agreement(lucky, real, margin=5.0, seed=0, paired=True)
    assert doubtful.policies[1].excess.value == pytest.approx(8)
    assert not doubtful.exploited
    # beyond doubt, but by less than the margin
    assert not agreement(real + 4.9, real, margin=5.0, seed=0, paired=True).exploited
    assert agreement(real + 5.1, real, margin=5.0, seed=0, paired=True).exploited


def test_pairs_leave_only_what_is_different_within_them():
    real = judged([-50.0, -40], noise=20)
    paired, apart = (
        agreement(real + 1, real, margin=0.0, seed=0, paired=how) for how in (True, False)
    )
    (same, _), (other, _) = paired.policies, apart.policies
    assert (same.excess.low, same.excess.high) == pytest.approx((1, 1))
    assert same.exploits
    assert not other.exploits
    assert other.excess.high - other.excess.low > 4  # 2 · 1.96 · 20 · √(2/200) = 7.8


def test_intervals_of_the_excess_cover_the_truth_about_as_often_as_they_say():
    hits = []
    for trial in range(150):
        imagined = judged([3.0, 0.0], episodes=40, noise=6, seed=2 * trial)
        real = judged([0.0, 0.0], episodes=60, noise=4, seed=2 * trial + 1)
        excess = agreement(imagined, real, margin=0.0, seed=0).policies[0].excess
        hits.append(excess.low <= 3 <= excess.high)
    assert 0.88 < np.mean(hits) < 0.99


def test_policies_that_all_do_as_well_cannot_be_ranked():
    found = agreement(judged([1.0, 2.0]), judged([3.0, 3.0]), margin=0.0, seed=0)
    assert found.pearson is None
    assert found.spearman is None
    assert found.mmrv.value == 0


def test_what_cannot_be_compared_is_refused(unchecked_types):
    with pytest.raises(ValueError, match="3 policies imagined and 2 real"):
        agreement(judged([1, 2, 3]), judged([1, 2]), margin=0.0, seed=0)
    with pytest.raises(ValueError, match="at least 2"):
        agreement(judged([1]), judged([1]), margin=0.0, seed=0)
    with pytest.raises(ValueError, match="paired episodes"):
        agreement(judged([1, 2]), judged([1, 2], episodes=9), margin=0.0, seed=0, paired=True)
