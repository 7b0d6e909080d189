"""Images: built-in data with known relations, sources, shards, and the loader that batches them."""

from graphdrl.images.bayesnet import BayesNet, Node
from graphdrl.images.ids import image_id, image_ids
from graphdrl.images.sources.base import SOURCES, ImageSet, Source, SourceParameters, load_source, source_class

__all__ = [
    "SOURCES",
    "BayesNet",
    "ImageSet",
    "Node",
    "Source",
    "SourceParameters",
    "image_id",
    "image_ids",
    "load_source",
    "source_class",
]
