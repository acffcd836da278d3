"""A whole search with transforms from a file: what it keeps, and what it needs when it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from segtune.files.folders import SearchFolder
from tests.conftest import write_data_set
from tests.scripts import call
from tests.tuning.searches import rows

TEXT = "- {__class_fullname__: Affine, rotate: [-40, 40]}\n"


@pytest.mark.slow
def test_a_search_keeps_its_file_and_goes_on_without_it(tmp_path: Path) -> None:
    file, data = tmp_path / "my.yaml", write_data_set(tmp_path / "tiles")
    file.write_text(TEXT)
    (tmp_path / "levels.yaml").write_text(
        f"dataset: {data}\n"
        "run: {model: unet, encoder: tu-mobilenetv3_small_050, encoder_weights: none, image_size: 32, epochs: 1,"
        " workers: 0, device: cpu}\n"
        f"space: {{mix: [none, cutmix], augmentation: [safe, {file}]}}\n"
        "baseline: {augmentation: safe}\n"
        "search: {sampler: grid, scheduler: none, compare: augmentation, trials: 2}\n"
    )
    where = ("--results-dir", tmp_path, "--in-process")
    begun = call("run_search", "--space", tmp_path / "levels.yaml", *where)
    assert begun.status == 0, begun.err
    folder = SearchFolder(tmp_path / "levels")
    assert yaml.safe_load(folder.search_yaml.read_text())["augmentation_files"] == {str(file): TEXT}

    file.write_text(TEXT + "# changed\n")
    (line,) = call("run_search", "--resume", "levels", "--trials", 4, *where).mistakes
    assert line.startswith(f"{file}: changed since the search was started")

    file.unlink()
    resumed = call("run_search", "--resume", "levels", "--trials", 4, *where)
    assert resumed.status == 0, resumed.err
    trials = rows(folder.path)
    assert {(trial["mix"], trial["augmentation"]) for trial in trials} == {
        (mix, augmentation) for mix in ("none", "cutmix") for augmentation in ("safe", str(file))
    }
    for trial in trials:
        run = yaml.safe_load(folder.trial(int(trial["trial"])).run_yaml.read_text())
        assert run.get("augmentation_file", {}).get("text") == (TEXT if trial["augmentation"] == str(file) else None)
