"""What runs on a cluster, or on a laptop: training, scoring, relations."""

from jobs.assemble import (
    assemble,
    attributes_of,
    identity_of,
    make_method,
    make_updater,
    prepare_process,
    shape_of,
    source_parameters,
    training_images,
)
from jobs.checks import check_attributes, check_job
from jobs.evaluate import Measures, evaluate_run, keep_figures
from jobs.evaluate_oracle import Evaluated, LabelledImages, evaluate_oracle, labelled_images
from jobs.finish import Finished, finish, held_out_images, known_relations, measured, write_run_report
from jobs.oracle import start_application, wait_for_application
from jobs.score import open_oracle, score_images, scores_of, subset
from jobs.search_end import Searched
from jobs.server import JobEnd, JobRow, JobServer
from jobs.submit import begin_submitted, check_package, left_behind, new_id
from jobs.train import Start, begin, resume, train
from jobs.tune import SearchStart, begin_search, resume_search, tune

__all__ = [
    "Evaluated",
    "Finished",
    "JobEnd",
    "JobRow",
    "JobServer",
    "LabelledImages",
    "Measures",
    "SearchStart",
    "Searched",
    "Start",
    "assemble",
    "attributes_of",
    "begin",
    "begin_search",
    "begin_submitted",
    "check_attributes",
    "check_job",
    "check_package",
    "evaluate_oracle",
    "evaluate_run",
    "finish",
    "held_out_images",
    "identity_of",
    "keep_figures",
    "known_relations",
    "labelled_images",
    "left_behind",
    "make_method",
    "make_updater",
    "measured",
    "new_id",
    "open_oracle",
    "prepare_process",
    "resume",
    "resume_search",
    "score_images",
    "scores_of",
    "shape_of",
    "source_parameters",
    "start_application",
    "subset",
    "train",
    "training_images",
    "tune",
    "wait_for_application",
    "write_run_report",
]
