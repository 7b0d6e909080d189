"""The oracle's application as the jobs use it: found when it runs, started when it does not."""

from graphdrl.config import Config

APPLICATION = "oracle"


def start_application(config: Config, wait: bool) -> None:
    """Find or start the oracle on the Ray cluster that this process has joined.

    wait: return when it can answer; otherwise it goes on starting while the caller goes on.
    Raises OracleError when it cannot start.
    """
    from serve import OracleSettings, start_oracle  # Ray Serve takes seconds to import

    oracle = config.oracle
    settings = OracleSettings(
        model=oracle.model,
        num_replicas=oracle.num_replicas,
        num_cpus=oracle.num_cpus,
        num_gpus=oracle.num_gpus,
        num_threads=oracle.num_threads,
        score_store=oracle.score_store.resolve(),
        engine_args=oracle.engine_args,
    )
    start_oracle(settings, name=APPLICATION, wait=wait)
