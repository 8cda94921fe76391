"""``wasserflow compare``: the page says what the runs' files say, stands alone, and what is refused."""

import json
import re
import shutil
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path

import pytest

import wasserflow as wf


class Page(HTMLParser):
    """The tables of a page as rows of texts, its pictures' sources, its marked cells and all of its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables, self.sources, self.best, self.text = [], [], [], ""
        self._marked = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.sources += [known[name] for name in ("src", "href") if name in known]
        self._marked = known.get("class") == "best"
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_data(self, data):
        self.text += data
        if self.tables and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += data.strip()
        if self._marked:
            self.best.append(data)


def copies(runs: Path, **names: str) -> list[Path]:
    return [Path(shutil.copytree(runs / of, name)) for name, of in names.items()]


@pytest.fixture
def evaluated(done, runs):
    """Two runs on digits of different divergences, the second with better figures."""
    one, two = copies(runs, one="digits", two="digits")
    done("evaluate", one, "-n", "60", "--features", "classifier")
    stored = json.loads((one / "metrics.json").read_text())
    for row in stored["test/classifier"]["rows"]:
        row["value"] += 0.125
    stored["test/classifier"]["images"] = 12_345
    (two / "metrics.json").write_text(json.dumps(stored))
    record = json.loads((two / "config.json").read_text())
    record["config"]["divergence"] = "js"
    (two / "config.json").write_text(json.dumps(record))
    return one, two


def test_figures_are_the_stored_ones_and_the_best_is_marked(done, evaluated):
    assert done("compare", *evaluated) == "comparison.html\n"
    page = Page(Path("comparison.html"))
    stored = [json.loads((run / "metrics.json").read_text())["test/classifier"] for run in evaluated]
    runs, table, settings = page.tables
    assert [row[:3] for row in runs[1:]] == [["one", "vgrow", "digits"], ["two", "vgrow", "digits"]]
    assert table[0][1:3] == ["one320 images seen", "two12,345 images seen"]
    assert [row[0] for row in table[1:]] == [row["name"].replace("_", " ") for row in stored[0]["rows"]]
    best = []
    for shown, first, second in zip(table[1:], *(one["rows"] for one in stored), strict=True):
        assert shown[1].startswith(f"{first['value']:.4g}")
        assert shown[2].startswith(f"{second['value']:.4g}")
        assert shown[3] == f"{first['reference']:.4g}"
        if first["lower_is_better"] is not None and not first["interval"]:
            best.append(f"{(first if first['lower_is_better'] else second)['value']:.4g}")
    assert page.best == best
    assert settings == [["setting", "one", "two"], ["divergence", "logd", "js"]]


def test_losses_of_other_kinds_stand_apart_and_none_is_the_best(done, evaluated):
    _, two = evaluated
    stored = json.loads((two / "metrics.json").read_text())
    (loss,) = [row for row in stored["test/classifier"]["rows"] if row["name"] == "ratio_loss"]
    loss["reference"] = 0.5
    (two / "metrics.json").write_text(json.dumps(stored))
    done("compare", *evaluated)
    table = Page(Path("comparison.html")).tables[1]
    losses = [row for row in table if row[0] == "ratio loss"]
    assert losses[0][4] == "as real data"
    assert [[bool(row[1]), bool(row[2]), row[3]] for row in losses] == [
        [True, False, "1.386"],
        [False, True, "0.5"],
    ]


def test_whatever_differs_is_said(done, evaluated):
    one, two = evaluated
    record = json.loads((two / "config.json").read_text())
    record["weight_seed"], record["weights"] = 7, "ab12"
    record["data"]["fingerprint"] = "f" * 64
    (two / "config.json").write_text(json.dumps(record))
    stored = json.loads((two / "metrics.json").read_text())
    stored["test/classifier"]["sampling"] = {"steps": 3}
    (two / "metrics.json").write_text(json.dumps(stored))
    done("compare", one, two)
    settings = {row[0]: row[1:] for row in Page(Path("comparison.html")).tables[-1]}
    assert settings["fingerprint"][1] == "f" * 12
    assert settings["weight_seed"] == ["0", "7"]
    assert settings["weights"] == ["null", "ab12"]
    assert settings["steps, samples of test/classifier"] == ["-", "3"]


def test_a_name_is_no_formula_and_none_is_hidden(done, runs):
    copies(runs, **{"_a$_{$x": "digits", "b": "digits"})
    done("compare", "_a$_{$x", "b")
    done("plot", "_a$_{$x")


def test_the_page_needs_no_other_file(done, evaluated, here):
    done("compare", *evaluated, "--out", "page.html")
    page = Page(here / "page.html")
    last = max((evaluated[0] / "samples").glob("*.png"))
    assert page.sources[0] == f"data:image/png;base64,{b64encode(last.read_bytes()).decode()}"
    assert len(page.sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "<script" not in (here / "page.html").read_text()


def test_only_evaluations_of_one_kind_share_a_table(done, evaluated):
    one, two = evaluated
    stored = json.loads((two / "metrics.json").read_text())
    stored["test/classifier"]["count"] = 40
    other = stored["test/other machine"] = json.loads(json.dumps(stored["test/classifier"]))
    other["rows"][0]["reference"] *= 1.1
    (two / "metrics.json").write_text(json.dumps(stored))
    done("compare", one, two)
    page = Page(Path("comparison.html"))
    assert len(page.tables) == 5
    assert page.best == []
    assert "60 samples against the test split of digits" in page.text
    assert "40 samples against the test split of digits" in page.text


def test_runs_of_every_kind(done, runs):
    found = copies(runs, digits="digits", ring="ring", table="table")
    assert wf.compare(found) == Path("comparison.html")
    page = Page(Path("comparison.html"))
    assert re.findall(r"wasserflow evaluate (\w+)", page.text) == ["digits", "ring", "table"]
    assert "no picture was drawn" in page.text  # of a table
    settings = {row[0]: row[1:] for row in page.tables[-1]}
    assert settings["method"] == ["vgrow", "monoflow", "monoflow"]
    assert settings["pool"] == ["2", "-", "-"]
    assert "width" not in settings


def test_names_tell_runs_apart_and_are_text(done, runs, here):
    for folder in ("a/<b>x", "c/<b>x"):
        shutil.copytree(runs / "ring", here / folder)
    done("compare", "a/<b>x", "c/<b>x")
    text = (here / "comparison.html").read_text()
    assert "<b>" not in text
    assert [row[0] for row in Page(here / "comparison.html").tables[0][1:]] == ["a/<b>x", "c/<b>x"]


def test_refusals(refused, evaluated, here):
    one, two = evaluated
    assert "at least one" in refused("compare")
    assert "one is named twice" in refused("compare", one, two, here / "one")
    assert "no such run: three" in refused("compare", one, "three")
    assert "no folder away" in refused("compare", one, "--out", "away/page.html")
    (two / "metrics.json").write_text('{"test/classifier": {"count": 1, "rows": [{}], "images": 2}}')
    assert "metrics.json" in refused("compare", one, two)
    (two / "log.jsonl").unlink()
    assert "log.jsonl cannot be read" in refused("compare", one, two)
