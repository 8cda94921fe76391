"""How particles move: fixed-step integrators of ``dx/dt = field(x, t)``, and noise injection."""

from collections.abc import Callable
from itertools import pairwise
from math import isfinite
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.errors import UserError, check_seed, unknown
from wasserflow._core.points import P, Points, as_points, check_finite, in_kind, is_frame
from wasserflow.field.base import Field

__all__ = ["SOLVERS", "Diverged", "flow", "stable_step"]

Function = Callable[[Tensor, float], Tensor]
"""``(x, t) -> v``: a field, or a plain function."""


class Diverged(UserError):
    """A flow that stopped early, with what can be saved of it.

    Args:
        sentence: Why.
        particles: The last ones seen that were finite and, if the field has an energy, had the lowest.
        step: After how many steps they were seen.
    """

    def __init__(self, sentence: str, particles: Tensor, step: int) -> None:
        super().__init__(sentence)
        self.particles, self.step = particles, step


def euler(x: Tensor, field: Function, t: float, dt: float) -> Tensor:
    """``x + dt v(x, t)``, of order 1."""
    return x + dt * field(x, t)


def heun(x: Tensor, field: Function, t: float, dt: float) -> Tensor:
    """The trapezoidal rule with an Euler predictor, of order 2."""
    k1 = field(x, t)
    k2 = field(x + dt * k1, t + dt)
    return x + dt / 2 * (k1 + k2)


def rk4(x: Tensor, field: Function, t: float, dt: float) -> Tensor:
    """The classical Runge-Kutta method, of order 4."""
    k1 = field(x, t)
    k2 = field(x + dt / 2 * k1, t + dt / 2)
    k3 = field(x + dt / 2 * k2, t + dt / 2)
    k4 = field(x + dt * k3, t + dt)
    return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


SOLVERS = {"euler": euler, "heun": heun, "rk4": rk4}

CHECK_EVERY = 50
"""Steps between checks for NaN, each of which waits for the device, and of the energy."""

GROWING = 5
"""Checks in a row at which the energy has grown, and stands above its first value, that end a flow."""


@torch.no_grad()
def flow(
    x: P,
    field: Field | Function,
    *,
    steps: int,
    step_size: float | Callable[[int], float] | None = None,
    solver: Literal["euler", "heun", "rk4"] = "euler",
    noise: float | Callable[[int], float] = 0.0,
    seed: int = 0,
    callback: Callable[[int, P], None] | None = None,
    log: Callable[[int, float], None] | None = None,
) -> P:
    """Move particles along a field: ``steps`` steps of ``x <- x + step_size * v(x, t)`` or of a higher-order rule.

    With ``noise`` beta the field is bound to the particles but evaluated beside them,
    ``x <- x + step_size * v(x + beta_k u)`` with fresh u ~ N(0, I); the noise is not kept in the particles. It lets a
    kernel that is too narrow feel what is far away (Arbel et al., 2019, arXiv 1906.04370): begin with beta of the size
    of the space, and let it decay to 0.

    The energy of a field that has one is checked every 50 steps.

    Args:
        x: Particles, float32 or float64, with shape (N, *): a tensor, an array or a DataFrame; not changed in place.
        field: A `Field`, or a function ``(x, t) -> v`` of tensors with the shape of ``x``; t starts at 0 and grows by
            the step size.
        steps: Number of steps.
        step_size: Time per step, or a function of the number of steps taken; None: the field's ``stable_step``.
        solver: ``euler`` (one field evaluation a step), ``heun`` (two) or ``rk4`` (four).
        noise: beta >= 0, or a function of the number of steps taken; for the ``euler`` solver and a `Field`.
        seed: Random seed of the noise.
        callback: Called as ``callback(k, x)`` with the particles after ``k`` steps, from 0 on.
        log: Called as ``log(k, energy)`` whenever the energy is checked, from 0 to the last step.

    Returns:
        The moved particles, with the shape and of the kind of ``x``.

    Raises:
        UserError: If the settings are out of range, there are no particles, or one of them is not finite.
        Diverged: If the particles stop being finite, or their energy keeps growing: at five checks in a row, and beyond
            where it began. It is a `UserError` too, and carries the best particles seen.
    """
    check_seed(seed)
    particles = _particles(x)
    advance = _solver(solver)
    sizes = _step_sizes(particles, field, steps, step_size)
    velocity = _beside(particles, field, solver, noise, seed) if callable(noise) or noise != 0 else lambda k: field
    watch = _Watch(field, log)
    t = 0.0
    if callback:
        callback(0, in_kind(particles, x))
    watch.look(0, particles, t)
    for k in range(steps):
        size = sizes(k, particles)
        try:
            particles = advance(particles, velocity(k), t, size)
        except UserError as error:  # a field that cannot go on from where it has taken the particles
            raise watch.ended(k, f"{str(error).rstrip('.')} (after {k} steps)", particles) if k else error from error
        t += size
        if callback:
            callback(k + 1, in_kind(particles, x))
        if (k + 1) % CHECK_EVERY == 0 or k + 1 == steps:
            watch.look(k + 1, particles, t)
    return in_kind(particles, x)


def _particles(x: Points) -> Tensor:
    """The particles as a tensor that can move."""
    if not (isinstance(x, Tensor | np.ndarray) or is_frame(x)):
        raise UserError(f"particles must be a float32 or float64 tensor, array or DataFrame, not {type(x).__name__}")
    points = as_points(x, "the array of particles")
    if points.dtype not in (torch.float32, torch.float64) or points.ndim < 2:  # half precision loses small steps
        what = f"{str(points.dtype).removeprefix('torch.')} of {tuple(points.shape)}"
        raise UserError(f"particles must be a float32 or float64 tensor (N, *), not {what}: convert them first")
    if not len(points):
        raise UserError("there are no particles to move")
    check_finite(points, "the array of particles")
    return points


def _solver(name: str) -> Callable[[Tensor, Function, float, float], Tensor]:
    if name not in SOLVERS:
        raise unknown("solver", name, SOLVERS)
    return SOLVERS[name]


def _step_sizes(
    x: Tensor, field: Field | Function, steps: int, step_size: float | Callable[[int], float] | None
) -> Callable[[int, Tensor], float]:
    """The step size after k steps, at particles (N, *)."""
    if steps < 0:
        raise UserError(f"`steps` must be at least 0, not {steps}")
    if callable(step_size):
        return lambda k, x: step_size(k)
    if step_size is not None:
        if not 0 < step_size < float("inf"):
            raise UserError(f"`step_size` must be a finite number above 0, not {step_size}")
        return lambda k, x: step_size
    if not isinstance(field, Field):
        raise UserError("a plain function does not say which steps are stable: give `step_size`")
    stable = stable_step(field, x)
    return (lambda k, x: field.stable_step(x)) if field.adaptive else lambda k, x: stable


def stable_step(field: Field, x: Tensor) -> float:
    """The field's stable step at particles (N, *), or a `UserError` if it is no step size."""
    size = field.stable_step(x)
    if not 0 < size < float("inf"):
        raise UserError(
            "these points suggest no step size: they coincide, or lie so far apart that squares overflow; bring them "
            "to another scale or give `step_size`"
        )
    return size


def _beside(
    x: Tensor, field: Field | Function, solver: str, noise: float | Callable[[int], float], seed: int
) -> Callable[[int], Function]:
    """The field after k steps, evaluated beside the particles by noise."""
    if not isinstance(field, Field) or solver != "euler":
        raise UserError("`noise` needs `solver='euler'` and a `Field`, which field.at evaluates beside its particles")
    if not callable(noise) and not 0 < noise < float("inf"):
        raise UserError(f"`noise` must be a finite number >= 0, not {noise}")
    rng = torch.Generator(x.device).manual_seed(seed)

    def after(k: int) -> Function:
        beta = noise(k) if callable(noise) else noise
        if not beta:
            return field

        def velocity(points: Tensor, t: float) -> Tensor:
            u = torch.randn(points.shape, dtype=points.dtype, device=points.device, generator=rng)
            return field.at(points, t)(points + beta * u)

        return velocity

    return after


class _Watch:
    """Checks the particles of a flow now and then, and ends it if it has gone astray."""

    def __init__(self, field: Field | Function, log: Callable[[int, float], None] | None) -> None:
        self.field = field if isinstance(field, Field) else None
        self.log = log
        self.values: list[float] = []
        self.best: tuple[float, Tensor, int] | None = None

    def look(self, k: int, x: Tensor, t: float) -> None:
        """After k steps."""
        if not torch.isfinite(x).all():
            raise self.ended(k, f"the particles are no longer finite after {k} steps", x)
        energy = self.field.energy(x, t) if self.field else None
        value = 0.0 if energy is None else float(energy)
        if not isfinite(value):
            raise self.ended(k, f"the energy of the particles is no longer finite after {k} steps", x)
        if self.best is None or value <= self.best[0]:
            self.best = value, x, k
        if energy is not None:
            self._judge(k, value, x)

    def _judge(self, k: int, value: float, x: Tensor) -> None:
        """End the flow if the energy keeps growing."""
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
