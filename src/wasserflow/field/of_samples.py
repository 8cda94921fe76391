r"""The fields that carry particles onto a sample of the target without learning anything: MMD, energy, KALE, DrMMD.

Each is the Wasserstein gradient flow of a functional F of the particles' distribution q: ``v = -grad(dF/dq)``, which
for N particles is ``-N dF/dx_i``, so that F falls at the rate ``mean_i |v(x_i)|^2``.

==============  =====================================================
field           F, as ``field.energy(particles)`` gives it
==============  =====================================================
`MMDField`      1/2 MMD^2 (over all pairs, the V-statistic)
`SlicedField`   the same for the kernel -|x - y|, by sorting
`KALEField`     KALE: between KL (small lambda) and 1/2 MMD^2 (large)
`DrMMDField`    DrMMD: between chi^2 (small lambda) and MMD^2 (large)
==============  =====================================================

Particles are (N, *), taken as vectors; targets (M, *) with M of any size, with or without weights, also memory-mapped
arrays larger than memory and batches drawn afresh at each step (`wasserflow.field.target.Samples`).
"""

from collections.abc import Callable
from math import inf

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.points import Points, flat
from wasserflow.discrepancy.drmmd import DrMMD, Spectrum, drmmd
from wasserflow.discrepancy.kale import check_regularised, kale
from wasserflow.discrepancy.mmd import mmd_squared
from wasserflow.discrepancy.sliced_energy import directions, sliced_energy, sliced_velocity
from wasserflow.field.base import Field, Velocity
from wasserflow.field.target import SKETCH, Samples
from wasserflow.kernel.base import Kernel, as_kernel
from wasserflow.kernel.radial import Gaussian, Radial

__all__ = ["DrMMDField", "KALEField", "MMDField", "SlicedField"]

MOST = 20_000
"""Target points of the fields that factorise a Gram matrix: 3 GB in float64."""

STEP = 0.3
"""Stable step of the energies, whose force does not grow with the distance, in standard deviations of the target."""


class _SampleField(Field):
    """What the four share: the target.

    Args:
        target: Points of the target, shape (M, *), in memory or memory-mapped.
        weights: Of the target's points, shape (M,), non-negative; scaled to sum 1. Equal by default.
        batch: Draw this many of the target's points afresh for each step, instead of all.
        seed: Random seed of every choice.
    """

    def __init__(self, target: Points, weights: Points | None = None, batch: int | None = None, seed: int = 0) -> None:
        self.target = Samples(target, weights, batch, seed)

    def spread(self, x: Tensor) -> float:
        """The mean standard deviation of the target's columns, in the units of particles (N, d)."""
        return self.target.sketch(x)[0].std(0).mean().item()


class _KernelField(_SampleField):
    """A field of the target's points and a kernel, as a `Kernel`, a function that gives Gram matrices, or None."""

    def __init__(
        self,
        target: Points,
        kernel: Kernel | Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        weights: Points | None = None,
        batch: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(target, weights, batch, seed)
        self.kernel = Gaussian("median") if kernel is None else as_kernel(kernel)

    def kernel_at(self, particles: Tensor) -> Kernel:
        """The kernel with the bandwidth that it has for these particles (N, *), at time 0."""
        x = flat(particles)
        return self.kernel.bind(x, self.target.sketch(x)[0], 0.0)

    def kernel_step(self, particles: Tensor, share: float) -> float:
        """``share / L`` with the kernel's Lipschitz constant L; of a kernel with a kink at 0, 0.3 of the spread."""
        kernel = self.kernel_at(particles)
        if kernel.lipschitz < inf:
            return share / kernel.lipschitz if kernel.lipschitz else inf  # 0: the square of its width overflows
        if isinstance(kernel, Radial):
            return STEP * self.spread(flat(particles))
        raise UserError(f"no step size is known to be stable for the kernel {kernel!r}: give `step_size`")


class MMDField(_KernelField):
    r"""``v(z) = -grad w(z)`` with the MMD's witness ``w(z) = mean_i k(z, x_i) - mean_j k(z, y_j)``.

    With a smooth kernel and steps up to ``2 / (3 L)``, L = ``kernel.lipschitz``, a step of size gamma lowers the energy
    by at least ``gamma (1 - 3/2 gamma L) mean |v|^2``. The energy kernel has no bandwidth and pulls from any distance;
    Gaussian particles farther away than a few bandwidths feel nothing, which noise injection (`wasserflow.flows`) or a
    wider kernel mends. Time per step O(N (N + M) d), memory O(N + M).

    Args:
        target: Points of the target, shape (M, *), in memory or memory-mapped.
        kernel: A kernel, or a function that gives Gram matrices, ``kernel(x, y) -> (N, M)``; by default a Gaussian with
            the median distance as its bandwidth, chosen anew at each step.
        weights: Of the target's points, shape (M,), non-negative; scaled to sum 1. Equal by default.
        batch: Draw this many of the target's points afresh for each step, instead of all.
        seed: Random seed of that draw.

    References:
        Maximum Mean Discrepancy Gradient Flow (Arbel, Korba, Salim and Gretton, 2019), arXiv 1906.04370.
    """

    def at(self, particles: Tensor, t: float | None = None) -> Velocity:
        """The velocity that these particles (N, *) give, at any points (K, *)."""
        x = flat(particles)
        target = self.target.draw(x)
        kernel = self.kernel.bind(x, target.sketch(x)[0], t)
        equal = x.new_full((len(x),), 1 / len(x))

        def velocity(points: Tensor) -> Tensor:
            z = flat(points)
            pull = -kernel.gradient(z, x, equal)
            for y, weights in target.blocks(x):
                pull += kernel.gradient(z, y, weights)
            return pull.view_as(points)

        return velocity

    def energy(self, particles: Tensor, t: float | None = None) -> Tensor:
        """1/2 MMD^2; of at most 10,000 particles and as many target points, taken evenly."""
        x = flat(particles)
        x = x[:: -(-len(x) // SKETCH)]
        y, weights = self.target.sketch(x)
        return mmd_squared(x, y, self.kernel.bind(x, y, t), weights=weights) / 2

    def stable_step(self, particles: Tensor) -> float:
        """``1 / (3 L)``, half the bound below which the energy falls at every step."""
        return self.kernel_step(particles, 1 / 3)


class SlicedField(_SampleField):
    r"""The field of ``MMDField(target, Energy())`` by sorting random projections: O((N + M) log(N + M)) per slice.

    .. math:: v(z) = \tfrac{2 c_d}{P} \sum_\xi (F_q^\xi - F_p^\xi)(\xi \cdot z)\, \xi

    with the distribution functions of the projections. The relative error of P slices is about sqrt(d / P) / 2,
    with mean zero: fresh slices at each step average out along the flow.

    Args:
        target: Points of the target, shape (M, *).
        slices: Directions per step, P.
        fresh: Draw them anew at each step; else one set is kept, and the flow descends the sliced energy itself.
        weights: Of the target's points, shape (M,), non-negative; scaled to sum 1. Equal by default.
        batch: Draw this many of the target's points afresh for each step, instead of all.
        seed: Random seed of the directions and of that draw.

    References:
        Generative Sliced MMD Flows with Riesz Kernels (Hertrich et al., 2024), arXiv 2305.11463.
    """

    def __init__(
        self,
        target: Points,
        slices: int = 64,
        *,
        fresh: bool = True,
        weights: Points | None = None,
        batch: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(target, weights, batch, seed)
        if slices < 1:
            raise UserError(f"at least one slice is needed, not {slices}")
        self.slices, self.fresh, self.seed = slices, fresh, seed
        self._rng = np.random.default_rng(seed)

    def at(self, particles: Tensor, t: float | None = None) -> Velocity:
        """The velocity that these particles (N, *) give, at any points (K, *)."""
        x = flat(particles)
        target = self.target.draw(x)
        xi = directions(x.shape[1], self.slices, self._rng if self.fresh else np.random.default_rng(self.seed))

        def velocity(points: Tensor) -> Tensor:
            z = x if points is particles else flat(points)
            # Distribution functions add up over the parts of a target that does not fit in memory.
            parts = [
                sliced_velocity(z, x, y, xi, None if target.weights is None else weights / weights.sum())
                * weights.sum()
                for y, weights in target.blocks(x)
            ]
            return torch.stack(parts).sum(0).view_as(points) if len(parts) > 1 else parts[0].view_as(points)

        return velocity

    def energy(self, particles: Tensor, t: float | None = None) -> Tensor:
        """1/2 MMD^2 of the kernel -|x - y|, of one fixed set of slices; a target in a file by 10,000 of its points."""
        x = flat(particles)
        y, weights = self.target.sketch(x) if self.target.filed else next(self.target.blocks(x))
        xi = directions(x.shape[1], self.slices, np.random.default_rng(self.seed))
        return sliced_energy(x, y, xi, None if self.target.weights is None else weights)

    def stable_step(self, particles: Tensor) -> float:
        """0.3 of the target's mean standard deviation."""
        return STEP * self.spread(flat(particles))


class KALEField(_KernelField):
    r"""``v(z) = -(1 + lambda) grad h(z)`` with the KALE's witness h, solved by Newton steps at each step of the flow.

    The solution of one step is where the next begins. O(M^3) per Newton step: give a ``batch`` for large targets.

    Args:
        target: Points of the target, shape (M, *).
        lam: Regularisation lambda > 0; small: KL, large: MMD.
        kernel: A positive definite kernel, or a function that gives its Gram matrices; by default a Gaussian with the
            median distance as its bandwidth, chosen anew at each step.
        weights: Of the target's points, shape (M,), non-negative; scaled to sum 1. Equal by default.
        batch: Draw this many of the target's points afresh for each step, instead of all.
        seed: Random seed of that draw.

    References:
        KALE Flow: A Relaxed KL Gradient Flow for Probabilities with Disjoint Support (Glaser, Arbel and Gretton, 2021),
        arXiv 2106.08929.
    """

    def __init__(
        self,
        target: Points,
        lam: float = 1e-2,
        kernel: Kernel | Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        weights: Points | None = None,
        batch: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(target, kernel, weights=weights, batch=batch, seed=seed)
        self.lam = lam
        check_regularised(self.kernel, lam)
        self._solution: Tensor | None = None

    def at(self, particles: Tensor, t: float | None = None) -> Velocity:
        """The velocity that these particles (N, *) give, at any points (K, *)."""
        x = flat(particles)
        y, weights = self.target.draw(x).whole(x, MOST, "KALE solves a system of the target's size")
        start = self._solution if self.target.batch is None else None  # other points have another solution
        witness, self._solution = kale(x, y, self.kernel.bind(x, y, t), self.lam, weights=weights, start=start)[1:3]
        return lambda points: -witness.gradient(flat(points)).view_as(points)

    def energy(self, particles: Tensor, t: float | None = None) -> Tensor:
        """KALE of at most 2,000 target points, taken evenly."""
        x = flat(particles)
        y, weights = self.target.sketch(x, 2000)
        return kale(x, y, self.kernel.bind(x, y, t), self.lam, weights=weights).value

    def stable_step(self, particles: Tensor) -> float:
        """``lambda / ((1 + lambda) L)``: the velocity grows like 1 / lambda."""
        return self.kernel_step(particles, self.lam / (1 + self.lam))


class DrMMDField(_KernelField):
    r"""``v(z) = -grad`` of the de-regularised MMD's witness.

    The target's Gram matrix is diagonalised once, O(M^3), or for each fresh batch; a step then takes
    O(M^2 + N (N + M) d). The velocity grows like 1 / lambda, and the stable step shrinks with lambda.

    Args:
        target: Points of the target, shape (M, *).
        lam: Regularisation lambda > 0; small: chi^2, large: MMD^2.
        adaptive: Let lambda shrink as the particles come near: at each step it becomes its first value times
            ``sqrt(DrMMD / DrMMD at the first step)``, and never less than a thousandth of it.
        kernel: A positive definite kernel, or a function that gives its Gram matrices; by default a Gaussian with the
            median distance as its bandwidth, chosen at the first step.
        weights: Of the target's points, shape (M,), non-negative; scaled to sum 1. Equal by default.
        batch: Draw this many of the target's points afresh for each step, instead of all.
        seed: Random seed of that draw.

    References:
        (De)-regularized Maximum Mean Discrepancy Gradient Flow (Chen et al., 2025), JMLR 26, arXiv 2409.14980.
    """

    def __init__(
        self,
        target: Points,
        lam: float = 1e-2,
        kernel: Kernel | Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        adaptive: bool = False,
        weights: Points | None = None,
        batch: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(target, kernel, weights=weights, batch=batch, seed=seed)
        check_regularised(self.kernel, lam)
        self.adaptive, self.lam = adaptive, lam
        """Lambda now."""
        self._first: tuple[float, Tensor] | None = None
        self._known: tuple[Samples, Spectrum] | None = None

    def at(self, particles: Tensor, t: float | None = None) -> Velocity:
        """The velocity that these particles (N, *) give, at any points (K, *); an adaptive lambda changes after it."""
        x = flat(particles)
        value, witness = self._value(x, self.target.draw(x), t)
        if self.adaptive:
            if self._first is None:
                self._first = self.lam, value
            first, energy = self._first
            self.lam = first * max((value / energy).clamp(min=0).sqrt().item(), 1e-3)
        return lambda points: -witness.gradient(flat(points)).view_as(points)

    def energy(self, particles: Tensor, t: float | None = None) -> Tensor:
        """DrMMD at the present lambda; of 1,000 target points where they come in batches."""
        x = flat(particles)
        if self.target.batch is None:
            return self._value(x, self.target, t).value
        y, weights = self.target.sketch(x, 1000)
        return drmmd(x, y, self.kernel.bind(x, y, t), self.lam, weights=weights).value

    def stable_step(self, particles: Tensor) -> float:
        """``lambda / (2 (1 + lambda) L)`` with the present lambda: the velocity grows like 1 / lambda."""
        return self.kernel_step(particles, 0.5 * self.lam / (1 + self.lam))

    def _value(self, x: Tensor, target: Samples, t: float | None) -> DrMMD:
        y, weights = target.whole(x, MOST, "DrMMD diagonalises a matrix of the target's size")
        if self._known is None or self._known[0] is not target:
            self.kernel = self.kernel.bind(x, y, t)
            self._known = target, Spectrum(y, self.kernel, weights)
        return drmmd(x, y, self.kernel, self.lam, weights=weights, spectrum=self._known[1])
