"""Files of transforms in a search: read once, kept in search.yaml, and compared when the search goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from segtune.errors import InputError
from segtune.planning.feasibility import scan_data, with_transforms
from segtune.space.reader import load_space
from segtune.space.space import Space
from tests.conftest import WriteDataSet

FLIP, TURN = (f"- {{__class_fullname__: {name}}}\n" for name in ("HorizontalFlip", "RandomRotate90"))


def space_of(folder: Path, augmentation: str, more: str = "") -> Space:
    path = folder / "space.yaml"
    path.write_text(
        f"dataset: {folder}/tiles\nspace: {{augmentation: {augmentation}}}\nrun: {{image_size: 32}}\n{more}"
    )
    return load_space(path)


def stored(folder: Path, space: Space) -> Space:
    """The space as search.yaml keeps it."""
    (folder / "search.yaml").write_text(yaml.safe_dump(space.dump(), sort_keys=False))
    return load_space(folder / "search.yaml")


def mistakes(space: Space, started: Space | None = None) -> list[str]:
    with pytest.raises(InputError) as caught:
        with_transforms(space, started)
    return caught.value.mistakes


def test_levels_and_files_stand_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(FLIP)
    space = with_transforms(space_of(tmp_path, f"[safe, hard, {tmp_path}/my.yaml]"))
    assert space.values_of("augmentation") == ("safe", "hard", f"{tmp_path}/my.yaml")
    file = space.transforms_of(f"{tmp_path}/my.yaml")
    assert file
    assert file.text == FLIP
    assert space.transforms_of("hard") is None


def test_search_yaml_keeps_the_texts(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(FLIP)
    space = with_transforms(space_of(tmp_path, f"[safe, {tmp_path}/my.yaml]")).with_weights("none")
    again = stored(tmp_path, space)
    assert again == space
    assert again.transforms == {f"{tmp_path}/my.yaml": FLIP}
    assert space.changes_from(again) == []


def test_a_file_that_is_gone_is_taken_from_search_yaml(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(FLIP)
    space = space_of(tmp_path, f"[safe, {tmp_path}/my.yaml]")
    started = stored(tmp_path, with_transforms(space))
    (tmp_path / "my.yaml").unlink()
    assert with_transforms(started).transforms == started.transforms
    assert with_transforms(space, started).transforms == started.transforms
    (line,) = mistakes(space)
    assert line.endswith("no such file or directory")


def test_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(FLIP)
    space = space_of(tmp_path, f"[safe, {tmp_path}/my.yaml]")
    started = stored(tmp_path, with_transforms(space))
    (tmp_path / "my.yaml").write_text(TURN)
    for given in ((space, started), (started, None)):
        (line,) = mistakes(*given)
        assert line.startswith(f"{tmp_path}/my.yaml: changed since the search was started")


def test_all_mistakes_of_all_files_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- {__class_fullname__: Flip}\n- {__class_fullname__: D4, q: 1}\n")
    (tmp_path / "b.json").write_text("[]")
    found = mistakes(space_of(tmp_path, f"[safe, {tmp_path}/a.yaml, {tmp_path}/b.json, {tmp_path}/c.yml]"))
    assert [line.split(": ")[0] for line in found] == [
        f"{tmp_path}/a.yaml:1",
        f"{tmp_path}/a.yaml:2",
        f"{tmp_path}/b.json:1",
        "augmentation",
    ]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my.yaml").write_text(FLIP)
    (line,) = mistakes(space_of(tmp_path, f"[{tmp_path}/a/my.yaml, {tmp_path}/b/my.yaml]"))
    assert "have the same name" in line


def test_transforms_are_tried_on_tiles_like_the_data(tmp_path: Path, data_set: WriteDataSet) -> None:
    data_set(tmp_path / "tiles")
    (tmp_path / "my.yaml").write_text("- {__class_fullname__: RandomCrop, height: 16, width: 16}\n")
    space = with_transforms(space_of(tmp_path, f"[safe, {tmp_path}/my.yaml]", "channels: [nir]"))
    with pytest.raises(InputError) as caught:
        scan_data(space)
    (line,) = caught.value.mistakes
    assert f"{tmp_path}/my.yaml:1: RandomCrop: changes the size of tiles, here from 32 x 32 to 16 x 16" in line


def test_the_section_of_texts_belongs_to_search_yaml_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown key 'augmentation_files'"):
        space_of(tmp_path, "[safe, hard]", "augmentation_files: {a.yaml: text}")


def test_a_missing_file_is_looked_for_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    space = space_of(tmp_path, "[safe, my.yaml]")
    said = f"augmentation: my.yaml: no such file in {tmp_path}/here, where relative paths of a space start"
    assert mistakes(space) == [said]
    (tmp_path / "my.yaml").write_text("[]", encoding="utf-8")
    assert mistakes(space) == [f"{said}; it is beside space.yaml: write {tmp_path}/my.yaml"]
