"""A run: the folder that holds all that is needed to repeat, resume, sample and judge a training."""

import errno
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wasserflow._core.device import Precision, resolve_device
from wasserflow._core.errors import UserError, check_seed, unknown
from wasserflow._core.files import whole_or_nothing
from wasserflow._core.settings import read_settings, settings
from wasserflow.data import DataLike, Dataset, Form
from wasserflow.data import load as load_data
from wasserflow.method import Method, MethodConfig, method_named
from wasserflow.method.capability import ComparesWithData, Reference
from wasserflow.plot import draw_samples
from wasserflow.run.checkpoint import latest_progress, load_latest, save_checkpoint, write_tensors
from wasserflow.training.budget import Budget, Progress
from wasserflow.training.loop import TrainingDiverged
from wasserflow.training.state import load_weights, select

__all__ = ["FORMAT", "GRID_POINTS", "GRID_SAMPLES", "Run", "Source"]

FORMAT = 1
GRID_SAMPLES = 100
GRID_POINTS = 1000  # the same, for points of the plane

LOCK = ".lock"
REMEMBERED = "references.safetensors"


@settings
class Source:
    """What finds a run's data again, and tells whether they are the same.

    Args:
        source: As in `Dataset`.
        size: As in `Dataset`.
        skip_corrupt: As in `Dataset`.
        fingerprint: As in `Dataset`.
    """

    source: str
    size: int | None
    skip_corrupt: bool
    fingerprint: str

    @classmethod
    def of(cls, data: Dataset) -> "Source":
        """The source of a data set."""
        return cls(data.source, data.size, data.skip_corrupt, data.fingerprint)


class Run:
    """A run's folder: ``config.json``, ``log.jsonl``, ``samples/``, ``checkpoint/``, ``metrics.json``.

    Args:
        path: The folder.
        record: What ``config.json`` says.
    """

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path = path
        self.record = record
        self.checkpoints = path / "checkpoint"
        self.samples = path / "samples"
        self.at: Progress | None = None  # of the weights that this process has saved or loaded
        self._made: list[Path] = []

    @classmethod
    def create(cls, path: str | Path, record: Mapping[str, Any]) -> "Run":
        """Make the folder.

        Raises:
            UserError: If it exists and is not empty, or cannot be made.
        """
        path = Path(path)
        cls.check_free(path)
        run = cls(path, {"format": FORMAT, "wasserflow": version("wasserflow"), **record, "machine": machine()})
        run._made = [folder for folder in (path, *path.parents) if not folder.exists()]
        try:
            run.checkpoints.mkdir(parents=True)
            run.samples.mkdir()
            run.write_record()
        except BaseException as error:
            run.discard()
            if not isinstance(error, OSError | UserError):
                raise
            raise UserError(f"cannot make the run folder {path}: {getattr(error, 'strerror', error)}") from error
        return run

    def discard(self) -> None:
        """Undo `create` while there is no checkpoint: nothing could go on from what the folder holds."""
        if any(self.checkpoints.glob("*.safetensors")):
            return
        for part in (self.checkpoints, self.samples):
            shutil.rmtree(part, ignore_errors=True)
        for file in ("config.json", "log.jsonl", LOCK):
            with suppress(OSError):
                (self.path / file).unlink(missing_ok=True)
        for folder in self._made:
            with suppress(OSError):
                folder.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training this run meanwhile; the system lets go of it however this one ends.

        Raises:
            UserError: If another process is at it, or nothing may be written there.
        """
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(f"{self.path} is being trained by another process: wait for it or stop it") from error
        except OSError as error:
            raise UserError(f"nothing may be written into {self.path}: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()

    @staticmethod
    def check_free(path: str | Path) -> None:
        """Raise a `UserError` if a run cannot go into this folder because something is there."""
        path = Path(path)
        try:
            if path.is_dir() and any(path.iterdir()):
                go_on = f", or continue it by wasserflow resume {path}" if (path / "config.json").is_file() else ""
                raise UserError(f"{path} exists and is not empty: choose another `out`{go_on}")
            there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        except OSError as error:
            raise UserError(f"the run cannot go into {path}: {error.strerror}") from error
        if not there.is_dir():
            raise UserError(f"{there} is a file: choose another `out` for the run's folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UserError(f"nothing may be written into {there}: choose another `out` for the run's folder")

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """The run in a folder.

        Raises:
            UserError: If there is none, it is damaged, or another version of wasserflow wrote it.
        """
        path = Path(path)
        if not path.exists():
            raise UserError(f"no such run: {path}")
        file = path / "config.json"
        if not file.is_file():
            raise UserError(f"{path} is not a run: it has no config.json")
        try:
            record = json.loads(file.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{file} cannot be read as the record of a run ({error})") from error
        if not isinstance(record, dict) or "format" not in record:
            raise UserError(f"{file} is not the record of a run: it states no format")
        if record["format"] != FORMAT:
            raise UserError(
                f"{path} has format {record['format']} (wasserflow {record.get('wasserflow', 'unknown')}), this is "
                f"wasserflow {version('wasserflow')}, which reads format {FORMAT}: use the version that wrote it"
            )
        run = cls(path, record)
        try:
            run._check()
        except (UserError, KeyError, ValueError, TypeError) as error:
            wrong = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(f"{file} is damaged or from another version: {wrong}") from error
        return run

    def _check(self) -> None:
        """Raise one of several errors if the record is not one that `create` could have written."""
        _ = self.form, self.config, self.budget, self.data
        check_seed(self.record["seed"])
        check_seed(self.record["weight_seed"])
        if self.record["precision"] not in get_args(Precision):
            raise unknown("precision", self.record["precision"], get_args(Precision))

    @property
    def form(self) -> Form:
        """How the data looked."""
        return Form.from_json(self.record["form"])

    @property
    def method(self) -> type[Method[Any]]:
        """The method's class."""
        return method_named(self.record["method"])

    @property
    def config(self) -> MethodConfig:
        """The method's settings."""
        return read_settings(self.method.Config, self.record["config"], "config")

    @property
    def budget(self) -> Budget:
        """When it ends."""
        return read_settings(Budget, self.record["budget"], "budget")

    @property
    def data(self) -> "Source":
        """What it is trained on."""
        return read_settings(Source, self.record["data"], "data")

    def build(self) -> Method:
        """The run's model, with fresh weights."""
        try:
            return self.method(self.config, self.form.shape, self.record["weight_seed"])
        except (UserError, ValueError, RuntimeError) as error:
            raise UserError(f"no network can be built from {self.path / 'config.json'}: {error}") from error

    def load_data(self, data: "DataLike | Dataset | None" = None) -> Dataset:
        """The data the run was trained on, found again or handed over.

        Raises:
            UserError: If they cannot be found, or are not the same.
        """
        known = self.data
        if data is None and known.source == "array":
            raise UserError(f"{self.path} was trained on an array in memory: hand it over as data=...")
        if not isinstance(data, Dataset):
            try:
                source = known.source if data is None else data
                data = load_data(source, size=known.size, skip_corrupt=known.skip_corrupt)
            except UserError as error:
                raise UserError(f"the data that {self.path} was trained on cannot be had: {error}") from error
        if data.fingerprint != known.fingerprint:
            raise UserError(
                f"the data in {data.source} are not those that {self.path} was trained on: "
                "put those back, or train a new run"
            )
        return data

    def write_record(self) -> None:
        """Write ``config.json``, whole."""
        with whole_or_nothing(self.path / "config.json") as unfinished:
            unfinished.write_text(json.dumps(self.record, indent=2) + "\n")

    def log(self, line: Mapping[str, float | int | None]) -> None:
        """Append a line to ``log.jsonl``."""
        words = (json.dumps(line) + "\n").encode()
        try:
            with (self.path / "log.jsonl").open("ab", buffering=0) as file:
                before = file.tell()
                if (file.write(words) or 0) < len(words):  # the disk is full: leave no half line
                    file.truncate(before)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise UserError(f"cannot write {self.path / 'log.jsonl'}: {error.strerror}") from error

    def draw(self, model: Method, progress: Progress) -> None:
        """Draw samples of the model as it is; raises `TrainingDiverged` where they are not finite."""
        plane = self.form.shape == (2,)
        samples = model.preview(GRID_POINTS if plane else GRID_SAMPLES)
        if not samples.isfinite().all():
            raise TrainingDiverged(
                f"the training diverged by {progress.images} {self.form.noun} (a sample is not finite)"
            )
        path = self.samples / f"{progress.images:012d}.png"
        shown = self.form.to_picture(samples)
        if plane:  # kept, so that `wasserflow plot` can draw where they went
            with whole_or_nothing(path.with_suffix(".npy")) as unfinished:
                np.save(unfinished, shown.numpy())
        draw_samples(shown, path)

    def save(self, tensors: Mapping[str, Tensor], progress: Progress) -> None:
        """Write a checkpoint."""
        save_checkpoint(self.checkpoints, tensors, progress)
        self.at = progress

    def rewind(self, images: int) -> None:
        """Drop what was logged and drawn past a checkpoint, left behind or cut off when a run was killed."""
        for drawn in [*self.samples.glob("*.png"), *self.samples.glob("*.npy")]:
            if drawn.stem.isdecimal() and int(drawn.stem) > images:
                drawn.unlink()
        path = self.path / "log.jsonl"
        if path.exists():
            lines = [line for line in path.read_bytes().splitlines(keepends=True) if _images(line) <= images]
            with whole_or_nothing(path) as unfinished:
                unfinished.write_bytes(b"".join(lines))

    def remembered(self) -> dict[str, Tensor]:
        """What sampling from these weights has computed of the data before; nothing where that is unknown."""
        try:
            with safe_open(self.path / REMEMBERED, "pt") as file:
                if (file.metadata() or {}).get("images") == self._mark():
                    return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError):
            pass
        return {}

    def remember(self, model: Method) -> None:
        """Keep, if the folder takes it, what sampling has computed of the data, so that it needs them no more.

        Not where a newer checkpoint has come meanwhile.
        """
        if not isinstance(model, ComparesWithData):
            return
        known, found = self.remembered(), model.reference.known
        if found.keys() <= known.keys() or self.progress() != self.at:
            return
        with suppress(UserError):
            write_tensors(self.path / REMEMBERED, known | found, {"images": self._mark()})

    def _mark(self) -> str:
        return str(self.at.images) if self.at else ""

    def progress(self) -> Progress:
        """How far the newest checkpoint is."""
        return latest_progress(self.checkpoints)

    def load(self, device: str | torch.device | None = "cpu", data: "DataLike | Dataset | None" = None) -> Method:
        """The run's model at its newest checkpoint, as `wasserflow.load` gives it."""
        where_to = resolve_device(device)
        model = self.build()
        tensors, self.at, where = load_latest(self.checkpoints)
        load_weights(model, select("model", tensors), where)
        for name in model.averages():
            load_weights(model.get_submodule(name), select(f"average/{name}", tensors), where)
        if isinstance(model, ComparesWithData):
            found = cache(lambda: self.load_data(data))
            known = {name: value.to(where_to) for name, value in self.remembered().items()}
            model.reference = Reference(lambda n: found().clean(n).to(where_to), known)
        return model.to(where_to).eval()


def _images(line: bytes) -> float:
    """The images that a line of the log was written at; past all where it was cut off."""
    try:
        return float(json.loads(line)["images"])
    except (ValueError, TypeError, KeyError):
        return inf


def machine() -> dict[str, Any]:
    """What the run was started on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
