"""Relations among attributes: estimated from scores, with intervals, as numbered versions that a model trains on."""

from graphdrl.relations.correction import Correction
from graphdrl.relations.correlate import CorrelateQuestion, correlate
from graphdrl.relations.edges import Edges, NodeMap, RelationsVersion
from graphdrl.relations.estimators import estimator_names, load_estimator
from graphdrl.relations.intervals import FEWEST_IMAGES, estimate, estimate_many
from graphdrl.relations.recovery import recovery, true_relations
from graphdrl.relations.updater import Updater, relations_key
from graphdrl.relations.weights import decorrelating_weights, latent_correlation
from graphdrl.relations.wire import RelationsBody

__all__ = [
    "FEWEST_IMAGES",
    "Correction",
    "CorrelateQuestion",
    "Edges",
    "NodeMap",
    "RelationsBody",
    "RelationsVersion",
    "Updater",
    "correlate",
    "decorrelating_weights",
    "estimate",
    "estimate_many",
    "estimator_names",
    "latent_correlation",
    "load_estimator",
    "recovery",
    "relations_key",
    "true_relations",
]
