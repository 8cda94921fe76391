"""``wasserflow evaluate``: the table, metrics.json, and what the run's own classifier says."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wasserflow as wf
from wasserflow.metric import pretrained
from wasserflow.run.store import Run


def stored(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def test_the_table_and_the_file_hold_the_same_metrics(done, digits):
    said = done("evaluate", digits, "-n", "100")
    (found,) = stored(digits).values()
    names = [row["name"] for row in found["rows"]]
    assert {"frechet", "kernel", "sliced", "precision", "recall", "coverage", "memorised", "ratio_loss"} <= set(names)
    assert all(name in said for name in names)
    assert (found["count"], found["images"], found["split"], found["seed"]) == (100, 320, "test", 0)
    for row in found["rows"]:
        if row["name"] in ("kernel", "memorised"):
            low, high = row["interval"]
            assert low <= row["value"] <= high
            assert f"{row['value']:.4g} [{low:.4g}, {high:.4g}]" in said
    assert "as real data" in said
    # Ten steps of training collapse or miss nearly everything, and the table says so.
    assert "Signs of collapse" in said
    assert any("Signs of collapse" in warning for warning in found["warnings"])


def test_evaluations_stand_beside_each_other(done, digits):
    done("evaluate", digits, "-n", "50")
    first = stored(digits)["test/pixels"]
    done("evaluate", digits, "-n", "50", "--split", "validation", "--seed", "3")
    assert stored(digits)["test/pixels"] == first
    assert stored(digits)["validation/pixels"]["seed"] == 3
    done("evaluate", digits, "-n", "40")
    assert [(key, one["count"]) for key, one in stored(digits).items()] == [
        ("test/pixels", 40),
        ("validation/pixels", 50),
    ]


def test_a_damaged_file_is_replaced(done, digits):
    for damaged in ("", "{", "[1]", '{"x": 1}', "\0"):
        (digits / "metrics.json").write_text(damaged)
        done("evaluate", digits, "-n", "50")
        assert list(stored(digits)) == ["test/pixels"]


def test_points(done, runs, here):
    shutil.copytree(runs / "ring", here / "ring")
    said = done("evaluate", "ring", "-n", "500")
    assert all(name in said for name in ("energy", "log_chamfer", "modes", "memorised"))
    assert "test/coordinates" in stored(here / "ring")


def test_the_ratio_loss_is_that_of_the_logit_on_new_data(digits):
    report = wf.evaluate(digits, n=60, seed=5, device="cpu")
    run = Run.open(digits)
    model: Any = wf.load(digits)
    test = run.load_data().test.x
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(5))[:60]
    d_p = model.logit(run.form.to_model(test[order])).double()
    d_q = model.logit(model.sample(60, seed=5)).double()
    loss = torch.nn.functional.softplus(-d_p).mean() + torch.nn.functional.softplus(d_q).mean()
    row = report["ratio_loss"]
    assert row.value == pytest.approx(loss.item(), rel=1e-6)
    assert row.reference == pytest.approx(2 * math.log(2))
    assert row.lower_is_better is None  # neither above nor below where it cannot tell them apart
    assert "own classifier between samples and the test split" in report.protocol


def test_a_logit_that_is_not_finite_is_told(digits, monkeypatch):
    monkeypatch.setattr(wf.VGrow, "log_ratio", lambda self, x: torch.full((len(x),), math.nan))
    report = wf.evaluate(digits, n=50)
    assert "ratio_loss" not in [row.name for row in report.rows]
    assert "no finite loss" in report.warnings[-1]


def test_features_that_cannot_be_had_leave_everything_as_it_was(refused, done, digits, monkeypatch, here):
    done("evaluate", digits, "-n", "50")
    before = stored(digits)
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    for name in ("inception", "dinov2"):
        said = refused("evaluate", digits, "-n", "50", "--features", name)
        assert f"{name} features need the package torch-fidelity: pip install 'wasserflow[metrics]'" in said
    assert "invalid choice" in refused("evaluate", digits, "--features", "vgg")
    assert stored(digits) == before


def test_a_table_is_evaluated_column_by_column(done, here: Path):
    rng = np.random.default_rng(0)
    (here / "people.csv").write_text(
        "height,children\n" + "".join(f"{rng.normal(170, 9):.1f},{rng.integers(3)}\n" for _ in range(300))
    )
    done("train", "monoflow", "--data", "people.csv", "--images", "640", "--width", "16", "--out", "people")
    said = done("evaluate", "people")
    found = stored(here / "people")["test/coordinates"]
    assert {"ks_mean", "ks_worst", "correlations"} <= {row["name"] for row in found["rows"]}
    for name, rows in found["columns"].items():
        assert f"│ {name}" in said
        for row in rows:
            assert f"{row['value']:.3g} ({row['reference']:.3g})" in said
    assert [row["name"] for row in found["columns"]["children"]] == ["ks", "total_variation", "outside"]
    done("sample", "people", "-n", "20", "--out", "more.csv")
    cells = [line.split(",") for line in (here / "more.csv").read_text().splitlines()[1:]]
    assert all(len(height.replace(".", "")) <= 9 and children in "012" for height, children in cells)
