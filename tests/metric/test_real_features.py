"""Features of real data on disk: used when whole, made again when not, written by many at once."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wasserflow.data import Dataset, Form, Split
from wasserflow.metric import evaluate, real_features
from wasserflow.metric.feature import EXTRACTORS, Coordinates
from wasserflow.metric.real_features import RealFeatures

CPU = torch.device("cpu")


@dataclasses.dataclass
class Slow:
    """Coordinates that count how many samples they have seen."""

    key: str | None = "slow-1"
    name: str = "slow"
    about: str = "Features are slow."
    seen: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return 2 * x.flatten(1)


@pytest.fixture
def data() -> Dataset:
    rng = torch.Generator().manual_seed(0)
    train, validation, test = (Split(torch.randn(n, 3, generator=rng)) for n in (50, 20, 30))
    return Dataset("array", Form((3,), "ND", ("float32",)), train, validation, test, "f" * 64)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(real_features, "BATCH", 16)
    monkeypatch.setattr(real_features, "CHUNK", 100)
    return tmp_path / "wasserflow" / "features"


def check(source: RealFeatures, data: Dataset) -> None:
    index = torch.tensor([7, 0, 7, 29])
    assert torch.equal(source.rows("test", index), 2 * data.test.x[index])
    blocks = list(source.blocks("train"))
    assert max(map(len, blocks)) <= 16
    assert torch.equal(torch.cat(blocks), 2 * data.train.x)


def test_each_split_is_computed_once(data: Dataset, cache: Path):
    first, said = Slow(), []
    check(RealFeatures(data, first, CPU, said.append), data)
    assert first.seen == 80
    assert [path.name for path in sorted(cache.iterdir())] == [
        f"{'f' * 32}-slow-1-{name}.f32" for name in ("test", "train")
    ]
    assert [path.stat().st_size for path in sorted(cache.iterdir())] == [30 * 12 + 32, 50 * 12 + 32]
    assert said == [
        f"slow features of {n} {name} points, once: they are kept in {cache}"
        for n, name in ((30, "test"), (50, "train"))
    ]
    again, said = Slow(), []
    check(RealFeatures(data, again, CPU, said.append), data)
    assert again.seen == 0
    assert said == []
    for other, changed in ((Slow("slow-2"), data), (Slow(), dataclasses.replace(data, fingerprint="e" * 64))):
        check(RealFeatures(changed, other, CPU), changed)
        assert other.seen == 80


def test_what_is_quick_is_not_kept(data: Dataset, cache: Path):
    quick = Slow(key=None)
    check(RealFeatures(data, quick, CPU), data)
    assert quick.seen == 54
    assert Coordinates().key is None
    assert not cache.exists()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[:40]),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("PK\x03\x04 nothing of ours" * 9),
    ],
)
def test_a_damaged_file_is_made_again(data: Dataset, cache: Path, damage: Callable[[Path], object]):
    check(RealFeatures(data, Slow(), CPU), data)
    for path in cache.iterdir():
        damage(path)
    second, third = Slow(), Slow()
    check(RealFeatures(data, second, CPU), data)
    check(RealFeatures(data, third, CPU), data)
    assert (second.seen, third.seen) == (80, 0)


def test_a_cache_that_cannot_be_written_costs_time_only(data: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch):
    check(RealFeatures(data, Slow(), CPU), data)
    for path in list(cache.iterdir()):
        replace_by_folder(path)
        (path / "something").touch()
    check(RealFeatures(data, Slow(), CPU), data)
    blocked = cache / "file"
    blocked.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    check(RealFeatures(data, Slow(), CPU), data)


def test_many_writers_at_once(data: Dataset, cache: Path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: check(RealFeatures(data, Slow(), CPU), data), range(16)))
    assert len(list(cache.iterdir())) == 2


def test_a_second_evaluation_computes_features_of_samples_alone(data: Dataset, monkeypatch: pytest.MonkeyPatch):
    slow = Slow()
    monkeypatch.setitem(EXTRACTORS, "pixels", lambda data: slow)
    samples = torch.randn(25, 3, generator=torch.Generator().manual_seed(1))
    first = evaluate(samples, data)
    assert slow.seen == 25 + 50 + 20 + 30
    assert evaluate(samples, data).to_json() == first.to_json()
    evaluate(samples, data, split="validation", seed=1)
    assert slow.seen == 25 + 50 + 20 + 30 + 25 + 20
