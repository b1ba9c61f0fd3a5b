"""The checker passes what conforms, and names the one rule that each of many broken envs breaks."""

import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from broken_vector_envs import (
    BROKEN,
    DICT_OBS,
    NEXT_STEP,
    PIXEL_OBS,
    SAME_STEP,
    TUPLE_OBS,
    Altered,
    ClosesOnce,
    DrawsFromNumPy,
    DrawsFromPython,
    Drift,
    Drifts,
    LongEpisodes,
    SeedsTorch,
    sync,
)
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode

from wm_gym.conformance import RULES, ConformanceError, check_vector_env
from wm_gym.conformance.compare import difference
from wm_gym.conformance.lives import rule_global_rng
from wm_gym.conformance.surface import rule_record_episode_statistics
from wm_gym.conformance.walk import BEFORE_1_4

# What conforms


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"observation_space": PIXEL_OBS, "horizon": 4},
        {"observation_space": DICT_OBS},
        {"observation_space": TUPLE_OBS},
        {"action_space": Discrete(3), "horizon": 7},
        {"render_mode": "rgb_array"},
        {"horizon": 2},
        {"horizon": 1},
    ],
    ids=["float", "pixels", "dict", "tuple", "discrete", "render", "two_steps", "one_step"],
)
def test_sync_vector_env_conforms(mode: AutoresetMode, options: dict[str, Any]) -> None:
    def single() -> Drift:
        return Drift(**options)

    check_vector_env(sync(single), make_single=single, modes=[mode], seed=3)


def test_the_three_modes_agree_with_each_other() -> None:
    check_vector_env(Drifts)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_one_mode_conforms_without_a_single_env_to_compare_with(mode: AutoresetMode) -> None:
    check_vector_env(Drifts, modes=[mode])


@pytest.mark.parametrize("mode", AutoresetMode)
def test_cart_pole_conforms(mode: AutoresetMode) -> None:
    def single() -> gym.Env[Any, Any]:
        return gym.make("CartPole-v1", max_episode_steps=6)

    check_vector_env(sync(single), make_single=single, modes=[mode])


@pytest.mark.parametrize(("name", "broken"), BROKEN, ids=[cls.__name__ for _, cls in BROKEN])
def test_the_broken_rule_is_named(name: str, broken: type[Drifts]) -> None:
    with pytest.raises(ConformanceError, match=rf"^{name} \("):
        check_vector_env(broken, make_single=broken.single)


# The checker itself


def test_every_rule_is_seen_to_be_broken() -> None:
    assert {name for name, _ in BROKEN} == {rule.__name__ for rule in RULES}


def test_only_the_rules_asked_for_are_checked() -> None:
    rules = [rule for rule in RULES if rule.__name__ != "rule_close"]
    check_vector_env(ClosesOnce, rules=rules, modes=[NEXT_STEP])


def test_only_the_modes_asked_for_are_made() -> None:
    def make(num_envs: int, mode: AutoresetMode) -> Drifts:
        assert mode is SAME_STEP
        return Drifts(num_envs, mode)

    check_vector_env(make, modes=[SAME_STEP])


@pytest.mark.parametrize("num_envs", [2, 7])
def test_any_number_of_environments_can_be_checked(num_envs: int) -> None:
    check_vector_env(Drifts, make_single=Drift, num_envs=num_envs, modes=[SAME_STEP])


class RoundedByCompany(Altered):
    def alter(self, actions: Any, obs: Any, reward: Any, *rest: Any) -> Any:
        return obs, reward * (1 + 1e-7 * self.num_envs), *rest


def test_atol_allows_for_rounding_that_depends_on_the_batch_size() -> None:
    check_vector_env(RoundedByCompany, atol=1e-5)
    with pytest.raises(ConformanceError, match="rule_batch_size"):
        check_vector_env(RoundedByCompany)


def test_long_episodes_are_told_how_to_become_checkable() -> None:
    with pytest.raises(ConformanceError, match=r"shorter episodes, or raise max_steps"):
        check_vector_env(LongEpisodes)


def test_max_steps_is_how_long_an_end_is_waited_for() -> None:
    make = sync(lambda: Drift(horizon=8, reach=np.inf))
    check_vector_env(make, max_steps=8, modes=[NEXT_STEP])
    with pytest.raises(ConformanceError, match=r"\[0\] ended no episode .* max_steps=7"):
        check_vector_env(make, max_steps=7, modes=[NEXT_STEP])


@pytest.mark.parametrize("make", [Drifts, DrawsFromNumPy, SeedsTorch, DrawsFromPython])
def test_the_checker_leaves_the_global_rngs_as_they_were(make: type[Drifts]) -> None:
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        check_vector_env(make, rules=[rule_global_rng])
    except ConformanceError:
        assert make is not Drifts
    after = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    assert not difference(before, after)


@pytest.mark.skipif(BEFORE_1_4, reason="RecordEpisodeStatistics did not know the modes yet")
def test_episode_statistics_of_another_mode_are_not_those_summed_by_hand() -> None:
    def make(num_envs: int, mode: AutoresetMode) -> Drifts:
        env = Drifts(num_envs, mode)
        env.metadata["autoreset_mode"] = SAME_STEP
        return env

    with pytest.raises(ConformanceError, match=r"\(return, length, mask\)"):
        check_vector_env(make, modes=[NEXT_STEP], rules=[rule_record_episode_statistics])


def test_a_check_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="num_envs is 1"):
        check_vector_env(Drifts, num_envs=1)
    with pytest.raises(ValueError, match="modes is empty"):
        check_vector_env(Drifts, modes=[])


@pytest.mark.parametrize(
    ("expected", "actual", "found"),
    [
        (np.nan, np.nan, ""),
        (np.array([1, 2]), np.array([1.0, 2.0]), ""),
        ({"a": [np.array(["x", None])]}, {"a": (np.array(["x", None]),)}, ""),
        (np.uint8(0), np.uint8(255), ": expected 0, got 255"),
        (2**53, 2**53 + 1, f": expected {2**53}, got {2**53 + 1}"),
        (np.zeros(2), np.zeros(3), ": expected [0.0, 0.0], got [0.0, 0.0, 0.0]"),
        (np.zeros(9), np.eye(9)[0], ": expected float64[9], got float64[9], 1 of 9 values apart"),
        ({"a": 1}, {"b": 1}, ": expected a dict with ['a'], got ['b']"),
        ({"a": {"b": (0, 1)}}, {"a": {"b": (0, 2)}}, "['a']['b'][1]: expected 1, got 2"),
        (None, 0.0, ": expected None, got 0.0"),
        ("a", 0.0, ": expected 'a', got 0.0"),
        ((1, 2), (1,), ": expected 2 items, got (1,)"),
        (np.nan, 0.0, ": expected nan, got 0.0"),
    ],
)
def test_a_difference_is_named(expected: Any, actual: Any, found: str) -> None:
    assert difference(expected, actual) == found


def test_a_difference_within_atol_is_none() -> None:
    assert not difference(np.array([0, 255], np.uint8), np.array([1, 254], np.uint8), atol=1)
    assert difference(np.array([0, 255], np.uint8), np.array([2, 255], np.uint8), atol=1)
    assert difference(np.array([np.nan, 1.0]), np.array([1.0, 1.0]), atol=1)
