"""`whole_or_nothing`: the old file or the new one, never half of either, and no litter."""

import errno
import os
import resource
import signal
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from wasserflow._core.errors import UserError
from wasserflow._core.files import whole_or_nothing


def write(target: Path | str, error: BaseException | None = None) -> None:
    """Write half a file, then fail or not."""
    with whole_or_nothing(target) as part:
        part.write_text("half")
        if error is not None:
            raise error


def write_folder(target: Path, error: BaseException | None = None) -> None:
    with whole_or_nothing(target) as part:
        (part / "sub").mkdir(parents=True)
        (part / "sub" / "a.txt").write_text("a")
        if error is not None:
            raise error


def test_replaces_the_file_and_leaves_nothing_else(tmp_path: Path):
    for name in ("a.png", "name", ".hidden", "x.tar.gz", "long" * 60 + ".npy"):
        target = tmp_path / name
        for content in ("old", "new"):
            with whole_or_nothing(target) as part:
                assert part.parent == target.parent
                assert part.name.startswith(".")
                assert part.suffix == target.suffix
                assert str(os.getpid()) in part.name
                part.write_text(content)
        assert target.read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, UserError])
def test_an_error_keeps_the_old_file_and_removes_the_part(tmp_path: Path, error: type[BaseException]):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error):
        write(target, error("stop"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "old"


def test_os_errors_become_one_sentence(tmp_path: Path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(UserError, match=r"cannot write .*a\.txt: No space left on device\.$"):
        write(tmp_path / "a.txt", full)
    with pytest.raises(UserError, match=r"there is no folder .*missing\.$"):
        write(tmp_path / "missing" / "a.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="Is a directory"):
        write(tmp_path / "folder")
    with pytest.raises(UserError, match="device"):
        write("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_disk_that_fills_up_under_safetensors(tmp_path: Path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        with pytest.raises(UserError, match="cannot write"), whole_or_nothing(tmp_path / "w.safetensors") as part:
            save_file({"w": torch.zeros(100_000)}, part)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not list(tmp_path.iterdir())


def test_a_folder_arrives_whole(tmp_path: Path):
    target = tmp_path / "checkpoint"
    write_folder(target)
    assert (target / "sub" / "a.txt").read_text() == "a"
    with pytest.raises(UserError, match="not empty"):
        write_folder(target)
    with pytest.raises(ValueError, match="stop"):
        write_folder(tmp_path / "other", ValueError("stop"))
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


def test_permissions_are_those_of_an_ordinary_new_file(tmp_path: Path):
    (tmp_path / "plain").write_text("x")
    with whole_or_nothing(tmp_path / "a") as part:
        part.write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode
