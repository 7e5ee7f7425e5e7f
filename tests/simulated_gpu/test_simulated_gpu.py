"""What can be known of the way on a GPU without one: devices, dtypes, memory, and where the host waits.

The numbers are left to ``tests/model/test_cuda.py`` and a real device.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from simulated_gpu.driver import build_driver

TESTS = Path(__file__).parents[1]
CHECKOUT = TESTS.parent

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("g++") is None or torch.backends.cuda.is_built(),
    reason="needs Linux, g++ and a build of torch without CUDA",
)

# where the host may wait, and the cases that may
STEP = "training/step.py:train_step"
FAULTS = {
    "operands on two devices": "on the same device",
    "float32 in packed flash attention": "flash attention of torch.float32",
    "a sum in any order": "aten.cumsum.default does not have a deterministic implementation",
    "a shape that follows from numbers": "HostWaitsError: aten.nonzero",
}
READS = "four kinds of reading"
SAVING = {"training/checkpoint.py:_plain_copy", "training/checkpoint.py:_tensor_digest"}
JUDGING = {
    "evaluation/evaluate.py:evaluate_masked_lm",
    "evaluation/inference.py:document_logits",
    "evaluation/explain.py:explain_documents",
    "evaluation/explain.py:_occlusion_drops",
}
# a model on its way to the GPU: of pretrain.py and finetune.py, which the commands call, of evaluation
MOVING = "commands/common.py:_parse_and_run"
LOADING = "evaluation/loaded_run.py:_load_model"
COMMANDS = {
    "prepare": set(),
    "pretrain": {MOVING, STEP, *SAVING, *JUDGING},
    "pretrain, resumed": {MOVING, "training/optim.py:load_optimizer_state", STEP, *SAVING, *JUDGING},
    "finetune in phases": {MOVING, STEP, *SAVING, *JUDGING, "training/frozen_cache.py:encode"},
    "dry runs": {MOVING},
    "evaluate": {LOADING, *JUDGING},
    "predict and explain": {LOADING, *JUDGING},
    "report": {LOADING, *JUDGING},
}
BENCHMARKS = "benchmarks"


def run_cases(group: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Return name of a case → what it raised and where the host waited."""
    build_driver(folder / "driver.so")
    paths = [CHECKOUT / "src", CHECKOUT, TESTS, TESTS / "model"]
    run = subprocess.run(
        [sys.executable, "-m", "simulated_gpu.cases", str(folder / "driver.so"), group],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"case"')]
    return {line["case"]: line for line in lines}


def test_a_training_step_waits_once(tmp_path: Path) -> None:
    """Whatever the attention, dtype, dropout, pooling, head or optimizer; two micro-batches each."""
    outcomes = run_cases("models", tmp_path)
    for case, words in FAULTS.items():  # the simulation itself
        assert words in outcomes.pop(case)["fault"]
    assert outcomes.pop(READS) == {"case": READS, "fault": None, "waits": {"a test": 4}}
    assert len(outcomes) > 25
    for case, outcome in outcomes.items():
        assert outcome["fault"] is None, f"{case}: {outcome['fault']}"
        del outcome["waits"]["a test"]  # which moved the model
        assert outcome["waits"] == {STEP: 1}, case


def test_the_estimated_memory_is_what_tensors_take(tmp_path: Path) -> None:
    """From nothing to a tenth more, gradients of an earlier micro-batch included."""
    outcomes = run_cases("memory", tmp_path)
    assert outcomes.keys() == {"memory of a step", "memory of a step in groups"}
    for case, outcome in outcomes.items():
        assert outcome["fault"] is None, f"{case}: {outcome['fault']}"


def test_a_command_waits_only_where_it_needs_numbers(tmp_path: Path) -> None:
    """From a store to a report, and the rows of ``make bench-gpu``."""
    outcomes = run_cases("commands", tmp_path)
    rows = outcomes.pop(BENCHMARKS)
    assert rows["fault"] is None, rows["fault"]
    assert STEP in rows["waits"]
    assert outcomes.keys() == COMMANDS.keys()
    for case, outcome in outcomes.items():
        assert outcome["fault"] is None, f"{case}: {outcome['fault']}"
        assert outcome["waits"].keys() <= COMMANDS[case], case
