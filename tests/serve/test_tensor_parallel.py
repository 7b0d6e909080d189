"""One engine in two processes gives the grades that it gives in one."""

import json
import subprocess
import sys

import numpy as np

from graphdrl.images import load_source
from graphdrl.oracle.questions import NUM_GRADES, Question
from graphdrl.oracle.tiny.local import TransformersOracle

_SCRIPT = """
import asyncio, json, sys
from graphdrl.images import load_source
from graphdrl.oracle import load_prompt
from serve import OracleSettings, Request, make_vllm_engine

if __name__ == "__main__":
    images = load_source("faces").draw(3, 64, 7)
    engine = make_vllm_engine(OracleSettings(tensor_parallel_size=2))
    prompt, digits = load_prompt("score"), tuple("012345")
    requests = [
        Request((image,), prompt.render(name), digits) for image in images.images for name in images.attributes
    ]
    print(json.dumps(asyncio.run(engine.probabilities(requests)).tolist()), flush=True)
    engine.close()
"""


def test_an_engine_spread_over_two_processes_answers_as_the_model_does(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(_SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    probabilities = np.array(json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[["))))
    images = load_source("faces").draw(3, 64, 7)
    local = TransformersOracle()
    answer = local.submit(Question(images.images, images.attributes)).result(timeout=60)
    local.close()
    expected = (probabilities @ np.arange(NUM_GRADES)).reshape(answer.expected.shape)
    np.testing.assert_allclose(expected, answer.expected, atol=2e-3)
