"""The examples of CONTRIBUTING.md run as they stand there, one after the other in one namespace."""

import re
from pathlib import Path
from typing import Any

from wasserflow.field.by_name import FIELDS
from wasserflow.kernel.by_name import KERNELS
from wasserflow.method import METHODS

TABLES: tuple[dict[str, Any], ...] = (KERNELS, FIELDS, METHODS)
PAGE = Path(__file__).parent.parent / "CONTRIBUTING.md"


def examples():
    """The Python blocks by section, each after as many empty lines as stand above it: errors show the page's lines."""
    text = PAGE.read_text()
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        section = re.findall(r"^## (.*)$", text[: match.start()], re.MULTILINE)[-1]
        yield section, "\n" * text.count("\n", 0, match.start(1)) + match[1]


def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {id(table): dict(table) for table in TABLES}
    namespace = {"__name__": "contributing"}
    try:
        for _, code in examples():
            exec(compile(code, PAGE, "exec"), namespace)
    finally:
        for table in TABLES:
            table.clear()
            table.update(before[id(table)])


def test_each_addition_has_its_example():
    sections = [section for section, _ in examples()]
    assert sections == ["A divergence, or a monotone map", "A kernel", "A field", "A method"]
