"""The model card: README.md of a model's folder, in Markdown, with the metadata that the Hugging Face hub reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from segtune.errors import counted, printable
from segtune.files.atomic import CARD, MANIFEST, write_text
from segtune.models.manifest import THRESHOLD, Manifest
from segtune.objectives import MIOU

_TAGS = ("semantic-segmentation", "segmentation-models-pytorch", "pytorch", "segtune")
_WEIGHTS = {"none": "random weights", "imagenet": "ImageNet weights"}
_INPUT, _PREDICTED = "- the network's input: ", "- predicted: "
_PREDICTION = re.compile(f"^({_INPUT}.*)(\n{_PREDICTED}.*)?$", re.MULTILINE)
_USE = """\
## Use

`FOLDER` is this folder. Arrays are (H, W, bands), as the tiles store them; paths work too:

```python
import segtune

model = segtune.load("FOLDER")
result = model.predict("IMAGE.tif")  # result.labels, result.probabilities
```

Measure it on tiles with masks, or predict images and scenes:

```bash
python validate.py -cd FOLDER -d DATASET/test
```

The network alone, for input that is normalized as `run.yaml` says:

```python
import segmentation_models_pytorch as smp

network = smp.from_pretrained("FOLDER")
```
"""


def model_card(manifest: Manifest, trials: int | None = None, fresh_seed: bool = False) -> str:
    """Return the card of a model; `trials` is how many trials with a score it is the best of, None for a single run.

    `fresh_seed`: the best trial was trained again with other seeds, and this is the model of one of them.
    """
    config, miou = manifest.config, manifest.metrics.get("miou")
    name = printable(Path(config.dataset).name) or "tiles"
    size = f"{config.image_size} x {config.image_size} pixels, fit `{config.fit}`"
    tiles = ", ".join(f"{number} {_code(split)}" for split, number in manifest.tiles.items())
    resolution = f", {manifest.resolution:.3g} m per pixel" if manifest.resolution else ""
    kind = "uint8" if manifest.uint8 else "16-bit or float"
    return "\n".join(
        [
            "---",
            _metadata(manifest, name, miou),
            "---",
            "",
            f"# {config.model} with {_code(config.encoder)}, trained on {_code(name)}",
            "",
            f"A network for semantic segmentation with {manifest.parameters:,} parameters, trained by segtune. Its "
            f"encoder started from {_WEIGHTS.get(config.encoder_weights) or _code(Path(config.encoder_weights).name)}.",
            "",
            *_score_lines(manifest, trials, fresh_seed),
            "## Data",
            "",
            f"- data set: {_code(name)} ({tiles or 'unknown number of'} tiles{resolution}), fingerprint "
            f"`{manifest.fingerprint}`",
            f"- bands, in this order, {kind}: {', '.join(_code(band.name) for band in manifest.bands)}",
            f"{_INPUT}{size}",
            _prediction_line(manifest),
            "",
            _USE,
        ]
    )


def write_card(folder: Path, trials: int | None = None, fresh_seed: bool = False) -> None:
    """Write the card of a model into its folder, unless it is there already; `trials`, `fresh_seed`: see `model_card`.

    Raises InputError where run.yaml is damaged.
    """
    text, path = model_card(Manifest.read(folder / MANIFEST), trials, fresh_seed), folder / CARD
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_text(path, text)


def update_card(folder: Path) -> None:
    """Let the card of a model say the threshold and smallest area of its run.yaml; nothing where there is no card."""
    path = folder / CARD
    if path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace")
        line = _prediction_line(Manifest.read(folder / MANIFEST))
        write_text(path, _PREDICTION.sub(lambda found: f"{found[1]}\n{line}", text, count=1))


def _prediction_line(manifest: Manifest) -> str:
    """Return the line about the model's threshold and smallest area, which may have been stored after the training."""
    threshold, area = manifest.threshold, manifest.min_area
    above = (
        f"the class, where its probability is above {threshold:g}" if manifest.labels.binary else "the likeliest class"
    )
    removed = f"; objects of fewer than {area} pixels are removed" if area else ""
    changed = (threshold if manifest.labels.binary else THRESHOLD, area) != (THRESHOLD, 0)
    stored = f" (chosen after the training; the score above is with {THRESHOLD:g} and all objects)" if changed else ""
    return f"{_PREDICTED}{above}{removed}{stored}"


def has_metadata(folder: Path) -> bool:
    """Return whether the card in a folder has the metadata that the hub reads; those of older releases have none."""
    card = folder / CARD
    return card.is_file() and card.read_text(encoding="utf-8", errors="replace").startswith("---\n")


def _metadata(manifest: Manifest, name: str, miou: float | None) -> str:
    """Return the YAML between the card's two lines of dashes."""
    found: Mapping[str, Any] = {}
    if miou is not None:
        result = EvalResult(
            task_type="image-segmentation",
            dataset_type=name,
            dataset_name=name,
            metric_type="mean_iou",
            metric_name="mIoU on the validation tiles",
            metric_value=round(miou, 4),
        )
        found = {"model_name": f"{manifest.config.model} {manifest.config.encoder}", "eval_results": [result]}
    data = ModelCardData(
        library_name="segmentation-models-pytorch", pipeline_tag="image-segmentation", tags=list(_TAGS), **found
    )
    return str(data.to_yaml(line_break="\n")).strip()


def _score_lines(manifest: Manifest, trials: int | None, fresh_seed: bool) -> list[str]:
    """Return the section with the scores, and what they are worth."""
    labels, metrics = manifest.labels, manifest.metrics
    low, high = metrics.get("miou_low"), metrics.get("miou_high")
    interval = ""
    if low is not None and high is not None:  # older releases wrote none
        interval = f" (95% interval {low:.4f} to {high:.4f}, by bootstrap over tiles)"
    classes = [f"- {_code(labels.text(label))}: IoU {_score(metrics.get(f'iou/{label}'))}" for label in labels.classes]
    if (background := metrics.get("iou/background")) is not None:
        classes.append(f"- background: IoU {_score(background)}, not in the mean")
    best = "the best epoch of its run"
    if trials is not None:
        again = " after training again with a fresh seed" if fresh_seed else ""
        best = f"the best epoch of the best of {counted(trials, 'trial')}{again}"
    return [
        "## Score",
        "",
        f"mIoU {_score(metrics.get('miou'))} on the validation tiles{interval}, the mean over the classes, which are "
        f"named by their labels in the masks:",
        "",
        *classes,
        "",
        f"The model is {best}, chosen by {_chosen_by(manifest)} on these tiles, so the score is optimistic: measure "
        f"it on tiles that were never used.",
        "",
    ]


def _chosen_by(manifest: Manifest) -> str:
    objective = manifest.config.objective
    return "this score" if objective == MIOU else f"{_code(objective)}, which is {_score(manifest.score)}"


def _score(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _code(name: object) -> str:
    """Return a name from outside as a Markdown code span: no character in it is markup."""
    text = printable(name)
    longest = max(map(len, re.findall("`+", text)), default=0)
    space = " " if longest else ""
    return f"{'`' * (longest + 1)}{space}{text}{space}{'`' * (longest + 1)}"
