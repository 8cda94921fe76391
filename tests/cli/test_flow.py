"""``wasserflow flow``: clouds, tables, images and pictures in, the same form out; mistakes in one sentence."""

import errno
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from pyarrow import csv

import wasserflow as wf
from wasserflow.cli import main
from wasserflow.cli.flow import DEFAULT, SETTINGS
from wasserflow.cli.moving import Moving
from wasserflow.cli.threads import SET_BY_USER, threads_for
from wasserflow.data import load
from wasserflow.field import make_field
from wasserflow.field.by_name import FIELDS
from wasserflow.kernel.bandwidth import RULES
from wasserflow.kernel.by_name import KERNELS
from wasserflow.plot import cloud_frames

RNG = np.random.default_rng(0)
QUICK = ["--steps", "60"]


@pytest.fixture
def points(here):
    """a.npy (float32), b.npy (float64) and far.npy, a few hundred points of the plane each."""
    np.save("a.npy", RNG.standard_normal((200, 2)).astype(np.float32))
    np.save("b.npy", RNG.standard_normal((150, 2)) * 0.5 + [3, -1])
    np.save("single.npy", np.zeros((1, 2)))
    np.save("enormous.npy", RNG.standard_normal((500, 2)) * 1e30)
    np.save("wide.npy", RNG.standard_normal((30, 5)))
    return ["--source", "a.npy", "--target", "b.npy", *QUICK]


def energy(words):
    return [
        float(line.split("energy")[1]) for line in words.splitlines() if line.startswith("step ") and "energy" in line
    ]


@pytest.mark.parametrize(
    "field",
    [
        ["mmd"],
        ["mmd", "--kernel", "rq"],
        ["energy"],
        ["energy", "--r", "1.5"],
        ["sliced"],
        ["kale"],
        ["drmmd"],
        ["ratio"],
        ["ratio", "--divergence", "alpha:0.5"],
    ],
)
def test_points_come_closer_and_keep_their_type(done, points, field):
    said = done("flow", *points, "--field", *field, "--out", "c.npy")
    moved = np.load("c.npy")
    assert (moved.dtype, moved.shape) == (np.float32, (200, 2))
    energies = energy(said)
    assert energies == [] if field[0] == "ratio" else energies[-1] < energies[0]
    before, after = (float(word) for word in said.split("target: ")[1].replace(",", "").split()[:3:2])
    assert after < before
    assert "200 points -> c.npy" in said


def test_the_log_holds_the_energies(done, points):
    said = done("flow", *points, "--field", "energy", "--out", "c.npy", "--log", "log.jsonl")
    lines = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 50, 60]
    assert [line["energy"] for line in lines] == pytest.approx(energy(said), rel=1e-3)


def test_tables_keep_columns_and_units(done, here):
    rng = np.random.default_rng(0)
    ours = np.stack([rng.normal(170, 9, 90), rng.integers(0, 4, 90)], 1)
    theirs = np.stack([rng.integers(3, 9, 90), rng.normal(185, 4, 90)], 1)
    Path("a.csv").write_text("height,children\n" + "".join(f"{h:.2f},{c:.0f}\n" for h, c in ours))
    Path("b.csv").write_text("children,height\n" + "".join(f"{c:.0f},{h:.2f}\n" for c, h in theirs))
    done("flow", "--source", "a.csv", "--target", "b.csv", "--field", "energy", "--out", "c.csv", "--steps", "200")
    table = csv.read_csv("c.csv")
    assert table.column_names == ["height", "children"]
    assert str(table.schema.field("children").type) == "int64"
    height, children = (table.column(name).to_numpy() for name in table.column_names)
    assert abs(height.mean() - 185) < 2
    assert abs(children.mean() - 5.5) < 0.5


def test_images_stay_images(done, here):
    pixels = load("digits").train.x[:60, 0].numpy()
    np.save("a.npy", RNG.integers(0, 256, (40, 8, 8), dtype=np.uint8))
    np.save("b.npy", pixels)
    done("flow", "--source", "a.npy", "--target", "b.npy", "--field", "sliced", "--out", "c", "--gif", "c.gif", *QUICK)
    assert len(list(Path("c").glob("*.png"))) == 40
    for field in ("mmd", "energy", "kale", "drmmd"):
        done("flow", "--source", "a.npy", "--target", "b.npy", "--field", field, "--out", "c.npy", "-n", "10", *QUICK)
        moved = np.load("c.npy")
        assert (moved.dtype, moved.shape) == (np.uint8, (10, 8, 8))


def test_two_pictures_morph(done, here):
    for name, shape in (("disc", "ellipse"), ("box", "rectangle")):
        picture = Image.new("L", (60, 40), 255)
        getattr(ImageDraw.Draw(picture), shape)((10, 8, 35, 30), fill=0)
        picture.save(f"{name}.png")
    words = ["--source", "disc.png", "--target", "box.png", "--field", "sliced", "-n", "400", *QUICK]
    said = done("flow", *words, "--out", "moved.npy", "--gif", "morph.gif")
    assert said.endswith("400 points -> moved.npy\nanimation of 60 frames -> morph.gif\n")
    with Image.open("morph.gif") as film:
        assert getattr(film, "n_frames", 1) > 20
    moved = np.load("moved.npy")
    # The box in units of half the longer side: pixels 10 to 36 of 60, and 8 to 31 of 40 from above.
    np.testing.assert_allclose(moved.min(0), [-20 / 30, -11 / 30], atol=0.08)
    np.testing.assert_allclose(moved.max(0), [6 / 30, 12 / 30], atol=0.08)


def test_targets_known_by_their_density(done, here):
    Path("target.py").write_text(
        "def score(x):\n    return 3 - x\n\ndef log_p(x):\n    return -(x - 3).square().sum(1) / 2\n"
    )
    for name, field in (("score", "svgd"), ("log_p", "svgd"), ("log_p", "ksd")):
        done(
            "flow",
            "--source",
            "normal",
            "--target",
            f"target.py:{name}",
            "--field",
            field,
            "--out",
            "c.npy",
            "-n",
            "50",
        )
        assert np.load("c.npy").mean() > 0.5
    np.testing.assert_array_equal(np.load("c.npy").shape, (50, 2))
    done("flow", "--source", "normal", "--target", "wide-ring", "--field", "svgd", "--out", "c.png", "-n", "50", *QUICK)


def test_toys_weights_batches_and_noise(done, points):
    np.save("w.npy", (np.load("b.npy")[:, 0] > 3).astype(float))
    done("flow", *points, "--field", "energy", "--weights", "w.npy", "--out", "c.npy", "--steps", "400")
    assert np.load("c.npy")[:, 0].mean() > 3.2
    done("flow", *points, "--field", "sliced", "--batch", "50", "--out", "c.npy")
    done("flow", *points, "--field", "mmd", "--noise", "1", "--bandwidth", "0.5,1,2", "--out", "c.npy")
    done("flow", "--source", "normal", "--target", "ring", "--out", "c.parquet", "-n", "100", *QUICK)


def test_a_score_that_fails_on_the_way_keeps_the_particles(run, points):
    Path("later.py").write_text("left = [7]\n\ndef score(x):\n    left[0] -= 1\n    return -x * (1 / left[0])\n")
    said = run("flow", "--source", "a.npy", "--target", "later.py:score", "--field", "svgd", "--out", "c.npy")
    assert said.code == 2
    assert "score fails in line 5 of later.py" in said.err
    assert "ZeroDivisionError" in said.err
    assert np.load("c.npy").shape == (200, 2)


@pytest.mark.parametrize("field", [["energy"], ["mmd"], ["sliced"], ["kale"], ["ratio"], ["mmd", "--kernel", "linear"]])
def test_points_far_from_zero_move_as_those_around_it(done, here, field):
    """An offset of 4e7 in one column, where float32 has steps of 4; float64 takes it off these points exactly."""
    offset = np.array([4e7, 0])
    a, b = (np.round(RNG.standard_normal((n, 2)) * 1024) / 1024 for n in (200, 75))
    said = []
    for name, shift in (("near", 0), ("far", offset)):
        np.save("a.npy", a + shift)
        np.save("b.npy", np.concatenate([b, -b]) + shift)
        words = ["--source", "a.npy", "--target", "b.npy", "--field", *field, *QUICK]
        said.append(done("flow", *words, "--out", f"{name}.npy").splitlines()[:-1])
    assert said[0] == said[1]
    near, far = np.load("near.npy"), np.load("far.npy")
    assert far.dtype == np.float64
    np.testing.assert_allclose(far - offset, near, atol=1e-8)


def test_points_around_zero_stay_as_they_are_to_the_bit(done, points):
    """A flow of one vanishing step; and normal noise stays at its distance from a target that is far."""
    done("flow", *points, "--steps", "1", "--step-size", "1e-30", "--out", "c.npy")
    np.testing.assert_array_equal(np.load("c.npy"), np.load("a.npy"))
    np.save("b.npy", np.load("b.npy") + 4e7)
    words = [
        "--source",
        "normal",
        "--target",
        "b.npy",
        "--field",
        "mmd",
        "--kernel",
        "linear",
        "--steps",
        "1",
        "--step-size",
        "0.5",
    ]
    done("flow", *words, "--out", "c.npy")
    np.testing.assert_allclose(np.load("c.npy"), 2e7, atol=10)


def test_points_that_must_stay_far_from_zero_are_refused(refused, done, points, monkeypatch):
    """A score knows where it is, so do KALE and DrMMD of the linear kernel, and a large file is not rewritten."""
    np.save("far.npy", np.load("b.npy") + 4e7)
    Path("score.py").write_text("def score(x):\n    return 4e7 - x\n")
    says = "far.npy lies 8e+07 standard deviations from 0"
    assert says in refused(
        "flow", "--source", "far.npy", "--target", "score.py:score", "--field", "svgd", "--out", "c.npy"
    )
    far = ["flow", "--source", "far.npy", "--target", "far.npy", "--out", "c.npy", *QUICK]
    assert says in refused(*far, "--field", "kale", "--kernel", "linear")
    monkeypatch.setattr("wasserflow.cli.cloud.IN_MEMORY", 0)
    assert says in refused(*far, "--field", "sliced")
    done("flow", *points, "--field", "sliced", "--out", "c.npy")


def test_the_report_weights_the_target(done, points):
    """By the definition, pair by pair; equal weights change nothing; one point with all the weight has no pairs."""
    x, y = np.load("a.npy").astype(float), np.load("b.npy").astype(float)
    w, words = RNG.random(150), ["--field", "sliced", "--step-size", "0.3", "--out", "c.npy"]
    given = {"none": w * 0 + 1, "some": w, "one": np.eye(150)[3]}
    told = {}
    for name, weights in given.items():
        np.save("w.npy", weights)
        said = done("flow", *points, *words, "--weights", "w.npy")
        moved, p = np.load("c.npy").astype(float), weights / weights.sum()
        told[name] = [float(word) for word in said.split("weighted target: ")[1].split()[:3:2]]
        for cloud, value in zip((x, moved), told[name], strict=True):
            xx, yy, xy = (np.linalg.norm(a[:, None] - b, axis=2) for a, b in ((cloud, cloud), (y, y), (cloud, y)))
            same = xx.sum() / (200 * 199)
            within = 0 if name == "one" else p @ yy @ p / (1 - p @ p)
            assert value == pytest.approx(2 * xy.mean(0) @ p - same - within, rel=1e-3, abs=1e-5)
    said = done("flow", *points, *words)
    assert float(said.split("the target: ")[1].split()[0]) == told["none"][0]


def test_the_largest_seed(done, here):
    """Toys on both sides, noise and slices: every stream that a flow draws from."""
    words = ["--source", "ring", "--target", "two-moons", "--field", "sliced", "--noise", "0.1", "-n", "50", *QUICK]
    done("flow", *words, "--out", "c.npy", "--seed", 2**63 - 1)


def test_same_seed_same_points(done, points):
    for name in ("c.npy", "d.npy"):
        done("flow", *points, "--field", "sliced", "--noise", "0.1", "--out", name)
    np.testing.assert_array_equal(np.load("c.npy"), np.load("d.npy"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--field", "mdm"], "Did you mean mmd"),
        (["--field", "mmd", "--kernel", "gaus"], "Did you mean gaussian"),
        (["--field", "mmd", "--bandwidth", "medain"], "Did you mean median"),
        (["--field", "mmd", "--bandwidth", "-1"], "positive"),
        (["--field", "mmd", "--bandwidth", "1,2", "--kernel", "laplace"], "one bandwidth"),
        (["--field", "mmd", "--bandwidth", "1", "--kernel", "rq"], "rq has no --bandwidth: leave it out"),
        (
            ["--field", "energy", "--kernel", "rq"],
            "--kernel is for the field mmd, kale, drmmd, svgd, ksd, not for energy",
        ),
        (["--field", "ratio", "--kernel", "rq"], "--kernel is for the field mmd"),
        (
            ["--field", "ratio", "--weights", "b.npy"],
            "--weights is for the field energy, sliced, mmd, kale, drmmd, not for ratio: leave",
        ),
        (["--field", "ratio", "--divergence", "jefreys"], "Did you mean jeffreys"),
        (["--field", "ratio", "--source", "digits", "--target", "digits"], "points, not images"),
        (["--field", "energy", "--r", "2"], "0 < r < 2"),
        (["--field", "sliced", "--r", "1.5"], "--r is for the field energy"),
        (["--field", "mmd", "--r", "1.5"], "take one of: energy"),
        (["--divergence", "js"], "--divergence is for the field ratio"),
        (["--field", "energy", "--lam", "0.1"], "--lam is for the field kale, drmmd"),
        (["--field", "kale", "--adaptive"], "--adaptive is for the field drmmd"),
        (["--field", "drmmd", "--slices", "8"], "--slices is for the field sliced"),
        (["--field", "svgd", "--target", "ring", "--standardise", "True"], "leave it out"),
        (["--source", "digits", "--target", "digits", "--standardise", "True"], "leave it out"),
        (["--field", "sliced", "--slices", "0"], "at least one slice"),
        (["--field", "kale", "--lam", "0"], "lambda"),
        (["--field", "kale", "--kernel", "energy"], "positive definite"),
        (["--field", "svgd"], "unknown toy with a density"),
        (["--steps", "0"], "--steps"),
        (["-n", "1"], "--points"),
        (["--step-size", "nan"], "--step-size"),
        (["--noise", "-1"], "--noise"),
        (["--batch", "0"], "batch"),
        (["--seed", "99999999999999999999"], "--seed"),
        (["--device", "gpu"], "no device"),
        (["--source", "wide.npy"], "must be alike"),
        (["--source", "single.npy"], "single point"),
        (["--target", "single.npy"], "single point"),
        (["--target", "enormous.npy", "--field", "mmd"], "no step size"),
        (["--target", "enormous.npy", "--field", "ratio"], "no step size"),
        (["--target", "missing.npy"], "no such file"),
        (["--target", "rign"], "Did you mean ring"),
        (["--weights", "missing.npy"], "no such file"),
        (["--weights", "a.npy"], "one number per target point"),
        (["--out", "c.txt"], "cannot write samples"),
        (["--out", "c"], "a folder is for images"),
        (["--out", "no/c.npy"], "no folder"),
        (["--gif", "c.mp4"], ".gif"),
    ],
)
def test_bad_words(refused, points, words, says):
    assert says in refused("flow", *points, "--out", "c.npy", *words)


def test_bad_files(refused, points):
    bad = np.load("b.npy")
    bad[7, 1] = np.nan
    np.save("nan.npy", bad)
    assert "row 7" in refused("flow", *points, "--target", "nan.npy", "--out", "c.npy")
    Path("short.npy").write_bytes(Path("b.npy").read_bytes()[:200])
    assert "truncated" in refused("flow", *points, "--source", "short.npy", "--out", "c.npy")
    Path("t.csv").write_text("x,y\n" + "1,2\n3,5\n" * 20)
    Path("u.csv").write_text("x,z\n" + "1,2\n3,5\n" * 20)
    assert "same columns: only one has y, z" in refused(
        "flow", "--source", "t.csv", "--target", "u.csv", "--out", "c.csv"
    )
    Image.new("L", (30, 30), 255).save("white.png")
    assert "one colour" in refused("flow", "--source", "white.png", "--target", "ring", "--out", "c.npy")
    Path("broken.py").write_text("def score(x):\n    return y\n\nx = 1 / 0\n")
    svgd = ["flow", "--source", "a.npy", "--field", "svgd", "--out", "c.npy", "--target"]
    assert "ZeroDivisionError" in refused(*svgd, "broken.py:score")
    assert "say which function" in refused(*svgd, "broken.py")
    Path("raises.py").write_text("def score(x):\n    return shift(x)\n\ndef shift(x):\n    return -x + y\n")
    for field in ("svgd", "ksd"):
        said = refused(*svgd, "raises.py:score", "--field", field)
        assert "score fails in line 5 of raises.py at points (200, 2): NameError: name 'y' is not defined" in said
    Path("few.py").write_text("def score():\n    pass\n")
    assert "score fails in few.py at points (200, 2): TypeError: score() takes 0" in refused(*svgd, "few.py:score")
    Path("fine.py").write_text("def score(x):\n    return -x\n")
    assert "Did you mean score" in refused(*svgd, "fine.py:scor")
    wide = [word if word not in ("a.npy", "b.npy") else "wide.npy" for word in points]
    assert "no picture" in refused("flow", *wide, "--out", "c.png")
    assert "no animation" in refused("flow", *wide, "--out", "c.npy", "--gif", "c.gif")


def test_a_flow_that_diverges_keeps_its_best_particles(run, points):
    words = [
        "flow",
        *points,
        "--field",
        "mmd",
        "--kernel",
        "linear",
        "--step-size",
        "3",
        "--steps",
        "5000",
        "--out",
        "c.npy",
    ]
    said = run(*words)
    assert said.code == 2
    assert "c.npy holds the particles of step 0" in said.err
    assert "try a smaller step size" in said.err
    np.testing.assert_array_equal(np.load("c.npy"), np.load("a.npy"))


def test_an_interrupt_keeps_the_particles(points, monkeypatch, capsys):
    from wasserflow.field.of_samples import MMDField

    calls = []
    whole = MMDField.at

    def at(self, *given):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return whole(self, *given)

    monkeypatch.setattr(MMDField, "at", at)
    assert main(["flow", *points, "--field", "mmd", "--out", "c.npy"]) == 130
    assert "c.npy holds the particles of step 19" in capsys.readouterr().err
    assert len(np.load("c.npy")) == 200


def test_a_full_disk_leaves_nothing(refused, points, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("wasserflow._core.files._flush", full)
    assert "No space left on device" in refused("flow", *points, "--out", "c.npy")


@pytest.mark.parametrize("field", [[], ["mmd"], ["energy"], ["kale"], ["drmmd", "--adaptive"], ["ratio"]])
def test_python_takes_the_steps_of_the_command(done, points, field):
    words = ["--field", *field] if field else []
    done("flow", *points, *words, "--out", "c.npy", "--seed", "3")
    made = make_field(field[0] if field else DEFAULT, np.load("b.npy"), adaptive=len(field) > 1 or None, seed=3)
    with threads_for(0):  # another number of threads adds up in another order
        moved = wf.flow(np.load("a.npy"), made, steps=60)
    np.testing.assert_array_equal(moved, np.load("c.npy"))


def test_python_needs_no_settings_for_the_flow_of_the_command(done, points):
    done("flow", "--source", "a.npy", "--target", "b.npy", "--field", "mmd", "--out", "c.npy")
    with threads_for(0):
        moved = wf.flow(np.load("a.npy"), wf.MMDField(np.load("b.npy")), steps=500)
    np.testing.assert_array_equal(moved, np.load("c.npy"))


def test_what_was_chosen_is_said(done, points):
    said = done("flow", *points, "--field", "mmd", "--out", "c.npy").splitlines()[0]
    assert said.startswith("200 points onto 150: field mmd, kernel Gaussian(bandwidth=")
    assert "60 steps of " in said
    assert "(stable)" in said
    assert "1 thread" in said or "1 of " in said
    assert f"field {DEFAULT}, 60 steps of 0.2," in done("flow", *points, "--step-size", "0.2", "--out", "c.npy")


def test_the_target_lies_behind_the_particles(done, points, monkeypatch):
    drawn = []

    def frames(clouds, reference=None, titles=None, around=None):
        drawn.extend([clouds, reference, titles, around])
        return cloud_frames(clouds, reference, titles, around)

    monkeypatch.setattr("wasserflow.cli.cloud.cloud_frames", frames)
    done("flow", *points, "--out", "c.npy", "--gif", "c.gif")
    clouds, reference, titles, around = drawn
    np.testing.assert_allclose(reference, np.load("b.npy"), atol=1e-6)
    np.testing.assert_array_equal(clouds[0], np.load("a.npy"))
    np.testing.assert_array_equal(clouds[-1], np.load("c.npy"))
    assert (titles[0].replace("\u2007", " "), titles[-1]) == ("step  0 of 60", "step 60 of 60")
    assert len(around) == 200 + 200 + 150


def test_the_help_lists_the_tables_and_the_common_flags_first(done):
    said = done("flow", "--help")
    for name in (*FIELDS, *KERNELS, *RULES, "ring", "funnel"):
        assert name in said
    assert "None" not in said
    first, rest = said.split("more options")
    assert all(flag in first for flag in ("--source", "--target", "--out", "--field", "--steps", "--points", "--gif"))
    assert all(f"--{name.replace('_', '-')}" in rest for name in SETTINGS)


def test_a_flow_loads_no_trainer(here):
    code = (
        "import sys; from wasserflow.cli import main;"
        "code = main('flow --source ring --target two-moons -n 20 --steps 2 --out c.npy'.split());"
        "loaded = [name for name in sys.modules if name.split('.')[0] in ('accelerate', 'jinja2', 'pandas')"
        " or name.startswith('wasserflow.training')];"
        "sys.exit(str(loaded) if loaded or code else 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_threads_follow_the_work_and_the_user(monkeypatch):
    for name in SET_BY_USER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getloadavg", lambda: (0.1, 0.0, 0.0))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with threads_for(1e6) as small:
            assert torch.get_num_threads() == 1
        with threads_for(1e12) as large:
            assert torch.get_num_threads() == 2
        monkeypatch.setattr("os.getloadavg", lambda: (99.0, 0.0, 0.0))
        with threads_for(1e12) as busy:
            assert torch.get_num_threads() == 1
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        with threads_for(1e6) as given:
            assert torch.get_num_threads() == 2
        assert (small, large, given) == ("1 of 2 threads, as the steps are small", "2 threads", "2 threads")
        assert busy == "1 of 2 threads, as the cores are busy"
    finally:
        torch.set_num_threads(before)


def test_progress_tells_the_time_left(monkeypatch, capsys):
    monkeypatch.setattr("wasserflow.cli.moving.time.monotonic", itertools.count(0, 8).__next__)
    told = Moving(100)
    for k in range(101):
        told.step(k)
        if k % 50 == 0:
            told.look(k, 1.5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["step", "0", "energy", "1.5"]
    assert any("left" in line for line in lines)
    assert lines[-1].split() == ["step", "100", "0:00", "left", "energy", "1.5"]
