"""What the oracle's service can be told: one typed, closed set of settings."""

import os
import secrets
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, SecretStr, model_validator

from graphdrl.oracle.prompts import ScoringWay
from graphdrl.storage import Place, place, working_folder

KEY_VARIABLE = "GRAPHDRL_API_KEY"


class OracleSettings(BaseModel):
    """Which model answers, with what, and through which doors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: str = Field("builtin", description="builtin, or any model that vLLM can serve, by name or folder")
    images: bool = Field(True, description="false: a language model without eyes, asked for beliefs alone")
    num_replicas: int = Field(1, ge=0, le=64, description="engines; with max_replicas: to begin with")
    min_replicas: int = Field(1, ge=0, le=64, description="fewest engines; 0: none when idle")
    max_replicas: int | None = Field(None, ge=1, le=64, description="most engines, as the queue asks for; none: fixed")
    idle_s: float = Field(300.0, gt=0, description="seconds of a short queue before engines are taken away")
    tensor_parallel_size: int = Field(1, ge=1, le=64, description="GPUs (or CPU processes) that share one engine")
    num_cpus: float = Field(0.5, ge=0, description="CPUs that Ray reserves for each engine")
    num_gpus: float = Field(0.0, ge=0, description="GPUs for each engine")
    resources: dict[str, float] = Field(
        default_factory=dict, description="custom resources that front and engines ask for: those of a pool of nodes"
    )
    num_threads: int = Field(1, ge=1, description="threads of each CPU engine")
    engine_args: dict[str, Any] = Field(default_factory=dict, description="passed to vLLM as they are")
    scoring: ScoringWay = Field("tokens", description="tokens: one an attribute; structured: one JSON answer an image")
    prompts: Path | None = Field(None, description="folder of own NAME.txt, in place of the prompts that come along")
    calibration: Path | None = Field(None, description="what `graphdrl oracle-eval --save` wrote of this model")
    score_store: Annotated[Place, PlainValidator(place), PlainSerializer(str)] = Field(
        Path("runs/score_store"), description="folder, or s3://, gs:// ..., of everything that was ever scored"
    )
    max_queue: int = Field(20_000, ge=1, description="grades that may wait; beyond it questions are refused")
    log: Path | None = Field(None, description="file of the front's structured log; none: its standard error")
    http_port: int | None = Field(None, ge=1, le=65_535, description="port of the HTTP door; none: there is no door")
    http_host: str = Field("127.0.0.1", description="address of the HTTP door")
    api_key: SecretStr | None = Field(
        None, description=f"what the HTTP door asks for; none: {KEY_VARIABLE}, or a key made and kept in door.key"
    )

    @model_validator(mode="after")
    def _check(self) -> "OracleSettings":
        if self.max_replicas is not None and not self.min_replicas <= self.num_replicas <= self.max_replicas:
            raise ValueError(
                f"num_replicas {self.num_replicas} is not between min_replicas {self.min_replicas} and max_replicas "
                f"{self.max_replicas}"
            )
        return self

    @property
    def most_replicas(self) -> int:
        """Engines that there may ever be at once."""
        return self.max_replicas or self.num_replicas

    def where_key(self) -> str:
        """Where a person finds the HTTP door's key, in words that do not give it away."""
        if self.api_key:
            return "as configured"
        return f"${KEY_VARIABLE}" if os.environ.get(KEY_VARIABLE) else f"in {self._key_file}"

    @property
    def _key_file(self) -> Path:
        """Beside the score store, or on this machine where the store is remote: a secret stays where it was made."""
        return working_folder(self.score_store) / "door.key"

    def door_key(self) -> str:
        """The HTTP door's key: as given, from the environment, or made once and kept beside the score store."""
        given = self.api_key.get_secret_value() if self.api_key else os.environ.get(KEY_VARIABLE, "")
        if given:
            return given
        path = self._key_file
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(32))
        except FileExistsError:
            pass
        return path.read_text()
