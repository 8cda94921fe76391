"""Every command from end to end, on runs so small that they learn nothing."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import csv, parquet

import wasserflow as wf
from wasserflow.cli import demo, main
from wasserflow.cli.estimate import Pace, _images, _seconds
from wasserflow.run.checkpoint import load_latest

TINY = ["--width", "4", "--batch", "32", "--images", "64"]
RNG = np.random.default_rng(0)


# info, help


def test_usage_and_version(done):
    usage = done("--help")
    assert all(f"\n  {name} " in usage for name in ("demo", "train", "resume", "sample", "evaluate", "info"))
    assert done("--version") == f"{version('wasserflow')}\n"


@pytest.mark.parametrize("command", ["demo", "resume", "sample", "evaluate", "info"])
def test_help(done, command):
    assert f"usage: wasserflow {command}" in done(command, "--help")


def test_help_of_methods(done):
    assert "vgrow" in (methods := done("train", "--help"))
    assert "monoflow" in methods
    assert {"kl", "js", "logd", "jeffreys"} <= set(re.findall(r"[\w-]+", done("train", "vgrow", "--help")))
    assert "--shift" in done("train", "monoflow", "--help")


@pytest.mark.parametrize("words", [["density"], ["plot"], ["sample"], ["evaluate"], ["resume"], ["train", "vapo"]])
def test_help_shows_no_python(done, words):
    assert "None" not in done(*words, "--help")


def test_a_budget_is_missed_after_an_unknown_option(refused):
    said = refused("train", "vgrow", "--data", "digits", "--out", "r", "--minuts", "3")
    assert "unknown option --minuts. Did you mean --minutes" in said
    assert "--minutes, --cpu-minutes or --images" in said


def test_maps_that_were_never_reached_are_said(done):
    small = ["--width", "4", "--batch", "16", "--maps", "3", "--ratio-steps", "1", "--device", "cpu"]
    said = done("train", "residual", "--data", "ring", *small, "--images", "32", "--out", "r")
    assert "training residual on 45,000 points: cpu, " in said
    remark = (
        "2 of 3 maps were reached: samples stop part of the way from noise to data; train longer, or with fewer --maps"
    )
    assert remark in said
    assert remark in " ".join(done("evaluate", "r", "-n", "50").split())
    assert "maps were reached" not in done("resume", "r", "--images", "48")


def test_info(done, here, monkeypatch):
    monkeypatch.setenv("WASSERFLOW_DATA", str(here))
    said = done("info")
    assert f"torch {torch.__version__}" in said
    assert str(here) in said
    assert "digits         embedded" in said
    assert "mnist          absent" in said
    absent = [line for line in said.splitlines() if line.startswith("extra") and "installed" not in line]
    for line in absent:
        name = line.split()[1]
        assert line.endswith(
            f"pip install 'wasserflow[{name}]', or in a checkout pip install -c constraints.txt '.[{name}]'"
        )


def test_answers_before_torch_is_loaded():
    program = "import sys; from wasserflow.cli import main; sys.exit(main(['trian']) + 10 * ('torch' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 2


# train, resume


@pytest.mark.parametrize(
    ("method", "extra"),
    [
        ("vgrow", ["--pool", "1", "--inner-steps", "1"]),
        ("vgrow", ["--divergence", "alpha:-0.5", "--ratio-loss", "least-squares", "--penalty-kind", "weighted"]),
        ("monoflow", ["--divergence", "arcsinh", "--shift", "3"]),
        ("monoflow", ["--divergence", "alpha:1.5", "--ratio-loss", "f-gan:kl", "--penalty-kind", "one-centred"]),
        ("residual", ["--ratio-steps", "1", "--maps", "2", "--pool", "2"]),
    ],
)
@pytest.mark.parametrize("data", ["digits", "ring"])
def test_train(done, method, extra, data):
    said = done("train", method, "--data", data, *TINY, *extra, "--seed", "3", "--out", "new/r")
    assert "trained: new/r" in said
    assert "wasserflow sample new/r -n 64 --out grid.png" in said
    record = json.loads(Path("new/r/config.json").read_text())
    assert (record["method"], record["seed"], record["budget"]["images"]) == (method, 3, 64)
    assert record["config"]["networks"]["width"] == 4
    assert list(Path("new/r/samples").iterdir())
    assert json.loads(Path("new/r/log.jsonl").read_text().splitlines()[-1])["images"] >= 64


def test_train_says_how_to_draw_what_has_no_picture(done):
    np.save("line.npy", RNG.normal(size=(100, 1)))
    said = done("train", "vgrow", "--data", "line.npy", *TINY, "--out", "r")
    done(*said.splitlines()[-1].removeprefix("wasserflow ").removesuffix(" draws from it").split())
    assert len(Path("samples.csv").read_text().splitlines()) == 65


def test_points_are_drawn_in_the_units_of_the_data(done, monkeypatch):
    from wasserflow.cli import sample

    np.save("far.npy", RNG.normal([1000, -500], size=(100, 2)))
    done("train", "vgrow", "--data", "far.npy", *TINY, "--out", "r")
    drawn = []
    monkeypatch.setattr(sample, "draw_samples", lambda points, out: drawn.append(points))
    done("sample", "r", "-n", "50", "--out", "s.png")
    done("sample", "r", "-n", "50", "--out", "s.npy")
    np.testing.assert_array_equal(drawn[0].numpy(), np.load("s.npy"))


def test_paper_recipe(done):
    done("train", "vgrow", "--data", "ring", "--recipe", "paper", "--batch", "50", "--images", "50", "--out", "r")
    settings = json.loads(Path("r/config.json").read_text())["config"]
    networks = settings["networks"]
    assert (networks["network"], networks["prior"], settings["batch"]) == ("shallow", "uniform", 50)


@pytest.mark.parametrize("recipe", ["ept", "pg"])
def test_recipes_of_the_variants(done, recipe):
    small = ["--width", "4", "--batch", "8", "--pool", "1", "--fit-epochs", "1"] if recipe == "ept" else TINY
    done("train", "vgrow", "--data", "digits", "--recipe", recipe, *small, "--images", "8", "--out", "r")
    done("evaluate", "r", "-n", "20")


def test_settings_may_need_what_the_recipe_sets(done):
    """--phase is for the growing networks, which the recipe brings."""
    settings = ["--recipe", "pg", "--phase", "16", "--width", "4", "--latent", "4", "--batch", "8"]
    done("train", "vgrow", "--data", "digits", *settings, "--images", "32", "--out", "r")


def test_residual_flow_states_what_a_sample_costs(done):
    settings = ["--ratio-steps", "1", "--maps", "3", "--map-steps", "2", "--pool", "1", "--batch", "16", "--width", "4"]
    done("train", "residual", "--data", "ring", *settings, "--images", "32", "--out", "r")
    said = done("sample", "r", "-n", "5", "--out", "x.npy")
    assert "4 network evaluations per sample" in said  # two maps learned so far, two steps each


def test_a_map_of_ones_own_is_found_by_its_name(done, refused):
    wf.define_map("gentle", lambda d: d + torch.tanh(d) / 2)
    model = wf.MonoFlow.for_shape((2,), divergence="gentle", width=4, batch=16)
    wf.train(model, "ring", budget=wf.Budget(images=32), out="r")
    done("resume", "r", "--images", "64")
    config = Path("r/config.json")
    config.write_text(config.read_text().replace("gentle", "forgotten"))
    assert "unknown divergence or map 'forgotten'" in refused("resume", "r", "--images", "96")


def _folder():
    for kind in ("a", "b"):
        Path("pictures", kind).mkdir(parents=True)
        for i in range(15):
            Image.fromarray(RNG.integers(0, 255, (9 + i, 12, 3), dtype=np.uint8)).save(f"pictures/{kind}/{i}.png")
    return ["pictures", "--size", "8"]


def _tar():
    folder = _folder()[0]
    subprocess.run(["tar", "czf", "pictures.tgz", folder], check=True)
    return ["pictures.tgz", "--size", "8"]


def _npz():
    np.savez("v.npz", x=RNG.normal(size=(50, 2)))
    return ["v.npz"]


def _npy():
    np.save("v.npy", RNG.integers(0, 255, (50, 8, 8, 3), dtype=np.uint8))
    return ["v.npy"]


def _idx():
    pixels = RNG.integers(0, 255, (30, 8, 8), dtype=np.uint8)
    sizes = np.array(pixels.shape, ">u4").tobytes()
    Path("pixels-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + pixels.tobytes())
    return ["pixels-idx3-ubyte"]


def _parquet():
    parquet.write_table(pa.table({"a": RNG.normal(size=50), "b": RNG.integers(0, 9, 50)}), "t.parquet")
    return ["t.parquet"]


def _odd_path():
    Path("sub folder", "größe").mkdir(parents=True)
    np.save("sub folder/größe/v v.npy", RNG.normal(size=(50, 2)))
    return ["sub folder/größe/v v.npy"]


@pytest.mark.parametrize("make", [_folder, _tar, _npz, _npy, _idx, _parquet, _odd_path], ids=lambda make: make.__name__)
def test_train_on_files(done, make):
    done("train", "monoflow", "--data", *make(), *TINY, "--out", "runs of mine/r")
    done("sample", "runs of mine/r", "-n", "3", "--out", "x.npy")
    assert len(np.load("x.npy")) == 3


def test_corrupt_images_are_skipped_on_demand(run):
    data = _folder()
    os.truncate("pictures/a/7.png", 50)
    said = run("train", "monoflow", "--data", *data, "--skip-corrupt", *TINY, "--out", "r")
    assert said.code == 0
    assert run("resume", "r", "--images", "128").code == 0


@pytest.mark.parametrize("value", [True, False])
def test_a_setting_that_is_on_or_off_can_be_given_whatever_the_recipe_says(done, value):
    words = ["--recipe", "paper", "--width", "4", "--depth", "1", "--levels", "1", "--batch", "4", "--images", "90"]
    flag = f"--{'' if value else 'no-'}standardised"
    said = done("train", "dmmd", "--data", "digits", *words, flag, "--out", "r", "--dry-run")
    assert f'"standardised": {str(value).lower()}' in said


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        (["vgrow", "--recipe", "paper", "--batch", "8", "--pool", "1", "--fit-epochs", "1", "2", "3", "44"], "44\n"),
        (["vapo", "--recipe", "energy-matching", "--contrast", "0.25"], '"contrast": 0.25'),
    ],
)
def test_settings_that_suit_the_recipe_alone(done, words, setting):
    small = ["--data", "digits", "--width", "4", "--images", "90", "--out", "r", "--dry-run"]
    assert setting in done("train", *words, *small)


def test_dry_run_leaves_nothing(done, here):
    said = done("train", "vgrow", "--data", "digits", "--width", "4", "--images", "90", "--out", "r", "--dry-run")
    assert '"divergence": "logd"' in said
    assert "images/s" in said
    assert "90 images: about" in said
    assert not list(here.iterdir())


def test_dry_run_follows_a_schedule(done):
    fit = ["--fit-epochs", "1", "40", "--fit-epochs-at", "100000"]
    small = ["--data", "digits", "--width", "4", "--out", "r", "--dry-run"]
    said = done("train", "vgrow", *small, *fit, "--cpu-minutes", "60", "--images", "200000")
    assert "images/s from 100,000 images on" in said
    assert "from 100,000" not in done("train", "vgrow", *small, *fit, "--images", "100000")  # never comes to it
    said = done("train", "vgrow", *small, "--images", "9000", "--network", "pg", "--phase", "2000")
    assert re.findall(r"from ([\d,]+) images", said) == ["2,000"]  # of 8x8, the second size fades in


def test_times_and_images_of_a_plan_are_each_others_inverse():
    paces = [Pace(0, 1.0, 2.0), Pace(10, 5.0, 1.0), Pace(30, 0.5, 4.0)]
    assert [_seconds(paces, "wall", images) for images in (0, 4, 10, 12, 30, 34)] == [0, 4, 10, 20, 110, 112]
    for kind in ("wall", "cpu"):
        for images in (0, 4, 10, 12.5, 30, 100):
            assert _images(paces, kind, _seconds(paces, kind, images)) == pytest.approx(images)


def test_resume_in_another_folder_after_a_move(done, monkeypatch):
    np.save("v.npy", RNG.normal(size=(50, 2)))
    done("train", "monoflow", "--data", "v.npy", *TINY, "--out", "r")
    Path("elsewhere").mkdir()
    Path("r").rename("elsewhere/s")
    monkeypatch.chdir("elsewhere")
    said = done("resume", "s", "--images", "128")
    assert "trained: s" in said
    assert load_latest(Path("s/checkpoint"))[1].images == 128
    assert json.loads(Path("s/config.json").read_text())["budget"]["images"] == 128


def test_a_named_set_wins_over_a_file_of_its_name(done):
    Path("digits").write_text("x")
    done("train", "monoflow", "--data", "digits", *TINY, "--out", "r")


def test_pictures_that_were_thrown_away_are_no_loss(done, digits):
    for path in (digits / "samples").iterdir():
        path.unlink()
    (digits / "samples").rmdir()
    done("resume", digits, "--images", "400")
    assert list((digits / "samples").iterdir())


def test_a_checkpoint_can_be_read_by_whoever_can_read_the_run(digits):
    modes = {path.stat().st_mode & 0o777 for path in (digits / "config.json", *(digits / "checkpoint").iterdir())}
    assert len(modes) == 1


TWO = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]

COMPARE = """
import os

import torch
from wasserflow.data import load
from wasserflow.method import VGrow
from wasserflow._core.device import resolve_device
from wasserflow.training.processes import max_over_processes, processes
from wasserflow.training.trainer import Trainer

model = VGrow.for_shape((1, 8, 8), width=4, batch=16)
device = torch.device("cpu")
trainer = Trainer(model, load("digits"), seed=0, device=device, precision="fp32")
for _ in range(3):
    trainer.step()
assert processes().num_processes == 2
assert trainer.data.batch == 8 and trainer.data.seen == 48
for p in model.parameters():
    other = p.detach().clone()
    torch.distributed.broadcast(other, 0)
    assert torch.equal(p, other), "the processes drift apart"
assert max_over_processes((processes().process_index, 3.0), device) == (1, 3)
assert resolve_device("cpu") == device  # a run can be looked at from here
processes().wait_for_everyone()
os._exit(0)
"""


def test_processes_stay_together(here):
    Path("compare.py").write_text(COMPARE)
    done = subprocess.run([*TWO, "compare.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_two_processes(here):
    """One of them keeps the run, which goes on in a single process."""
    words = ["train", "monoflow", "--data", "digits", *TINY, "--out", "r"]
    first = subprocess.run([*TWO, "-m", "wasserflow", *words], capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("trained: r") == 1
    assert main(["resume", "r", "--images", "128"]) == 0
    assert load_latest(Path("r/checkpoint"))[1].images == 128


# sample


def test_images_come_back_in_their_own_form(done, runs):
    said = done("sample", runs / "digits", "-n", "12", "--out", "x.npy", "--seed", "4")
    assert "12 samples -> x.npy: EMA weights at 320 images, seed 4" in said
    array = np.load("x.npy")
    assert (array.dtype, array.shape) == (np.uint8, (12, 8, 8))
    assert np.array_equal(array, wf.sample(runs / "digits", 12, seed=4))
    done("sample", runs / "digits", "-n", "12", "--out", "x", "--seed", "4")
    names = sorted(Path("x").iterdir())
    assert [path.name for path in names] == [f"{i:02}.png" for i in range(12)]
    assert np.array_equal(np.stack([np.asarray(Image.open(path)) for path in names]), array)
    done("sample", runs / "digits", "-n", "12", "--out", "x.png")
    with Image.open("x.png") as grid:
        assert grid.mode == "L"
        assert min(grid.size) > 100


@pytest.mark.parametrize(("suffix", "read"), [(".csv", csv.read_csv), (".parquet", parquet.read_table)])
def test_tables_come_back_with_their_names_and_types(done, runs, suffix, read):
    done("sample", runs / "table", "-n", "50", "--out", f"x{suffix}")
    table = read(f"x{suffix}")
    assert table.column_names == ["height", "count", "mass in kg"]
    assert [str(kind) for kind in table.schema.types] == ["double", "int64", "double"]
    assert table.num_rows == 50
    expected = wf.sample(runs / "table", 50)
    assert np.allclose(np.stack([column.to_numpy() for column in table.columns], 1), expected)


@pytest.mark.parametrize("out", ["x.npy", "x.png"])
def test_same_seed_same_file(done, runs, out):
    contents = []
    for seed in ("7", "7", "8"):
        done("sample", runs / "ring", "-n", "20", "--out", out, "--seed", seed)
        contents.append(Path(out).read_bytes())
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.parametrize("name", ["ring", "digits"])
def test_fewer_are_a_prefix_of_more(done, runs, name):
    done("sample", runs / name, "-n", "10", "--out", "few.npy", "--batch", "3")
    done("sample", runs / name, "-n", "1000", "--out", "many.npy", "--batch", "170")
    few, many = np.load("few.npy"), np.load("many.npy")
    assert len(many) == 1000
    assert np.abs(many[:10].astype(float) - few).max() <= (1 if few.dtype == np.uint8 else 1e-5)


def test_a_million_samples_need_no_more_memory_than_ten(runs, here):
    peaks = []
    for n in (10, 1_000_000):
        words = ["sample", str(runs / "ring"), "-n", str(n), "--out", "x.npy"]
        process = subprocess.Popen([sys.executable, "-m", "wasserflow", *words], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = status
        assert status == 0
        peaks.append(used.ru_maxrss)
    assert np.load("x.npy", mmap_mode="r").shape == (1_000_000, 2)
    assert peaks[1] < 1.05 * peaks[0]  # held at once they took a quarter more


# demo


def test_demo(done, monkeypatch, here):
    monkeypatch.setattr(demo, "MINUTES", 0.02)
    said = done("demo")
    for name in ("samples.png", "flow.gif", "metrics.json"):
        assert (here / "wasserflow-demo" / name).stat().st_size
        assert f"wasserflow-demo/{name}" in said
    assert "frechet" in said
    assert "images/s" in said


def test_help_speaks_of_flags(done):
    done("train", "dmmd", "--data", "digits", "--width", "4", "--levels", "2", "--images", "64", "--out", "d")
    said = done("sample", "d", "--help")
    assert "--noise-levels INT" in said
    assert "from --noise-level down" in said
    assert "`" not in said
    assert "--noise, --no-noise" in said
