"""Joining a Ray cluster, or starting one in this process, with authentication on."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray

_PRIVATE = "local"


@contextmanager
def joined(address: str | None = None, *, dashboard: bool = False) -> Iterator[None]:
    """Within it this process is part of the cluster at `address` (or in RAY_ADDRESS), or of a private one.

    dashboard: of a private one, on the loopback. Where trainings are stopped from outside it is needed: through it Ray
    Train sees that what managed the workers is gone, and gives back their places.
    A private one ends with the context, and what was served on it; a cluster that was joined is left as it is.
    Raises RuntimeError when no cluster answers at the address.
    """
    address = address or os.environ.get("RAY_ADDRESS") or _PRIVATE
    # A bare ray.init() would join whichever cluster happens to run on this machine. "local" never does.
    private = {"include_dashboard": dashboard} if address == _PRIVATE else {}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **private)
    except Exception as error:  # where a node does not come up in time, Ray's is of no class of its own
        if private:
            raise RuntimeError(
                f"Ray did not start here ({_first_line(error)}); on a busy machine, try again"
            ) from error
        raise RuntimeError(
            f"no Ray cluster answers at {address} ({_first_line(error)}); check it, or leave it out to run here"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
        if "ray.serve.context" in sys.modules:
            # Serve remembers its controller in this process, and would look for it in the next cluster. Its own
            # shutdown forgets it too, but races with the controller's end, and Ray then prints an alarm.
            sys.modules["ray.serve.context"]._set_global_client(None)


def address() -> str:
    """Where others join this cluster: what RAY_ADDRESS is to be set to."""
    return ray.get_runtime_context().gcs_address


def nodes() -> list[dict[str, float]]:
    """What each living node of the cluster has, as Ray names it: CPU, GPU, custom resources."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def num_gpus() -> int:
    """GPUs of the whole cluster."""
    return int(ray.cluster_resources().get("GPU", 0))


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
