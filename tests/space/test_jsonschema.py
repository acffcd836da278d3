"""The JSON Schema of search spaces accepts what `load_space` accepts, as far as a schema can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from segtune.cli.tasks import SPACES
from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.fields import DATA_SETTINGS, NOT_SEARCHABLE
from segtune.files.yamlfile import parse_yaml, read_yaml
from segtune.space.jsonschema import schema_text, space_schema
from segtune.space.reader import load_space
from segtune.space.settings import SearchSettings
from tests.scripts import status_of
from tests.space.spaces import DEEP, FULL, TREE

VALIDATOR = jsonschema.Draft7Validator(space_schema())
SHIPPED = sorted(SPACES.glob("*.yaml"))


def as_json(content: Any) -> Any:
    """What an editor validates: keys of JSON are texts."""
    if isinstance(content, dict):
        return {key if isinstance(key, str) else json.dumps(key): as_json(value) for key, value in content.items()}
    return [as_json(value) for value in content] if isinstance(content, list) else content


def accepted(text: str) -> bool:
    return VALIDATOR.is_valid(as_json(parse_yaml(text)))


def test_the_stored_schema_is_current() -> None:
    path = SPACES / "space.schema.json"
    assert path.read_text(encoding="utf-8") == schema_text(), f"run_search.py --write-schema {path} writes it anew"
    jsonschema.Draft7Validator.check_schema(space_schema())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_spaces_are_valid_and_name_the_schema(path: Path) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(as_json(read_yaml(path)))] == []
    assert "# yaml-language-server: $schema=space.schema.json\n" in path.read_text(encoding="utf-8")


def test_every_setting_has_its_description_in_all_sections() -> None:
    schema = space_schema()
    sections = schema["properties"]
    searched = schema["definitions"]["searched"]["properties"]
    for name, field in RunConfig.model_fields.items():
        places = [sections if name in DATA_SETTINGS else sections["run"]["properties"]]
        if name not in NOT_SEARCHABLE:
            places += [searched, sections["baseline"]["properties"], sections["forbid"]["items"]["properties"]]
            places += [sections["prior"]["properties"]]
        assert all(place[name]["description"] == field.description for place in places)
    assert searched.keys() == RunConfig.model_fields.keys() - NOT_SEARCHABLE
    for name, field in SearchSettings.model_fields.items():
        assert sections["search"]["properties"][name]["description"] == field.description


ACCEPTED = [
    FULL,
    TREE + "forbid:\n- {model: [segformer, fpn], encoder: vgg*}\n- {optimizer: sgd, lr: 0.3}\n",
    DEEP,
    FULL + "baseline: {lr: 2e-5, encoder: resnet50}",
    "space: {model: {unet: {encoder: [resnet18]}, fpn: {encoder: [resnet18, resnet34]}}}",
    "space: {optimizer: {sgd: {lr_schedule: {poly: {lr: [0.1]}, constant: null}, momentum: 0.5}, adam: {}}}",
    "space: {encoder: resnet18, lr: [1e-5, 1E-3]}",
    "space: {channels: [[], [nir]], image_size: [null, 64], model: [unet++, deeplabv3+]}",
    "space: {batch_size: {4: {lr: [0.1]}, 8: {}}, image_size: {null: {}, 64: {epochs: [60]}}}",
    "dataset: off\nspace: {augmentation: [none, safe]}\nrun: {encoder_weights: none}",
    "space: {lr: {0.1: {momentum: [0.5]}, 1e-3: {}}, loss: [dice + bce, focal+mcc]}",
    "space: {lr: {low: 0.1, high: 0.3, step: 0.1}, batch_size: {low: 1, high: 64, log: true}}",
    "space: {weight_decay: {low: 0, high: 1, log: false, step: null}}\nrun:\nbaseline:\nsearch:\nforbid:",
    "space: {channels: [[], [nir]], loss: [ce, dice]}\nforbid: [{channels: [[nir]], loss: ce}]",
    "space: {loss: [ce, dice, dice+ce]}\nforbid: [{loss: '*+*'}]",
    "space: {augmentation: [hard, a/My.YAML, t.json], mix: {none: {}, cutmix: {mix_probability: [0.3, 1]}}}",
    "classes: [1, 2, 3]\nspace: {loss: [ce], class_weights: [none, balanced, [1, 5, 2], '0.5, 1, 1']}",
    "classes: [1, 2, 3]\nspace: {loss: {dice: {}, 0.7*dice+0.3*ce: {class_weights: [effective, [1, 5e-1, 2]]}}}",
    "space: {augmentation: {hard: {}, my.yml: {lr: [0.1]}}}",
    "ignore: none\nspace: {channels: [none, [nir]]}",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_a_space_that_is_read_is_valid(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    space = load_space(tmp_path / "s.yaml")
    assert accepted(text)
    assert accepted(yaml.safe_dump(space.dump()))


REFUSED = [
    "clases: [1]\nspace: {lr: [1]}",
    "run: {epoch: 3}\nspace: {lr: [1]}",
    "run: {classes: [1]}\nspace: {lr: [1]}",
    "run: {model: unett}\nspace: {lr: [1]}",
    "run: {epochs: many}\nspace: {lr: [1]}",
    "run: {epochs: 0}\nspace: {lr: [1]}",
    "run: 3\nspace: {lr: [1]}",
    "run: {epochs: 3}",
    "space:",
    "space: {encodr: [a]}",
    "space: {seed: [1, 2]}",
    "space: {encoder: []}",
    "space: {model: [unet, fnp]}",
    "space: {model: fnp}",
    "space: {loss: [dice, dicee]}",
    "space: {loss: [dice+]}",
    "space: {loss: [ce], class_weights: [none, balance]}",
    "space: {loss: [ce], class_weights: [[1, -5]]}",
    "space: {loss: [ce], class_weights: [[]]}",
    "space: {augmentation: [hard, harder]}",
    "space: {augmentation: [my.txt]}",
    "space: {mix: [none, cutmixx]}",
    "space: {mix_probability: [0]}",
    "space: {optimizer: {sgdd: {}}}",
    "space: {optimizer: {sgd: fast}}",
    "space: {optimizer: {sgd: {momentun: [1]}}}",
    "space: {optimizer: {sgd: {momentum: [0.5, 1.5]}}}",
    "space: {optimizer: {}}",
    "space: {lr: [-1]}",
    "space: {lr: {low: 1}}",
    "space: {lr: {low: 1, high: 2, hihg: 3}}",
    "space: {lr: {low: 0, high: 1}}",
    "space: {lr: {low: 1, high: 2, log: yes}}",
    "space: {lr: {low: 1, high: 2, step: 0}}",
    "space: {lr: {low: 1, high: 2, step: 1, log: true}}",
    "space: {epochs: {low: 1.5, high: 3}}",
    "space: {epochs: {low: 1, high: 2, step: 0.5}}",
    "space: {image_size: {low: null, high: 64}}",
    "space: {encoder: {low: 1, high: 2}}",
    "space: {channels: [nir]}",
    "space: {lr: [1]}\nsearch: {trails: 3}",
    "space: {lr: [1]}\nsearch: {trials: 0}",
    "space: {lr: [1]}\nsearch: {sampler: bayes}",
    "space: {lr: [1]}\nsearch: {gpus_per_trial: -1}",
    "space: {lr: [1]}\nbaseline: {classes: [1]}",
    "space: {model: [unet, fpn]}\nforbid: {model: fpn}",
    "space: {model: [unet, fpn]}\nforbid: [{}]",
    "space: {model: [unet, fpn]}\nforbid: [{modle: fpn}]",
    "space: {model: [unet, fpn]}\nforbid: [{model: fnp}]",
    "space: {model: [unet, fpn]}\nforbid: [{seed: 3}]",
    "space: {lr: [1, 2]}\nforbid: [{lr: {low: 1, high: 2}}]",
]


@pytest.mark.parametrize("text", REFUSED)
def test_a_space_that_is_refused_is_not_valid(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        load_space(tmp_path / "s.yaml")
    assert not accepted(text)


def test_the_schema_is_written_without_a_space(tmp_path: Path) -> None:
    path = tmp_path / "space.schema.json"
    assert status_of("run_search", "--write-schema", path) == 0
    assert json.loads(path.read_text(encoding="utf-8")) == space_schema()
