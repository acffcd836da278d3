"""Image, mask and extra channels pair by file name, in any layout; what has no partner is told by name."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from segtune.config import RunConfig
from segtune.data.pairs import SUFFIXES, find_tiles
from segtune.data.splits import absolute_places, find_data_set
from segtune.data.tiles import Layout, Split, Tile
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


def tiles(split: Path, channels: tuple[str, ...] = ("nir",)) -> Split:
    return find_tiles(split, Layout(channels=channels))


def mistakes(split: Path, channels: tuple[str, ...] = ("nir",)) -> list[str]:
    with pytest.raises(InputError) as caught:
        tiles(split, channels)
    return caught.value.mistakes


def data_set(root: Path, train: Sequence[str] = ("a",), val: Sequence[str] = ("a",)) -> Path:
    """A data set of empty files without extra channels."""
    for split, names in (("train", train), ("val", val)):
        for folder in ("images", "gt"):
            touch(root / split / folder, *(f"{name}.png" for name in names))
    return root


def found(root: Path, **settings: Any) -> dict[str, Split]:
    return find_data_set(RunConfig(dataset=str(root), **settings), [])


def names(root: Path, **settings: Any) -> dict[str, list[str]]:
    return {split: [tile.name for tile in tiles] for split, tiles in found(root, **settings).items()}


def refused(root: Path, **settings: Any) -> str:
    """The only mistake of a data set."""
    with pytest.raises(InputError) as caught:
        found(root, **settings)
    (text,) = caught.value.mistakes
    return text


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


# What lies there and is not read.


def test_what_is_not_read_is_told_by_kind_and_number(tmp_path: Path) -> None:
    split_with(tmp_path, "a.tif")
    touch(tmp_path / "images", "b.webp", "c.WEBP", "d.jp2", "e.gif", "f")
    touch(tmp_path / "images" / "north", "g.tif", "h.PNG", "notes.txt", "i.webp")
    touch(tmp_path / "images" / "north" / "deeper", "j.bmp")
    touch(tmp_path / "gt", "b.npy")
    (tmp_path / "nir" / "gone.tif").symlink_to(tmp_path / "nowhere.tif")
    images, masks, channel = tiles(tmp_path).unread
    assert images == (
        f"{tmp_path / 'images'}: not read: 1 without an extension, 1 .gif, 1 .jp2, 2 .webp, 3 images in subfolders "
        f"(north) (only {' '.join(SUFFIXES)} are)"
    )
    assert masks.startswith(f"{tmp_path / 'gt'}: not read: 1 .npy (")
    assert channel.startswith(f"{tmp_path / 'nir'}: not read: 1 broken link (gone.tif) (")
    assert tiles(tmp_path).only(1).unread == tiles(tmp_path).unread


def test_what_programs_write_beside_images_is_not_told(tmp_path: Path) -> None:
    split_with(tmp_path, "a.tif")
    touch(tmp_path / "images", "a.tif.aux.xml", "a.tif.msk", "a.tif.ovr", "a.tfw", "readme.md", ".hidden.webp")
    touch(tmp_path / "images" / ".thumbnails", "a.png")
    (tmp_path / "images" / "empty").mkdir()
    (tmp_path / "nir" / "a.tif").unlink()
    (tmp_path / "nir" / "a.tif").symlink_to(tmp_path / "images" / "a.tif")
    assert tiles(tmp_path).unread == ()


def test_other_folders_beside_a_splits_own_files_are_other_things(tmp_path: Path) -> None:
    touch(tmp_path, "1_sat.jpg", "1_mask.png", "2_sat.webp")
    touch(tmp_path / "elsewhere", "3_sat.jpg")
    layout = Layout(images_dir=".", masks_dir=".", image_suffix="_sat", mask_suffix="_mask")
    (text,) = find_tiles(tmp_path, layout).unread
    assert text.startswith(f"{tmp_path}: not read: 1 .webp (")


def test_files_that_are_not_read_explain_what_is_missing(tmp_path: Path) -> None:
    split_with(tmp_path, "a.tif", "b.tif")
    (tmp_path / "gt" / "b.tif").rename(tmp_path / "gt" / "b.gif")
    (text,) = mistakes(tmp_path)
    assert text.endswith(f"b.tif; not read in {tmp_path / 'gt'}: 1 .gif")
    split_with(tmp_path / "other", "a.gif", "b.gif")
    (text,) = mistakes(tmp_path / "other")
    assert text.endswith("; it holds 2 .gif")


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


def test_tiles_are_absolute_whatever_the_folder_is_called(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_with(tmp_path / "train", "a.tif")
    monkeypatch.chdir(tmp_path)
    (tile,) = tiles(Path("train"))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert all(path.is_absolute() and path.exists() for path in (tile.image, tile.mask, *tile.channels))


def test_a_split_is_a_sequence_of_tiles(tmp_path: Path) -> None:
    split_with(tmp_path, "a.tif", "b.tif", "c.tif")
    split = tiles(tmp_path)
    assert (len(split), split[-1].name, [tile.name for tile in split[::2]]) == (3, "c", ["a", "c"])
    assert split[1] == Tile(
        "b", tmp_path / "images" / "b.tif", tmp_path / "gt" / "b.tif", (tmp_path / "nir" / "b.tif",)
    )
    assert [tile.name for tile in split] == ["a", "b", "c"]
    with pytest.raises(IndexError):
        split[3]


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


def test_a_mask_that_lacks_its_image_is_told_by_the_names_that_the_files_have(tmp_path: Path) -> None:
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


# List files


LISTED = ["a", "b c", "Пруд №1", "T43.2024"]


def with_lists(root: Path, text: str, encoding: str = "utf-8") -> Path:
    """A data set whose tiles lie in one place, and whose lists say which are which."""
    for folder in ("images", "gt"):
        touch(root / folder, *(f"{name}.tif" for name in (*LISTED, "other")))
    (root / "train.txt").write_bytes(text.encode(encoding))
    (root / "val.txt").write_text("other\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{name}\n" for name in LISTED),
        "\n".join(LISTED),  # no end of the last line
        "".join(f"{name}.tif\n" for name in LISTED),
        "".join(f"images/{name}.TIF\n" for name in LISTED),
        "".join(f"{name}.png\n" for name in LISTED),  # what the list's maker had
        "# tiles\r\n\r\n" + "".join(f"  {name}.tif \r\n" for name in reversed(LISTED)) + "\r\n",
        "".join(f"{name}\n" for name in (*LISTED, *LISTED)),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_list_names_the_tiles_of_a_split(tmp_path: Path, text: str, encoding: str) -> None:
    assert names(with_lists(tmp_path, text, encoding)) == {"train": sorted(LISTED), "val": ["other"]}


def test_a_list_names_images_that_have_a_suffix_with_or_without_it(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}_{kind}.png" for name in "abc" for kind in ("sat", "mask")))
    (tmp_path / "train.txt").write_text("a_sat.png\nb\n")
    (tmp_path / "val.txt").write_text("c_sat\n")
    layout = {"images_dir": ".", "masks_dir": ".", "image_suffix": "_sat", "mask_suffix": "_mask"}
    assert names(tmp_path, **layout) == {"train": ["a", "b"], "val": ["c"]}


def test_tiles_of_a_list_that_are_not_there_are_named(tmp_path: Path) -> None:
    root = with_lists(tmp_path, "\n".join(["a", "нет.tif", "b c", "b  c"]))
    text = refused(root)
    assert text.startswith(f"{root / 'train.txt'}: 2 of its tiles are not in {root / 'images'}: ")
    assert text.endswith("b  c, нет")


def test_a_listed_tile_without_a_mask_is_named(tmp_path: Path) -> None:
    root = with_lists(tmp_path, "a\n")
    (root / "gt" / "a.tif").unlink()
    text = refused(root)
    assert str(root / "train.txt") in text
    assert str(root / "gt") in text
    assert text.endswith(": a")


def test_what_a_list_leaves_out_needs_no_partner(tmp_path: Path) -> None:
    root = with_lists(tmp_path, "a\n")
    touch(root / "images", "alone.tif")
    assert names(root)["train"] == ["a"]


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "is empty"), (b"# none\n\n", "is empty"), (b"\xff\xfea\x00", "cannot be read")]
)
def test_a_list_without_names_or_of_another_encoding_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    root = with_lists(tmp_path, "a\n")
    (root / "train.txt").write_bytes(content)
    text = refused(root)
    assert text.startswith(f"{root / 'train.txt'}: ")
    assert reason in text


def test_a_list_beside_a_folder_of_its_name_is_refused(tmp_path: Path) -> None:
    root = with_lists(tmp_path, "a\n")
    (root / "train").mkdir()
    text = refused(root)
    assert text.startswith(f"{root / 'train.txt'}: stands beside {root / 'train'}")


def test_a_list_may_stand_for_one_split_and_a_folder_for_the_other(tmp_path: Path) -> None:
    root = with_lists(tmp_path, "a\n")
    (root / "val.txt").unlink()
    for folder in ("images", "gt"):
        touch(root / "val" / folder, "v.tif")
    assert names(root) == {"train": ["a"], "val": ["v"]}


# Validation sets


def test_val_dir_may_be_a_folder_or_a_list(tmp_path: Path) -> None:
    root = data_set(tmp_path / "set", val=["unused"])
    other = data_set(tmp_path / "другой набор", train=["x", "y", "z"])
    assert names(root, val_dir=str(other / "train"))["val"] == ["x", "y", "z"]
    listing = other / "train" / "some.txt"
    listing.write_text("z\nx.png\n")
    assert names(root, val_dir=str(listing))["val"] == ["x", "z"]


def test_val_dir_needs_no_val_in_the_data_set(tmp_path: Path) -> None:
    root = data_set(tmp_path, train=["a", "b"])
    (root / "val").rename(root / "test")
    assert "val: no such folder" in refused(root)
    assert names(root, val_dir=str(root / "test"))["val"] == ["a"]
    assert str(root / "nowhere") in refused(root, val_dir=str(root / "nowhere"))


def test_added_sets_are_named_by_as_much_as_tells_them_apart(tmp_path: Path) -> None:
    root = data_set(tmp_path / "set")
    for place in ("north/2023", "north/2024", "south/2024"):
        data_set(tmp_path / place, val=[place.replace("/", "-")])

    def added(*places: str) -> dict[str, list[str]]:
        found = names(root, add_val_dirs=[str(tmp_path / place / "val") for place in places])
        assert list(found)[:2] == ["train", "val"]
        return dict(list(found.items())[2:])

    assert added("north/2023") == {"add_val/val": ["north-2023"]}
    assert added("north/2023", "north/2024") == {
        "add_val/2023/val": ["north-2023"],
        "add_val/2024/val": ["north-2024"],
    }
    assert list(added("south/2024", "north/2024")) == ["add_val/south/2024/val", "add_val/north/2024/val"]


def test_added_sets_from_a_file_are_seen_from_here_or_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = data_set(tmp_path / "set")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    data_set(tmp_path / "cwd" / "here", train=["h"])
    data_set(tmp_path / "lists" / "набор", train=["t"])
    data_set(tmp_path / "abs", train=["x"])
    listing = tmp_path / "lists" / "more.txt"
    lines = ["# more", "here/train", "", "набор/train", str(tmp_path / "abs" / "train")]
    listing.write_text("".join(f"{line}\r\n" for line in lines), "utf-8-sig")
    expected = {"add_val/here/train": ["h"], "add_val/набор/train": ["t"], "add_val/abs/train": ["x"]}
    assert dict(list(names(root, add_val_dirs=[str(listing)]).items())[2:]) == expected
    both = names(root, add_val_dirs=[str(listing), str(root / "val")])
    assert list(both)[2:] == [*expected, "add_val/set/val"]


def test_an_added_set_may_be_a_list_of_tiles(tmp_path: Path) -> None:
    root = data_set(tmp_path, train=["a", "b", "c"])
    (root / "train" / "some.txt").write_text("c\na\n")
    (root / "sets.txt").write_text("train/some.txt\n")
    assert names(root, add_val_dirs=[str(root / "sets.txt")])["add_val/some.txt"] == ["a", "c"]


def test_absolute_places_name_the_same_sets_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = data_set(tmp_path / "here" / "set", train=["a", "b"])
    (root / "train" / "some.txt").write_text("a\n")
    (root / "tiles.txt").write_text("train/some.txt\n")
    (tmp_path / "sets.txt").write_text("set/train\n")
    monkeypatch.chdir(tmp_path / "here")
    given = ["set/val", "../sets.txt", "set/tiles.txt"]
    before, places = names(root, add_val_dirs=given), absolute_places(given)
    monkeypatch.chdir("/")
    assert names(root, add_val_dirs=places) == before
    assert list(before)[2:] == ["add_val/val", "add_val/train", "add_val/some.txt"]


@pytest.mark.parametrize("again", ["{}", "{}/", "{}/../val", "{}/../../link"])
def test_an_added_set_that_stands_there_twice_is_refused(tmp_path: Path, again: str) -> None:
    root = data_set(tmp_path / "set")
    (tmp_path / "link").symlink_to(root / "val")
    place = str(root / "val")
    assert "stands there twice" in refused(root, add_val_dirs=[place, again.format(place)])


def test_mistakes_of_added_sets_are_told_with_the_others(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    touch(root / "train" / "images", "alone.png")
    (root / "sets.txt").write_text("nowhere\n")
    with pytest.raises(InputError) as caught:
        found(root, add_val_dirs=[str(root / "sets.txt"), str(root / "missing")])
    texts = caught.value.mistakes
    assert len(texts) == 3
    for text, part in zip(texts, ("alone.png", str(root / "nowhere"), str(root / "missing")), strict=True):
        assert part in text


def test_use_only_add_val_looks_for_no_val(tmp_path: Path) -> None:
    root = data_set(tmp_path / "set")
    (root / "val").rename(tmp_path / "elsewhere")
    settings = {"add_val_dirs": [str(tmp_path / "elsewhere")], "use_only_add_val": True}
    assert names(root, **settings) == {"train": ["a"], "add_val/elsewhere": ["a"]}


# Some of the tiles


def test_limit_tiles_holds_for_every_split_and_val_samples_for_validation(tmp_path: Path) -> None:
    many = [f"{i:03d}" for i in range(40)]
    root = data_set(tmp_path / "set", many, many)
    more = data_set(tmp_path / "more", many, many)
    settings: dict[str, Any] = {"add_val_dirs": [str(more / "val")]}

    def counts(**others: int) -> list[int]:
        return [len(split) for split in found(root, **settings, **others).values()]

    assert counts() == [40, 40, 40]
    assert counts(limit_tiles=7) == [7, 7, 7]
    assert counts(val_samples=5) == [40, 5, 5]
    assert counts(limit_tiles=7, val_samples=5) == [7, 5, 5]
    assert counts(limit_tiles=70, val_samples=50) == [40, 40, 40]


def test_some_of_the_tiles_are_the_same_ones_always_spread_and_in_order(tmp_path: Path) -> None:
    many = [f"{i:03d}" for i in range(100)]
    root = data_set(tmp_path, train=many, val=many)
    kept = names(root, val_samples=20)["val"]
    assert kept == names(root, val_samples=20)["val"] == sorted(kept)
    assert kept == names(root, limit_tiles=20)["val"]
    assert int(kept[0]) < 25 < 75 < int(kept[-1])  # neighbours in name are neighbours on the ground
    assert set(names(root, val_samples=10)["val"]) < set(kept)
    assert [tile.mask.name for tile in found(root, val_samples=20)["val"]] == [f"{name}.png" for name in kept]


def test_tiles_that_join_or_leave_move_no_others(tmp_path: Path) -> None:
    many = [f"{i:03d}" for i in range(100)]
    root = data_set(tmp_path, train=many, val=many)
    before = set(names(root, val_samples=20)["val"])
    for folder in ("images", "gt"):
        touch(root / "val" / folder, "x1.png", "x2.png")
    joined = set(names(root, val_samples=20)["val"])
    assert len(before - joined) == len(joined & {"x1", "x2"})
    gone = next(name for name in many if name not in before)
    for folder in ("images", "gt"):
        (root / "val" / folder / f"{gone}.png").unlink()
    assert set(names(root, val_samples=20)["val"]) == joined


# Whether anything changed


def test_identity_changes_with_any_file_and_with_nothing_else(tmp_path: Path) -> None:
    split_with(tmp_path / "set", "a.tif", "b.tif")
    split = tmp_path / "set"
    seen = [tiles(split).identity()]

    def changed() -> bool:
        now = tiles(split).identity()
        new = now not in seen
        seen.append(now)
        return new

    assert not changed()
    touch(split / "images", "notes.txt")
    assert not changed()
    for folder in FOLDERS:
        path = split / folder / "a.tif"
        path.write_bytes(b"x")
        assert changed()
        state = path.stat()
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
        assert changed()
    split_with(split, "c.tif")
    assert changed()
    split.rename(tmp_path / "moved")
    split = tmp_path / "moved"
    assert changed()


def test_a_file_that_goes_after_it_was_listed_is_named(tmp_path: Path) -> None:
    split_with(tmp_path, "a.tif")
    split = tiles(tmp_path)
    (tmp_path / "nir" / "a.tif").unlink()
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'nir' / 'a.tif'}: cannot be read")):
        split.identity()


def test_identity_sees_content_of_the_same_size_and_time(tmp_path: Path) -> None:
    """Archives that give all files one time, unpacked over one another; uncompressed masks have one size."""
    split_with(tmp_path, "a.tif")
    mask = tmp_path / "gt" / "a.tif"
    found = []
    for content in (b"0", b"1"):
        mask.write_bytes(content)
        os.utime(mask, (0, 0))
        found.append(tiles(tmp_path).identity())
    assert found[0] != found[1]
