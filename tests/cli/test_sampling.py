"""Sampling by many steps: its flags, its starts, what it stores, and what it refuses, on a run of DMMD."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

from wasserflow.cli import main

QUICK = ["--particles", "20", "--noise-levels", "3", "--steps", "2", "--step-size", "0.1", "--references", "50"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("dmmd") / "run"
    words = ["train", "dmmd", "--data", "digits", "--width", "4", "--levels", "2", "--images", "320"]
    assert main([*words, "--out", str(run)]) == 0
    return run


def sample(done, run, *words):
    said = done("sample", run, "--out", "x.npy", *QUICK, *words)
    return np.load("x.npy"), said


def test_the_same_seed_and_particles_give_the_same_samples(done, trained):
    few, said = sample(done, trained, "-n", 10)
    many, _ = sample(done, trained, "-n", 25)
    other, _ = sample(done, trained, "-n", 10, "--seed", 1)
    assert "6 network evaluations per sample" in said
    assert few.shape == (10, 8, 8)
    assert few.dtype == np.uint8
    assert np.array_equal(few, many[:10])
    assert not np.array_equal(few, other)


def test_levels_once_studied_are_kept_with_the_run(done, trained, monkeypatch):
    first, _ = sample(done, trained, "-n", 5)
    assert (trained / "references.safetensors").is_file()
    monkeypatch.setattr("wasserflow.data.Dataset.clean", None)  # no data any more
    again, _ = sample(done, trained, "-n", 5)
    assert np.array_equal(first, again)


def test_given_samples_are_refined(done, trained):
    start = np.asarray(load_digits(return_X_y=True)[0][:30]).reshape(-1, 8, 8).astype(np.float64) * 255 / 16
    np.save("start.npy", start.astype(np.uint8))
    refined, said = sample(done, trained, "--from", "start.npy", "--noise-level", "0.05", "--no-noise")
    assert said.startswith("30 samples")
    assert refined.shape == (30, 8, 8)
    assert np.abs(refined.astype(float) - start).mean() < 20  # of 255: they start where they are
    with_noise, _ = sample(done, trained, "--from", "start.npy", "--noise-level", "0.9")
    assert np.abs(with_noise.astype(float) - start).mean() > 60


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-n", "5", "--sampler", "swift"], "swift"),
        (["-n", "5", "--noise-level", "2"], "must be a finite number above 0 and of at most 1, not 2"),
        (["-n", "5", "--step-size", "1e9"], "the particles diverged"),
        (["--from", "absent.npy"], "no such file or folder"),
        (["--from", "wide.npy"], "samples of shape (1, 9, 9): (1, 8, 8) are needed"),
        (["--from", "few.npy", "-n", "5"], "few.npy holds 2 samples: -n 5 is more than that"),
        (["--from", "words.npy"], "words.npy"),
        ([], "say how many samples are wanted"),
    ],
)
def test_what_cannot_be_done_is_said(refused, trained, words, message):
    np.save("wide.npy", np.zeros((30, 9, 9), np.uint8))
    np.save("few.npy", np.zeros((2, 8, 8), np.uint8))
    np.save("words.npy", np.array(["a", "b"]))
    assert message in refused(
        "sample", trained, "--out", "x.npy", *(QUICK if "--step-size" not in words else []), *words
    )


def test_a_generator_cannot_start_from_samples(refused, digits):
    np.save("start.npy", np.zeros((3, 8, 8), np.uint8))
    assert "VGrow draws from noise" in refused("sample", digits, "--from", "start.npy", "--out", "x.npy")


def test_figures_say_how_the_samples_were_drawn(done, trained):
    done("evaluate", trained, "-n", 100, *QUICK, "--sampler", "approximate")
    figures = json.loads((trained / "metrics.json").read_text())["test/pixels"]
    assert figures["evaluations"] == 6
    assert figures["sampling"]["sampler"] == "approximate"
    assert figures["sampling"]["particles"] == 20


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_help_of_a_run_lists_the_settings_of_its_method(done, trained, command):
    assert "--noise-levels" in done(command, trained, "--help")
    assert "--noise-levels" not in done(command, "--help")
