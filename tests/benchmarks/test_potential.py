"""The benchmark of potentials counts bytes rightly, and the page shows what its receipts say."""

import json
from pathlib import Path

import torch

from benchmarks.potential import Live, cost_table, truth_table

ROOT = Path(__file__).parents[2]


def test_peak_of_live_bytes():
    x = torch.zeros(1000)
    with Live() as live:
        y = x + 1
        z = y * 2
        del y
        w = z.view(10, 100) + 1  # a view holds no bytes of its own
    assert live.peak == 8000
    assert live.now == 8000
    del z, w
    assert live.now == 0


def test_the_page_shows_the_receipts():
    page = (ROOT / "docs" / "vapo.md").read_text()
    for name, table in (("cost", cost_table), ("truth", truth_table)):
        receipt = json.loads((ROOT / "benchmarks" / "results" / "potential" / f"{name}.json").read_text())
        assert table(receipt["figures"]).strip() in page
        assert receipt["commit"] in page
