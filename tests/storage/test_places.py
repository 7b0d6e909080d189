"""Places by name: folders stay folders, addresses keep their options, and credentials are kept out of both."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from graphdrl.config import ConfigError, dump_config, load_config
from graphdrl.storage import Uri, place, working_folder


def test_a_folder_is_a_folder_and_an_address_an_address(tmp_path: Path) -> None:
    assert place("runs/here") == Path("runs/here")
    assert place(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert place("s3://bucket/runs/") == Uri("s3://bucket/runs")
    assert place(place("gs://bucket/runs")) == place("gs://bucket/runs")


def test_a_folder_below_an_address_keeps_its_options() -> None:
    run = place("s3://bucket/runs?scheme=http&endpoint_override=localhost:9000") / "mine"
    assert str(run) == "s3://bucket/runs/mine?scheme=http&endpoint_override=localhost:9000"
    assert (run.name, str(run.parent)) == ("mine", "s3://bucket/runs?scheme=http&endpoint_override=localhost:9000")
    assert place(str(run)) == run == pickle.loads(pickle.dumps(run)) == run.resolve()


def test_a_bucket_lies_in_no_folder() -> None:
    assert str(place("s3://bucket/run").parent) == "s3://bucket"
    with pytest.raises(ValueError, match="whole bucket; give a folder in it"):
        _ = place("s3://bucket").parent


@pytest.mark.parametrize(
    "address",
    [
        "s3://key:hush@bucket/runs",
        "s3://key@bucket/runs",
        "abfs://:hush@account/runs",
        "s3://bucket/runs?secret_key=hush",
        "abfs://account/runs?client_secret=hush",
    ],
)
def test_credentials_are_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(ConfigError, match=r"carries credentials: leave them out, and set them in the env") as refused:
        load_config(None, [f"runs={address}"])
    assert "hush" not in str(refused.value)
    assert "key@" not in str(refused.value)


@pytest.mark.parametrize("address", ["gs://anonymous@bucket/runs", "hdfs://user@host:8020/runs"])
def test_a_user_without_a_password_is_no_credential(address: str) -> None:
    assert str(place(address)) == address


def test_what_names_nothing_is_refused() -> None:
    for text in ("s3://", "s3:///", "", 3):
        with pytest.raises(ValueError, match=r"names no bucket|is neither a folder nor an address"):
            place(text)  # type: ignore[arg-type]


def test_a_configuration_with_addresses_is_read_again() -> None:
    config = load_config(None, ["runs=s3://bucket/runs?region=x", "oracle.score_store=gs://bucket/scores", "name=a"])
    assert str(config.folder) == "s3://bucket/runs/a?region=x"
    again = load_config(None, [f"runs={config.runs}", f"oracle.score_store={config.oracle.score_store}", "name=a"])
    assert again == config
    assert "runs: s3://bucket/runs?region=x" in dump_config(config)


def test_this_machine_keeps_its_copies_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHDRL_CACHE", str(tmp_path))
    addresses = ["s3://a/runs/x", "s3://b/runs/x", "s3://a/runs/y", "s3://a/runs/x?endpoint_override=here", "gs://a/x"]
    folders = [working_folder(place(address)) for address in addresses]
    assert len(set(folders)) == len(folders)
    assert all(folder.is_relative_to(tmp_path) for folder in folders)
    assert folders[0].name == "x"
    assert working_folder(tmp_path) == tmp_path


def test_naming_a_place_loads_no_filesystem() -> None:
    script = "import sys, graphdrl.storage; print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
