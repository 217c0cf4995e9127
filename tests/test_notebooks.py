"""The four notebooks, run one after the other from a clean session with few steps, and what they leave."""

import shutil
from pathlib import Path

import nbformat
import pytest
from conftest import DATA
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from align import Photo
from pipeline import EditSession
from pipeline.notebook import OutOfOrder, open_session

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
NAMES = ["01_align", "02_invert", "03_drag", "04_export"]


def run(name: str, folder: Path, **parameters: object) -> nbformat.NotebookNode:
    """Executes a notebook in a folder; the parameters go into a cell after the tagged one, as papermill does it."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    tagged = [i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
    lines = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    notebook.cells.insert(tagged[0] + 1, nbformat.v4.new_code_cell(lines))
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_the_notebooks_hand_the_session_on(tmp_path: Path) -> None:
    shutil.copy(DATA / "lisa1.jpg", tmp_path / "me.jpg")
    few = {"SESSION": "s", "STEPS": 6}
    assert pictures(run("01_align", tmp_path, PHOTO="me.jpg", SESSION="s")) == 2
    session = EditSession(tmp_path / "s")
    assert session.landmarks().shape == (68, 2)
    assert pictures(run("02_invert", tmp_path, **few)) == 1
    assert session.inversion.generator.name == "embedded"
    assert pictures(run("03_drag", tmp_path, **few, POSE={"turn": 8}, EXPRESSION={"smile": 0.5})) == 3
    assert [(edit.number, edit.parent) for edit in session.history()] == [(1, 0), (2, 1), (3, 2)]
    assert pictures(run("04_export", tmp_path, SESSION="s", OUTPUT="out.png")) == 2
    assert (Photo.load(tmp_path / "out.png").pixels != session.photo.pixels).any()


def test_a_notebook_out_of_order_says_which_to_run_first(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match=r"run 01_align\.ipynb first, with the same SESSION"):
        run("03_drag", tmp_path, SESSION="nowhere")
    assert not (tmp_path / "nowhere").exists()
    session = EditSession(tmp_path / "s")
    session.add_photo(DATA / "lisa1.jpg")
    session.align()
    with pytest.raises(OutOfOrder, match=r"run 02_invert\.ipynb first"):
        open_session(session.folder, "edits")
    assert open_session(session.folder, "face", steps=3).config.drag.steps == 3


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_committed_without_outputs(name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code), (
        "clear the outputs before committing: Kernel, Restart and Clear Outputs"
    )
    assert "REPOSITORY" in code[0].source and "parameters" in code[1].metadata.get("tags", ())


def test_there_is_no_other_notebook() -> None:
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == NAMES
