"""``report.html``: everything there is to see of one run, in one file that needs nothing else.

A finetuning run is judged on its own test documents, or on val where it has no test; a pretraining run shows
its curves. What cannot be had (the data have moved, there is no checkpoint yet) is left out, and a note says
why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from textclf_transformer.atomic import atomic_write, storage_errors
from textclf_transformer.config import LoggingSection, flatten
from textclf_transformer.data.audit_findings import Finding
from textclf_transformer.data.documents import Documents
from textclf_transformer.data.text_documents import has_text
from textclf_transformer.errors import UserError, counted
from textclf_transformer.evaluation.bootstrap import without_width
from textclf_transformer.evaluation.breakdowns import most_frequent
from textclf_transformer.evaluation.full_evaluation import THIS_MODEL, evaluate_run
from textclf_transformer.evaluation.loaded_run import FloatArray, LoadedRun, load_run
from textclf_transformer.evaluation.pictures import Picture, StyleSheet
from textclf_transformer.evaluation.report_charts import charts
from textclf_transformer.evaluation.report_curves import curves
from textclf_transformer.evaluation.report_data import audit_findings
from textclf_transformer.evaluation.report_documents import ShownDocument, choose_documents, shown_documents
from textclf_transformer.evaluation.report_page import encoded, render
from textclf_transformer.evaluation.report_run import RunRecord, read_record
from textclf_transformer.evaluation.run_data import JUDGED_SPLITS, try_own_split
from textclf_transformer.experiment import RunFolder
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.loading import load_tokenizer

# The TF-IDF baseline of a larger training split would take longer than a report may; see ``make_report``.
RIVALS_UP_TO_TOKENS = 20_000_000
RIVALS_UP_TO_PASSES = 2_000_000_000  # tokens × labels: the linear SVM fits each label by itself

MOST_LABELS_SHOWN = 200  # in the tables of labels


@dataclass(slots=True)
class Report:
    """What a report shows.

    Attributes:
        record: the run as its folder describes it.
        curves: of the training.
        result: what ``evaluate_run`` says; None for a pretraining run, and where there is nothing to judge.
        split: the judged split.
        charts: pictures of the result by name.
        documents: some of the judged documents with their chunks.
        findings: of the audit of the run's data.
        tokenizer: what there is to say of it, by name.
        notes: what is missing, and why.
    """

    record: RunRecord
    curves: list[Picture]
    result: Mapping[str, Any] | None = None
    split: str | None = None
    charts: Mapping[str, Picture] = field(default_factory=dict)
    documents: list[ShownDocument] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def html(self) -> str:
        """Return the page."""
        styles = StyleSheet()
        curves = [(picture, picture.svg(styles)) for picture in self.curves]
        charts = {name: (picture, picture.svg(styles)) for name, picture in self.charts.items()}
        best_loss = _best_loss(self.record)
        rows = [] if self.result is None else self.result["scores"]
        rivals = [row for row in rows if row["name"] != THIS_MODEL and row["accuracy"] is not None]
        return render(
            "report.html",
            css=styles.css(),
            name=self.record.run.name,
            kind=self.record.kind,
            facts=self.record.facts,
            config=flatten(self.record.config),
            config_text=self.record.config_text,
            result=self.result,
            shown_labels=[] if self.result is None else most_frequent(self.result, MOST_LABELS_SHOWN),
            split=self.split,
            model_row=rows[0] if rows else None,
            without_width=[] if self.result is None else without_width(self.result),
            best_rival=max(rivals, key=lambda row: row["accuracy"], default=None),
            curves=curves,
            charts=charts,
            documents=self.documents,
            opened=self._opened(),
            findings=self.findings,
            tokenizer=self.tokenizer,
            notes=self.notes,
            best_loss=best_loss,
            best_perplexity=None if best_loss is None else math.exp(min(best_loss[1], 700.0)),
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )

    def _opened(self) -> list[int]:
        """Return the places of the documents that are open at first: two in which single chunks decide."""
        telling = [place for place, shown in enumerate(self.documents) if shown.one_decides]
        return (telling or [0])[:2]

    def write(self, path: Path) -> None:
        """Write the page to ``path``; StorageError if the disk refuses."""
        _write_bytes(path, encoded(self.html()))

    def write_pictures(self, folder: Path) -> list[Path]:
        """Write each picture as a PNG file into ``folder``, which is made if need be; return the files."""
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        written = []
        for picture in (*self.curves, *self.charts.values()):
            written.append(folder / f"{picture.name}.png")
            _write_bytes(written[-1], picture.png())
        return written


def make_report(
    run: RunFolder,
    *,
    documents: int | None = None,
    trust_code: bool = False,
    test_logits: FloatArray | None = None,
    device: str = "auto",
    tell: Callable[[str], None] = lambda line: None,
) -> Report:
    """Judge a run as far as its folder and its data allow.

    Baselines are fitted where the training split has at most ``RIVALS_UP_TO_TOKENS`` tokens, and tokens ×
    labels are at most ``RIVALS_UP_TO_PASSES``, so that a report at the end of a run stays cheap beside the
    run; a larger one is for ``textclf evaluate``.

    Args:
        run: the folder.
        documents: how many documents to show with their passages, at most; occlusion computes the head once
            for each of their chunks. None: ``logging.report_documents`` of the run.
        trust_code: whether a tokenizer class outside this package may be run.
        test_logits: what the run's best weights give for its test documents, (documents, L), where it is
            known already.
        device: where to compute, see ``load_run``.
        tell: gets a line before each step that may take long.

    Raises:
        ConfigError: the folder is not a run's, or its config cannot be read.
        StorageError: a file cannot be read.
    """
    record = read_record(run)
    report = Report(record=record, curves=curves(record))
    if not report.curves:
        report.notes.append(f"no curves: {_why_no_metrics(record)}")
    try:
        if record.kind == "finetuning":
            loaded = load_run(run.root, trust_code=trust_code, device=device)
            report.tokenizer = _tokenizer_facts(loaded.tokenizer)
            shown = _report_documents(record) if documents is None else documents
            _judge(report, loaded, documents=shown, test_logits=test_logits, tell=tell)
            tell("auditing the data")
            tokens = {part.split: part.tokens for part in record.facts.data}
            report.findings, reason = audit_findings(loaded, tokens)
            report.notes += [reason] if reason else []
        else:
            section = record.config.get("tokenizer")
            wrapper = section.get("wrapper_path") if isinstance(section, dict) else section
            tokenizer = load_tokenizer(str(wrapper), run.tokenizer_dir, trust_code=trust_code)
            report.tokenizer = _tokenizer_facts(tokenizer)
    except UserError as error:
        report.notes.append(str(error))
    return report


def _report_documents(record: RunRecord) -> int:
    """Return what the config says of it; the default where it says nothing that can be meant."""
    said = flatten(record.config).get("logging.report_documents")
    if isinstance(said, int) and not isinstance(said, bool) and said >= 0:
        return said
    return LoggingSection().report_documents


def _judge(
    report: Report,
    run: LoadedRun,
    *,
    documents: int,
    test_logits: FloatArray | None,
    tell: Callable[[str], None],
) -> None:
    """Add what the run's own judged documents say."""
    judged, split = _judged_documents(report, run)
    if judged is None:
        return
    logits = test_logits if split == "test" else None
    if logits is None or len(logits) != len(judged):
        tell(f"classifying {counted(len(judged), 'document')} of {split}")
        logits = run.logits(run.batches(judged))
    train, _ = try_own_split(run, "train")
    too_much = None if train is None else _too_much_to_fit(int(train.lengths.sum()), len(run.label_names))
    report.split = split
    tell("judging the model" + (" beside baselines" if too_much is None else ""))
    report.result = evaluate_run(run, judged, logits=logits, with_rivals=too_much is None)
    report.charts = charts(report.result)
    report.notes += report.result["notes"]
    if too_much is not None:
        report.notes.append(
            f"no baselines: the training data have {too_much}; textclf evaluate {run.run.name} fits them"
        )
    if not has_text(judged):
        report.notes.append("no documents to look at: the data keep no text")
    elif documents:
        chosen = choose_documents(run, judged, logits, count=documents)
        tell(f"looking for what decided {counted(len(chosen), 'document')}")
        report.documents = shown_documents(run, chosen)


def _too_much_to_fit(tokens: int, labels: int) -> str | None:
    """Return of what there is too much for the baselines, None where they can be fitted."""
    if tokens > RIVALS_UP_TO_TOKENS:
        return f"more than {RIVALS_UP_TO_TOKENS:,} tokens"
    if tokens * labels > RIVALS_UP_TO_PASSES:
        return f"{tokens:,} tokens and {labels:,} labels, each of which is fitted by itself"
    return None


def _judged_documents(report: Report, run: LoadedRun) -> tuple[Documents | None, str | None]:
    reasons: list[str] = []
    for split in reversed(JUDGED_SPLITS):
        found, reason = try_own_split(run, split)
        if found is not None:
            if "test" in run.data_paths and split != "test":
                report.notes.append(f"results on test, so {split} is judged: {'; '.join(reasons)}")
            return found, split
        reasons.append(str(reason))
    report.notes.append(f"nothing to judge the run on: {'; '.join(reasons)}")
    return None, None


def _why_no_metrics(record: RunRecord) -> str:
    run, facts = record.run, record.facts
    has_trained = run.has_checkpoint() or run.best_checkpoint.exists() or facts.status == "finished"
    if not has_trained:
        return "the run has logged nothing yet"
    return (
        f"the run has trained, but its metrics (logging.train_csv and eval_csv) are gone or empty; {run.root}"
    )


def _write_bytes(path: Path, content: bytes) -> None:
    atomic_write(path, lambda stream: stream.write(content))


def _best_loss(record: RunRecord) -> tuple[int, float] | None:
    """Return (step, loss) of the best evaluation on val, None without one."""
    if "val" not in record.series:
        return None
    steps, losses = record.series["val"].points("loss")
    if not len(losses):
        return None
    return int(steps[losses.argmin()]), float(losses.min())


def _tokenizer_facts(tokenizer: TokenizerWrapper) -> dict[str, Any]:
    return {
        "kind": tokenizer.kind or type(tokenizer).__name__,
        "tokens in the vocabulary": tokenizer.vocab_size,
        "fingerprint": tokenizer.fingerprint[:16],
    }
