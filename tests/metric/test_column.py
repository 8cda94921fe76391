"""Columns of tables: distances against scipy and by hand, references beside them, and faults in the right column."""

import dataclasses
import json

import numpy as np
import pandas
import pytest
import torch
from scipy.stats import ks_2samp

from wasserflow.data import Dataset, load
from wasserflow.metric import evaluate
from wasserflow.metric.column import column_rows, correlation_difference, total_variation

N = 3000


@pytest.fixture(scope="module")
def people() -> Dataset:
    rng = np.random.default_rng(0)
    height = rng.normal(170, 9, N)
    weight = 0.8 * height - 70 + rng.normal(0, 6, N)
    return load(
        pandas.DataFrame(
            {
                "height": height,
                "weight": weight,
                "children": rng.poisson(1.2, N).clip(0, 5),
                "member": rng.random(N) < 0.3,
                "visits": rng.integers(0, 1000, N),
            }
        )
    )


def real(data: Dataset) -> torch.Tensor:
    return data.validation.x.clone()


def test_a_real_table_reaches_its_references(people: Dataset):
    report = evaluate(real(people), people)
    names = [row.name for row in report.rows]
    assert names == [
        "energy", "frechet", "sliced", "precision", "recall", "ks_mean", "ks_worst", "correlations", "memorised"
    ]  # fmt: skip
    for name in ("ks_mean", "ks_worst", "correlations"):
        assert report[name].value == pytest.approx(report[name].reference, abs=0.2)
        assert report[name].value < 0.15
        assert report[name].reference < 0.25
    assert report.columns is not None
    found = {name: [row.name for row in rows] for name, rows in report.columns.items()}
    few, other = ["ks", "total_variation", "outside"], ["ks", "outside"]
    assert found == {"height": other, "weight": other, "children": few, "member": few, "visits": other}
    assert report.warnings == [next(one for one in report.warnings if one.startswith("Only"))]
    back = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert back["columns"]["member"][1] == dataclasses.asdict(report.columns["member"][1])
    assert "Kolmogorov-Smirnov" in report.protocol


def test_a_fault_shows_in_its_column_alone(people: Dataset):
    samples = real(people)
    samples[:, 2] = samples[:, 2].max()  # children
    samples[:50, 0] = 40  # height, beyond all of them
    report = evaluate(samples, people)
    assert report.columns is not None
    rows = {name: {row.name: row for row in found} for name, found in report.columns.items()}
    assert rows["children"]["total_variation"].value > 0.9
    assert rows["height"]["outside"].value == pytest.approx(50 / len(samples))
    assert rows["height"]["outside"].reference < 0.02
    assert rows["height"]["outside"].lower_is_better is None
    assert report["ks_worst"].value == rows["children"]["ks"].value
    for name in ("weight", "member", "visits"):
        assert rows[name]["ks"].value < 0.15


def test_broken_dependence_shows_in_correlations(people: Dataset):
    samples = real(people)
    samples[:, 1] = samples[torch.randperm(len(samples), generator=torch.Generator().manual_seed(0)), 1]
    report = evaluate(samples, people)
    assert report["correlations"].value > 0.5
    assert report["correlations"].reference < 0.25
    assert report["ks_worst"].value < 0.15


def test_the_split_and_the_seed_choose_the_same_rows_as_for_other_metrics(people: Dataset):
    report = evaluate(real(people), people, seed=3)
    order = torch.randperm(len(people.test), generator=torch.Generator().manual_seed(3))
    held_out = np.asarray(people.form.to_data(people.test.x[order[: report.count]]), float)
    samples = np.asarray(people.form.to_data(real(people)), float)
    assert report.columns is not None
    for index, rows in enumerate(report.columns.values()):
        assert rows[0].value == pytest.approx(ks_2samp(samples[:, index], held_out[:, index])[0])


def test_vectors_without_names_have_no_columns():
    report = evaluate(torch.randn(200, 2), load("ring"))
    assert report.columns is None
    assert "ks_mean" not in [row.name for row in report.rows]


def test_a_single_column_has_no_correlations():
    one = load(pandas.DataFrame({"x": np.random.default_rng(0).normal(size=300)}))
    report = evaluate(real(one), one)
    assert [row.name for row in report.rows if row.name in ("ks_mean", "ks_worst", "correlations")] == (
        ["ks_mean", "ks_worst"]
    )


def test_total_variation_by_hand():
    assert total_variation(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 3])) == pytest.approx(0.5)
    assert total_variation(np.array([1.0]), np.array([2.0, 3.0])) == 1
    assert total_variation(np.array([1, 2]), np.array([2, 1, 1, 2])) == 0


def test_correlations_by_hand():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 3)), rng.normal(size=(70, 3))
    expected = np.abs(np.corrcoef(a.T) - np.corrcoef(b.T)).max()
    assert correlation_difference(a, b) == pytest.approx(expected)
    a[:, 1] = 7
    assert correlation_difference(a, b) <= 2
    assert correlation_difference(a, a) == 0


def test_values_outside_the_range_of_training():
    x, train = np.array([-1.0, 0, 0.5, 1, 1.5]), np.array([0.0, 1])
    rows = {row.name: row for row in column_rows(x, train, np.array([0.5, 2]), train, whole=False)}
    assert rows["outside"].value == pytest.approx(0.4)
    assert rows["outside"].reference == 0.5
