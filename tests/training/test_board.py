"""What TensorBoard shows of a run: tags, charts, pictures."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from segtune.files.folders import RunFolder
from segtune.pictures.png import jpeg_within
from segtune.training.runlog import read_rows
from tests.training.runs import other, run, small_pspnet

MOST = 64 * 1024


@pytest.fixture(scope="module")
def shown(seven: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EventAccumulator]:
    """A single run of two epochs with two validation sets, and its events."""
    folder = tmp_path_factory.mktemp("board")
    shutil.copytree(seven / "val", folder / "north")
    named = {"classes": [255], "class_names": ["roof"], "add_val_dirs": [str(folder / "north")]}
    run(small_pspnet(seven, epochs=2, worst=2, **named), folder / "run", each_epoch=True)
    return folder / "run", EventAccumulator(str(folder / "run"), {"images": 0}).Reload()


def charts(events: EventAccumulator) -> dict[str, list[str]]:
    """The tags that each chart of the Custom Scalars page shows."""
    (event,) = events.Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    tags = events.Tags()["scalars"]
    return {
        chart.title: sorted(tag for tag in tags if any(re.match(pattern, tag) for pattern in chart.multiline.tag))
        for category in layout.category
        for chart in category.chart
    }


def test_charts_show_all_sets_losses_classes_and_speed(shown: tuple[Path, EventAccumulator]) -> None:
    assert charts(shown[1]) == {
        "mIoU of all validation sets": ["miou", "miou/add_val/north"],
        "mIoU in validation and in training": ["miou", "miou/train"],
        "IoU per class": ["iou/255 roof", "iou/background"],
        "loss in training and in validation": ["loss", "loss/val"],
        "learning rate": ["lr"],
        "images per second": ["speed/images_per_second"],
        "share of the time that training waits for data": ["speed/waiting_share"],
    }


def test_curves_have_the_numbers_of_metrics_csv(shown: tuple[Path, EventAccumulator]) -> None:
    folder, events = shown
    columns = {"loss/val": "val_loss", "miou/train": "train_miou", "miou/add_val/north": "add_val/north/miou"}
    for tag, column in columns.items():
        wanted = [float(row[column]) for row in read_rows(RunFolder(folder))]
        assert [event.value for event in events.Scalars(tag)] == pytest.approx(wanted, rel=1e-6)


def test_a_single_run_shows_the_worst_tiles_of_each_epoch(shown: tuple[Path, EventAccumulator]) -> None:
    _, events = shown
    assert events.Tags()["images"] == ["training/augmented", "worst/val"]
    assert [event.step for event in events.Images("worst/val")] == [1, 2]
    assert [event.step for event in events.Images("training/augmented")] == [0]
    for event in (*events.Images("worst/val"), *events.Images("training/augmented")):
        assert len(event.encoded_image_string) <= MOST
        picture = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape[:2] == (event.height, event.width)


def test_a_trial_shows_the_worst_tiles_of_its_best_epoch(seven: Path, tmp_path: Path) -> None:
    config = small_pspnet(seven, epochs=2, worst=1)
    results = run(config, tmp_path)
    events = EventAccumulator(str(tmp_path), {"images": 0}).Reload()
    assert [event.step for event in events.Images("worst/val")] == [results[-1].best_epoch]


def test_worst_0_draws_nothing(seven: Path, tmp_path: Path) -> None:
    run(other(small_pspnet(seven, epochs=1), worst=0), tmp_path, each_epoch=True)
    assert EventAccumulator(str(tmp_path)).Reload().Tags()["images"] == []


@pytest.mark.parametrize("shape", [(40, 60, 3), (900, 700, 3), (3000, 400, 3)])
def test_a_jpeg_is_as_small_as_asked_for(shape: tuple[int, ...]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data, size = jpeg_within(MOST, noise)
    assert len(data) <= MOST
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2] == size
    assert (size == shape[:2]) == (shape[0] == 40)
