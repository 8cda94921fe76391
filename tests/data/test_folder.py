"""Folders and archives of images: one array, grey or colour, with the labels and the split of their names."""

import io
import logging
import os
import struct
import tarfile
import tracemalloc
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wasserflow._core.errors import UserError
from wasserflow.data import archive, load

N = 24


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def fill(folder, array, names=None):
    """Write images losslessly; returns the folder."""
    for i, image in enumerate(array):
        save(folder / (names[i] if names else f"{i:03}.png"), image)
    return folder


def pack(folder, path, mode: Any = "w", top=""):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, mode, zipfile.ZIP_DEFLATED) as packed:
            for file in sorted(folder.rglob("*")):
                packed.write(file, f"{top or '.'}/{file.relative_to(folder)}")
        return path
    with tarfile.open(path, mode) as tar:
        tar.add(folder, arcname=top or ".")
    return path


def everything(dataset):
    back = np.concatenate([dataset.form.to_data(dataset.form.to_model(s.x)) for s in three(dataset)])
    return sorted(image.tobytes() for image in back)


def three(dataset):
    return dataset.train, dataset.validation, dataset.test


@pytest.mark.parametrize(("shape", "layout"), [((7, 5), "NHW"), ((7, 5, 3), "NHWC")])
def test_images_return_as_they_came(tmp_path, shape, layout):
    array = pixels(N, *shape)
    dataset = load(fill(tmp_path / "a", array))
    assert dataset.form.layout == layout
    assert dataset.classes is None
    assert dataset.train.label is None
    assert everything(dataset) == sorted(image.tobytes() for image in array)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.xz", "w:xz"), (".tar.bz2", "w:bz2"), (".zip", "w")],
)
@pytest.mark.parametrize("top", ["", "photos", "deep/photos"])
def test_an_archive_is_the_folder_in_it(tmp_path, suffix, mode, top):
    names = [f"{'cat' if i % 3 else 'dog'}/{i:03}.png" for i in range(N)]
    folder = fill(tmp_path / "photos", pixels(N, 6, 6, 3), names)
    path = pack(folder, tmp_path / f"a{suffix}", mode, top)
    dataset = load(path)
    assert dataset.fingerprint == load(folder).fingerprint
    assert dataset.classes == ("cat", "dog")
    assert dataset.source == str(path)


def test_class_folders_are_labels(tmp_path):
    array = pixels(N, 6, 6)
    names = [f"photos/{'zebra' if image[0, 0] > 127 else 'ant'}/more/{i}.png" for i, image in enumerate(array)]
    dataset = load(fill(tmp_path, array, names))
    assert dataset.classes == ("ant", "zebra")
    for split in three(dataset):
        assert split.label is not None
        assert split.label.tolist() == (split.x[:, 0, 0, 0] > 127).int().tolist()


def test_train_and_test_folders_are_the_split(tmp_path):
    array = pixels(N + 5, 6, 6)
    array[:, 0, 0] = np.arange(N + 5)
    names = [f"{'train' if i < N else 'test'}/{'ab'[i % 2]}/{i:03}.png" for i in range(N + 5)]
    dataset = load(fill(tmp_path, array, names))
    np.testing.assert_array_equal(np.sort(dataset.test.x[:, 0, 0, 0]), np.arange(N, N + 5))
    assert (dataset.test.label == dataset.test.x[:, 0, 0, 0] % 2).all()
    assert (len(dataset.train), len(dataset.validation)) == (N - 2, 2)


def test_a_split_may_have_capitals(tmp_path):
    array = pixels(N + 5, 6, 6)
    for low, folder in ((True, tmp_path / "low"), (False, tmp_path / "high")):
        tops = ("train", "test") if low else ("Train", "TEST")
        fill(folder, array, [f"{tops[i >= N]}/{'ab'[i % 2]}/{i:03}.png" for i in range(N + 5)])
    assert load(tmp_path / "high").fingerprint == load(tmp_path / "low").fingerprint
    assert load(tmp_path / "high").classes == ("a", "b")


def test_names_that_differ_in_capitals_are_two(tmp_path):
    """Where the file system tells them apart, as archives always do."""
    array = pixels(2 * N, 6, 6)
    for tops, kept, below in ((("Cat", "cat"), "classes", ""), (("Train", "train", "Test"), "split", "x/")):
        names = [f"{tops[i % len(tops)]}/{below}{i // len(tops):03}.png" for i in range(2 * N)]
        with zipfile.ZipFile(tmp_path / f"{kept}.zip", "w") as file:
            for name, image in zip(names, array, strict=True):
                save(tmp_path / "one.png", image)
                file.write(tmp_path / "one.png", name)
    assert load(tmp_path / "classes.zip").classes == ("Cat", "cat")
    assert sum(len(s) for s in three(load(tmp_path / "classes.zip"))) == 2 * N
    assert [len(s) for s in three(load(tmp_path / "split.zip"))] == [29, 3, 16]


def test_train_alone_holds_out_a_tenth(tmp_path):
    names = [f"train/{'ab'[i % 2]}/{i}.png" for i in range(N)]
    dataset = load(fill(tmp_path, pixels(N, 6, 6), names))
    assert [len(s) for s in three(dataset)] == [20, 2, 2]
    assert dataset.classes == ("a", "b")


def test_train_among_other_classes_is_a_class(tmp_path):
    names = [f"{('train', 'plane', 'car')[i % 3]}/{i}.png" for i in range(N)]
    assert load(fill(tmp_path, pixels(N, 6, 6), names)).classes == ("car", "plane", "train")


@pytest.mark.parametrize("tops", [("train", "test", "val"), ("train", "val")])
def test_a_folder_beside_the_split_is_an_error(tmp_path, tops):
    names = [f"{tops[i % len(tops)]}/{i}.png" for i in range(N)]
    with pytest.raises(UserError, match="val beside: move that"):
        load(fill(tmp_path, pixels(N, 6, 6), names))


def test_hidden_files_are_ignored_and_others_are_not(tmp_path):
    fill(tmp_path, pixels(N, 6, 6))
    for hidden in (".DS_Store", ".cache/x.txt", "__MACOSX/._000.png", "Thumbs.db"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_text("?")
    assert len(load(tmp_path).train) == 20
    (tmp_path / "notes.txt").write_text("?")
    with pytest.raises(UserError, match=r"is mixed: notes\.txt is not an image"):
        load(tmp_path)


def test_an_archive_with_another_file_is_mixed(tmp_path):
    fill(tmp_path / "a", pixels(N, 6, 6))
    (tmp_path / "a/readme.md").write_text("?")
    with pytest.raises(UserError, match=r"b\.tar is mixed: a/readme\.md is not an image"):
        load(pack(tmp_path / "a", tmp_path / "b.tar", top="a"))


@pytest.mark.parametrize("inside", [[], [".hidden.png"], ["a/"]])
def test_an_empty_folder(tmp_path, inside):
    for name in inside:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    with pytest.raises(UserError, match="holds no images: it is empty"):
        load(tmp_path)
    with tarfile.open(tmp_path / "b.tar", "w"):
        pass
    with pytest.raises(UserError, match=r"b\.tar holds no images"):
        load(tmp_path / "b.tar")


def test_a_run_is_not_data(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(UserError, match="is a wasserflow run, not data"):
        load(tmp_path)


def test_a_link_back_up_does_not_go_round_for_ever(tmp_path):
    fill(tmp_path / "a", pixels(N, 6, 6))
    (tmp_path / "a/loop").symlink_to(tmp_path / "a")
    fill(tmp_path / "elsewhere", pixels(N, 6, 6, seed=1))
    (tmp_path / "a/more").symlink_to(tmp_path / "elsewhere")
    assert sum(len(s) for s in three(load(tmp_path / "a"))) == 2 * N


def test_sizes_that_differ_are_named_with_their_files(tmp_path):
    fill(tmp_path, pixels(N, 6, 6))
    save(tmp_path / "zz.png", pixels(7, 9))
    with pytest.raises(UserError, match=r"000\.png has 6x6 pixels, zz\.png has 9x7\. Crop .*`size=N`"):
        load(tmp_path)
    assert load(tmp_path, size=4).form.shape == (1, 4, 4)


class TestPictures:
    """What one file becomes, seen through a folder of copies of it."""

    def one(self, folder, image, name="x.png", size=None, **options):
        for i in range(20):
            path = folder / f"{i:02}{name}"
            image.save(path, **options)
        dataset = load(folder, size=size)
        return dataset.form.to_data(dataset.form.to_model(dataset.train.x))[0]

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
    def test_grey_stays_grey(self, tmp_path, mode):
        if mode == "I;16":
            image = Image.fromarray((np.arange(64).reshape(8, 8) * 257).astype(np.uint16))
            expected = np.arange(64).reshape(8, 8)
        else:
            expected = np.where(pixels(8, 8) > 127, 255, 0)
            image = Image.fromarray(expected.astype(np.uint8)).convert(mode)
        np.testing.assert_array_equal(self.one(tmp_path, image), expected)

    @pytest.mark.parametrize("mode", ["P", "RGBA", "RGB"])
    def test_the_rest_is_colour(self, tmp_path, mode):
        array = np.kron([[0, 255], [255, 255]], np.ones((4, 4)))[..., None].repeat(3, 2).astype(np.uint8)
        np.testing.assert_array_equal(self.one(tmp_path, Image.fromarray(array).convert(mode)), array)

    @pytest.mark.parametrize("colour", [True, False])
    def test_transparency_is_white(self, tmp_path, colour):
        image = Image.new("RGBA" if colour else "LA", (8, 8), (0, 0, 0, 0) if colour else (0, 0))
        assert (self.one(tmp_path, image) == 255).all()

    def test_a_transparent_colour_of_a_palette_is_white(self, tmp_path):
        image = Image.new("P", (8, 8), 3)
        image.putpalette([0, 0, 0] * 8)
        assert (self.one(tmp_path, image, transparency=3) == 255).all()

    def test_a_photograph_is_turned_the_way_its_camera_says(self, tmp_path):
        array = np.zeros((8, 16), np.uint8)
        array[:, :8] = 255  # left half white; turned by 90 degrees clockwise the top is
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = self.one(tmp_path, Image.fromarray(array), "x.jpg", exif=exif, quality=95)
        assert turned.shape == (16, 8)
        assert turned[:8].mean() > 250 > 5 > turned[8:].mean()

    def test_a_large_photograph_shrinks_to_its_means(self, tmp_path):
        ramp = np.linspace(20, 235, 512).astype(np.uint8)
        image = Image.fromarray(np.stack(np.broadcast_arrays(ramp, ramp[:, None], 90), 2).astype(np.uint8))
        small = self.one(tmp_path, image, "x.jpg", size=8, quality=95).astype(float)
        means = np.asarray(image).reshape(8, 64, 8, 64, 3).mean((1, 3))
        assert np.abs(small - means).max() < 5

    def test_one_colour_picture_makes_all_colour(self, tmp_path):
        grey = pixels(N, 6, 6)
        fill(tmp_path, grey)
        save(tmp_path / "zz.png", pixels(6, 6, 3))
        dataset = load(tmp_path)
        assert dataset.form.shape == (3, 6, 6)
        assert set(everything(dataset)) >= {image[..., None].repeat(3, 2).tobytes() for image in grey}

    def test_floating_point_has_no_range(self, tmp_path):
        with pytest.raises(UserError, match=r"x\.tif holds floating-point values"):
            self.one(tmp_path, Image.fromarray(np.ones((8, 8), np.float32)), "x.tif")


def bad_png():
    buffer = io.BytesIO()
    Image.fromarray(pixels(64, 64)).save(buffer, "png")
    return buffer.getvalue()


def bad_jpeg():
    buffer = io.BytesIO()
    Image.fromarray(pixels(64, 64)).save(buffer, "jpeg")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bad.png", b""),
        ("bad.png", b"no image"),
        ("bad.png", bad_png()[:500]),
        ("bad.png", bad_png()[:40]),
        ("bad.jpg", bad_jpeg()[:900]),
        ("bad.jpg", bad_jpeg()[:30]),
        ("bad.gif", b"GIF89a" + bytes(20)),
        ("bad.tif", b"II*\0" + bytes(30)),
    ],
)
class TestCorrupt:
    def test_it_is_named(self, tmp_path, name, content):
        fill(tmp_path, pixels(N, 64, 64))
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name} is .*`skip_corrupt`") as error:
            load(tmp_path)
        assert "object at" not in str(error.value)

    def test_it_can_be_skipped(self, tmp_path, name, content, caplog):
        folder = fill(tmp_path / "a", pixels(N, 64, 64))
        clean = load(folder).fingerprint
        (folder / name).write_bytes(content)
        for source in (folder, pack(folder, tmp_path / "a.tar"), pack(folder, tmp_path / "a.zip")):
            caplog.clear()
            with caplog.at_level(logging.WARNING, "wasserflow"):
                assert load(source, skip_corrupt=True).fingerprint == clean
            assert f"skipped 1 of {N + 1} images: {name}" in caplog.text


def test_all_corrupt_is_empty(tmp_path):
    (tmp_path / "a.png").write_text("?")
    with pytest.raises(UserError, match="no readable images"):
        load(tmp_path, skip_corrupt=True)


def test_a_bomb_is_not_opened(tmp_path, monkeypatch):
    fill(tmp_path, pixels(N, 6, 6))
    save(tmp_path / "bomb.png", pixels(40, 40))
    for limit in (1000, 1599, 100):  # Pillow itself warns above its limit, and raises above twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UserError, match=r"bomb\.png has more pixels than any photograph"):
            load(tmp_path)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz", ".tar.bz2", ".zip"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_archive_is_named(tmp_path, suffix, share):
    mode = "w" if suffix == ".zip" else "w:" + suffix.removeprefix(".tar").removeprefix(".")
    path = pack(fill(tmp_path / "a", pixels(N, 64, 64)), tmp_path / f"b{suffix}", mode)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=f"b{suffix} is truncated or corrupt") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_a_broken_header_does_not_end_an_archive_in_silence(tmp_path):
    path = pack(fill(tmp_path / "a", pixels(N, 8, 8)), tmp_path / "b.tar")
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        content[tar.getmembers()[15].offset + 3] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match="truncated or corrupt"):
        load(path)


def test_names_that_climb_and_links_do_no_harm(tmp_path, caplog):
    folder = fill(tmp_path / "a", pixels(N, 6, 6))
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=f"../../{path.name}")
        link = tarfile.TarInfo("passwd.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    before = sorted(os.walk(tmp_path))
    assert load(tmp_path / "b.tar").fingerprint == load(folder).fingerprint
    assert "links inside it are ignored: 1" in caplog.text
    assert sorted(os.walk(tmp_path)) == before


def test_a_name_that_comes_twice_means_the_later(tmp_path):
    folder = fill(tmp_path / "a", pixels(N, 6, 6))
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.add(folder, arcname="a")
        save(folder / "003.png", pixels(6, 6, seed=9))
        tar.add(folder / "003.png", arcname="a/003.png")
    assert load(tmp_path / "b.tar").fingerprint == load(folder).fingerprint


def test_a_byte_that_flipped_in_a_zip_is_seen(tmp_path):
    path = pack(fill(tmp_path / "a", pixels(N, 64, 64)), tmp_path / "b.zip")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"b\.zip is truncated or corrupt"):
        load(path, skip_corrupt=True)


def test_an_archive_with_backslashes_has_folders(tmp_path):
    folder = fill(tmp_path / "a", pixels(N, 6, 6), [f"{'ab'[i % 2]}/{i:03}.png" for i in range(N)])
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        for path in sorted(folder.rglob("*.png")):
            file.writestr(str(path.relative_to(folder)).replace("/", "\\"), path.read_bytes())
        file.writestr("..", "nothing")
        file.writestr("a\\", "")  # a folder's own entry
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        for path in sorted(folder.rglob("*.png")):
            tar.add(path, f"..\\c\\..\\{path.parent.name}\\{path.name}")
    for suffix in (".zip", ".tar"):
        assert load(tmp_path / f"b{suffix}").fingerprint == load(folder).fingerprint
        assert load(tmp_path / f"b{suffix}").classes == ("a", "b")


def test_the_class_is_the_folder_where_a_name_ends(tmp_path):
    """x/../b/1.png lies in b, not in x."""
    folder = fill(tmp_path / "a", pixels(N, 6, 6), [f"{'ab'[i % 2]}/{i:03}.png" for i in range(N)])
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        for path in sorted(folder.rglob("*.png")):
            up = "x/../" if path.parent.name == "b" else ""
            file.writestr(f"{up}{path.parent.name}/{path.name}", path.read_bytes())
    assert load(tmp_path / "b.zip").fingerprint == load(folder).fingerprint
    assert load(tmp_path / "b.zip").classes == ("a", "b")


def test_names_that_climb_and_links_in_a_zip_do_no_harm(tmp_path, caplog):
    folder = fill(tmp_path / "a", pixels(N, 6, 6))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        for path in sorted(folder.iterdir()):
            file.write(path, f"../../{path.name}")
        link = zipfile.ZipInfo("passwd.png")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
    before = sorted(os.walk(tmp_path))
    assert load(tmp_path / "b.zip").fingerprint == load(folder).fingerprint
    assert "links inside it are ignored: 1" in caplog.text
    assert sorted(os.walk(tmp_path)) == before


@pytest.mark.parametrize(
    ("method", "flag", "says"),
    [
        (zipfile.ZIP_LZMA, 0, "packed by method 14"),
        (zipfile.ZIP_BZIP2, 0, "packed by method 12"),
        (zipfile.ZIP_STORED, 1, "locked by a password"),
    ],
)
def test_a_zip_that_cannot_be_bounded_or_opened(tmp_path, method, flag, says):
    with zipfile.ZipFile(tmp_path / "b.zip", "w", method) as file:
        file.writestr("a.png", bad_png())
        file.infolist()[0].flag_bits |= flag  # as the directory at its end then says
    with pytest.raises(UserError, match=rf"b\.zip: a\.png is {says}.*unpack it"):
        load(tmp_path / "b.zip")


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_a_bomb_in_an_archive_is_not_unpacked(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(archive, "MOST_BYTES", 1 << 20)
    folder = fill(tmp_path / "a", pixels(N, 6, 6))
    (folder / "bomb.png").write_bytes(bytes((1 << 20) + 1))
    path = pack(folder, tmp_path / f"b{suffix}", "w" if suffix == ".zip" else "w:gz")
    with pytest.raises(UserError, match=r"bomb\.png unpacks to 1,048,577 bytes"):
        load(path, skip_corrupt=True)


def test_a_zip_that_lies_about_a_size_unpacks_to_no_more(tmp_path):
    folder = fill(tmp_path / "a", pixels(N, 6, 6))
    (folder / "bomb.png").write_bytes(bytes(1 << 26))
    path = pack(folder, tmp_path / "b.zip")
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 1 << 26), struct.pack("<I", 5000)))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"b\.zip is truncated or corrupt"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_splits_are_the_images_of_their_names_whatever_the_order_in_the_archive(tmp_path, suffix):
    array = pixels(N, 6, 6)
    array[:, 0, 0] = np.arange(N)
    folder = fill(tmp_path / "a", array, [f"{'ab'[i % 2]}/{i:03}.png" for i in range(N)])
    members = sorted(folder.rglob("*.png"))
    np.random.default_rng(0).shuffle(members)
    again = members[3]  # a name that comes twice: its first row is of no use
    path = tmp_path / f"b{suffix}"
    with tarfile.open(path, "w") if suffix == ".tar" else zipfile.ZipFile(path, "w") as file:
        add = file.add if isinstance(file, tarfile.TarFile) else file.write
        for member in members if suffix == ".zip" else [*members, again]:
            add(member, str(member.relative_to(folder)))
    shuffled, straight = load(path), load(folder)
    assert shuffled.fingerprint == straight.fingerprint
    for split in three(shuffled):
        assert split.label is not None
        numbers = split.x[:, 0, 0, 0].long()
        assert (split.label == numbers % 2).all()
        np.testing.assert_array_equal(split.x[:, 0], array[numbers])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path):
    fill(tmp_path, pixels(N, 6, 6))
    (tmp_path / "003.png").chmod(0)
    with pytest.raises(UserError, match=r"cannot read .*003\.png: Permission denied"):
        load(tmp_path, skip_corrupt=True)


def test_a_link_to_nothing_is_named_even_where_corrupt_images_are_skipped(tmp_path):
    fill(tmp_path, pixels(N, 6, 6))
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"cannot read .*gone\.png: No such file"):
        load(tmp_path, skip_corrupt=True)
