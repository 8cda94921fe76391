"""How particles move: fixed-step integrators of ``dx/dt = field(x, t)``."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from wasserflow.errors import UserError, unknown

__all__ = ["SOLVERS", "flow"]

Field = Callable[[Tensor, float], Tensor]


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

CHECK_EVERY = 50  # steps between looks for NaN: each look waits for the device


@torch.no_grad()
def flow(
    x: Tensor,
    field: Field,
    *,
    steps: int,
    step_size: float = 0.1,
    solver: Literal["euler", "heun", "rk4"] = "euler",
    callback: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Move particles along a field: ``steps`` steps of ``x <- x + step_size * v(x, t)`` or of a higher-order rule.

    Args:
        x: Particles, with shape (N, *); not changed in place.
        field: ``field(x, t) -> v`` with the shape of ``x``; t starts at 0 and grows by ``step_size``.
        steps: How many steps.
        step_size: Time per step.
        solver: ``euler`` (one field evaluation a step), ``heun`` (two) or ``rk4`` (four).
        callback: Called as ``callback(k, x)`` with the particles after ``k`` steps, from 0 on.

    Returns:
        The moved particles, with shape (N, *).

    Raises:
        UserError: If the settings are out of range, or the particles stop being finite.
    """
    if solver not in SOLVERS:
        raise unknown("solver", solver, SOLVERS)
    if steps < 0 or step_size <= 0:
        raise UserError(f"steps must be >= 0 and step_size > 0, not {steps} and {step_size}")
    advance = SOLVERS[solver]
    if callback:
        callback(0, x)
    for k in range(steps):
        x = advance(x, field, k * step_size, step_size)
        if callback:
            callback(k + 1, x)
        if ((k + 1) % CHECK_EVERY == 0 or k + 1 == steps) and not torch.isfinite(x).all():
            raise UserError(
                f"the particles are no longer finite after {k + 1} steps: try a step_size below {step_size}"
            )
    return x
