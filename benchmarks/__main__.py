"""Speed beside peers: ``python -m benchmarks small | full | gpu | page``.

Results go to ``results/benchmarks/`` as JSON, a file for each row, so that a run goes on where it stopped: a
row is measured again once code that it runs has changed, or with ``--fresh``. ``page`` puts them into
``docs/performance.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import code_commit, describe_machine, machine_line
from benchmarks.page import PAGE, read_results, section, write_page
from benchmarks.rows import SUITES, Row
from textclf_transformer.atomic import atomic_write_json
from textclf_transformer.experiment import CHECKOUT

RESULTS = CHECKOUT / "results" / "benchmarks"
# of a suite's tables: where bf16 is multiplied by the hardware, and where it is not
HEADINGS = {
    ("full", True): "On a CPU (`make bench-full`)",
    ("small", True): "On a CPU, small sizes (`make bench`)",
    ("full", False): "On a CPU without bf16 (`make bench-full`)",
    ("small", False): "On a CPU without bf16, small sizes (`make bench`)",
    ("gpu", True): "On a GPU (`make bench-gpu`)",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a suite, or write the page; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=(*SUITES, "page"), help="the rows to measure; page: write the tables")
    names = sorted({row.name for rows in SUITES.values() for row in rows})
    parser.add_argument("--only", nargs="+", choices=names, metavar="ROW", help=", ".join(names))
    parser.add_argument("--fresh", action="store_true", help="measure again what is measured already")
    arguments = parser.parse_args(argv)
    if arguments.what == "page":
        put_on_page()
        return 0
    if arguments.what == "gpu" and not torch.cuda.is_available():
        print("there is no CUDA device: the GPU rows are not measured", file=sys.stderr)
        return 2
    rows = [row for row in SUITES[arguments.what] if not arguments.only or row.name in arguments.only]
    # GNU OpenMP's threads spin while they wait, and so take the cores from the other side's process
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return measure_rows(rows, RESULTS / arguments.what, fresh=arguments.fresh)


def measure_rows(rows: Sequence[Row], folder: Path, *, fresh: bool) -> int:
    """Measure rows one after the other; a row that fails is reported and the others go on."""
    failed = []
    commit = code_commit()
    for row in rows:
        path = folder / f"{row.name}.json"
        known: Any = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        if known is not None and known["machine"]["commit"] == commit and not fresh:
            print(f"{row.name}: measured already at this commit (--fresh measures again)")
            print("\n".join(section(known)), flush=True)
            continue
        start = time.monotonic()
        machine = describe_machine(row.device)
        print(f"{row.name}: {row.title}\n{machine_line(machine)}", flush=True)
        try:
            measured = row.measure()
        except Exception:
            traceback.print_exc()
            failed.append(row.name)
            continue
        result = {"title": row.title, "wanted": row.wanted, "machine": machine, **measured}
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, result)
        print("\n".join(section(result)[2:-3]))
        print(f"{row.name}: {time.monotonic() - start:.0f} seconds\n", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def put_on_page() -> None:
    """Write the tables of what was measured here; the page's others stay."""
    measured: dict[str, dict[str, Any]] = {heading: {} for heading in HEADINGS.values()}
    for suite in SUITES:
        for result in read_results(RESULTS / suite).values():
            measured[HEADINGS[suite, result["machine"]["multiplies_bf16"]]][result["title"]] = result
    order = {heading: [row.title for row in SUITES[suite]] for (suite, _), heading in HEADINGS.items()}
    write_page(measured, order)
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    raise SystemExit(main())
