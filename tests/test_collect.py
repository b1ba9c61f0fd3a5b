"""Logging: deterministic for a seed, independent of the workers, resumable."""

import gymnasium as gym
import numpy as np
import pytest
import strangers

from wm_gym.data import Dataset
from wm_gym.data.card import dataset_card
from wm_gym.data.collect import Recipe, Source, collect_episodes
from wm_gym.data.facts import fact_columns, facts_in_common
from wm_gym.data.pixels import make_pixel_env
from wm_gym.data.spec import Fact
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
    assert episode.task == DOT.tasks[0].description


def test_push_t_costs_less_than_4_kb_a_frame(tmp_path):
    recipe = Recipe(episodes=3, steps=40)
    logged(tmp_path, recipe, workers=1)
    dataset = Dataset.open(tmp_path)
    size = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert dataset.num_frames == 3 * 41
    assert size / dataset.num_frames < 4096
    assert set(dataset.index["behaviour"]) <= {"smooth", "noisy", "push", "correct"}


def test_any_gymnasium_id_can_be_logged(tmp_path):
    recipe = Recipe(env_id="strangers:Stranger-v0", episodes=8, steps=60, env_kwargs={"colour": 7})
    assert len(logged(tmp_path, recipe, workers=2)) == 8
    dataset = Dataset.open(tmp_path)
    spec = dataset.spec
    assert (spec.picture, spec.action_size, spec.fps, spec.facts) == ((16, 20, 3), 2, 12, {})
    episodes = [dataset.episode(number) for number in range(8)]
    assert all(episode.frames[0, 0, 0, 0] in (7, 255) for episode in episodes)
    assert any(episode.terminated for episode in episodes)
    assert max(len(episode.action) for episode in episodes) <= 60
    action = np.concatenate([episode.action for episode in episodes])
    assert action.min(0) == pytest.approx([-1, -1], abs=0.02)
    assert action.max(0) == pytest.approx([1, 1], abs=0.1)
    assert (spec.bounds.low, spec.bounds.high) == ((0.0, -0.1), (0.1, 2.0))


def test_an_id_that_workers_cannot_import_is_explained(tmp_path):
    gym.register("Local-v0", entry_point="strangers:Stranger")
    with pytest.raises(RuntimeError, match="module:Id-v0"):
        logged(tmp_path, Recipe(env_id="Local-v0", episodes=2), workers=1)


def recorded(env_id, **kwargs):
    source = Source(Recipe(env_id=f"strangers:{env_id}", steps=6, **kwargs))
    return source.spec(), source.record(0)


def test_an_environment_may_write_to_what_it_gave_and_was_given():
    _, episode = recorded("Hoarder-v0")
    np.testing.assert_array_equal(episode.frames[:, 0, 0, 0], np.arange(7))
    np.testing.assert_array_equal(episode.facts["coverage"], 0.25 * np.arange(7))
    assert episode.action.all()
    moved = np.cumsum(episode.action, axis=0, dtype=np.float64)
    np.testing.assert_allclose(episode.facts["state"], np.concatenate([np.zeros((1, 2)), moved]))


def test_facts_are_those_that_a_reset_and_a_step_tell():
    spec, episode = recorded("Fickle-v0")
    assert spec.facts == {"coverage": Fact(dtype="float64")}
    assert episode.facts["coverage"].tolist() == [0.0] + len(episode.action) * [0.5]
    spec.check(episode)


def test_a_fact_that_changes_its_kind_is_refused_by_name():
    with pytest.raises(ValueError, match=r"info\['coverage'\] is no number after 3 steps"):
        recorded("Fickle-v0", env_kwargs={"steps": 2})
    whole, half, pair = (np.array(value) for value in (0, 0.5, [0, 0]))
    assert facts_in_common({"state": whole}, {"state": pair}) == {}
    for odd, words in ((half, "float64 of shape"), (pair, r"int64 of shape \(2,\) after 2 steps")):
        told = [{"coverage": value} for value in (whole, whole, odd)]
        with pytest.raises(ValueError, match=words):
            fact_columns({"coverage": Fact(dtype="int64")}, told)


def test_a_behaviour_that_asks_for_what_nobody_tells_is_named():
    with pytest.raises(ValueError, match=r"play:push asked for 'state' after 0 actions, which"):
        recorded("Pendulum-v1", behaviours=("wm_gym.systems.pusht.play:push",))


def test_a_behaviour_that_ends_is_told_so(tmp_path, monkeypatch):
    (tmp_path / "soon_over.py").write_text(
        "import numpy as np\n\n\ndef twice(rng):\n    yield None\n    yield np.zeros(2)\n"
        "    yield np.zeros(2)\n\n\ndef never(rng):\n    yield from ()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name, actions in (("twice", 2), ("never", 0)):
        with pytest.raises(ValueError, match=f"soon_over:{name} ended after {actions} actions"):
            recorded("Stranger-v0", behaviours=(f"soon_over:{name}",))


def test_an_environment_that_demands_a_render_mode_gets_one():
    env = make_pixel_env("strangers:Demanding-v0", steps=3)
    assert env.reset(seed=0)[0].shape == (16, 20, 3)
    with pytest.raises(ValueError, match="say how to render"):
        make_pixel_env("strangers:Demanding-v0", steps=3, kwargs={"broken": True})
    kwargs = {"broken": True, "render_mode": "rgb_array"}
    with pytest.raises(RuntimeError, match="broken"):
        make_pixel_env("strangers:Demanding-v0", steps=3, kwargs=kwargs)


def test_an_action_that_cannot_vary_is_refused_by_name():
    with pytest.raises(ValueError, match=r"Stuck-v0 has actions .* entry 1 is always 2, expected"):
        make_pixel_env("strangers:Stuck-v0", steps=3)


def test_a_few_episodes_have_their_shares(tmp_path):
    source = Source(Recipe(episodes=20))
    dealt = [source._dealt(number) for number in range(20)]
    counts = {name: dealt.count(name) for name in source.shares}
    assert counts == pytest.approx({k: 20 * v for k, v in source.shares.items()}, abs=1.01)


def test_the_card_counts_right(tmp_path):
    """Against figures counted by hand from the episodes themselves."""
    logged(tmp_path, Recipe(episodes=8, steps=40), workers=2)
    dataset = Dataset.open(tmp_path)
    episodes = [dataset.episode(i) for i in range(8)]
    card = dataset_card(dataset)
    contact = np.concatenate([episode.facts["contact"][1:] for episode in episodes])
    assert card.contact_share == pytest.approx(contact.mean())
    coverage = np.concatenate([episode.facts["coverage"] for episode in episodes])
    assert card.coverage_shares["0.00–0.10"] == pytest.approx((coverage < 0.1).mean())
    assert sum(card.coverage_shares.values()) == pytest.approx(1)
    action = np.concatenate([episode.action for episode in episodes])
    assert card.saturated_share == pytest.approx((np.abs(action) == 1).any(1).mean())
    assert card.action_std == pytest.approx(action.std(0), abs=1e-3)
    for name, share in card.solved.items():
        best = [e.facts["coverage"].max() for e in episodes if e.behaviour == name]
        assert share == np.mean(np.array(best) > 0.9)
    assert card.frames == sum(card.behaviours.values()) == 8 * 41


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


def test_a_module_that_is_not_there_is_told_where_it_may_be(tmp_path):
    with pytest.raises(
        ImportError, match=r"no module 'nowhere.at_all' .* folder of nowhere/at_all"
    ):
        logged(tmp_path, Recipe(env_id="nowhere.at_all:Nothing-v0"))


def test_unknown_ids_and_bad_recipes_are_refused(tmp_path):
    with pytest.raises(gym.error.NameNotFound):
        logged(tmp_path, Recipe(env_id="Nothing-v0"))
    for kwargs in ({"episodes": 0}, {"steps": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="expected"):
            Recipe(**kwargs)


@pytest.mark.parametrize(("told", "repeat", "kept"), [(25, 2, 12.5), (30, 3, 10), (None, 4, 0.25)])
def test_a_rate_is_kept_as_it_is(told, repeat, kept):
    source = Source(Recipe(env_id="Real-Dot-v0", repeat=repeat))
    source.env.unwrapped.metadata = {"render_fps": told}
    assert source.spec().fps == kept
    assert isinstance(source.spec().fps, int) == (repeat == 3)


@pytest.mark.parametrize("told", [2 * 10**6, -5, "fast"])
def test_a_rate_that_cannot_be_is_refused_before_anything_is_logged(tmp_path, monkeypatch, told):
    metadata = strangers.Stranger.metadata | {"render_fps": told}
    monkeypatch.setattr(strangers.Stranger, "metadata", metadata)
    recipe = Recipe(env_id="strangers:Stranger-v0", env_kwargs={"colour": 7})
    with pytest.raises(ValueError, match=r"render_fps of strangers:Stranger-v0 is .*, expected a"):
        logged(tmp_path / "out", recipe)
    assert not (tmp_path / "out").exists()
