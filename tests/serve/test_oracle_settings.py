"""The service's settings are closed, its file for `serve deploy` is valid, and its key is kept well."""

import stat
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

import serve
from serve import OracleSettings, build
from serve.settings import KEY_VARIABLE

DEPLOY_FILE = Path(serve.__file__).parent / "oracle.yaml"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own schema
def test_the_file_for_serve_deploy_describes_this_application():
    schema = ServeDeploySchema(**yaml.safe_load(DEPLOY_FILE.read_text()))
    (application,) = schema.applications
    assert application.import_path == "serve.app:build"
    assert application.route_prefix == "/oracle"
    settings = OracleSettings(**application.args)
    assert settings.http_port == schema.http_options.port
    assert schema.http_options.host == settings.http_host == "127.0.0.1"
    assert build(settings) is not None


def test_an_unknown_setting_is_refused():
    with pytest.raises(ValidationError, match="num_replica\n"):
        OracleSettings(num_replica=2)


def test_a_key_is_given_or_taken_from_the_environment_or_made_once(tmp_path, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert OracleSettings(api_key="given", score_store=tmp_path).door_key() == "given"
    made = OracleSettings(score_store=tmp_path).door_key()
    assert len(made) >= 32
    assert OracleSettings(score_store=tmp_path).door_key() == made
    assert stat.S_IMODE((tmp_path / "door.key").stat().st_mode) == 0o600
    monkeypatch.setenv(KEY_VARIABLE, "from outside")
    assert OracleSettings(score_store=tmp_path).door_key() == "from outside"


def test_a_key_is_not_shown():
    assert "secret-key" not in repr(OracleSettings(api_key="secret-key"))
