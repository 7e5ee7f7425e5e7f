"""Memory and time of one training step against the number of chunks; writes the table of docs/memory.md.

    python -m benchmarks.memory [--counts 1,2,4,8,16,32,64,128] [--layers 12]

The shape is roberta-base with chunks of 512 tokens. Each number of chunks has a process of its own, which
takes a step with one chunk first, so that weights, the optimizer's state and the library's workspaces are
there, and then the step that counts. What is counted is the largest resident set during that step above the
one right before it: activations, gradients and copies of the weights in bf16.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from textclf_transformer.allocator import settle_allocator

settle_allocator()

import numpy as np  # noqa: E402  the allocator comes first
import torch  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks.machine import describe_machine, machine_line  # noqa: E402
from benchmarks.measuring import write_between  # noqa: E402
from textclf_transformer.data.collate import DocumentBatch, collate_documents  # noqa: E402
from textclf_transformer.experiment import CHECKOUT  # noqa: E402
from textclf_transformer.model.encoder import RobertaModel  # noqa: E402
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification  # noqa: E402
from textclf_transformer.training.losses import document_loss  # noqa: E402
from textclf_transformer.training.numerics import cpu_has_bf16  # noqa: E402
from textclf_transformer.training.optim import build_adamw  # noqa: E402
from textclf_transformer.training.step import train_step  # noqa: E402

PAGE = CHECKOUT / "docs" / "memory.md"
START, END = "<!-- table: made by python -m benchmarks.memory -->", "<!-- end of table -->"
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)
FULL_GRAPH_COUNTS = (8, 16)
REFERENCE = 8
CHUNK_SIZE, VOCAB, PAD = 512, 50265, 1
MIB = 1 << 20


def resident(key: str) -> int:
    """Return VmRSS or VmHWM, its largest value so far, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def one_document(chunks: int) -> DocumentBatch:
    """Return a document of full chunks of random tokens."""
    rows = np.random.default_rng(0).integers(PAD + 4, VOCAB, (chunks, CHUNK_SIZE))
    return collate_documents(
        [list(rows)],
        labels=np.zeros(1, dtype=np.int64),
        sample_indices=np.zeros(1, np.int64),
        pad_token_id=PAD,
    )


def measure_point(chunks: int, *, layers: int, full_graph: bool) -> dict[str, float]:
    """Take one step with a document of so many chunks; sizes in MiB, times in seconds."""
    torch.manual_seed(0)
    model = HierarchicalRobertaForClassification(
        RobertaModel(
            vocab_size=VOCAB,
            hidden_size=768,
            num_hidden_layers=layers,
            num_attention_heads=12,
            intermediate_size=3072,
            max_position_embeddings=CHUNK_SIZE + PAD + 1,
            pad_token_id=PAD,
        ),
        num_labels=3,
        use_gradient_checkpointing=not full_graph,
    ).train()
    optimizer = build_adamw(model, learning_rate=1e-5, weight_decay=0.01)

    def step(batch: DocumentBatch, number: int) -> None:
        train_step(
            model,
            [batch],
            loss=cast(Callable[[nn.Module, DocumentBatch], torch.Tensor], document_loss),
            optimizer=optimizer,
            learning_rate=1e-5,
            max_grad_norm=1.0,
            device=torch.device("cpu"),
            amp_dtype=torch.bfloat16 if cpu_has_bf16() else None,
            scaler=None,
            seed=0,
            step=number,
        )

    step(one_document(1), 0)
    batch = one_document(chunks)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM begins anew
    before, start, start_cpu = resident("VmRSS"), time.perf_counter(), time.process_time()
    step(batch, 1)
    return {
        "chunks": chunks,
        "peak": (resident("VmHWM") - before) / MIB,
        "before": before / MIB,
        "weights": sum(p.nbytes for p in model.parameters()) / MIB,
        "optimizer": sum(t.nbytes for state in optimizer.state.values() for t in state.values()) / MIB,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - start_cpu,
    }


def measure(chunks: int, *, layers: int, full_graph: bool) -> dict[str, float]:
    """Do ``measure_point`` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--point", str(chunks), "--layers", str(layers)]
    command += ["--full-graph"] if full_graph else []
    output = subprocess.run(command, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE, text=True).stdout
    point: dict[str, float] = json.loads(output)
    kind = "full graph" if full_graph else "groups"
    print(
        f"{chunks:4d} chunks, {kind}: {point['peak']:.0f} MiB, {point['cpu_seconds']:.1f} s of CPU",
        flush=True,
    )
    return point


def table(points: Sequence[Mapping[str, float]], full: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the table and the line below it, in Markdown."""
    reference = next((p for p in points if p["chunks"] == REFERENCE), points[0])
    graph = {p["chunks"]: p for p in full}
    # per chunk it hardly depends on their number, and of many chunks it does not fit
    per_chunk = min(p["cpu_seconds"] / p["chunks"] for p in full)
    lines = [
        "| chunks | above the memory before the step, MiB | against 8 chunks | | whole graph, MiB "
        "| CPU seconds per chunk | against the whole graph |",
        "|---:|---:|---:|---|---:|---:|---:|",
    ]
    for p in points:
        ratio, whole = p["peak"] / reference["peak"], graph.get(p["chunks"])
        seconds = p["cpu_seconds"] / p["chunks"]
        lines.append(
            f"| {p['chunks']:.0f} | {p['peak']:,.0f} | {ratio:.2f} | {'█' * round(10 * ratio)} "
            f"| {'' if whole is None else format(whole['peak'], ',.0f')} | {seconds:.2f} "
            f"| {seconds / per_chunk:.2f} |"
        )
    return [
        *lines,
        "",
        f"Before the step the process holds {points[-1]['before']:,.0f} MiB: weights "
        f"{points[-1]['weights']:,.0f}, AdamW's two moments {points[-1]['optimizer']:,.0f}, the rest Python "
        "and torch.",
    ]


def main() -> int:
    """Measure all points and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)), help="numbers of chunks, with commas")
    parser.add_argument("--layers", type=int, default=12, help="layers of the encoder")
    parser.add_argument("--point", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--full-graph", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point is not None:
        point = measure_point(arguments.point, layers=arguments.layers, full_graph=arguments.full_graph)
        print(json.dumps(point))
        return 0
    counts = [int(count) for count in arguments.counts.split(",")]
    machine = describe_machine(torch.device("cpu"))
    full = [measure(count, layers=arguments.layers, full_graph=True) for count in FULL_GRAPH_COUNTS]
    points = [measure(count, layers=arguments.layers, full_graph=False) for count in counts]
    lines = table(points, full)
    print("\n".join(lines))
    if arguments.layers == 12:
        body = "\n".join([*lines, "", f"<sub>{machine_line(machine)}</sub>", ""])
        write_between(PAGE, START, END, body)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
