"""What every test stands on: one thread, nobody to ask outside, and our own warnings as errors."""

import os

import pytest

# Set before torch, Ray and transformers read them, and inherited by every process that a test starts.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MPLBACKEND": "Agg",
}
os.environ.pop("RAY_ADDRESS", None)  # a cluster that happens to run here is no test's business


def pytest_configure(config: pytest.Config) -> None:
    """A warning that our own code gives rise to is an error; those of the libraries among themselves are shown."""
    config.addinivalue_line("filterwarnings", r"error:::(graphdrl|serve|jobs|cluster)(\.|$)")
