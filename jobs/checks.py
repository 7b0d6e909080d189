"""What is wrong with a job, said before anything starts: a worker would say it minutes later."""

from collections.abc import Sequence
from difflib import get_close_matches

from graphdrl.config import Config
from graphdrl.images.checks import SUFFIXES, find_image_files
from graphdrl.oracle import check_attribute, model_key
from graphdrl.oracle.identity import BUILTIN
from graphdrl.oracle.tiny.data import ATTRIBUTES as BUILTIN_ATTRIBUTES
from graphdrl.relations import load_estimator
from graphdrl.relations.intervals import FEWEST_IMAGES
from graphdrl.storage.files import check_writable
from graphdrl.training import StepShape
from jobs.assemble import attributes_of


def check_job(config: Config) -> None:
    """Raises ValueError for a training that could not be carried through."""
    check_storage(config)
    _check_path(config)
    attributes = attributes_of(config)
    if config.oracle.engine != "none":
        check_attributes(attributes, config.oracle.model)
        model_key(config.oracle.model)
        _check_relations(config)
    num_latents = config.model.num_latents
    if config.nodes == "ranked" and len(attributes) > num_latents:
        raise ValueError(
            f"{len(attributes)} attributes need a latent dimension each and model.num_latents is {num_latents}: "
            "raise it, or name fewer attributes"
        )
    training = config.training
    workers = training.num_workers if training.backend == "ray" else 1
    shape = StepShape(training.batch_size, training.pair_groups, training.group_size)
    for number in range(workers if training.min_workers is None else training.min_workers, workers + 1):
        shape.check(number)


def _check_path(config: Config) -> None:
    """Images that are read must be there: those of a folder, or a published file."""
    path = config.data.path
    if path is None:
        return
    if config.data.source != "folder" and not path.is_file():
        raise ValueError(f"there is no file {str(path)!r} to read the images of {config.data.source} from")
    if config.data.source == "folder" and not find_image_files(path):
        raise ValueError(f"folder {str(path)!r} has no image files (their names end in {', '.join(sorted(SUFFIXES))})")


def check_storage(config: Config) -> None:
    """Raises ValueError when the run, or what is paid for with it, could not be written down."""
    check_writable(config.runs, "folder of runs")
    if config.oracle.engine != "none":
        check_writable(config.oracle.score_store, "score store")


def _check_relations(config: Config) -> None:
    """What the updater of the relations would refuse when everything else runs already."""
    load_estimator(config.relations.estimator)
    marks = [*config.relations.update_at, *([config.oracle.num_scored] if config.oracle.num_scored else [])]
    if min(marks, default=FEWEST_IMAGES) < FEWEST_IMAGES:
        raise ValueError(
            f"relations cannot be estimated at {min(marks)} scored images, {FEWEST_IMAGES} are the fewest: raise "
            "oracle.num_scored and relations.update_at, or set oracle.num_scored=0"
        )


def check_attributes(attributes: Sequence[str], model: str) -> None:
    """Raises ValueError for a name given twice, one that no model can be asked for, or that ours never learnt."""
    if len(set(attributes)) < len(attributes):
        raise ValueError(f"attributes must be distinct: {', '.join(attributes)}")
    for name in attributes:
        check_attribute(name)
        if model == BUILTIN and name not in BUILTIN_ATTRIBUTES:
            near = get_close_matches(name, BUILTIN_ATTRIBUTES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"the built-in oracle never learnt the attribute {name!r}{hint} (it knows: "
                f"{', '.join(BUILTIN_ATTRIBUTES)}; any other name needs another oracle.model)"
            )
