"""The README.md of an exported model: what it is, what it was made from, how good it is, how to load it.

Nothing of the machine goes in: of the paths of the data only the last two parts are kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from textclf_transformer.commands.model_card_lines import (
    ENCODER_LINES,
    HIERARCHICAL,
    HIERARCHICAL_LINES,
    LIMITS,
    MASKED_LM_LINES,
    SEQUENCE_LINES,
    SEVERAL_LABELS,
    SEVERAL_LABELS_LINES,
    TRANSFORMERS_LINES,
)
from textclf_transformer.errors import printable
from textclf_transformer.evaluation.report_run import RunFacts

# By the kind of attention.
FAMILIES = {"standard": "RoBERTa", "disentangled": "DeBERTa"}

_CLASSIFIER = "AutoModelForSequenceClassification"
_LABELS_SHOWN = 50


def masked_lm_card(
    *,
    name: str,
    family: str,
    parameters: int,
    facts: RunFacts,
    config: Mapping[str, Any],
    longest: int,
    mask_token: str,
    mask_decoder_left_out: bool,
) -> str:
    """Return the card of a pretrained encoder.

    Args:
        name: of the run.
        family: one of ``FAMILIES``.
        parameters: number of parameters.
        facts: what stands in the run's run.json.
        config: the run's resolved config, plain values.
        longest: tokens of the longest sequence.
        mask_token: as it is written.
        mask_decoder_left_out: whether an enhanced mask decoder was trained and is not in the folder.
    """
    limits = f"- It reads at most {longest:,} tokens at a time.\n{LIMITS}"
    if mask_decoder_left_out:
        limits += (
            "- It was trained with an enhanced mask decoder, which transformers lacks. The states of the\n"
            "  encoder are as in training; its guesses of hidden words are worse than the numbers say.\n"
        )
    return _join(
        _front_matter({"library_name": "transformers", "pipeline_tag": "fill-mask"}),
        f"# {name}\n",
        f"A {family} encoder with its masked-language-model head, {parameters:,} parameters in all,\n"
        "pretrained with textclf_transformer on the data below.\n",
        _data_section(facts, config),
        _metrics_section(facts, config),
        "## Intended use\n",
        "To be finetuned on texts of the kind and language that it was pretrained on, and to guess hidden\n"
        "words in them.\n",
        "## Limits\n",
        limits,
        "## Loading it\n",
        _code(
            TRANSFORMERS_LINES.format(
                auto_class="AutoModelForMaskedLM", text=f"Some text with a {mask_token} in it."
            )
            + MASKED_LM_LINES
        ),
    )


def classifier_card(
    *,
    name: str,
    family: str,
    parameters: int,
    facts: RunFacts,
    config: Mapping[str, Any],
    label_names: Sequence[str],
    multi_label: bool,
    has_thresholds: bool,
    chunk_size: int,
    stride: int,
    max_chunks: int,
    is_sequence_classifier: bool,
) -> str:
    """Return the card of a classifier.

    Args:
        name: of the run.
        family: one of ``FAMILIES``.
        parameters: number of parameters.
        facts: what stands in the run's run.json.
        config: the run's resolved config, plain values.
        label_names: in the order of the logits.
        multi_label: whether a document carries any number of labels.
        has_thresholds: whether ``label_thresholds`` stand in config.json.
        chunk_size: tokens of the longest chunk, [CLS] and [SEP] included.
        stride: content tokens from one chunk's start to the next.
        max_chunks: chunks of a document that are read.
        is_sequence_classifier: whether transformers has a class for it; then it reads the first chunk alone.
    """
    activation = "sigmoid()" if multi_label else "softmax(dim=-1)"
    given = SEVERAL_LABELS_LINES if has_thresholds else ""
    if is_sequence_classifier:
        read, way = chunk_size - 2, "It reads the beginning of a document"
        code = _code(
            TRANSFORMERS_LINES.format(auto_class=_CLASSIFIER, text="the text to classify")
            + SEQUENCE_LINES.format(activation=activation)
            + given
        )
        front = {"library_name": "transformers", "pipeline_tag": "text-classification"}
    else:
        read, way = chunk_size - 2 + (max_chunks - 1) * stride, "It reads a document in chunks"
        options = ", add_pooling_layer=False" if family == "RoBERTa" else ""
        code = _join(
            HIERARCHICAL,
            _code(
                HIERARCHICAL_LINES.format(
                    activation=activation,
                    chunk_size=chunk_size,
                    overlap=chunk_size - 2 - stride,
                    max_chunks=max_chunks,
                )
                + given
            ),
            "\nThe encoder alone, with transformers:\n",
            _code(ENCODER_LINES.format(options=options)),
        )
        front = {"library_name": "textclf_transformer"}
    kind = "any number of the labels" if multi_label else "one of the labels"
    return _join(
        _front_matter({**front, **_base_model(config)}),
        f"# {name}\n",
        f"A {family} of {parameters:,} parameters that gives a document {kind}\n{_names(label_names)}.\n",
        *([SEVERAL_LABELS] if has_thresholds else []),
        _data_section(facts, config),
        _metrics_section(facts, config),
        "## Intended use\n",
        f"To classify documents like those above. {way}.\n",
        "## Limits\n",
        f"- At most the first {read:,} tokens of a document are read.\n"
        "- Its probabilities are not calibrated; `textclf evaluate` tells how far off they are.\n" + LIMITS,
        "## Loading it\n",
        code,
    )


def _join(*parts: str) -> str:
    return "\n".join(parts)


def _code(lines: str) -> str:
    return f"```python\n{lines}```\n"


def _front_matter(entries: Mapping[str, str]) -> str:
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items()]
    return "\n".join(["---", *lines, "tags: [textclf_transformer]", "---", ""])


def _base_model(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the published model that a run started from, in the words of a card's front matter."""
    source = config.get("pretrained_experiment") or {}
    name = source.get("from_hf")
    if name is None or not source["load_weights"] or PurePath(name).is_absolute():
        return {}
    return {"base_model": name.split("@")[0]}


def _names(label_names: Sequence[str]) -> str:
    shown = ", ".join(map(_verbatim, label_names[:_LABELS_SHOWN]))
    more = len(label_names) - _LABELS_SHOWN
    return shown if more <= 0 else f"{shown} and {more} more, all of them in config.json"


def _verbatim(text: str) -> str:
    """Return ``text`` so that Markdown shows it as it is, whatever it holds: no HTML, no end of the line."""
    line = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    # Markdown takes one space at either end away, where there are both
    return f"{fence} {line} {fence}" if "`" in line or line != line.strip() else f"{fence}{line}{fence}"


def _data_section(facts: RunFacts, config: Mapping[str, Any]) -> str:
    """Return what the model was made from: its source, the splits and the settings that matter most."""
    lines = ["## Data and training\n", *_source(config)]
    splits = [split for split in facts.data if split.split.isidentifier()]
    if splits:
        lines += ["| split | data | documents | tokens | tokens not read |", "|---|---|---|---|---|"]
    for split in splits:
        data = _verbatim("/".join(PurePath(split.path).parts[-2:])).replace("|", "\\|")
        counts = (split.documents, split.tokens, split.tokens_dropped)
        numbers = ("–" if count is None else f"{count:,}" for count in counts)
        lines.append(f"| {split.split} | {data} | {' | '.join(numbers)} |")
    training, environment = config["training"], facts.environment
    settings = ", ".join(f"{key} {training[key]}" for key in ("epochs", "batch_size", "learning_rate"))
    versions = ""
    if {"torch", "device", "amp_dtype"} <= environment.keys():
        numerics = str(environment["amp_dtype"]).removeprefix("torch.").replace("None", "float32")
        torch, device = (_verbatim(str(environment[key])) for key in ("torch", "device"))
        versions = f" torch {torch} on {device}, matrix products in {_verbatim(numerics)}."
    lines.append(f"\nTrained with {settings}, seed {config['experiment']['seed']}.{versions}\n")
    return "\n".join(lines)


def _source(config: Mapping[str, Any]) -> list[str]:
    source = config.get("pretrained_experiment")
    if source is None:
        return []
    where = source.get("from_hf") or source["path"]
    if where is None:
        return []
    name = PurePath(where).name if PurePath(where).is_absolute() else where
    if not source["load_weights"]:
        return [f"The encoder has the shape of {_verbatim(name)} and started from random weights.\n"]
    kind = "the pretraining run" if source.get("from_hf") is None else "the published weights"
    return [f"The encoder started from {kind} {_verbatim(name)}.\n"]


def _metrics_section(facts: RunFacts, config: Mapping[str, Any]) -> str:
    lines = ["## Metrics\n"]
    metric = config["training"]["best_metric"]
    if metric in facts.best:
        lines.append(f"Chosen by `{metric}` on the validation data: {facts.best[metric]:.4f}.\n")
    if facts.test:
        lines += ["| on the test data | |", "|---|---|"]
        lines += [f"| {name} | {value:.4f} |" for name, value in facts.test.items()]
    else:
        lines.append("It was not tested on data kept apart for that.")
    return "\n".join([*lines, ""])
