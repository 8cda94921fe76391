"""``wasserflow plot``: which pictures a run gets, what they show, and what is refused."""

import json
import os
import shutil
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import wasserflow as wf
from wasserflow import plot
from wasserflow.run.plots import plot_run, read_log
from wasserflow.run.store import GRID_POINTS, Run

OF = {
    "digits": ["curves.png", "grids.png", "training.gif"],
    "ring": ["curves.png", "paths.png", "particles.gif", "field.png", "density.png"],
    "table": ["curves.png", "marginals.png"],
}


def copy(runs: Path, name: str) -> Path:
    """A copy of a run, without its pictures, to do with as one likes."""
    return Path(shutil.copytree(runs / name, name, ignore=shutil.ignore_patterns("plots")))


@pytest.mark.parametrize("name", OF)
def test_every_picture_is_there_and_named(done, runs, name):
    run = copy(runs, name)
    lines = done("plot", run).splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(run / "plots" / file) for file in OF[name]]
    assert sorted(os.listdir(run / "plots")) == sorted(OF[name])
    for file in OF[name]:
        with Image.open(run / "plots" / file) as picture:
            picture.load()
            assert min(picture.size) > 100
            frames = [frame.size for frame in ImageSequence.Iterator(picture)]
        moments = len(list((run / "samples").glob("*.png")))
        assert len(frames) == (moments if file.endswith(".gif") else 1)
        assert len(set(frames)) == 1


def test_elsewhere_and_again(done, runs):
    run = copy(runs, "digits")
    done("plot", run, "--out", "a/b")
    before = {path.name: path.read_bytes() for path in Path("a/b").iterdir()}
    assert sorted(before) == OF["digits"]
    Path("a/b/note.txt").touch()
    done("plot", run, "--out", "a/b")
    assert {path.name: path.read_bytes() for path in Path("a/b").iterdir()} == before | {"note.txt": b""}
    assert not (run / "plots").exists()


def test_points_of_the_plane_are_kept_in_the_units_of_the_data(done, runs):
    """What is stored last is what the finished run draws, where model space has other units than the data."""
    done("train", "vgrow", "--data", "circles", "--width", "4", "--images", "2000", "--out", "run")
    stored = sorted(Path("run/samples").glob("*.npy"))
    assert [path.stem for path in stored] == [path.stem for path in sorted(Path("run/samples").glob("*.png"))]
    last = np.load(stored[-1], allow_pickle=False)
    assert last.shape == (GRID_POINTS, 2)
    assert last == pytest.approx(wf.sample("run", GRID_POINTS, seed=0), rel=1e-4, abs=1e-4)


def test_what_is_drawn_is_what_was_stored(runs, monkeypatch):
    run = copy(runs, "ring")
    drawn = {}
    for name in ("curves", "paths", "cloud_frames", "field", "densities"):
        real = getattr(plot, name)
        monkeypatch.setattr(
            plot, name, lambda *given, name=name, real=real: drawn.update({name: given}) or real(*given)
        )
    files = plot_run(run)
    assert [file.name for file in files] == OF["ring"]
    assert drawn["curves"][1:] == ("points", 2 * log(2))
    stored = [np.load(path) for path in sorted((run / "samples").glob("*.npy"))]
    moments, data, period, names = drawn["paths"]
    assert np.array_equal(moments, np.stack(stored))
    when = [f"{int(path.stem):,} points" for path in sorted((run / "samples").glob("*.npy"))]
    assert period == (when[0], when[-1])
    assert drawn["cloud_frames"][2] == when
    assert len(data) == 10_000
    assert len(np.unique(data, axis=0)) == 10_000
    assert np.linalg.norm(data, axis=1) == pytest.approx(1, abs=0.15)
    assert names is None
    assert len(drawn["densities"][0]) == 10_000


def test_the_field_is_in_the_units_of_the_data(done, monkeypatch):
    """d(data)/dt = std * d(model)/dt, at (point - mean) / std."""
    done("train", "vgrow", "--data", "circles", "--width", "4", "--images", "500", "--out", "run")
    asked = []
    real = plot.field
    monkeypatch.setattr(plot, "field", lambda velocity, *rest: asked.append(velocity) or real(velocity, *rest))
    plot_run("run")
    model, form = wf.load("run"), Run.open("run").form
    assert isinstance(model, wf.VGrow)
    z = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    mean, std = np.array(form.mean), np.array(form.std)
    assert asked[0](z.double().numpy() * std + mean) == pytest.approx(model.field(z).numpy() * std, rel=1e-3, abs=1e-6)


def test_a_run_whose_data_are_gone(done, runs):
    run = copy(runs, "table")
    record = json.loads((run / "config.json").read_text())
    record["data"]["source"] = str(Path("gone.csv").absolute())
    (run / "config.json").write_text(json.dumps(record))
    lines = done("plot", run).splitlines()
    assert os.listdir(run / "plots") == ["curves.png"]
    assert lines[1].startswith("no marginals.png: ")
    assert "gone.csv" in lines[1]


def test_points_whose_data_are_gone_are_drawn_without_them(done, runs):
    points = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    np.save("points.npy", points)
    done("train", "vgrow", "--data", "points.npy", "--width", "4", "--batch", "50", "--images", "300", "--out", "run")
    Path("points.npy").rename("elsewhere.npy")
    lines = done("plot", "run").splitlines()
    assert sorted(os.listdir("run/plots")) == ["curves.png", "field.png", "particles.gif", "paths.png"]
    assert lines[-1].startswith("no density.png, and no data in the other pictures: ")
    with pytest.raises(wf.UserError, match="are not those that"):
        plot_run("run", "without", data="ring")
    assert not Path("without").exists()


def test_a_run_without_stored_points_or_grids(done, runs):
    for name, gone in (("ring", "paths.png, no particles.gif"), ("digits", "grids.png, no training.gif")):
        run = copy(runs, name)
        for path in (run / "samples").iterdir():
            path.unlink()
        text = done("plot", run)
        assert f"no {gone}: {run / 'samples'} holds" in text
        left = [file for file in OF[name] if file not in gone]
        assert sorted(os.listdir(run / "plots")) == sorted(left)


def test_a_method_without_a_field(done, runs, monkeypatch):
    monkeypatch.setattr("wasserflow.run.plots.GivesField", type("NoMethodOfOurs", (), {}))
    run = copy(runs, "ring")
    assert "no field.png: MonoFlow has no velocity field" in done("plot", run)
    assert "field.png" not in os.listdir(run / "plots")


def test_a_wide_table_shows_its_first_columns(done):
    np.save("wide.npy", np.random.default_rng(0).normal(size=(100, 15)))
    done("train", "vgrow", "--data", "wide.npy", "--width", "4", "--batch", "50", "--images", "50", "--out", "run")
    said = done("plot", "run")
    assert "run/plots/marginals.png: 10,000 samples beside 81 points of the data, the first 12 of 15 columns" in said


def test_a_resumed_run_is_one_curve(done, runs):
    run = copy(runs, "ring")
    before = read_log(Run.open(run))["images"]
    done("resume", run, "--images", "640")
    columns = read_log(Run.open(run))
    assert columns["images"][: len(before)].tolist() == before.tolist()
    assert (np.diff(columns["images"]) > 0).all()
    assert {len(values) for values in columns.values()} == {len(columns["images"])}


def test_scalars_that_some_lines_lack_are_nan(runs):
    run = copy(runs, "ring")
    with (run / "log.jsonl").open("a") as file:
        file.write('{"images": 999, "seldom": 3.5, "ratio_loss": null}\n')
    columns = read_log(Run.open(run))
    assert columns["seldom"][-1] == 3.5
    assert np.isnan(columns["seldom"][:-1]).all()
    assert np.isnan(columns["ratio_loss"][-1])


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("name", "harm", "says"),
    [
        ("digits", lambda run: (run / "config.json").unlink(), "is not a run"),
        ("digits", lambda run: (run / "log.jsonl").unlink(), "log.jsonl cannot be read: No such file"),
        ("digits", lambda run: (run / "log.jsonl").write_text(""), "log.jsonl is empty"),
        ("digits", lambda run: (run / "log.jsonl").write_bytes(b"\xff\xfe"), "log.jsonl cannot be read"),
        ("digits", lambda run: shutil.rmtree(run / "checkpoint"), "has no checkpoint"),
        ("digits", lambda run: _truncate(sorted((run / "samples").glob("*.png"))[1]), "cannot be read as a picture"),
        (
            "digits",
            lambda run: Image.new("L", (60, 60)).save(run / "samples" / "000000000001.png"),
            "differ in size",
        ),
        ("ring", lambda run: _truncate(sorted((run / "samples").glob("*.npy"))[1]), "cannot be read as points"),
        (
            "ring",
            lambda run: np.save(run / "samples" / "000000000000.npy", np.array([{}]), allow_pickle=True),
            "cannot be read as points",
        ),
        ("ring", lambda run: np.save(run / "samples" / "000000000000.npy", np.zeros((5, 3))), "does not hold points"),
        (
            "ring",
            lambda run: np.save(run / "samples" / "000000000000.npy", np.full((5, 2), np.nan)),
            "does not hold points",
        ),
    ],
)
def test_damaged_runs(refused, runs, name, harm, says):
    run = copy(runs, name)
    harm(run)
    assert says in refused("plot", run)


@pytest.mark.parametrize(
    "line",
    ["{", "[1, 2]", '{"images": "many"}', '{"steps": 3}', '{"images": null}', '{"images": 1, "x": {}}', "", "5"],
)
def test_damaged_lines_of_the_log(refused, runs, line):
    run = copy(runs, "digits")
    path = run / "log.jsonl"
    good = path.read_text()
    path.write_text(good + line + "\n" + good)
    assert f"line {len(good.splitlines()) + 1} of {path} is damaged" in refused("plot", run)


def test_where_nothing_can_be_written(refused, runs):
    run = copy(runs, "digits")
    Path("file").touch()
    assert "cannot make the folder" in refused("plot", run, "--out", "file")
    assert "cannot make the folder" in refused("plot", run, "--out", "file/folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder(refused, runs):
    run = copy(runs, "digits")
    run.chmod(0o500)
    try:
        assert "cannot make the folder" in refused("plot", run)
    finally:
        run.chmod(0o700)


def test_a_full_disk(refused, runs, monkeypatch):
    run = copy(runs, "digits")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wasserflow._core.files.os.replace", full)
    assert "No space left on device" in refused("plot", run)


@pytest.mark.parametrize("words", [[], ["no-such-run"], ["run", "--oot", "x"]])
def test_words(refused, words):
    refused("plot", *words)


def test_a_residual_run_draws_the_same_noise_at_every_moment(done):
    """What is stored along the way is the run's own samples, not the pool that its maps learn from."""
    settings = ["--maps", "3", "--map-steps", "2", "--ratio-steps", "2", "--pool", "2", "--batch", "50", "--width", "8"]
    done("train", "residual", "--data", "ring", *settings, "--images", "900", "--save-minutes", "1e-9", "--out", "r")
    first, *_, last = sorted(Path("r/samples").glob("*.npy"))
    np.testing.assert_allclose(np.load(last), wf.sample("r", GRID_POINTS), atol=1e-5)
    moved = np.linalg.norm(np.load(last) - np.load(first), axis=1)
    assert moved.max() < 0.5  # noise drawn anew lies up to 5 apart
    assert "paths.png" in done("plot", "r")
