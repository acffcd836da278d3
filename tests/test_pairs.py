"""Image, mask and extra channels pair by file name; what has no partner is told by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.config import RunConfig
from segtune.data.pairs import SUFFIXES, Tile, find_data_set, find_tiles
from segtune.errors import InputError

FOLDERS = ("images", "gt", "nir")


def touch(folder: Path, *names: str) -> None:
    """Empty files: pairing looks at names alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def split_with(root: Path, *names: str) -> Path:
    """A split whose three folders hold the same names."""
    for folder in FOLDERS:
        touch(root / folder, *names)
    return root


def tiles(split: Path, channels: tuple[str, ...] = ("nir",)) -> list[Tile]:
    return find_tiles(split, "images", "gt", channels)


def mistakes(split: Path, channels: tuple[str, ...] = ("nir",)) -> list[str]:
    with pytest.raises(InputError) as caught:
        tiles(split, channels)
    return caught.value.mistakes


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
        assert about[0].endswith(f"and {alone - 5} more")


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


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    (text,) = mistakes(tmp_path / "train")
    assert text.startswith(f"{tmp_path / 'train'}: no such folder")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    split_with(tmp_path, "a.gif", "readme.txt")
    (text,) = mistakes(tmp_path)
    assert text.startswith(f"{tmp_path / 'images'}: no images")


def test_a_missing_data_set_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    with pytest.raises(InputError, match=r"nowhere: no such data set"):
        find_data_set(RunConfig(dataset=str(missing)), [])


def test_mistakes_of_both_splits_are_told_together(tmp_path: Path) -> None:
    split_with(tmp_path / "train", "a.tif")
    touch(tmp_path / "train" / "images", "train_only.tif")
    split_with(tmp_path / "val", "a.tif")
    touch(tmp_path / "val" / "gt", "val_only.tif")
    with pytest.raises(InputError) as caught:
        find_data_set(RunConfig(dataset=str(tmp_path)), [])
    assert [("train_only" in text, "val_only" in text) for text in caught.value.mistakes] == [
        (True, False),
        (False, True),
    ]


def test_folder_names_come_from_the_settings(tmp_path: Path) -> None:
    for split in ("train", "val"):
        touch(tmp_path / split / "rgb", f"{split}.tif")
        touch(tmp_path / split / "labels", f"{split}.png")
    found = find_data_set(RunConfig(dataset=str(tmp_path), images_dir="rgb", masks_dir="labels"), [])
    assert {split: [tile.name for tile in listed] for split, listed in found.items()} == {
        "train": ["train"],
        "val": ["val"],
    }


def test_absolute_paths_stay_valid_in_another_folder(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_with(tmp_path / "train", "a.tif")
    monkeypatch.chdir(tmp_path)
    (tile,) = find_tiles(Path("train"), "images", "gt", ["nir"])
    moved = tile.absolute()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert not tile.image.exists()
    assert all(path.exists() for path in (moved.image, moved.mask, *moved.channels))
