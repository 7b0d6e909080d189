"""The house's walls: what each room may import, checked in fresh interpreters."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

EDGE = {"ray", "deepspeed", "vllm"}
WEB = {"fastapi", "starlette", "uvicorn", "aiohttp", "httpx", "requests"}
CONFIG = {"graphdrl.config"}
EDGE_ROOMS = {"graphdrl.distributed", "graphdrl.bench", "graphdrl.cli", "serve", "jobs", "cluster"}

NEVER = {
    "graphdrl.metrics": EDGE | WEB | CONFIG | EDGE_ROOMS | {"transformers"},
    "graphdrl.relations": EDGE | WEB | CONFIG | EDGE_ROOMS | {"transformers"},
    "graphdrl.models": EDGE | WEB | CONFIG | EDGE_ROOMS | {"transformers"},
    "graphdrl.methods": EDGE | WEB | CONFIG | EDGE_ROOMS | {"transformers"},
    "graphdrl.images": EDGE | WEB | CONFIG | EDGE_ROOMS | {"transformers"},
    "graphdrl.oracle.tiny": EDGE | CONFIG | EDGE_ROOMS,
    "graphdrl.oracle": EDGE | CONFIG | EDGE_ROOMS | {"transformers"},
    "graphdrl.training": EDGE | WEB | CONFIG | EDGE_ROOMS | {"transformers"},
    "graphdrl.storage": EDGE | WEB | CONFIG | EDGE_ROOMS | {"torch", "transformers", "scipy"},
    "graphdrl.report": EDGE | WEB | CONFIG | EDGE_ROOMS | {"transformers"},
    "graphdrl.config": EDGE | WEB | EDGE_ROOMS | {"torch", "transformers", "pyarrow", "scipy"},
    "graphdrl": EDGE | WEB | {"transformers"},
}
"""Room -> what must not be loaded when its modules are imported; the longest matching name counts."""


def modules_of(room: str) -> list[str]:
    """Every module of a room that no longer name claims."""
    folder = ROOT / room.replace(".", "/")
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(folder.rglob("*.py"))]
    names = [name.removesuffix(".__init__") for name in names]
    return [name for name in names if longest_room(name) == room]


def longest_room(module: str) -> str:
    rooms = [room for room in (*NEVER, *EDGE_ROOMS) if module == room or module.startswith(f"{room}.")]
    return max(rooms, key=len)


@pytest.mark.parametrize("room", NEVER)
def test_room_loads_nothing_that_it_must_not(room: str) -> None:
    modules = modules_of(room)
    assert modules, f"{room} has no modules"
    script = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print([name for name in {sorted(NEVER[room])!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]", f"{room} loads {done.stdout.strip()}"


def test_every_module_is_in_a_room_that_the_table_names() -> None:
    rooms = {path.name for path in (ROOT / "graphdrl").iterdir() if (path / "__init__.py").exists()}
    named = {name.split(".")[1] for name in (*NEVER, *EDGE_ROOMS) if name.startswith("graphdrl.")}
    assert rooms <= named
