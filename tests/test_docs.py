"""README.md and docs/ stay true where a program can tell."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from segtune.cli.given import given_settings
from segtune.config import RunConfig
from segtune.models.compatibility import unknown_encoder
from segtune.space.lookup import find_space
from segtune.space.reader import load_space
from segtune.tools.__main__ import TOOLS
from segtune.trials import Trial
from tests.test_layers import ORDER

ROOT = Path(__file__).resolve().parent.parent
SPACES = ROOT / "search_spaces"
PAGES = sorted(path for folder in (".", "docs", "slurm", "benchmarks") for path in (ROOT / folder).glob("*.md"))
SCRIPTS = ("run_search", "run_single", "validate")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(
    r"(?:\S*python3?(?: -m pdb)?|sbatch) (?:slurm/)?(run_search|run_single|validate|search)\.(?:py|sbatch)\b(.*)"
)


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path, language: str | None = None) -> list[str]:
    """Return the fenced blocks of a page, of one language or of all."""
    found = FENCED.findall(page.read_text(encoding="utf-8"))
    return [text for kind, text in found if language in (None, kind)]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the commands that a page shows: the script's name and its words."""
    spans = re.findall(r"`([^`\n]+)`", prose(page))
    for line in [*"".join(blocks(page)).splitlines(), *spans]:
        for step in line.removeprefix("$ ").split(" && "):
            if found := COMMAND.match(step.strip()):
                words = shlex.split(found[2], comments=True)
                script = "run_search" if found[1] == "search" else found[1]
                yield script, ["3" if word == "N" else word for word in words]


def parsed(script: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """Parse words as the script does."""
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *words])
    return importlib.import_module(script).parse()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 220


def test_the_first_two_blocks_are_the_two_commands() -> None:
    main, tests = blocks(ROOT / "README.md")[:2]
    assert "pip install" in main
    assert "run_search.py --space quickstart.yaml" in main
    assert "pip install" in tests
    assert tests.strip().endswith("-m pytest")


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    assert not re.search(r"@@[A-Z]", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_name_flags_settings_and_spaces_that_exist(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for script, words in commands(page):
        if "--help" not in words:
            given = parsed(script, words, monkeypatch)
            if script != "validate":
                given_settings(given)
            if getattr(given, "space", None) not in (None, "FILE", "my.yaml"):
                assert find_space(given.space, SPACES).is_file()


def test_the_commands_of_a_page_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`python validate.py -cd A`\n```bash\n$ x && .venv/bin/python run_search.py --resume B  # C\n```\n")
    assert list(commands(page)) == [("run_search", ["--resume", "B"]), ("validate", ["-cd", "A"])]


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name == "docs"], ids=ids)
def test_flags_in_the_text_exist(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for script, *words in (*((script,) for script in SCRIPTS), *(("segtune.tools.__main__", tool) for tool in TOOLS)):
        with pytest.raises(SystemExit):
            parsed(script, [*words, "--help"], monkeypatch)
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", capsys.readouterr().out)) | {"--check"}
    assert set(re.findall(r"`(--?[a-z][a-z-]*)", prose(page))) <= known


def test_the_tables_of_settings_are_current() -> None:
    subprocess.run([sys.executable, ROOT / "docs/write_settings.py", "--check"], check=True)


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_spaces_that_ship_load_open_with_a_comment_and_are_named(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("#")
    assert load_space(path, checks={"encoder": unknown_encoder}).searched()
    assert f"| `{path.stem}` |" in (ROOT / "docs/search-spaces.md").read_text(encoding="utf-8")


def test_the_example_of_a_space_loads(tmp_path: Path) -> None:
    whole, *_ = (text for text in blocks(ROOT / "docs/search-spaces.md", "yaml") if "space:" in text)
    (tmp_path / "space.yaml").write_text(whole, encoding="utf-8")
    assert load_space(tmp_path / "space.yaml", checks={"encoder": unknown_encoder}).searched()


def test_examples_of_spaces_on_the_page_of_settings_load(tmp_path: Path) -> None:
    examples = [text for text in blocks(ROOT / "docs/settings.md", "yaml") if text.startswith("space:")]
    assert examples
    for text in examples:
        (tmp_path / "space.yaml").write_text(f"classes: [1, 2, 3]\n{text}", encoding="utf-8")
        assert load_space(tmp_path / "space.yaml", checks={"encoder": unknown_encoder}).searched()


def test_the_recipes_fit_the_code() -> None:
    recipes = "".join(blocks(ROOT / "CONTRIBUTING.md", "diff"))
    parts = re.findall(r"^--- a/(\S+)\n.*\n@@.*\n((?:[ +-](?!-- a/).*\n)+)", recipes, re.MULTILINE)
    assert len(parts) == len(re.findall("^--- a/", recipes, re.MULTILINE)) > 0
    for path, lines in parts:
        before = "".join(f"{line[1:]}\n" for line in lines.splitlines() if line[0] != "+")
        assert before in (ROOT / path).read_text(encoding="utf-8"), path


def test_the_tree_names_all_packages_and_modules_that_exist() -> None:
    tree = next(text for text in blocks(ROOT / "README.md") if "segtune/ " in text)
    assert re.findall(r"^  (\w+)/ ", tree, re.MULTILINE) == [package for package, _ in ORDER if package]
    package = ""
    for line in tree.splitlines():
        if found := re.match(r"  (\w+)/ ", line):
            package = found[1]
        if " · " in line:
            there = {name for group, names in ORDER if group == package for name in names.split()}
            assert set(line.split()) - {"·"} <= there, line


def test_contributing_lists_the_packages_in_order() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text[text.index("| package | what it does") : text.index("## Rules")]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert [name for name in named if name != "trials"] == [package for package, _ in ORDER if package]


def test_every_column_of_the_tables_is_explained() -> None:
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    of_trials, of_epochs = page.split("## metrics.csv")[0], page.split("## metrics.csv")[1]
    settings = {*RunConfig.model_fields, "epochs_budget"}
    for column in Trial(number=0, status="pending", settings={}).row():
        assert column in settings or column.startswith("spent_") or f"`{column}`" in of_trials, column
    recorded = json.loads((ROOT / "tests/test_seeded.json").read_text(encoding="utf-8"))
    for column in recorded["run"][0]:
        assert f"`{re.sub(r'iou/[0-9]+', 'iou/LABEL', column)}`" in of_epochs, column
