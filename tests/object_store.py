"""A local S3-compatible server, and what tests do to it."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer

_numbers = itertools.count()


class ObjectStore:
    """The server and its buckets, seen by another client than ours."""

    def __init__(self, port: int) -> None:
        self.options = f"scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1"
        self.client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1")

    def new_bucket(self) -> "Bucket":
        bucket = Bucket(self, f"bucket-{next(_numbers)}")
        self.client.create_bucket(Bucket=bucket.name)
        return bucket


class Bucket:
    """One bucket; `uri` addresses a folder in it."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self.name, self._store = name, store

    def uri(self, path: str) -> str:
        return f"s3://{self.name}/{path}?{self._store.options}"

    def names(self, under: str = "") -> list[str]:
        """Objects below `under`, relative to it; without the marks of empty folders."""
        pages = self._store.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=under)
        keys = [one["Key"] for page in pages for one in page.get("Contents", [])]
        return sorted(key.removeprefix(under).lstrip("/") for key in keys if not key.endswith("/"))

    def read(self, name: str) -> bytes:
        return self._store.client.get_object(Bucket=self.name, Key=name)["Body"].read()

    def put(self, name: str, content: bytes) -> None:
        self._store.client.put_object(Bucket=self.name, Key=name, Body=content)

    def delete(self, name: str) -> None:
        self._store.client.delete_object(Bucket=self.name, Key=name)


@contextmanager
def running_store() -> Iterator[ObjectStore]:
    """Started on a free port of this machine, with credentials in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "tester")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        try:
            yield ObjectStore(server.get_host_and_port()[1])
        finally:
            server.stop()
