"""The field that learns as the particles move carries one cloud onto another."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import wasserflow as wf
from wasserflow._core.errors import UserError
from wasserflow.field.known_ratio import RatioField


def cloud(n, seed, centre=(0.0, 0.0)):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) + torch.tensor(centre)


def test_particles_flow_onto_the_target_and_the_classifier_gives_up():
    field = wf.LearnedRatioField(cloud(2000, 0, (2.0, -1.0)), ratio_steps=2, batch=500)
    moved = wf.flow(cloud(500, 1), field, steps=150, step_size=0.05)
    torch.testing.assert_close(moved.mean(0), torch.tensor([2.0, -1.0]), rtol=0, atol=0.2)
    assert 1.25 < field.ratio_value.item() < 2 * math.log(2) + 0.02


def test_velocity_is_the_field_of_the_logit_it_learned():
    x = cloud(50, 1)
    field = wf.LearnedRatioField(cloud(80, 0), "js")
    velocity = field.at(x)
    assert field.logit is not None
    points = cloud(7, 2)
    torch.testing.assert_close(velocity(points), RatioField(field.logit, "js")(points))


def test_same_seed_same_flow_and_no_global_effect():
    state = torch.get_rng_state()
    x, y = cloud(40, 1), cloud(60, 0)
    ends = [wf.flow(x, wf.LearnedRatioField(y, seed=seed, batch=20), steps=5) for seed in (0, 0, 1)]
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_target_may_draw_fresh_points():
    drawn = []

    def target(n):
        drawn.append(n)
        return cloud(n, len(drawn))

    wf.flow(cloud(30, 0), wf.LearnedRatioField(target, batch=10, ratio_steps=2), steps=3, step_size=0.1)
    assert drawn == [10] * 6


def test_a_target_in_a_file_is_the_target(tmp_path):
    np.save(tmp_path / "y.npy", cloud(60, 0).numpy())
    mapped = np.load(tmp_path / "y.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for batch in (None, 20):
            filed, held = (wf.LearnedRatioField(y, batch=batch) for y in (mapped, cloud(60, 0)))
            assert torch.equal(wf.flow(cloud(80, 1), filed, steps=3), wf.flow(cloud(80, 1), held, steps=3))
    broken = np.load(tmp_path / "y.npy", mmap_mode="r+")
    broken[3] = np.nan
    with pytest.raises(UserError, match="not finite"):
        wf.LearnedRatioField(broken)(cloud(80, 1))


def test_each_side_has_a_batch_of_its_own():
    sizes = []
    logit = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0))
    logit.register_forward_hook(lambda module, given, found: sizes.append(len(given[0])))
    wf.LearnedRatioField(cloud(100, 0), logit=logit, batch=50).at(cloud(8, 1))
    assert sizes == [50, 8]


def test_what_does_not_fit_is_said():
    field = wf.LearnedRatioField(cloud(20, 0))
    field(cloud(10, 1))
    with pytest.raises(UserError, match="learned from particles of shape \\(2,\\), float32, on cpu: make one for"):
        field(cloud(10, 1).double())
    with pytest.raises(UserError, match="must give points of shape \\(10, 2\\), not \\(10, 3\\)"):
        wf.LearnedRatioField(lambda n: torch.zeros(n, 3))(cloud(10, 1))
    with pytest.raises(UserError, match="not finite in row 0"):
        wf.LearnedRatioField(lambda n: torch.full((n, 2), math.inf))(cloud(10, 1))
    with pytest.raises(UserError, match="one number for each point"):
        wf.LearnedRatioField(cloud(20, 0), logit=torch.nn.Linear(2, 1))(cloud(10, 1))
    function: Any = lambda x: x.sum(1)  # noqa: E731
    for wrong in (function, torch.nn.Flatten(0)):
        with pytest.raises(UserError, match="parameters to learn"):
            wf.LearnedRatioField(cloud(20, 0), logit=wrong)
    drawn: Any = lambda n: np.zeros((n, 2))  # noqa: E731
    assert wf.LearnedRatioField(drawn)(cloud(10, 1)).shape == (10, 2)


def test_images_need_a_logit():
    images = torch.randn(8, 1, 4, 4)
    with pytest.raises(UserError, match="give logit="):
        wf.LearnedRatioField(images)(images)
    logit = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 1), torch.nn.Flatten(0))
    assert wf.LearnedRatioField(images, logit=logit)(images).shape == images.shape


def test_bad_settings():
    settings: list[dict[str, Any]] = [{"ratio_steps": 0}, {"lr": 0.0}, {"lr": math.nan}, {"batch": 0}]
    for wrong in settings:
        with pytest.raises(UserError, match="at least 1"):
            wf.LearnedRatioField(cloud(5, 0), **wrong)
    with pytest.raises(UserError, match="cannot flow onto"):
        wf.LearnedRatioField(cloud(5, 0))(torch.zeros(5, 3))
    with pytest.raises(UserError, match="at least one point"):
        wf.LearnedRatioField(torch.zeros(0, 2))
    with pytest.raises(UserError, match="not finite in row 1"):
        wf.LearnedRatioField(np.array([[0.0, 1.0], [np.nan, 1.0]]))
    assert wf.LearnedRatioField(np.zeros((5, 2)))(cloud(5, 0)).shape == (5, 2)
