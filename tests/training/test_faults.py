"""What goes wrong in the middle of a run: each fault is an error of its own kind, on one line, through train()."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.data.scan import scan
from segtune.data.tiles import TRAIN
from segtune.errors import InputError, LoaderError, SegtuneError, TileError
from segtune.files.folders import RunFolder
from segtune.training.resolve import resolve
from segtune.training.result import EpochResult
from segtune.training.runlog import read_rows
from segtune.training.stopwatch import OnBatch
from segtune.training.train import train
from tests.training.runs import DataSet, small_pspnet

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pytest.fixture
def tiles(tmp_path: Path, data_set: DataSet) -> Path:
    """A data set of the test's own, to be spoilt."""
    return data_set(tmp_path / "set", train=8, val=3)


def settings(dataset: Path, **others: Any) -> RunConfig:
    return small_pspnet(dataset, **{"batch_size": 1, "epochs": 2, "augmentation": "none"} | others)


def run(config: RunConfig, info: DataInfo, folder: Path, **others: Any) -> list[EpochResult]:
    with closing(train(config, info, RunFolder(folder), **others)) as generator:
        return list(generator)


def once(deed: Callable[[], object]) -> OnBatch:
    """A deed for after the first step of all."""
    left = [deed]

    def do(done: int, total: int, loss: float) -> None:
        if left:
            left.pop()()

    return do


def shoot_loader() -> None:
    (loader,) = multiprocessing.active_children()
    assert loader.pid
    os.kill(loader.pid, signal.SIGKILL)
    loader.join(10)


def test_a_loader_process_that_dies_is_a_fault_of_its_own_kind(tiles: Path, tmp_path: Path) -> None:
    config = settings(tiles, workers=1, cache_dir="none")
    info = scan(config)
    with pytest.raises(LoaderError) as caught:
        run(config, info, tmp_path / "run", on_batch=once(shoot_loader))
    message = str(caught.value)
    assert "\n" not in message
    assert "a loader process died" in message
    assert "Killed" in message or "exited unexpectedly" in message
    assert not isinstance(caught.value, InputError)  # the user did nothing wrong
    assert multiprocessing.active_children() == []
    assert len(run(config, info, tmp_path / "run", go_on=True)) == 2  # another time it works


@pytest.mark.slow  # torch looks after its loaders every five seconds only
def test_it_is_noticed_in_a_thread_that_gets_no_signals_too(tiles: Path, tmp_path: Path) -> None:
    """As in a trial of a search."""
    config = settings(tiles, workers=1, cache_dir="none")
    info, caught = scan(config), []
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's own, where an earlier test left it

    def trial() -> None:
        try:
            run(config, info, tmp_path / "run", on_batch=once(shoot_loader))
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=trial)
    thread.start()
    thread.join(60)
    signal.signal(signal.SIGCHLD, before)
    assert [type(error) for error in caught] == [LoaderError]


def delete(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("spoil", "folder", "workers"), [(delete, "train/images", 0), (cut, "train/gt", 1), (delete, "val/nir", 0)]
)
def test_a_tile_that_cannot_be_read_any_more_is_named(
    tiles: Path, tmp_path: Path, spoil: Callable[[Path], None], folder: str, workers: int
) -> None:
    config = settings(tiles, channels=["nir"], workers=workers, cache_dir="none", batch_size=2)
    info = scan(config)
    paths = sorted((tiles / folder).iterdir())
    with pytest.raises(TileError) as caught:
        run(config, info, tmp_path / "run", on_batch=once(lambda: [spoil(path) for path in paths]))
    (mistake,) = caught.value.mistakes
    assert any(mistake.startswith(f"{path}: ") for path in paths)
    assert isinstance(caught.value, InputError)


def test_decoded_tiles_that_were_deleted_are_named(tiles: Path, tmp_path: Path) -> None:
    config = settings(tiles, cache_dir=str(tmp_path / "cache"))
    info = scan(config)
    store = info.store(TRAIN, resolve(config, info))
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(TileError, match="cache"):
        store.image(0)


def test_a_tile_that_the_scan_finds_damaged_is_no_fault_of_a_run(tiles: Path) -> None:
    cut(min((tiles / "train" / "images").iterdir()))
    with pytest.raises(InputError) as caught:
        scan(settings(tiles, cache_dir="none"))
    assert not isinstance(caught.value, TileError)


@pytest.mark.parametrize(
    ("name", "number"),
    [("state.pt", errno.ENOSPC), ("best.next", errno.EDQUOT), ("metrics.csv", errno.EFBIG), ("best", errno.ENOSPC)],
)
def test_a_full_disk_is_an_os_error_after_which_the_run_can_go_on(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    config, folder, replace = settings(tiles, batch_size=8), tmp_path / "run", os.replace
    info = scan(config)

    def full(source: Any, place: Any) -> None:
        if Path(place).name == name:
            raise OSError(number, os.strerror(number), str(place))
        replace(source, place)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(OSError) as caught:
            run(config, info, folder)
    assert (caught.value.errno, caught.value.filename) == (number, str(folder / name))
    run(config, info, folder, go_on=True)
    assert [row["epoch"] for row in read_rows(RunFolder(folder))] == ["1", "2"]
    assert not (folder / "best.next").exists()


@pytest.mark.parametrize("error", [TileError("a: gone"), LoaderError("died")])
def test_faults_come_out_of_another_process_as_they_are(error: SegtuneError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
