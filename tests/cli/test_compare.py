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
        assert shown[3] == f"{first['floor']:.4g}"
        if first["lower_is_better"] is not None and not first["interval"]:
            best.append(f"{(first if first['lower_is_better'] else second)['value']:.4g}")
    assert page.best == best
    assert settings == [["setting", "one", "two"], ["divergence", "logd", "js"]]


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
    other["rows"][0]["floor"] *= 1.1
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
