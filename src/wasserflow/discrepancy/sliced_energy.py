r"""The energy distance by sorting: random one-dimensional projections instead of all pairs, O((N + M) log(N + M)) each.

The Euclidean distance is a mean over directions xi on the unit sphere, ``|x| = c_d E|xi . x|``, so the witness of the
MMD with the kernel ``-|x - y|`` is a mean of one-dimensional ones, which have a closed form:

.. math:: \nabla w(z) = -2 c_d\, E_\xi \big[ (F_q^\xi - F_p^\xi)(\xi \cdot z)\, \xi \big]

with the distribution functions of the projected particles and target, which at a jump take the middle value (a pair of
equal points has no force between them). They are read off one sort of both projections together.

The error of P directions is about sqrt(d / P) relative to the field, and half of that for orthogonal ones, which are
what is drawn here; in the plane they are evenly spaced, which is better still.

References:
    | Generative Sliced MMD Flows with Riesz Kernels (Hertrich et al., 2024), arXiv 2305.11463
    | Unbiased Estimation of Orthogonal Slices: Orthogonal Estimation of Wasserstein Distances (Rowland et al., 2019),
      arXiv 1903.03784
"""

import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import exp, lgamma, pi, sqrt

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.points import wide

__all__ = ["directions", "sliced_energy", "sliced_velocity", "slicing_constant"]

PART = 2**18
"""Numbers handled at a time, so that they stay in a cache."""

PROJECTED = 16
"""Directions that points are projected on at a time: each product reads all points once."""


INDEX = 2**29 - 1
"""The low bits of a float64 that a float32 leaves empty."""

LOW = 0 if sys.byteorder == "little" else 1


def slicing_constant(d: int, r: float = 1.0) -> float:
    r"""``c`` in :math:`|x|^r = c\, E_\xi |\xi \cdot x|^r`, xi uniform on the sphere of R^d.

    .. math:: c_{d,r} = \frac{\sqrt\pi\, \Gamma((d + r) / 2)}{\Gamma(d / 2)\, \Gamma((r + 1) / 2)}
    """
    return sqrt(pi) * exp(lgamma((d + r) / 2) - lgamma(d / 2) - lgamma((r + 1) / 2))


def directions(d: int, count: int, rng: np.random.Generator) -> Tensor:
    """Unit vectors, uniform each and orthogonal in blocks of d; in the plane evenly spaced: float32 (count, d)."""
    if d == 1:
        return torch.ones(1, 1)
    if d == 2:
        angles = pi * (np.arange(count) + rng.random()) / count
        return torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32))
    blocks = []
    for start in range(0, count, d):
        normal = rng.standard_normal((d, min(d, count - start)), np.float32)
        q, r = torch.linalg.qr(torch.from_numpy(normal))
        blocks.append((q * r.diagonal().sign()).T)  # with the signs the basis is uniform
    return torch.cat(blocks)


def sliced_velocity(z: Tensor, x: Tensor, y: Tensor, xi: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""``(2 c_d / P) sum_xi (F_x - F_y)(xi . z) xi``: how the energy moves points z, with shape (K, d).

    On the CPU slices are shared among as many threads as torch uses.

    Args:
        z: Where, shape (K, d). The particles themselves (the same tensor), in float32 on the CPU with equal weights,
            take a quarter of the time: one sort of numbers instead of one of indices.
        x: Particles, shape (N, d).
        y: Target, shape (M, d).
        xi: Directions, shape (P, d).
        weights: Of the target's points, shape (M,), with sum 1; equal by default.
    """
    xi = xi.to(z)
    few = z.shape[1] < PROJECTED  # then a product that writes coordinate by coordinate takes a third of the time
    total = z.new_zeros(z.shape[1], len(z)).T if few else torch.zeros_like(z)
    if z is x and weights is None and z.device.type == "cpu" and z.dtype == torch.float32:
        sorter = _Sorter(len(x), len(y), len(xi))
        at_once = min(len(xi), max(sorter.rows, PROJECTED))
        projected, forces = z.new_empty(at_once, len(x) + len(y)), z.new_empty(at_once, len(x))
        for block in xi.split(at_once):
            there = slice(len(block))
            sorter.read(_project(block, (x, y), projected[there]), forces[there])
            total.addmm_(forces[there].T, block)
    else:
        mass = [_equal(x), -(_equal(y) if weights is None else weights)]
        points = [x, y] if z is x else [x, y, z]
        signed = torch.cat(mass if z is x else [*mass, z.new_zeros(len(z))])
        wanted = slice(len(x)) if z is x else slice(len(x) + len(y), None)
        for block in xi.split(max(1, PART // len(signed))):
            total.addmm_(_middle(_project(block, points), signed)[:, wanted].T, block)
    return total.mul_(2 * slicing_constant(z.shape[1]) / len(xi)).contiguous()


def sliced_energy(x: Tensor, y: Tensor, xi: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""1/2 MMD^2 of the kernel -|x - y|, as ``(c_d / P) sum_xi int (F_x - F_y)^2``; half the energy distance (V).

    Args:
        x: Particles, shape (N, d).
        y: Target, shape (M, d).
        xi: Directions, shape (P, d).
        weights: Of the target's points, shape (M,), with sum 1; equal by default.

    Returns:
        A 0-dimensional tensor.
    """
    signed = torch.cat([_equal(x), -(_equal(y) if weights is None else weights)])
    total = x.new_zeros(())
    for block in xi.to(x).split(max(1, PART // len(signed))):
        projected, order = _project(block, (x, y)).sort(-1)
        gap = signed[order].cumsum(-1)[:, :-1]
        total += (gap.square() * projected.diff(dim=-1)).sum()
    return total * slicing_constant(x.shape[1]) / len(xi)


def _project(xi: Tensor, clouds: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
    """``xi . points`` of the clouds one after the other, with shape (P, S)."""
    counts = [len(cloud) for cloud in clouds]
    out = xi.new_empty(len(xi), sum(counts)) if out is None else out
    for part, cloud in zip(out.split(counts, 1), clouds, strict=True):
        torch.mm(xi, cloud.T, out=part)
    return out


def _equal(x: Tensor) -> Tensor:
    return x.new_full((len(x),), 1 / len(x))


def _middle(projected: Tensor, signed: Tensor) -> Tensor:
    """``F_x - F_y`` at every point of every projection (P, S), in the middle of its jump; any weights, any device."""
    values, order = projected.sort(-1)
    after = wide(signed)[order].cumsum(-1)
    before = after - signed[order]
    place = torch.arange(values.shape[1], device=values.device).expand_as(order)
    jump = values[:, 1:] != values[:, :-1]
    ends = torch.nn.functional.pad(jump, (0, 1), value=True)
    starts = torch.nn.functional.pad(jump, (1, 0), value=True)
    first = torch.where(starts, place, 0).cummax(-1).values
    last = torch.where(ends, place, values.shape[1] - 1).flip(-1).cummin(-1).values.flip(-1)
    middle = ((before.gather(-1, first) + after.gather(-1, last)) / 2).to(projected.dtype)
    return torch.empty_like(projected).scatter_(-1, order, middle)


class _Scratch(threading.local):
    """Memory that each thread keeps from sort to sort."""

    packed: np.ndarray | None = None


class _Sorter:
    """`_middle` for equal weights at the particles alone, four times as fast: a vectorised sort of plain numbers.

    A float32 widened to float64 has 29 idle low bits. With each number's column written there, sorting the numbers
    carries the order along, and NumPy sorts numbers several times faster than it sorts indices. What follows the sort
    goes through it in parts that stay in a cache, and memory is kept from sort to sort.

    Args:
        n: Number of particles.
        m: Number of target points.
        slices: Number of projections.
    """

    def __init__(self, n: int, m: int, slices: int) -> None:
        if n + m >= 2**29:
            raise UserError(f"{n:,} particles and {m:,} target points are too many for one sort: give a batch")
        self.n, self.m = n, m
        self.rows = max(1, min(slices, PART // (n + m)))  # projections sorted at a time
        row, rank = np.divmod(np.arange(self.rows * n), n)
        self.target = row * n  # where a particle's force goes, less its column
        # Particle k has `rank` particles and `place - row * size - rank` targets before it, and half of itself.
        self.order = (rank + 0.5) / n + (rank + row * (n + m)) / m
        self.columns = np.arange(n + m)
        self.local = _Scratch()

    def read(self, projected: Tensor, out: Tensor) -> None:
        """Write ``F_x - F_y`` at the particles to (P, n), from projections (P, n + m), the particles' columns first."""
        jobs = list(zip(projected.split(self.rows), out.split(self.rows), strict=True))
        workers = min(torch.get_num_threads(), len(jobs))
        if workers == 1:
            for job in jobs:
                self._sort(*job)
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(self._sort, *zip(*jobs, strict=True)))

    def _sort(self, projected: Tensor, out: Tensor) -> None:
        if self.local.packed is None:
            self.local.packed = np.empty((self.rows, self.n + self.m))
        packed = self.local.packed[: len(projected)]
        bits = packed.view(np.int64)
        np.add(projected.numpy(), 0.0, out=packed)  # -0 + 0 = 0
        np.bitwise_or(bits, self.columns, out=bits)
        packed.sort(-1)
        start, seen, packed = 0, 0, packed.ravel()
        while start < packed.size:
            stop = min(start + PART, packed.size)
            if stop < packed.size:  # not between equal numbers
                stop = int(np.searchsorted(packed, _largest(packed[stop - 1]), "right"))
            seen += self._read(packed[start:stop], start, seen, out)
            start = stop

    def _read(self, packed: np.ndarray, start: int, seen: int, out: Tensor) -> int:
        """The forces on the particles in a part of the sorted numbers, which begins at a place; returns how many."""
        bits = packed.view(np.int64)
        column = packed.view(np.int32)[LOW::2] & INDEX
        place = np.flatnonzero(column < self.n)
        count = len(place)
        force = place * (-1 / self.m)
        force += self.order[seen : seen + count]
        if start:
            force -= start / self.m
        goal = column.take(place).astype(np.int64)
        if self.rows > 1:
            goal += self.target[seen : seen + count]
        out = out.view(-1).scatter_(0, torch.from_numpy(goal), torch.from_numpy(force).float())
        bits &= ~INDEX
        same = packed[1:] == packed[:-1]
        same[self.n + self.m - 1 :: self.n + self.m] = False  # the last of a projection and the first of the next
        tied = np.flatnonzero(same)
        if len(tied):
            self._settle_ties(out.numpy(), tied, column, start)
        return count

    def _settle_ties(self, out: np.ndarray, tied: np.ndarray, column: np.ndarray, start: int) -> None:
        """Give equal numbers, which the sort has put in the order of their columns, the middle of their common jump.

        Args:
            out: The forces, flat.
            tied: Places in the part whose number equals the next.
            column: Of the numbers of the part.
            start: Of the part.
        """
        begins = np.r_[True, np.diff(tied) != 1]
        run = np.cumsum(begins) - 1
        first, last = tied[begins], tied[np.r_[begins[1:], True]] + 1
        row = (start + first) // (self.n + self.m) * self.n
        inner, final = column[tied] < self.n, column[last] < self.n
        held = np.add.reduceat(inner.astype(np.int64), np.flatnonzero(begins)) + final  # particles in each run
        some = np.flatnonzero(held)
        # Below zero larger bits are smaller numbers: there the target's points come first.
        below = column[first[some]] > column[last[some]]
        head = np.where(below, last[some] + 1 - held[some], first[some])  # its first particle
        own = out[row[some] + column[head]]  # in the middle of its own jump, without ties
        half = (last - first + 1 - held)[some] / (2 * self.m)
        forces = np.zeros(len(first), np.float32)
        forces[some] = own + (held[some] - 1) / (2 * self.n) + np.where(below, half, -half)
        out[row[final] + column[last[final]]] = forces[final]
        run, tied = run[inner], tied[inner]
        out[row[run] + column[tied]] = forces[run]


def _largest(number: np.float64) -> np.float64:
    """The largest number that a column written into the low bits can make of this one."""
    bits = number.view(np.int64)
    return (bits | INDEX if number >= 0 else bits & ~INDEX).view(np.float64)
