"""Processes that build the same entries at once, or are killed while they build."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segtune.data.scan import scan
from segtune.errors import InputError
from tests.conftest import WriteDataSet, WriteImage
from tests.data.caching import TRAIN, VAL, Counted, config_of, content, entries, hidden, scanned

BUILD = """
import os, signal, sys, time
import segtune.data.scan as module
from segtune.config import RunConfig
root, cache, kill_at, slow = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])

last = 0

def progress(done, total):
    global last
    if done == last:  # it only waits
        return
    last = done
    print(done, flush=True)
    if done == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(slow)

print("ready", flush=True)
sys.stdin.readline()
info = module.scan(RunConfig(dataset=root, cache_dir=cache, image_size=32), progress=progress, say=print)
print("fingerprint", info.fingerprint, len(info.entries))
"""


def builder(root: Path, kill_at: int = 0, slow: float = 0.0) -> subprocess.Popen[str]:
    """A process that is about to scan, once it gets a line."""
    arguments = [str(root), str(root.parent / "cache"), str(kill_at), str(slow)]
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("kill_at", [1, TRAIN, TRAIN + 1])
def test_a_killed_builder_leaves_nothing_that_looks_like_an_entry(root: Path, reads: Counted, kill_at: int) -> None:
    assert builder(root, kill_at).communicate("\n")[0].split()[-1] == str(kill_at)
    cache = root.parent / "cache"
    assert len(hidden(cache)) == 1  # what it was at
    known = len([path for path in entries(root) if not path.name.startswith(".")])
    assert known == (kill_at > TRAIN)
    info = scanned(root)
    assert len(reads.tiles) == (VAL if known else TRAIN + VAL)
    assert not hidden(cache)
    assert content(root, info) == content(root, scanned(root, cache_dir="none"))


def test_what_a_killed_builder_left_goes_also_when_its_files_changed(root: Path, write_image: WriteImage) -> None:
    builder(root, 3).communicate("\n")
    cache = root.parent / "cache"
    (left,) = hidden(cache)
    write_image(root / "train" / "gt" / "000.png", np.full((32, 32), 255, np.uint8))
    scanned(root)
    assert not left.exists()
    assert not hidden(cache)


def test_what_a_builder_at_work_wrote_so_far_stays(root: Path, data_set: WriteDataSet) -> None:
    """Another data set's builder cleans up behind dead ones only."""
    process = builder(root, slow=0.3)
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    while process.stdout.readline() != "2\n":
        pass
    other = data_set(root.parent / "other", 2, 2)
    scanned(other)
    assert hidden(root.parent / "cache")
    assert process.communicate()[0].split()[-1] == "2"  # both entries, published


def test_two_builders_at_once_share_the_work(root: Path) -> None:
    processes = [builder(root, slow=0.02) for _ in range(2)]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate()[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0][-1] == outputs[1][-1]
    assert outputs[0][-1].endswith(" 2")
    numbers = sorted(int(line) for lines in outputs for line in lines if line.isdigit())
    assert len(numbers) == TRAIN + VAL  # each tile in one of them
    assert any("waiting for another run" in line for lines in outputs for line in lines)


def test_ctrl_c_leaves_no_unfinished_folder(root: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(config_of(root), progress=interrupt)
    assert not hidden(root.parent / "cache")
    assert not entries(root)
    assert scanned(root).store("train", config_of(root)).decoded


def test_mistakes_in_the_tiles_leave_no_unfinished_folder(root: Path, reads: Counted) -> None:
    broken = root / "val" / "images" / "001.png"
    intact = broken.read_bytes()
    broken.write_bytes(intact[:60])
    for _ in range(2):
        with pytest.raises(InputError, match=r"001\.png"):
            scanned(root)
    assert not hidden(root.parent / "cache")
    reads.tiles.clear()
    broken.write_bytes(intact)
    scanned(root)
    assert len(reads.tiles) == VAL  # the sound split was kept
