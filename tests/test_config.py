"""RunConfig: strict, documented, and all of its mistakes reported at once."""

from __future__ import annotations

import itertools
import json
import pickle
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.fields import base_type, check_setting, choices
from segtune.mistakes import SettingsError
from segtune.vocabulary import LOSSES

FIELDS = tuple(RunConfig.model_fields)


def mistakes(**settings: object) -> list[str]:
    """Return the mistakes that from_settings reports for these settings."""
    with pytest.raises(InputError) as caught:
        RunConfig.from_settings(settings)
    return caught.value.mistakes


def test_defaults_are_valid() -> None:
    config = RunConfig()
    assert config == RunConfig.from_settings({})
    assert (config.classes, config.ignore, config.channels) == ([255], [], [])


@pytest.mark.parametrize("name", ["add_val_dirs", "channels", "class_names", "ignore", "rgb"])
def test_none_is_an_empty_list(name: str) -> None:
    assert getattr(RunConfig.from_settings({name: "none"}), name) == []
    assert check_setting(name, "None") == []


def test_there_is_always_a_class() -> None:
    assert mistakes(classes="none") == ["classes: must be a valid list, but got 'none'"]


def test_each_default_passes_the_check_of_its_own_setting() -> None:
    for name, value in RunConfig().settings().items():
        assert check_setting(name, value) == value, name


def test_every_setting_has_a_description() -> None:
    for name, field in RunConfig.model_fields.items():
        assert field.description, name
        assert "\n" not in field.description, name


def test_settings_round_trip_through_yaml_and_json() -> None:
    config = RunConfig(classes=[1, 2], ignore=[255], channels=["nir"], lr=1e-5, loss="dice+ce", image_size=64)
    settings = config.settings()
    assert tuple(settings) == FIELDS
    assert RunConfig.from_settings(settings) == config
    assert RunConfig.from_settings(json.loads(json.dumps(settings))) == config
    assert RunConfig.from_settings(yaml.safe_load(yaml.safe_dump(settings))) == config


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        RunConfig().lr = 1.0


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("deeplabv3+", "deeplabv3plus"),
        ("DeepLabV3+", "deeplabv3plus"),
        ("DeepLabV3Plus", "deeplabv3plus"),
        ("Unet++", "unetplusplus"),
        ("unet+", "unetplusplus"),
        ("UNET", "unet"),
        ("FPN", "fpn"),
    ],
)
def test_architectures_go_by_their_usual_names_in_any_case(given: str, meant: str) -> None:
    assert RunConfig(model=given).model == meant
    assert check_setting("model", given) == meant


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", "0.001"),
        ("epochs", "3"),
        ("epochs", True),
        ("epochs", 3.0),
        ("epochs", 0),
        ("lr", True),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("weight_decay", -0.1),
        ("momentum", 1.0),
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("image_size", 16),
        ("image_size", 8193),
        ("workers", -1),
        ("workers", "many"),
        ("workers", True),
        ("workers", 257),
        ("seed", -1),
        ("seed", 2**31),
        ("classes", []),
        ("classes", 255),
        ("classes", "255"),
        ("classes", [1, 1]),
        ("classes", ["1"]),
        ("classes", [True]),
        ("classes", [-(2**63) - 1]),
        ("classes", [2**63]),
        ("classes", list(range(255))),
        ("ignore", [3, 3]),
        ("channels", ["nir", "nir"]),
        ("channels", ["a/b"]),
        ("channels", [""]),
        ("channels", [".."]),
        ("images_dir", "a\\b"),
        ("dataset", None),
        ("encoder", 18),
        ("model", "unett"),
        ("model", 3),
        ("optimizer", "adamm"),
        ("loss", "dise"),
        ("loss", "dice+"),
        ("loss", "dice+dice"),
        ("loss", 1),
        ("precision", "fp64"),
        ("device", "gpu"),
        ("device", "cuda:x"),
        ("device", "cpu\n"),
        ("no_such_setting", 1),
    ],
)
def test_a_wrong_value_is_refused_with_one_line_that_names_the_setting(name: str, value: object) -> None:
    (message,) = mistakes(**{name: value})
    assert name in message
    assert "\n" not in message
    with pytest.raises(SettingsError) as caught:
        check_setting(name, value)
    assert caught.value.mistakes == [message]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 1),  # a whole number is a number
        ("image_size", None),
        ("image_size", 32),
        ("classes", [0, 65535, 2**32 - 1, -(2**31) + 1]),
        ("ignore", [-1, -100, 2**40]),
        ("nodata", -9999),
        ("nodata", -3.4028234663852886e38),
        ("classes", list(range(254))),
        ("loss", "+".join(LOSSES)),
        ("channels", ["nir", "höhe"]),
        ("device", "cuda:1"),
    ],
)
def test_check_setting_and_config_agree_on_what_is_right(name: str, value: object) -> None:
    assert getattr(RunConfig.from_settings({name: value}), name) == check_setting(name, value)


def test_spaces_and_order_in_a_sum_of_losses_do_not_matter() -> None:
    for text in ("dice + bce", "bce+dice", " bce + dice"):
        assert RunConfig(loss=text).loss == "dice+bce"
    sums = {RunConfig(loss="+".join(terms)).loss for terms in itertools.permutations(LOSSES[:4])}
    assert len(sums) == 1


@pytest.mark.parametrize(
    ("given", "suggested"),
    [("encodr", "encoder"), ("batchsize", "batch_size"), ("Loss", "loss"), ("zzz", None)],
)
def test_an_unknown_setting_gets_the_nearest_known_one(given: str, suggested: str | None) -> None:
    (message,) = mistakes(**{given: 1})
    assert repr(given) in message
    assert (f"did you mean {suggested!r}?" in message) if suggested else ("did you mean" not in message)


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("optimizer", "Adam", "adam"),
        ("optimizer", "AdamW", "adamw"),
        ("optimizer", "SGD", "sgd"),
        ("optimizer", "Lion", "lion"),
        ("lr_schedule", "OneCycle", "onecycle"),
        ("lr_schedule", "Cosine", "cosine"),
        ("loss", "Dice", "dice"),
        ("loss", "Dice+BCE", "dice+bce"),
        ("augmentation", "Hard", "hard"),
        ("augmentation", "Hard.YAML", "Hard.YAML"),
        ("augmentation", "a/my.json", "a/my.json"),
        ("mix", "CutMix", "cutmix"),
        ("precision", "FP32", "fp32"),
        ("fit", "Crop", "crop"),
        ("normalization", "Encoder", "encoder"),
        ("device", "CPU", "cpu"),
        ("encoder", "ResNet34", "resnet34"),
        ("encoder", "EfficientNet-B0", "efficientnet-b0"),
        ("encoder", "timm-efficientnet-b0", "timm-efficientnet-b0"),
        ("encoder", "timm-regnety_016", "tu-regnety_016"),
        ("encoder", "timm-resnest50d", "tu-resnest50d"),
        ("encoder", "timm-mobilenetv3_large_100", "tu-tf_mobilenetv3_large_100"),
        ("encoder_weights", "ImageNet", "imagenet"),
        ("encoder_weights", "None", "none"),
        ("encoder_weights", "Weights.pth", "Weights.pth"),
    ],
)
def test_other_spellings_of_a_value_are_accepted(name: str, given: str, meant: str) -> None:
    assert check_setting(name, given) == meant
    assert getattr(RunConfig.from_settings({name: given}), name) == meant


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("lr_schedule", "CosineAnnealingLR", "cosine"),
        ("lr_schedule", "PolynomialLR", "poly"),
        ("lr_schedule", "ConstantLR", "constant"),
        ("loss", "DiceLoss", "dice"),
        ("loss", "CrossEntropyLoss", "ce"),
        ("loss", "BCEWithLogitsLoss", "bce"),
        ("loss", "IoU", "jaccard"),
        ("model", "DeepLabV3_Plus", "deeplabv3plus"),
    ],
)
def test_a_name_from_a_library_gets_a_suggestion(name: str, given: str, meant: str) -> None:
    (message,) = mistakes(**{name: given})
    assert message.endswith(f"did you mean {meant!r}?")
    assert name == "model" or repr(given) in message


@pytest.mark.parametrize(("given", "meant"), [("balancd", "balanced"), ("effectiv", "effective"), ("non", "none")])
def test_an_unknown_way_of_weighting_classes_gets_the_nearest(given: str, meant: str) -> None:
    assert mistakes(class_weights=given, loss="ce") == [
        f"class_weights: {given!r} is not one of none, balanced, effective; did you mean {meant!r}?"
    ]


def test_a_number_out_of_its_range_is_told_what_it_must_be() -> None:
    assert mistakes(mix_probability=0.0) == ["mix_probability: must be greater than 0, but got 0.0"]


def test_a_binary_loss_is_refused_for_several_classes_with_advice() -> None:
    (message,) = mistakes(classes=[1, 2], loss="bce")
    assert "ce is its multi-class form" in message


def test_an_unknown_value_gets_the_nearest_and_all_known_ones() -> None:
    (message,) = mistakes(model="segfromer")
    assert "did you mean 'segformer'?" in message
    assert all(name in message for name in choices("model"))
    (message,) = mistakes(loss="dice+jacard")
    assert "'jacard'" in message
    assert "did you mean 'jaccard'?" in message


def test_all_mistakes_are_reported_at_once() -> None:
    found = mistakes(lr="fast", epochs=True, encodr="resnet18", loss="dise", classes=[])
    assert len(found) == 5
    for name in ("lr", "epochs", "encodr", "loss", "classes"):
        assert sum(name in message.split(":")[0] or f"'{name}'" in message for message in found) == 1, name


def test_mistakes_name_the_file_they_were_found_in() -> None:
    with pytest.raises(InputError) as caught:
        RunConfig.from_settings({"lr": 0, "epochs": 0}, "run.yaml: ")
    assert all(message.startswith("run.yaml: ") for message in caught.value.mistakes)
    assert len(caught.value.mistakes) == 2


@pytest.mark.parametrize(
    ("settings", "names", "words"),
    [
        ({"classes": [1, 2], "ignore": [2, 3]}, "classes ignore", ("classes", "ignore", "2")),
        ({"epochs": 3, "warmup_epochs": 3}, "warmup_epochs epochs", ("warmup_epochs=3", "epochs=3")),
        ({"epochs": 3, "freeze_encoder_epochs": 3}, "freeze_encoder_epochs epochs", ("epochs=3",)),
        ({"classes": [1, 2], "loss": "dice+bce"}, "loss classes", ("loss", "bce", "classes", "ce")),
        ({"loss": "dice", "label_smoothing": 0.1}, "label_smoothing loss", ("ce, bce and boundary_ce", "dice")),
        ({"loss": "dice+focal", "label_smoothing": 0.1}, "label_smoothing loss", ("loss is dice+focal",)),
        ({"loss": "dice+lovasz", "class_weights": "balanced"}, "class_weights loss", ("focal, ce", "dice+lovasz")),
        ({"loss": "ce", "classes": [1, 2], "class_weights": "1,2,3"}, "class_weights classes", ("3", "1,2,3", "2")),
        ({"lr_decay": 0.5}, "lr_decay lr_schedule", ("step and plateau only", "lr_schedule is cosine")),
        ({"lr_patience": 3, "lr_schedule": "step"}, "lr_patience lr_schedule", ("changes plateau only", "is step")),
        ({"mix_probability": 0.7}, "mix_probability mix", ("cutmix and copy_paste only", "mix is none")),
        ({"precision": "fp16", "device": "cpu"}, "precision device", ("precision", "fp16", "device")),
        ({"batch_size": 3, "gpus": 4}, "batch_size gpus", ("batch_size=3", "gpus=4")),
        ({"channels": ["gt"]}, "channels images_dir masks_dir", ("channels", "gt")),
        ({"images_dir": "nir", "channels": ["nir"]}, "channels images_dir masks_dir", ("channels", "nir")),
        ({"masks_dir": "images"}, "images_dir masks_dir image_suffix mask_suffix", ("masks_dir", "image_suffix")),
        ({"use_only_add_val": True}, "use_only_add_val add_val_dirs", ("use_only_add_val", "add_val_dirs")),
    ],
)
def test_settings_that_do_not_go_together_are_refused_by_name(
    settings: dict[str, Any], names: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(SettingsError) as caught:
        RunConfig.from_settings(settings, "run.yaml: ")
    (mistake,) = caught.value.found
    assert mistake.settings == tuple(names.split())
    assert caught.value.mistakes == [f"run.yaml: {mistake.message}"]
    for word in words:
        assert word in mistake.message
    for name, value in settings.items():  # none of them is wrong alone
        assert check_setting(name, value) == value


def test_a_mistake_in_one_setting_names_it_and_survives_pickling() -> None:
    with pytest.raises(SettingsError) as caught:
        RunConfig.from_settings({"lr": 0, "epochs": 0}, "run.yaml: ")
    assert [mistake.settings for mistake in caught.value.found] == [("epochs",), ("lr",)]
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.found, again.mistakes) == (caught.value.found, caught.value.mistakes)


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 3, "warmup_epochs": 2},
        {"classes": [1, 2], "loss": "dice+ce"},
        {"classes": [1], "loss": "bce+mcc"},
        {"precision": "bf16", "device": "cpu"},
        {"lr_decay": 0.5, "lr_schedule": "step"},
        {"lr_decay": 0.1, "lr_patience": 5, "lr_schedule": "cosine"},
        {"mix_probability": 0.7, "mix": "cutmix"},
        {"momentum": 0.5, "optimizer": "adamw"},
        {"batch_size": 4, "gpus": 4},
        {"precision": "fp16", "device": "auto"},
        {"classes": [0, 255], "ignore": [1]},
    ],
)
def test_settings_that_just_go_together_are_accepted(settings: dict[str, Any]) -> None:
    assert RunConfig.from_settings(settings)


def test_base_types_and_choices_are_read_off_the_fields() -> None:
    names = ("lr", "epochs", "image_size", "classes", "channels", "dataset", "model")
    assert [base_type(name) for name in names] == [float, int, int, list, list, str, str]
    assert choices("mix") == ("none", "cutmix", "copy_paste")
    assert choices("lr") == ()
