"""Draws or reads a source's images once and keeps them as shards: every rank, and every later run, reads those."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphdrl.images.shards import MANIFEST, read_shards, write_shards
from graphdrl.images.sources.base import ImageSet, source_class
from graphdrl.storage import Place, Uri, working_folder
from graphdrl.storage.files import RemoteFolder

logger = logging.getLogger(__name__)

_ROOM = Path(__file__).parent


def prepare(name: str, parameters: Mapping[str, Any], num: int | None, size: int, seed: int, cache: Place) -> ImageSet:
    """The images of the source called `name`, from shards in `cache`, where they are put the first time.

    num: how many images, None for all; size: pixels a side. A folder whose files have changed is read anew.
    cache: a folder, or an address: then they are kept there, and each machine has its own copy.
    Raises what the source and `write_shards` raise, and StorageError; nothing is left half written.
    """
    cls = source_class(name)
    checked = cls.Parameters(**parameters)
    plain = checked.model_dump(mode="json")
    kept = cache / f"{name}-{_fingerprint([name, plain, num, size, seed], plain.get('path'))}"
    folder, remote = working_folder(kept), RemoteFolder(cache) if isinstance(cache, Uri) else None
    if remote is not None and not (folder / MANIFEST).exists() and kept.name in remote.complete_folders("", MANIFEST):
        remote.download_folder(kept.name, folder)
    if not (folder / MANIFEST).exists():
        fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
        try:
            images = cls(checked).draw(num, size, seed)
            write_shards(images, fresh, source=name, parameters=plain, seed=seed)
            fresh.rename(folder)
        except OSError:
            # Jobs that begin together draw the same images: the quicker one's, which are whole, stay.
            if not (folder / MANIFEST).exists():
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        if remote is not None:
            remote.upload_folder(folder, kept.name, last=MANIFEST)
    images = read_shards(folder)
    for file, reason in images.skipped:
        logger.warning("skipped %s: %s", file, reason)
    return images


def _fingerprint(settings: list[Any], own_images: str | None) -> str:
    """Changes with all that the images depend on: the settings, the code that draws, the files that are read."""
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8)
    for path in sorted(_ROOM.rglob("*.py")):
        digest.update(path.read_bytes())
    for path in [Path(own_images), *sorted(Path(own_images).rglob("*"))] if own_images else ():
        status = path.stat()
        digest.update(f"{path}:{status.st_size}:{status.st_mtime_ns}".encode())
    return digest.hexdigest()
