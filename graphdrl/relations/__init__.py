"""Relations among attributes: estimated from scores, with intervals, as numbered versions that a model trains on."""

from graphdrl.relations.correction import Correction
from graphdrl.relations.correlate import CorrelateQuestion, correlate
from graphdrl.relations.do_edges import DO_MEANING, SignAgreement, estimate_do, sign_agreement
from graphdrl.relations.edges import DoEdges, Edges, NodeMap, RelationsVersion
from graphdrl.relations.estimators import estimator_names, load_estimator
from graphdrl.relations.intervals import FEWEST_IMAGES, estimate, estimate_many
from graphdrl.relations.recovery import recovery, true_relations
from graphdrl.relations.table import Relation, RelationSource
from graphdrl.relations.updater import Updater, relations_key
from graphdrl.relations.weights import decorrelating_weights, latent_correlation
from graphdrl.relations.wire import RelationsBody

__all__ = [
    "DO_MEANING",
    "FEWEST_IMAGES",
    "Correction",
    "CorrelateQuestion",
    "DoEdges",
    "Edges",
    "NodeMap",
    "Relation",
    "RelationSource",
    "RelationsBody",
    "RelationsVersion",
    "SignAgreement",
    "Updater",
    "correlate",
    "decorrelating_weights",
    "estimate",
    "estimate_do",
    "estimate_many",
    "estimator_names",
    "latent_correlation",
    "load_estimator",
    "recovery",
    "relations_key",
    "sign_agreement",
    "true_relations",
]
