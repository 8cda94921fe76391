"""What README.md and docs/ promise is there: files, sections, commands and their flags."""

import re
from contextlib import redirect_stdout
from dataclasses import fields
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

import wasserflow as wf
from wasserflow.cli.main import main
from wasserflow.method import METHODS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKS = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())]
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for page in PAGES
        for line in re.findall(r"(?:^\$ |`)(wasserflow [^`\n]*)", page.read_text(), re.MULTILINE)
    }
)
SAMPLING = [field for method in METHODS.values() for field in fields(method.Sampling)]


def name(page):
    return str(page.relative_to(ROOT))


def anchors(page):
    """The names of a page's sections, as they are linked to."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def helps(command):
    """What --help of a command prints."""
    with redirect_stdout(StringIO()) as out:
        assert main([*command, "--help"]) == 0
    return out.getvalue()


def test_there_are_pages_links_and_commands():
    assert len(PAGES) > 5
    assert len(LINKS) > 20
    assert len(COMMANDS) > 30


@pytest.mark.parametrize(("page", "link"), LINKS, ids=lambda part: name(part) if isinstance(part, Path) else part)
def test_links_lead_somewhere(page, link):
    if "://" in link:
        return
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists()
    if anchor:
        assert anchor in anchors(target)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name)
def test_public_names_are_there(page):
    names = set(re.findall(r"\bwf\.([A-Za-z_]+)", page.read_text()))
    assert names <= set(wf.__all__)


def test_the_metrics_of_the_readme_are_those_of_the_results():
    """A value and, in brackets, its real-data reference."""
    pattern = r"-?[\d.]+(?: ± [\d.]+)? \(-?[\d.]+\)"
    readme, results = ((ROOT / path).read_text() for path in ("README.md", "docs/results.md"))
    metrics = re.findall(pattern, readme)
    assert len(metrics) > 15
    for metric in metrics:
        assert metric in results, metric


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_have_the_flags_that_pages_give_them(line):
    words = line.split()[1:]
    command = words[: 2 if words[0] == "train" and words[1].islower() else 1]
    known = helps(tuple(command))
    if words[0] in ("sample", "evaluate"):
        known += " ".join(f"--{field.name.replace('_', '-')}" for field in SAMPLING)
    for flag in re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", " ".join(words)):
        assert re.search(rf"(?<![\w-]){flag}(?![\w-])", known), f"{flag} is unknown to {' '.join(command)}"
