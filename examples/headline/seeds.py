"""First seeds of real episodes. They never meet: no figure is of episodes that chose anything.

PPO's λ alone was settled by a look at a run of the study, in PPO's favour (LOG).
"""

TUNED_SEEDS = (range(10_000, 10_064), range(12_000, 12_032))
"""By which settings of both agents were chosen before any study, in runs of seeds 0, 5 and 7."""

JUDGE_SEED, EXAM_SEED, TRUST_SEED, FILM_SEED = 20_000, 30_000, 35_000, 40_000
"""In the end, while learning, imagined against real, and for the film."""

CHOICE_SEED = 25_000
"""Whose first frames the dreams begin from by which the packaged policy is chosen."""
