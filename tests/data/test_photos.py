"""CelebA and LSUN in small files of the publishers' formats: what is read, and what each fault says."""

import io
import logging
import shutil
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from wasserflow._core.errors import UserError
from wasserflow.data import available, load, read, read_samples
from wasserflow.data.celeba import ARCHIVE, FOLDER, PARTITION
from wasserflow.data.lsun import TEST, TRAIN

try:
    import lmdb
except ImportError:
    lmdb = None

needs_lmdb = pytest.mark.skipif(lmdb is None, reason="needs the package lmdb")

N = 48


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("WASSERFLOW_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def encoded(array, kind="jpeg", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def centre(array, side):
    """The square in the middle, by arithmetic of its own."""
    height, width = array.shape[:2]
    top, left = (height - side) // 2, (width - side) // 2
    return array[top : top + side, left : left + side]


def face(i):
    """A face of one colour, ``3 i``, that fills just the 140 pixels in the middle; all around it is white."""
    array = np.full((218, 178, 3), 255, np.uint8)
    centre(array, 140)[:] = 3 * i
    return encoded(array, quality=100, subsampling=0)


def faces(n=N):
    return {f"{i + 1:06}.jpg": face(i) for i in range(n)}


def unpacked(data, pictures):
    target = data / "celeba" / FOLDER
    target.mkdir(parents=True)
    for name, content in pictures.items():
        (target / name).write_bytes(content)
    return target


def zipped(data, pictures, method=zipfile.ZIP_STORED):
    (data / "celeba").mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(data / "celeba" / ARCHIVE, "w", method) as file:
        file.mkdir(FOLDER)
        for name, content in pictures.items():
            file.writestr(f"{FOLDER}/{name}", content)
    return data / "celeba" / ARCHIVE


def partition(data, split):
    (data / "celeba" / PARTITION).write_text("".join(f"{name} {which}\n" for name, which in split.items()))


def in_order(pictures):
    """The first half trains, the next quarter validates and the last tests: the publisher's order."""
    n = len(pictures)
    return {name: (i >= n // 2) + (i >= 3 * n // 4) for i, name in enumerate(sorted(pictures))}


def colours(split):
    """Which faces a split holds, read off the colour of the middle."""
    return (split.x[:, 0, 32, 32].double() / 3).round().int().tolist()


class TestCelebA:
    @pytest.mark.parametrize("put", [unpacked, zipped])
    def test_the_publisher_s_split(self, data, put):
        put(data, faces())
        partition(data, in_order(faces()))
        dataset = load("celeba")
        assert available()["celeba"] == str(data / "celeba")
        assert (dataset.source, dataset.form.layout, dataset.form.shape) == ("celeba", "NHWC", (3, 64, 64))
        assert colours(dataset.train) == list(range(24))
        assert colours(dataset.validation) == list(range(24, 36))
        assert colours(dataset.test) == list(range(36, 48))

    def test_zip_and_folder_are_the_same(self, data):
        partition_of = in_order(faces())
        unpacked(data, faces())
        partition(data, partition_of)
        first = load("celeba").fingerprint
        shutil.rmtree(data / "celeba" / FOLDER)
        zipped(data, dict(reversed(faces().items())), zipfile.ZIP_DEFLATED)
        assert load("celeba").fingerprint == first

    def test_the_crop_is_140_pixels_of_the_middle(self, data):
        unpacked(data, faces())
        x = load("celeba").train.x.double()
        # A pixel more on any side would let the white around the face in; one less cannot be told from it.
        assert (x - x[:, :, 32:33, 32:33]).abs().max() < 40
        ramp = np.broadcast_to(np.arange(178)[None, :, None], (218, 178, 3)).astype(np.uint8)
        (data / "celeba" / FOLDER / "000001.jpg").write_bytes(encoded(ramp, quality=100, subsampling=0))
        sets = load("celeba", size=140)
        ramps = [image for s in (sets.train, sets.validation, sets.test) for image in s.x if image[0].max() > 150]
        np.testing.assert_allclose(ramps[0][0, 70].double(), np.arange(19, 159), atol=2)

    @pytest.mark.parametrize("size", [16, 64, 140])
    def test_the_size_is_the_user_s(self, data, size):
        unpacked(data, faces())
        assert load("celeba", size=size).form.shape == (3, size, size)

    def test_without_a_partition_tenths_are_held_out(self, data, caplog):
        unpacked(data, faces())
        with caplog.at_level(logging.WARNING, "wasserflow"):
            dataset = load("celeba")
        assert "list_eval_partition.txt is absent, so seeded tenths are held out" in caplog.text
        splits = (dataset.train, dataset.validation, dataset.test)
        assert [len(s) for s in splits] == [40, 4, 4]
        assert sorted(colour for split in splits for colour in colours(split)) == list(range(N))

    def test_samples_to_judge_are_the_test_split(self, data):
        unpacked(data, faces())
        partition(data, in_order(faces()))
        dataset = load("celeba")
        assert read_samples("celeba", dataset.form).equal(dataset.form.to_model(dataset.test.x))
        assert len(read("celeba", 0).train) == 24

    def test_absent(self, data):
        with pytest.raises(UserError, match=r"lacks img_align_celeba\.zip or img_align_celeba: put .*from https://"):
            load("celeba")
        assert available()["celeba"] == "absent"

    @pytest.mark.parametrize("put", [unpacked, zipped])
    def test_a_corrupt_image_is_named_or_skipped(self, data, put, caplog):
        pictures = faces() | {"000007.jpg": face(6)[:700]}
        put(data, pictures)
        partition(data, in_order(pictures))
        with pytest.raises(UserError, match=r"000007\.jpg is not a readable image .*`skip_corrupt`"):
            load("celeba")
        dataset = load("celeba", skip_corrupt=True)
        assert colours(dataset.train) == [i for i in range(24) if i != 6]
        assert "skipped 1 of 48 images" in caplog.text

    def test_an_image_of_another_size_is_not_celeba(self, data):
        unpacked(data, faces() | {"000003.jpg": encoded(np.zeros((256, 256, 3), np.uint8))})
        with pytest.raises(UserError, match=r"000003\.jpg has 256x256 pixels instead of 178x218"):
            load("celeba")

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
    def test_a_truncated_zip(self, data, share):
        path = zipped(data, faces())
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(UserError, match=r"img_align_celeba\.zip is truncated or corrupt") as error:
            load("celeba")
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("lost", "says"),
        [
            (["000009.jpg"], r"has no line for 000009\.jpg in .*truncated, or of another set"),
            (["000009.jpg", "000011.jpg"], r"has no line for 000009\.jpg and another image in"),
            (["000009.jpg", "000011.jpg", "000012.jpg"], r"has no line for 000009\.jpg and 2 other images in"),
        ],
    )
    def test_a_missing_line(self, data, lost, says):
        unpacked(data, faces())
        partition(data, {name: which for name, which in in_order(faces()).items() if name not in lost})
        with pytest.raises(UserError, match=says):
            load("celeba")

    @pytest.mark.parametrize("put", [unpacked, zipped])
    def test_a_missing_image(self, data, put):
        put(data, faces(38))
        partition(data, in_order(faces()))
        with pytest.raises(UserError, match=r"is incomplete: 000039\.jpg and 9 other images of list_eval"):
            load("celeba")

    @pytest.mark.parametrize("line", ["000001.jpg", "000001.jpg 3", "000001.jpg 0 0", "\ufffd\ufffd"])
    def test_a_line_of_nonsense(self, data, line):
        unpacked(data, faces())
        partition(data, in_order(faces()))
        path = data / "celeba" / PARTITION
        path.write_text(f"{path.read_text()}{line}\n")
        with pytest.raises(UserError, match=r"line 49 of .*list_eval_partition\.txt is .*fetch it again"):
            load("celeba")

    def test_a_partition_without_a_validation_or_a_test_split(self, data):
        unpacked(data, faces())
        partition(data, {name: 2 * (which == 2) for name, which in in_order(faces()).items()})
        dataset = load("celeba")
        assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [33, 3, 12]
        partition(data, dict.fromkeys(faces(), 0))
        with pytest.raises(UserError, match="celeba has no test samples"):
            load("celeba")


def database(path, pictures):
    """An LMDB folder as the publisher makes them: a key of forty hexadecimal digits, an encoded image."""
    assert lmdb is not None
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=1 << 26) as file, file.begin(write=True) as batch:
        for i, content in enumerate(pictures):
            batch.put(f"{i:040x}".encode(), content)


def church(i, kind="webp"):
    """256 pixels high and wider than that; the middle has the colour ``3 i``, the wings are white."""
    array = np.full((256, 341, 3), 255, np.uint8)
    centre(array, 256)[:] = 3 * i
    return encoded(array, kind, **({"lossless": True} if kind == "webp" else {"quality": 75}))


def churches(data, train=(), test=()):
    database(data / "lsun" / TRAIN, train or [church(i) for i in range(N)])
    database(data / "lsun" / TEST, test or [church(i) for i in range(N, N + 5)])


@needs_lmdb
class TestLsun:
    @pytest.mark.parametrize("kind", ["webp", "jpeg"])
    def test_the_publisher_s_split(self, data, kind):
        churches(data, [church(i, kind) for i in range(N)], [church(i, kind) for i in range(N, N + 5)])
        dataset = load("lsun-church")
        assert available()["lsun-church"] == str(data / "lsun")
        assert (dataset.source, dataset.form.layout, dataset.form.shape) == ("lsun-church", "NHWC", (3, 64, 64))
        assert sorted(colours(dataset.train) + colours(dataset.validation)) == list(range(N))
        assert colours(dataset.test) == list(range(N, N + 5))
        assert len(dataset.validation) == 4

    def test_the_crop_is_the_shorter_side(self, data):
        churches(data)
        x = load("lsun-church").train.x.int()
        assert (x == x[:, :, :1, :1]).all()  # to the rim: no white came in
        assert load("lsun-church", size=32).form.shape == (3, 32, 32)

    def test_nothing_is_written_and_no_lock_is_taken(self, data):
        churches(data)
        for name in (TRAIN, TEST):
            (data / "lsun" / name / "lock.mdb").unlink()
            (data / "lsun" / name).chmod(0o555)
        before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
        load("lsun-church")
        assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before

    def test_a_corrupt_image_is_named_or_skipped_in_one_session(self, data):
        churches(data, [church(i) if i != 7 else church(i)[:60] for i in range(N)])
        with pytest.raises(UserError, match=f"{TRAIN}/{7:040x} is not a readable image") as error:
            load("lsun-church")
        dataset = load("lsun-church", skip_corrupt=True)  # while the error still holds all its frames
        assert sorted(colours(dataset.train) + colours(dataset.validation)) == [i for i in range(N) if i != 7]
        assert error.value.__traceback__ is not None

    @pytest.mark.parametrize("which", [TRAIN, TEST])
    def test_an_empty_database(self, data, which):
        churches(data)
        shutil.rmtree(data / "lsun" / which)
        database(data / "lsun" / which, [])
        with pytest.raises(UserError, match=f"{which} holds no images: it is empty"):
            load("lsun-church")

    @pytest.mark.parametrize("which", [TRAIN, TEST])
    def test_absent(self, data, which):
        churches(data)
        shutil.rmtree(data / "lsun" / which)
        with pytest.raises(UserError, match=rf"lacks {which}/data\.mdb: put .* from|in http://") as error:
            load("lsun-church")
        assert "\n" not in str(error.value)
        assert available()["lsun-church"] == "absent"

    @pytest.mark.parametrize("size", [1, 5000, 20_000, -4096, -1])
    def test_a_truncated_database(self, data, size):
        churches(data)
        file = data / "lsun" / TRAIN / "data.mdb"
        file.write_bytes(file.read_bytes()[:size])
        with pytest.raises(UserError, match=r"train_lmdb/data\.mdb is (truncated: it has|not a readable LMDB)"):
            load("lsun-church")

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(100_000)])
    def test_something_else_by_that_name(self, data, content):
        churches(data)
        (data / "lsun" / TRAIN / "data.mdb").write_bytes(content)
        with pytest.raises(UserError, match=r"data\.mdb is not a readable LMDB database .*fetch it again"):
            load("lsun-church")


def test_without_the_package_it_is_named(data, monkeypatch):
    for name in (TRAIN, TEST):
        (data / "lsun" / name).mkdir(parents=True)
        (data / "lsun" / name / "data.mdb").touch()
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(UserError, match=r"needs the package lmdb: pip install 'wasserflow\[lmdb\]'"):
        load("lsun-church")
