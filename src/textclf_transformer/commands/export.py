"""``textclf export``: a run as a folder that other libraries load."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from textclf_transformer.atomic import atomic_write_json, atomic_write_text
from textclf_transformer.commands.common import command_parser, print_result, run_command, warn
from textclf_transformer.commands.model_card import FAMILIES, classifier_card, masked_lm_card
from textclf_transformer.commands.outputs import check_output_folder
from textclf_transformer.config import ArchitectureSection
from textclf_transformer.config.keys import fill_in_defaults
from textclf_transformer.config.schema import CONFIGS, MlmHeadSection
from textclf_transformer.data.folders import building_folder
from textclf_transformer.errors import UsageError
from textclf_transformer.evaluation.checkpoint_parts import of_a_known_model
from textclf_transformer.evaluation.loaded_run import LoadedRun, load_run
from textclf_transformer.evaluation.report_run import read_facts
from textclf_transformer.evaluation.run_lookup import choose_checkpoint, find_run
from textclf_transformer.experiment import Kind, RunFolder
from textclf_transformer.model.classifier_heads import SequenceHead
from textclf_transformer.model.freezing import count_parameters
from textclf_transformer.model.hf_config import CONFIG_FILE
from textclf_transformer.model.hf_folder import HEAD_CONFIG_FILE, HEAD_WEIGHTS_FILE, WEIGHTS_FILE, read_json
from textclf_transformer.model.loading import build_loaded
from textclf_transformer.model.sequence_classification import RobertaForSequenceClassification
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.files import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE
from textclf_transformer.training.building import build_masked_lm
from textclf_transformer.training.checkpoint import load_checkpoint
from textclf_transformer.training.run_tokenizer import load_run_tokenizer
from textclf_transformer.training.state import require_keys

CARD_FILE = "README.md"

# All that an export may hold: a folder with anything else in it is never replaced.
EXPORT_FILES = frozenset(
    {
        CARD_FILE,
        CONFIG_FILE,
        WEIGHTS_FILE,
        HEAD_CONFIG_FILE,
        HEAD_WEIGHTS_FILE,
        TOKENIZER_FILE,
        TOKENIZER_CONFIG_FILE,
    }
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = command_parser(
        "textclf export",
        "Write the best weights of a run as a folder that Hugging Face's transformers loads.",
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        help="name of a run of either kind, or the path of its folder (with a / in it), needed where both "
        "kinds have the name",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to write")
    parser.add_argument(
        "--to", choices=("hf",), default="hf", help="layout of the folder (default: hf, Hugging Face's)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it is there")
    return run_command(parser, argv, _export)


def _export(arguments: argparse.Namespace) -> None:
    check_output_folder("OUT", arguments.out)
    folder = find_run(arguments.run, ("pretraining", "finetuning"))
    path = choose_checkpoint(folder)
    content = load_checkpoint(path)
    require_keys(content, ("model", "architecture", "tokenizer", "config"), what=str(path))
    kind: Kind = "finetuning" if "labels" in content else "pretraining"
    # an older version knew fewer keys
    content["config"] = fill_in_defaults(content["config"], CONFIGS[kind])
    require_keys(content["config"], ("experiment",), what=f"{path}: config")
    with building_folder(arguments.out, overwrite=arguments.overwrite, is_ours=_is_export) as out:
        if kind == "finetuning":
            run = load_run(folder.root, trust_code=arguments.trust_code)
            loads_with = _write_classifier(run, content["config"], out)
        else:
            loads_with = _write_masked_lm(folder, path, content, out, trust_code=arguments.trust_code)
    print_result({"wrote": arguments.out, "weights of": path, "loads with": loads_with})


def _is_export(folder: Path) -> bool:
    """Whether ``folder`` is a whole export and no more: a tokenizer's folder has some of its names."""
    entries = list(folder.iterdir())
    is_whole = {CARD_FILE, CONFIG_FILE} <= {path.name for path in entries}
    return is_whole and all(path.name in EXPORT_FILES and path.is_file() for path in entries)


def _write_masked_lm(
    folder: RunFolder, path: Path, content: Mapping[str, Any], out: Path, *, trust_code: bool
) -> str:
    """Write a pretraining run; return what loads it."""
    config = content["config"]
    tokenizer = load_run_tokenizer(content["tokenizer"], folder.tokenizer_dir, trust_code=trust_code)
    with of_a_known_model(path):
        head = MlmHeadSection.model_validate(config["mlm_head"])
        architecture = ArchitectureSection.model_validate(content["architecture"])
    build = functools.partial(
        build_masked_lm,
        architecture,
        vocab_size=tokenizer.vocab_size,
        pad_token_id=tokenizer.pad_token_id,
        tie_mlm_weights=head.tie_mlm_weights,
        enhanced_mask_decoder=head.enhanced_mask_decoder,
        attention_backend="explicit",
        use_gradient_checkpointing=False,
    )
    model, _ = build_loaded(build, content["model"], source=str(path))
    mask_decoder_left_out = model.mask_decoder is not None
    if mask_decoder_left_out:
        warn(
            "the enhanced mask decoder, which transformers lacks, is left out: the states of the encoder are "
            "the same there, its guesses of hidden words are not"
        )
        model.mask_decoder = None
    model.to_hf(out)
    longest = architecture.max_sequence_length
    _write_tokenizer(tokenizer, out, longest=longest, split_special_tokens=False)
    card = masked_lm_card(
        name=folder.name,
        family=FAMILIES[model.encoder.attention_kind],
        parameters=count_parameters([model]),
        facts=read_facts(folder),
        config=config,
        longest=longest,
        mask_token=tokenizer.id_to_token(tokenizer.mask_token_id) or "",
        mask_decoder_left_out=mask_decoder_left_out,
    )
    atomic_write_text(out / CARD_FILE, card)
    return "AutoModelForMaskedLM"


def _write_classifier(run: LoadedRun, config: Mapping[str, Any], out: Path) -> str:
    """Write a finetuning run; return what loads it."""
    model = run.model
    is_sequence_classifier = isinstance(model.classifier, SequenceHead)
    if is_sequence_classifier:
        sequence_model = RobertaForSequenceClassification(
            model.encoder,
            num_labels=model.num_labels,
            classifier_dropout=float(model.settings["classifier_dropout"] or 0),
        )
        sequence_model.classifier = model.classifier
        sequence_model.to_hf(out, label_names=run.label_names)
        kind = "multi_label_classification" if run.multi_label else "single_label_classification"
        _add_to_config(out, {"problem_type": kind})
    else:
        model.to_hf(out, label_names=run.label_names)
    if run.thresholds is not None:
        _add_to_config(out, {"label_thresholds": list(run.thresholds)})
    _write_tokenizer(run.tokenizer, out, longest=run.chunk_size, split_special_tokens=True)
    card = classifier_card(
        name=run.run.name,
        family=FAMILIES[model.encoder.attention_kind],
        parameters=model.count_parameters(),
        facts=read_facts(run.run),
        config=config,
        label_names=run.label_names,
        multi_label=run.multi_label,
        has_thresholds=run.thresholds is not None,
        chunk_size=run.chunk_size,
        stride=run.stride,
        max_chunks=run.max_chunks,
        is_sequence_classifier=is_sequence_classifier,
    )
    atomic_write_text(out / CARD_FILE, card)
    return "AutoModelForSequenceClassification" if is_sequence_classifier else f"the lines in {CARD_FILE}"


def _add_to_config(out: Path, entries: Mapping[str, Any]) -> None:
    atomic_write_json(out / CONFIG_FILE, {**read_json(out / CONFIG_FILE), **entries})


def _write_tokenizer(
    tokenizer: TokenizerWrapper, out: Path, *, longest: int, split_special_tokens: bool
) -> None:
    """Write a tokenizer that AutoTokenizer loads and that gives the ids that the model was trained with.

    Args:
        tokenizer: the run's.
        out: the folder.
        longest: tokens of the longest sequence.
        split_special_tokens: whether a special token that a text spells is text, as in training; a masked
            language model is asked by such text, so there it is the token.

    Raises:
        UsageError: it is a class from outside this package.
    """
    if not isinstance(tokenizer, TokenizerWrapper):
        raise UsageError(
            "this run's tokenizer is code of its own, which transformers cannot load",
            found=type(tokenizer).__name__,
            expected="wordpiece, byte_bpe or unigram",
        )
    tokenizer.save(out)
    content = Tokenizer.from_file(str(out / TOKENIZER_FILE))
    ends = [tokenizer.cls_token_id, tokenizer.sep_token_id]
    if content.encode("").ids != ends:
        first, last = (tokenizer.id_to_token(index) for index in ends)
        content.post_processor = TemplateProcessing(
            single=[first, "$A", last], special_tokens=list(zip((first, last), ends, strict=True))
        )
        atomic_write_text(out / TOKENIZER_FILE, content.to_str(pretty=True) + "\n")
    config = {
        **read_json(out / TOKENIZER_CONFIG_FILE),
        "model_max_length": longest,
        "model_input_names": ["input_ids", "attention_mask"],
        "split_special_tokens": split_special_tokens,
    }
    atomic_write_json(out / TOKENIZER_CONFIG_FILE, config)
