"""How trials share the machines."""

from __future__ import annotations

from typing import Any

import pytest

from segtune.errors import InputError
from segtune.planning.resources import Plan, make_plan
from segtune.space.settings import SearchSettings


def plan(cpus: int, gpus: int, device: str = "auto", **settings: Any) -> Plan:
    return make_plan(SearchSettings(**settings), [{"CPU": cpus, "GPU": gpus}], device)


def cluster(*nodes: tuple[int, int], **settings: Any) -> Plan:
    """Return the plan for nodes, each given as (cores, GPUs)."""
    found = [{"CPU": float(cpus), "GPU": float(gpus)} if gpus else {"CPU": float(cpus)} for cpus, gpus in nodes]
    return make_plan(SearchSettings(**settings), found)


def test_without_a_gpu_trials_share_the_cores_evenly() -> None:
    assert (plan(2, 0).concurrent, plan(2, 0).cpus_per_trial) == (2, 1)
    assert (plan(16, 0).concurrent, plan(16, 0).cpus_per_trial) == (4, 4)
    assert plan(16, 0, max_concurrent=8).cpus_per_trial == 2


def test_with_gpus_each_trial_gets_one_and_its_share_of_the_cores() -> None:
    found = plan(16, 2)
    assert (found.gpus_per_trial, found.concurrent, found.cpus_per_trial) == (1.0, 2, 8)


@pytest.mark.parametrize(("share", "concurrent"), [(0.5, 4), (1 / 3, 6), (0.25, 8), (1.0, 2), (2.0, 1), (0.4, 4)])
def test_fractions_of_a_gpu_pack_trials(share: float, concurrent: int) -> None:
    assert plan(16, 2, gpus_per_trial=share).concurrent == concurrent


def test_the_cores_limit_how_many_trials_share_a_gpu() -> None:
    assert plan(4, 1, gpus_per_trial=0.125, cpus_per_trial=2).concurrent == 2


def test_fewer_trials_than_room_get_more_cores() -> None:
    assert plan(16, 0, trials=2).cpus_per_trial == 8


def test_device_cpu_leaves_the_gpu_alone() -> None:
    assert plan(4, 1, device="cpu").gpus_per_trial == 0


def test_a_trial_fits_on_one_node() -> None:
    assert cluster((2, 0), (4, 0), cpus_per_trial=3).concurrent == 1  # of six cores, but two and four
    assert cluster((4, 1), (4, 1), gpus_per_trial=0.4).concurrent == 4
    assert cluster((8, 3), (8, 3), gpus_per_trial=2.0).concurrent == 2
    assert cluster((16, 0), (4, 1), gpus_per_trial=0.5).nodes == 1


def test_nodes_without_a_gpu_are_all_used() -> None:
    found = cluster((64, 0), (64, 0))
    assert (found.concurrent, found.cpus_per_trial, found.nodes) == (8, 16, 2)
    found = cluster((2, 0), (4, 0))
    assert (found.concurrent, found.cpus_per_trial) == (6, 1)


def test_a_small_node_does_not_limit_trials_on_large_ones() -> None:
    found = cluster((2, 0), (64, 0))
    assert (found.concurrent, found.cpus_per_trial, found.nodes) == (4, 16, 1)


def test_every_gpu_of_a_cluster_is_used() -> None:
    found = cluster((8, 4), (64, 8))
    assert (found.gpus_per_trial, found.concurrent, found.cpus_per_trial) == (1.0, 12, 2)
    assert str(found) == "12 trials at a time on 2 nodes, each on 2 cores and 1 GPU"


@pytest.mark.parametrize(
    ("nodes", "settings", "message"),
    [
        (((4, 1), (4, 1)), {"gpus_per_trial": 2.0}, "gpus_per_trial: 2 .* 1 GPU .* any one of 2 nodes"),
        (((2, 0), (4, 0)), {"cpus_per_trial": 6}, "cpus_per_trial: .* 6 cores, but 4 .* any one of 2 nodes"),
        (((16, 0), (4, 1)), {"cpus_per_trial": 8, "gpus_per_trial": 1.0}, "none of 2 nodes has 8 cores and 1 GPU"),
        ((), {}, "any one of 0 nodes"),
    ],
)
def test_what_no_node_has_is_refused(nodes: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cluster(*nodes, **settings)


@pytest.mark.parametrize(
    ("cpus", "gpus", "device", "settings", "named"),
    [
        (2, 0, "auto", {"gpus_per_trial": 0.5}, "gpus_per_trial"),
        (8, 1, "auto", {"gpus_per_trial": 2.0}, "gpus_per_trial"),
        (2, 0, "auto", {"cpus_per_trial": 3}, "cpus_per_trial"),
        (8, 1, "cuda", {"gpus_per_trial": 0.0}, "device"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(
    cpus: int, gpus: int, device: str, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=f"^{named}: "):
        plan(cpus, gpus, device, **settings)
