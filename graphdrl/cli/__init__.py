"""The command line: one file a command."""

from graphdrl.cli.app import main

__all__ = ["main"]
