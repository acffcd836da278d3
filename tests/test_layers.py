"""Imports point one way: a module imports only what stands before it in one ordered list."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("run_search", "run_single", "validate")
# Lowest first, packages and the modules in each; "" is the root of segtune.
ORDER = (
    (
        "",
        "clock errors remarks torch_errors vocabulary objectives roles mistakes values class_names decoders clashes "
        "config fields machine",
    ),
    ("files", "checks locks temporary atomic leftovers model_files folders library_folders yamlfile transforms_file"),
    (
        "space",
        "confirm prefer objectives settings parameters prior jsonschema forbid combinations space unused spacefile "
        "space_section clashes forbid_section prior_section reader lookup",
    ),
    (
        "data",
        "diagnosis threads listing exclusion tiles pairs splits labels bands formats plain_png vrt mask_values "
        "georeference raster footprints alpha alignment reading likeness leaks fast_check fitting statistics scale "
        "findings tile_sizes cache_folder cache_entry cache store dataset balance augment "
        "transform_nodes transforms mix distances batches checks scan folds demo_canvas demo_scene demo demo_wide",
    ),
    (
        "models",
        "device tensors networks probe compatibility weights pretrained normalization batchnorm build auto_weights "
        "run_yaml "
        "manifest card foreign foreign_network checkpoint averaged chosen ensemble export_metadata export hub",
    ),
    (
        "evaluation",
        "overlap tile_counts metrics class_scores boundary calibration intervals grouping chance "
        "measure confirmation cross_validation thresholds areas worst spread predictor predict "
        "evaluate predicted_masks blending scene_source scene_scale scene_output polygons scene images opened measures "
        "validate",
    ),
    ("pictures", "render png quartet layout sheet panels charts window gallery scene"),
    (
        "training",
        "distributed region_losses pixel_losses losses val_loss optim loaders stopwatch resolve resume step result "
        "team board runlog state worst_pictures run measure costs train repeat",
    ),
    ("planning", "cost resources rungs estimate duplicates portfolio feasibility samples first_runs"),
    ("", "trials confirmed margin"),
    (
        "tuning",
        "failures giving_up ray_messages ray_session cluster study scheduler asha promotion fold_rows repeats standing "
        "results retention points teaching prior sampler recovery stopping proposals feed searcher confirm_runs finals "
        "confirm_looks confirm_result search_yaml status insight warm_start watchdog trial_run in_process worker "
        "ray_hooks ray_backend confirm search",
    ),
    (
        "report",
        "terminal commands answer text costs tables console dry_run validation record confirmation sentences effects "
        "plot charts front tiles gather page index figures written tracked trackers to_mlflow to_wandb tracking",
    ),
    (
        "cli",
        "output assignments flags parser given dataset reporting tracking searching tasks exits training repeating "
        "folding validate_flags places applicable own_files described outputs validation comparing choosing predicting "
        "deploying",
    ),
    (
        "tools",
        "weights portfolio layout_flags looks exchanged mask_findings image_findings checking check pixels placing "
        "describing stats annotations found_tiles showing view label_rules mask_maps relabel scenes windows outlines "
        "layers tile_writer tile tile_flags conditions tile_files filtered filtering collected collect coco_json "
        "labelme_json cvat_xml yolo_labels drawing imported importing demo blocks shares split "
        "split_flags __main__",
    ),
    ("", "loaded api"),
)
MODULES = [".".join(filter(None, ("segtune", package, name))) for package, names in ORDER for name in names.split()]


def files() -> dict[str, Path]:
    """Every module of segtune, by name; a package's own __init__ holds a docstring alone."""
    paths = (path for path in (ROOT / "segtune").rglob("*.py") if path.name != "__init__.py")
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}


def imports(source: str) -> set[str]:
    """Names of what is imported, inside functions too: modules, and what may be one."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def upward(module: str, source: str) -> list[str]:
    """What the module imports though it does not stand before it."""
    before = MODULES[: MODULES.index(module)]
    return sorted(name for name in imports(source) if name in MODULES and name not in before)


def test_every_module_stands_in_the_list_once() -> None:
    assert sorted(MODULES) == sorted(files())


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_to_earlier_modules(module: str) -> None:
    assert upward(module, files()[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import segtune.tuning.search",
        "from segtune.tuning import search",
        "from segtune.tuning.search import run_search",
        "def later():\n    from segtune.tuning.search import run_search",
    ],
)
def test_an_import_that_points_up_is_found(source: str) -> None:
    assert upward("segtune.tuning.study", source) == ["segtune.tuning.search"]
    assert upward("segtune.report.tables", source) == []


def test_packages_hold_nothing_but_a_docstring() -> None:
    for path in (ROOT / "segtune").rglob("*/__init__.py"):
        assert len(ast.parse(path.read_text(encoding="utf-8")).body) == 1, path


def test_only_tuning_imports_ray_or_optuna() -> None:
    users = {
        name
        for name, path in files().items()
        if {used.split(".")[0] for used in imports(path.read_text(encoding="utf-8"))} & {"ray", "optuna"}
    }
    assert {name.split(".")[1] for name in users} == {"tuning"}


def test_nothing_imports_a_script() -> None:
    for path in [*files().values(), *(ROOT / f"{name}.py" for name in SCRIPTS)]:
        assert not imports(path.read_text(encoding="utf-8")) & set(SCRIPTS), path


def test_scripts_stay_thin() -> None:
    for name in SCRIPTS:
        assert len((ROOT / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 130
