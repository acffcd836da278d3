"""Imports point one way: a module imports only from layers below its own."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYERS = [
    {"errors", "clock"},
    # Within this layer they build on each other in this order, without a circle.
    {
        "yamlfile",
        "config",
        "parameters",
        "space",
        "space_schema",
        "machine",
        "commands",
        "output",
        "places",
        "folders",
        "metrics",
        "phases",
        "schema",
        "trials",
        "pictures",
    },
    {"data", "weights", "models", "losses", "optim", "device", "state", "checkpoint", "runlog"},
    {"evaluation", "gallery", "step"},
    {"train", "validation", "probe"},
    {"tuning"},
    {"report", "console", "dry_run"},
    {"cli"},
    {"run_search", "run_single", "validate"},
]
SAME_LAYER = {
    "space",
    "space_schema",
    "config",
    "parameters",
    "trials",
    "schema",
    "pictures",
    "models",
    "checkpoint",
    "state",
    "probe",
    "console",
    "dry_run",
}  # may use their own layer


def module_files() -> list[Path]:
    scripts = [ROOT / f"{name}.py" for name in ("run_search", "run_single", "validate")]
    return sorted((ROOT / "segtune").rglob("*.py")) + scripts


def part(module: str) -> str:
    names = module.split(".")
    return names[1] if names[0] == "segtune" and len(names) > 1 else names[0]


def name_of(path: Path) -> str:
    relative = path.relative_to(ROOT).with_suffix("")
    return part(".".join(relative.parts))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                f"{node.module}.{alias.name}" if node.module == "segtune" else node.module for alias in node.names
            }
    return found


def layer(name: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if name in names)


def test_every_module_has_a_layer() -> None:
    known = set().union(*LAYERS)
    assert {name_of(path) for path in module_files()} - {"segtune", "__init__"} <= known


def test_imports_point_down() -> None:
    upward = []
    for path in module_files():
        name = name_of(path)
        if name in ("segtune", "__init__"):
            continue
        for module in imports(path):
            if not module.startswith("segtune."):
                continue
            used = part(module)
            beside = layer(used) == layer(name) and (used == name or name in SAME_LAYER)
            if layer(used) > layer(name) or (layer(used) == layer(name) and not beside):
                upward.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not upward


def test_only_tuning_imports_ray_or_optuna() -> None:
    users = {name_of(path) for path in module_files() if {m.split(".")[0] for m in imports(path)} & {"ray", "optuna"}}
    assert users == {"tuning"}


def test_scripts_do_not_import_each_other() -> None:
    scripts = {"run_search", "run_single", "validate"}
    for path in module_files():
        assert not imports(path) & scripts


def test_scripts_stay_thin() -> None:
    for name in ("run_search", "run_single", "validate"):
        assert len((ROOT / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 130
