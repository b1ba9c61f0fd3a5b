"""First seeds of real episodes. They never meet: no figure is of episodes that chose anything."""

TUNED_SEEDS = (range(10_000, 10_064), range(12_000, 12_032))
"""By which settings of both agents were chosen, before any study; the runs were of seed 0."""

JUDGE_SEED, EXAM_SEED, TRUST_SEED, FILM_SEED = 20_000, 30_000, 35_000, 40_000
"""In the end, while learning, imagined against real, and for the film."""
