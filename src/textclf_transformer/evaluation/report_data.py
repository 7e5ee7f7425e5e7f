"""What the audit says of the data that a run was trained and judged on."""

from __future__ import annotations

from collections.abc import Mapping

from textclf_transformer.data.audit import Chunking, audit
from textclf_transformer.data.audit_findings import Finding, findings
from textclf_transformer.data.audit_input import AuditInput, StoreInput
from textclf_transformer.data.store_format import HEADER
from textclf_transformer.evaluation.loaded_run import LoadedRun

# The audit compares documents with one another; of more data it would take longer than a report may.
AUDIT_UP_TO_TOKENS = 20_000_000


def audit_findings(run: LoadedRun, tokens: Mapping[str, int | None]) -> tuple[list[Finding], str | None]:
    """Return the findings of ``textclf audit`` on the run's stores, or none and why there are none.

    Args:
        run: whose data and chunking they are.
        tokens: split → content tokens, None where it is not known.

    Raises:
        DataError: a store is damaged.
    """
    paths = run.data_paths
    gone = [split for split, path in paths.items() if not (path / HEADER).is_file()]
    if gone:
        return [], f"no audit: there is no store of {', '.join(gone)} any more"
    if sum(count or 0 for count in tokens.values()) > AUDIT_UP_TO_TOKENS:
        reason = f"the data have more than {AUDIT_UP_TO_TOKENS:,} tokens"
        return [], f"no audit: {reason}; textclf audit reads them"
    parts: dict[str, AuditInput] = {split: StoreInput(path) for split, path in paths.items()}
    return findings(audit(parts, Chunking(run.chunk_size, run.stride, run.max_chunks))), None
