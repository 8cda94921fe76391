"""Runs side by side on one page: metrics, samples, curves, and the settings in which they differ."""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from math import nan
from os.path import commonpath
from pathlib import Path
from shlex import quote
from typing import Any

import jinja2
import numpy as np

from wasserflow import plot
from wasserflow._core.errors import UserError
from wasserflow._core.files import whole_or_nothing
from wasserflow._core.settings import leaves
from wasserflow.run.evaluation import stored_evaluations
from wasserflow.run.plots import moments_of, read_log
from wasserflow.run.store import Run

__all__ = ["compare"]

CHOICES = ("method", "data", "fingerprint", "size", "seed", "weight_seed", "weights", "precision", "wasserflow")
"""What a run is, beside the settings of its method."""

Cell = tuple[str, str, bool]  # a metric's value, its interval, and whether it is the best of its row


@dataclass(frozen=True)
class Table:
    """Evaluations that can be compared: one data set, split, kind of features, count and seed.

    Args:
        about: Which ones they are.
        protocol: How they were made, in sentences.
        runs: Their names, and how many samples each had seen.
        rows: Per metric its name, which way is better, its value for each run, and the real-data reference.
    """

    about: str
    protocol: str
    runs: list[tuple[str, str]]
    rows: list[tuple[str, str, list[Cell], str]]


def compare(paths: Sequence[str | Path], out: str | Path = "comparison.html") -> Path:
    """Write one HTML page that compares runs side by side; it needs no other file and no network.

    The metrics are those that `evaluate` has stored, a table for each data set, split, kind of features, count and
    seed, since others cannot be compared; nothing is computed anew. The pictures are the last that each training drew,
    and the curves what it logged.

    Args:
        paths: The runs' folders.
        out: The page; one that is there is replaced.

    Returns:
        The page.

    Raises:
        UserError: If a folder is no run, has no readable log, is named twice, or the page cannot be written.
    """
    if isinstance(paths, str | Path) or not paths:
        raise UserError(f"compare needs a list of runs' folders, at least one, not {paths!r}")
    runs = {name: Run.open(path) for name, path in _names([Path(path) for path in paths]).items()}
    logs = {name: read_log(run) for name, run in runs.items()}
    evaluations = {name: stored_evaluations(run.path / "metrics.json") for name, run in runs.items()}
    page = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template("comparison.html")
    figure = BytesIO()
    nouns = {run.form.noun for run in runs.values()}
    plot.overlaid(logs, nouns.pop() if len(nouns) == 1 else "samples").savefig(figure, format="png", dpi=110)
    text = page.render(
        costs=[(name, *_cost(run, logs[name])) for name, run in runs.items()],
        tables=_tables(evaluations, {name: run.form.noun for name, run in runs.items()}),
        missing=[f"wasserflow evaluate {quote(str(run.path))}" for name, run in runs.items() if not evaluations[name]],
        pictures=[(name, _last_picture(run)) for name, run in runs.items()],
        curves=_embedded(figure.getvalue()),
        names=list(runs),
        settings=_differences([_settings(run) | _sampling(evaluations[name]) for name, run in runs.items()]),
    )
    out = Path(out)
    with whole_or_nothing(out) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return out


def _names(paths: list[Path]) -> dict[str, Path]:
    """The runs by what tells them apart: their paths below the last folder that they share."""
    places = [path.resolve() for path in paths]
    twice = next((path for path, place in zip(paths, places, strict=True) if places.count(place) > 1), None)
    if twice:
        raise UserError(f"{twice} is named twice: name each run once")
    shared = Path(commonpath([place.parent for place in places]))
    return {str(place.relative_to(shared)): path for path, place in zip(paths, places, strict=True)}


def _cost(run: Run, log: dict[str, np.ndarray]) -> tuple[str, str, str, str, str]:
    """Method, data, samples seen, and minutes of the clock and of the processor."""
    images, seconds, cpu_seconds = (log.get(name, [nan])[-1] for name in ("images", "seconds", "cpu_seconds"))
    times = f"{seconds / 60:,.1f}", f"{cpu_seconds / 60:,.1f}"
    return run.record["method"], Path(run.data.source).name, f"{images:,.0f}", *times


def _tables(evaluations: dict[str, dict[str, dict[str, Any]]], nouns: dict[str, str]) -> list[Table]:
    """The stored evaluations, grouped by what can be compared: those with the same real-data reference."""
    groups: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    try:
        for name, stored in evaluations.items():
            for one in stored.values():
                words = [one[word] for word in ("fingerprint", "split", "features", "count", "seed")]
                reference = f"{one['rows'][0]['reference']:.3g}"  # classifiers trained on two machines differ a little
                groups.setdefault((*words, reference), {})[name] = one
        return [_table(group, nouns) for group in groups.values()]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"a metrics.json of these runs is damaged ({error}): remove it and evaluate again") from error


def _table(group: dict[str, dict[str, Any]], nouns: dict[str, str]) -> Table:
    any_one = next(iter(group.values()))
    columns = [{_metric(row): row for row in one["rows"]} for one in group.values()]
    metrics = {metric: row for column in columns for metric, row in column.items()}
    against = f"{any_one['count']:,} samples against the {any_one['split']} split of {Path(any_one['data']).name}"
    return Table(
        f"{against}, {any_one['features']} features, seed {any_one['seed']}",
        any_one["protocol"],
        [(name, f"{one['images']:,} {nouns[name]} seen") for name, one in group.items()],
        [
            (
                row["name"].replace("_", " "),
                {True: "lower", False: "higher", None: "as real data"}[row["lower_is_better"]],
                _cells([column.get(metric) for column in columns], row["lower_is_better"]),
                f"{row['reference']:.4g}",
            )
            for metric, row in metrics.items()
        ],
    )


def _metric(row: dict[str, Any]) -> tuple[str, float | None]:
    """Which metric a row states; ratio losses with different equilibria are different metrics."""
    return row["name"], row["reference"] if row["name"] == "ratio_loss" else None


def _cells(rows: list[dict[str, Any] | None], lower_is_better: bool | None) -> list[Cell]:
    """A metric's value for every run; the best is marked where there are several, unless they have intervals."""
    values = [row["value"] for row in rows if row]
    judged = lower_is_better is not None and len(values) > 1 and not any(row["interval"] for row in rows if row)
    best = (min if lower_is_better else max)(values) if judged else None
    return [
        (f"{row['value']:.4g}", _interval(row["interval"]), row["value"] == best) if row else ("", "", False)
        for row in rows
    ]


def _interval(low_high: tuple[float, float] | None) -> str:
    return "{:.4g} to {:.4g}".format(*low_high) if low_high else ""


def _settings(run: Run) -> dict[str, Any]:
    data = {"data": run.data.source, "size": run.data.size, "fingerprint": run.data.fingerprint[:12]}
    known = {"weights": None} | run.record | data
    return {name: known[name] for name in CHOICES} | leaves(run.config)


def _sampling(stored: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How the samples of each stored evaluation were drawn."""
    return {
        f"{name.replace('_', ' ')}, samples of {what}": value
        for what, one in stored.items()
        for name, value in one.get("sampling", {}).items()
    }


def _differences(settings: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """The settings that are not the same in all runs, with each run's value, a dash where it has no such setting."""
    every = dict.fromkeys(name for one in settings for name in one)
    values = {name: [json.dumps(one[name]).strip('"') if name in one else "-" for one in settings] for name in every}
    return [(name, found) for name, found in values.items() if len(set(found)) > 1]


def _last_picture(run: Run) -> str | None:
    """What the training drew last, embedded; None where it drew nothing."""
    drawn = moments_of(run, ".png")
    if not drawn:
        return None
    last = drawn[max(drawn)]
    try:
        return _embedded(last.read_bytes())
    except OSError as error:
        raise UserError(f"{last} cannot be read: {error.strerror}") from error


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"
