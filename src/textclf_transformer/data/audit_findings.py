"""What the numbers of an audit mean: good, warn or fail, and what to do."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from textclf_transformer.data.audit import Audit
from textclf_transformer.data.audit_drifts import CUTS
from textclf_transformer.data.oddities import ODDITIES
from textclf_transformer.errors import counted, listed

Level = Literal["good", "warn", "fail"]

FEW_DOCUMENTS = 200
FEW_OF_A_LABEL = 10
LOPSIDED = 0.8
DRIFT = 0.1
MANY_NEAR = 0.01
LEAST_READ = 0.95
MANY_UNKNOWN, FAR_TOO_MANY_UNKNOWN = 0.001, 0.02
MANY_TOKENS_A_WORD = 2.0
_CHARACTERS_OF_A_WORD = 15  # more on average: these are no words, whatever they are


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the audit.

    Attributes:
        level: good, warn or fail.
        what: what was found, with the number.
        mend: what to do about it; empty where nothing is to do.
    """

    level: Level
    what: str
    mend: str = ""


def findings(audit: Audit) -> list[Finding]:
    """Return what there is to say: fail lines first, then warnings, then what is good."""
    judges: tuple[Callable[[Audit], Iterator[Finding]], ...] = (
        _overlaps,
        _labels,
        _drift,
        _copies,
        _reading,
        _documents,
        _tokenizer,
    )
    found = [finding for judge in judges for finding in judge(audit)]
    return sorted(found, key=lambda finding: ("fail", "warn", "good").index(finding.level))


def _overlaps(audit: Audit) -> Iterator[Finding]:
    for overlap in audit.overlaps:
        pair = f"{overlap.split} and {overlap.other}"
        documents = f"of {counted(overlap.documents, 'document')} of {overlap.split}"
        if overlap.exact:
            yield Finding(
                "fail",
                f"word for word in {overlap.other} as well: {overlap.exact:,} {documents}",
                f"take them out of {overlap.other}, or the score measures memory",
            )
        if overlap.near:
            yield Finding(
                "fail" if overlap.near >= MANY_NEAR * overlap.documents else "warn",
                f"nearly the same as a document of {overlap.other}: {overlap.near:,} {documents}",
                "look at the pairs; give copies one group and let textclf prepare --split cut anew",
            )
        if overlap.groups:
            shown = listed(overlap.group_examples, count=overlap.groups)
            yield Finding(
                "fail",
                f"groups in both {pair}: {shown}, with {overlap.group_documents:,} {documents}",
                "cut anew with textclf prepare --split and --group-column, which keeps groups together",
            )
        if not (overlap.exact or overlap.near or overlap.groups):
            yield Finding("good", f"{pair} share no document")


def _labels(audit: Audit) -> Iterator[Finding]:
    first, *others = audit.splits
    for split in audit.splits:
        if split.labels is not None and split.unlabelled:
            yield Finding(
                "fail",
                f"without a label: {split.unlabelled:,} of "
                f"{counted(split.documents, 'document')} of {split.name}",
                "give them one, or take them out",
            )
    if first.labels is None:
        return
    if len(first.labels) < 2:
        found = counted(len(first.labels), "label")
        yield Finding("fail", f"nothing to tell apart: {first.name} has {found}", "check --label-column")
        return
    for split in others:
        unknown = [name for name in split.labels or () if name not in first.labels]
        missing = [name for name in first.labels if name not in (split.labels or ())]
        if unknown:
            yield Finding(
                "fail",
                f"labels of {split.name} that {first.name} does not have: {listed(unknown)}",
                "they cannot be learnt; correct them, or take such documents out",
            )
        if missing and split.labels is not None:
            yield Finding(
                "warn",
                f"{split.name} has no document of: {listed(missing)}",
                "nothing will be known about these labels; use more documents or another cut",
            )
    yield from _alike(first.labels)
    rare = [f"{name} ({count})" for name, count in first.labels.items() if count < FEW_OF_A_LABEL]
    if rare:
        yield Finding(
            "warn",
            f"labels with fewer than {FEW_OF_A_LABEL} documents in {first.name}: {listed(rare)}",
            "collect more of them, or join them with another label",
        )
    name, count = max(first.labels.items(), key=lambda pair: pair[1])
    share = count / first.documents
    if share > LOPSIDED:
        yield Finding(
            "warn",
            f"{share:.0%} of {first.name} is {name!r}, so always saying so is {share:.0%} right",
            "judge by macro F1: training.best_metric=f1_macro",
        )
    elif not rare:
        yield Finding(
            "good",
            f"{counted(len(first.labels), 'label')}, the rarest with "
            f"{counted(min(first.labels.values()), 'document')}",
        )


def _alike(names: Iterable[str]) -> Iterator[Finding]:
    by_key: dict[str, list[str]] = {}
    for name in names:
        # an accent may be a character of its own
        key = unicodedata.normalize("NFKC", name).strip().casefold()
        by_key.setdefault(key, []).append(name)
    alike = [" = ".join(map(_spelled, same)) for same in by_key.values() if len(same) > 1]
    if alike:
        yield Finding(
            "warn",
            f"labels that differ by spaces at their ends, capitals or Unicode form only: {listed(alike)}",
            "write them alike if they mean the same; they count as different labels",
        )


def _spelled(name: str) -> str:
    """Return the name in quotes, spelled out where its characters do not show how it is written."""
    return repr(name) if unicodedata.is_normalized("NFKC", name) else ascii(name)


def _drift(audit: Audit) -> Iterator[Finding]:
    for drift in audit.drifts:
        if drift.distance > DRIFT and not drift.by_chance:
            yield Finding(
                "warn",
                f"the labels are spread differently: {drift.distance:.0%} of the labels of {drift.split} "
                f"would have to change to match {drift.other}; none of {CUTS:,} random cuts is as far apart",
                "cut all splits from one collection with textclf prepare --split, unless this is meant",
            )


def _copies(audit: Audit) -> Iterator[Finding]:
    for split in audit.splits:
        copies = split.copies
        if copies.exact or copies.near:
            yield Finding(
                "warn",
                f"copies within {split.name}: {copies.exact:,} exact, {copies.near:,} near",
                "they count several times; keep one of each",
            )
        if split.repeated_ids:
            yield Finding(
                "warn",
                f"ids that stand twice in {split.name}: {split.repeated_ids:,}",
                "predictions could not be told apart; make ids unique",
            )
    if audit.conflicting:
        yield Finding(
            "warn",
            f"documents with the text of one that has another label: {audit.conflicting:,}",
            "decide on one label, or allow several with --multi-label",
        )


def _reading(audit: Audit) -> Iterator[Finding]:
    if audit.chunking is None or audit.splits[0].labels is None:
        return
    total = sum(split.units for split in audit.splits)
    read = sum(split.tokens_read or 0 for split in audit.splits)
    cut = sum(split.documents_cut or 0 for split in audit.splits)
    most = audit.chunking.max_chunks
    if read < LEAST_READ * total:
        shares = {need.for_tokens: need.share for need in audit.needed}  # the highest of each
        settings = ", ".join(f"{needed} reads {share:.0%}" for needed, share in shares.items())
        yield Finding(
            "warn",
            f"{read / total:.1%} of the tokens are read; documents of more than {most} chunks: {cut:,}",
            f"raise chunking.max_chunks ({settings} of the tokens), or chunking.chunk_size",
        )
    else:
        note = f"; documents cut: {cut:,}" if cut else ", all documents to the end"
        yield Finding("good", f"{read / total:.1%} of the tokens are read{note}")


def _documents(audit: Audit) -> Iterator[Finding]:
    first = audit.splits[0]
    if first.documents < FEW_DOCUMENTS and first.labels is not None:
        yield Finding(
            "warn",
            f"{first.name} has only {counted(first.documents, 'document')}",
            "scores will differ from seed to seed; run several and look at textclf compare",
        )
    odd = False
    for split in audit.splits:
        if split.empty:
            odd = True
            yield Finding(
                "warn",
                f"without text: {counted(split.empty, 'document')} of {split.name}",
                "take them out, or prepare with --skip-empty",
            )
        for name, ids in split.oddities.items():
            odd = True
            yield Finding(
                "warn",
                f"{name}: {len(ids):,} of {counted(split.documents, 'document')} of {split.name} "
                f"({ODDITIES[name]})",
                f"look at {listed(ids)}",
            )
    if not odd:
        yield Finding("good", "no empty or odd documents")


def _tokenizer(audit: Audit) -> Iterator[Finding]:
    if audit.unit != "tokens":
        return
    total = sum(split.units for split in audit.splits)
    share = sum(split.unknown_tokens or 0 for split in audit.splits) / total
    mend = "train a tokenizer on this text: textclf train-tokenizer"
    if share > MANY_UNKNOWN:
        level: Level = "fail" if share > FAR_TOO_MANY_UNKNOWN else "warn"
        unknown = f"the tokenizer does not know {share:.2%} of the tokens"
        yield Finding(level, unknown, f"{mend}; with --kind byte_bpe nothing is unknown")
    else:
        yield Finding("good", f"the tokenizer knows the text: {share:.3%} unknown")
    words = [split.words for split in audit.splits if split.words]
    characters = sum(split.characters or 0 for split in audit.splits)
    if len(words) < len(audit.splits) or characters > _CHARACTERS_OF_A_WORD * sum(words):
        return
    fertility = total / sum(words)
    if fertility > MANY_TOKENS_A_WORD:
        yield Finding("warn", f"a word becomes {fertility:.2f} tokens on average", f"{mend}, or a larger one")
