"""What in the benchmarks can be wrong without anybody seeing it in a table."""

import json

import numpy as np
import pytest
import torch
from conftest import BlobGenerator, small_generator

from benchmarks.common import Journal
from benchmarks.inversion_time import Clock
from benchmarks.landmarks import table
from benchmarks.peer_pti import flat_features
from benchmarks.tracking import Assumed, flow_at, followed, nearest_neighbour
from drag import DragConfig, DragEdit
from weights import Windows, load_perceptual


def test_a_run_goes_on_where_it_was_stopped(tmp_path) -> None:
    path = tmp_path / "out" / "journal.jsonl"
    first = Journal(path, {"psi": 0.8, "points": (1, 5)})
    first.add("1 points,0", [{"after": 2.5}])
    with path.open("a") as file:
        file.write('{"key": "1 points,1", "val')  # killed while it wrote
    again = Journal(path, {"psi": 0.8, "points": (1, 5)})
    assert again.entries == {"1 points,0": [{"after": 2.5}]}
    assert list(again.todo(["1 points,0", "1 points,1"], "")) == ["1 points,1"]
    again.add("1 points,1", [])
    assert [json.loads(line).get("key") for line in path.read_text().splitlines()] == [None, "1 points,0", "1 points,1"]
    with pytest.raises(SystemExit, match=r"other settings \(psi\)"):
        Journal(path, {"psi": 0.7, "points": (1, 5)})


def test_no_more_after_the_time_is_over(tmp_path) -> None:
    assert not list(Journal(tmp_path / "j", {}).todo(["a", "b"], "", seconds=-1))


def test_nearest_neighbour_as_published() -> None:
    """On a map as large as the picture, so that a feature at a whole pixel is the map's cell."""
    values = torch.full((1, 1, 8, 8), 9.0)
    values[0, 0, 3, 5], values[0, 0, 2, 2] = 1.2, 1.0  # at (5, 3) and (2, 2); the reference is 1
    features = Windows.whole(values)
    reference = torch.ones(1, 1, 1)
    found, distance = nearest_neighbour(features, torch.tensor([[5.4, 3.4]]), reference, 2.4, 0.25, 8)
    assert found.tolist() == [[5.0, 3.0]] and distance.item() == pytest.approx(0.2, abs=1e-6)
    # (2, 2) is within 2 of (4, 3) as well, and nearer to the reference.
    assert nearest_neighbour(features, torch.tensor([[4.0, 3.0]]), reference, 2.4, 0.25, 8)[0].tolist() == [[2.0, 2.0]]
    # At the corner the square is cut, not clamped; the first of equals is taken.
    corner = Windows.whole(torch.ones(1, 1, 8, 8))
    assert nearest_neighbour(corner, torch.tensor([[0.0, 7.0]]), reference, 2.0, 0.25, 8)[0].tolist() == [[0.0, 5.0]]


def test_without_tracking_a_handle_goes_where_it_is_asked_to_and_not_too_far() -> None:
    assumed = Assumed(np.array([[13.0, 14.0], [5.1, 5.0]]))
    points = torch.tensor([[10.0, 10.0], [5.0, 5.0]])
    found, _ = assumed(Windows.whole(torch.zeros(1, 1, 8, 8)), points, torch.zeros(2, 1, 1), 3.0, 0.5, 16)
    assert np.allclose(found, [[10.3, 10.4], [5.1, 5.0]])


def test_a_flow_is_read_between_pixels() -> None:
    flow = np.zeros((4, 4, 2), np.float32)
    flow[1, 2] = 4.0, -2.0
    read = flow_at(flow, torch.tensor([[2.0, 1.0], [1.5, 1.0], [2.0, 1.25], [9.0, 9.0]]))
    assert read.tolist() == [[4.0, -2.0], [2.0, -1.0], [3.0, -1.5], [0.0, 0.0]]


def test_followed_by_the_nearest_neighbour_a_blob_arrives() -> None:
    blob = BlobGenerator()
    config = DragConfig(steps=60, rows=2, learning_rate=0.1, within=4.0)
    ended = followed("nearest neighbour", blob, config)(blob.latent_at(50, 60), DragEdit([[50, 60]], [[60, 60]]))
    outcome = ended["nearest neighbour"]
    assert outcome.arrived and np.abs(outcome.latent[:2].sum(0).numpy() - (60, 60)).max() < 1.5


def test_optical_flow_sees_each_steps_picture() -> None:
    generator = small_generator(64)
    edit = DragEdit([[30, 30]], [[40, 30]])
    outcome = followed("optical flow", generator, DragConfig(steps=3))(generator.sample(1, 0)[0], edit)["optical flow"]
    assert outcome.steps == 3 and np.abs(outcome.handles - edit.handles).max() > 0


def test_flat_features_give_the_perceptual_distance() -> None:
    perceptual = load_perceptual("st-lpips-alex", size=64)
    torch.manual_seed(0)
    a, b = torch.rand(2, 1, 3, 64, 64) * 2 - 1
    flat = (flat_features(perceptual, a) - flat_features(perceptual, b)).square().sum()
    assert flat.item() == pytest.approx(perceptual(a, b).item(), rel=1e-4)


def test_a_clock_knows_when_a_picture_was_so_good() -> None:
    clock = Clock(torch.zeros(1, 3, 2, 2), [(1.0, 15.0, 0.5), (11.0, 20.0, 0.1), (40.0, 25.0, 0.02)])
    assert clock.seconds_to(0.1) == 11.0 and clock.seconds_to(0.01) is None
    assert clock.seconds_to_psnr(20.0) == 11.0 and clock.seconds_to_psnr(26.0) is None
    assert [clock.psnr_at(seconds) for seconds in (0.5, 10, 30, 60)] == [15.0, 15.0, 20.0, 25.0]
    seen = Clock(torch.zeros(1, 3, 2, 2))
    seen.see(torch.full((1, 3, 2, 2), 0.2), 0.3)  # 20 log10(2 / 0.2)
    assert seen.points[0][1:] == (20.0, 0.3)


def test_the_table_counts_pairs_and_ratios() -> None:
    row = {"before": 8.0, "arrived": True, "steps": 10, "changed": None}
    entries = {
        "1 points,0": [
            row | {"loop": "ours", "after": 2.0, "cpu_s": 1.0},
            row | {"loop": "b", "after": 4.0, "cpu_s": 3.0},
        ],
        "1 points,1": [
            row | {"loop": "ours", "after": None, "cpu_s": 1.0},
            row | {"loop": "b", "after": 6.0, "cpu_s": 5.0},
        ],
    }
    ours, b = (line.split()[2:] for line in table(entries, {}).splitlines()[1:])
    assert ours == ["ours", "2", "8", "2", "1", "100%", "10", "1", "1", "-", "-"]
    assert b == ["b", "2", "8", "5", "0", "100%", "10", "4", "4", "-", "-"]
