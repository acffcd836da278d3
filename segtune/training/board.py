"""TensorBoard's view of a run: the tags of its curves, and the charts that its Custom Scalars page shows first."""

from __future__ import annotations

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import custom_scalars

from segtune.class_names import class_text
from segtune.config import RunConfig

# What stands before the first slash groups the curves on a page, in alphabetical order: losses, learning rate and
# scores come first.
_TAGS = {
    "val_loss": "loss/val",
    "train_miou": "miou/train",
    "best_miou": "miou/best",
    "best_score": "score/best",
    "miou_with_background": "miou/with_background",
    "images_per_second": "speed/images_per_second",
    "waiting_share": "speed/waiting_share",
    "best_epoch": "run/best_epoch",
    "micro_batch": "run/micro_batch",
    "collapsed_epochs": "run/collapsed_epochs",
}
_IOU, _MIOU = "iou/", "/miou"

METRICS = ("miou/best", "miou", "miou/train", "loss", "loss/val")  # the columns of the table of hyperparameters

_NO_SET = "train|best|with_background"
# Charts by category; the curves of each are given by patterns of tags, which are matched from the start of a tag.
_CHARTS = {
    "Scores": {
        "mIoU of all validation sets": [r"miou$", rf"miou/(?!({_NO_SET})$)"],
        "mIoU in validation and in training": [r"miou$", r"miou/train$"],
        "IoU per class": [r"iou/"],
    },
    "Loss": {"loss in training and in validation": [r"loss$", r"loss/val$"], "learning rate": [r"lr$"]},
    "Speed": {
        "images per second": [r"speed/images_per_second$"],
        "share of the time that training waits for data": [r"speed/waiting_share$"],
    },
}


def tag_of(column: str, config: RunConfig) -> str:
    """Return the tag of a column of metrics.csv; classes have their names in it."""
    if column in _TAGS:
        return _TAGS[column]
    if column.startswith(_IOU):
        return f"{_IOU}{class_text(column.removeprefix(_IOU), config.classes, config.class_names)}"
    if column.endswith(_MIOU):
        return f"miou/{column.removesuffix(_MIOU)}"
    return f"time/{column}" if column.endswith("seconds") else column


def layout() -> Summary:
    """Return the layout of the Custom Scalars page."""
    charts = {
        category: {title: ["Multiline", tags] for title, tags in charts.items()} for category, charts in _CHARTS.items()
    }
    summary: Summary = custom_scalars(charts)
    return summary
