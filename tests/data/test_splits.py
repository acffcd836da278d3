"""The splits of a data set: folders, list files, and validation sets that lie elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.config import RunConfig
from segtune.data.splits import absolute_places, find_data_set
from segtune.errors import InputError
from tests.data.empty import data_set, found, mistakes, names, refused, split_with, touch


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
    assert text.startswith(f"{root / 'train.txt'}: lies beside {root / 'train'}")


def test_a_list_may_stand_for_one_split_and_a_folder_for_the_other(tmp_path: Path) -> None:
    root = with_lists(tmp_path, "a\n")
    (root / "val.txt").unlink()
    for folder in ("images", "gt"):
        touch(root / "val" / folder, "v.tif")
    assert names(root) == {"train": ["a"], "val": ["v"]}


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
    assert "is listed twice" in refused(root, add_val_dirs=[place, again.format(place)])


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


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    (text,) = mistakes(tmp_path / "train")
    assert text.startswith(f"{tmp_path / 'train'}: no such folder")


@pytest.mark.parametrize("inside", ["train", "train/images"])
def test_a_folder_inside_a_data_set_is_told_of_once(tmp_path: Path, inside: str) -> None:
    for split in ("train", "val"):
        split_with(tmp_path / split, "a.tif")
    with pytest.raises(InputError) as caught:
        find_data_set(RunConfig(dataset=str(tmp_path / inside)), [])
    assert caught.value.mistakes == [f"{tmp_path}/{inside}: has neither train/ nor val/; did you mean -d {tmp_path}?"]
