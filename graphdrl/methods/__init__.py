"""Methods of training, one file each, found by name."""

from graphdrl.methods.base import Batch, Method, MethodParameters, ModelShape, load_method, method_classes

__all__ = ["Batch", "Method", "MethodParameters", "ModelShape", "load_method", "method_classes"]
