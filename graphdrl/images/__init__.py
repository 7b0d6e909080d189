"""Images: built-in data with known relations, sources, shards, and the loader that batches them."""

from graphdrl.images.bayesnet import BayesNet, Node
from graphdrl.images.ids import image_id, image_ids
from graphdrl.images.loader import Loader, to_float, to_uint8
from graphdrl.images.prepare import prepare
from graphdrl.images.shards import DiskFull, read_shards, write_shards
from graphdrl.images.sources.base import SOURCES, ImageSet, Source, SourceParameters, load_source, source_class

__all__ = [
    "SOURCES",
    "BayesNet",
    "DiskFull",
    "ImageSet",
    "Loader",
    "Node",
    "Source",
    "SourceParameters",
    "image_id",
    "image_ids",
    "load_source",
    "prepare",
    "read_shards",
    "source_class",
    "to_float",
    "to_uint8",
    "write_shards",
]
