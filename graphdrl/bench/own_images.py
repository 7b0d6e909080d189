"""Images that nothing here was made for: PNG files in a style that the oracle never saw, and real photographs."""

from pathlib import Path
from typing import Any

from graphdrl.bench.registry import Say
from graphdrl.bench.runs import fresh_folder, run_config
from graphdrl.images.avatars import HELD_OUT_SEED, STYLES, PortraitNet
from graphdrl.images.sources.avatars import write_folder
from graphdrl.oracle import HIGHEST_GRADE
from graphdrl.relations import recovery, true_relations
from graphdrl.training import Run

_STYLE = "personas"
_ATTRIBUTES = ("bald", "beard", "glasses", "smile", "hat", "skin")
_SHORT = ("training.steps=300", "relations.update_at=[200]")


def run(say: Say) -> dict[str, Any]:
    """What the two runs came to; the network that drew the PNG files is known here, and to nobody else."""
    with fresh_folder() as folder:
        say(f"a folder of PNG files in the style {_STYLE}")
        pictures = Path(folder) / "pictures"
        write_folder(pictures, 1_500, 64, HELD_OUT_SEED, _STYLE)
        named = run_config(
            folder,
            "own-folder",
            f"data={{path: {pictures}}}",
            f"attributes=[{', '.join(_ATTRIBUTES)}]",
            "oracle.num_scored=1000",
            *_SHORT,
        )
        found = recovery(named.read_version(named.versions()[-1]).edges, _truth())
        say("patches of real photographs, nodes discovered")
        patches = run_config(
            folder,
            "photographs",
            "data={source: photographs, num_images: 2000, num_test: 0}",
            "nodes=discovered",
            "attributes=[]",
            "oracle.num_scored=400",
            *_SHORT,
        )
        names = [node["name"] for node in patches.read_nodes() if node["name"] != f"factor_{node['dimension']}"]
        return {
            "folder": _shown(named) | {"style": _STYLE, "relations": found},
            "photographs": _shown(patches) | {"named": names},
        }


def _truth() -> Any:
    network = PortraitNet(STYLES[_STYLE])
    columns = [network.nodes.index(name) for name in _ATTRIBUTES]
    return true_relations(HIGHEST_GRADE * network.sample(200_000, 0)[:, columns])


def _shown(run: Run) -> dict[str, Any]:
    summary = run.read_summary()
    return {name: summary[name] for name in ("images_trained", "images_scored", "edge_versions", "seconds")}
