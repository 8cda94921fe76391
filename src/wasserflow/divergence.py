r"""f-divergences and monotone maps: one table, written on the logit.

Notation: p is the data, q the particles, ``d = log p/q`` the logit, ``r = p/q = exp(d)``, ``rho = q/p = exp(-d)``.
A particle moves along ``s(d) grad d`` with a positive rate ``s``. One scalar function fixes the rate, and there
are three equivalent ways to give it:

* ``F(q) = E_p f(q/p)``   (VGrow):     ``s = rho f''(rho)``
* ``F(q) = E_q g(p/q)``   (MonoFlow):  ``s = r^2 g''(r)``,  ``g(r) = r f(1/r)``
* ``h`` increasing        (MonoFlow):  ``s = h'(d)``,       ``h(log r) = r g'(r) - g(r) + const``

A generator that draws the flow minimises ``-E h(d(G(z)))``: every divergence GAN is one row of this table, and the
rows with an f are at the same time what a classifier can minimise to learn ``d`` (`wasserflow.ratio`).

`named` finds a row, or a member of the family `alpha` by ``alpha:A``; `define_map` adds a custom map.

References:
    | Deep Generative Learning via Variational Gradient Flow (Gao et al., 2019), arXiv 1901.08469
    | MonoFlow: Rethinking Divergence GANs via the Perspective of Wasserstein Gradient Flows
      (Yi, Zhu & Liu, 2023), arXiv 2302.01075
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, log

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from wasserflow._core.errors import UserError, unknown

__all__ = ["CATALOGUE", "D_MAX", "NAMES", "Map", "alpha", "define_map", "named"]

Scalar = Callable[[Tensor], Tensor]

D_MAX = log(99)
"""Where an exponentially growing rate stops growing: Jeffreys' ``1 + e^d`` stays within [1, 100]."""

CHECKED = 20.0
"""Largest ``|d|`` at which a custom map is checked, and used as it is."""

FLAT = 1e-6
"""A rate that falls to less than this part of its value a hundredth away counts as 0."""


@dataclass(frozen=True)
class Map:
    r"""An increasing map ``h`` of the logit, and the f-divergence it comes from, if there is one.

    Outside ``bounds`` the rate keeps its value at the bound and ``h`` goes on linearly, so that ``h' = rate``
    holds everywhere and nothing overflows.

    Args:
        name: Name in the table.
        formula_rate: ``s(d) = h'(d) > 0``, elementwise, within the bounds.
        formula_h: ``h(d)``, elementwise, within the bounds.
        f: ``f(rho)`` of the divergence ``E_p f(q/p)``; None if ``h`` has no closed-form divergence.
        critic: ``g'(e^d)`` up to a constant, what an f-GAN's critic should be: its derivative is ``s(d) e^{-d}``.
        estimate: The divergence's value from the logits of data and of particles, each ``(N,)``; logits that are
            exponentiated are held within log 99 of 0.
        bounds: The interval of ``d + shift`` on which the formulas are used as they are.
        shift: ``C`` in ``h(d + C)``.
        aliases: Other names of the same map.
    """

    name: str
    formula_rate: Scalar
    formula_h: Scalar
    f: Scalar | None = None
    critic: Scalar | None = None
    estimate: Callable[[Tensor, Tensor], Tensor] | None = None
    bounds: tuple[float, float] = (-inf, inf)
    shift: float = 0.0
    aliases: tuple[str, ...] = ()

    def rate(self, d: Tensor) -> Tensor:
        """``s(d) = h'(d)``, positive and finite, with the shape and dtype of ``d``."""
        return self.formula_rate((d + self.shift).clamp(*self.bounds))

    def h(self, d: Tensor) -> Tensor:
        """``h(d)``, increasing, with the shape and dtype of ``d``."""
        d = d + self.shift
        inside = d.clamp(*self.bounds)
        return self.formula_h(inside) + self.formula_rate(inside) * (d - inside)

    def g(self, r: Tensor) -> Tensor:
        """The integrand over q, in ``r = p/q``, of the divergence that ``f`` integrates over p."""
        assert self.f is not None, f"{self.name} has no closed-form divergence"
        return r * self.f(1 / r)

    def shifted(self, shift: float) -> "Map":
        """The map ``h(d + C)``: no row's divergence any more (for ``js``: a skewed Jensen-Shannon)."""
        return replace(self, shift=shift, f=None, critic=None, estimate=None) if shift else self


CATALOGUE = (
    Map(
        "kl",  # KL(q|p)
        torch.ones_like,
        lambda d: d,
        f=lambda rho: rho * rho.log(),
        critic=lambda d: -(-d).exp(),
        estimate=lambda d_p, d_q: -d_q.mean(),
        aliases=("logit",),
    ),
    Map(
        "logd",  # KL(p+q|p) - 2 log 2
        lambda d: torch.sigmoid(-d),
        logsigmoid,
        f=lambda rho: (1 + rho) * torch.log1p(rho) - 2 * log(2),
        critic=lambda d: softplus(-d) - (-d).exp(),
        estimate=lambda d_p, d_q: softplus(-d_p).mean() + softplus(-d_q).mean() - 2 * log(2),
        aliases=("ns",),
    ),
    Map(
        "js",  # twice the Jensen-Shannon divergence, at most 2 log 2
        torch.sigmoid,
        softplus,
        f=lambda rho: rho * rho.log() - (1 + rho) * ((1 + rho) / 2).log(),
        critic=logsigmoid,
        estimate=lambda d_p, d_q: 2 * log(2) - softplus(-d_p).mean() - softplus(d_q).mean(),
        aliases=("vanilla",),
    ),
    Map(
        "jeffreys",  # KL(q|p) + KL(p|q)
        lambda d: 1 + d.exp(),
        lambda d: d + d.exp(),
        f=lambda rho: (rho - 1) * rho.log(),
        critic=lambda d: d - (-d).exp(),
        estimate=lambda d_p, d_q: d_p.mean() - d_q.mean(),
        bounds=(-inf, D_MAX),
    ),
    Map(
        "forward-kl",  # KL(p|q)
        torch.exp,
        torch.exp,
        f=lambda rho: -rho.log(),
        critic=lambda d: d,
        estimate=lambda d_p, d_q: d_p.mean(),
        bounds=(-inf, D_MAX),
        aliases=("mle",),
    ),
    Map(
        "chi2",  # E_q (p/q - 1)^2
        lambda d: 2 * (2 * d).exp(),
        lambda d: (2 * d).exp(),
        f=lambda rho: 1 / rho - 2 + rho,
        critic=lambda d: 2 * d.exp(),
        estimate=lambda d_p, d_q: _mean_power(d_p, 1),
        bounds=(-inf, D_MAX),
    ),
    Map(
        "pearson",  # E_p (q/p - 1)^2 / 2
        lambda d: (-d).exp(),
        lambda d: -(-d).exp(),
        f=lambda rho: (rho - 1).square() / 2,
        critic=lambda d: -(-2 * d).exp() / 2,
        estimate=lambda d_p, d_q: -_mean_power(d_q, -1) / 2,
        bounds=(-D_MAX, inf),
    ),
    Map(
        "hellinger",  # E_p (sqrt(q/p) - 1)^2
        lambda d: (d / 2).exp() / 2,
        lambda d: (d / 2).exp(),
        f=lambda rho: (rho.sqrt() - 1).square(),
        critic=lambda d: -(-d / 2).exp(),
        estimate=lambda d_p, d_q: -_mean_power(d_q, 0.5),
        bounds=(-inf, D_MAX),
    ),
    Map("arcsinh", lambda d: (1 + d.square()).rsqrt(), torch.asinh),
    Map(
        "lsgan",  # least squares GAN, its output read as sigmoid(d)
        lambda d: 2 * torch.sigmoid(d) * torch.sigmoid(-d).square(),
        lambda d: -(2 * logsigmoid(-d)).exp(),  # the derivative of sigmoid(-d)^2 by autograd has no digits at d = -30
    ),
)

_BY_NAME = {name: row for row in CATALOGUE for name in (row.name, *row.aliases)}
NAMES = tuple(_BY_NAME)
"""Names and aliases of the rows of `CATALOGUE`.

`named` also takes ``alpha:A`` with a number A for a member of the family `alpha`, and names given to `define_map`.
"""

ALPHA = "alpha:"
NOTHING = 1e-30
"""A factor that float32 need not tell from 0 in an exponent."""
LARGEST_ALPHA = 8.0
"""With ``|d| <= log 99`` inside the bounds, the rate is at most 10^16, which float32 holds."""


def alpha(a: float) -> Map:
    r"""``h(d) = (e^{a d} - 1) / a`` with the rate ``e^{a d}``: the alpha-divergences.

    They are ``E_p f(q/p)`` with ``f(rho) = (rho^{1-a} - 1 - (1-a)(rho - 1)) / (a (a-1))``: KL(q|p) for a = 0, KL(p|q)
    for a = 1, Pearson's chi-square for a = -1, half of ``chi2`` for a = 2, twice the squared Hellinger for a = 1/2.

    Raises:
        UserError: If ``a`` is beyond what float32 can hold.
    """
    if not abs(a) <= LARGEST_ALPHA:
        raise UserError(f"{ALPHA}A takes numbers from -{LARGEST_ALPHA:g} to {LARGEST_ALPHA:g}, not {a:g}")

    # E_q e^{a d} is E_p e^{(a-1) d}: each form keeps its digits on one side, at 0 and at 1.
    def f(rho: Tensor) -> Tensor:
        if a < 0.5:
            return (rho * _power(-rho.log(), a) + rho - 1) / (a - 1)
        return (rho - 1 - _power(rho.log(), 1 - a)) / a

    def estimate(d_p: Tensor, d_q: Tensor) -> Tensor:
        return _mean_power(d_q, a) / (a - 1) if a < 0.5 else _mean_power(d_p, a - 1) / a

    return Map(
        f"{ALPHA}{a:g}",
        lambda d: (a * d).exp(),
        lambda d: _power(d, a),
        f=f,
        critic=lambda d: _power(d, a - 1),
        estimate=estimate,
        bounds=(-D_MAX if a < 0 else -inf, D_MAX if a > 0 else inf),
    )


def _power(d: Tensor, a: float) -> Tensor:
    """``(e^{a d} - 1) / a``, and its limit ``d`` at a = 0."""
    if abs(a) < NOTHING:
        return d
    power = a * d  # expm1 has the digits near 0, but no exact derivative in autograd away from it
    return torch.where(power.abs() < 0.5, torch.expm1(power), power.exp() - 1) / a


def _mean_power(d: Tensor, a: float) -> Tensor:
    """``E (e^{a d} - 1) / a``, with ``d`` clamped to the bounds of the rates: one logit cannot outweigh all others."""
    return _power(d.clamp(-D_MAX, D_MAX) if abs(a) >= NOTHING else d, a).mean()


def named(name: str) -> Map:
    """The row of the table with this name or alias, a map that `define_map` has added, or a member of `alpha`.

    Raises:
        UserError: If there is none; it names the nearest ones.
    """
    if name.startswith(ALPHA):
        try:
            return alpha(float(name.removeprefix(ALPHA)))
        except ValueError:
            raise UserError(f"{name!r} needs a number after the colon, as in {ALPHA}0.5") from None
    if name not in _BY_NAME:
        known = (*_BY_NAME, f"{ALPHA}A", "and what wasserflow.define_map has added in this program")
        raise unknown("divergence or map", name, known)
    return _BY_NAME[name]


def define_map(name: str, h: Scalar) -> Map:
    """Add a custom increasing map under a name that ``divergence=`` and a run's record can hold.

    The rate ``h'`` is computed by autograd. Outside [-20, 20], where it is checked, ``h`` goes on linearly. A program
    that resumes or loads a run trained with the map defines it first.

    Args:
        name: Name of the map; a map defined earlier is replaced, one of the catalogue is not.
        h: An elementwise, differentiable function of tensors with ``h'(d) > 0`` in float64. A rate that vanishes at a
            point, as that of ``d^3`` at 0, is refused: particles there would never move.

    Returns:
        The new row.

    Raises:
        UserError: If the name is empty or taken, or h is not elementwise, not increasing, or not finite in float64 or
            float32.
    """
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"a custom map needs a name, not {name!r}")
    if name in NAMES or name.startswith(ALPHA):
        raise UserError(f"the name {name!r} is taken by a map that comes with wasserflow: choose another")
    row = Map(name, lambda d: _derivative(h, d), h, bounds=(-CHECKED, CHECKED))
    half = torch.linspace(0, CHECKED, 2001, dtype=torch.float64)
    grid = torch.cat([-half[1:].flip(0), half])  # with 0 itself in it
    _check_increasing(row, grid)
    _check_increasing(row, grid.float())
    _check_nowhere_flat(row, grid)
    _BY_NAME[name] = row
    return row


def _check_increasing(row: Map, d: Tensor) -> None:
    """Raise a `UserError` unless ``h`` is elementwise, finite and increasing at ``d``."""
    name, h = row.name, row.formula_h
    try:
        values, rate = h(d), row.rate(d)
        alone = h(d[:1])
    except Exception as error:  # whatever a function of the user's may raise
        raise UserError(f"the map {name!r} cannot be used as a differentiable function of tensors: {error}") from error
    if values.shape != d.shape or not torch.allclose(values[:1], alone, equal_nan=True):
        raise UserError(f"the map {name!r} is not elementwise: each h(d) must depend on its own d alone")
    for what, wrong in (("not finite", ~(values.isfinite() & rate.isfinite())), ("not increasing", ~(rate > 0))):
        if wrong.any():
            first = (values[0] for values in (d[wrong], values[wrong], rate[wrong]))
            where = "d = {:g} (h = {:g}, h' = {:g}, in {})".format(*first, str(d.dtype).removeprefix("torch."))
            needed = f"h' must be above 0 and finite from -{CHECKED:g} to {CHECKED:g}"
            raise UserError(f"the map {name!r} is {what} at {where}: {needed}")


def _check_nowhere_flat(row: Map, d: Tensor) -> None:
    """Raise a `UserError` if ``h'`` falls to nearly 0 between the points ``d``, found by zooming in on its minima."""
    rate = row.rate(d)
    low = 1 + ((rate[1:-1] <= rate[:-2]) & (rate[1:-1] <= rate[2:])).nonzero().flatten()
    left, right, around = d[low - 1], d[low + 1], torch.minimum(rate[low - 1], rate[low + 1])
    shares = torch.linspace(0, 1, 21, dtype=d.dtype)
    for _ in range(8):
        points = left[:, None] + (right - left)[:, None] * shares
        least, at = row.rate(points.flatten()).view_as(points).min(1)
        left, right = (points.gather(1, (at + side).clamp(0, 20)[:, None])[:, 0] for side in (-1, 1))
        wrong = ~(least > FLAT * around)
        if wrong.any():
            where = ((left + right) / 2)[wrong][0]
            raise UserError(
                f"the map {row.name!r} is flat at d = {where:.4g} (h' = {least[wrong][0]:.2g}): "
                f"h' must be above 0 from -{CHECKED:g} to {CHECKED:g}"
            )


def _derivative(h: Scalar, d: Tensor) -> Tensor:
    with torch.enable_grad():
        d = d.detach().requires_grad_()
        (slope,) = torch.autograd.grad(h(d).sum(), d)
    return slope
