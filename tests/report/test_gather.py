"""The record of a search is read from its folder, also where parts are missing or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.errors import InputError
from segtune.files.folders import SearchFolder
from segtune.report.gather import gather
from segtune.report.page import page
from segtune.report.written import write_report
from segtune.trials import write_trials
from segtune.tuning.status import search_state
from tests.report.reports import parsed
from tests.scripts import call
from tests.tuning.searched import searched


@pytest.fixture
def folder(tmp_path: Path) -> SearchFolder:
    """A search with three finished trials, whose models are no models."""
    bench, _ = searched(tmp_path / "search", [0.5, 0.7, 0.6])
    bench.folder.search_yaml.write_text(bench.space_text)
    return bench.folder


def test_a_search_is_read_from_its_folder(folder: SearchFolder) -> None:
    found = gather(folder)
    assert [trial.number for trial in found.order] == [1, 2, 0]
    assert sorted(found.ended_after) == [0, 1, 2]
    assert found.searched == ("encoder", "optimizer", "weight_decay", "momentum")
    assert found.no_examples == "no trial has a model yet"
    assert "encoder" in found.space
    lines = " ".join(command.line for command in found.commands)
    for flag in ("--resume search", "--space", "--report search", "--results-dir"):
        assert flag in lines


def test_a_model_or_table_that_cannot_be_read_leaves_the_rest(folder: SearchFolder) -> None:
    folder.best.mkdir()
    (folder.trial(1).path / "metrics.csv").write_text("epoch,miou\n1,good\n")
    found = gather(folder)
    assert "no model" in found.no_examples
    assert any("trial_0001" in remark or "trial 1" in remark for remark in found.remarks)
    assert "trial #1" in parsed(page(found)).text


def test_the_page_and_the_table_of_searches_are_written_side_by_side(folder: SearchFolder) -> None:
    write_trials(folder.trials_csv, search_state(folder).trials)
    ended = call("run_search", "--report", "search", "--results-dir", folder.path.parent, "--figures")
    assert ended.status == 0, ended
    assert f"{folder.report_html}: Best so far: trial #1" in ended.out
    index = parsed((folder.path.parent / "index.html").read_text(encoding="utf-8"))
    assert [link["href"] for link in index.all("a")] == ["search/report.html"]
    assert len(parsed(folder.report_html.read_text(encoding="utf-8")).all("section")) == 12
    assert (folder.figures / "best_over_trials.svg").is_file()
    assert call("run_search", "--report", folder.path).status == 0


def test_a_search_that_is_not_there_is_one_line(folder: SearchFolder) -> None:
    (mistake,) = call("run_search", "--report", "serach", "--results-dir", folder.path.parent).mistakes
    assert "did you mean 'search'?" in mistake
    folder.study_db.unlink()
    with pytest.raises(InputError, match="no search has started"):
        write_report(folder)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--report", "a", "--resume"], "not allowed with --report"),
        (["--report", "a", "--status", "b"], "not allowed with"),
        (["--figures", "--space", "quickstart"], "needs --report NAME"),
        (["--test-again", "--space", "quickstart"], "needs --confirm NAME"),
        (["--confirm", "a", "--resume"], "not allowed with --confirm"),
        (["--confirm", "a", "--dry-run"], "not allowed with --dry-run"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags: list[str], said: str) -> None:
    assert said in call("run_search", *flags).err
