"""Logging: deterministic for a seed, independent of the workers, resumable."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from wm_gym.data import Dataset
from wm_gym.data.collect import Recipe, Source, collect_episodes
from wm_gym.systems import DOT

DOTS = Recipe(env_id="Real-Dot-v0", episodes=5, steps=12, seed=3)


def logged(folder, recipe=DOTS, **kwargs):
    return list(collect_episodes(recipe, folder, **kwargs))


@pytest.fixture(scope="module")
def dots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dots")
    logged(folder, workers=2)
    return folder


def test_the_content_does_not_depend_on_the_workers(dots, tmp_path):
    logged(tmp_path, workers=1)
    assert Dataset.open(tmp_path).hash == Dataset.open(dots).hash


def test_another_seed_is_other_data(dots):
    source = Source(Recipe(env_id="Real-Dot-v0", episodes=5, steps=12, seed=4))
    assert source.record(0).digest != Dataset.open(dots).episode(0).digest


def test_an_interrupted_run_goes_on_and_ends_equal(dots, tmp_path):
    run = collect_episodes(DOTS, tmp_path, workers=1)
    first = next(run)
    run.close()
    with pytest.warns(UserWarning, match="not finished"):
        assert len(Dataset.open(tmp_path)) >= 1
    rest = logged(tmp_path, workers=1)
    assert first.number not in [one.number for one in rest]
    assert Dataset.open(tmp_path).hash == Dataset.open(dots).hash
    assert logged(tmp_path) == []


def test_another_recipe_into_the_same_folder_is_refused(dots):
    with pytest.raises(ValueError, match="another spec or recipe"):
        logged(dots, Recipe(env_id="Real-Dot-v0", episodes=5, steps=12, seed=9))


def test_what_is_logged_is_what_happened(dots):
    """Replaying an episode's actions from its start gives its frames, rewards and facts again."""
    episode = Dataset.open(dots).episode(2)
    env = gym.make("Real-Dot-v0", horizon=12)
    obs, info = env.reset(seed=episode.seed)
    for t, action in enumerate(episode.action):
        np.testing.assert_array_equal(obs, episode.frames[t])
        assert info["coverage"] == episode.facts["coverage"][t]
        obs, reward, _, truncated, info = env.step(action)
        assert np.float32(reward) == episode.reward[t]
        np.testing.assert_array_equal(info["state"], episode.facts["state"][t + 1])
        assert info["contact"] == episode.facts["contact"][t + 1]
    np.testing.assert_array_equal(obs, episode.frames[-1])
    assert truncated
    assert episode.truncated
    assert not episode.terminated
    assert episode.task == DOT.tasks[0]


def test_push_t_costs_less_than_4_kb_a_frame(tmp_path):
    recipe = Recipe(episodes=3, steps=40)
    logged(tmp_path, recipe, workers=1)
    dataset = Dataset.open(tmp_path)
    size = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert dataset.num_frames == 3 * 41
    assert size / dataset.num_frames < 4096
    assert set(dataset.index["behaviour"]) <= {"smooth", "noisy", "push", "correct"}


class Stranger(gym.Env):
    """Nobody's registered system: vector observations, its own box, pictures only when rendered."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 12}  # noqa: RUF012
    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(np.array([0.0, -2.0]), np.array([1.0, 2.0]), dtype=np.float64)

    def __init__(self, render_mode=None, colour=0):
        self.render_mode, self.colour = render_mode, colour

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.at, {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action, np.float64))
        self.at = np.clip(self.at + 0.1 * action, -1, 1).astype(np.float32)
        return self.at, float(self.at.sum()), bool(self.at[0] >= 1), False, {}

    def render(self):
        frame = np.full((16, 20, 3), self.colour, np.uint8)
        frame[int(7 + 7 * self.at[0]), int(9 + 9 * self.at[1])] = 255
        return frame


def test_any_gymnasium_id_can_be_logged(tmp_path):
    gym.register("Stranger-v0", entry_point=Stranger)
    recipe = Recipe(env_id="Stranger-v0", steps=60, env_kwargs={"colour": 7})
    source = Source(recipe)
    spec = source.spec()
    assert (spec.picture, spec.action_size, spec.fps, spec.facts) == ((16, 20, 3), 2, 12, {})
    episodes = [source.record(number) for number in range(8)]
    assert all(episode.frames[0, 0, 0, 0] in (7, 255) for episode in episodes)
    assert any(episode.terminated for episode in episodes)
    assert max(len(episode.action) for episode in episodes) <= 60
    action = np.concatenate([episode.action for episode in episodes])
    assert action[:, 0].min() >= 0
    assert action[:, 0].max() <= 1
    assert action[:, 1].min() < -1.5


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe(env_id="Real-Dot-v0", behaviours=("fly",)), "no behaviours .'fly'.*smooth"),
        (Recipe(env_id="CartPole-v1"), "expected a bounded Box"),
    ],
)
def test_what_cannot_be_logged_says_why(recipe, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        logged(tmp_path, recipe)
    assert not list(tmp_path.iterdir())


def test_unknown_ids_and_bad_recipes_are_refused(tmp_path):
    with pytest.raises(gym.error.NameNotFound):
        logged(tmp_path, Recipe(env_id="Nothing-v0"))
    for kwargs in ({"episodes": 0}, {"steps": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="expected"):
            Recipe(**kwargs)
