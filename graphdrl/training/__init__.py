"""The training loop and what it leaves: no Ray, no DeepSpeed, no configuration tree."""

from graphdrl.training.asking import Asker, choose_for_scoring
from graphdrl.training.batches import Batches, StepShape
from graphdrl.training.context import LocalContext, TrainContext
from graphdrl.training.do_edges import measure_do_edges
from graphdrl.training.engine import Engine, LocalEngine, OptimizerSettings, frozen_weights
from graphdrl.training.evaluate import codes_and_error, measure
from graphdrl.training.generated import reconstructions, samples
from graphdrl.training.image_quality import measure_image_quality
from graphdrl.training.label_free import Posterior, posterior
from graphdrl.training.loggers import JsonLines, Logger, TensorBoard
from graphdrl.training.loop import LoopSettings, NodeNamer, Parts, Progress, Training
from graphdrl.training.naming import Namer
from graphdrl.training.naming_by_scores import NamerByScores
from graphdrl.training.oracle_disentanglement import measure_oracle_disentanglement
from graphdrl.training.relation_fidelity import measure_relation_fidelity, shown_relations
from graphdrl.training.relations_source import LocalRelations, RecordedRelations, RelationsSource
from graphdrl.training.runs import Run, append_line, write_atomically
from graphdrl.training.schedule import LiveSchedule, RecordedSchedule, Schedule
from graphdrl.training.step import Engines, train_step
from graphdrl.training.supervision import Supervision
from graphdrl.training.tables import read_scores, write_scores

__all__ = [
    "Asker",
    "Batches",
    "Engine",
    "Engines",
    "JsonLines",
    "LiveSchedule",
    "LocalContext",
    "LocalEngine",
    "LocalRelations",
    "Logger",
    "LoopSettings",
    "Namer",
    "NamerByScores",
    "NodeNamer",
    "OptimizerSettings",
    "Parts",
    "Posterior",
    "Progress",
    "RecordedRelations",
    "RecordedSchedule",
    "RelationsSource",
    "Run",
    "Schedule",
    "StepShape",
    "Supervision",
    "TensorBoard",
    "TrainContext",
    "Training",
    "append_line",
    "choose_for_scoring",
    "codes_and_error",
    "frozen_weights",
    "measure",
    "measure_do_edges",
    "measure_image_quality",
    "measure_oracle_disentanglement",
    "measure_relation_fidelity",
    "posterior",
    "read_scores",
    "reconstructions",
    "samples",
    "shown_relations",
    "train_step",
    "write_atomically",
    "write_scores",
]
