"""The relations of a run: what else its oracle can tell of them, asked and kept, and the table of all that is known."""

from dataclasses import replace

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graphdrl.cli.own_images import NO_COMMONSENSE
from graphdrl.models import GEM
from graphdrl.relations import DO_MEANING, Edges, Relation
from graphdrl.training import Run

NUM_MOVED = 48
"""Images whose nodes are moved; each is decoded and graded at both ends of every node, alone and with neighbours."""

_NARROWEST = 100
"""Columns, also where nobody says how many there are: a pipe."""


def ask_what_moves(run: Run, overrides: list[str]) -> None:
    """Let the run's oracle, in this process, grade what the model makes of moved nodes; kept beside its relations."""
    from graphdrl.config import load_config
    from graphdrl.training import measure_do_edges
    from jobs import identity_of, open_oracle, training_images

    model, edges = _model_and_edges(run)
    here = ("training.backend=local", "oracle.engine=transformers", "oracle.scoring=tokens", "naming.words=false")
    config, console = load_config(run.config, [*here, *overrides]), Console(stderr=True, soft_wrap=True)
    with console.status("drawing images") as status:
        images = training_images(config).images[:NUM_MOVED]
        with open_oracle(config, status.update) as oracle:
            status.update(f"moving {len(edges.attributes)} nodes of {len(images)} images")
            grader = identity_of(config).model
            both = measure_do_edges(model, oracle, images, seed=config.seed, client=config.name, oracle_model=grader)
    _keep(run, model, replace(edges, do=both))


def ask_what_is_believed(run: Run, overrides: list[str]) -> None:
    """Ask the run's oracle what it believes of the attributes without looking; kept beside the run's relations."""
    from graphdrl.config import load_config
    from graphdrl.oracle import RelateQuestion
    from graphdrl.oracle.asking import as_answered
    from graphdrl.oracle.identity import BUILTIN
    from jobs import open_oracle

    config = load_config(run.config, overrides)
    if config.oracle.model == BUILTIN:
        raise ValueError(f"{NO_COMMONSENSE}, with --set oracle.model=NAME")
    model, edges = _model_and_edges(run)
    with Console(stderr=True).status("starting") as status, open_oracle(config, status.update) as oracle:
        [(_, answer)] = as_answered(oracle, [RelateQuestion(edges.attributes, client=config.name)])
    _keep(run, model, replace(edges, beliefs=answer))


def print_relations(run: Run) -> None:
    """Every pair, a row for each source, both directions."""
    _, edges = _model_and_edges(run)
    table = Table("pair", "source", "first -> second", "second -> first", title=f"Relations of {run.name}", box=SIMPLE)
    before = ("", "")
    for row in edges.table():
        pair = (row.first, row.second)
        source = row.source if row.source == row.measure else f"{row.source}: {row.measure}"
        table.add_row("" if pair == before else " - ".join(pair), source, *_directions(row))
        before = pair
    console = Console(width=max(Console().width, _NARROWEST))
    console.print(table)
    console.print(f"{edges.num_scored:,} images scored; 95 % intervals in brackets", highlight=False, markup=False)
    if edges.do:
        console.print(DO_MEANING, highlight=False, soft_wrap=True)


def _directions(row: Relation) -> tuple[str, str]:
    forth = _written(row.weight, row.low, row.high, row.resolved)
    back = _written(row.reverse_weight, row.reverse_low, row.reverse_high, row.reverse_resolved)
    return escape(forth), escape(back)


def _written(weight: float | None, low: float | None, high: float | None, resolved: bool | None) -> str:
    """A weight with its interval; one that is unresolved is not quoted, since it has no sign."""
    if weight is None:
        return "unknown"
    if low is None or high is None:
        return f"{weight:+.2f}"
    return f"{f'{weight:+.2f}' if resolved else 'unresolved'} [{low:+.2f}, {high:+.2f}]"


def _keep(run: Run, model: GEM, edges: Edges) -> None:
    model.relations = edges
    model.save_pretrained(run.model)
    run.upload()


def _model_and_edges(run: Run) -> tuple[GEM, Edges]:
    if not run.model.exists():
        raise ValueError(f"{run.place} has no trained model (model/ is missing); train one, or resume it with --resume")
    model = GEM.from_pretrained(run.model)
    if model.relations is None:
        raise ValueError(f"the model of {run.place} knows no relations: nobody scored its images; train with an oracle")
    return model, model.relations
