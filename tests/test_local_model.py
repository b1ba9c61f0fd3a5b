"""The local model: each part against its equation, and what was logged against its filter."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from wm_gym.models.keypoints.autoencoder import Autoencoder
from wm_gym.models.keypoints.eye import Eye
from wm_gym.models.keypoints.local_model import (
    SUREST_POSTERIOR,
    SUREST_PRIOR,
    Belief,
    KeypointLocalModel,
    reward_of,
)
from wm_gym.models.logged import Logged
from wm_gym.models.protocol import Transitions
from wm_gym.models.trees import joined, rows

KEYPOINTS, ACTION, MEMORY, SCALE, CHANGE = 3, 2, 5, 0.5, 0.03
S, F = 2 * KEYPOINTS, 2 * KEYPOINTS + MEMORY
TINY = {
    "frame_shape": (48, 64, 3), "action_size": ACTION, "patch": 8, "keypoints": KEYPOINTS,
    "channels": 8, "memory": MEMORY, "width": 16, "blocks": 1, "head_width": 16, "scale": SCALE,
    "change_scale": CHANGE,
}  # fmt: skip


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def local_model(**changes):
    return seeded(lambda: KeypointLocalModel(**{**TINY, **changes})).eval().requires_grad_(False)


def inputs(b=3, seed=1):
    """Features, actions, and what is seen next."""
    rng = torch.Generator().manual_seed(seed)
    features, embedding = torch.randn(b, F, generator=rng), torch.randn(b, S, generator=rng)
    return features / 3, torch.rand(b, ACTION, generator=rng) * 2 - 1, embedding / 3


def pictures(b=4, shape=(48, 64, 3), seed=2):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (b, *shape), generator=rng, dtype=torch.uint8)


def embed(model, frames):
    """Of a world without proprioception."""
    return model.embed(frames, torch.zeros(len(frames), 0))


def first(model, embedding):
    """What a filter knows of a first frame."""
    return model.begin(embedding, torch.zeros(len(embedding), dtype=torch.int64))


def silence(head: nn.Sequential) -> None:
    """Let it say 0, whatever it is told."""
    for parameter in head[-1].parameters():
        nn.init.zeros_(parameter)


# The eye


def test_a_keypoint_is_where_the_softmax_points():
    """Sure of one cell, an eye says that cell's centre and its offset, (x, y)."""
    eye = seeded(lambda: Eye((48, 64, 3), 8, 1, 8))

    def points_at_row_1_column_2(cells):
        out = torch.zeros(len(cells), 3, 3, 4)  # cells are 16 pixels wide
        out[:, 0, 1, 2] = 50.0
        out[:, 1], out[:, 2] = 0.25, -0.5  # of a cell to the right, up
        return out

    eye.out.forward = points_at_row_1_column_2
    x, y = ((2 + 0.5 + 0.25) / 4 * 2 - 1, (1 + 0.5 - 0.5) / 3 * 2 - 1)
    torch.testing.assert_close(eye(torch.zeros(2, 48, 64, 3)), torch.tensor([[x, y]] * 2))


def seeing_bright_cells() -> Eye:
    """Its only keypoint is where the picture is bright."""
    eye = Eye((48, 64, 3), 8, 1, 8).requires_grad_(False)
    for parameter in eye.parameters():
        nn.init.zeros_(parameter)
    eye.cells.weight[0] = 1 / (3 * 8**2)
    eye.coarse.weight[0, 0, 1:, 1:] = 1 / 4  # the four cells that lie in the coarse one
    eye.out.weight[0, 0] = 200.0
    return eye


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 2), (2, 3)])
def test_what_moves_on_the_picture_moves_in_the_embedding(row, column):
    eye, frame = seeing_bright_cells(), torch.zeros(1, 48, 64, 3, dtype=torch.uint8)
    frame[:, 16 * row : 16 * (row + 1), 16 * column : 16 * (column + 1)] = 255
    centre = torch.tensor([[(column + 0.5) / 4 * 2 - 1, (row + 0.5) / 3 * 2 - 1]])
    torch.testing.assert_close(eye(frame), centre)


def test_two_bright_spots_are_seen_in_between():
    frame = torch.zeros(1, 48, 64, 3, dtype=torch.uint8)
    frame[:, 16:32, :16] = frame[:, 16:32, 48:] = 255
    torch.testing.assert_close(seeing_bright_cells()(frame), torch.zeros(1, 2))


@pytest.mark.parametrize(("frame_shape", "patch"), [((48, 64, 3), 8), ((30, 42, 1), 6)])
def test_frames_of_any_size_are_embedded(frame_shape, patch):
    """Of an odd number of cells too, and one embedding for each keypoint's x and y."""
    model = local_model(frame_shape=frame_shape, patch=patch)
    embedding = embed(model, pictures(2, frame_shape))
    assert embedding.shape == (2, model.stochastic_size) == (2, S)
    assert (embedding[0] != embedding[1]).all()


@pytest.mark.parametrize(("frame_shape", "patch"), [((50, 64, 3), 8), ((48, 60, 3), 8)])
@pytest.mark.parametrize("make", [KeypointLocalModel, Autoencoder])
def test_frames_that_cells_do_not_fill_are_refused(make, frame_shape, patch):
    height, width, _ = frame_shape
    words = f"patch is 8, expected a divisor of the frame's {height}×{width}"
    with pytest.raises(ValueError, match=words):
        make(frame_shape=frame_shape, patch=patch)


def test_an_eye_in_bfloat16_says_about_the_same_in_float32():
    model = local_model()
    exact = embed(model, pictures())
    model.eye.to(torch.bfloat16)
    rough = embed(model, pictures())
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.02


# Sizes


def test_the_default_is_small_and_tells_160_features():
    model = KeypointLocalModel()
    assert model.feature_size == 2 * 16 + 128
    assert sum(parameter.numel() for parameter in model.parameters()) <= 3e6


@pytest.mark.parametrize(("keypoints", "memory"), [(3, 5), (1, 1), (4, 9)])
def test_features_are_the_mean_and_the_memory(keypoints, memory):
    model = local_model(keypoints=keypoints, memory=memory)
    embedding = embed(model, pictures())
    belief = model.begun(embedding)
    assert belief.mean.shape == belief.deviation.shape == (4, 2 * keypoints)
    assert belief.features.shape == (4, model.feature_size) == (4, 2 * keypoints + memory)
    assert torch.equal(belief.features[:, : 2 * keypoints], belief.mean)
    assert torch.equal(belief.features[:, 2 * keypoints :], belief.memory)
    assert torch.equal(first(model, embedding), belief.features)


@pytest.mark.parametrize("b", [1, 3])
def test_every_answer_has_a_row_for_each_in_the_batch(b):
    model, (features, action, embedding) = local_model(), inputs(b)
    prior = model.expected(features, action)
    for belief in (prior, model.infer(prior, embedding)):
        assert belief.mean.shape == belief.deviation.shape == (b, S)
        assert belief.memory.shape == (b, MEMORY)
    assert model.follow(features, action, embedding).shape == (b, F)
    assert model.reward_of(features, action).shape == model.progress_of(features).shape == (b,)
    assert model.reconstruct(features).shape == (b, S)


# Prior and posterior


def test_the_memory_is_a_gru_of_what_is_and_is_done():
    model, (features, action, _) = local_model(), inputs()
    d, (s, h) = model.dynamics, features.split([S, MEMORY], dim=1)
    x = d.trunk(d.stem(torch.cat([s / SCALE, h, action], dim=1)))
    memory = d.gru(x, h)
    change, width = d.prior(torch.cat([x, memory], dim=1)).chunk(2, dim=1)
    prior = model.expected(features, action)
    torch.testing.assert_close(prior.memory, memory)
    torch.testing.assert_close(prior.mean, s + CHANGE * change)
    torch.testing.assert_close(prior.deviation, CHANGE * (SUREST_PRIOR + softplus(width)))


def test_a_prior_that_says_nothing_expects_no_change():
    model, (features, action, _) = local_model(), inputs()
    silence(model.dynamics.prior)
    prior = model.expected(features, action)
    assert torch.equal(prior.mean, features[:, :S])
    assert (prior.memory != features[:, S:]).all()


def test_a_posterior_that_says_nothing_believes_the_eye():
    model, (features, action, embedding) = local_model(), inputs()
    silence(model.posterior)
    prior = model.expected(features, action)
    posterior = model.infer(prior, embedding)
    assert torch.equal(posterior.mean, embedding)
    assert torch.equal(posterior.memory, prior.memory)
    assert torch.equal(model.begun(embedding).mean, embedding)


def test_the_posterior_is_told_the_surprise_in_units_of_change():
    model, (features, action, embedding) = local_model(), inputs()
    prior, told = model.expected(features, action), []
    model.posterior.register_forward_hook(lambda _, given, out: told.append((given[0], out)))
    posterior = model.infer(prior, embedding)
    (given, out), (shift, width) = told[0], told[0][1].chunk(2, dim=1)
    assert out.shape == (3, 2 * S)
    torch.testing.assert_close(given[:, :S], embedding / SCALE)
    torch.testing.assert_close(given[:, S : 2 * S], (embedding - prior.mean) / CHANGE)
    torch.testing.assert_close(given[:, 2 * S :], prior.memory)
    torch.testing.assert_close(posterior.mean, embedding + CHANGE * shift)
    deviation = CHANGE * (SUREST_POSTERIOR + softplus(width))
    torch.testing.assert_close(posterior.deviation, deviation)


def test_what_was_expected_matters_to_what_is_believed():
    model, (features, action, embedding) = local_model(), inputs()
    prior = model.expected(features, action)
    other = replace(prior, mean=prior.mean + CHANGE)
    assert (model.infer(prior, embedding).mean != model.infer(other, embedding).mean).all()


def test_at_first_nothing_is_remembered_and_nothing_is_a_surprise():
    model, (_, _, embedding) = local_model(), inputs()
    begun = model.begun(embedding)
    assert torch.equal(begun.memory, torch.zeros(3, MEMORY))
    as_expected = Belief(
        mean=embedding, deviation=torch.full((3, S), 7.0), memory=torch.zeros(3, MEMORY)
    )
    assert torch.equal(begun.mean, model.infer(as_expected, embedding).mean)


def test_to_follow_is_to_expect_and_to_look():
    model, (features, action, embedding) = local_model(), inputs()
    prior = model.expected(features, action)
    assert torch.equal(model.predict(features, action), prior.features)
    expected = model.infer(prior, embedding).features
    assert torch.equal(model.follow(features, action, embedding), expected)


def test_deviations_have_a_floor():
    model, (features, action, embedding) = local_model(), inputs()
    for network in (model.dynamics.prior, model.posterior):
        silence(network)
        network[-1].bias[S:] = -1e4
    prior = model.expected(features, action)
    torch.testing.assert_close(prior.deviation, torch.full((3, S), CHANGE * SUREST_PRIOR))
    posterior = model.infer(prior, embedding).deviation
    torch.testing.assert_close(posterior, torch.full((3, S), CHANGE * SUREST_POSTERIOR))


# Heads


def test_the_reward_is_in_the_units_of_the_task():
    plain, (features, action, _) = local_model(), inputs()
    model = local_model(reward_mean=-0.5, reward_scale=0.2)
    raw = plain.reward_of(features, action)
    told = torch.cat([features[:, :S] / SCALE, features[:, S:], action], dim=1)
    torch.testing.assert_close(raw, plain.reward(told)[:, 0])
    torch.testing.assert_close(model.reward_of(features, action), -0.5 + 0.2 * raw)
    expected = reward_of(model.reward, features, action, model.config)
    assert torch.equal(model.reward_of(features, action), expected)


def test_a_reconstruction_that_says_nothing_paints_the_keypoints():
    model, (features, _, _) = local_model(), inputs()
    assert (model.reconstruct(features) != features[:, :S]).all()
    silence(model.reconstruction)
    assert torch.equal(model.reconstruct(features), features[:, :S])


# All of it


def test_a_batch_of_five_is_answered_like_five_batches_of_one():
    model, (features, action, embedding) = local_model(), inputs(5)
    frames = pictures(5)

    def answers(at):
        f, a, e = features[at], action[at], embedding[at]
        prior = model.expected(f, a)
        belief = model.infer(prior, e)
        told = [embed(model, frames[at]), prior.features, prior.deviation, belief.features]
        told += [model.reward_of(f, a)[:, None], model.progress_of(f)[:, None]]
        return torch.cat([*told, model.reconstruct(f), first(model, e)], dim=1)

    together = answers(slice(None))
    alone = torch.cat([answers(slice(i, i + 1)) for i in range(5)])
    torch.testing.assert_close(together, alone)
    assert (together[0] != together[1]).float().mean() > 0.8


def test_what_it_predicts_is_differentiable_in_features_and_action():
    model, (features, action, _) = local_model().double(), inputs()

    def step(features, action):
        prior = model.expected(features, action)
        return prior.mean, prior.deviation, prior.memory

    def reward(features, action):
        return model.reward_of(model.predict(features, action), action)

    arguments = [each.double().requires_grad_() for each in (features, action)]
    for function in (step, model.reward_of, reward):
        assert torch.autograd.gradcheck(function, arguments)
    for output in (*step(*arguments), model.reward_of(*arguments), reward(*arguments)):
        for gradient in torch.autograd.grad(output.sum(), arguments, retain_graph=True):
            assert (gradient != 0).any(dim=1).all()


def test_gradients_of_a_hundred_and_fifty_steps_are_finite_and_not_zero():
    model, (features, action, _) = local_model(), inputs(2)
    action.requires_grad_()
    total = torch.zeros(())
    for _ in range(150):
        features = model.predict(features, action)
        total = total + model.reward_of(features, action).sum()
    (gradient,) = torch.autograd.grad(total, action)
    assert gradient.isfinite().all()
    assert (gradient != 0).all()


def test_every_part_has_a_gradient():
    model = local_model().requires_grad_(True)
    for name, parameter in model.named_parameters():
        if name.endswith("second.weight") and not parameter.any():
            nn.init.normal_(parameter, std=0.1)  # branches begin at zero, which hides the rest
    _, action, _ = inputs(4)
    before, after = embed(model, pictures()), embed(model, pictures(seed=3))
    features = model.follow(first(model, before), action, after)  # something to remember
    prior = model.expected(features, action)
    belief = model.infer(prior, before)
    f = belief.features
    told = [prior.mean, prior.deviation, belief.deviation, f, model.reconstruct(f)]
    told += [model.reward_of(f, action), model.progress_of(f)]
    sum(each.square().sum() for each in told).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_what_is_saved_is_what_is_loaded(tmp_path, unchecked_types):
    model = local_model(reward_mean=-0.25, change_scale=0.04)
    model.save_pretrained(tmp_path)
    loaded = KeypointLocalModel.from_pretrained(tmp_path)
    assert loaded.config.change_scale == 0.04
    assert loaded.feature_size == F
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    features, action, embedding = inputs()
    expected = model.follow(features, action, embedding)
    assert torch.equal(loaded.follow(features, action, embedding), expected)
    assert torch.equal(embed(loaded, pictures()), embed(model, pictures()))


# What was logged


def logged(windows=3, frames=4):
    rng = torch.Generator().manual_seed(5)
    return Logged(
        embedding=torch.randn(windows, frames, S, generator=rng) / 3,
        action=torch.rand(windows, frames - 1, ACTION, generator=rng) * 2 - 1,
        reward=-torch.rand(windows, frames - 1, generator=rng),
    )


def test_logged_windows_become_what_their_filter_saw():
    model, windows = local_model(), logged()
    came, row = windows.transitions(model), 0
    assert len(came) == 3 * 3
    for embedding, action, reward in zip(
        windows.embedding, windows.action, windows.reward, strict=True
    ):
        features = first(model, embedding[:1])
        for t in range(3):
            following = model.follow(features, action[t : t + 1], embedding[t + 1 : t + 2])
            torch.testing.assert_close(came.features[row : row + 1], features)
            torch.testing.assert_close(came.next_features[row : row + 1], following)
            assert torch.equal(came.action[row], action[t])
            assert torch.equal(came.reward[row], reward[t])
            features, row = following, row + 1


def test_one_window_does_not_know_of_another():
    model, windows = local_model(), logged()
    alone = Logged(**{n: getattr(windows, n)[1:2] for n in ("embedding", "action", "reward")})
    came, expected = rows(windows.transitions(model), slice(3, 6)), alone.transitions(model)
    for name in Transitions.__dataclass_fields__:
        torch.testing.assert_close(getattr(came, name), getattr(expected, name))


def test_transitions_are_picked_and_joined_row_by_row():
    all_ = logged().transitions(local_model())
    pick = torch.tensor([7, 0, 7])
    picked = rows(all_, pick)
    again = joined([picked, rows(all_, slice(2))])
    assert (len(picked), len(again)) == (3, 5)
    for name in Transitions.__dataclass_fields__:
        each = getattr(all_, name)
        assert torch.equal(getattr(picked, name), each[[7, 0, 7]])
        assert torch.equal(getattr(again, name), each[[7, 0, 7, 0, 1]])


def test_sound_windows_pass_the_check_and_odd_ones_do_not(unchecked_types):
    model, windows = local_model(), logged()
    windows.check(model)
    logged(1, 2).check(model)
    for change in (
        {"embedding": windows.embedding[..., :-1]}, {"action": windows.action[..., :1]},
        {"reward": windows.reward[:, 1:]}, {"reward": windows.reward * torch.nan},
    ):  # fmt: skip
        (name,) = change
        with pytest.raises(ValueError, match=f"its {name} is of shape .* or not finite, expected"):
            replace(windows, **change).check(model)


def test_windows_without_a_transition_are_refused(unchecked_types):
    for odd in (logged(0, 4), logged(2, 1), replace(logged(), embedding=torch.zeros(3))):
        with pytest.raises(ValueError, match="expected at least one window of two frames or more"):
            odd.check(local_model())
