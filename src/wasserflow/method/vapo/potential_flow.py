"""What there is to do with a potential once it is learned: samples, scores, mixtures with another."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from wasserflow._core.autograd import value_and_gradient
from wasserflow._core.errors import UserError, unknown
from wasserflow.method.base import Drawn, Method
from wasserflow.method.capability import GivesLogDensity
from wasserflow.method.vapo.sampler import VAPOSampling, carry
from wasserflow.nn.potential import Potential
from wasserflow.path import Path, squared_norm
from wasserflow.potential.density import flow_log_likelihood
from wasserflow.potential.density import log_density as read_log_density
from wasserflow.potential.objective import Objective

__all__ = ["READ_AT", "PotentialFlow"]

READ_AT = 0.7
"""When densities are read: later they are sharper, and psi's errors over b larger (docs/vapo.md)."""

KINDS = ("density", "likelihood", "potential", "published")

Settings = TypeVar("Settings", bound=Any)


class PotentialFlow(Method[Settings], GivesLogDensity):
    """A potential ``psi(x, t)`` along a path, for samples of one shape."""

    Sampling: ClassVar = VAPOSampling
    from_samples: ClassVar = True
    path: Path
    objective: Objective
    potential: Potential
    contrasted: Tensor  # whether a contrastive phase has begun, after which psi is an energy by itself

    def __init__(self, config: Settings, shape: Sequence[int], seed: int = 0) -> None:
        super().__init__(config, shape, seed)
        self.register_buffer("contrasted", torch.tensor(False))
        self.blended: list[tuple[Potential, float]] = []

    def preview(self, n: int) -> Tensor:
        """Samples to look at while training goes on, of few steps."""
        return self.sample(n, solver="euler", steps=16)

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """``grad psi(x, t)``, with the shape of the points x (N, *shape); held at t = 1 past it."""
        return value_and_gradient(self.potential, x, x.new_full((len(x),), min(t, 1.0)))[1]

    def draw(self, n: int, seed: int, batch: int, how: VAPOSampling, start: Tensor | None) -> Iterator[Drawn]:
        """``n`` draws of noise carried along the field, in batches."""
        for i in range(0, n, batch):
            rows = range(i, min(i + batch, n))
            x, evaluations = carry(self, rows, seed, how, None if start is None else start[rows.start : rows.stop])
            yield Drawn(x, evaluations)

    def log_density(
        self,
        x: Tensor,
        *,
        kind: str = "density",
        time: float = READ_AT,
        label: int = -1,
        batch: int = 500,
        **settings: Any,
    ) -> Tensor:
        """How likely points are, (N,): the higher, the more like the data.

        Args:
            x: Points, (N, *shape), in model space.
            kind: ``density``: log-density of the data blurred by ``s/mu``, up to one constant, read off psi at
                ``time``; after a contrastive phase psi over the temperature. ``likelihood``: log-likelihood of the
                flow, normalised (`wasserflow.energy.flow_log_likelihood`). ``potential``: psi itself at ``time``.
                ``published``: ``log(4 psi - |x|^2)`` at t = 1, from the code of Density Homotopy Matching.
            time: When psi is asked, strictly between 0 and 1 for a density: the later, the less blurred, and the less
                exact.
            label: Of the potential; -1 for that of all.
            batch: Points at a time.
            settings: Of a likelihood: ``steps``, ``probes`` and ``seed``.

        Raises:
            UserError: If the run's potential is not one that the kind can be read from.
        """
        if kind not in KINDS:
            raise unknown("kind of score", kind, KINDS)
        if x.shape[1:] != self.shape:
            raise UserError(f"scores need samples of shape {self.shape}, not {tuple(x.shape[1:])}")
        if kind in ("density", "likelihood"):
            self.check_density(f"--kind {kind} needs a density", flow=kind == "likelihood")
        if label >= 0 and label >= self.config.classes:
            raise UserError(f"--label {label} needs a run that was trained with --classes above it")
        if not 0 < time <= 1 or (kind == "density" and time == 1 and not self.contrasted):
            raise UserError(f"--time must lie strictly between 0 and 1, not {time}")
        device = next(self.parameters()).device
        scores = []
        for i in range(0, len(x), batch):
            part = x[i : i + batch].to(device)
            scores.append(self._log_density(part, kind, time, label, i, settings).cpu())
        return torch.cat(scores)

    def _log_density(
        self, x: Tensor, kind: str, time: float, label: int, first: int, settings: dict[str, Any]
    ) -> Tensor:
        labels = torch.full((len(x),), label, device=x.device) if label >= 0 else None
        if kind == "likelihood":
            return flow_log_likelihood(self.potential, self.path, x, first=first, label=labels, **settings)[0]
        if kind == "density" and not self.contrasted:
            return read_log_density(self.potential, self.path, x, time, labels)
        with torch.no_grad():
            psi = self.potential(x, x.new_full((len(x),), 1.0 if kind == "published" else time), labels)
        if kind == "published":
            return (4 * psi - squared_norm(x)).log()
        return psi / self.config.temperature if kind == "density" else psi

    def check_density(self, what: str, *, flow: bool = False) -> None:
        """Raise a `UserError` if psi is not that of the path's density; with ``flow``, if noise depends on the data."""
        c: Any = self.config
        reasons = {
            "--pairing ot, so its noise depends on the data": c.pairing == "ot",
            f"--objective {c.objective}, whose minimiser is another potential": not (flow or self.objective.exact),
            "--no-timed, and one potential for all times is none of them": not (flow or c.timed),
        }
        for reason, holds in reasons.items():
            if holds and not self.contrasted:
                raise UserError(f"{what}, and this run was trained with {reason}; --kind potential gives psi as it is")

    def blend(self, other: GivesLogDensity, share: float) -> None:
        """Draw from ``p^(1 - share) p_other^share``, normalised, from now on: the potentials' weighted sum.

        Raises:
            UserError: If the two do not fit, or one has no density.
        """
        if other.shape != self.shape or other.path != self.path:
            raise UserError("only runs on samples of one shape and along one path can be blended")
        for model in (self, other):
            model.check_density("blending adds log-densities")
        if not 0 < share < 1:
            raise UserError(f"the share of the other run must lie strictly between 0 and 1, not {share}")
        self.blended.append((other.potential.eval(), share))
