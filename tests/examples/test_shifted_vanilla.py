"""What the shift does to the rate; runs that are measured, and not trained twice."""

from importlib import import_module

import pytest
import torch

import wasserflow as wf

example = import_module("shifted_vanilla")


def test_the_shift_keeps_poor_samples_moving():
    """The rate at d is sigma(d + C): more than a half as long as d > -C, and below e^{d + C} beyond."""
    d = torch.linspace(-12, 3, 100)
    for settings in example.LOSSES.values():
        if settings["divergence"] == "vanilla":
            shift = settings["shift"]
            rate = example.named("vanilla").shifted(shift).rate(d)
            assert ((rate > 0.5) == (d > -shift)).all()
            assert (rate < (d + shift).exp()).all()


def test_runs_are_measured_and_not_trained_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(
        example, "LOSSES", {name: example.LOSSES[name] for name in ("vanilla, C = 5", "non-saturating")}
    )
    numbers = example.main(tmp_path, "digits", cpu_minutes=0.01)
    assert all(numbers[name]["frechet"] > numbers[name]["reference"] for name in example.LOSSES)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
        "digits-non-saturating",
        "digits-vanilla-5",
    ]
    monkeypatch.setattr(wf, "train", None)
    assert example.main(tmp_path, "digits", cpu_minutes=0.01) == numbers


def test_absent_data_names_the_embedded_set(tmp_path, monkeypatch):
    def absent(name):
        raise wf.UserError(f"{name} is not there.")

    monkeypatch.setattr(example, "load", absent)
    with pytest.raises(wf.UserError, match=r"mnist is not there\. Or .* --data digits"):
        example.main(tmp_path)
