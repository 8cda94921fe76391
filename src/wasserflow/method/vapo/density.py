"""What can be read off a model's potential: log-densities, likelihoods, psi itself."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wasserflow._core.errors import UserError, unknown
from wasserflow.path import squared_norm
from wasserflow.potential.density import flow_log_likelihood, log_density

if TYPE_CHECKING:
    from wasserflow.method.vapo.model import VAPO

__all__ = ["KINDS", "check_density", "read_density"]

KINDS = ("density", "likelihood", "potential", "published")


def read_density(
    model: "VAPO", x: Tensor, *, kind: str, time: float, label: int, batch: int, settings: Mapping[str, Any]
) -> Tensor:
    """One number per point (N,), as ``VAPO.log_density`` explains."""
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
    device = model.potential.std.device
    found = []
    for i in range(0, len(x), batch):
        part = x[i : i + batch].to(device)
        labels = torch.full((len(part),), label, device=device) if label >= 0 else None
        if kind == "likelihood":
            value, _ = flow_log_likelihood(model.potential, model.path, part, first=i, label=labels, **settings)
        else:
            value = _read(model, part, kind, time, labels)
        found.append(value.cpu())
    return torch.cat(found)


def _read(model: "VAPO", x: Tensor, kind: str, time: float, label: Tensor | None) -> Tensor:
    if kind == "density" and not model.contrasted:
        return log_density(model.potential, model.path, x, time, label)
    with torch.no_grad():
        psi = model.potential(x, x.new_full((len(x),), 1.0 if kind == "published" else time), label)
    if kind == "published":
        return (4 * psi - squared_norm(x)).log()
    return psi / model.config.phase.temperature if kind == "density" else psi


def check_density(model: "VAPO", what: str) -> None:
    """Raise a `UserError` if psi is not that of the path's density.

    A likelihood does not need this check: it is that of the flow from N(0, I), wherever psi comes from.
    """
    c = model.config
    reasons = {
        "`pairing='ot'`, so its noise depends on the data": c.matching.pairing == "ot",
        f"`objective={c.matching.objective!r}`, whose minimiser is another potential": not model.objective.exact,
        "`timed=False`, and one potential for all times is that of none of them": not c.energy.timed,
    }
    for reason, holds in reasons.items():
        if holds and not model.contrasted:
            raise UserError(f"{what}, and this run was trained with {reason}; `kind='potential'` gives psi as it is")
