"""The yardstick of `graphdrl bench oracle`: vLLM's own offline `LLM.generate`, in a process that nothing disturbs.

Reads a line "SEED NUM_IMAGES" from standard input, asks all attributes of so many fresh faces in one call, and writes
one JSON line; ends with its input.
"""

import json
import os
import sys
import time

THREADS = 1
ENGINE_ARGS = {
    "dtype": "float32",
    "kv_cache_memory_bytes": 64 << 20,
    "enforce_eager": True,
    "block_size": 32,
    "max_num_seqs": 64,
    "max_model_len": -1,
    "logprobs_mode": "processed_logprobs",
    "skip_mm_profiling": True,
    "disable_log_stats": True,
}
"""As the service has them; beyond that vLLM's own defaults, its cache of processed images among them."""


def main() -> None:
    os.environ |= {
        "OMP_NUM_THREADS": str(THREADS),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "TORCHDYNAMO_DISABLE": "1",
    }
    import torch

    torch.set_num_threads(THREADS)
    from vllm import LLM, SamplingParams

    from graphdrl.images import load_source
    from graphdrl.oracle.identity import model_folder
    from graphdrl.oracle.prompts import load_prompt

    model = LLM(model_folder("builtin"), **ENGINE_ARGS)
    torch.set_num_threads(THREADS)
    tokenizer, prompt, source = model.get_tokenizer(), load_prompt("score"), load_source("faces")
    digits = [tokenizer.convert_tokens_to_ids(str(grade)) for grade in range(6)]
    sampling = SamplingParams(
        max_tokens=1, temperature=0.0, allowed_token_ids=digits, logprob_token_ids=digits, detokenize=False
    )
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        seed, num_images = map(int, line.split())
        images = source.draw(num_images, 64, seed, independent=True)
        asked = [
            {"prompt": f"<image>{prompt.render(attribute)}<end_of_utterance>", "multi_modal_data": {"image": image}}
            for image in images.images
            for attribute in images.attributes
        ]
        started, cpu = time.monotonic(), time.process_time()
        answers = model.generate(asked, sampling, use_tqdm=False)
        seconds, cpu_s = time.monotonic() - started, time.process_time() - cpu
        assert len(answers) == len(asked)
        print(json.dumps({"questions": len(asked), "seconds": seconds, "cpu_s": cpu_s}), flush=True)


if __name__ == "__main__":
    main()
