"""Models and states on disk: written whole or not at all, read without executing anything."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from segtune.config import RunConfig
from segtune.data.bands import Band
from segtune.data.labels import Labels
from segtune.errors import InputError
from segtune.files.atomic import discard_folder, recover_folder, replaced_folder, write_text
from segtune.files.folders import RunFolder, SearchFolder, find_model
from segtune.models.build import build_model, parameter_count
from segtune.models.checkpoint import Manifest, load_model, save_model
from segtune.training.state import load_state, save_state
from segtune.tuning.watchdog import Watchdog

CPU = torch.device("cpu")
CONFIG = RunConfig(
    dataset="tiles",
    model="unet",
    encoder="tu-mobilenetv3_small_050",
    image_size=32,
    classes=[3, 300],
    ignore=[7],
    channels=["höhe"],
    lr=1e-5,
)
BANDS = tuple(Band(name, 0.1 + 1 / 3, 1e-7, -1.5, 3e4) for name in ("image:1", "image:2", "image:3", "höhe"))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    model = build_model(CONFIG, 4, 3)
    for module in model.modules():  # as trained: statistics of their own
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
    return model.eval()


@pytest.fixture(scope="module")
def manifest(network: nn.Module) -> Manifest:
    labels = Labels.from_masks(CONFIG.classes, CONFIG.ignore, [0, 3, 7, 300])
    return Manifest(
        CONFIG,
        labels,
        BANDS,
        uint8=False,
        precision="fp32",
        device="cpu",
        fingerprint="0123abcd",
        parameters=parameter_count(network),
        micro_batch=3,
        evaluation_batch_size=6,
        tiles={"train": 7, "val": 2},
        left_out={"train": 0, "val": 3},
        metrics={"epoch": 3, "miou": 1 / 3, "iou/3": None},
        threads=2,
    )


@pytest.fixture
def saved(tmp_path: Path, network: nn.Module, manifest: Manifest) -> Path:
    save_model(tmp_path / "best", network, manifest)
    return tmp_path / "best"


def outputs(model: nn.Module) -> torch.Tensor:
    images = torch.linspace(-2, 2, 2 * 4 * 32 * 32).reshape(2, 4, 32, 32).to(memory_format=torch.channels_last)
    with torch.no_grad():
        return model(images)


def refused(folder: Path) -> str:
    """The one line that load_model says of a folder."""
    with pytest.raises(InputError) as caught:
        load_model(folder, CPU)
    (message,) = caught.value.mistakes
    assert "\n" not in message
    return message


# Models.


def test_a_model_comes_back_exactly(saved: Path, network: nn.Module, manifest: Manifest) -> None:
    model, read = load_model(saved, CPU)
    assert read == manifest
    assert not model.training
    assert torch.equal(outputs(model), outputs(network))


def test_smp_alone_reads_the_folder(saved: Path, network: nn.Module, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    model = smp.from_pretrained(str(saved)).eval().to(memory_format=torch.channels_last)
    assert torch.equal(outputs(model), outputs(network))
    assert {"config.json", "model.safetensors", "run.yaml"} <= {path.name for path in saved.iterdir()}
    assert not [path for path in saved.parent.iterdir() if path != saved]


def test_loading_prints_nothing(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(saved, CPU)
    assert capfd.readouterr() == ("", "")


def test_a_loaded_model_asks_for_no_pretrained_weights(tmp_path: Path, network: nn.Module, manifest: Manifest) -> None:
    network.config["encoder_weights"] = "imagenet"
    save_model(tmp_path / "best", network, manifest)
    text = (tmp_path / "best" / "config.json").read_text(encoding="utf-8")
    assert '"encoder_weights": null' in text


def test_the_card_is_our_own_and_tells_what_the_model_is(saved: Path) -> None:
    card = (saved / "README.md").read_text(encoding="utf-8")
    for word in ("unet", "tu-mobilenetv3_small_050", "0.3333", "- 3: IoU unknown", "- 300: ", "tiles", "höhe"):
        assert word in card
    for word in ("More Information Needed", "Hub", "hub", "---"):
        assert word not in card
    code = card.split("```python\n")[1].split("```")[0].replace("FOLDER", str(saved))
    found: dict[str, object] = {}
    exec(code, found)
    assert isinstance(found["model"], nn.Module)


def test_saving_again_replaces_the_model(saved: Path, network: nn.Module, manifest: Manifest) -> None:
    save_model(saved, network, manifest.with_metrics({"miou": 0.9}))
    assert load_model(saved, CPU)[1].metrics == {"miou": 0.9}
    assert [path.name for path in saved.parent.iterdir()] == ["best"]


@pytest.mark.parametrize("where", ["search", "model"])
def test_a_model_is_found_in_its_own_folder_and_in_that_around_it(saved: Path, where: str) -> None:
    assert find_model(saved.parent if where == "search" else saved) == saved


def test_a_folder_without_a_model_or_that_is_none_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match=str(folder)):
            find_model(folder)


def test_a_model_that_a_kill_left_aside_is_found(saved: Path) -> None:
    os.replace(saved, saved.with_name(".best.old"))
    assert find_model(saved.parent) == saved
    assert load_model(saved, CPU)


# Files that were damaged.


def test_missing_weights_are_told_of_by_folder(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    assert str(saved) in refused(saved)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        find_model(saved)


def test_cut_off_weights_are_told_of_by_folder(saved: Path) -> None:
    content = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert str(saved) in refused(saved)


def test_a_broken_config_json_is_told_of_by_folder(saved: Path) -> None:
    (saved / "config.json").write_text("{", encoding="utf-8")
    assert str(saved) in refused(saved)


@pytest.mark.filterwarnings("ignore:(?s).*Mismatched keys:UserWarning")
def test_weights_of_another_network_are_told_of_by_folder(saved: Path) -> None:
    path = saved / "config.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"classes": 3', '"classes": 5'), encoding="utf-8")
    assert str(saved) in refused(saved)


def test_a_missing_run_yaml_is_named(saved: Path) -> None:
    (saved / "run.yaml").unlink()
    assert str(saved / "run.yaml") in refused(saved)


def test_a_run_yaml_that_is_no_yaml_is_named(saved: Path) -> None:
    (saved / "run.yaml").write_bytes(b"model: [unet\n")
    assert str(saved / "run.yaml") in refused(saved)
    (saved / "run.yaml").write_bytes(b"\xff\xfe\x00")
    assert str(saved / "run.yaml") in refused(saved)


@pytest.mark.parametrize("content", [None, [], "text", 3, {"model": "unet"}])
def test_a_run_yaml_that_holds_something_else_is_named(saved: Path, content: object) -> None:
    (saved / "run.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert str(saved / "run.yaml") in refused(saved)


@pytest.mark.parametrize(
    ("section", "content"),
    [
        ("data", None),
        ("data", {"fingerprint": "x", "uint8": True}),
        ("data", {"fingerprint": "x", "uint8": True, "labels": {"classes": [1]}}),
        ("data", {"fingerprint": "x", "uint8": True, "labels": None}),
        ("data", {"fingerprint": "x", "uint8": True, "labels": [1]}),
        ("bands", None),
        ("bands", [{"name": "image:1"}]),
        ("bands", [1]),
        ("evaluation", {}),
        ("evaluation", "fp32"),
        ("model", "unett"),
        ("image_size", "32"),
    ],
)
def test_a_run_yaml_that_was_changed_beyond_use_is_named(saved: Path, section: str, content: object) -> None:
    path = saved / "run.yaml"
    path.write_text(
        yaml.safe_dump(yaml.safe_load(path.read_text(encoding="utf-8")) | {section: content}), encoding="utf-8"
    )
    assert str(path) in refused(saved)


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("image_size", None, "image_size"),
        ("encoder", "tu-hf_hub:user/model", "unknown encoder"),
        ("model", "dpt", "dpt"),
        ("classes", [3], "data.labels.classes"),
        ("channels", ["other"], "channels"),
        ("evaluation.threads", -1, "evaluation.threads"),
        ("evaluation.threads", 10**9, "evaluation.threads"),
        ("evaluation.threads", "two", "evaluation.threads"),
        ("evaluation.batch_size", 0, "evaluation.batch_size"),
        ("evaluation.precision", "int3", "evaluation.precision"),
        ("bands", [], "bands"),
        ("bands.0.std", 0.0, "bands.0.std"),
        ("bands.0.mean", math.nan, "bands.0.mean"),
        ("data.labels.background", 3, "data.labels.background"),
        ("data.tiles", 3, "data.tiles"),
        ("metrics", [1], "metrics"),
    ],
)
def test_wrong_values_in_a_run_yaml_are_one_line(saved: Path, name: str, value: object, named: str) -> None:
    path = saved / "run.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    *way, last = (int(part) if part.isdigit() else part for part in name.split("."))
    place = content
    for part in way:
        place = place[part]
    place[last] = value
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    message = refused(saved)
    assert message.startswith(f"{path}: ")
    assert named in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoder_name", "tu-hf_hub:user/model"),
        ("_model_class", "DPT"),
        ("in_channels", 10**9),
        ("decoder_channels", [10**9] * 5),
        ("encoder_weights", "imagenet"),
    ],
)
def test_no_config_json_makes_use_of_the_network_or_of_more_memory(
    saved: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the network is used")

    monkeypatch.setattr("socket.socket.connect", fail)
    monkeypatch.setattr("socket.getaddrinfo", fail)
    path = saved / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | {name: value}), encoding="utf-8")
    if name == "encoder_weights":  # the model has its own weights
        assert load_model(saved, CPU)
    else:
        assert refused(saved).startswith(f"{path}: {name} is ")


@pytest.mark.parametrize("how", ["pipe", "missing", "huge", "list"])
def test_a_config_json_that_is_none_is_one_line(saved: Path, how: str) -> None:
    path = saved / "config.json"
    path.unlink()
    if how == "pipe":
        os.mkfifo(path)
    elif how != "missing":
        path.write_text("[1]" if how == "list" else "[" * 2_000_000)
    assert refused(saved).startswith(f"{path}: ")


@pytest.mark.parametrize("how", ["complex", "int", "nan", "shape"])
def test_weights_that_are_no_weights_are_one_line(saved: Path, how: str) -> None:
    tensors = load_file(saved / "model.safetensors")
    name = next(name for name in tensors if name.endswith("weight"))
    kind = {"complex": torch.complex64, "int": torch.int32}.get(how, torch.float32)
    shape = (1, *tensors[name].shape) if how == "shape" else tensors[name].shape
    tensors[name] = torch.full(shape, math.nan if how == "nan" else 1, dtype=kind)
    save_file(tensors, saved / "model.safetensors")
    assert refused(saved).startswith(f"{saved}: the model cannot be loaded ({name} ")


def test_a_manifest_round_trips_and_is_a_file_of_settings(tmp_path: Path, manifest: Manifest) -> None:
    manifest.write(tmp_path / "run.yaml")
    assert Manifest.read(tmp_path / "run.yaml") == manifest
    text = (tmp_path / "run.yaml").read_text(encoding="utf-8")
    assert list(yaml.safe_load(text))[: len(RunConfig.model_fields)] == list(RunConfig.model_fields)
    assert "höhe" in text


# Folders.


def filled(folder: Path, text: str) -> Path:
    with replaced_folder(folder) as temporary:
        (temporary / "run.yaml").write_text(text, encoding="utf-8")
        (temporary / "model.safetensors").write_text(text, encoding="utf-8")
    return folder


def content(folder: Path) -> str:
    assert {path.name for path in folder.iterdir()} == {"run.yaml", "model.safetensors"}
    (text,) = {path.read_text(encoding="utf-8") for path in folder.iterdir()}
    return text


def test_a_folder_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    folder = filled(tmp_path / "best", "old")
    assert content(filled(folder, "new")) == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_inside_leaves_the_old_folder_whole(tmp_path: Path, error: type[BaseException]) -> None:
    folder = filled(tmp_path / "best", "old")

    def fail() -> None:
        with replaced_folder(folder) as temporary:
            (temporary / "run.yaml").write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(error):
        fail()
    assert content(folder) == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def killed_between_the_renames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace a folder and die after the first of the two renames."""
    rename = os.replace

    def replace(source: Path, target: Path) -> None:
        if ".tmp-" in str(source):
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("segtune.files.atomic.os.replace", replace)
        with pytest.raises(KeyboardInterrupt):
            filled(folder, "new")
    assert not folder.exists()


def test_a_kill_between_the_two_renames_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(tmp_path / "best", "old")
    killed_between_the_renames(folder, monkeypatch)
    recover_folder(folder)
    assert content(folder) == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_after_such_a_kill_the_folder_can_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(tmp_path / "best", "old")
    killed_between_the_renames(folder, monkeypatch)
    assert content(filled(folder, "newer")) == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_kill_before_the_old_one_is_removed_keeps_the_new_one(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    filled(run.best, "new")
    filled(tmp_path / ".best.old-4711-0123abcd", "old")
    with run.locked():
        assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["best"]
    assert content(run.best) == "new"


def test_what_earlier_releases_left_aside_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    filled(tmp_path / ".best.old", "old")
    recover_folder(folder)
    assert content(folder) == "old"


@pytest.mark.parametrize("way", ["replaced", "discarded"])
def test_what_somebody_put_beside_a_model_is_set_aside(tmp_path: Path, way: str) -> None:
    folder = filled(tmp_path / "best", "old")
    (folder / "validation").mkdir()
    (folder / "validation" / "mine.txt").write_text("precious", encoding="utf-8")
    if way == "replaced":
        filled(folder, "new")
        assert content(folder) == "new"
    else:
        discard_folder(folder)
        assert not folder.exists()
    assert (tmp_path / "best_set_aside_1" / "validation" / "mine.txt").read_text(encoding="utf-8") == "precious"
    assert not list((tmp_path / "best_set_aside_1").glob("*.*"))


def test_what_looks_like_a_folder_left_aside_but_is_somebodys_stays(tmp_path: Path) -> None:
    theirs = [tmp_path / name for name in (".best.old", ".notes.tmp-1", ".best.tmp-1", ".git.old", ".best.tmp-backup")]
    for place in theirs:
        place.mkdir()
        (place / "mine.txt").write_text("precious", encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".best.tmp-1-0123abcd").symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".table.tmp-1").write_text("precious", encoding="utf-8")
    with RunFolder(tmp_path).locked():
        filled(tmp_path / "best", "old")
        filled(tmp_path / "best", "new")
        recover_folder(tmp_path / "best")
    assert all((place / "mine.txt").is_file() for place in theirs)
    assert (tmp_path / "elsewhere").is_dir()
    assert (tmp_path / ".table.tmp-1").is_file()


def test_what_a_killed_process_left_in_a_run_goes_with_the_next_one(tmp_path: Path) -> None:
    for name in (".best.tmp-4711", ".best.next.tmp-4711-0123abcd", ".best.gone-4711-0123abcd"):  # an earlier release's
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
    for name in (".state.pt.tmp-4711", ".metrics.csv.tmp-4711-0123abcd"):
        (tmp_path / name).touch()
    with RunFolder(tmp_path).locked():
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_files_get_the_users_umask(tmp_path: Path, network: nn.Module, manifest: Manifest, umask: int) -> None:
    before = os.umask(umask)
    try:
        save_model(tmp_path / "best", network, manifest)
        save_state(tmp_path / "state.pt", {"epoch": 1})
        write_text(tmp_path / "text", "")
        with RunFolder(tmp_path).locked():
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    finally:
        os.umask(before)
    assert modes.pop("best") == 0o777 & ~umask
    assert {"model.safetensors", "state.pt", "text", ".lock"} < modes.keys()
    assert set(modes.values()) == {0o666 & ~umask}


def test_a_file_whose_name_is_as_long_as_can_be_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("ж" * 127)
    write_text(path, "text")
    assert path.read_text(encoding="utf-8") == "text"
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("place", ["link", "pipe", "text"])
def test_a_lock_that_is_none_of_ours_is_left_as_it_is(tmp_path: Path, place: str) -> None:
    run, theirs = RunFolder(tmp_path / "run"), tmp_path / "mine.txt"
    theirs.write_text("precious", encoding="utf-8")
    run.path.mkdir()
    lock = run.path / ".lock"
    if place == "link":
        lock.symlink_to(theirs)
    elif place == "pipe":
        os.mkfifo(lock)
    else:
        os.link(theirs, lock)
    with pytest.raises(InputError, match=r"run/\.lock: is "), run.locked():
        pass
    if place != "text":
        with pytest.raises(InputError, match=r"run/\.lock: is "):
            run.held()
    assert theirs.read_text(encoding="utf-8") == "precious"


def test_links_in_the_place_of_files_are_replaced_and_not_followed(tmp_path: Path, network: nn.Module) -> None:
    theirs = tmp_path / "mine.txt"
    theirs.write_text("precious", encoding="utf-8")
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    for place in (run.state, run.metrics_csv, run.error, run.path / f".{run.state.name}.tmp-{os.getpid()}"):
        place.symlink_to(theirs)
    save_state(run.state, {"epoch": 1})
    write_text(run.metrics_csv, "epoch")
    Watchdog(run, 1.0)._write_stacks("silent")
    assert theirs.read_text(encoding="utf-8") == "precious"
    assert load_state(run.state) == {"epoch": 1}
    assert run.fault() == "silent"


def test_a_study_that_is_a_link_is_refused(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path)
    folder.study_db.symlink_to(tmp_path / "other.db")
    with pytest.raises(InputError, match=r"study\.db: is a link"), folder.locked():
        pass


def test_recovering_where_nothing_happened_does_nothing(tmp_path: Path) -> None:
    recover_folder(tmp_path / "best")
    assert not list(tmp_path.iterdir())


def test_metrics_survive_as_numbers(tmp_path: Path, manifest: Manifest) -> None:
    manifest.with_metrics({"miou": 1e-7, "loss": math.pi}).write(tmp_path / "run.yaml")
    assert Manifest.read(tmp_path / "run.yaml").metrics == {"miou": 1e-7, "loss": math.pi}
