"""Fields of particles: dissipation, descent below the step bound, noise that reaches far, targets of every size."""

import math
from typing import Any

import numpy as np
import pytest
import torch

import wasserflow as wf
from wasserflow._core.errors import UserError
from wasserflow.discrepancy.drmmd import Spectrum, drmmd
from wasserflow.discrepancy.mmd import mmd_squared
from wasserflow.field.of_samples import DrMMDField, KALEField, MMDField, SlicedField
from wasserflow.field.target import Samples
from wasserflow.kernel.base import Kernel, Linear
from wasserflow.kernel.radial import Energy, Gaussian, InverseMultiquadric, Laplace, RationalQuadratic

F64: dict[str, Any] = {"dtype": torch.float64}


def cloud(n, d, seed, shift=0.0, **kind):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), **kind) + shift


X, Y = cloud(40, 2, 0, **F64), cloud(30, 2, 1, 0.8, **F64)
WEIGHTS = torch.rand(30, generator=torch.Generator().manual_seed(2), **F64)
FIELDS: dict[str, Any] = {
    "gaussian": lambda y, **more: MMDField(y, Gaussian(0.9), **more),
    "median": lambda y, **more: MMDField(y, Gaussian(1.3) + RationalQuadratic(), **more),
    "energy": lambda y, **more: MMDField(y, Energy(), **more),
    "riesz": lambda y, **more: MMDField(y, Energy(1.5), **more),
    "laplace": lambda y, **more: MMDField(y, Laplace(1.0), **more),
    "linear": lambda y, **more: MMDField(y, Linear(), **more),
    "own": lambda y, **more: MMDField(y, lambda a, b: (a @ b.T / 4 + 1) ** 2, **more),
    "sliced": lambda y, **more: SlicedField(y, fresh=False, **more),
    "kale": lambda y, **more: KALEField(y, 0.1, Gaussian(1.0), **more),
    "drmmd": lambda y, **more: DrMMDField(y, 0.1, Gaussian(1.0), **more),
}
LEARNED = {"learned": lambda y: wf.LearnedRatioField(y, "js", batch=20)}
every = pytest.mark.parametrize("name", FIELDS)


@every
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_energy_falls_by_the_mean_squared_speed(name, weights):
    """dF/dt = -mean |v|^2, with dF/dt by differences of the energy along the velocity."""
    field = FIELDS[name](Y, weights=weights)
    v, step = field(X), 1e-4
    rate = (field.energy(X + step * v) - field.energy(X - step * v)) / (2 * step)
    assert rate.item() == pytest.approx(-v.square().sum(1).mean().item(), rel=1e-4)


@pytest.mark.parametrize("name", [*FIELDS, *LEARNED])
def test_bound_velocity_evaluates_anywhere(name):
    """Bound once, the velocity at the particles is the field's, and elsewhere does not follow the particles."""
    makers = FIELDS | LEARNED
    field = makers[name](Y)
    velocity = field.at(X, 0.0)
    torch.testing.assert_close(velocity(X), makers[name](Y)(X))
    z = cloud(5, 2, 7, **F64)
    before = velocity(z)
    field(X + 3)
    torch.testing.assert_close(velocity(z), before)
    assert not before.requires_grad


@pytest.mark.parametrize(
    "kernel", [Gaussian(0.8), Gaussian([0.5, 2.0]), InverseMultiquadric(0.7), RationalQuadratic()], ids=str
)
def test_descent_below_the_step_bound(kernel):
    """F_{n+1} - F_n <= -gamma (1 - 3 gamma L / 2) mean |v|^2 for every step with gamma <= 2 / (3 L)."""
    x, field, gamma = cloud(60, 2, 3, -1.0, **F64), MMDField(Y, kernel), 2 / (3 * kernel.lipschitz)
    for size in (gamma, gamma / 2):
        energies, speeds = [], []

        def see(k, points, energies=energies, speeds=speeds):
            energies.append(field.energy(points).item())
            speeds.append(field(points).square().sum(1).mean().item())

        wf.flow(x, field, steps=40, step_size=size, callback=see)
        promised = [size * (1 - 1.5 * size * kernel.lipschitz) * speed for speed in speeds[:-1]]
        falls = -np.diff(energies)
        assert (falls >= np.array(promised) - 1e-14).all()
        assert (falls > 0).all()


def test_noise_reaches_a_target_that_the_plain_flow_does_not():
    """Particles in one point, seven bandwidths away: the plain flow stays there, injected noise brings them home."""
    y, x = cloud(50, 2, 0), torch.full((50, 2), 5.0)
    field = MMDField(y, Gaussian(1.0))
    settings: dict[str, Any] = {"steps": 1200, "step_size": 2 / 3}
    stuck = wf.flow(x, field, **settings)
    found = wf.flow(x, field, noise=lambda k: 4 * max(0.0, 1 - k / 1000), **settings)
    near = [(moved.norm(dim=1) < 3).float().mean().item() for moved in (stuck, found)]
    assert near[0] == 0
    assert near[1] > 0.6
    assert field.energy(found) < 0.05 * field.energy(stuck)


def test_energy_kernel_needs_no_noise():
    """The same start, a little apart because equal points stay together: no bandwidth, no noise."""
    x, field = cloud(50, 2, 1) * 0.01 + 5, MMDField(cloud(50, 2, 0), Energy())
    assert field.energy(wf.flow(x, field, steps=200, step_size=0.3)) < 0.005 * field.energy(x)


def test_spread_does_not_depend_on_the_counts():
    """Many particles onto few points, and few onto many: the spread is the target's, not larger or smaller."""
    for n, m in ((400, 50), (50, 400)):
        y = cloud(m, 2, 1)
        moved = wf.flow(cloud(n, 2, 0), MMDField(y, Energy()), steps=150, step_size=0.3)
        torch.testing.assert_close(moved.std(0), y.std(0), rtol=0.1, atol=0)


def test_images_are_vectors():
    x, y = cloud(6, 16, 0).view(6, 1, 4, 4), cloud(9, 16, 1).view(9, 1, 4, 4)
    v = MMDField(y, Energy())(x)
    torch.testing.assert_close(v.flatten(1), MMDField(y.flatten(1), Energy())(x.flatten(1)))
    assert SlicedField(y)(x).shape == x.shape


# targets


@pytest.mark.parametrize("name", ["gaussian", "energy", "sliced", "kale", "drmmd"])
def test_a_target_in_a_file_gives_the_same_field(name, tmp_path, monkeypatch):
    """Memory-mapped, and read in blocks of a few rows."""
    monkeypatch.setattr("wasserflow.field.target.BLOCK", 14)
    np.save(tmp_path / "y.npy", Y.numpy())
    mapped = np.load(tmp_path / "y.npy", mmap_mode="r")
    for weights in (None, WEIGHTS, WEIGHTS * (WEIGHTS > 0.3)):
        in_memory, filed = (FIELDS[name](y, weights=weights) for y in (Y, mapped))
        torch.testing.assert_close(filed(X), in_memory(X))
        torch.testing.assert_close(filed.energy(X), in_memory.energy(X))


def test_points_of_a_file_without_weight_are_left_out(tmp_path):
    """KALE on what is left; a sketch that would have met such points alone; a batch; a weight that float32 lacks."""
    rows = torch.arange(6.0)[:, None]
    np.save(tmp_path / "y.npy", rows.numpy())
    mapped = np.load(tmp_path / "y.npy", mmap_mode="r")
    weights = torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0, 1e-50], **F64)
    left = KALEField(rows[[1, 3]], 0.1, Gaussian(1.0), weights=weights[[1, 3]])
    for target in (rows, mapped):
        field = KALEField(target, 0.1, Gaussian(1.0), weights=weights)
        torch.testing.assert_close(field(rows + 0.5), left(rows + 0.5))
        torch.testing.assert_close(field.energy(rows), left.energy(rows))
        samples = Samples(target, weights, batch=1)
        assert len(samples) == 2
        torch.testing.assert_close(samples.sketch(rows, 1), (rows[[1]], torch.ones(1)))
        assert {torch.as_tensor(samples.draw(rows).points).item() for _ in range(50)} == {1.0, 3.0}


def test_batches_are_fresh_weighted_and_seeded():
    weights = torch.tensor([0.0, 1.0, 3.0], **F64)
    rows = torch.arange(3.0)[:, None]
    drawn = [Samples(rows, weights, batch=1, seed=0).draw(rows) for _ in range(2)]
    assert torch.equal(drawn[0].points, drawn[1].points)  # type: ignore[arg-type]
    samples = Samples(rows, weights, batch=1, seed=0)
    many = torch.cat([torch.as_tensor(samples.draw(rows).points) for _ in range(2000)])
    shares = torch.bincount(many[:, 0].long(), minlength=3) / len(many)
    torch.testing.assert_close(shares, torch.tensor([0.0, 0.25, 0.75]), atol=0.03, rtol=0)
    assert len(Samples(rows, batch=5).draw(rows)) == 3
    plain = Samples(torch.arange(50.0)[:, None], batch=20).draw(rows)
    assert len(torch.unique(torch.as_tensor(plain.points))) == 20


def test_a_batch_estimates_the_field_without_bias():
    field = MMDField(Y, Gaussian(1.0), batch=10)
    mean = torch.stack([field(X) for _ in range(600)]).mean(0)
    exact = MMDField(Y, Gaussian(1.0))(X)
    assert ((mean - exact).norm() / exact.norm()).item() < 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MMDField(torch.zeros(3)), "rows"),
        (lambda: MMDField(torch.zeros(0, 2)), "at least one"),
        (lambda: MMDField(torch.tensor([[0.0], [math.nan]])), "row 1"),
        (lambda: MMDField(Y, weights=torch.ones(3)), "weights"),
        (lambda: MMDField(Y, weights=-WEIGHTS), "number 0 is -"),
        (lambda: MMDField(Y, weights=WEIGHTS * torch.nan), "number 0 is nan"),
        (lambda: MMDField(Y, weights=WEIGHTS * 0), "positive, finite sum"),
        (lambda: MMDField(Y, batch=0), "batch"),
        (lambda: MMDField(Y)(torch.zeros(3, 5)), "cannot flow onto"),
        (lambda: KALEField(Y, -1.0), "lambda"),
        (lambda: KALEField(Y, kernel=Energy()), "positive definite"),
        (lambda: DrMMDField(np.zeros((20_001, 2)))(torch.zeros(3, 2)), "give a batch"),
    ],
)
def test_bad_targets(make, message):
    with pytest.raises(UserError, match=message):
        make()


# DrMMD


def test_drmmd_is_its_definition():
    """(1 + lam) |(Sigma + lam I)^(-1/2) (m_q - m_p)|^2 in the features of a finite-dimensional kernel."""
    x, y, lam = cloud(12, 3, 0, **F64), cloud(9, 3, 1, 0.4, **F64), 0.3
    sigma = y.T @ y / len(y)  # the covariance operator is not centred
    gap = x.mean(0) - y.mean(0)
    expected = (1 + lam) * gap @ torch.linalg.solve(sigma + lam * torch.eye(3, **F64), gap)
    torch.testing.assert_close(drmmd(x, y, Linear(), lam).value, expected)


def test_drmmd_limits():
    kernel = Gaussian(0.8)
    assert drmmd(X, Y, kernel, 1e6).value.item() == pytest.approx(mmd_squared(X, Y, kernel).item(), rel=1e-5)
    torch.testing.assert_close(DrMMDField(Y, 1e7, kernel)(X), 2 * MMDField(Y, kernel)(X), rtol=1e-5, atol=1e-9)
    # Two sites told apart completely: chi^2 = sum q^2 / p - 1.
    sites = torch.tensor([[0.0], [50.0]], **F64)
    q, p = sites[[0, 0, 0, 1]], sites[[0, 1, 1, 1, 1]]
    chi = 0.75**2 / 0.2 + 0.25**2 / 0.8 - 1
    assert drmmd(q, p, Gaussian(1.0), 1e-9).value.item() == pytest.approx(chi, rel=1e-6)


def test_drmmd_witness_is_the_gradient_of_the_value():
    for kernel in (Gaussian(0.8), Linear()):
        field = DrMMDField(Y, 0.05, kernel, weights=WEIGHTS)
        direction = cloud(40, 2, 9, **F64)
        moved = [field.energy(X + sign * 1e-5 * direction).item() for sign in (1, -1)]
        slope = (field(X) * direction).sum().item() / -len(X)
        assert (moved[0] - moved[1]) / 2e-5 == pytest.approx(slope, rel=1e-6)


def test_adaptive_lambda_follows_the_distance():
    field = DrMMDField(Y, 0.5, Gaussian(1.0), adaptive=True)
    first = field.energy(X).item()
    field(X)
    assert field.lam == 0.5
    x = Y[:20] + 0.05
    now = drmmd(x, Y, Gaussian(1.0), 0.5, spectrum=Spectrum(Y, Gaussian(1.0))).value.item()
    field(x)
    assert field.lam == pytest.approx(0.5 * math.sqrt(now / first))


def test_bandwidth_by_time():
    field = MMDField(Y, Gaussian(lambda t: 2.0 - t))
    torch.testing.assert_close(field(X, 0.5), MMDField(Y, Gaussian(1.5))(X))


def test_kernels_describe_nothing_unbound():
    kernel: Kernel = Gaussian("median")
    torch.testing.assert_close(MMDField(Y)(X), MMDField(Y, kernel.bind(X, Y))(X))
