"""Named sets are found, downloaded whole or not at all, and read; absent ones say which file to put where."""

import functools
import gzip
import hashlib
import http.server
import io
import struct
import tarfile
import threading
from dataclasses import replace

import numpy as np
import pytest

from wasserflow._core.errors import UserError
from wasserflow.data import NAMES, available, data_folder, load, named


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def small_mnist(seed=0):
    rng = np.random.default_rng(seed)
    files = {}
    for prefix, n in (("train", 40), ("t10k", 10)):
        files[f"{prefix}-images-idx3-ubyte.gz"] = gzip.compress(idx(rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)))
        files[f"{prefix}-labels-idx1-ubyte.gz"] = gzip.compress(idx((np.arange(n) % 10).astype(np.uint8)))
    return files


def small_cifar(seed=0):
    """The batches, four records each, and what they hold."""
    records = np.random.default_rng(seed).integers(0, 10, (6, 4, 3073), dtype=np.uint8)
    return {name: records[i].tobytes() for i, name in enumerate(named.CIFAR_BATCHES)}, records


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WASSERFLOW_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def server(tmp_path):
    """A folder, and the address under which its files are served."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

    public = tmp_path / "public"
    public.mkdir()
    service = http.server.HTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=public))
    thread = threading.Thread(target=service.serve_forever)
    thread.start()
    yield public, f"http://127.0.0.1:{service.server_port}/"
    service.shutdown()
    thread.join()
    service.server_close()


def labels_of(split):
    assert split.label is not None
    return split.label


def publish(monkeypatch, name, files, url):
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    monkeypatch.setitem(named.SETS, name, replace(named.SETS[name], url=url, files=digests))


def test_the_data_folder_is_the_user_s(monkeypatch, tmp_path):
    monkeypatch.setenv("WASSERFLOW_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    monkeypatch.delenv("WASSERFLOW_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_folder() == tmp_path / "cache" / "wasserflow"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folder() == tmp_path / ".cache" / "wasserflow"


def test_digits_are_the_scans_of_scikit_learn():
    from sklearn.datasets import load_digits

    dataset = load("digits")
    assert dataset.form.shape == (1, 8, 8)
    assert dataset.classes == tuple("0123456789")
    sets = (dataset.train, dataset.validation, dataset.test)
    sixteenths = np.concatenate([np.rint(s.x[:, 0].double().numpy() * 16 / 255) for s in sets])
    labels = np.concatenate([labels_of(s).numpy() for s in sets])
    theirs, their_labels = load_digits(return_X_y=True)
    ours = sorted((x.tobytes(), y) for x, y in zip(sixteenths.reshape(-1, 64), labels, strict=True))
    assert ours == sorted((x.tobytes(), y) for x, y in zip(theirs, their_labels, strict=True))


def test_mnist_is_downloaded_once_and_read(folder, server, monkeypatch):
    public, url = server
    files = small_mnist()
    for name, content in files.items():
        (public / name).write_bytes(content)
    publish(monkeypatch, "mnist", files, url)
    assert available()["mnist"] == "absent"
    first = load("mnist")
    assert available()["mnist"] == str(folder / "mnist")
    assert sorted(path.name for path in (folder / "mnist").iterdir()) == sorted(files)
    assert [len(s) for s in (first.train, first.validation, first.test)] == [36, 4, 10]
    np.testing.assert_array_equal(
        first.test.x[:, 0].numpy().tobytes(), gzip.decompress(files["t10k-images-idx3-ubyte.gz"])[16:]
    )
    for path in public.iterdir():
        path.unlink()
    assert load("mnist").fingerprint == first.fingerprint


def test_unpacked_files_do_as_well(folder, monkeypatch):
    publish(monkeypatch, "fashion-mnist", small_mnist(), "http://127.0.0.1:9/")
    (folder / "fashion_mnist").mkdir(parents=True)
    for name, content in small_mnist().items():
        (folder / "fashion_mnist" / name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
    assert load("fashion-mnist").classes == named.CLOTHES


@pytest.mark.parametrize("unpacked", [False, True])
def test_cifar_is_read_without_unpickling(folder, server, monkeypatch, unpacked):
    public, url = server
    batches, records = small_cifar()
    if unpacked:
        target = folder / "cifar10" / "cifar-10-batches-bin"
        target.mkdir(parents=True)
        for name, content in batches.items():
            (target / name).write_bytes(content)
    else:
        with tarfile.open(public / named.CIFAR_ARCHIVE, "w:gz") as tar:
            for name, content in {"batches.meta.txt": b"airplane\n", **batches}.items():
                member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        archive = (public / named.CIFAR_ARCHIVE).read_bytes()
        publish(monkeypatch, "cifar10", {named.CIFAR_ARCHIVE: archive}, url)
    dataset = load("cifar10")
    assert dataset.form.layout == "NHWC"
    assert (len(dataset.train), len(dataset.validation)) == (18, 2)
    np.testing.assert_array_equal(dataset.test.x, records[5, :, 1:].reshape(4, 3, 32, 32))
    assert labels_of(dataset.test).tolist() == records[5, :, 0].tolist()


@pytest.mark.parametrize("keep", [slice(0, 5000), slice(0, -1), slice(0, 0)])
def test_a_truncated_cifar_archive_is_named(folder, keep):
    (folder / "cifar10").mkdir(parents=True)
    batches, _ = small_cifar()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in batches.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    (folder / "cifar10" / named.CIFAR_ARCHIVE).write_bytes(buffer.getvalue()[keep])
    with pytest.raises(UserError, match=r"cifar-10-binary\.tar\.gz .*(truncated|absent)"):
        load("cifar10")


class TestDownloadsThatFail:
    """Each is one sentence, and leaves nothing behind."""

    def attempt(self, folder, says):
        with pytest.raises(UserError, match=says) as error:
            load("mnist")
        sentence = str(error.value)
        assert f"mnist is not in {folder / 'mnist'} and the download failed" in sentence
        assert "put train-images-idx3-ubyte.gz, train-labels" in sentence
        assert "point WASSERFLOW_DATA at a folder" in sentence
        assert not list(folder.rglob("*.part"))
        assert not list(folder.rglob("*.gz"))

    def test_wrong_content(self, folder, server, monkeypatch):
        public, url = server
        publish(monkeypatch, "mnist", small_mnist(), url)
        for name, content in small_mnist(seed=1).items():
            (public / name).write_bytes(content)
        self.attempt(folder, "is not the file it should be: its SHA-256 is")

    def test_missing_on_the_server(self, folder, server, monkeypatch):
        publish(monkeypatch, "mnist", small_mnist(), server[1])
        self.attempt(folder, "File not found|Not Found")

    def test_nobody_there(self, folder, server, monkeypatch):
        publish(monkeypatch, "mnist", small_mnist(), "http://127.0.0.1:9/")
        self.attempt(folder, "refused")

    def test_broken_off(self, folder, monkeypatch):
        class HalfWay(http.server.BaseHTTPRequestHandler):
            def log_message(self, format, *args):
                pass

            def do_GET(self):
                content = small_mnist()[self.path[1:]]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])

        service = http.server.HTTPServer(("127.0.0.1", 0), HalfWay)
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        try:
            publish(monkeypatch, "mnist", small_mnist(), f"http://127.0.0.1:{service.server_port}/")
            self.attempt(folder, "broke off after")
        finally:
            service.shutdown()
            thread.join()
            service.server_close()

    def test_no_place_to_put_it(self, folder, server, monkeypatch):
        public, url = server
        publish(monkeypatch, "mnist", small_mnist(), url)
        for name, content in small_mnist().items():
            (public / name).write_bytes(content)
        folder.write_text("a file where the folder should be")
        with pytest.raises(UserError, match=r"download failed .*(Not a directory|File exists)"):
            load("mnist")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: content[:-9], "truncated or corrupt gzip .* delete it"),
        (lambda content: gzip.compress(gzip.decompress(content)[:-1]), "is truncated: shape"),
        (
            lambda content: gzip.compress(idx(np.zeros((3, 28, 28), np.uint8))),
            "does not hold what its name says",
        ),
        (lambda content: gzip.compress(idx(np.zeros(40, np.uint8))), "does not hold what its name says"),
    ],
)
def test_a_damaged_file_is_named(folder, damage, says):
    (folder / "mnist").mkdir(parents=True)
    for name, content in small_mnist().items():
        (folder / "mnist" / name).write_bytes(damage(content) if name.startswith("train-images") else content)
    with pytest.raises(UserError, match=says) as error:
        load("mnist")
    assert "train-" in str(error.value)


def test_every_name_says_where_it_is(folder):
    where = available()
    assert tuple(where) == NAMES
    assert where["digits"] == "embedded"
    assert where["ring"] == "generated"
    assert where["cifar10"] == "absent"


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_published_files(name):
    where = named.find(name)
    if where is None:
        pytest.skip(f"{name} is not in {data_folder()}")
    for file, digest in named.SETS[name].files.items():
        if (where / file).is_file():
            assert hashlib.sha256((where / file).read_bytes()).hexdigest() == digest
    dataset = load(name)
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [54_000, 6_000, 10_000]
    assert dataset.form.shape == (1, 28, 28)
    assert (
        labels_of(dataset.test).bincount().tolist()
        == {
            "mnist": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
            "fashion-mnist": [1000] * 10,
        }[name]
    )
