"""Tiny runs, and the command line called in this process."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from wasserflow.cli import main

Files = dict[str, int]


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in its own empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """A command, and what it said; a fault of ours is never expected."""

    def call(*words: object) -> Said:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        said = Said(code, out, err)
        assert "Traceback" not in said.err
        assert code != 1, said.err
        return said

    return call


@pytest.fixture
def done(run: Callable[..., Said]) -> Callable[..., str]:
    """A command that must go well; returns what it printed."""

    def call(*words: object) -> str:
        said = run(*words)
        assert said.code == 0, said.err
        assert not said.err
        return said.out

    return call


@pytest.fixture
def refused(run: Callable[..., Said], here: Path) -> Callable[..., str]:
    """A command that must be refused, and leave everything as it was; returns what it said."""

    def call(*words: object) -> str:
        before = files(here)
        said = run(*words)
        assert said.code == 2, said
        assert said.err.strip()
        assert files(here) == before
        return said.err

    return call


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs ``digits`` (VGrow), ``ring`` and ``table`` (MonoFlow)."""
    folder = tmp_path_factory.mktemp("runs")
    table = folder / "table.csv"
    rows = np.random.default_rng(0).normal(size=(200, 3))
    lines = [f"{a:.3f},{round(3 * b)},{c:.3f}" for a, b, c in rows]
    table.write_text("\n".join(["height,count,mass in kg", *lines]) + "\n")
    common = ["--width", "4", "--batch", "32", "--images", "320"]
    for method, data in (("vgrow", "digits"), ("monoflow", "ring"), ("monoflow", table)):
        name = Path(data).stem
        extra = ["--pool", "2", "--save-minutes", "1e-9"] if method == "vgrow" else []
        words = ["train", method, "--data", str(data), *common, *extra, "--out", str(folder / name)]
        assert main(words) == 0
    return folder


@pytest.fixture
def digits(runs: Path, here: Path) -> Path:
    """A copy of the run on digits, to do with as one likes."""
    return Path(shutil.copytree(runs / "digits", here / "run")).relative_to(here)


def files(folder: Path) -> Files:
    """Every file and folder in it, with the sizes of files."""
    return {
        os.path.join(root, name): os.path.getsize(os.path.join(root, name)) if name in names else -1
        for root, folders, names in os.walk(folder)
        for name in (*folders, *names)
    }
