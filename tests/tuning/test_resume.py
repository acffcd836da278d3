"""Resuming a search: its study, wherever its folder is now, its space, and what may change."""

from __future__ import annotations

import re
import shutil
import sqlite3
import sys
from argparse import Namespace
from contextlib import closing
from pathlib import Path
from types import NoneType
from typing import get_args

import pytest
import yaml
from optuna.exceptions import StorageInternalError

import run_search
from segtune.cli.tasks import space_and_folder, start_of
from segtune.errors import InputError
from segtune.files.folders import SearchFolder
from segtune.planning.resources import trial_threads
from segtune.space.reader import load_space
from segtune.space.settings import SearchSettings
from segtune.space.space import Space
from segtune.tuning.recovery import check_drawn_from
from segtune.tuning.search_yaml import store_space, to_resume
from segtune.tuning.status import search_state
from segtune.tuning.study import open_study, read_study, threads_so_far, trouble
from tests.tuning.bench import SPACE, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A started search with a finished trial."""
    bench = Bench(SearchFolder(tmp_path / "search"), SPACE)
    bench.start()
    bench.finish(0)
    write_space(bench.folder, bench.space)
    return bench


def write_space(folder: SearchFolder, space: Space) -> None:
    folder.search_yaml.write_text(yaml.safe_dump(space.dump(), sort_keys=False))


def test_a_search_that_was_renamed_keeps_its_study(bench: Bench, tmp_path: Path) -> None:
    shutil.copytree(bench.folder.path, tmp_path / "renamed")
    renamed = SearchFolder(tmp_path / "renamed")
    study = open_study(renamed, "renamed")
    assert [trial.value for trial in study.trials] == [0.5]
    assert [trial.value for trial in read_study(renamed).trials] == [0.5]


def test_trials_whose_study_is_gone_are_not_begun_again(bench: Bench) -> None:
    bench.folder.study_db.unlink()
    run = bench.folder.trial(0)
    run.path.mkdir()
    run.run_yaml.write_text("model: unet\n")
    with pytest.raises(InputError, match=r"study\.db: missing, and there are trials"):
        open_study(bench.folder, "search")
    assert not bench.folder.study_db.exists()


LOST = "restore it, or start another search with --name"


def damaged(content: bytes, sign: bytes) -> bytes:
    """Return the content with some bytes overwritten, behind the first occurrence of `sign`."""
    at = content.index(sign) + len(sign)
    return content[:at] + b"\x80\xff\x00\xf3" * 10 + content[at + 40 :]


def other_program(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE tiles (name TEXT)")
    return path.read_bytes()


def test_an_empty_study_is_no_new_search_where_there_are_trials(bench: Bench, tmp_path: Path) -> None:
    bench.folder.trial(0).path.mkdir()
    bench.folder.trial(0).run_yaml.write_text("model: unet\n")
    bench.close()
    for _ in range(2):
        bench.folder.study_db.write_bytes(b"")
        for opening in (read_study, lambda folder: open_study(folder, "search")):
            with pytest.raises(InputError, match=f"study.db: holds no trials, and there are trials in .*; {LOST}"):
                opening(bench.folder)
        bench.folder.search_yaml.unlink(missing_ok=True)  # the study alone tells
    never = SearchFolder(tmp_path / "never")
    never.path.mkdir()
    never.study_db.write_bytes(b"")
    with pytest.raises(InputError, match=r"no search has started here \(study.db holds no study\)"):
        read_study(never)
    assert never.study_db.read_bytes() == b""  # who only looks writes nothing
    assert open_study(never, "never").trials == []


def test_a_damaged_or_foreign_study_is_refused_and_left_alone(bench: Bench, tmp_path: Path) -> None:
    bench.close()
    whole = bench.folder.study_db.read_bytes()
    contents = {
        "page": damaged(whole, b"SQLite format 3"),
        "text": damaged(whole, b'"encoder": "'),
        "cut": whole[: len(whole) // 2],
        "no database": b"nothing\n" * 200,
        "tiles": other_program(tmp_path / "tiles.db"),
    }
    for content in contents.values():
        bench.folder.study_db.write_bytes(content)
        for opening in (read_study, lambda folder: open_study(folder, "search")):
            with pytest.raises(
                InputError, match=f"study.db: cannot be read as the search's study (.*); {LOST}"
            ) as caught:
                opening(bench.folder)
            assert "\n" not in str(caught.value)
        assert bench.folder.study_db.read_bytes() == content


@pytest.mark.parametrize("name", ["a%20b", "a?b", "a#b", "a{b}", "a b", "ä"])
def test_the_study_lies_in_its_folder_whatever_that_is_called(name: str, tmp_path: Path) -> None:
    bench = Bench(SearchFolder(tmp_path / name), SPACE)
    bench.start()
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert {path.name for path in (tmp_path / name).iterdir()} == {"space.yaml", "study.db"}
    assert len(read_study(bench.folder).trials) == 1


def test_a_study_that_another_program_holds_is_said_to_be_held(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segtune.tuning.study._BUSY_S", 0.1)
    with closing(sqlite3.connect(bench.folder.study_db, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        for opening in (read_study, lambda folder: open_study(folder, "search")):
            with pytest.raises(InputError) as caught:
                opening(bench.folder)
            assert "study.db: another program holds it (database is locked)" in str(caught.value)
            assert "full" not in str(caught.value)
            assert "--name" not in str(caught.value)


def test_a_locked_study_is_not_reported_as_a_full_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segtune.tuning.study._BUSY_S", 0.1)
    running = Bench(bench.folder, SPACE)
    running.start()
    with closing(sqlite3.connect(bench.folder.study_db, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        running.report(1, 1, 0.5)
        assert running.waits()  # one runs still
    assert running.searcher.interrupted
    assert running.searcher.error
    assert "another program holds it (database is locked)" in trouble(bench.folder, running.searcher.error)
    full = StorageInternalError("...")
    full.__cause__ = sqlite3.OperationalError("database or disk is full")
    assert "is the disk full? (database or disk is full)" in trouble(bench.folder, full)


# What was given when it was started stays, unless it is given again.


def resumed(bench: Bench, text: str, **given: object) -> tuple[Space, list[str]]:
    (bench.folder.path / "space.yaml").write_text(text)
    space = load_space(bench.folder.path / "space.yaml", None, given)
    started = start_of(Namespace(resume=True, space="space.yaml", dry_run=False), bench.folder)
    said: list[str] = []
    return (to_resume(space, started, given, said.append) if started else space), said


def test_the_budget_of_the_first_start_stays_and_a_difference_is_told(bench: Bench) -> None:
    write_space(bench.folder, bench.space.with_search({"trials": 4, "time_budget": 3600.0}))
    space, said = resumed(bench, SPACE.replace("trials: 8", "trials: 8, time_budget: 2h, keep: 5"))
    assert (space.search.trials, space.search.time_budget, space.search.keep) == (4, 3600.0, 5)
    path = bench.folder.path / "space.yaml"
    assert said == [
        f"trials stays 4, and is not 8 as in {path}; --trials changes it",
        f"time_budget stays 3600, and is not 7200 as in {path}; --time-budget changes it",
    ]


def test_a_flag_wins_over_both(bench: Bench) -> None:
    space, said = resumed(bench, SPACE, trials=12)
    assert (space.search.trials, said) == (12, [])


def test_a_search_is_refused_with_the_settings_that_changed(bench: Bench) -> None:
    other = SPACE.replace("lr: 1e-3", "lr: 2e-3").replace("resnet18", "resnet34").replace("random", "tpe")
    with pytest.raises(InputError) as caught:
        resumed(bench, other)
    (mistake,) = caught.value.mistakes
    assert "run: lr (0.001 -> 0.002), " in mistake
    assert "space: encoder, " in mistake
    assert "search: sampler (random -> tpe); " in mistake
    assert "momentum" not in mistake


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ("[resnet18, mobilenet_v2]", "[resnet18, resnet34]", "space: encoder"),
        ("low: 0.8", "low: 0.7", "space: optimizer.sgd.momentum"),
        ("  encoder: [resnet18, mobilenet_v2]\n", "", "space: encoder"),
        ("lr: 1e-3", "lr: 2e-3", "run: lr"),
    ],
)
def test_another_space_is_refused_also_without_search_yaml(
    bench: Bench, tmp_path: Path, old: str, new: str, differs: str
) -> None:
    for _ in range(6):
        bench.finish(bench.start().number)
    check_drawn_from(bench.study, bench.space, bench.folder)
    (tmp_path / "space.yaml").write_text(SPACE.replace(old, new))
    space = load_space(tmp_path / "space.yaml")
    for also in ("other than search.yaml", "missing"):
        if differs.startswith("space") or also == "missing":
            with pytest.raises(InputError, match=f"drawn from another space \\({differs}\\)"):
                check_drawn_from(bench.study, space, bench.folder)
        bench.folder.search_yaml.unlink(missing_ok=True)
    check_drawn_from(bench.study, bench.space, bench.folder)


def test_weights_may_lie_elsewhere(bench: Bench) -> None:
    def text(folder: str) -> str:
        return SPACE.replace("epochs: 3", f"epochs: 3, encoder_weights: /{folder}/enc.pth")

    (bench.folder.path / "first.yaml").write_text(text("old"))
    write_space(bench.folder, load_space(bench.folder.path / "first.yaml"))
    assert resumed(bench, text("new"))[0].baseline.encoder_weights == "/new/enc.pth"
    with pytest.raises(InputError, match="encoder_weights"):
        resumed(bench, text("new").replace("enc.pth", "other.pth"))


# By its name alone.


def placed(bench: Bench, monkeypatch: pytest.MonkeyPatch, *typed: str) -> tuple[Path, SearchFolder, Space | None]:
    monkeypatch.setattr(sys, "argv", ["run_search.py", "--results-dir", str(bench.folder.path.parent), *typed])
    given = run_search.parse()
    path, folder = space_and_folder(given)
    return path, folder, start_of(given, folder)


@pytest.mark.parametrize(
    "typed",
    ["--resume NAME", "--resume=NAME --trials 9", "--resume NAME --name NAME", "--resume NAME --trials 9 --resume"],
)
def test_a_name_alone_says_what_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    path, folder, started = placed(bench, monkeypatch, *typed.replace("NAME", "search").split())
    assert (path, folder) == (bench.folder.search_yaml, bench.folder)
    assert started
    assert to_resume(load_space(path), started, {}, lambda line: None) == bench.space.with_weights("none")


def test_a_space_beside_the_name_starts_a_search_of_that_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for typed, name in (("--resume", "quickstart"), ("--resume new", "new"), ("--resume --name other", "other")):
        path, folder, _ = placed(bench, monkeypatch, "--space", "quickstart", *typed.split())
        assert (path.name, folder.path.name) == ("quickstart.yaml", name)


@pytest.mark.parametrize(
    ("typed", "mistake"),
    [
        ("", "one of --space FILE, --resume NAME, .*, --log NAME and --write-schema FILE is required"),
        ("--resume", "one of --space FILE, --resume NAME, .* is required"),
        ("--resume serch", "serch: no search .*did you mean 'search'"),
        ("--resume a/b", "--resume: 'a/b' is not a name"),
        ("--resume search --name other", "--resume search: --name says other; leave one out"),
        ("--resume search --status search", "--status"),
    ],
)
def test_a_name_that_says_nothing_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, typed: str, mistake: str
) -> None:
    with pytest.raises(InputError, match=mistake):
        placed(bench, monkeypatch, *typed.split())


# A search.yaml that is damaged.


@pytest.mark.parametrize("content", [b"", bytes(range(256)), b"space: {enc"], ids=["empty", "binary", "cut"])
def test_a_damaged_search_yaml_is_written_anew_from_the_study(
    bench: Bench, content: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store_space(bench.folder, bench.study, bench.space)
    whole = bench.folder.search_yaml.read_bytes()
    bench.folder.search_yaml.write_bytes(content)
    state = search_state(bench.folder)
    assert state.wanted == 8
    assert re.fullmatch(rf"{bench.folder.search_yaml}.*; the study's copy is used", state.remarks[0])
    assert bench.folder.search_yaml.read_bytes() == content  # --status changes nothing

    placed(bench, monkeypatch, "--resume", "search")
    assert "rewritten from the study's copy" in capsys.readouterr().out
    assert bench.folder.search_yaml.read_bytes() == whole
    assert (bench.folder.path / "lost_search.yaml_1").read_bytes() == content


def test_a_damaged_search_yaml_without_a_copy_needs_the_first_file(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.folder.search_yaml.write_bytes(b"")
    for refused in (
        lambda: search_state(bench.folder),
        lambda: placed(bench, monkeypatch, "--resume", "search"),
    ):
        with pytest.raises(InputError, match="--space FILE --resume, with the file of the first start, rewrites it"):
            refused()
    space, _ = resumed(bench, SPACE)
    assert space == bench.space
    assert capsys.readouterr().out.endswith("lost_search.yaml_1, and rewritten\n")


@pytest.mark.parametrize(
    ("before", "given", "cores", "threads", "said"),
    [
        (None, None, 2, 2, None),  # also where trials of an earlier release have no such setting
        (2, None, 2, 2, None),
        (2, None, 4, 2, "threads stays 2, .* --set threads=4 changes it"),
        (2, 4, 4, 4, "threads is 4 from here on, and was 2"),
        (4, 4, 1, 4, None),
    ],
)
def test_threads_stay_those_of_the_trials_before(
    bench: Bench, before: int | None, given: int | None, cores: int, threads: int, said: str | None
) -> None:
    bench.start()
    running = bench.study.trials[1]
    settings = running.user_attrs["settings"] | {"threads": before}
    bench.study._storage.set_trial_user_attr(running._trial_id, "settings", settings)
    space, _ = resumed(bench, SPACE.replace("epochs: 3", f"epochs: 3, threads: {given or 'null'}"))
    found, line = trial_threads(space.baseline.threads, threads_so_far(bench.study), cores)
    assert found == threads
    assert re.match(said, line) if said else line is None


RULES_THAT_CAN_BE_OFF = [
    name
    for name, field in SearchSettings.model_fields.items()
    if field.default is not None and NoneType in get_args(field.annotation)
]


@pytest.mark.parametrize("name", RULES_THAT_CAN_BE_OFF)
def test_a_rule_that_was_switched_off_is_off_when_the_search_goes_on(name: str, bench: Bench) -> None:
    off = bench.space.with_search({name: None})
    write_space(bench.folder, off)
    assert load_space(bench.folder.search_yaml).search == off.search
