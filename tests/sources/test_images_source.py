from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from ae_pipeline.data import InputError
from ae_pipeline.sources.images import MnistSource, find, load, members, read_idx

RNG = np.random.default_rng(0)


def write_idx(path: Path, array: np.ndarray, code: int = 0x08) -> Path:
    """An IDX file as its specification has it, by other means than the reader's."""
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve training and five test images with labels, the test part gzipped."""
    for name, n, end in (("train", 12, ""), ("t10k", 5, ".gz")):
        images = RNG.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        images[0, 0, :2] = 0, 255
        write_idx(tmp_path / f"{name}-images-idx3-ubyte{end}", images)
        labels = (np.arange(n) % 4).astype(np.uint8)
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte{end}", labels)
    return tmp_path


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(0x08, "u1"), (0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")],
)
@pytest.mark.parametrize("end", ["", ".gz"])
def test_every_idx_type_reads_back_as_written(
    tmp_path: Path, code: int, dtype: str, end: str
) -> None:
    array = RNG.integers(-100, 100, (3, 4, 5)).astype(dtype)
    read = read_idx(write_idx(tmp_path / f"file{end}", array, code))
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read, array)


def test_pixels_become_0_to_1_and_keep_their_order(folder: Path) -> None:
    samples = load([folder], MnistSource())
    raw = read_idx(folder / "train-images-idx3-ubyte")
    assert samples.values.dtype == np.float32
    assert samples.values.shape == (17, 28, 28)
    assert tuple(samples.values[0, 0, :2]) == (0.0, 1.0)
    np.testing.assert_array_equal(np.rint(samples.values[:12] * 255), raw)
    assert [axis.name for axis in samples.axes] == ["row", "column"]
    assert samples.mask is None


def test_each_image_is_named_after_its_file_and_place(folder: Path) -> None:
    meta = load([folder], MnistSource()).meta
    assert meta["recording"].iloc[[0, 11, 12, 16]].tolist() == [
        "train-00000",
        "train-00011",
        "t10k-00000",
        "t10k-00004",
    ]
    assert (meta["subject"] == meta["recording"]).all()
    assert meta["set"].tolist() == ["train"] * 12 + ["t10k"] * 5
    assert meta["label"].tolist() == [i % 4 for i in range(12)] + [0, 1, 2, 3, 0]
    assert meta["file"].iloc[-1] == "t10k-images-idx3-ubyte.gz"


def test_names_do_not_depend_on_which_images_are_chosen(folder: Path) -> None:
    every = load([folder], MnistSource())
    some = load([folder], MnistSource(digits=(3, 1), limit=3))
    assert some.meta["recording"].tolist() == [
        "train-00001",
        "train-00003",
        "train-00005",
        "t10k-00001",
        "t10k-00003",
    ]
    place = {name: i for i, name in enumerate(every.meta["recording"])}
    rows = [place[name] for name in some.meta["recording"]]
    np.testing.assert_array_equal(some.values, every.values[rows])
    assert some.meta["label"].tolist() == [1, 3, 1, 1, 3]


def test_an_image_file_without_labels_has_none(folder: Path) -> None:
    lone = write_idx(folder / "elsewhere" / "mine-images.idx3", np.ones((2, 28, 28), np.uint8))
    samples = load([lone], MnistSource())
    assert samples.meta["label"].isna().all()
    assert samples.meta["set"].isna().all()
    assert samples.meta["recording"].tolist() == ["mine-00000", "mine-00001"]
    assert members(lone) == (lone,)
    both = load([folder / "t10k-images-idx3-ubyte.gz", lone], MnistSource())
    assert both.meta["label"].isna().tolist() == [False] * 5 + [True] * 2
    with pytest.raises(InputError, match="no labels-idx1 file stands beside it"):
        load([lone], MnistSource(digits=(1,)))


def test_members_are_what_a_digest_has_to_cover(folder: Path) -> None:
    train, test = find(folder)
    assert members(train) == (train, folder / "train-labels-idx1-ubyte")
    assert members(test) == (test, folder / "t10k-labels-idx1-ubyte.gz")


def test_a_file_given_twice_counts_once_and_a_plain_file_hides_its_gzipped_twin(
    folder: Path,
) -> None:
    images = folder / "train-images-idx3-ubyte"
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images.read_bytes()))
    assert find(folder)[0] == images
    assert len(load([folder, images], MnistSource())) == 17


def test_folder_names_keep_images_of_two_data_sets_apart(folder: Path) -> None:
    write_idx(folder / "fashion" / "t10k-images-idx3-ubyte", np.ones((1, 28, 28), np.uint8))
    images = [folder / "t10k-images-idx3-ubyte.gz", folder / "fashion"]
    names = load(images, MnistSource()).meta["recording"]
    assert names.iloc[-1] == "fashion__t10k-00000"
    assert names.is_unique


def test_the_folder_that_torchvision_unpacks_to_is_found(tmp_path: Path) -> None:
    place = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    write_idx(place, np.ones((1, 28, 28), np.uint8))
    assert find(tmp_path) == [place]


def damaged(folder: Path, how: str) -> Path:
    path = folder / "train-images-idx3-ubyte"
    content = path.read_bytes()
    changed = {
        "truncated": content[:-1],
        "longer": content + b"\0",
        "empty": b"",
        "header": content[:7],
        "text": b"a,b,c\n1,2,3\n",
        "type": b"\0\0\x07\x03" + content[4:],
        "gzip": gzip.compress(content)[:-20],
        "promise": b"\0\0\x08\x03" + b"\xff" * 12 + content[16:],
        "gzip promise": gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12),
        "flat": b"\0\0\x08\x01\0\0\0\x02ab",
        "none": b"\0\0\x08\x03" + struct.pack(">3I", 0, 28, 28),
    }
    path.write_bytes(changed[how])
    return path


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "truncated, 9,407 bytes of content where the header .12 x 28 x 28. says 9,4"),
        ("longer", "longer than its header says"),
        ("empty", "is empty"),
        ("header", "ends inside its header"),
        ("text", "starts with bytes 61 2c 62 2c, which is no IDX file"),
        ("type", "starts with bytes 00 00 07 03"),
        ("gzip", "damaged gzip file"),
        ("promise", "truncated"),
        ("gzip promise", "truncated"),
        ("flat", "expected a stack of images"),
        ("none", "expected a stack of images"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(folder: Path, how: str, message: str) -> None:
    path = damaged(folder, how)
    with pytest.raises(InputError, match=message) as caught:
        load([path], MnistSource())
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_labels_of_other_images_are_refused(folder: Path) -> None:
    write_idx(folder / "train-labels-idx1-ubyte", np.zeros(11, np.uint8))
    with pytest.raises(InputError, match=r"train-labels.*11 labels.*12 images.*do not belong"):
        load([folder], MnistSource())


def test_images_of_two_sizes_are_refused(folder: Path) -> None:
    small = write_idx(folder / "small-images-idx3-ubyte", np.ones((2, 8, 8), np.uint8))
    with pytest.raises(InputError, match=r"images of 8 x 8 pixels, but .* has 28 x 28"):
        load([folder / "train-images-idx3-ubyte", small], MnistSource())


def test_what_is_not_there_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        load([tmp_path / "nowhere"], MnistSource())
    (tmp_path / "void").mkdir()
    with pytest.raises(InputError, match="holds no IDX image files"):
        load([tmp_path / "void"], MnistSource())
    with pytest.raises(InputError, match="no image has a label in digits"):
        load([folder], MnistSource(digits=(9,)))


def test_seventy_thousand_images_stand_in_memory_little_more_than_once(tmp_path: Path) -> None:
    import tracemalloc

    import pandas  # noqa: F401  # not to be counted

    write_idx(tmp_path / "train-images-idx3-ubyte", np.ones((60_000, 28, 28), np.uint8))
    write_idx(tmp_path / "t10k-images-idx3-ubyte", np.ones((10_000, 28, 28), np.uint8))
    tracemalloc.start()
    try:
        samples = load([tmp_path], MnistSource())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * samples.values.nbytes
