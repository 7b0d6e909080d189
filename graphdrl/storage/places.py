"""Places by name: a folder, or an address such as s3://bucket/runs; nothing here opens one."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Union
from urllib.parse import parse_qsl, urlsplit
from urllib.request import url2pathname

_SECRET = re.compile(r"secret|password|token|credential$|access_key|account_key|^sig$", re.IGNORECASE)
"""Names of query parameters that carry credentials."""

_ENVIRONMENT = (
    "leave them out, and set them in the environment of every machine (such as AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or GOOGLE_APPLICATION_CREDENTIALS)"
)


@dataclass(frozen=True)
class Uri:
    """A folder on a remote filesystem, with as much of `Path` as is wanted of it.

    base: scheme, authority and path, without a slash at its end; query: options of the filesystem.
    """

    base: str
    query: str = ""

    def __truediv__(self, name: str | Path) -> "Uri":
        return Uri(f"{self.base}/{name}", self.query)

    def __str__(self) -> str:
        return f"{self.base}?{self.query}" if self.query else self.base

    @property
    def name(self) -> str:
        return self.base.rsplit("/", 1)[1]

    @property
    def parent(self) -> "Uri":
        """Raises ValueError for a whole bucket, which lies in no folder."""
        if not urlsplit(self.base).path.strip("/"):
            raise ValueError(f"{self} is a whole bucket; give a folder in it, such as {self.base}/runs")
        return Uri(self.base.rsplit("/", 1)[0], self.query)

    def resolve(self) -> "Uri":
        """Itself: an address is the same from everywhere."""
        return self


Place = Union[Path, Uri]  # noqa: UP007 - as a value, `|` would need the type of each side at import
"""A folder: on this machine's disks, or remote."""


def place(text: str | Path | Uri) -> Place:
    """The place that `text` names: an address when it has a scheme other than file, else a folder.

    Raises ValueError for what is neither, and for an address with credentials in it: it is written down in
    configurations and logs.
    """
    if isinstance(text, (Path, Uri)):
        return text
    if not isinstance(text, str) or not text:
        raise ValueError(f"{text!r} is neither a folder nor an address such as s3://bucket/runs")
    if "://" not in text:
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    user, at, host = parts.netloc.rpartition("@")
    shown = f"{parts.scheme}://{'***@' if at else ''}{host}{parts.path}"
    if ":" in user or (user and parts.scheme == "s3"):
        raise ValueError(f"the address {shown} carries credentials: {_ENVIRONMENT}")
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if _SECRET.search(name):
            raise ValueError(f"{name} in the address {shown} carries credentials: {_ENVIRONMENT}")
    if not parts.netloc and not parts.path.strip("/"):
        raise ValueError(f"the address {shown} names no bucket and no folder")
    return Uri(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", parts.query)


def cache_folder() -> Path:
    """Where this machine's copies of remote things lie: GRAPHDRL_CACHE, or ~/.cache/graphdrl."""
    given = os.environ.get("GRAPHDRL_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "graphdrl"


def working_folder(where: Place) -> Path:
    """The folder on this machine's disk for what is kept at `where`: itself, or one in the cache."""
    if isinstance(where, Path):
        return where
    digest = hashlib.blake2b(str(where.parent).encode(), digest_size=6).hexdigest()
    return cache_folder() / where.base.partition("://")[0] / digest / where.name
