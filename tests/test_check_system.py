"""`check_system` passes ours, and says what is wrong with each of many broken ones."""

import dataclasses

import numpy as np
import pytest

from wm_gym.systems import DOT, PUSH_T
from wm_gym.systems.check import check_system
from wm_gym.systems.dot import Dot


@pytest.mark.parametrize("system", [PUSH_T, DOT])
def test_ours_are_right(system):
    check_system(system)


class SmallFrame(Dot):
    def frame(self):
        return super().frame()[1:]

    def picture(self):
        return np.zeros((4, 4, 3), np.uint8)


class ShortState(Dot):
    def state(self):
        return super().state()[:2]


class OwnMemory(Dot):
    def state(self):
        return self._state


class FloatPicture(Dot):
    def picture(self):
        return super().picture() / 255


class IgnoresSeed(Dot):
    def start(self, rng):
        self.place(np.array([9.0, 9, 5]))


class GlobalStart(Dot):
    def start(self, rng):
        super().start(np.random.default_rng())


class MisplacesByOne(Dot):
    def place(self, state):
        super().place(np.asarray(state) - [1, 0, 0])


class Momentum(Dot):
    """It moves on by itself, and its snapshot forgets by how much."""

    speed = np.zeros(3)

    def advance(self, action):
        self.speed = 0.5 * self.speed + 0.1 * np.asarray(action)
        super().advance(self.speed)


class ForgetsRadius(Dot):
    def restore(self, snapshot):
        super().restore((*snapshot[:2], 5.0))


class SilentNoise(Dot):
    def seed_noise(self, rng):
        pass


class UnseededNoise(Dot):
    shift = 0.0

    def seed_noise(self, rng):
        self.shift = np.random.default_rng().uniform(0.1, 0.4)

    def advance(self, action):
        super().advance(np.asarray(action) + self.shift)


class Unpicklable(Dot):
    def snapshot(self):
        return lambda: self


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (SmallFrame, "frame.. is uint8 .47, 64, 3., expected"),
        (ShortState, "expected a finite number for each"),
        (OwnMemory, "expected a copy"),
        (FloatPicture, "picture.. is float64"),
        (IgnoresSeed, "other seeds start in equal"),
        (GlobalStart, "equal seeds start in other"),
        (MisplacesByOne, "place"),
        (Momentum, "two futures"),
        (ForgetsRadius, "restore.. changed the state"),
        (SilentNoise, "other seeds have equal noise"),
        (UnseededNoise, "equal seeds have other noise"),
    ],
)
def test_what_is_wrong_is_said(broken, words):
    entry = {"Real-Broken-v0": f"{__name__}:{broken.__name__}"}
    with pytest.raises(AssertionError, match=words):
        check_system(dataclasses.replace(DOT, name="Broken", simulators=entry))


def test_what_cannot_be_pickled_is_refused():
    entry = {"Real-Broken-v0": f"{__name__}:Unpicklable"}
    with pytest.raises(Exception, match="pickle"):
        check_system(dataclasses.replace(DOT, name="Broken", simulators=entry))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reward": lambda s, a, n: np.asarray(np.nan)}, "the reward is nan"),
        ({"coverage": lambda s: np.asarray(1.5)}, "the progress is 1.5"),
    ],
)
def test_wrong_records_are_refused(changes, words):
    with pytest.raises(AssertionError, match=words):
        check_system(dataclasses.replace(DOT, **changes))


def test_a_behaviour_with_the_wrong_number_of_actions_is_named():
    def two(rng):
        yield None
        while True:
            yield np.zeros(2)

    record = dataclasses.replace(DOT, behaviours={"two": two}, play={})
    with pytest.raises(AssertionError, match=r"behaviour 'two': yielded .* expected 3 numbers"):
        check_system(record)
