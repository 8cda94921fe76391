"""Bad input and bad circumstances: one sentence on stderr, exit code 2, no traceback, nothing left behind."""

import errno
import gzip
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import wasserflow as wf
from wasserflow.cli import main
from wasserflow.run import checkpoint
from wasserflow.run.checkpoint import load_latest
from wasserflow.run.store import Run

TRAIN = ["train", "monoflow", "--width", "4", "--images", "64", "--out", "r"]
DIGITS = [*TRAIN, "--data", "digits"]
VGROW = ["train", "vgrow", "--width", "4", "--images", "64", "--out", "r", "--data", "digits"]
BUDGETLESS = ["train", "monoflow", "--data", "digits", "--out", "r"]
RNG = np.random.default_rng(0)


# words


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "usage: wasserflow COMMAND"),
        (["trian"], "unknown command 'trian'. Did you mean train?"),
        (["train"], "usage: wasserflow train METHOD"),
        (["train", "vgrwo"], "unknown method 'vgrwo'. Did you mean vgrow?"),
        (["train", "--data", "digits"], "unknown method '--data'"),
        (["train", "vgrow"], "--data"),
        (["train", "vgrow", "--data", "digits"], "--out"),
        (BUDGETLESS, "a run needs a budget: give --images, --minutes or --cpu-minutes"),
        ([*TRAIN, "--data", "digts"], "unknown data set 'digts'. Did you mean digits?"),
        ([*TRAIN, "--data", ""], "unknown data set ''"),
        ([*TRAIN, "--data", "no/x.npy"], "no such file or folder"),
        ([*VGROW, "--divergence", "jefreys"], "unknown divergence or map 'jefreys'. Did you mean jeffreys?"),
        ([*DIGITS, "--divergence", "nss"], "unknown divergence or map 'nss'. Did you mean ns?"),
        ([*DIGITS, "--network", "strded"], "unknown network 'strded'. Did you mean strided?"),
        ([*DIGITS, "--recipe", "papr"], "unknown recipe"),
        ([*DIGITS, "--precision", "fp16"], "--precision"),
        ([*DIGITS, "--widht", "4"], "--width"),
        ([*DIGITS, "--batch", "many"], "--batch"),
        ([*DIGITS, "--images", "1e3"], "--images"),
        ([*DIGITS, "--betas", "0.5"], "--betas"),
        (["sample", "x", "-n", "1"], "--out"),
        (["sample", "x", "-n", "some", "--out", "x.npy"], "-n"),
        (["evaluate", "x", "--split", "train"], "--split"),
    ],
)
def test_unknown_words(refused, words, says):
    assert says in refused(*words)


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta", "hpu", "", "cpu:0:1"])
def test_absent_device(refused, runs, device):
    sentence = f"there is no device {device!r} here; devices: cpu"
    assert sentence in refused(*DIGITS, "--device", device)
    assert sentence in refused("sample", runs / "ring", "-n", "1", "--out", "x.npy", "--device", device)
    assert sentence in refused("resume", runs / "ring", "--images", "999", "--device", device)


# numbers


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "-inf"])
@pytest.mark.parametrize("flag", ["--minutes", "--cpu-minutes"])
def test_budgets(refused, flag, value):
    assert f"{flag} must be a finite number above 0" in refused(*BUDGETLESS, flag, value)


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("--images", ["0", "-3"]),
        ("--size", ["-1", "0", "3", "100000000"]),
        ("--batch", ["0", "-1"]),
        ("--width", ["0", "-4"]),
        ("--latent", ["0"]),
        ("--save-minutes", ["0", "-1", "nan"]),
        ("--lr-logit", ["0", "-1", "nan"]),
        ("--lr-generator", ["nan"]),
        ("--penalty", ["-1"]),
        ("--penalty-every", ["0"]),
        ("--ema", ["-1"]),
        ("--seed", [str(2**64), "-1", str(10**40)]),
        ("--pool", ["0"]),
        ("--inner-steps", ["-1"]),
        ("--ratio-steps", ["0"]),
        ("--step-size", ["0", "nan", "inf"]),
        ("--fit-epochs", ["0"]),
    ],
)
def test_numbers_out_of_range(refused, flag, values):
    for value in values:
        said = refused(*[word for word in VGROW if word not in ("--images", "64")], *_budget(flag), flag, value)
        assert flag.lstrip("-") in said


def _budget(flag: str) -> list[str]:
    return [] if flag == "--images" else ["--minutes", "1"]


@pytest.mark.parametrize("words", [["--betas", "0.5", "2"], ["--betas", "nan", "0.9"]])
def test_betas(refused, words):
    assert "--betas must lie in [0, 1)" in refused(*DIGITS, *words)


@pytest.mark.parametrize(
    "words",
    [["-n", "0"], ["-n", "-4"], ["-n", "5", "--batch", "0"], ["-n", "20000", "--out", "x.png"]],
)
def test_numbers_of_samples(refused, runs, words):
    words = words if "--out" in words else [*words, "--out", "x.npy"]
    assert "at least 1" in (said := refused("sample", runs / "ring", *words)) or "at most 10000" in said


def test_numbers_of_an_evaluation(refused, runs, digits):
    assert "-n must be at least 1" in refused("evaluate", digits, "-n", "0")
    assert "at least 10 samples" in refused("evaluate", digits, "-n", "5")
    assert "--seed must be a whole number" in refused("evaluate", digits, "--seed", str(2**70))


@pytest.mark.parametrize("words", [["--batch", "3000"], ["--batch", "1"]])
def test_odd_numbers_that_work(done, words):
    done(*DIGITS, *words)


# data


def _images(folder: str, count: int = 24) -> Path:
    path = Path(folder)
    path.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(RNG.integers(0, 255, (8, 8), dtype=np.uint8)).save(path / f"{i:02}.png")
    return path


def _cut(file: str | Path, share: float = 0.5) -> str:
    """Cut a file off."""
    os.truncate(file, int(os.path.getsize(file) * share))
    return str(file)


def empty_folder():
    Path("d").mkdir()
    return "d", "holds no images: it is empty"


def mixed_folder():
    (_images("d") / "notes.txt").write_text("x")
    return "d", "notes.txt is not an image"


def corrupt_image():
    _cut(_images("d") / "07.png")
    return "d", "07.png is not a readable image"


def images_of_two_sizes():
    Image.new("L", (5, 9)).save(_images("d") / "z.png")
    return "d", "--size"


def too_few_images():
    return str(_images("d", 5)), "has 5 samples: at least 20 are needed"


def one_image():
    return str(_images("d") / "07.png"), "is one image: give the folder"


def truncated_tar():
    with tarfile.open("d.tar.gz", "w:gz") as archive:
        archive.add(_images("d"))
    return _cut("d.tar.gz"), "truncated or corrupt"


def truncated_npy():
    np.save("v.npy", RNG.normal(size=(99, 3)))
    return _cut("v.npy"), "truncated or corrupt"


def truncated_npz():
    np.savez("v.npz", RNG.normal(size=(99, 3)))
    return _cut("v.npz"), "truncated or corrupt"


def _idx() -> bytes:
    return struct.pack(">BBBBIII", 0, 0, 8, 3, 30, 8, 8) + RNG.bytes(30 * 64)


def truncated_idx():
    Path("a-idx3-ubyte").write_bytes(_idx()[:-7])
    return "a-idx3-ubyte", "is truncated"


def truncated_gzip():
    Path("a-idx3-ubyte.gz").write_bytes(gzip.compress(_idx())[:-30])
    return "a-idx3-ubyte.gz", "truncated or corrupt gzip"


def object_array():
    np.save("v.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    return "v.npy", "never unpickled"


def whole_numbers():
    np.save("v.npy", np.ones((30, 3), int))
    return "v.npy", "must be floating-point"


def floating_images():
    np.save("v.npy", np.ones((30, 3, 8, 8), np.float32))
    return "v.npy", "images must be uint8"


def five_axes():
    np.save("v.npy", np.ones((30, 2, 3, 8, 8), np.uint8))
    return "v.npy", "accepted are"


def not_a_number():
    values = RNG.normal(size=(99, 3))
    values[7, 1] = np.nan
    np.save("v.npy", values)
    return "v.npy", "holds nan in row 7, column 1"


def constant_column():
    values = RNG.normal(size=(99, 3))
    values[:, 1] = 2
    np.save("v.npy", values)
    return "v.npy", "does not vary in column 1"


def _table(text: str) -> str:
    Path("t.csv").write_text(text)
    return "t.csv"


def names_that_clash():
    return _table("a,a\n" + "1,2\n3,4\n" * 20), "2 columns called 'a'"


def words_in_a_table():
    return _table("a,b\n" + "1,x\n" * 20), "column 'b' holds 'x'"


def gap_in_a_table():
    return _table("a,b\n" + "1,2\n3,\n" * 20), "column 'b' has no value in row 2"


def table_without_names():
    return _table("1,2\n3,4\n" * 20), "first row must name the columns"


def empty_table():
    return _table(""), "Empty CSV"


def truncated_parquet():
    Path("t.parquet").write_bytes(b"PAR1" + RNG.bytes(99))
    return "t.parquet", "truncated, corrupt or no parquet"


def unknown_kind():
    Path("x.xyz").touch()
    return "x.xyz", "of no known kind"


def folder_with_the_name_of_a_set():
    Path("digits").mkdir()
    return "./digits", "holds no images"


BAD_DATA = [
    empty_folder,
    mixed_folder,
    corrupt_image,
    images_of_two_sizes,
    too_few_images,
    one_image,
    truncated_tar,
    truncated_npy,
    truncated_npz,
    truncated_idx,
    truncated_gzip,
    object_array,
    whole_numbers,
    floating_images,
    five_axes,
    not_a_number,
    constant_column,
    names_that_clash,
    words_in_a_table,
    gap_in_a_table,
    table_without_names,
    empty_table,
    truncated_parquet,
    unknown_kind,
    folder_with_the_name_of_a_set,
]


@pytest.mark.parametrize("make", BAD_DATA, ids=lambda make: make.__name__)
def test_data_that_cannot_be_used(refused, make):
    data, says = make()
    said = refused(*TRAIN, "--data", data)
    assert says in said
    assert Path(data).name in said


def test_absent_data_without_network(refused, here, monkeypatch):
    (here / "sets").mkdir()
    monkeypatch.setenv("WASSERFLOW_DATA", str(here / "sets"))

    def no_network(*args, **kwargs):
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    said = refused(*TRAIN, "--data", "mnist")
    assert "put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz," in said
    assert f"into {here / 'sets' / 'mnist'}" in said
    assert "WASSERFLOW_DATA" in said


# where it goes


def test_where_a_run_cannot_go(refused, digits):
    Path("file").write_text("x")
    Path("full").mkdir()
    Path("full", "x").touch()
    words = ["train", "monoflow", "--data", "digits", "--images", "64", "--out"]
    assert "file is a file" in refused(*words, "file")
    assert "file is a file" in refused(*words, "file/below")
    assert "full exists and is not empty: choose another --out" in refused(*words, "full")
    assert "or continue it by wasserflow resume run" in refused(*words, digits)
    assert "File name too long" in refused(*words, "x" * 300)
    assert "not empty" in refused(*words, ".")


@pytest.mark.parametrize(
    ("name", "out", "says"),
    [
        ("table", "x.png", "vectors of length 3 have no picture"),
        ("table", "x", "a folder is for images"),
        ("digits", "x.csv", "images do not go into x.csv"),
        ("digits", "x.parquet", "images do not go into x.parquet"),
        ("digits", "x.txt", "give .png, .npy, .csv, .parquet, or a folder"),
        ("digits", "x", "x exists and is not an empty folder"),
        ("digits", "folder.npy", "folder.npy is a folder"),
        ("digits", "no/x.npy", "there is no folder no"),
        ("digits", "no/x.png", "there is no folder no"),
        ("digits", "no/x", "there is no folder no"),
        ("digits", "x/x.npy", "there is no folder x"),
        ("digits", "x" * 300 + ".npy", "File name too long"),
    ],
)
def test_where_samples_cannot_go(refused, runs, name, out, says):
    Path("folder.npy").mkdir()
    if out == "x/x.npy" or says.startswith("x exists"):
        Path("x").write_text("x")
    assert says in refused("sample", runs / name, "-n", "3", "--out", out)


def test_samples_do_not_replace_the_folder_one_stands_in(refused, runs):
    assert "give the name" in refused("sample", runs / "digits", "-n", "3", "--out", ".")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(refused, runs, here):
    Path("closed").mkdir(mode=0o500)
    assert "nothing may be written into" in refused(*DIGITS[:-4], "--out", "closed/r", "--data", "digits")
    assert "Permission denied" in refused("sample", runs / "ring", "-n", "3", "--out", "closed/x.npy")


def test_permission_denied_is_one_sentence(refused, digits, monkeypatch):
    def closed(self):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "is_file", closed)
    assert refused("sample", digits, "-n", "3", "--out", "x.npy") == (
        "wasserflow: cannot use run/config.json: Permission denied\n"
    )


# runs


@pytest.mark.parametrize("command", [["sample", "-n", "3", "--out", "x.npy"], ["evaluate"], ["resume"]])
def test_what_is_not_a_run(refused, command):
    Path("file").touch()
    Path("folder").mkdir()
    assert "no such run: no" in refused(command[0], "no", *command[1:])
    assert "file is not a run" in refused(command[0], "file", *command[1:])
    assert "folder is not a run: it has no config.json" in refused(command[0], "folder", *command[1:])


def _edit(path: str, value: object):
    """An edit of the record, ``a.b`` set to a value."""

    def edit(record):
        part = record
        *above, last = path.split(".")
        for key in above:
            part = part[key]
        if value is None:
            del part[last]
        else:
            part[last] = value
        return record

    return edit


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", "\0", "[" * 100_000], ids=repr)
def test_a_record_that_is_none(refused, digits, text):
    (digits / "config.json").write_text(text)
    assert "run/config.json" in refused("sample", digits, "-n", "3", "--out", "x.npy")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("format", 5, "has format 5"),
        ("format", None, "states no format"),
        ("method", None, "lacks 'method'"),
        ("method", "vgrw", "unknown method 'vgrw'. Did you mean vgrow?"),
        ("method", [], "unknown method"),
        ("config", [], "config is []"),
        ("config.flow.pool", None, "config.flow.pool is missing"),
        ("config.glow", 1, "config.glow is unknown to this version"),
        ("config.networks.width", "4", "config.networks.width is '4'"),
        ("config.networks.width", -1, "--width must be a finite number above 0"),
        ("config.networks.width", 5, "do not fit this run's config.json"),
        ("config.networks.network", "no", "unknown network 'no'"),
        ("config.optimiser.optimizer", "sgd", "config.optimiser.optimizer is 'sgd'"),
        ("config.optimiser.betas", [0.5], "config.optimiser.betas is [0.5]"),
        ("config.optimiser.halve_lr_at", ["x"], "config.optimiser.halve_lr_at is ['x']"),
        ("config.flow.clamp", 1, "config.flow.clamp is 1"),
        ("config.flow.divergence", "no", "unknown divergence or map 'no'"),
        ("form", {}, "form.columns is missing"),
        ("form.shape", [1, 8], "form contradicts itself"),
        ("form.shape", [1, -8, 8], "form contradicts itself"),
        ("form.shape", [3, 8, 8], "do not fit"),
        ("form.layout", "NWH", "form contradicts itself"),
        ("form.dtypes", ["int"], None),
        ("form.dtypes", ["integer"], "integer"),
        ("form.mean", [1.0, 2.0], "form contradicts itself"),
        ("data.source", 3, "data.source is 3"),
        ("budget.images", "x", "budget.images is 'x'"),
        ("seed", "x", "--seed must be a whole number"),
        ("seed", 2**70, "--seed must be a whole number"),
        ("precision", "fp8", "unknown precision 'fp8'"),
    ],
)
def test_a_damaged_record(request, digits, path, value, says):
    file = digits / "config.json"
    file.write_text(json.dumps(_edit(path, value)(json.loads(file.read_text()))))
    words = ["sample", digits, "-n", "3", "--out", "x.npy"]
    if says is None:
        request.getfixturevalue("done")(*words)
    else:
        assert says in request.getfixturevalue("refused")(*words)


@pytest.mark.parametrize(
    "command", [["sample", "-n", "3", "--out", "x.npy"], ["evaluate"], ["resume", "--images", "999"]]
)
def test_checkpoints_that_cannot_be_used(refused, done, digits, runs, command):
    kept = sorted((digits / "checkpoint").iterdir())
    assert len(kept) == 2
    words = [command[0], digits, *command[1:]]

    kept[-1].write_bytes(b"nonsense")
    done("sample", digits, "-n", "1", "--out", "older.npy")
    kept[0].write_bytes(b"nonsense")
    assert "no checkpoint in run/checkpoint can be read" in refused(*words)
    save_file(load_file(next((runs / "digits" / "checkpoint").iterdir())), kept[0])
    assert "it lacks 'progress'" in refused(*words)
    shutil.copy(next((runs / "table" / "checkpoint").iterdir()), kept[0])
    assert "do not fit this run's config.json" in refused(*words)
    for path in kept:
        path.unlink()
    assert "has no checkpoint yet" in refused(*words)


def _rewrite(folder: Path, change) -> None:
    for path in (folder / "checkpoint").iterdir():
        with safe_open(path, "pt") as file:
            about = file.metadata()
        save_file(change(load_file(path)), path, about)


def test_a_checkpoint_without_its_optimiser(refused, digits):
    _rewrite(digits, lambda tensors: {k: v for k, v in tensors.items() if not k.startswith("optimizer/logit")})
    assert "the optimisers' state in" in refused("resume", digits, "--images", "999")


def test_an_optimiser_of_another_kind(refused, digits):
    file = digits / "config.json"
    file.write_text(json.dumps(_edit("config.optimiser.optimizer", "rmsprop")(json.loads(file.read_text()))))
    assert "the optimisers' state in" in refused("resume", digits, "--images", "999")


@pytest.mark.parametrize("out", ["x.npy", "x.png", "x"])
def test_samples_that_are_not_finite(refused, digits, out):
    _rewrite(digits, lambda tensors: {k: v * np.nan if v.is_floating_point() else v for k, v in tensors.items()})
    assert "not finite" in refused("sample", digits, "-n", "3", "--out", out)


def test_a_budget_that_is_used_up(refused, digits):
    for words in ([], ["--images", "100"], ["--minutes", "1e-9"]):
        assert "give a larger --images" in refused("resume", digits, *words)
    for value in ("nan", "inf", "0"):
        assert "--minutes must be a finite number above 0" in refused("resume", digits, "--minutes", value)
    assert "--save-minutes must be above 0" in refused("resume", digits, "--images", "999", "--save-minutes", "-1")


def test_data_that_have_gone_or_changed(refused, done, here):
    values = RNG.normal(size=(99, 3))
    np.save("v.npy", values)
    done(*TRAIN, "--data", "v.npy")
    Path("v.npy").rename("w.npy")
    said = refused("resume", "r", "--images", "2000")
    assert f"the data that r was trained on cannot be had: no such file or folder: {here / 'v.npy'}" in said
    np.save("v.npy", values + 1)
    assert "are not those that r was trained on" in refused("resume", "r", "--images", "2000")
    Path("w.npy").replace("v.npy")
    done("resume", "r", "--images", "2000")


def test_two_cannot_train_one_run(refused, digits):
    with Run.open(digits).locked():
        assert "is being trained by another process" in refused("resume", digits, "--images", "999")


# trainings that go wrong


@pytest.mark.parametrize("words", [["--lr-logit", "1e30"], ["--step-size", "1e30"]])
def test_a_training_that_diverges_at_once(refused, words):
    said = refused(*VGROW, "--batch", "8", *words)
    assert "diverged by" in said
    assert "nothing is kept" in said
    assert "lower --lr-logit, --lr-generator, --step-size" in said


def test_a_training_that_diverges_later(run, digits):
    config = json.loads((digits / "config.json").read_text())
    config["config"]["optimiser"]["lr_logit"] = 1e30
    (digits / "config.json").write_text(json.dumps(config))
    before = load_latest(digits / "checkpoint")[1].images
    said = run("resume", digits, "--images", "9999", "--save-minutes", "1e-9")
    assert said.code == 2
    tensors, progress, path = load_latest(digits / "checkpoint")
    assert f"its last good checkpoint is {path}" in said.err
    assert progress.images >= before
    assert all(value.isfinite().all() for value in tensors.values())
    assert wf.load(digits).sample(3).isfinite().all()


FULL = """
import resource, signal, sys
from wasserflow.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1))
sys.exit(main(sys.argv[2:]))
"""


def _with_a_full_disk(size: int, *words: object) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, whose files cannot grow beyond a size."""
    command = [sys.executable, "-c", FULL, str(size), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_full_disk_while_training_leaves_nothing(here):
    done = _with_a_full_disk(20_000, *DIGITS)
    assert done.returncode == 2
    assert "cannot write r/" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(here.iterdir())


def _no_room(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".parquet"])
def test_a_full_disk_while_sampling(refused, runs, monkeypatch, suffix):
    monkeypatch.setattr("wasserflow._core.files._flush", _no_room)
    words = ["sample", runs / "ring", "-n", "3000", "--out", f"x{suffix}"]
    assert f"cannot write x{suffix}: No space left on device" in refused(*words)


def test_a_full_disk_while_drawing_a_folder_of_images(refused, runs, monkeypatch):
    monkeypatch.setattr(Image.Image, "save", _no_room)
    assert "No space left on device" in refused("sample", runs / "digits", "-n", "3", "--out", "x")


def test_a_full_disk_while_training_on_keeps_the_checkpoint(run, digits, monkeypatch):
    monkeypatch.setattr(checkpoint, "save_file", _no_room)
    before = load_latest(digits / "checkpoint")[0]
    said = run("resume", digits, "--images", "999")
    assert said.code == 2
    assert "No space left on device" in said.err
    after = load_latest(digits / "checkpoint")[0]
    assert all((before[name] == after[name]).all() for name in before)
    assert not [p for p in (digits / "checkpoint").iterdir() if p.name.startswith(".")]


def test_a_full_disk_costs_no_half_line_of_the_log(digits, monkeypatch):
    started, log = Run.open(digits), digits / "log.jsonl"
    before = log.read_text()

    class Short(io.FileIO):
        def write(self, words):
            return super().write(bytes(words)[:5])

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, *args, **kwargs: Short(self, "a"))
        with pytest.raises(wf.UserError, match="No space left on device"):
            started.log({"images": 1})
    assert log.read_text() == before


def test_a_full_disk_does_not_cost_the_figures(run, digits, monkeypatch):
    monkeypatch.setattr("wasserflow._core.files._flush", _no_room)
    said = run("evaluate", digits)
    assert said.code == 2
    assert "cannot write run/metrics.json" in said.err
    assert "precision" in said.out
    assert not (digits / "metrics.json").exists()


def test_a_fault_of_ours_is_reported(capsys, monkeypatch, here):
    def fault(*args):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("wasserflow.cli.info.run", fault)
    monkeypatch.setattr("tempfile.tempdir", str(here))
    assert main(["info"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("wasserflow: internal error (ZeroDivisionError: division by zero); please report it with")
    (report,) = here.iterdir()
    assert str(report) in said
    assert "Traceback" in report.read_text()
    monkeypatch.setattr("tempfile.NamedTemporaryFile", _no_room)
    assert main(["info"]) == 1
    assert "please report it\n" in capsys.readouterr().err


# processes


def _shell(line: str) -> subprocess.CompletedProcess[str]:
    command = line.replace("wasserflow", f"{sys.executable} -m wasserflow")
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("line", ["wasserflow --help | true", "wasserflow --version >&-", "wasserflow nope 2>&-"])
def test_a_reader_that_has_gone(line):
    assert not _shell(line).stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux only")
def test_output_to_a_full_disk():
    done = _shell("wasserflow --help > /dev/full")
    assert done.returncode == 2
    assert done.stderr == "wasserflow: cannot use the output: No space left on device\n"


INTERRUPTED = """
import os, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(sys.argv[2]))
sys.meta_path.insert(0, Interrupt())
from wasserflow.cli import main
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["torch.nn", "wasserflow.training.loop", "sklearn.datasets"])
def test_interrupted_while_modules_are_loaded(here, number, module):
    command = [sys.executable, "-c", INTERRUPTED, module, str(int(number)), *DIGITS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + number, "wasserflow: interrupted\n")
    assert not list(here.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_sampling(runs, here, number):
    words = ["sample", str(runs / "ring"), "-n", "1000000000", "--out", "x.npy"]
    command = [sys.executable, "-m", "wasserflow", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started = time.monotonic()
    while not list(here.glob(".x*")) and time.monotonic() - started < 60:
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, "wasserflow: interrupted\n")
    assert not list(here.iterdir())


# the same from Python


def test_python_raises_the_same_sentences(runs):
    model = wf.MonoFlow.for_shape((1, 8, 8), width=4)
    budget = wf.Budget(images=64)
    with pytest.raises(wf.UserError, match="unknown precision 'fp16'"):
        wf.train(model, "digits", budget=budget, out="r", precision="fp16")  # type: ignore[arg-type]
    with pytest.raises(wf.UserError, match="`seed` must be a whole number"):
        wf.train(model, "digits", budget=budget, out="r", seed=2**70)
    with pytest.raises(wf.UserError, match="the model takes samples of shape"):
        wf.train(model, "ring", budget=budget, out="r")
    with pytest.raises(wf.UserError, match="there is no device 'cuda:99' here"):
        wf.load(runs / "ring", device="cuda:99")
    with pytest.raises(wf.UserError, match="there is no device 'cuda:99' here"):
        wf.train(model, "digits", budget=budget, out="r", device="cuda:99")

    class MonoFlow(wf.MonoFlow):
        pass

    with pytest.raises(wf.UserError, match="the name 'monoflow' is taken by another method"):
        wf.train(MonoFlow(model.config, model.shape), "digits", budget=budget, out="r")
    assert not Path("r").exists()


def test_a_folder_that_was_there_stays(monkeypatch):
    Path("r").mkdir()
    monkeypatch.setattr(checkpoint, "save_file", _no_room)
    with pytest.raises(wf.UserError, match="No space left"):
        wf.train(wf.MonoFlow.for_shape((1, 8, 8), width=4), "digits", budget=wf.Budget(images=64), out="r")
    assert not list(Path("r").iterdir())
