"""An engine that no node could ever take is refused, instead of being waited for."""

import pytest

from graphdrl.oracle import OracleError
from serve import OracleSettings
from serve.app import check_room

NODES = ({"CPU": 2.0}, {"CPU": 1.0, "GPU": 1.0, "oracle": 1.0})


@pytest.mark.parametrize(
    "settings",
    [{"num_cpus": 2}, {"num_gpus": 1}, {"num_cpus": 1, "resources": {"oracle": 0.001}}, {"num_cpus": 0}],
)
def test_one_node_with_room_is_enough(settings) -> None:
    check_room(OracleSettings(**settings), NODES)


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"num_cpus": 3}, "3 CPU"),
        # Two nodes have it together, but an engine lives on one.
        ({"num_cpus": 2, "num_gpus": 1}, "2 CPU, 1 GPU"),
        ({"num_cpus": 2, "resources": {"oracle": 0.001}}, "2 CPU, 0.001 oracle"),
        ({"num_gpus": 1, "tensor_parallel_size": 2}, "0.5 CPU, 2 GPU"),
    ],
)
def test_no_node_with_room_is_an_error_that_says_what_is_there(settings, asked) -> None:
    with pytest.raises(OracleError, match=f"asks for {asked}, and no node .* has that \\(there: "):
        check_room(OracleSettings(**settings), NODES)


def test_a_cluster_without_nodes_has_no_room() -> None:
    with pytest.raises(OracleError, match="there: no node"):
        check_room(OracleSettings(), [])
