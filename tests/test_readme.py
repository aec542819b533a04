"""What the README says is so: its commands exist, its files exist, its tables match the code."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

from analysis.cli import main
from analysis.recipes import RECIPES, build
from benchmarks import tables

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAPERS = {p.name: p.read_text(encoding="utf-8") for p in (ROOT / "README.md", ROOT / "CONTRIBUTING.md")}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REQUIREMENTS = dict(
    line.split("==")
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)


def command(label: str) -> str:
    """The one line in the block after ``<!-- label command -->``."""
    found = re.findall(rf"<!-- {label} command -->\n```bash\n(.+)\n```", README)
    assert len(found) == 1, (
        f"README.md has {len(found)} blocks of one line after the marker of the {label} command"
    )
    return str(found[0])


def verbs() -> list[str]:
    """Every verb of the command line that README or cards name."""
    texts = [
        *PAPERS.values(),
        *(p.read_text(encoding="utf-8") for p in (ROOT / "analysis/recipes").glob("*.md")),
    ]
    named = {verb for text in texts for verb in re.findall(r"python -m analysis ([a-z]+)", text)}
    rows = re.search(r"\| verb \|.*?\n\n", README, flags=re.S)
    assert rows
    for row in rows.group(0).strip().splitlines()[2:]:
        named |= set(re.findall(r"`([a-z]+)`", row.split("|")[1]))
    return sorted(named)


def helped(*words: str) -> str:
    """What the command line prints for ``WORDS --help``."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([*words, "--help"]) == 0
    return out.getvalue()


def test_the_command_line_starts_from_any_folder() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "analysis", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd="/",
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Commands" in done.stdout


@pytest.mark.parametrize("verb", verbs())
def test_named_verbs_answer_help(verb: str) -> None:
    assert "--help" in helped(verb)


def test_the_verb_table_is_whole() -> None:
    listed = re.findall(r"^\W*([a-z]+)\s{2,}\S", helped().split("Commands", 1)[1], flags=re.M)
    # The runner and the worker are started by the program, never by a person.
    assert set(listed) - set(verbs()) - {"runner", "worker", "inspect"} == set()


def test_the_real_data_command_is_a_run() -> None:
    words = shlex.split(command("real-data"))
    assert words[:4] == [".venv/bin/python", "-m", "analysis", "run"]
    options = [word for word in words if word.startswith("--")]
    text = helped("run")
    assert [option for option in options if option not in text] == []
    given = dict(zip(words[4::2], words[5::2], strict=False))
    spec = build(
        given["--recipe"],
        given["--model"],
        given["--task"],
        keep=float(given["--keep"]),
        seed=int(given["--seed"]),
        steps=int(given["--steps"]),
    )
    assert spec.keep == 0.1
    assert spec.training.steps == 2000


def test_the_two_commands_set_themselves_up() -> None:
    for line in (command("open"), command("test")):
        steps = [shlex.split(step) for step in line.split(" && ")]
        assert steps[0] == ["python3", "-m", "venv", ".venv"]
        assert steps[1][:2] == [".venv/bin/pip", "install"]
        assert steps[2][0].startswith(".venv/bin/")
    assert "-r requirements.txt" in command("open")
    assert command("open").endswith("streamlit run app.py")
    assert "dev" in PROJECT["project"]["optional-dependencies"]


def test_ci_runs_the_very_line_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
    assert 'bash -euo pipefail -c "$TEST_COMMAND"' in text
    line = next(row for row in text.splitlines() if row.startswith("TEST_COMMAND="))
    code = f'{line}\nprintf %s "$TEST_COMMAND"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == command("test")


@pytest.mark.parametrize("name", PAPERS)
def test_named_files_exist(name: str) -> None:
    text = re.sub(r"```.*?```", "", PAPERS[name], flags=re.S)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    paths = re.findall(
        r"`((?:analysis|pages|tests|docs|benchmarks|\.ci)/[\w./]+|app\.py|requirements\.txt)`", text
    )
    # x.py, x.md stand for the file that a reader is about to add
    named = {p for p in [*links, *paths] if not re.search(r"/x\.(py|md)$", p)}
    assert named
    assert sorted(p for p in named if not (ROOT / p).exists()) == []


@pytest.mark.parametrize("task", ["sst2", "mrpc", "systems"])
def test_tables_of_real_runs_are_what_the_recorded_runs_say(task: str) -> None:
    lines = tables.systems() if task == "systems" else tables.table(task)
    assert len(lines) > 3 and [line for line in lines if line not in README] == []


def test_anchors_within_the_readme() -> None:
    titles = re.findall(r"^#+ (.+)$", README, flags=re.M)
    headings = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


def test_every_recipe_is_linked() -> None:
    assert [name for name in RECIPES if f"analysis/recipes/{name}.md" not in README] == []


def own_sources() -> list[Path]:
    files = [*(ROOT / "analysis").rglob("*.py"), *(ROOT / "pages").rglob("*.py"), ROOT / "app.py"]
    return [f for f in files if f.exists()]


def test_environment_table_matches_the_code() -> None:
    files = [*own_sources(), ROOT / "tests" / "conftest.py"]
    used = {v for f in files for v in re.findall(r"PRUNING_LAB_[A-Z]+", f.read_text(encoding="utf-8"))}
    assert set(re.findall(r"^\| `(PRUNING_LAB_[A-Z]+)`", README, flags=re.M)) == used


def test_rooms_in_the_table_exist_and_are_all_there() -> None:
    rooms = set(re.findall(r"^\| `(analysis/[a-z]+)`", README, flags=re.M))
    folders = {f"analysis/{p.parent.name}" for p in (ROOT / "analysis").glob("*/__init__.py")}
    assert rooms == folders


def test_requirements_are_what_is_imported() -> None:
    """A direct import is a named, pinned requirement; a requirement is imported somewhere."""
    modules = set()
    for path in own_sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.split(".")[0])
    outside = modules - set(sys.stdlib_module_names) - {"analysis", "pages", "app", "__future__"}
    owners = packages_distributions()
    imported = {owners[module][0].lower() for module in outside if module in owners}
    assert {name.lower() for name in REQUIREMENTS} == imported


def test_requirements_are_the_tested_versions() -> None:
    """The pins say what these tests run with; a local build tag such as +cpu is the same version."""
    found = {name: version(name).split("+")[0] for name in REQUIREMENTS}
    assert found == REQUIREMENTS
