"""How particles move: fixed-step integrators of ``dx/dt = field(x, t)``, and noise injection."""

from collections.abc import Callable
from itertools import pairwise
from math import isfinite
from typing import Any, Literal

import torch
from torch import Tensor

from wasserflow._core.errors import UserError, check_seed, unknown
from wasserflow._core.points import check_finite

__all__ = ["SOLVERS", "Diverged", "flow"]

Field = Callable[[Tensor, float], Tensor]


class Diverged(UserError):
    """A flow that stopped early, with what can be saved of it.

    Args:
        sentence: Why.
        particles: The last ones seen that were finite and, where the field has an energy, had the lowest.
        step: After how many steps they were seen.
    """

    def __init__(self, sentence: str, particles: Tensor, step: int) -> None:
        super().__init__(sentence)
        self.particles, self.step = particles, step


def euler(x: Tensor, field: Field, t: float, dt: float) -> Tensor:
    """``x + dt v(x, t)``, of order 1."""
    return x + dt * field(x, t)


def heun(x: Tensor, field: Field, t: float, dt: float) -> Tensor:
    """The trapezoidal rule with an Euler predictor, of order 2."""
    k1 = field(x, t)
    k2 = field(x + dt * k1, t + dt)
    return x + dt / 2 * (k1 + k2)


def rk4(x: Tensor, field: Field, t: float, dt: float) -> Tensor:
    """The classical Runge-Kutta method, of order 4."""
    k1 = field(x, t)
    k2 = field(x + dt / 2 * k1, t + dt / 2)
    k3 = field(x + dt / 2 * k2, t + dt / 2)
    k4 = field(x + dt * k3, t + dt)
    return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


SOLVERS = {"euler": euler, "heun": heun, "rk4": rk4}

CHECK_EVERY = 50
"""Steps between looks for NaN, each of which waits for the device, and at the energy."""

GROWING = 5
"""Looks in a row at which the energy has grown, and stands above its first value, that end a flow."""


@torch.no_grad()
def flow(
    x: Tensor,
    field: Any,
    *,
    steps: int,
    step_size: float | Callable[[int], float] = 0.1,
    solver: Literal["euler", "heun", "rk4"] = "euler",
    noise: float | Callable[[int], float] = 0.0,
    seed: int = 0,
    callback: Callable[[int, Tensor], None] | None = None,
    log: Callable[[int, float], None] | None = None,
) -> Tensor:
    """Move particles along a field: ``steps`` steps of ``x <- x + step_size * v(x, t)`` or of a higher-order rule.

    With ``noise`` beta the field is bound to the particles but evaluated beside them,
    ``x <- x + step_size * v(x + beta_k u)`` with fresh u ~ N(0, I); the noise is not kept in the particles. It lets a
    kernel that is too narrow feel what is far away (Arbel et al., 2019, arXiv 1906.04370): begin with beta of the size
    of the space, and let it fall to 0.

    A field with an ``energy(x, t)`` is watched, every 50 steps.

    Args:
        x: Particles, float32 or float64, with shape (N, *); not changed in place.
        field: ``field(x, t) -> v`` with the shape of ``x``; t starts at 0 and grows by the step size.
        steps: How many steps.
        step_size: Time per step, or a function of the number of steps taken.
        solver: ``euler`` (one field evaluation a step), ``heun`` (two) or ``rk4`` (four).
        noise: beta >= 0, or a function of the number of steps taken; with the ``euler`` solver and fields that can be
            bound, ``field.at(x, t)(points)``.
        seed: Of the noise.
        callback: Called as ``callback(k, x)`` with the particles after ``k`` steps, from 0 on.
        log: Called as ``log(k, energy)`` at each look at the energy, from 0 to the last step.

    Returns:
        The moved particles, with shape (N, *).

    Raises:
        UserError: If the settings are out of range, there are no particles, or one of them is not finite.
        Diverged: If the particles stop being finite, or their energy keeps growing: at five looks in a row, and beyond
            where it began. It is a `UserError` too, and carries the best particles seen.
    """
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64) or x.ndim < 2:  # half loses steps
        what = f"{str(x.dtype).removeprefix('torch.')} of {tuple(x.shape)}" if hasattr(x, "dtype") else type(x).__name__
        raise UserError(f"particles must be a float32 or float64 tensor (N, *), not {what}: torch.as_tensor(x).float()")
    if not len(x):
        raise UserError("there are no particles to move")
    check_finite(x, "the array of particles")
    if solver not in SOLVERS:
        raise unknown("solver", solver, SOLVERS)
    if steps < 0 or (not callable(step_size) and not 0 < step_size < float("inf")):
        raise UserError(f"steps must be >= 0 and step_size > 0, not {steps} and {step_size}")
    check_seed(seed)
    noisy = callable(noise) or noise != 0
    if noisy and (solver != "euler" or not hasattr(field, "at")):
        raise UserError("noise needs the euler solver and a field that can be evaluated beside its particles, field.at")
    if noisy and not callable(noise) and not 0 < noise < float("inf"):
        raise UserError(f"noise must be a finite number >= 0, not {noise}")
    rng = torch.Generator(x.device).manual_seed(seed) if noisy else None

    def beside(points: Tensor, t: float) -> Tensor:
        beta = noise(k) if callable(noise) else noise
        if not beta:
            return field(points, t)
        return field.at(points, t)(points + beta * torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=rng))

    advance, velocity = SOLVERS[solver], beside if noisy else field
    watch = _Watch(field, log)
    t = 0.0
    if callback:
        callback(0, x)
    watch.look(0, x, t)
    for k in range(steps):
        size = step_size(k) if callable(step_size) else step_size
        try:
            x = advance(x, velocity, t, size)
        except UserError as error:  # a field that cannot go on from where it has taken the particles
            raise watch.ended(k, f"{str(error).rstrip('.')} (after {k} steps)", x) if k else error from error
        t += size
        if callback:
            callback(k + 1, x)
        if (k + 1) % CHECK_EVERY == 0 or k + 1 == steps:
            watch.look(k + 1, x, t)
    return x


class _Watch:
    """Looks at the particles of a flow now and then, and ends it where it has gone astray."""

    def __init__(self, field: Any, log: Callable[[int, float], None] | None) -> None:
        self.energy = getattr(field, "energy", None)
        self.log = log
        self.values: list[float] = []
        self.best: tuple[float, Tensor, int] | None = None

    def look(self, k: int, x: Tensor, t: float) -> None:
        """After k steps."""
        if not torch.isfinite(x).all():
            raise self.ended(k, f"the particles are no longer finite after {k} steps", x)
        value = float(self.energy(x, t)) if self.energy else 0.0
        if not isfinite(value):
            raise self.ended(k, f"the energy of the particles is no longer finite after {k} steps", x)
        if self.best is None or value <= self.best[0]:
            self.best = value, x, k
        if not self.energy:
            return
        if self.log:
            self.log(k, value)
        self.values.append(value)
        last = self.values[-GROWING - 1 :]
        if len(last) > GROWING and value > self.values[0] and all(a < b for a, b in pairwise(last)):
            raise self.ended(k, f"the energy has grown from {last[0]:.4g} to {value:.4g} up to step {k}", x)

    def ended(self, k: int, why: str, x: Tensor) -> Diverged:
        """The error that ends the flow after k steps, with the best particles seen."""
        _, particles, step = self.best or (0.0, x, k)
        return Diverged(f"{why}: try a smaller step size", particles, step)
