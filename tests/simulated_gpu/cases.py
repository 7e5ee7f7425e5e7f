"""What the simulated GPU is put through, in a process of its own: ``python -m simulated_gpu.cases DRIVER
GROUP``, the group models, memory or commands.

Each case is a function; what it raises, where the host waited and how often goes to stdout as a line of JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from simulated_gpu.driver import load_driver

load_driver(Path(sys.argv[1]))

# torch has to start with the driver
from simulated_gpu import commands, memory, models  # noqa: E402
from simulated_gpu.simulation import SimulatedGpu  # noqa: E402

Case = Callable[[SimulatedGpu], None]


def cases(group: str, folder: Path) -> dict[str, Case]:
    """Return the name and function of each case of a group, in order."""
    if group == "models":
        return models.CASES
    if group == "memory":
        return memory.CASES
    return {name: partial(case, folder) for name, case in commands.CASES.items()}


def main() -> None:
    """Run the cases of a group."""
    with tempfile.TemporaryDirectory() as folder:
        for name, case in cases(sys.argv[2], Path(folder)).items():
            gpu = SimulatedGpu()
            fault = None
            try:
                case(gpu)
            except (Exception, SystemExit):
                fault = traceback.format_exc()
            print(json.dumps({"case": name, "fault": fault, "waits": gpu.waits}), flush=True)


if __name__ == "__main__":
    main()
