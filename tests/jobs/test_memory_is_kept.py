"""What a training frees stays with its process: the kernel is not asked for it again at every step."""

import subprocess
import sys

_COUNTS = """
import resource
import numpy as np
from jobs.assemble import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        tensors = [np.ones(5 << 20, np.uint8) for _ in range(16)]
        del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
given_back = faults()
keep_freed_memory()
faults()
print(given_back, faults())
"""


def test_freed_memory_is_used_again_without_page_faults() -> None:
    # In a process of its own: the setting stays, and the heap of this one has a past.
    said = subprocess.run([sys.executable, "-c", _COUNTS], capture_output=True, text=True, check=True).stdout
    given_back, kept = map(int, said.split())
    assert kept < given_back / 10
