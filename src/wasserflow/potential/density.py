r"""What a potential leaves behind: log-densities read off it, and likelihoods of the flow along it.

Two different numbers. `log_density` reads ``log p_t`` off psi at one time, in one evaluation, up to a constant that is
the same for all points. `flow_log_likelihood` is that of the samples' own distribution: the change of variables along
the ODE,

    ``log p(x) = log N(x(0); 0, s(0)^2 I) - int_0^1 div v(x(t), t) dt``,

normalised, and as costly as drawing samples.
"""

from math import log, pi

import torch
from torch import Tensor, nn

from wasserflow._core.noise import sample_noise
from wasserflow.path import Path, over, squared_norm

__all__ = ["READ_AT", "flow_log_likelihood", "log_density"]

READ_AT = 0.7
"""The time at which densities are read by default: later they are sharper, and psi's errors over b are larger."""


def log_density(potential: nn.Module, path: Path, x: Tensor, t: float, label: Tensor | None = None) -> Tensor:
    """``log p(x)`` up to one constant, (N,), of the data blurred by ``s(t)/mu(t)``, for points (N, *).

    It is ``log p_t(mu x) + D log mu``. With psi's constants per time fixed (a time score in training) the constant is
    ``-D/2 log(2 pi s(0)^2)``.
    """
    times = torch.full((len(x),), t, device=x.device, dtype=x.dtype)
    mu = path.mu(times)
    x_t = over(mu, x) * x
    with torch.no_grad():
        psi = potential(x_t, times, label)
    return path.log_density(psi, x_t, times) + x[0].numel() * mu.log()


def flow_log_likelihood(
    potential: nn.Module,
    path: Path,
    x: Tensor,
    *,
    steps: int = 50,
    probes: int | None = 1,
    seed: int = 0,
    first: int = 0,
    end: float = 1 - 1e-3,
    label: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``log p(x)``, (N,), of the flow from noise at t = 0 to ``end``, and where x came from, (N, *).

    Heun's rule backwards in time. The divergence is Hutchinson's estimate ``E z.(H z)`` with signs z, H psi's Hessian
    ("FFJORD", Grathwohl et al., 2018, arXiv 1810.01367): unbiased, and the same z along one trajectory.

    Args:
        potential: ``psi(x, t, label)``.
        path: Whose noise starts the flow.
        x: Points, (N, *).
        steps: Steps of Heun's rule.
        probes: Probes of Hutchinson's estimate; None for the exact trace, in D of them.
        seed: Random seed of the probes; point i has its own.
        first: The number of the first point.
        end: Where the points lie; the path's field need not exist at 1.
        label: Labels, (N,).
    """
    size = x[0].numel()
    if probes is None:
        basis = torch.eye(size, device=x.device, dtype=x.dtype).view(size, 1, *x.shape[1:])
        signs = [basis[i].expand_as(x) for i in range(size)]
    else:
        drawn = sample_noise(seed, first, first + len(x), (probes, *x.shape[1:])).to(x)
        signs = list(torch.where(drawn >= 0, 1.0, -1.0).to(x).transpose(0, 1))
    weight = 1.0 if probes is None else 1 / len(signs)

    def slopes(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        times = torch.full((len(x),), t, device=x.device, dtype=x.dtype)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (v,) = torch.autograd.grad(potential(x, times, label).sum(), x, create_graph=True)
            traces = [
                (torch.autograd.grad((v * z).sum(), x, retain_graph=True)[0] * z).flatten(1).sum(1) for z in signs
            ]
        return v.detach(), weight * torch.stack(traces).sum(0)

    dt = -end / steps
    total = x.new_zeros(len(x))
    for k in range(steps):
        t = end + k * dt
        v1, div1 = slopes(x, t)
        v2, div2 = slopes(x + dt * v1, max(t + dt, 0.0))
        x = x + dt / 2 * (v1 + v2)
        total = total + dt / 2 * (div1 + div2)
    s = float(path.s(torch.zeros(())))
    prior = -squared_norm(x) / (2 * s**2) - size / 2 * log(2 * pi * s**2)
    return prior + total, x
