"""Report: a run, or the relations in a folder of images, as one self-contained page of HTML."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphdrl.report.examples import choose_examples, images_needed
    from graphdrl.report.page import (
        RelationsContent,
        ReportContent,
        Traversal,
        curves_from_rows,
        write_relations_page,
        write_report,
    )

__all__ = [
    "RelationsContent",
    "ReportContent",
    "Traversal",
    "choose_examples",
    "curves_from_rows",
    "images_needed",
    "write_relations_page",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Matplotlib takes a second to import: only who writes a page pays for it."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"graphdrl.report has no {name!r}; it hands out {', '.join(__all__)}")
    room = "examples" if name in ("choose_examples", "images_needed") else "page"
    return getattr(import_module(f"graphdrl.report.{room}"), name)
