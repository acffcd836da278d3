"""The model card: what it says, and that names from outside stay plain text in it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from torch import nn

import segtune
from segtune.models.card import has_metadata, model_card, update_card, write_card
from segtune.models.checkpoint import save_model
from segtune.models.manifest import Manifest


def headings(card: str) -> list[str]:
    tokens = MarkdownIt().parse(card.split("---\n", 2)[2])
    return [text.content for mark, text in pairwise(tokens) if mark.type == "heading_open"]


def blocks(card: str) -> list[str]:
    """The card's code in Python."""
    return [part.split("```")[0] for part in card.split("```python\n")[1:]]


def test_the_card_tells_what_the_model_is_and_what_its_score_is_worth(saved: Path) -> None:
    card = (saved / "README.md").read_text(encoding="utf-8")
    for part in (
        "# unet with `tu-mobilenetv3_small_050`, trained on `tiles`",
        "Its encoder started from",
        "mIoU 0.3333 on the validation tiles, the mean over",  # of a release that stored no interval
        "- `3`: IoU unknown",
        "the best epoch of its run, chosen by this score on these tiles, so the score is optimistic",
        "- data set: `tiles` (7 `train`, 2 `val` tiles), fingerprint `0123abcd`",
        "- bands, in this order, 16-bit or float: `image:1`, `image:2`, `image:3`, `höhe`",
        "- the network's input: 32 x 32 pixels, fit `resize`",
    ):
        assert part in card, card
    assert headings(card)[1:] == ["Score", "Data", "Use"]
    assert "More Information Needed" not in card


def test_the_interval_and_the_number_of_trials_are_said(manifest: Manifest) -> None:
    scores = {"miou": 0.5, "miou_low": 0.0, "miou_high": 0.61237, "iou/3": 0.4, "iou/300": 0.6, "iou/background": 0.9}
    card = model_card(manifest.with_metrics(scores), trials=16)
    assert "mIoU 0.5000 on the validation tiles (95% interval 0.0000 to 0.6124, by bootstrap over tiles)" in card
    assert "- `300`: IoU 0.6000\n- background: IoU 0.9000, not in the mean\n" in card
    assert "The model is the best epoch of the best of 16 trials, chosen" in card
    card = model_card(manifest.with_metrics(scores), trials=16, fresh_seed=True)
    assert "the best epoch of the best of 16 trials after training again with a fresh seed, chosen" in card


def test_the_hub_reads_the_metadata(saved: Path) -> None:
    data = ModelCard.load(saved / "README.md").data
    assert (data.library_name, data.pipeline_tag) == ("segmentation-models-pytorch", "image-segmentation")
    assert {"semantic-segmentation", "segtune"} <= set(data.tags)
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("mean_iou", 0.3333, "tiles")
    assert has_metadata(saved)


def test_a_model_without_a_score_has_a_card(manifest: Manifest) -> None:
    card = model_card(manifest.with_metrics({}))
    assert "mIoU unknown" in card
    assert ModelCard(card).data.eval_results is None


def test_the_code_of_the_card_loads_the_model(saved: Path) -> None:
    ours, network = blocks((saved / "README.md").read_text(encoding="utf-8").replace("FOLDER", str(saved)))
    found: dict[str, object] = {}
    exec(ours.split("result =")[0], found)
    assert isinstance(found["model"], segtune.Model)
    exec(network, found)
    assert isinstance(found["network"], nn.Module)
    assert found["smp"] is smp


NAMES = [
    "a\n# Heading",
    "<b>x</b>",
    "``",
    "`a``b",
    "[l](http://x)",
    "*a* _b_ |c|",
    "---",
    "a: {b",
    "\x1b[1m",
    "\u202egnp",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_from_outside_stay_plain_text(manifest: Manifest, name: str) -> None:
    config = manifest.config.model_copy(update={"dataset": f"/data/{name}", "encoder_weights": f"/w/{name}.pth"})
    labels = replace(manifest.labels, names=(name, f"{name} 2"))
    bands = tuple(replace(band, name=name) for band in manifest.bands)
    card = model_card(replace(manifest, config=config, labels=labels, bands=bands))
    plain = model_card(manifest)
    assert card.count("\n") == plain.count("\n")
    assert len(headings(card)) == len(headings(plain))
    html = MarkdownIt().render(card.split("---\n", 2)[2])
    assert not any(tag in html for tag in ("<b>", "<a ", "<em>", "<table", "<hr"))
    assert "\x1b" not in card
    (result,) = ModelCard(card).data.eval_results
    assert "\n" not in result.dataset_name


def test_a_stored_threshold_stands_in_the_card(tmp_path: Path, network: nn.Module, manifest: Manifest) -> None:
    labels = replace(manifest.labels, classes=(3,))
    config = manifest.config.model_copy(update={"classes": [3]})
    save_model(tmp_path, network, replace(manifest, labels=labels, config=config))
    card = tmp_path / "README.md"
    fresh = card.read_text(encoding="utf-8")
    assert "- predicted: the class, where its probability is above 0.5\n" in fresh
    older = "".join(line for line in fresh.splitlines(True) if not line.startswith("- predicted")) + "my notes\n"
    line = (
        "- predicted: the class, where its probability is above 0.35; objects of fewer than 8 pixels are removed "
        "(chosen after the training; the score above is with 0.5 and all objects)\n"
    )
    for before in (fresh, older):
        card.write_text(before, encoding="utf-8")
        Manifest.store_threshold(tmp_path / "run.yaml", 0.35, 8)
        update_card(tmp_path)
        after = card.read_text(encoding="utf-8")
        assert line in after
        assert after.count("- predicted:") == 1
        assert "my notes" in after or before == fresh
    write_card(tmp_path)
    assert line in card.read_text(encoding="utf-8")


def test_a_card_is_written_only_where_it_changes(saved: Path) -> None:
    write_card(saved)
    before = (saved / "README.md").stat().st_mtime_ns
    write_card(saved)
    assert (saved / "README.md").stat().st_mtime_ns == before
    write_card(saved, 3)
    assert "the best of 3 trials" in (saved / "README.md").read_text(encoding="utf-8")
