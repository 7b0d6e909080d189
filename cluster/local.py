"""Joining a Ray cluster, or starting one in this process, with authentication on."""

import logging
import os

import ray


def connect(address: str | None = None) -> None:
    """Join the cluster at `address` (or in RAY_ADDRESS), or start a private one that ends with this process.

    Raises RuntimeError when no cluster answers at the address.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    # A bare ray.init() would join whichever cluster happens to run on this machine. "local" never does.
    private = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **private)
    except (ConnectionError, RuntimeError) as error:
        raise RuntimeError(
            f"no Ray cluster answers at {address} ({_first_line(error)}); check it, or leave it out to run here"
        ) from error


def disconnect() -> None:
    """Leave the cluster; a private one stops."""
    ray.shutdown()


def address() -> str:
    """Where others join this cluster: what RAY_ADDRESS is to be set to."""
    return ray.get_runtime_context().gcs_address


def num_gpus() -> int:
    """GPUs of the whole cluster."""
    return int(ray.cluster_resources().get("GPU", 0))


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
