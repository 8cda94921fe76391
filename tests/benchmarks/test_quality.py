"""A row is stored when its run has used up its budget, and the page shows what is stored."""

import json

import numpy as np
import pytest

import wasserflow as wf
from benchmarks import quality
from benchmarks.quality import Flags, Row, measure, write_tables
from wasserflow.run.store import Run

WORDS = "vgrow --data points.npy --width 8 --batch 32"


@pytest.fixture
def flags(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    np.save("points.npy", np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32))
    return Flags(suites=("ring",), runs=tmp_path / "runs")


def test_a_row_has_its_figures_and_its_receipt(flags):
    row = Row("VGrow, tiny", WORDS, 0.01)
    measure("ring", row, 0, flags)
    (file,) = quality.RESULTS.rglob("*.json")
    assert file.name == "vgrow-tiny-0.json"
    stored = json.loads(file.read_text())
    assert stored["cpu_seconds"] >= 60 * row.cpu_minutes
    assert stored["commit"] == quality.commit_id()
    run = flags.runs / "ring" / "vgrow-tiny-0"
    (evaluation,) = json.loads((run / "metrics.json").read_text()).values()
    assert stored["figures"] == {row["name"]: row for row in evaluation["rows"]}
    before = file.stat().st_mtime_ns
    measure("ring", row, 0, flags)
    assert file.stat().st_mtime_ns == before


def test_a_run_that_was_not_trained_to_its_budget_is_no_row(flags):
    """Interrupted, and then held by another process, for which resuming has the exit code of a finished run."""
    out = flags.runs / "ring" / "vgrow-tiny-0"
    model = wf.VGrow.for_shape((2,), width=8, batch=32)
    wf.train(model, "points.npy", budget=wf.Budget(images=320), out=out)
    with Run.open(out).locked(), pytest.raises(SystemExit, match="of 100 minutes"):
        measure("ring", Row("VGrow, tiny", WORDS, 100), 0, flags)
    assert not list(quality.RESULTS.rglob("*.json"))


def test_the_page_shows_what_is_stored(tmp_path, monkeypatch):
    published = quality.PAGE.read_text()
    monkeypatch.setattr(quality, "PAGE", tmp_path / "results.md")
    quality.PAGE.write_text(published)
    write_tables()
    assert quality.PAGE.read_text() == published
