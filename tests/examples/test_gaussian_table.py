"""Which objectives may be differentiated with the ratio held fixed: those whose h increases, and no others."""

from importlib import import_module

import pytest

table = import_module("gaussian_table")

FULL = {"reverse KL", "forward KL", "chi-square", "Hellinger", "Jensen-Shannon"}
"""Divergences: they work with the full gradient, and exp(1.5 d), which is none, does not."""

DETACHED = {"reverse KL", "h = exp(1.5 d)"}
"""Objectives whose h(d) = -g(e^d) increases."""


@pytest.mark.parametrize("objective", table.OBJECTIVES)
@pytest.mark.parametrize(("column", "working"), [("full", FULL), ("detached", DETACHED)])
def test_what_works_and_what_fails(objective, column, working):
    """500 steps of 0.01 are five times the way to the target: the cells that work are there by then."""
    q = table.fit(objective, column, steps=500)
    assert q.verdict() == ("works" if objective in working else "fails"), q.kl(table.P)


def test_gaussian_divergence():
    q = table.Gaussian(table.P.mean + 1, 2 * table.P.scale)
    shift = table.torch.linalg.solve(table.P.scale, q.mean).square().sum().item()
    assert table.P.kl(table.P) == pytest.approx(0, abs=1e-12)
    assert q.kl(table.P) == pytest.approx(0.5 * (8 + shift - 2) - 2 * table.torch.tensor(2.0).log().item(), rel=1e-6)


def test_table_with_a_learned_ratio(tmp_path, monkeypatch):
    """A few steps of a GAN already go the right way where h increases, and the wrong way where it does not."""
    monkeypatch.setattr(table, "OBJECTIVES", {name: table.OBJECTIVES[name] for name in ("reverse KL", "forward KL")})
    start = table.Gaussian(table.torch.ones(2).double(), table.torch.eye(2).double()).kl(table.P)
    cells = table.main(tmp_path, columns=["learned"], learned_steps=250)["learned"]
    assert cells["reverse KL"]["kl"] < start < cells["forward KL"]["kl"]
    assert (tmp_path / "gaussian_table.png").exists()
    assert (tmp_path / "gaussian_table.json").exists()
