"""What can be known of the way on a GPU without one: devices, dtypes, and where the host waits.

The numbers are left to ``tests/model/test_cuda.py`` and a real device.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from simulated_gpu.driver import build_driver

TESTS = Path(__file__).parents[1]
CHECKOUT = TESTS.parent

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("g++") is None, reason="needs Linux and g++"
)

# where the host may wait, and the cases that may
STEP = "training/step.py:train_step"
FAULTS = {
    "operands on two devices": "on the same device",
    "float32 in packed flash attention": "flash attention of torch.float32",
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
COMMANDS = {
    "prepare": set(),
    "pretrain": {STEP, *SAVING, *JUDGING},
    "pretrain, resumed": {STEP, *SAVING, *JUDGING},
    "finetune in phases": {STEP, *SAVING, *JUDGING, "training/frozen_cache.py:encode"},
    "dry runs": set(),
    "evaluate": JUDGING,
    "predict and explain": JUDGING,
    "report": JUDGING,
}
BENCHMARKS = "benchmarks"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """Name of a case → what it raised and where the host waited."""
    driver = tmp_path_factory.mktemp("driver") / "driver.so"
    build_driver(driver)
    paths = [CHECKOUT / "src", CHECKOUT, TESTS, TESTS / "model"]
    run = subprocess.run(
        [sys.executable, "-m", "simulated_gpu.cases", str(driver)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"case"')]
    return {line["case"]: line for line in lines}


@pytest.mark.parametrize("case", FAULTS)
def test_the_simulation_sees_a_fault(outcomes, case: str) -> None:
    assert FAULTS[case] in outcomes[case]["fault"]


def test_the_simulation_sees_each_read(outcomes) -> None:
    assert outcomes[READS]["fault"] is None
    assert outcomes[READS]["waits"] == {"a test": 4}


def test_a_training_step_waits_once(outcomes) -> None:
    """Whatever the attention, dtype, dropout, pooling, head or optimizer; two micro-batches each."""
    steps = [o for name, o in outcomes.items() if name not in {*FAULTS, READS, *COMMANDS, BENCHMARKS}]
    assert len(steps) > 25
    for outcome in steps:
        assert outcome["fault"] is None, f"{outcome['case']}: {outcome['fault']}"
        assert outcome["waits"] == {STEP: 1}, outcome["case"]


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_waits_only_where_it_needs_numbers(outcomes, case: str) -> None:
    assert outcomes[case]["fault"] is None, outcomes[case]["fault"]
    assert outcomes[case]["waits"].keys() <= COMMANDS[case]


def test_the_rows_for_a_gpu_run(outcomes) -> None:
    assert outcomes[BENCHMARKS]["fault"] is None, outcomes[BENCHMARKS]["fault"]
    assert STEP in outcomes[BENCHMARKS]["waits"]
