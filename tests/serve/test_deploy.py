"""The file for `serve deploy`, deployed with Ray's own command on a cluster with a dashboard."""

import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import ray
import yaml
from openai import OpenAI
from ports import free_port
from ray import serve as ray_serve

import serve
from graphdrl.images import load_source
from graphdrl.oracle import load_prompt
from graphdrl.oracle.clients import HandleOracle, HttpOracle
from graphdrl.oracle.pixels import to_base64
from graphdrl.oracle.questions import Question
from serve import OracleSettings, wait_for_oracle


@pytest.fixture
def dashboard():
    context = ray.init("local", num_cpus=2, include_dashboard=True, dashboard_port=free_port(), log_to_driver=False)
    yield f"http://{context.dashboard_url}"
    ray_serve.shutdown()
    ray.shutdown()


def _shown(image: np.ndarray) -> dict:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{to_base64(image[None])[0]}"}}


def _asked(attribute: str) -> dict:
    return {"type": "text", "text": load_prompt("score").render(attribute)}


def test_the_file_deploys_with_rays_own_command_and_both_doors_answer(dashboard, tmp_path):
    port, store = free_port(), tmp_path / "scores"
    file = yaml.safe_load((Path(serve.__file__).parent / "oracle.yaml").read_text())
    file["http_options"]["port"] = port
    file["applications"][0]["args"] |= {"score_store": str(store), "log": str(tmp_path / "log"), "http_port": port}
    (tmp_path / "oracle.yaml").write_text(yaml.safe_dump(file))
    command = [str(Path(sys.executable).parent / "serve"), "deploy", "--address", dashboard]
    subprocess.run([*command, str(tmp_path / "oracle.yaml")], check=True, capture_output=True, timeout=120)
    while "oracle" not in ray_serve.status().applications:
        time.sleep(0.1)
    wait_for_oracle("oracle")
    images = load_source("faces").draw(3, 64, 5)
    question = Question(images.images, images.attributes)
    key = OracleSettings(score_store=store).door_key()
    with closing(HttpOracle(f"http://127.0.0.1:{port}/oracle", key)) as outside, closing(HandleOracle()) as inside:
        first = outside.submit(question).result(timeout=60)
        again = inside.submit(question).result(timeout=60)
    chat = OpenAI(base_url=f"http://127.0.0.1:{port}/oracle/v1", api_key=key)
    said = chat.chat.completions.create(
        model=chat.models.list().data[0].id,
        messages=[{"role": "user", "content": [_shown(images.images[0]), _asked(images.attributes[0])]}],
        max_tokens=1,
        temperature=0.0,
    )
    assert said.choices[0].message.content == str(first.argmax[0, 0])
    np.testing.assert_allclose(again.expected, first.expected, atol=1e-5)
    assert (first.num_asked, again.num_asked) == (first.expected.size, 0)
