"""What the audit says of the data that a run was trained and judged on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from textclf_transformer.atomic import storage_errors
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
        StorageError: the permissions keep one from being read.
    """
    if sum(count or 0 for count in tokens.values()) > AUDIT_UP_TO_TOKENS:
        reason = f"the data have more than {AUDIT_UP_TO_TOKENS:,} tokens"
        return [], f"no audit: {reason}; textclf audit reads them"
    stores = {split: _store(path) for split, path in run.data_paths.items()}
    parts: dict[str, AuditInput] = {split: store for split, store in stores.items() if store is not None}
    if gone := stores.keys() - parts.keys():
        return [], f"no audit: there is no store of {', '.join(sorted(gone))} any more"
    return findings(audit(parts, Chunking(run.chunk_size, run.stride, run.max_chunks))), None


def _store(path: Path) -> StoreInput | None:
    with storage_errors(path):
        return StoreInput(path) if (path / HEADER).is_file() else None
