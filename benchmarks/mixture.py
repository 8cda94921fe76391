"""Equal mixtures of round Gaussians carried along a path, in closed form: the reference for a learned potential."""

from dataclasses import dataclass

import torch
from torch import Tensor

from wasserflow.path import Path

__all__ = ["Mixture"]


@dataclass(frozen=True)
class Mixture:
    """Data ``(1/K) sum_k N(m_k, sd^2 I)`` and their path.

    Args:
        path: From noise to them.
        means: Shape (K, d).
        sd: Standard deviation of each Gaussian.
    """

    path: Path
    means: Tensor
    sd: float

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """``n`` data points, (n, d)."""
        chosen = self.means[torch.randint(len(self.means), (n,), generator=rng)]
        return chosen + self.sd * torch.randn(chosen.shape, generator=rng, dtype=chosen.dtype)

    def log_density(self, x: Tensor, t: Tensor) -> Tensor:
        """``log p_t(x)``, normalised, (N,), for points (N, d) and times (N,)."""
        mu, s = self.path.mu(t)[:, None], self.path.s(t)
        variance = (mu[:, 0] * self.sd) ** 2 + s**2
        squares = (x[:, None] - mu[..., None] * self.means).square().sum(2)
        parts = -squares / (2 * variance[:, None])
        constant = torch.tensor(2 * torch.pi, dtype=x.dtype) * variance
        return parts.logsumexp(1) - torch.tensor(float(len(self.means))).log() - x.shape[1] / 2 * constant.log()

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """``v(x, t) = a x + b grad log p_t``, (N, d)."""
        mu, s = self.path.mu(t)[:, None], self.path.s(t)
        variance = ((mu[:, 0] * self.sd) ** 2 + s**2)[:, None]
        apart = x[:, None] - mu[..., None] * self.means
        weights = (-apart.square().sum(2) / (2 * variance)).softmax(1)
        score = -(weights[..., None] * apart).sum(1) / variance
        return self.path.velocity_from_score(score, x, t)
