"""What the wheel holds, and who may import whom."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "align": set(),
    "weights": set(),
    "inversion": {"weights"},
    "drag": {"weights"},
    "pipeline": {"align", "weights", "inversion", "drag"},
}


def imports(path: Path) -> set[str]:
    """The modules that a file imports, dotted."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_dependencies_point_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for name in imports(path):
            top = name.partition(".")[0]
            if top in ALLOWED and top != package:
                assert top in ALLOWED[package], f"{path} imports {name}"
                assert name == top, f"{path} imports {name}: another folder is used through its face"


def test_align_stands_without_torch() -> None:
    program = "import sys, align; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_faces_of_folders_are_short() -> None:
    for package in ALLOWED:
        statements = ast.parse((ROOT / package / "__init__.py").read_text()).body
        assert len(statements) <= 15


def test_the_wheel_holds_the_packages_and_the_generator(tmp_path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True,
        capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"weights/embedded/README.md", "pipeline/cli.py", "align/paste.py", "weights/known.toml"} <= names
    assert {f"pipeline/editor/{name}" for name in ("index.html", "editor.js", "editor.css")} <= names
    assert any(n.startswith("weights/embedded/") and n.endswith(".safetensors") for n in names)
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert tops == set(ALLOWED)
    assert wheel.stat().st_size < 40e6
