"""Report: a run, a search, or the relations in a folder of images, as one self-contained page of HTML."""

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
    from graphdrl.report.search import SearchReport, TrialRow, write_search_report

__all__ = [
    "RelationsContent",
    "ReportContent",
    "SearchReport",
    "Traversal",
    "TrialRow",
    "choose_examples",
    "curves_from_rows",
    "images_needed",
    "write_relations_page",
    "write_report",
    "write_search_report",
]

_ROOMS = {
    "choose_examples": "examples",
    "images_needed": "examples",
    "SearchReport": "search",
    "TrialRow": "search",
    "write_search_report": "search",
}


def __getattr__(name: str) -> Any:
    """Matplotlib takes a second to import: only who writes a page pays for it."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"graphdrl.report has no {name!r}; it hands out {', '.join(__all__)}")
    return getattr(import_module(f"graphdrl.report.{_ROOMS.get(name, 'page')}"), name)
