"""What the oracle's service can be told: one typed, closed set of settings."""

import os
import secrets
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

KEY_VARIABLE = "GRAPHDRL_API_KEY"


class OracleSettings(BaseModel):
    """Which model answers, with what, and through which doors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: str = Field("builtin", description="builtin, or any model that vLLM can serve, by name or folder")
    num_replicas: int = Field(1, ge=1, le=64, description="engines")
    num_cpus: float = Field(0.5, ge=0, description="CPUs that Ray reserves for each engine")
    num_gpus: float = Field(0.0, ge=0, description="GPUs for each engine")
    num_threads: int = Field(1, ge=1, description="threads of each CPU engine")
    engine_args: dict[str, Any] = Field(default_factory=dict, description="passed to vLLM as they are")
    score_store: Path = Field(Path("runs/score_store"), description="folder of everything that was ever scored")
    max_queue: int = Field(20_000, ge=1, description="grades that may wait; beyond it questions are refused")
    http_port: int | None = Field(None, ge=1, le=65_535, description="port of the HTTP door; none: there is no door")
    http_host: str = Field("127.0.0.1", description="address of the HTTP door")
    api_key: SecretStr | None = Field(
        None, description=f"what the HTTP door asks for; none: {KEY_VARIABLE}, or a key made and kept in door.key"
    )

    def door_key(self) -> str:
        """The HTTP door's key: as given, from the environment, or made once and kept beside the score store."""
        given = self.api_key.get_secret_value() if self.api_key else os.environ.get(KEY_VARIABLE, "")
        if given:
            return given
        path = self.score_store / "door.key"
        self.score_store.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(32))
        except FileExistsError:
            pass
        return path.read_text()
