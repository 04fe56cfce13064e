"""Data: what is read, and errors that name the file or class at fault."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import write_folder_tree
from PIL import Image

from adaptive_depth import data, folders
from adaptive_depth.images import DataError, Frame, resize_and_crop, upright_rgb

CLASSES = ["blue shirt", "green hat", "red sock"]


def jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_archive(path: Path, per_class: int = 4, **replaced: np.ndarray) -> Path:
    """An archive of dark (class 0) and bright images (class 1), sorted by class."""
    encoded = [jpeg((40, 40, 40))] * per_class + [jpeg((200, 200, 200))] * per_class
    arrays = {"classes": np.array(["dark", "bright"])}
    for split in ("train", "test"):
        arrays[f"{split}_jpeg"] = np.frombuffer(b"".join(encoded), np.uint8)
        arrays[f"{split}_offsets"] = np.cumsum([0, *map(len, encoded)])
        arrays[f"{split}_labels"] = np.repeat(np.arange(2, dtype=np.uint8), per_class)
    np.savez(path, **(arrays | replaced))
    return path


def test_an_archives_val_split_is_taken_from_train(tmp_path: Path):
    dataset = data.load(write_archive(tmp_path / "toy.npz"), 8, val_per_class=1)
    assert (dataset.name, dataset.classes) == ("toy", ["dark", "bright"])
    assert [len(split) for split in (dataset.train, dataset.val, dataset.test)] == [6, 2, 8]
    for split in (dataset.train, dataset.val, dataset.test):
        brightness = split.images.mean(axis=(1, 2, 3))
        np.testing.assert_array_equal(brightness > 120, split.labels == 1)
    assert dataset.mean == pytest.approx([120, 120, 120], abs=2)
    assert dataset.std == pytest.approx([80, 80, 80], abs=2)


def test_the_seed_chooses_the_val_images(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    split = data.Split(noise, np.zeros(20, np.int64))
    first, again, other = (data._hold_out(split, 5, ["a"], seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)


def test_decoded_archives_come_from_the_cache_the_second_time(tmp_path: Path, monkeypatch):
    path = write_archive(tmp_path / "toy.npz")
    first = data.load(path, 8, val_per_class=1)
    monkeypatch.setattr(data, "decode_all", lambda *_: pytest.fail("decoded again"))
    np.testing.assert_array_equal(data.load(path, 8, 1).test.images, first.test.images)


def test_a_folder_tree_is_read(folder_tree: Path):
    dataset = data.load(folder_tree, 16, val_per_class=0)
    assert (dataset.name, dataset.classes) == ("garments", CLASSES)
    assert [len(split) for split in (dataset.train, dataset.val, dataset.test)] == [36, 12, 15]
    assert dataset.train.images.shape == (36, 16, 16, 3)
    for split in (dataset.train, dataset.val, dataset.test):
        strongest = split.images.astype(int).sum(axis=(1, 2)).argmax(axis=1)
        np.testing.assert_array_equal(2 - strongest, split.labels)


def test_without_a_test_folder_val_is_held_out(folder_tree: Path):
    shutil.rmtree(folder_tree / "test")
    held_out = data.load_held_out(folder_tree, 16, CLASSES)
    assert (held_out.split_name, len(held_out.split)) == ("val", 12)


def test_held_out_images_are_those_of_the_test_folder(folder_tree: Path):
    held_out = data.load_held_out(folder_tree, 16, CLASSES)
    assert (held_out.name, held_out.split_name, len(held_out.split)) == ("garments", "test", 15)


def test_a_limit_takes_images_of_every_class(folder_tree: Path):
    held_out = data.load_held_out(folder_tree, 16, CLASSES, limit=6)
    assert np.bincount(held_out.split.labels).tolist() == [2, 2, 2]


@pytest.mark.parametrize("top", ["", "garments/"], ids=["bare", "in a folder"])
def test_a_packed_folder_tree_is_read_like_the_tree(folder_tree: Path, tmp_path: Path, top: str):
    packed = tmp_path / "packed.tar"
    with tarfile.open(packed, "w") as archive:
        for split in ("train", "val", "test"):
            archive.add(folder_tree / split, top + split)
    dataset = data.load(packed, 16, val_per_class=0)
    tree = data.load(folder_tree, 16, val_per_class=0)
    assert dataset.name == "packed"
    np.testing.assert_array_equal(dataset.train.images, tree.train.images)


def test_a_packed_tree_cannot_write_outside_its_folder(tmp_path: Path):
    packed = tmp_path / "packed.tar"
    with tarfile.open(packed, "w") as archive:
        archive.addfile(tarfile.TarInfo("../escaped"))
    with pytest.raises(DataError, match=r"packed\.tar: cannot be unpacked"):
        data.load(packed, 16, val_per_class=0)


def test_a_packed_tree_may_have_been_unpacked_by_another_process_meanwhile(
    folder_tree: Path, tmp_path: Path, monkeypatch
):
    packed = tmp_path / "packed.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(folder_tree, "garments")
    extractall = tarfile.TarFile.extractall

    def second_of_two(archive: tarfile.TarFile, partial: Path, filter: str) -> None:
        extractall(archive, partial, filter=filter)
        shutil.copytree(partial, partial.with_suffix(""))

    monkeypatch.setattr(tarfile.TarFile, "extractall", second_of_two)
    assert data.load(packed, 16, val_per_class=0).counts()["train"] == 36
    (cache,) = {path.parent for path in Path(os.environ["XDG_CACHE_HOME"]).glob("*/*")}
    assert len(list(cache.iterdir())) == 1, "its own copy is gone"


def test_cover_scales_the_shorter_side_and_crops_the_centre():
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255  # the middle third is what a square keeps
    assert resize_and_crop(Image.fromarray(pixels), Frame(10)).min() == 255
    assert resize_and_crop(Image.fromarray(pixels), Frame(5)).shape == (5, 5, 3)


def test_stretch_shows_the_whole_image():
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 15:] = 255
    stretched = resize_and_crop(Image.fromarray(pixels), Frame(10, resize="stretch"))
    assert stretched[:, :4].max() == 0 and stretched[:, 6:].min() == 255


def test_centre_is_the_share_that_is_kept():
    pixels = np.zeros((50, 50, 3), np.uint8)
    pixels[10:40, 10:40] = 255
    image = Image.fromarray(pixels)
    assert resize_and_crop(image, Frame(30, centre=0.6)).min() == 255
    assert resize_and_crop(image, Frame(30)).min() == 0


def test_cover_turns_the_image_as_its_camera_was_held():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = 3  # upside down
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=image.getexif())
    assert resize_and_crop(Image.open(buffer), Frame(8))[:4].max() == 0


def test_what_is_transparent_is_white():
    for mode in ("RGBA", "LA"):
        clear = Image.new(mode, (2, 2), (9,) * (len(mode) - 1) + (0,))
        assert np.asarray(upright_rgb(clear)).min() == 255
    palette = Image.new("P", (2, 2), 0)
    palette.info["transparency"] = 0
    assert np.asarray(upright_rgb(palette)).min() == 255


def test_16_bits_of_grey_become_8():
    deep = Image.fromarray(np.full((2, 2), 0x8040, np.uint16))
    np.testing.assert_array_equal(np.asarray(upright_rgb(deep)), 0x80)


def test_a_colour_profile_is_followed_and_a_broken_one_passed_over():
    wide = (Path(__file__).parents[2] / "test" / "fixtures" / "p3.icc").read_bytes()
    image = Image.new("RGB", (2, 2), (200, 60, 40))
    image.info["icc_profile"] = wide
    red, green, blue = np.asarray(upright_rgb(image))[0, 0]
    assert red > 210 and green < 55 and blue < 30, "P3's red is redder than sRGB's"
    image.info["icc_profile"] = wide[:50]
    np.testing.assert_array_equal(np.asarray(upright_rgb(image))[0, 0], [200, 60, 40])


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """``<class>/*.png``: no train/, val/ or test/."""
    root = write_folder_tree(tmp_path / "photos", {".": 20})
    for index in range(17):
        (root / "red sock" / f"{index}.png").unlink()
    return root


def test_a_folder_of_class_folders_is_split_within_each_class(class_folders: Path):
    dataset = data.load(class_folders, 16, val_per_class=0)
    assert dataset.classes == CLASSES
    assert dataset.split_rule == folders.BY_HASH
    assert dataset.counts() == {"train": 14 + 14 + 1, "val": 2 + 2 + 1, "test": 4 + 4 + 1}
    held_out = data.load_held_out(class_folders, 16, CLASSES)
    assert held_out.split_name == "test"
    np.testing.assert_array_equal(held_out.split.images[:], dataset.test.images)
    assert data.class_folders(class_folders) == CLASSES


def test_the_split_depends_on_file_names_alone(class_folders: Path, tmp_path: Path):
    before = folders.read_tree(class_folders).files
    moved = class_folders.rename(tmp_path / "elsewhere")
    (moved / "blue shirt" / "notes.txt").write_text("no photo")
    after = folders.read_tree(moved).files
    for split, classes in before.items():
        for name, photos in classes.items():
            assert [p.name for p in photos] == [p.name for p in after[split][name]]
    photos = [photo for classes in after.values() for own in classes.values() for photo in own]
    assert len(set(photos)) == len(photos) == 43, "each in one split"


def test_a_class_of_two_photos_cannot_be_split(class_folders: Path):
    (class_folders / "red sock" / "19.png").unlink()
    with pytest.raises(DataError, match="red sock: 2 photos cannot be split, 3 needed"):
        data.load(class_folders, 16, val_per_class=0)


def test_a_folder_without_photos_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="expected <class>"):
        data.load(tmp_path, 16, val_per_class=0)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_file_cut_short_is_named(folder_tree: Path, suffix: str):
    """Such a file opens, and fails only once its pixels are read."""
    path = folder_tree / "val" / "red sock" / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    cut_short(path)
    with pytest.raises(DataError, match=rf"red sock/cut\.{suffix}: not a readable image"):
        data.load(folder_tree, 16, val_per_class=0)


def test_a_file_that_is_no_image_is_named(folder_tree: Path):
    (folder_tree / "train" / "green hat" / "note.jpg").write_text("not a picture")
    with pytest.raises(DataError, match=r"green hat/note\.jpg: not a readable image"):
        data.load(folder_tree, 16, val_per_class=0)


def test_other_files_are_left_alone(folder_tree: Path):
    (folder_tree / "train" / "green hat" / "notes.txt").write_text("not a picture")
    assert len(data.load(folder_tree, 16, val_per_class=0).train) == 36


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_class_is_named(folder_tree: Path, split: str):
    for file in (folder_tree / split / "green hat").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=f"{split}/green hat: class 'green hat' has no images"):
        data.load(folder_tree, 16, val_per_class=0)


def test_a_class_that_training_does_not_know_is_named(folder_tree: Path):
    (folder_tree / "val" / "scarf").mkdir()
    with pytest.raises(DataError, match="class 'scarf' does not occur in train"):
        data.load(folder_tree, 16, val_per_class=0)


def test_calibration_images_are_of_the_networks_classes(folder_tree: Path, tmp_path: Path):
    archive = write_archive(tmp_path / "toy.npz")
    assert len(data.load_val(folder_tree, 16, CLASSES, 0)) == 12
    assert len(data.load_val(archive, 8, ["dark", "bright"], 1)) == 2
    for source, classes in ((folder_tree, [*CLASSES, "scarf"]), (archive, ["bright", "dark"])):
        with pytest.raises(DataError, match=f"{source.name}: its classes are not the network's"):
            data.load_val(source, 8, classes, 1)


def test_a_class_that_the_network_does_not_know_is_named(folder_tree: Path):
    with pytest.raises(DataError, match="'red sock'"):
        data.load_held_out(folder_tree, 16, CLASSES[:2])


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_split_is_named(folder_tree: Path, split: str):
    shutil.rmtree(folder_tree / split)
    with pytest.raises(DataError, match=f"folder {split}/ missing"):
        data.load(folder_tree, 16, val_per_class=0)


def test_one_class_is_not_enough(folder_tree: Path):
    shutil.rmtree(folder_tree / "train" / "blue shirt")
    shutil.rmtree(folder_tree / "train" / "green hat")
    with pytest.raises(DataError, match="1 class folders, at least 2 needed"):
        data.load(folder_tree, 16, val_per_class=0)


@pytest.mark.parametrize("name", ["missing", "missing.npz", "missing.tar"])
def test_missing_data_are_named(tmp_path: Path, name: str):
    with pytest.raises(DataError, match=f"{name}: no such file or folder"):
        data.load(tmp_path / name, 8, val_per_class=1)


def test_a_broken_image_of_an_archive_is_named(tmp_path: Path):
    encoded = [jpeg((9, 9, 9))] * 2 + [b"no image"] + [jpeg((9, 9, 9))]
    path = write_archive(
        tmp_path / "toy.npz",
        per_class=2,
        test_jpeg=np.frombuffer(b"".join(encoded), np.uint8),
        test_offsets=np.cumsum([0, *map(len, encoded)]),
    )
    with pytest.raises(DataError, match=r"toy\.npz: test image 2: not a readable image"):
        data.load(path, 8, val_per_class=1)


def test_a_class_too_small_to_hold_images_out_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="class 'dark' has 4 images, too few to set 4"):
        data.load(write_archive(tmp_path / "toy.npz"), 8, val_per_class=4)


def test_an_archive_of_other_things_says_what_is_missing(tmp_path: Path):
    np.savez(tmp_path / "other.npz", classes=np.array(["a"]))
    with pytest.raises(DataError, match=r"arrays missing: .*test_jpeg"):
        data.load(tmp_path / "other.npz", 8, val_per_class=1)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"text"])
def test_a_damaged_archive_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "toy.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"toy\.npz: not an \.npz archive"):
        data.load(tmp_path / "toy.npz", 8, val_per_class=1)
