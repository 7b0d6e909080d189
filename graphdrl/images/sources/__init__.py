"""Sources of images, one file each, found by name."""

from graphdrl.images.sources.base import SOURCES, ImageSet, Source, SourceParameters, load_source, source_class

__all__ = ["SOURCES", "ImageSet", "Source", "SourceParameters", "load_source", "source_class"]
