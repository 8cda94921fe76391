"""The one door: names, paths, and what is neither; importing it costs nothing."""

import subprocess
import sys

import numpy as np
import pytest

import wasserflow
from wasserflow._core.errors import UserError
from wasserflow.data import NAMES, load


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("mnits", r"unknown data set 'mnits'\. Did you mean mnist.*no file or folder of that name either"),
        ("nothing-like-it", "unknown data set 'nothing-like-it'. Known: digits, mnist"),
        ("", "unknown data set ''"),
        ("some/where", "no such file or folder: /.*/some/where"),
        ("absent.npy", "no such file or folder: /.*/absent.npy"),
        ("~nobody-of-that-name/x", "no such file or folder"),
        ("x" * 400, "unknown data set|File name too long"),
        ([1, 2, 3], "data of type list: give a name, a path"),
        (None, "data of type NoneType"),
    ],
)
def test_what_is_not_there_is_said(source, says):
    with pytest.raises(UserError, match=says) as error:
        load(source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("photo.jpg", "is one image: give the folder"),
        ("model.pkl", "of no known kind: accepted are a folder of"),
    ],
)
def test_a_file_of_another_kind(tmp_path, name, says):
    (tmp_path / name).write_bytes(b"?")
    with pytest.raises(UserError, match=says):
        load(tmp_path / name)


def test_a_path_says_which_data_again(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(30, 2)))
    monkeypatch.chdir(tmp_path)
    for source in ("a.npy", "./a.npy", tmp_path / "a.npy", "../" + tmp_path.name + "/a.npy"):
        assert load(source).source == str(tmp_path / "a.npy")
    assert load(np.load("a.npy")).source == "array"
    assert load("ring").source == "ring"


def test_a_name_comes_before_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert load("digits").form.shape == (1, 8, 8)
    with pytest.raises(UserError, match="holds no images"):
        load("./digits")
    assert "digits" in NAMES


def test_importing_reads_no_optional_package():
    code = f"""
import sys, types
package = types.ModuleType("wasserflow")  # without its __init__, which imports all the rest
package.__path__ = {list(wasserflow.__path__)}
sys.modules["wasserflow"] = package
import wasserflow.data
print([name for name in ("PIL", "sklearn", "pyarrow") if name in sys.modules])
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
