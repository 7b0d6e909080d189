"""A run on remote storage: what is kept there, and this machine's working copy of it."""

import contextlib
import fcntl
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from graphdrl.storage import Uri, working_folder
from graphdrl.storage.files import RemoteFolder, local_files

CHECKPOINTS, EDGES, SCORES = "checkpoints", "edges", "scores"
STATE = "state.json"
"""Written last, it makes a checkpoint complete."""

_RELATIONS = "relations.parquet"
"""Uploaded last, it makes a relations version complete."""

_REVISION = "revision.txt"
"""Changes with every upload of the run's files: a working copy of the same revision is as new, or newer."""

_NOT_OURS = ("checkpoint_manager_snapshot.json",)
"""Ray Train's own books lie beside a run; they mean nothing on another machine."""


class Mirror:
    """The remote folder of a run; any process of any machine may hold one.

    Checkpoints and relations versions are whole or not there, and never change. All other files belong to whoever
    trains or finishes the run: they are uploaded together, and fetched together by a machine with an older revision.
    """

    def __init__(self, place: Uri) -> None:
        self.folder = working_folder(place)
        self._files = RemoteFolder(place)
        self._uploaded: dict[str, tuple[int, int]] = {}

    def exists(self) -> bool:
        """Whether a run has begun there."""
        try:
            self._files.read("config.yaml")
        except FileNotFoundError:
            return False
        return True

    # All but checkpoints -------------------------------------------------------------------------------------------

    def upload(self) -> None:
        """Keep what has changed since this process did so last."""
        self._upload_changed([name for name in local_files(self.folder) if not _is_apart(name)])
        self.upload_relations()
        revision = secrets.token_hex(8)
        with self._locked():
            self._files.write(_REVISION, revision.encode())
            self._mark.write_text(revision)

    def fetch(self) -> None:
        """Make the working copy as new as what is kept; one that is newer stays as it is."""
        kept = self._files.sizes()
        if _REVISION not in kept:
            return
        with self._locked():
            revision = self._files.read(_REVISION).to_pybytes().decode()
            if not self.is_newest(revision):
                self._files.download_files([name for name in kept if not _is_apart(name)], self.folder)
                self._mark.write_text(revision)
            self._files.download_files([name for name in kept if name.startswith(f"{SCORES}/")], self.folder)
        for name in self._files.complete_folders(EDGES, _RELATIONS):
            self.fetch_version(name)

    def is_newest(self, revision: str | None = None) -> bool:
        """Whether nobody uploaded the run's files since this machine did, or fetched them."""
        with contextlib.suppress(FileNotFoundError):
            kept = revision or self._files.read(_REVISION).to_pybytes().decode()
            return kept == self._mark.read_text()
        return False

    # Relations -----------------------------------------------------------------------------------------------------

    def upload_relations(self) -> None:
        """Keep relations versions, and the scores that they are of; from any machine, whoever trains the run."""
        names = [name for name in local_files(self.folder) if name.startswith((f"{EDGES}/", f"{SCORES}/"))]
        self._upload_changed([name for name in names if not name.endswith(f"/{_RELATIONS}")])
        self._upload_changed([name for name in names if name.endswith(f"/{_RELATIONS}")])

    def fetch_version(self, name: str) -> None:
        """Have the relations version in the folder `name`, if it is kept."""
        folder = self.folder / EDGES / name
        with self._locked():
            if not folder.exists() and f"{EDGES}/{name}/{_RELATIONS}" in self._files.sizes(f"{EDGES}/{name}"):
                self._files.download_folder(f"{EDGES}/{name}", folder)

    # Checkpoints ---------------------------------------------------------------------------------------------------

    def checkpoints(self) -> list[str]:
        """Names of the complete ones, oldest first."""
        return self._files.complete_folders(CHECKPOINTS, STATE)

    def upload_checkpoint(self, name: str) -> None:
        """Keep this machine's files of a checkpoint, all but the one that makes it complete."""
        folder = self.folder / CHECKPOINTS / name
        files = [file for file in local_files(folder) if file != STATE]
        self._files.upload_files(folder, files, f"{CHECKPOINTS}/{name}")

    def complete_checkpoint(self, name: str) -> None:
        """Say that every machine has kept its files; the run's other files go before."""
        self.upload()
        state = f"{CHECKPOINTS}/{name}/{STATE}"
        self._files.upload(self.folder / state, state)

    def fetch_checkpoint(self, name: str) -> None:
        """Have a complete checkpoint on this machine, with the files of every rank."""
        folder, state = self.folder / CHECKPOINTS / name, f"{CHECKPOINTS}/{name}/{STATE}"
        with self._locked():
            kept = self._files.sizes(f"{CHECKPOINTS}/{name}")
            here = {f"{CHECKPOINTS}/{name}/{file}" for file in local_files(folder)} if folder.exists() else set()
            same = state in here and (folder / STATE).read_bytes() == self._files.read(state).to_pybytes()
            if not same or kept.keys() - here:
                shutil.rmtree(folder, ignore_errors=True)
                self._files.download_folder(f"{CHECKPOINTS}/{name}", folder)

    def delete_checkpoints(self, names: list[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # it was not complete
                self._files.delete(f"{CHECKPOINTS}/{name}/{STATE}")
            self._files.delete_folder(f"{CHECKPOINTS}/{name}")

    def num_ranks(self) -> int:
        """How many ranks wrote the newest complete checkpoint."""
        newest = self.checkpoints()[-1:]
        names = self._files.sizes(f"{CHECKPOINTS}/{newest[0]}") if newest else {}
        return sum(name.split("/")[2].startswith("rank_") for name in names)

    def begun_checkpoints(self) -> list[str]:
        """Names of all, also of those that a kill cut short."""
        return sorted({name.split("/")[1] for name in self._files.sizes(CHECKPOINTS)})

    # -----------------------------------------------------------------------------------------------------------------

    @property
    def _mark(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f".{_REVISION}"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process of this machine at a time: ranks beside each other fetch the same files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _upload_changed(self, names: list[str]) -> None:
        states = {name: (self.folder / name).stat() for name in names}
        stamps = {name: (state.st_size, state.st_mtime_ns) for name, state in states.items()}
        changed = [name for name in names if self._uploaded.get(name) != stamps[name]]
        self._files.upload_files(self.folder, changed)
        self._uploaded |= {name: stamps[name] for name in changed}


def _is_apart(name: str) -> bool:
    """Whether a file is kept and fetched in a way of its own."""
    return name in (_REVISION, *_NOT_OURS) or name.startswith((".", f"{CHECKPOINTS}/", f"{EDGES}/", f"{SCORES}/"))
