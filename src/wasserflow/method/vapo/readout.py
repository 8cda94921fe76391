"""What can be read off a model's potential: log-densities, likelihoods, psi itself."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wasserflow._core.errors import UserError, unknown
from wasserflow.path import squared_norm
from wasserflow.potential.density import flow_log_likelihood, log_density

if TYPE_CHECKING:
    from wasserflow.method.vapo.model import VAPO

__all__ = ["KINDS", "check_density", "check_readable", "likelihood", "read"]

KINDS = ("density", "likelihood", "potential", "published")


def check_readable(model: "VAPO", x: Tensor, kind: str, time: float, label: int) -> None:
    """Raise a `UserError` if numbers of this kind cannot be read off the potential at points x (N, *shape)."""
    if kind not in KINDS:
        raise unknown("kind of log-density", kind, KINDS)
    if x.shape[1:] != model.shape:
        raise UserError(f"log-densities need samples of shape {model.shape}, not {tuple(x.shape[1:])}")
    if kind == "density":
        check_density(model, "`kind='density'` needs a density")
    if label >= 0 and label >= model.config.energy.classes:
        raise UserError(f"`label` {label} needs a run trained with `classes` above it")
    if not 0 < time <= 1 or (kind == "density" and time == 1 and not model.contrasted):
        raise UserError(f"`time` must lie strictly between 0 and 1, not {time}")


def read(model: "VAPO", x: Tensor, *, kind: str, time: float, label: int, batch: int) -> Tensor:
    """The log-density, psi, or the published number of points (N, *shape), as ``VAPO.log_density`` explains."""
    return torch.cat([_read(model, part, kind, time, labels).cpu() for part, labels in _parts(model, x, label, batch)])


def likelihood(
    model: "VAPO", x: Tensor, *, label: int, batch: int, steps: int, probes: int | None, seed: int
) -> Tensor:
    """The log-likelihood of points (N, *shape) under the flow from N(0, I), wherever psi comes from."""
    found, first = [], 0
    for part, labels in _parts(model, x, label, batch):
        value, _ = flow_log_likelihood(
            model.potential, model.path, part, steps=steps, probes=probes, seed=seed, first=first, label=labels
        )
        found.append(value.cpu())
        first += len(part)
    return torch.cat(found)


def _parts(model: "VAPO", x: Tensor, label: int, batch: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    device = model.potential.std.device
    for part in x.split(batch):
        yield part.to(device), torch.full((len(part),), label, device=device) if label >= 0 else None


def _read(model: "VAPO", x: Tensor, kind: str, time: float, label: Tensor | None) -> Tensor:
    if kind == "density" and not model.contrasted:
        return log_density(model.potential, model.path, x, time, label)
    with torch.no_grad():
        psi = model.potential(x, x.new_full((len(x),), 1.0 if kind == "published" else time), label)
    if kind == "published":
        return (4 * psi - squared_norm(x)).log()
    return psi / model.config.phase.temperature if kind == "density" else psi


def check_density(model: "VAPO", what: str) -> None:
    """Raise a `UserError` if psi is not that of the path's density; ``what`` says what needs it."""
    c = model.config
    reasons = {
        "`pairing='ot'`, so its noise depends on the data": c.matching.pairing == "ot",
        f"`objective={c.matching.objective!r}`, whose minimiser is another potential": not model.objective.exact,
        "`timed=False`, and one potential for all times is that of none of them": not c.energy.timed,
    }
    for reason, holds in reasons.items():
        if holds and not model.contrasted:
            raise UserError(f"{what}, and this run was trained with {reason}; `kind='potential'` gives psi as it is")
