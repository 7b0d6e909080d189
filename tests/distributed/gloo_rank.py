"""One rank of a training behind DeepSpeed, without Ray: `python gloo_rank.py JOB.json RANK`.

The job names the runs to train, one after the other: starting a process that imports DeepSpeed takes longer than they.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from graphdrl.config import Config, check
from graphdrl.distributed import DeepSpeedEngine
from graphdrl.training import RecordedRelations, Run
from jobs.assemble import assemble, training_images


class GlooContext:
    """A rank among processes that found each other by themselves; see `graphdrl.training.TrainContext`."""

    device = torch.device("cpu")

    def __init__(self, resume_from: Path | None) -> None:
        self.rank, self.world_size, self.resume_from = dist.get_rank(), dist.get_world_size(), resume_from
        self.local_rank = self.rank

    def agree_any(self, flag: bool) -> bool:
        return bool(self._reduce(torch.tensor(int(flag)), dist.ReduceOp.MAX))

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        return self._reduce(values.detach().clone(), dist.ReduceOp.SUM) / self.world_size

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        dist.barrier()

    def _reduce(self, value: torch.Tensor, operation: dist.ReduceOp.RedOpType) -> torch.Tensor:
        dist.all_reduce(value, operation)
        return value


def train(config: Config, replay: Path) -> None:
    """The run of this configuration, from its last checkpoint if it has one, on the relations in `replay`."""

    def engine(module: torch.nn.Module, settings, batch_size: int) -> DeepSpeedEngine:
        return DeepSpeedEngine(module, settings, zero_stage=config.training.zero_stage, batch_size=batch_size)

    run = Run(config.folder)
    run.folder.mkdir(parents=True, exist_ok=True)
    context = GlooContext(run.last_checkpoint())
    relations = RecordedRelations(Run(replay))
    training = assemble(config, context, training_images(config), engine, relations, None, replay=replay)
    training.run()
    training.save_model()


def main(job: Path, rank: int) -> None:
    told = json.loads(job.read_text())
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{job}.meeting", rank=rank, world_size=told["world_size"])
    for tree in told["configs"]:
        train(check(tree), Path(told["replay"]))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
