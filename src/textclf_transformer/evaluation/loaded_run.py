"""A finished finetuning run, ready to classify: model, tokenizer, chunking and labels from its folder alone.

``evaluate`` and ``predict`` go through here, so that both compute the same numbers, and the numbers of the
run's own test row: the encoder multiplies in the dtype that it was trained in, where the device has it.
Nothing outside the folder is read; paths that the config names are only remembered.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textclf_transformer.config import ArchitectureSection, ClassificationHeadSection
from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.data.documents import Documents
from textclf_transformer.errors import CheckpointError, ConfigError, NonFiniteError
from textclf_transformer.evaluation.checkpoint_parts import (
    read_sections,
    read_thresholds,
)
from textclf_transformer.evaluation.inference import document_logits
from textclf_transformer.evaluation.run_lookup import choose_checkpoint, find_run
from textclf_transformer.experiment import RunFolder
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.loading import build_loaded
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.training.building import attention_backend_of, build_classifier, build_encoder
from textclf_transformer.training.checkpoint import load_checkpoint
from textclf_transformer.training.numerics import available_amp_dtype, settle_libraries
from textclf_transformer.training.run_tokenizer import load_run_tokenizer
from textclf_transformer.training.state import require_keys
from textclf_transformer.utils import AUTO_MICRO_BATCH_TOKENS, resolve_device

FloatArray = NDArray[np.floating]

_CHECKPOINT_KEYS = ("model", "architecture", "tokenizer", "config", "labels", "multi_label", "environment")
_AMP_DTYPES = {"None": None, "torch.bfloat16": torch.bfloat16, "torch.float16": torch.float16}


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """What a run classifies with.

    Attributes:
        run: the folder.
        checkpoint: the file that the weights come from: best.ckpt, or model.ckpt where there is no best.
        step: the optimizer step of these weights.
        model: in evaluation mode, float32, on ``device``.
        tokenizer: the copy in the run folder.
        label_names: in the order of the logits.
        multi_label: whether a document carries any number of labels (a sigmoid for each) or one (softmax).
        thresholds: L probabilities above which a document carries a label, chosen on val, for several labels;
            None: one half for each.
        ordered: whether the labels are steps of a scale, lowest first (``ordinal_labels``).
        chunk_size: tokens of the longest chunk, [CLS] and [SEP] included.
        stride: content tokens from one chunk's start to the next.
        max_chunks: chunks of a document that are read.
        seed: the run's seed.
        data_paths: split → where training found it; it need not be there any more.
        data_fingerprints: split → fingerprint of the documents that training found there.
        device: where the model is.
        amp_dtype: dtype of the encoder's matrix products; None means float32. The head is float32 anyway.
        trained_amp_dtype: the one of training.
        tokens_per_micro_batch: padded tokens computed at once: training's, on the same kind of device.
    """

    run: RunFolder
    checkpoint: Path
    step: int
    model: HierarchicalRobertaForClassification
    tokenizer: TokenizerWrapper
    label_names: tuple[str, ...]
    multi_label: bool
    thresholds: tuple[float, ...] | None
    ordered: bool
    chunk_size: int
    stride: int
    max_chunks: int
    seed: int
    data_paths: Mapping[str, Path]
    data_fingerprints: Mapping[str, str]
    device: torch.device
    amp_dtype: torch.dtype | None
    trained_amp_dtype: torch.dtype | None
    tokens_per_micro_batch: int

    @property
    def numerics(self) -> str:
        """What the numbers are computed in, in words."""
        now, then = (
            str(dtype or torch.float32).removeprefix("torch.")
            for dtype in (self.amp_dtype, self.trained_amp_dtype)
        )
        return f"{now}, as in training" if now == then else f"{now}, in training {then}"

    def batches(self, documents: Documents, *, max_chunks: int | None = None) -> DocumentBatches:
        """Return ``documents`` in chunks, as the model was trained on, labels in the model's order.

        Args:
            documents: made with the run's tokenizer.
            max_chunks: another number of chunks to read; None: the run's.

        Raises:
            ConfigError: more chunks than the model has learned places for.
            DataError: there is no document, a given chunk is too long, or a label is unknown to the model.
        """
        if max_chunks is not None and self.model.chunk_positions is not None and max_chunks > self.max_chunks:
            raise ConfigError(
                "the model has learned no vector for the place of later chunks",
                where="max_chunks",
                found=str(max_chunks),
                expected=f"at most {self.max_chunks}, as it was trained with",
                mend="or train it with classification_head.chunk_position_embeddings=false",
            )
        return DocumentBatches(
            documents,
            cls_token_id=self.tokenizer.cls_token_id,
            sep_token_id=self.tokenizer.sep_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
            chunk_size=self.chunk_size,
            stride=self.stride,
            max_chunks=max_chunks or self.max_chunks,
            samples_per_step=1,  # of training, which nobody asks for here
            tokens_per_micro_batch=self.tokens_per_micro_batch,
            seed=self.seed,
            label_names=self.label_names,
        )

    def logits(self, batches: DocumentBatches) -> NDArray[np.float32]:
        """Return (documents, L) float32 logits in the order of the documents.

        Raises:
            NonFiniteError: a logit is NaN or infinite; its document is named.
        """
        logits = document_logits(
            self.model, batches, device=self.device, amp_dtype=self.amp_dtype, should_stop=lambda: False
        )
        check_finite(logits)
        return logits


def check_finite(logits: FloatArray) -> None:
    """Raise NonFiniteError, naming the document, if a logit is NaN or infinite."""
    faulty = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if faulty.size:
        raise NonFiniteError("a logit is NaN or infinite", where=f"document {faulty[0]} (from 0)")


def load_run(
    run: str | os.PathLike[str], *, trust_code: bool = False, float32: bool = False, device: str = "auto"
) -> LoadedRun:
    """Load the best weights of a finetuning run, or the last where there are no best ones.

    Args:
        run: the run's name, or the path of its folder, which may have been moved.
        trust_code: whether a tokenizer class outside this package may be run.
        float32: whether to compute in float32 whatever the run was trained in; slower on some machines, and
            independent of how documents are batched to 1e-5.
        device: where to compute: auto (a GPU where there is one), cpu, cuda or cuda:N.

    Raises:
        ConfigError: there is no such run, or no such device.
        CheckpointError: it has no checkpoint, one that cannot be read, or one of another kind.
        DataError: its tokenizer cannot be read.
        UsageError: the name is not allowed, or code is not trusted.
    """
    settle_libraries()
    folder = find_run(run)
    path = choose_checkpoint(folder)
    content = load_checkpoint(path)
    if "labels" not in content and "architecture" in content:
        raise CheckpointError(
            "this is the checkpoint of a pretraining run",
            where=str(path),
            expected="one of a finetuning run, which knows labels",
            mend="finetune it first: python experiments/generate_finetuning_experiment.py NAME PRETRAIN_NAME",
        )
    require_keys(content, _CHECKPOINT_KEYS, what=str(path))
    architecture, head, chunking = read_sections(content, path)
    tokenizer = load_run_tokenizer(content["tokenizer"], folder.tokenizer_dir, trust_code=trust_code)
    place = resolve_device(device, where="device")
    chunk_size = chunking.chunk_size or architecture.max_sequence_length
    require_keys(content["config"], ("experiment", "data"), what=f"{path}: config")
    data: Mapping[str, Any] = content["config"]["data"]
    trained_amp_dtype, tokens_per_micro_batch = _numerics(content, path, place)
    amp_dtype = None if float32 else available_amp_dtype(place, trained_amp_dtype)
    # a backend that runs in both
    attention_backend = attention_backend_of(
        architecture, device=place, amp_dtype=amp_dtype if trained_amp_dtype is not None else None
    ).name
    model = _load_model(
        content, path, architecture, head, chunking.max_chunks, tokenizer, place, attention_backend
    )
    return LoadedRun(
        run=folder,
        checkpoint=path,
        step=_step_of(content, path),
        model=model,
        tokenizer=tokenizer,
        label_names=tuple(content["labels"]),
        multi_label=content["multi_label"],
        thresholds=read_thresholds(content, path),
        ordered=head.ordinal_labels is not None,
        chunk_size=chunk_size,
        stride=chunking.stride or chunk_size - 2,
        max_chunks=chunking.max_chunks,
        seed=content["config"]["experiment"]["seed"],
        data_paths={split: Path(part["dataset_path"]) for split, part in data.items() if part is not None},
        data_fingerprints=content.get("fingerprints", {}).get("data", {}),
        device=place,
        amp_dtype=amp_dtype,
        trained_amp_dtype=trained_amp_dtype,
        tokens_per_micro_batch=tokens_per_micro_batch,
    )


def _step_of(content: Mapping[str, Any], path: Path) -> int:
    """Return the step of the weights: best.ckpt names it, model.ckpt in the state of the loop."""
    holder = content if "step" in content else content.get("loop", {})
    require_keys(holder, ("step",), what=str(path))
    return int(holder["step"])


def _numerics(content: Mapping[str, Any], path: Path, device: torch.device) -> tuple[torch.dtype | None, int]:
    """Return the dtype of training and the tokens to compute at once."""
    environment = content["environment"]
    try:
        trained_amp_dtype = _AMP_DTYPES[environment["amp_dtype"]]
        if environment["device"] == device.type:
            return trained_amp_dtype, environment["micro_batch_tokens"]
    except KeyError as error:
        raise CheckpointError(
            "this checkpoint does not say how it was computed",
            where=f"{path}: environment",
            found=str(error),
            mend="use the version of textclf_transformer that wrote it",
        ) from error
    # another kind of device than in training; only rounding depends on it
    return trained_amp_dtype, AUTO_MICRO_BATCH_TOKENS[device.type]


def _load_model(
    content: Mapping[str, Any],
    path: Path,
    architecture: ArchitectureSection,
    head: ClassificationHeadSection,
    max_chunks: int,
    tokenizer: TokenizerWrapper,
    device: torch.device,
    attention_backend: str,
) -> HierarchicalRobertaForClassification:
    def build() -> HierarchicalRobertaForClassification:
        encoder = build_encoder(
            architecture,
            vocab_size=tokenizer.vocab_size,
            pad_token_id=tokenizer.pad_token_id,
            attention_backend=attention_backend,
        )
        return build_classifier(
            encoder,
            head,
            num_labels=len(content["labels"]),
            max_chunks=max_chunks,
            layer_norm_eps=architecture.layer_norm_eps,
            use_gradient_checkpointing=False,
        )

    with torch.device("cpu"):  # from there it goes to ``device``, whatever the caller's default is
        model, _ = build_loaded(build, content["model"], source=str(path))
    return model.to(device).eval()
