"""Processes that belong together on this machine: known by a mark in their environment, ended by it alone.

Run as a program, it is the guard of a cluster: `processes.py MARK FOLDER`.
"""

import os
import shutil
import signal
import sys
import time

import psutil

MARK = "GRAPHDRL_HOME"
"""Environment variable that everything started for one node inherits; its value is CLUSTER:NODE."""

_ROUNDS = 100
_PAUSE_S = 0.1


def marked(mark: str) -> list[psutil.Process]:
    """Living processes whose mark begins like this, and all that descends from them.

    Descendants count because a process that renames itself may overwrite what it was given as environment.
    """
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if _mark(process).startswith(mark):
            found[process.pid] = process
            found |= {child.pid: child for child in _descendants(process)}
    found.pop(os.getpid(), None)
    return [process for process in found.values() if lives(process)]


def kill(mark: str) -> None:
    """SIGKILL all that bears the mark, as when a machine loses its power, and return when nothing of it is left.

    Raises RuntimeError for what does not die.
    """
    doomed: dict[int, psutil.Process] = {}
    for _ in range(_ROUNDS):
        doomed |= {process.pid: process for process in marked(mark)}
        living = [process for process in doomed.values() if lives(process)]
        if not living:
            return
        for process in living:
            send(process, signal.SIGKILL)
        time.sleep(_PAUSE_S)
    raise RuntimeError(f"processes {sorted(doomed)} of {mark} did not die; end them by hand")


def send(process: psutil.Process, number: signal.Signals) -> None:
    """The signal, unless the process has gone; never to another that took its number."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def lives(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and that nobody asked after does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _mark(process: psutil.Process) -> str:
    try:
        return process.environ().get(MARK, "")
    except (psutil.Error, OSError):  # gone meanwhile, or another user's
        return ""


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _guard(mark: str, folder: str) -> None:
    """Wait until standard input ends, as it does when whoever holds the other end does, and end the cluster then."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    kill(mark)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _guard(*sys.argv[1:])
