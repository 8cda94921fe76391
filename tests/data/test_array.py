"""Arrays come back bit for bit in the axes, type and units they came in; what cannot be used is named."""

import gzip
import struct
import zipfile
from typing import Any

import numpy as np
import pytest
import torch

from wasserflow._core.errors import UserError
from wasserflow.data import load
from wasserflow.data.write import write_samples

N = 40


def images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (N, *shape), dtype=np.uint8)


def vectors(d=3, dtype: Any = np.float32):
    return (np.random.default_rng(0).normal(size=(N, d)) * 7 + 100).astype(dtype)


def label(split):
    assert split.label is not None
    return split.label.tolist()


def all_samples(dataset):
    """Every sample in data space, rows sorted, so that splits do not matter."""
    back = [
        dataset.form.to_data(dataset.form.to_model(split.x))
        for split in (dataset.train, dataset.validation, dataset.test)
    ]
    return in_order(np.concatenate(back))


def in_order(array):
    rows = array.reshape(len(array), -1)
    return array[np.lexsort(rows.T[::-1])]


def idx_bytes(array, code, shape=None):
    shape = array.shape if shape is None else shape
    header = bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(folder, kind, array):
    path = folder / f"data{kind}"
    if kind == ".npy":
        np.save(path, array)
    elif kind == ".npz":
        np.savez(path, images=array, labels=np.arange(N) % 3)
    elif kind == ".idx.gz":
        path.write_bytes(gzip.compress(idx_bytes(array, 8)))
    return path


@pytest.mark.parametrize(
    ("shape", "layout", "sample"),
    [
        ((6, 5), "NHW", (1, 6, 5)),
        ((6, 5, 1), "NHWC", (1, 6, 5)),
        ((6, 5, 3), "NHWC", (3, 6, 5)),
        ((6, 5, 4), "NHWC", (4, 6, 5)),
        ((1, 6, 5), "NCHW", (1, 6, 5)),
        ((3, 6, 5), "NCHW", (3, 6, 5)),
        ((4, 6, 4), "NHWC", (4, 4, 6)),  # both readings are possible: channels last
        ((1, 4, 4), "NCHW", (1, 4, 4)),  # but no image is one pixel high
    ],
)
@pytest.mark.parametrize("kind", ["array", "tensor", ".npy", ".npz", ".idx.gz"])
def test_images_return_as_they_came(tmp_path, shape, layout, sample, kind):
    array = images(*shape)
    source = {"array": array, "tensor": torch.from_numpy(array)}.get(kind)
    dataset = load(write(tmp_path, kind, array) if source is None else source)
    assert (dataset.form.layout, dataset.form.shape, dataset.form.dtypes) == (layout, sample, ("uint8",))
    assert dataset.train.x.shape[1:] == sample
    assert dataset.train.x.is_contiguous()
    model = dataset.form.to_model(dataset.train.x)
    assert model.dtype == torch.float32
    assert model.abs().max() <= 1
    np.testing.assert_array_equal(all_samples(dataset), in_order(array))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_vectors_return_in_their_units(tmp_path, dtype, order):
    array = np.asarray(vectors(dtype=dtype), order=order)
    np.save(tmp_path / "v.npy", array)
    dataset = load(tmp_path / "v.npy")
    assert dataset.form.layout == "ND"
    assert dataset.train.x.dtype == torch.float32
    back = all_samples(dataset)
    assert back.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_allclose(back, in_order(array), rtol=1e-3 if dtype == "float16" else 1e-6)


def test_more_than_double_precision_is_read_as_double():
    dataset = load(vectors(dtype=np.longdouble))
    assert dataset.form.dtypes == ("float64",)
    assert dataset.fingerprint == load(vectors(dtype=np.longdouble).astype(np.float64)).fingerprint
    with pytest.raises(UserError, match="holds inf in row 0, column 0"):
        load(vectors(dtype=np.longdouble) * np.longdouble("1e400"))


def test_vectors_are_standardised_by_the_training_split():
    dataset = load(vectors())
    x = dataset.train.x.double()
    torch.testing.assert_close(x.mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(3).double(), atol=1e-6, rtol=0)


def test_the_moments_are_taken_in_float64():
    array = np.random.default_rng(0).normal(size=(N, 1)) + 1e9  # float32 has a grain of 64 up there
    dataset = load(array)
    np.testing.assert_allclose(all_samples(dataset), np.sort(array, 0), rtol=0, atol=2e-6)


def test_a_bfloat16_tensor_is_read_as_float32():
    tensor = torch.from_numpy(vectors()).bfloat16().requires_grad_()
    assert load(tensor).form.dtypes == ("float32",)


def test_size_crops_the_centre_and_resizes():
    array = np.zeros((N, 8, 12), np.uint8)
    array[:, :, 2:10] = 200  # the centre square, and nothing else
    dataset = load(array, size=4)
    assert dataset.form.shape == (1, 4, 4)
    assert (dataset.train.x == 200).all()
    np.testing.assert_array_equal(load(images(6, 6), size=6).train.x, load(images(6, 6)).train.x)


@pytest.mark.parametrize("size", [4, 20])
def test_resizing_keeps_a_constant_constant(size):
    for shape in ((9, 7, 3), (4, 9, 7)):
        dataset = load(np.full((N, *shape), 37, np.uint8), size=size)
        assert dataset.form.shape[1:] == (size, size)
        assert (dataset.test.x == 37).all()


class TestNpz:
    def test_labels_become_classes(self, tmp_path):
        array = images(5, 5)
        words = np.array(["cat", "dog"])[array[:, 0, 0] % 2]
        np.savez(tmp_path / "a.npz", x=array, y=words)
        dataset = load(tmp_path / "a.npz")
        assert dataset.classes == ("cat", "dog")
        for split in (dataset.train, dataset.validation, dataset.test):
            torch.testing.assert_close(split.label, (split.x[:, 0, 0, 0] % 2).long())

    def test_whole_numbers_of_any_kind_are_counted_from_zero(self, tmp_path):
        labels = np.array([5, -1], np.int8)[np.arange(N) % 2][:, None]
        np.savez(tmp_path / "a.npz", data=images(5, 5), labels=labels)
        dataset = load(tmp_path / "a.npz")
        assert dataset.classes == ("-1", "5")
        assert set(label(dataset.train)) == {0, 1}

    def test_its_own_test_split(self, tmp_path):
        train, test = images(5, 5), images(5, 5, seed=1)[:7]
        np.savez(tmp_path / "a.npz", x_train=train, x_test=test, y_train=np.arange(N) % 2, y_test=np.arange(7) % 2)
        dataset = load(tmp_path / "a.npz")
        np.testing.assert_array_equal(dataset.test.x[:, 0], test)
        assert label(dataset.test) == [0, 1, 0, 1, 0, 1, 0]
        assert (len(dataset.train), len(dataset.validation)) == (36, 4)

    def test_its_own_test_split_may_have_no_labels(self, tmp_path):
        train, test = images(5, 5), images(5, 5, seed=1)[:7]
        np.savez(tmp_path / "a.npz", x_train=train, x_test=test, y_train=np.arange(N) % 2)
        dataset = load(tmp_path / "a.npz")
        assert dataset.classes == ("0", "1")
        assert len(label(dataset.train)) == 36
        assert dataset.test.label is None

    def test_what_is_no_array_is_named(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
            file.writestr("readme.txt", "hello")
        with pytest.raises(UserError, match=r"holds readme\.txt, which is no array"):
            load(tmp_path / "a.npz")

    def test_what_is_no_archive_is_named(self, tmp_path):
        (tmp_path / "a.npz").write_text("1 2 3\n4 5 6\n")
        with pytest.raises(UserError, match=r"a\.npz is not a \.npz file: truncated, corrupt, or something else"):
            load(tmp_path / "a.npz")

    @pytest.mark.parametrize("fault", ["password", "method"])
    def test_what_cannot_be_unpacked_is_named(self, tmp_path, fault):
        np.savez(tmp_path / "a.npz", x=vectors())
        packed = bytearray((tmp_path / "a.npz").read_bytes())
        for at, field in ((packed.index(b"PK\1\2"), 8), (0, 6)):  # flags, then the method, in both headers
            packed[at + field + (0 if fault == "password" else 2)] = 1 if fault == "password" else 99
        (tmp_path / "a.npz").write_bytes(packed)
        with pytest.raises(UserError, match=r"a\.npz is locked or oddly packed \(.*\): save it again"):
            load(tmp_path / "a.npz")

    def test_damaged_lzma_is_named(self, tmp_path):
        np.savez(tmp_path / "a.npz", x=vectors())
        content = zipfile.ZipFile(tmp_path / "a.npz").read("x.npy")
        with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_LZMA) as file:
            file.writestr("x.npy", content)
        packed = bytearray((tmp_path / "b.npz").read_bytes())
        packed[60:90] = b"\xff" * 30
        (tmp_path / "b.npz").write_bytes(packed)
        with pytest.raises(UserError, match=r"b\.npz is truncated or corrupt"):
            load(tmp_path / "b.npz")

    def test_a_single_array_needs_no_name(self, tmp_path):
        np.savez(tmp_path / "a.npz", vectors())
        assert load(tmp_path / "a.npz").form.shape == (3,)

    @pytest.mark.parametrize(
        ("arrays", "says"),
        [
            ({"a": vectors(), "b": vectors()}, "holds the arrays a, b: name the samples"),
            ({"x": vectors(), "images": vectors()}, "holds the arrays images, x"),
            ({"x": vectors(), "y": np.arange(9)}, "40 samples and 9 labels"),
            ({"x": vectors(), "y": np.ones((N, 2))}, "labels are one whole number or word"),
            ({"x_train": vectors(), "x_test": vectors(2)}, "must differ in their number only"),
            ({"x_train": images(5, 5), "x_test": images(6, 5)}, "must differ in their number only"),
            ({"x_train": vectors(), "x_test": vectors()[:0]}, "has no test samples"),
            ({}, "holds no arrays"),
        ],
    )
    def test_what_does_not_fit_is_named(self, tmp_path, arrays, says):
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(UserError, match=says):
            load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.arange(50.0), r"reshape\(-1, 1\)"),
        (np.array(3.0), "accepted are uint8 images"),
        (np.zeros((N, 3), np.int64), r"astype\('float32'\)"),
        (np.zeros((N, 3), np.uint8), r"astype\('float32'\)"),
        (np.zeros((N, 3), bool), r"astype\('float32'\)"),
        (np.zeros((N, 3), complex), "accepted are uint8 images"),
        (np.zeros((N, 3, 8, 8)), r"must be uint8.*astype\('uint8'\)"),
        (np.zeros((N, 8, 8), np.int16), "must be uint8"),
        (np.zeros((N, 8, 8, 2), np.uint8), "accepted are uint8 images"),
        (np.zeros((N, 2, 2, 2, 2), np.uint8), "accepted are uint8 images"),
        (np.array([{}] * N), "Python objects"),
        (vectors()[:19], "19 samples: at least 20"),
        (vectors()[:0], "no samples"),
        (images(8, 8)[:1], "1 sample:"),
        (np.zeros((N, 0)), "no components"),
        (images(3, 9), "9x3 pixels: at least 4"),
        (np.where(vectors() == vectors()[7, 1], np.nan, vectors()), "nan in row 7, column 1"),
        (np.where(vectors() == vectors()[0, 2], -np.inf, vectors()), "-inf in row 0, column 2"),
        (vectors() * [1, 0, 1], "does not vary in column 1"),
        (vectors(dtype=np.float64) * 1e300, "too large"),
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_unusable_arrays_are_named(tmp_path, array, says, in_file):
    if in_file:
        np.save(tmp_path / "bad.npy", array)
        with pytest.raises(UserError, match=says if array.dtype != object else "never unpickled") as error:
            load(tmp_path / "bad.npy")
        assert "bad.npy" in str(error.value)
    else:
        with pytest.raises(UserError, match=says):
            load(array)


@pytest.mark.parametrize("keep", [0, 3, 50, 120, -1])
@pytest.mark.parametrize("kind", [".npy", ".npz", ".idx.gz"])
def test_truncated_files_are_named(tmp_path, kind, keep):
    path = write(tmp_path, kind, images(8, 8))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"data\.(npy|npz|idx\.gz) .*(truncated|corrupt|not an idx)"):
        load(path)


def test_a_flipped_bit_in_an_npz_is_noticed(tmp_path):
    path = write(tmp_path, ".npz", images(8, 8))
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"data\.npz is truncated or corrupt"):
        load(path)


def test_nothing_is_unpickled(tmp_path):
    import pickle

    path = tmp_path / "a.npy"
    path.write_bytes(pickle.dumps(vectors()))
    with pytest.raises(UserError, match=r"not a \.npy file"):
        load(path)


@pytest.mark.parametrize("source", [vectors(), "ring"])
def test_size_is_for_images(source):
    with pytest.raises(UserError, match="vectors, not images"):
        load(source, size=8)


@pytest.mark.parametrize("size", [0, -3, 3])
def test_size_is_positive(size):
    with pytest.raises(UserError, match="at least 4 pixels"):
        load(images(8, 8), size=size)


class TestIdx:
    @pytest.mark.parametrize(("code", "dtype"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")])
    def test_every_type_is_big_endian(self, tmp_path, code, dtype):
        from wasserflow.data.idx import read_idx

        array = np.array([[1, 2, 3], [4, 5, 100]], dtype)
        (tmp_path / "a.idx").write_bytes(idx_bytes(array, code))
        np.testing.assert_array_equal(read_idx(tmp_path / "a.idx"), array)
        assert read_idx(tmp_path / "a.idx").dtype == array.dtype

    def test_known_bytes(self, tmp_path):
        from wasserflow.data.idx import read_idx

        (tmp_path / "a.idx").write_bytes(bytes.fromhex("00000b02 00000001 00000002 0102 fffe"))
        assert read_idx(tmp_path / "a.idx").tolist() == [[258, -2]]

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"\x00\x00\x07\x01\x00\x00\x00\x00", "not an idx file"),
            (b"\x00\x01\x08\x01\x00\x00\x00\x00", "not an idx file"),
            (b"\x00\x00\x08\x00", "not an idx file"),
            (b"", "not an idx file: it begins with nothing"),
            (b"\x00\x00\x08\x02\x00\x00", "header ends after 6 of 12 bytes"),
            (idx_bytes(images(4, 4), 8)[:-1], "is truncated"),
            (idx_bytes(images(4, 4), 8) + b"!", "bytes after its end"),
            (idx_bytes(images(4, 4), 8, (2**32 - 1,) * 3), "is truncated"),
            (gzip.compress(idx_bytes(images(4, 4), 8)) + b"!", "corrupt gzip"),
            (idx_bytes(np.arange(N, dtype=np.uint8), 8), "reshape"),
        ],
    )
    def test_what_is_wrong_is_said(self, tmp_path, content, says):
        (tmp_path / "a-idx3-ubyte").write_bytes(content)
        with pytest.raises(UserError, match=says) as error:
            load(tmp_path / "a-idx3-ubyte")
        assert "a-idx3-ubyte" in str(error.value)


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 1), (9, 8, 3), (1, 9, 8), (3, 9, 4)], ids=str)
def test_images_of_any_axes_go_into_a_folder(tmp_path, shape):
    dataset = load(images(*shape))
    x = dataset.train.x
    write_samples([dataset.form.to_model(x)], len(x), dataset.form, tmp_path / "out")
    back = load(tmp_path / "out")
    np.testing.assert_array_equal(in_order(all_stored(back)), in_order(x.numpy()))


def all_stored(dataset):
    return np.concatenate([split.x.numpy() for split in (dataset.train, dataset.validation, dataset.test)])
