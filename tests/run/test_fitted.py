"""The short way, for data of every form, and a custom method from its definition to its run."""

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from torch import Tensor, nn

import wasserflow as wf
from wasserflow.cli import main
from wasserflow.method import METHODS, Drawn, MethodConfig, register, sample_noise, settings

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(200, 2))
GREY = RNG.integers(0, 256, (40, 8, 8), dtype=np.uint8)
SMALL = {"width": 4, "batch": 16, "images": 64, "device": "cpu"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("data", "like"),
    [
        (GREY, GREY),
        (RNG.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8), None),
        (RNG.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8), None),
        (POINTS, POINTS),
        (POINTS.astype(np.float32), None),
    ],
    ids=["NHW", "NHWC", "NCHW", "float64", "float32"],
)
def test_arrays_come_back_as_they_went_in(data, like, here):
    found = wf.fit(data, "vgrow", **SMALL).sample(5)
    assert isinstance(found, np.ndarray)
    assert (found.shape, found.dtype) == ((5, *data.shape[1:]), data.dtype)
    assert not list(here.iterdir())


def test_tensors_come_back_as_tensors():
    found = wf.fit(torch.from_numpy(POINTS), "monoflow", **SMALL).sample(5)
    assert isinstance(found, Tensor)
    assert (found.shape, found.dtype) == ((5, 2), torch.float64)


def test_tables_come_back_with_their_columns():
    frame = pandas.DataFrame({"height": POINTS[:, 0], "count": RNG.integers(0, 9, 200)})
    found = wf.fit(frame, "vgrow", **SMALL).sample(5)
    assert isinstance(found, pandas.DataFrame)
    assert found.dtypes.to_dict() == frame.dtypes.to_dict()


def test_nothing_is_kept_without_a_folder(here, capfd):
    fitted = wf.fit(POINTS, wf.VGrow, **SMALL)
    assert not list(here.iterdir())
    assert capfd.readouterr() == ("", "")
    assert np.array_equal(fitted.sample(4, seed=1), fitted.sample(9, seed=1)[:4])
    assert "VGrow" in repr(fitted)


def test_a_folder_keeps_a_run(here):
    fitted = wf.fit(POINTS, "vgrow", out="r", seed=3, **SMALL)
    assert np.array_equal(fitted.sample(5), wf.sample("r", 5))
    assert json.loads((here / "r" / "config.json").read_text())["seed"] == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"method": "vgan"}, "unknown method 'vgan'. Did you mean vgrow?"),
        ({"images": None}, "a run needs a budget: give `images`, `minutes` or `cpu_minutes`"),
        ({"recipe": "papr"}, "unknown recipe 'papr'"),
        ({"widht": 4}, "unknown setting 'widht'. Did you mean width?"),
        ({"data": "digts"}, "unknown data set 'digts'"),
    ],
)
def test_what_cannot_be_fitted_is_said(words, says, here):
    with pytest.raises(wf.UserError, match=says):
        wf.fit(**({"data": POINTS, "method": "vgrow"} | SMALL | words))
    assert not list(here.iterdir())


@settings
class EnergyConfig(MethodConfig):
    """Settings: units per layer, and the learning rate."""

    units: int = 32
    lr: float = 1e-2


class EnergyGenerator(wf.Method[EnergyConfig]):
    """A generator that descends the energy distance between its samples and the data."""

    Config = EnergyConfig
    watched = ("energy_distance",)

    def build(self):
        d, units = self.shape[0], self.config.units
        self.generator = nn.Sequential(nn.Linear(d, units), nn.ReLU(), nn.Linear(units, d))

    def optimizers(self):
        return {"generator": torch.optim.Adam(self.generator.parameters(), self.config.lr)}

    def step(self, data, fit, rng):
        x = data.next().x
        y = self.generator(torch.randn(x.shape, generator=rng, device=rng.device))
        loss = 2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()
        fit.generator.minimise(loss)
        return {"energy_distance": loss.detach()}

    @torch.no_grad()
    def draw(self, n, seed, batch, how, start):
        for i in range(0, n, batch):
            yield Drawn(self.generator(sample_noise(seed, i, min(i + batch, n), self.shape)))


@pytest.fixture
def registered():
    register("energy", EnergyGenerator)
    yield
    del METHODS["energy"]


def test_a_custom_method_learns():
    data = POINTS * [1.0, 3.0] + [5.0, 0.0]
    fitted = wf.fit(data, EnergyGenerator, images=200 * 64, batch=64, device="cpu")
    before = EnergyGenerator.for_shape((2,)).sample(200).numpy()
    far, near = (wf.energy_distance(x, data).value for x in (before, fitted.sample(200)))
    assert near < 0.05 * far


def test_a_custom_method_is_trained_loaded_and_found_by_its_name(registered, here, capsys):
    model = EnergyGenerator.for_shape((2,), units=8)
    trained = wf.train(model, POINTS, budget=wf.Budget(images=640), out="r")
    assert torch.equal(wf.load("r").sample(5), trained.sample(5))
    wf.resume("r", budget=wf.Budget(images=1280), data=POINTS)
    np.save("points.npy", POINTS)
    words = ["--data", "points.npy", "--out", "s", "--images", "640", "--units", "8", "--device", "cpu"]
    assert main(["train", "energy", *words]) == 0
    assert "energy_distance" in capsys.readouterr().out
    assert main(["sample", "s", "-n", "5", "--out", "x.npy"]) == 0
    assert np.load("x.npy").shape == (5, 2)


def test_an_unregistered_run_names_what_is_missing(here):
    wf.train(EnergyGenerator.for_shape((2,)), POINTS, budget=wf.Budget(images=640), out="r")
    with pytest.raises(wf.UserError, match=r"unknown method 'energygenerator'.*wasserflow.method.register"):
        wf.load("r")


def test_a_name_is_given_once(registered):
    with pytest.raises(wf.UserError, match="taken by EnergyGenerator"):
        register("energy", wf.VGrow)


def test_the_namespace_is_what_is_public():
    assert {"fit", "Fitted", "Field", "Kernel", "Method", "Path", "Map", "kernel"} <= set(dir(wf))
    assert dir(wf) == sorted(wf.__all__)
    assert not [name for name in dir(wf) if name.startswith("_")]
    assert all(getattr(wf, name) is not None for name in dir(wf))
