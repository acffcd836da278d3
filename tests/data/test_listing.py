"""What lies in a folder and is not read: told by kind and number."""

from __future__ import annotations

from pathlib import Path

from segtune.data.listing import SUFFIXES
from segtune.data.pairs import find_tiles
from segtune.data.tiles import Layout
from tests.data.empty import mistakes, split_with, tiles, touch


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
        f"(north) (only {' '.join(SUFFIXES)} directly in it are)"
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
