"""A run that stops and goes on is the run that never stopped, however it stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from copy import deepcopy
from typing import Any

import pytest
import torch

import wasserflow as wf
from wasserflow._core.errors import UserError
from wasserflow.data import load as load_data
from wasserflow.method.capability import ComparesWithData
from wasserflow.run.checkpoint import load_latest
from wasserflow.run.store import Run
from wasserflow.training.interrupt import Interrupted

SETTINGS = {
    "vgrow": {"batch": 32, "pool": 2, "inner_steps": 2, "width": 4, "penalty": 0.1, "penalty_every": 3},
    "growing": {"batch": 64, "network": "pg", "latent": 8, "width": 4, "phase": 1200},  # N lies within the fading in
    "not-grown": {"batch": 64, "network": "pg", "latent": 8, "width": 4, "phase": 10_000},  # most layers are unused
    "monoflow": {"batch": 64, "width": 4, "halve_lr_at": (1000,)},
    "vapo": {"decay": 0.0, "batch": 32, "width": 4, "warmup": 640, "time_score": 0.1},
    "residual": {"batch": 32, "width": 4, "ratio_steps": 4, "maps": 10, "map_steps": 2, "pool": 2},
    "dmmd": {"decay": 0.0, "batch": 32, "width": 4, "levels": 2},
}
METHODS = {
    "vgrow": wf.VGrow,
    "growing": wf.VGrow,
    "not-grown": wf.VGrow,
    "monoflow": wf.MonoFlow,
    "vapo": wf.VAPO,
    "residual": wf.ResidualFlow,
    "dmmd": wf.DMMD,
}
N = 1920  # a whole number of steps of either, and more than an epoch


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


def make(method):
    return METHODS[method].for_shape((1, 8, 8), seed=1, **SETTINGS[method])


def tensors(run):
    return load_latest(run / "checkpoint")[0]


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("method", METHODS)
def test_resumed_equals_uninterrupted_to_the_bit(method, digits, tmp_path):
    """Also to a larger budget, where learning rates do not depend on it."""
    whole = wf.train(make(method), digits, budget=wf.Budget(images=2 * N), out=tmp_path / "whole", seed=5)
    wf.train(make(method), digits, budget=wf.Budget(images=N), out=tmp_path / "parts", seed=5)
    parts = wf.resume(tmp_path / "parts", budget=wf.Budget(images=2 * N))
    assert_same(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))
    assert torch.equal(whole.sample(20), parts.sample(20))
    assert torch.equal(wf.load(tmp_path / "parts").sample(20), parts.sample(20))


def test_a_log_that_was_cut_off_is_mended(digits, tmp_path):
    wf.train(make("monoflow"), digits, budget=wf.Budget(images=N), out=tmp_path / "run")
    log = tmp_path / "run" / "log.jsonl"
    whole = log.read_text()
    log.write_text(whole + '{"images": 19')
    wf.resume(tmp_path / "run", budget=wf.Budget(images=2 * N))
    lines = log.read_text()
    assert lines.startswith(whole)
    assert [json.loads(line)["images"] for line in lines.splitlines()][-1] == 2 * N


def test_what_was_drawn_after_the_checkpoint_is_dropped(tmp_path):
    """As after a kill: pictures of other weights than those that go on would stand between theirs."""
    path = tmp_path / "run"
    ring = wf.MonoFlow.for_shape((2,), batch=64)
    wf.train(ring, "ring", budget=wf.Budget(images=640), out=path)
    drawn = {file.name for file in (path / "samples").iterdir()}
    later = {"000000009999.png", "000000009999.npy"}
    for name in later | {"mine.png"}:
        (path / "samples" / name).write_bytes(b"")
    wf.resume(path, budget=wf.Budget(images=704))
    left = {file.name for file in (path / "samples").iterdir()}
    assert drawn | {"mine.png"} <= left
    assert not later & left


def test_a_record_says_whether_training_began_with_fresh_weights(digits, tmp_path):
    model = make("monoflow")
    for name in ("fresh", "again", "same"):
        start = model if name == "fresh" else wf.load(tmp_path / "fresh")
        wf.train(start, digits, budget=wf.Budget(images=64), out=tmp_path / name, seed=0)
    fresh, again, same = (Run.open(tmp_path / name).record["weights"] for name in ("fresh", "again", "same"))
    assert fresh is None
    assert len(again) == 64
    assert again == same


def test_what_is_known_of_the_data_is_of_the_weights_that_draw(digits, tmp_path):
    """While a run is sampled from, another process may save newer weights."""
    path = tmp_path / "run"
    wf.train(make("dmmd"), digits, budget=wf.Budget(images=320), out=path)
    run = Run.open(path)
    model = run.load()
    assert isinstance(model, ComparesWithData)
    assert model.reference.known
    chosen = {"noise_levels": 2, "steps": 1, "references": 20, "particles": 10, "step_size": 0.01}
    model.sample(4, **chosen)
    wf.resume(path, budget=wf.Budget(images=640))
    newer = (path / "references.safetensors").read_bytes()
    run.remember(model)
    assert (path / "references.safetensors").read_bytes() == newer
    later = Run.open(path)
    model = later.load()
    assert isinstance(model, ComparesWithData)
    model.sample(4, **chosen)
    later.remember(model)
    assert any(name.startswith("0.020000/20/") for name in model.reference.known)
    again = Run.open(path).load()
    assert isinstance(again, ComparesWithData)
    assert again.reference.known.keys() == model.reference.known.keys()


def test_data_in_memory_are_read_once_and_can_be_handed_over(tmp_path, monkeypatch):
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)).numpy()
    path = tmp_path / "run"
    model = wf.DMMD.for_shape((2,), width=8, batch=16, levels=2)
    wf.train(model, x, budget=wf.Budget(images=64), out=path)
    (path / "references.safetensors").unlink()
    chosen = {"noise_levels": 3, "steps": 1, "references": 20, "particles": 10, "step_size": 0.01}
    with pytest.raises(wf.UserError, match="hand it over as data"):
        wf.sample(path, 5, **chosen)
    counted, real = [], Run.load_data
    monkeypatch.setattr(Run, "load_data", lambda self, data=None: counted.append(1) or real(self, data))
    assert wf.sample(path, 5, data=x, **chosen).shape == (5, 2)
    assert len(counted) == 1


def test_a_decay_goes_on_where_it_was(digits, tmp_path):
    """Learning rates depend on the share of the budget, which an interruption does not change."""

    def interrupt(line):
        if line["images"] == N:
            signal.raise_signal(signal.SIGINT)

    model = wf.VAPO.for_shape((1, 8, 8), seed=1, batch=32, width=4, decay=0.8)
    budget = wf.Budget(images=2 * N)
    wf.train(deepcopy(model), digits, budget=budget, out=tmp_path / "whole", seed=5)
    with pytest.raises(Interrupted):
        wf.train(model, digits, budget=budget, out=tmp_path / "parts", seed=5, save_minutes=1e-9, report=interrupt)
    wf.resume(tmp_path / "parts")
    assert_same(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))


def test_checkpoint_holds_everything_that_changes(digits, tmp_path):
    wf.train(make("vgrow"), digits, budget=wf.Budget(images=N), out=tmp_path / "run")
    held, progress, _ = load_latest(tmp_path / "run" / "checkpoint")
    assert {name.split("/")[0] for name in held} == {"model", "average", "optimizer"}
    assert any(name.startswith("optimizer/logit/") for name in held)
    assert progress.images == N
    assert progress.seconds > 0
    average, raw = held["average/generator/0.weight"], held["model/generator.0.weight"]
    assert not torch.equal(average, raw)
    assert torch.equal(wf.load(tmp_path / "run").get_parameter("generator.0.weight"), average)


def test_the_last_two_checkpoints_are_kept(digits, tmp_path):
    run = tmp_path / "run"
    wf.train(make("monoflow"), digits, budget=wf.Budget(images=640), out=run, save_minutes=1e-9)
    assert [p.name for p in sorted((run / "checkpoint").iterdir())] == [f"{i:012d}.safetensors" for i in (576, 640)]


KILLED_WHILE_WRITING = """
import os, signal, sys
import wasserflow as wf
from wasserflow.run import checkpoint

write, saved = checkpoint.save_file, []

def cut_off(tensors, path, metadata):
    write(tensors, path, metadata)
    saved.append(path)
    if len(saved) == 3:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save_file = cut_off
model = wf.MonoFlow.for_shape((1, 8, 8), seed=1, batch=64, width=4, halve_lr_at=(1000,))
wf.train(model, "digits", budget=wf.Budget(images=1920), out=sys.argv[1], seed=5, save_minutes=1e-9)
"""


def test_killed_in_the_middle_of_a_checkpoint(digits, tmp_path):
    run = tmp_path / "killed"
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(run)], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert any(p.name.startswith(".") for p in (run / "checkpoint").iterdir()), "nothing was half-written"
    wf.load(run)
    wf.resume(run)
    wf.train(make("monoflow"), digits, budget=wf.Budget(images=N), out=tmp_path / "whole", seed=5)
    assert_same(tensors(run), tensors(tmp_path / "whole"))
    assert not any(p.name.startswith(".") for p in (run / "checkpoint").iterdir())


def test_a_truncated_checkpoint_is_passed_over(digits, tmp_path):
    run = tmp_path / "run"
    wf.train(make("monoflow"), digits, budget=wf.Budget(images=640), out=run, save_minutes=1e-9)
    newest = run / "checkpoint" / "000000000640.safetensors"
    os.truncate(newest, 1000)
    assert load_latest(run / "checkpoint")[1].images == 576
    wf.resume(run)
    assert load_latest(run / "checkpoint")[1].images == 640


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_saved_and_goes_on(number, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "wasserflow", "train", "monoflow", "--data", "digits", "--out", str(run)]
    process = subprocess.Popen(
        [*command, "--width", "4", "--minutes", "5"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    for _ in range(600):
        if list(run.glob("samples/*.png")):
            break
        time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert f"wasserflow resume {run}" in said
    images = load_latest(run / "checkpoint")[1].images
    assert images > 0
    wf.resume(run, budget=wf.Budget(images=images + 64))
    assert load_latest(run / "checkpoint")[1].images == images + 64


def test_a_used_up_budget_is_said(digits, tmp_path):
    wf.train(make("monoflow"), digits, budget=wf.Budget(images=64), out=tmp_path / "run")
    with pytest.raises(wf.UserError, match="used up its budget at 64 images"):
        wf.resume(tmp_path / "run")


def test_a_budget_is_a_budget(digits, tmp_path):
    number: Any = 5
    with pytest.raises(UserError, match=r"must be a wasserflow\.Budget"):
        wf.train(make("monoflow"), digits, budget=number, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="list of runs' folders"):
        wf.compare("run")


def test_a_run_that_cannot_be_locked_is_said(digits, tmp_path):
    run = tmp_path / "run"
    wf.train(make("monoflow"), digits, budget=wf.Budget(images=64), out=run)
    (run / ".lock").unlink(missing_ok=True)
    (run / ".lock").mkdir()  # as good as a folder that may not be written, which root may
    with pytest.raises(UserError, match="nothing may be written into"):
        wf.resume(run, budget=wf.Budget(images=128))


def test_other_data_are_refused(digits, tmp_path):
    array = digits.train.x[:, 0].numpy().copy()
    wf.train(make("monoflow"), array, budget=wf.Budget(images=64), out=tmp_path / "run")
    with pytest.raises(wf.UserError, match="array in memory"):
        wf.resume(tmp_path / "run", budget=wf.Budget(images=128))
    array[0, 0, 0] ^= 1
    with pytest.raises(wf.UserError, match="not those"):
        wf.resume(tmp_path / "run", budget=wf.Budget(images=128), data=array)
    array[0, 0, 0] ^= 1
    wf.resume(tmp_path / "run", budget=wf.Budget(images=128), data=array)


def test_log_lines_can_be_planned_with(digits, tmp_path):
    lines = []
    wf.train(make("vgrow"), digits, budget=wf.Budget(images=N), out=tmp_path / "run", report=lines.append)
    stored = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert stored == lines
    expected = {"images", "seconds", "cpu_seconds", "images_per_second", "seconds_left", "memory_mb", "ratio_loss"}
    assert expected <= stored[-1].keys()
    assert stored[-1]["images"] == N
