"""Messages for each mistake in a space file."""

from __future__ import annotations

import pytest


def test_all_mistakes_of_a_file_are_reported_together(mistakes_of):
    text = """\
        clases: [1]
        run:
          epoch: 3
          lr: -1
        space:
          encoder: []
          loss: [dice, dicee]
          batch_size: {low: 3, high: 1}
        search:
          trails: 3
        """
    assert mistakes_of(text) == [
        "s.yaml:1: clases: unknown key 'clases'; did you mean 'classes'?",
        "s.yaml:3: run.epoch: unknown setting 'epoch'; did you mean 'epochs'?",
        "s.yaml:4: run.lr: must be greater than 0, but got -1",
        "s.yaml:6: space.encoder: has no values; list at least one",
        "s.yaml:7: space.loss: unknown loss 'dicee' (known: dice, jaccard, tversky, focal_tversky, lovasz, "
        "mcc, focal, ce, bce, boundary_ce, boundary, and sums such as dice+bce or 0.7*dice+0.3*ce); did you mean "
        "'dice'?",
        "s.yaml:8: space.batch_size: `low <= high` must hold, but got (low=3, high=1)",
        "s.yaml:10: search.trails: unknown setting 'trails'; did you mean 'trials'?",
    ]


MISTAKES = {
    "empty file": ("", "s.yaml: expected a mapping with run: and space:, but got nothing"),
    "not a mapping": ("- 1", "s.yaml: expected a mapping with run: and space:, but got [1]"),
    "no space": ("run:\n  epochs: 3", "s.yaml:1: space: nothing is searched"),
    "empty space": ("run: {}\nspace:", "s.yaml:2: space: nothing is searched"),
    "space of single values": (
        "space: {lr: 0.1}",
        "s.yaml:1: space: nothing is searched: one value is given",
    ),
    "space is a list": ("run:\nspace: []", "s.yaml:2: space: expected a mapping of settings, but got []"),
    "run is a number": ("space: {lr: [1]}\nrun: 3", "s.yaml:2: run: expected a mapping of settings"),
    "search is a word": ("space: {lr: [1]}\nsearch: asha", "s.yaml:2: search: expected a mapping"),
    "setting at the top": ("encoder: x\nspace: {lr: [1]}", "s.yaml:1: encoder: does not belong at the top"),
    "key that is no word": ("1: x\nspace: {lr: [1]}", "s.yaml:1: 1: unknown key 1"),
    "data in run": ("space: {lr: [1]}\nrun:\n  classes: [1]", "s.yaml:3: run.classes: describes the data"),
    "value in run": (
        "space: {lr: [1]}\nrun:\n  model: unett",
        "s.yaml:3: run.model: 'unett' is not one of unet,",
    ),
    "a word for a list": (
        "channels: nir\nspace: {lr: [1]}",
        "s.yaml:1: channels: must be a valid list",
    ),
    "unknown searched": (
        "space:\n  encodr: [a]",
        "space.encodr: unknown setting 'encodr'; did you mean 'encoder'?",
    ),
    "value in a list": ("space:\n  model:\n  - unet\n  - fnp", "s.yaml:4: space.model: 'fnp' is not one of"),
    "value of a branch": (
        "space:\n  optimizer:\n    sgdd: {}",
        "s.yaml:3: space.optimizer: 'sgdd' is not one of",
    ),
    "inside a branch": (
        "space:\n  optimizer:\n    sgd:\n      momentum: [0.5, 1.5]",
        "s.yaml:4: space.optimizer.sgd.momentum: must be less than 1, but got 1.5",
    ),
    "unknown in a branch": (
        "space:\n  optimizer:\n    sgd: {\n      momentun: [1]}",
        "s.yaml:4: space.optimizer.sgd.momentun: unknown setting 'momentun'; did you mean 'momentum'?",
    ),
    "branch of a word": (
        "space:\n  optimizer: {sgd: fast}",
        "s.yaml:2: space.optimizer.sgd: expected a mapping of settings",
    ),
    "empty mapping": ("space:\n  optimizer: {}", "s.yaml:2: space.optimizer: has no values"),
    "twice in a list": ("space:\n  lr: [0.1,\n    0.10]", "s.yaml:3: space.lr: 0.1 is listed twice"),
    "alias twice": ("space:\n  model: [unet++, unetplusplus]", "space.model: 'unetplusplus' is listed twice"),
    "log from zero": (
        "space:\n  weight_decay: {low: 0, high: 1, log: true}",
        "s.yaml:2: space.weight_decay: a log range needs `low > 0`, but got (low=0, high=1)",
    ),
    "bound refused": (
        "space:\n  lr:\n    low: 0\n    high: 1",
        "s.yaml:3: space.lr.low: must be greater",
    ),
    "bound is a word": (
        "space: {lr: {low: a, high: 1}}",
        "space.lr.low: must be a valid number, but got 'a'",
    ),
    "bound is endless": (
        "space: {lr: {low: 1, high: .inf}}",
        "space.lr.high: must be a finite number, but got inf",
    ),
    "bound is null": ("space: {image_size: {low: null, high: 64}}", "space.image_size.low: must be a number"),
    "bound is missing": (
        "space:\n  lr: {low: 1}",
        "s.yaml:2: space.lr: a range needs low and high, but high is missing",
    ),
    "whole numbers": (
        "space: {epochs: {low: 1.5, high: 3}}",
        "space.epochs.low: must be a valid integer",
    ),
    "range of words": (
        "space:\n  encoder: {low: 1, high: 2}",
        "s.yaml:2: space.encoder: is not a number, so it cannot have",
    ),
    "unknown range key": (
        "space:\n  lr:\n    low: 1\n    hihg: 2\n    high: 2",
        "s.yaml:4: space.lr.hihg: unknown key 'hihg' in a range; did you mean 'high'?",
    ),
    "log is a word": (
        "space: {lr: {low: 1, high: 2, log: yes}}",
        "space.lr.log: must be true or false, but got 'yes'",
    ),
    "step of zero": (
        "space: {lr: {low: 1, high: 2, step: 0}}",
        "space.lr.step: must be a number above 0, but got 0",
    ),
    "broken step": (
        "space: {epochs: {low: 1, high: 2, step: 0.5}}",
        "epochs.step: must be a whole number above 0",
    ),
    "log and step": ("space: {lr: {low: 1, high: 2, step: 1, log: true}}", "a range has either log or step"),
    "step misses high": (
        "space: {epochs: {low: 1, high: 10, step: 4}}",
        "space.epochs: steps of 4 from 1 miss high=10; the last one is 9",
    ),
    "classes searched": (
        "space:\n  classes: [[1]]\n  lr: [1]",
        "s.yaml:2: space.classes: results are comparable only",
    ),
    "seed searched": ("space:\n  seed: [1, 2]\n  lr: [1]", "the same in all trials; put it under run:"),
    "fixed and searched": (
        "run:\n  lr: 1\nspace:\n  lr: [1]",
        "s.yaml:4: space.lr: is fixed already by run.lr (line 2); keep one of the two",
    ),
    "fixed and in a branch": (
        "run:\n  lr: 1\nspace:\n  optimizer:\n    sgd: {lr: [1]}",
        "s.yaml:5: space.optimizer.sgd.lr: is fixed already by run.lr (line 2)",
    ),
    "channels twice": ("channels: [a]\nspace:\n  channels: [[a]]", "is fixed already by channels (line 1)"),
    "top and branch": (
        "space:\n  lr: [1]\n  optimizer:\n    sgd: {lr: [1]}",
        "s.yaml:4: space.optimizer.sgd.lr: is set twice: space.lr (line 2) sets it too",
    ),
    "two branches at once": (
        "space:\n  optimizer:\n    sgd: {lr: [1]}\n  model:\n    unet: {lr: 2}",
        "s.yaml:5: space.model.unet.lr: is set twice: space.optimizer.sgd.lr (line 3) sets it too",
    ),
    "branch of itself": (
        "space: &all\n  optimizer:\n    sgd: *all",
        "s.yaml:2: space.optimizer.sgd.optimizer: is set twice: its own branch",
    ),
    "impossible value": (
        "classes: [1, 2, 3]\nspace:\n  loss:\n  - ce\n  - bce",
        "s.yaml:5: space.loss: loss 'bce' is for a single class, but classes lists 3",
    ),
    "impossible branch": (
        "run: {device: cpu}\nspace:\n  model:\n    unet:\n      precision: [fp32, fp16]",
        "s.yaml:5: space.model.unet.precision: precision fp16 needs a GPU, but device is cpu",
    ),
    "impossible bound": (
        "run: {warmup_epochs: 5}\nspace:\n  epochs:\n    low: 5\n    high: 9",
        "s.yaml:4: space.epochs: warmup_epochs must be below epochs, but got (warmup_epochs=5, epochs=5)",
    ),
    "impossible together": (
        "run: {device: cpu}\nspace:\n  precision:\n    fp16:\n      lr: [1]",
        "s.yaml:4: space.precision: precision fp16 needs a GPU",
    ),
    "clash of fixed ones": (
        "classes: [1]\nignore: [1]\nspace:\n  lr: [1, 2]",
        "s.yaml:2: ignore: classes and ignore both contain 1",
    ),
    "clash in run": (
        "space: {lr: [1]}\nrun:\n  warmup_epochs: 60",
        "s.yaml:3: run.warmup_epochs: warmup_epochs must be below epochs, but got (warmup_epochs=60, ",
    ),
    "unknown in baseline": (
        "space: {lr: [1]}\nbaseline:\n  lrr: 1",
        "s.yaml:3: baseline.lrr: unknown setting 'lrr'",
    ),
    "value in baseline": (
        "space: {lr: [1]}\nbaseline:\n  lr: 0",
        "s.yaml:3: baseline.lr: must be greater",
    ),
    "data in baseline": (
        "space: {lr: [1]}\nbaseline:\n  classes: [1]",
        "baseline.classes: is the same in all",
    ),
    "clash in baseline": (
        "classes: [1, 2]\nspace: {lr: [1]}\nbaseline:\n  loss: bce",
        "s.yaml:4: baseline.loss: loss 'bce' is for a single class",
    ),
    "value in search": (
        "space: {lr: [1]}\nsearch:\n  sampler: bayes",
        "s.yaml:3: search.sampler: 'bayes' is not one of tpe, random, grid",
    ),
    "early stopping of a run": (
        "run:\n  early_stopping: 3\nspace: {lr: [1]}",
        "s.yaml:2: run.early_stopping: is for single runs; a search has scheduler: asha",
    ),
    "early stopping in the space": (
        "space:\n  lr: [1]\n  early_stopping: [3, 5]",
        "s.yaml:3: space.early_stopping: is for single runs; a search has scheduler: asha",
    ),
    "early stopping of the baseline": (
        "space: {lr: [1]}\nbaseline:\n  early_stopping: 3",
        "s.yaml:3: baseline.early_stopping: is the same in all trials, the baseline included",
    ),
    "compare with asha": (
        "space: {lr: [1]}\nsearch:\n  sampler: grid\n  compare: lr",
        "s.yaml:4: search.compare: compare needs sampler grid and scheduler none, but got (sampler=grid",
    ),
    "compare what is fixed": (
        "space: {lr: [1]}\nsearch: {sampler: grid, scheduler: none, compare: epochs}",
        "s.yaml:2: search.compare: 'epochs' is not a list of values at the top of space: (known: lr)",
    ),
    "compare unequal ones": (
        "space: {loss: {ce: {lr: [1, 2]}, dice: {}}}\nsearch: {sampler: grid, scheduler: none, compare: loss}",
        "s.yaml:2: search.compare: needs equally many combinations in the branches of loss, but ce has 2, dice has 1",
    ),
    "one and a half GPUs": ("space: {lr: [1]}\nsearch: {gpus_per_trial: 1.5}", "must be a fraction of one GPU"),
    "key twice": (
        "space:\n  lr: [1]\n  loss: [ce]\n  lr: [2]",
        "s.yaml:4: lr: stands in the same mapping twice (first on line 2)",
    ),
    "unclosed list": (
        "space:\n  lr: [1,\nrun: {}",
        "s.yaml:3: expected ',' or ']', but got '<stream end>' (while parsing a flow",
    ),
    "tab": ("space:\n\tlr: [1]", "s.yaml:2: found character '\\t' that cannot start any token"),
    "python object": (
        "space:\n  lr: !!python/name:os.system ''",
        "s.yaml:2: could not determine a constructor",
    ),
    "bad tag": ("space:\n  lr: !!int x", "s.yaml:2: cannot read this as int"),
    "huge tag": (f"space:\n  lr: !!float '{'1:' * 200}1'", "s.yaml:2: cannot read this as float"),
    "control character": ("space:\n  lr: \x01", "s.yaml:2: special characters are not allowed"),
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_mistake(mistakes_of, text, expected):
    (mistake,) = mistakes_of(text)
    assert mistake.startswith("s.yaml:")
    assert expected in mistake


def test_a_wrong_setting_causes_no_other_mistakes(mistakes_of):
    text = "run:\n  warmup_epochs: 60\n  epochs: many\nspace: {lr: [1]}"
    assert len(mistakes_of(text)) == 1
    text = "classes: [1, 2, x]\nspace: {loss: [bce]}"
    assert [mistake[:9] for mistake in mistakes_of(text)] == ["s.yaml:1:"]


def test_repeated_keys_are_reported_with_other_mistakes(mistakes_of):
    mistakes = mistakes_of("space:\n  lr: [-1]\nrun:\n  epochs: 1\n  epochs: 2")
    assert [mistake.split(":")[1] for mistake in mistakes] == ["2", "5"]


def test_a_value_listed_twice_with_different_branches(mistakes_of):
    text = "space:\n  optimizer:\n    sgd: {lr: [1, 2]}\n    SGD: {lr: [1]}\n    adam: {lr: [1]}"
    assert mistakes_of(text) == ["s.yaml:4: space.optimizer: 'sgd' is listed twice"]
