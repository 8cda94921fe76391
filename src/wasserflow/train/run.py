"""A run: the folder that holds all that is needed to repeat, resume, sample and judge a training."""

import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wasserflow.data import Dataset, Form
from wasserflow.data import load as load_data
from wasserflow.errors import UserError
from wasserflow.files import whole_or_nothing
from wasserflow.method import METHODS, Pair
from wasserflow.train.budget import Progress
from wasserflow.train.checkpoint import load_latest, load_weights, select

__all__ = ["FORMAT", "Run", "load", "sample"]

FORMAT = 1


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

    @classmethod
    def create(cls, path: str | Path, record: Mapping[str, Any]) -> "Run":
        """Make the folder.

        Raises:
            UserError: If it exists and is not empty, or cannot be made.
        """
        path = Path(path)
        cls.check_free(path)
        run = cls(path, {"format": FORMAT, "wasserflow": version("wasserflow"), **record, "machine": machine()})
        try:
            run.checkpoints.mkdir(parents=True)
            run.samples.mkdir()
        except OSError as error:
            raise UserError(f"cannot make the run folder {path}: {error.strerror}") from error
        run.write_record()
        return run

    @staticmethod
    def check_free(path: str | Path) -> None:
        """Raise a `UserError` if a run cannot go into this folder because something is there."""
        path = Path(path)
        if path.is_dir() and any(path.iterdir()):
            raise UserError(
                f"{path} exists and is not empty: choose another --out, or go on with it by wasserflow resume {path}"
            )
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file: choose another --out for the run's folder")

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
            written_as = record["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} cannot be read as the record of a run ({error})") from error
        if written_as != FORMAT:
            raise UserError(
                f"{path} has format {written_as} (wasserflow {record.get('wasserflow', 'unknown')}), this is "
                f"wasserflow {version('wasserflow')}, which reads format {FORMAT}: use the version that wrote it"
            )
        missing = {"method", "config", "form", "data", "seed", "budget", "precision"} - record.keys()
        if missing or record["method"] not in METHODS:
            wrong = f"lacks {', '.join(sorted(missing))}" if missing else f"names the method {record['method']!r}"
            raise UserError(f"{file} {wrong}: it is damaged or from another version")
        return cls(path, record)

    @property
    def form(self) -> Form:
        """How the data looked."""
        return Form.from_json(self.record["form"])

    def build(self) -> Pair:
        """The run's model, with fresh weights."""
        method = METHODS[self.record["method"]]
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in self.record["config"].items()}
        try:
            config = method.Config(**settings)
        except TypeError as error:
            raise UserError(
                f"{self.path / 'config.json'} has settings that this version does not know: {error}"
            ) from error
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.record["seed"])
            return method(config, self.form.shape)

    def load_data(self, data: Any = None) -> Dataset:
        """The data the run was trained on, found again or handed over.

        Raises:
            UserError: If they cannot be found, or are not the same.
        """
        known = self.record["data"]
        if data is None and known["source"] == "array":
            raise UserError(f"{self.path} was trained on an array in memory: hand it over as data=...")
        if not isinstance(data, Dataset):
            source = known["source"] if data is None else data
            data = load_data(source, size=known["size"], skip_corrupt=known["skip_corrupt"])
        if data.fingerprint != known["fingerprint"]:
            raise UserError(f"the data in {data.source} are not those that {self.path} was trained on")
        return data

    def write_record(self) -> None:
        """Write ``config.json``, whole."""
        with whole_or_nothing(self.path / "config.json") as unfinished:
            unfinished.write_text(json.dumps(self.record, indent=2) + "\n")

    def log(self, line: Mapping[str, float | int | None]) -> None:
        """Append a line to ``log.jsonl``."""
        try:
            with (self.path / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.path / 'log.jsonl'}: {error.strerror}") from error

    def progress(self) -> Progress:
        """How far the newest checkpoint is."""
        return load_latest(self.checkpoints)[1]


def load(path: str | Path, *, device: str | torch.device = "cpu") -> Pair:
    """The model of a run at its newest checkpoint, in evaluation mode.

    Networks with an average of weights have it loaded: samples are drawn from the average, where there is one.

    Args:
        path: The run's folder.
        device: Where to put the model.

    Raises:
        UserError: If there is no such run, or it has no readable checkpoint.
    """
    run = Run.open(path)
    model = run.build()
    tensors, _, where = load_latest(run.checkpoints)
    load_weights(model, select("model", tensors), where)
    for name in model.averages():
        load_weights(model.get_submodule(name), select(f"average/{name}", tensors), where)
    return model.to(device).eval()


def sample(path: str | Path, n: int, *, seed: int = 0, device: str | torch.device = "cpu") -> np.ndarray:
    """Samples of a run in the data's own layout, units and type: what ``wasserflow sample`` writes to a file.

    Args:
        path: The run's folder.
        n: How many.
        seed: Sample i depends on the seed and on i alone.
        device: Where to compute.

    Raises:
        UserError: If there is no such run, or it has no readable checkpoint.
    """
    return Run.open(path).form.to_data(load(path, device=device).sample(n, seed=seed))


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
