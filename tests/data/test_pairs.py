"""Image, mask and extra channels pair by file name, in any layout; what has no partner is told by name."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from segtune.config import RunConfig
from segtune.data.listing import SUFFIXES
from segtune.data.pairs import find_tiles
from segtune.data.tiles import Layout
from segtune.errors import InputError
from tests.data.empty import FOLDERS, found, mistakes, names, split_with, tiles, touch


def test_files_pair_by_name_across_extensions(tmp_path: Path) -> None:
    touch(tmp_path / "images", "b.tif", "a.jpg")
    touch(tmp_path / "gt", "a.png", "b.bmp")
    touch(tmp_path / "nir", "a.tiff", "b.jpeg")
    assert [(t.name, t.image.name, t.mask.name, [c.name for c in t.channels]) for t in tiles(tmp_path)] == [
        ("a", "a.jpg", "a.png", ["a.tiff"]),
        ("b", "b.tif", "b.bmp", ["b.jpeg"]),
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_is_found_in_either_case(tmp_path: Path, suffix: str) -> None:
    split_with(tmp_path, f"low{suffix}", f"UP{suffix.upper()}")
    assert {tile.name for tile in tiles(tmp_path)} == {"low", "UP"}


def test_non_ascii_names_and_folders(tmp_path: Path) -> None:
    split = split_with(tmp_path / "снимки", "Пруд №1.tif", "é.tif")
    assert {tile.name for tile in tiles(split)} == {"Пруд №1", "é"}


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "мой_край") for form in ("NFC", "NFD"))


def test_names_pair_however_their_letters_are_composed(tmp_path: Path) -> None:
    assert COMPOSED != DECOMPOSED
    touch(tmp_path / "images", f"{DECOMPOSED}.png", "a.png")
    touch(tmp_path / "gt", f"{COMPOSED}.png", "a.png")
    touch(tmp_path / "nir", f"{DECOMPOSED}.tif", "a.tif")
    for listed in (COMPOSED, DECOMPOSED):
        (tmp_path / "some.txt").write_text(f"{listed}.png\n", encoding="utf-8")
        (tile,) = tiles(tmp_path / "some.txt")
        assert tile.name == COMPOSED
        assert (tile.image.name, tile.mask.name) == (f"{DECOMPOSED}.png", f"{COMPOSED}.png")
        assert all(path.is_file() for path in (tile.image, tile.mask, *tile.channels))
    assert len(tiles(tmp_path)) == 2


@pytest.mark.parametrize("suffix", ["_край", unicodedata.normalize("NFD", "_край")])
def test_suffixes_are_found_however_their_letters_are_composed(tmp_path: Path, suffix: str) -> None:
    root = tmp_path / "set"
    for split in ("train", "val"):
        touch(root / split / "images", "мой.png")
        touch(root / split / "gt", f"{DECOMPOSED}.png")
    assert len(found(root, mask_suffix=suffix)["train"]) == 1


def test_a_name_may_hold_dots(tmp_path: Path) -> None:
    split_with(tmp_path, "T43.2024.tif", "T43.2025.tif")
    assert [tile.name for tile in tiles(tmp_path)] == ["T43.2024", "T43.2025"]


def test_channels_keep_the_order_asked_for(tmp_path: Path) -> None:
    split_with(tmp_path, "a.tif")
    touch(tmp_path / "dem", "a.tif")
    for channels in (("nir", "dem"), ("dem", "nir"), ("dem",), ()):
        assert [path.parent.name for path in tiles(tmp_path, channels)[0].channels] == list(channels)


def test_tiles_come_sorted_by_name(tmp_path: Path) -> None:
    names = ["c", "a", "B", "10", "9"]
    split_with(tmp_path, *(f"{name}.tif" for name in names))
    assert [tile.name for tile in tiles(tmp_path)] == sorted(names)


def test_hidden_files_folders_and_other_suffixes_are_skipped(tmp_path: Path) -> None:
    split_with(tmp_path, "a.tif")
    touch(tmp_path / "images", ".hidden.tif", "._a.tif", "a.tif.aux.xml", "a.tfw", "Thumbs.db")
    (tmp_path / "images" / "folder.tif").mkdir()
    assert [tile.name for tile in tiles(tmp_path)] == ["a"]


@pytest.mark.parametrize(("folder", "other"), [("images", "gt"), ("gt", "images"), ("images", "nir")])
@pytest.mark.parametrize("alone", [1, 5, 8])
def test_files_without_a_partner_are_counted_and_five_of_them_named(
    tmp_path: Path, folder: str, other: str, alone: int
) -> None:
    split_with(tmp_path, "paired.tif")
    names = [f"x{i}.tif" for i in range(alone)]
    touch(tmp_path / folder, *names)
    if other == "nir":
        touch(tmp_path / "gt", *names)
    matching = [text for text in mistakes(tmp_path) if text.startswith(f"{tmp_path / folder}: ")]
    about = [text for text in matching if str(tmp_path / other) in text]
    assert len(about) == 1
    assert f"{alone} of {alone + 1} files" in about[0]
    assert [name for name in names if name in about[0]] == names[:5]
    assert ("more" in about[0]) == (alone > 5)
    if alone > 5:
        assert about[0].removesuffix(" (without this channel: --set channels=none)").endswith(f"and {alone - 5} more")


def test_extra_channels_may_hold_more_tiles_than_the_images(tmp_path: Path) -> None:
    split_with(tmp_path, "a.tif")
    touch(tmp_path / "nir", "elsewhere.tif")
    assert [tile.name for tile in tiles(tmp_path)] == ["a"]


def test_both_directions_are_told_together(tmp_path: Path) -> None:
    split_with(tmp_path, "paired.tif")
    touch(tmp_path / "images", "image_only.tif")
    touch(tmp_path / "gt", "mask_only.tif")
    text = "\n".join(mistakes(tmp_path))
    assert "image_only.tif" in text
    assert "mask_only.tif" in text


def test_names_that_are_not_utf8_are_refused_by_name(tmp_path: Path) -> None:
    """No library that reads images would open them."""
    split_with(tmp_path, "a.tif", "é.tif")
    place = os.fsencode(tmp_path / "gt") + b"/stra\xdfe.tif"
    try:
        os.close(os.open(place, os.O_CREAT))
    except OSError:
        pytest.skip("this file system has no such names")
    (text,) = mistakes(tmp_path)
    assert text.startswith(f"{tmp_path / 'gt'}: ")
    assert text.endswith(r"UTF-8: 'stra\udcdfe.tif'")


def test_names_that_differ_in_case_do_not_pair(tmp_path: Path) -> None:
    touch(tmp_path / "images", "tile.tif")
    touch(tmp_path / "gt", "TILE.tif")
    assert len(mistakes(tmp_path, ())) == 2


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_same_name_with_two_extensions_is_refused(tmp_path: Path, folder: str) -> None:
    split_with(tmp_path, "a.tif", "b.tif")
    touch(tmp_path / folder, "a.png")
    (text,) = mistakes(tmp_path)
    assert str(tmp_path / folder) in text
    assert "a.png" in text
    assert "a.tif" in text
    assert "b.tif" not in text


def test_missing_folders_are_all_named(tmp_path: Path) -> None:
    touch(tmp_path / "gt", "a.tif")
    texts = mistakes(tmp_path)
    assert [text.split(":")[0] for text in texts] == [str(tmp_path / "images"), str(tmp_path / "nir")]


@pytest.mark.parametrize(
    ("there", "hint"), [((), "--set channels=none"), (("dem",), "--set channels=dem"), (("dem", "b"), "channels=dem,b")]
)
def test_a_missing_channel_comes_with_the_setting_that_does_without(
    tmp_path: Path, there: tuple[str, ...], hint: str
) -> None:
    for folder in ("images", "gt", *there):
        touch(tmp_path / folder, "a.tif")
    (text,) = mistakes(tmp_path, (*there, "nir"))
    assert text.startswith(f"{tmp_path / 'nir'}: no such folder; ")
    assert hint in text


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    split_with(tmp_path, "a.gif", "readme.txt")
    (text,) = mistakes(tmp_path)
    assert text.startswith(f"{tmp_path / 'images'}: no images")


def test_tiles_are_absolute_whatever_the_folder_is_called(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_with(tmp_path / "train", "a.tif")
    monkeypatch.chdir(tmp_path)
    (tile,) = tiles(Path("train"))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert all(path.is_absolute() and path.exists() for path in (tile.image, tile.mask, *tile.channels))


# Layouts


@pytest.mark.parametrize(("images", "masks"), [("rgb", "labels"), (".", "gt"), ("images", "."), ("снимки", "маски")])
def test_folder_names_come_from_the_settings(tmp_path: Path, images: str, masks: str) -> None:
    for split in ("train", "val"):
        touch(tmp_path / split / images, f"{split}.tif")
        touch(tmp_path / split / masks, f"{split}.png")
        # Folders are no tiles of the folder that they are in, nor files of other kinds.
        touch(tmp_path / split / "other", "elsewhere.tif")
        touch(tmp_path / split / images, "notes.txt")
    layout = {"images_dir": images, "masks_dir": masks}
    assert names(tmp_path, **layout) == {"train": ["train"], "val": ["val"]}
    tile = found(tmp_path, **layout)["val"][0]
    assert tile.image.resolve() == (tmp_path / "val" / images / "val.tif").resolve()
    assert tile.mask.resolve() == (tmp_path / "val" / masks / "val.png").resolve()


@pytest.mark.parametrize("image_suffix", ["_sat", ""])
@pytest.mark.parametrize("mask_suffix", ["_mask", ""])
@pytest.mark.parametrize("folder", [".", "all"])
def test_suffixes_tell_images_from_masks_in_one_folder(
    tmp_path: Path, image_suffix: str, mask_suffix: str, folder: str
) -> None:
    """As in DeepGlobe: 104_sat.jpg and 104_mask.png side by side."""
    layout = {"images_dir": folder, "masks_dir": folder, "image_suffix": image_suffix, "mask_suffix": mask_suffix}
    for split in ("train", "val"):
        for name in ("104", "a_b", "Пруд 1"):
            touch(tmp_path / split / folder, f"{name}{image_suffix}.jpg", f"{name}{mask_suffix}.png")
    if not image_suffix and not mask_suffix:
        with pytest.raises(ValueError, match="must tell images from masks"):
            RunConfig(**layout)  # type: ignore[arg-type]
        return
    tile = found(tmp_path, **layout)["train"][0]
    assert (tile.name, tile.image.name, tile.mask.name) == (
        "104",
        f"104{image_suffix}.jpg",
        f"104{mask_suffix}.png",
    )
    assert names(tmp_path, **layout)["val"] == ["104", "a_b", "Пруд 1"]


def test_a_suffix_that_ends_in_the_other_one(tmp_path: Path) -> None:
    """x_mask is an image and x_sat_mask its mask, or the other way round."""
    for split in ("train", "val"):
        touch(tmp_path / split, "x_mask.png", "x_sat_mask.png")
    long, short = "_sat_mask", "_mask"
    for image, mask in ((long, short), (short, long)):
        split = found(tmp_path, images_dir=".", masks_dir=".", image_suffix=image, mask_suffix=mask)["train"]
        assert [(tile.name, tile.image.name, tile.mask.name) for tile in split] == [
            ("x", f"x{image}.png", f"x{mask}.png")
        ]


def test_suffixes_in_folders_of_their_own(tmp_path: Path) -> None:
    for split in ("train", "val"):
        touch(tmp_path / split / "images", "1_sat.jpg", "2_sat.jpg", "2_unused.jpg")
        touch(tmp_path / split / "gt", "1_mask.png", "2_mask.png")
        touch(tmp_path / split / "nir", "1.tif", "2_sat.tif")  # with the image's ending, or without
    layout = Layout(image_suffix="_sat", mask_suffix="_mask", channels=("nir",))
    split = find_tiles(tmp_path / "train", layout)
    assert [(tile.name, tile.channels[0].name) for tile in split] == [("1", "1.tif"), ("2", "2_sat.tif")]


def test_a_mask_without_image_is_told_by_its_file_name(tmp_path: Path) -> None:
    touch(tmp_path, "1_sat.jpg", "1_mask.png", "2_mask.png")
    with pytest.raises(InputError) as caught:
        find_tiles(tmp_path, Layout(".", ".", "_sat", "_mask"))
    (text,) = caught.value.mistakes
    assert "1 of 2 files has no partner" in text
    assert text.endswith("2_mask.png")


def test_no_image_with_the_suffix_is_told_with_the_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "images", "1.jpg")
    touch(tmp_path / "gt", "1.jpg")
    with pytest.raises(InputError, match=r"no images \*_sat\("):
        find_tiles(tmp_path, Layout(image_suffix="_sat"))
