"""A program that calls many predictors from many threads and checks every result; it prints how many it checked.

`python -m tests.integration.many_models FOLDER NUM_MODELS NUM_THREADS NUM_CALLS SEED [ADDRESS TOKEN]`
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from elastic_inference import EIPredictor
from tests.integration.small_models import NUM_INPUTS, SIGNATURES, expected

Predictors = Mapping[tuple[int, str], EIPredictor]


def check_calls(predictors: Predictors, num_threads: int, num_calls: int, seed: int) -> tuple[int, list[str]]:
    """Call predictors (by seed and signature) in random order; the number of checked results and what is wrong."""
    wrong: list[str] = []
    checked = [0] * num_threads

    def work(number: int) -> None:
        rng = np.random.default_rng([seed, number])
        keys = list(predictors)
        try:
            for _ in range(num_calls // num_threads):
                key = keys[rng.integers(len(keys))]
                x = rng.standard_normal((int(rng.integers(1, 20)), NUM_INPUTS), np.float32)
                outputs = predictors[key]({"x": x})
                wanted = expected(*key, x)
                same = outputs.keys() == wanted.keys() and all(
                    np.allclose(outputs[alias], wanted[alias], rtol=1e-4, atol=1e-5) for alias in wanted
                )
                if not same:
                    wrong.append(f"{key}: {outputs}, not {wanted}")
                checked[number] += 1
        except Exception as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return sum(checked), wrong


def main() -> None:
    folder = Path(sys.argv[1])
    num_models, num_threads, num_calls, seed = map(int, sys.argv[2:6])
    where = {"address": sys.argv[6], "token": sys.argv[7]} if len(sys.argv) > 6 else {}
    with contextlib.ExitStack() as stack:
        predictors = {
            (model, key): stack.enter_context(EIPredictor(folder / str(model), key, **where))
            for model in range(num_models)
            for key in SIGNATURES
        }
        num_checked, wrong = check_calls(predictors, num_threads, num_calls, seed)
    assert not wrong, wrong[:3]
    print(num_checked)


if __name__ == "__main__":
    main()
