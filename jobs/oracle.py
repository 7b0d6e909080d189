"""The oracle's application as the jobs use it: found when it runs, started when it does not."""

import threading
from typing import TYPE_CHECKING

from graphdrl.config import Config
from graphdrl.storage import working_folder
from graphdrl.storage.files import check_writable

if TYPE_CHECKING:
    from serve import OracleSettings

APPLICATION = "oracle"

_SHARE_OF_GPU = 0.3


def start_application(
    config: Config, num_gpus: float, http_port: int | None = None, http_host: str = "127.0.0.1"
) -> "OracleSettings":
    """Find or start the oracle on the Ray cluster that this process has joined; it goes on starting meanwhile.

    num_gpus: of each engine, where the configuration leaves it open. http_port, http_host: also open an HTTP door.
    Returns what it runs with.
    Raises OracleError for what is wrong at first sight.
    """
    from serve import OracleSettings, start_oracle  # Ray Serve takes seconds to import

    oracle = config.oracle
    check_writable(oracle.score_store, "score store")
    num_gpus = num_gpus if oracle.num_gpus is None else oracle.num_gpus
    # vLLM takes nearly a whole GPU unless it is told that others live there too.
    shared = {"gpu_memory_utilization": _SHARE_OF_GPU} if 0 < num_gpus < 1 else {}
    same = {name: value for name, value in dict(oracle).items() if name in OracleSettings.model_fields}
    own = {
        "num_gpus": num_gpus,
        "engine_args": shared | oracle.engine_args,
        "http_port": http_port,
        "http_host": http_host,
    }
    if config.placement == "split":
        from graphdrl.distributed import ORACLE_POOL, seat

        own["resources"] = seat(ORACLE_POOL)
    own["log"] = working_folder(oracle.score_store) / "oracle.jsonl"
    settings = OracleSettings(**same | own)
    start_oracle(settings, name=APPLICATION, wait=False)
    return settings


def wait_for_application() -> None:
    """Returns when the oracle can answer; raises OracleError when it cannot start."""
    from serve import wait_for_oracle

    wait_for_oracle(APPLICATION)


class Starting:
    """Watches the oracle's start in the background: training begins meanwhile, and learns why when it fails."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            wait_for_application()
        except Exception as error:  # handed to whoever finds training ended by it
            self.error = error
