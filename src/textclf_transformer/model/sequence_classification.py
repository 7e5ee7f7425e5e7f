"""Classification of one sequence: encoder, pooling over tokens, Hugging Face's classification head.

B batch of sequences, S positions in a sequence, D hidden size, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from textclf_transformer.model.classifier_heads import SEQUENCE_HEAD_ACTIVATIONS, SequenceHead, in_dtype_of
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.freezing import EncoderClassifier
from textclf_transformer.model.head_files import load_classifier, write_classifier
from textclf_transformer.model.hf_encoder import hf_class, hf_settings, hf_tensors
from textclf_transformer.model.hf_folder import (
    HEAD_CONFIG_FILE,
    label_entries,
    read_hf_folder,
    write_hf_folder,
)
from textclf_transformer.model.hf_hub import local_folder
from textclf_transformer.model.initialisation import initialise_weights
from textclf_transformer.model.layout import check_attention_mask
from textclf_transformer.model.loading import build_loaded
from textclf_transformer.model.pretrained import POSITIONS
from textclf_transformer.model.token_pooling import check_token_pooling, encode_sequences
from textclf_transformer.utils import send

# RoBERTa's key in config.json, and DeBERTa's two.
CLASSIFIER_DROPOUTS = ("classifier_dropout", "cls_dropout", "pooler_dropout")


class RobertaForSequenceClassification(EncoderClassifier):
    """Encoder and classification head for texts of one sequence.

    Args:
        encoder: the encoder; owned by this model from now on.
        num_labels: L.
        pooling: over the tokens, one of ``TOKEN_POOLINGS``; Hugging Face has "cls".
        classifier_dropout: drop probability in the head.

    Raises:
        ValueError: the pooling is unknown.
    """

    SETTING_TYPES: ClassVar[Mapping[str, tuple[type, ...]]] = {
        "num_labels": (int,),
        "pooling": (str,),
        "classifier_dropout": (float, int),
    }

    def __init__(
        self, encoder: RobertaModel, *, num_labels: int, pooling: str = "cls", classifier_dropout: float = 0.1
    ) -> None:
        super().__init__(encoder)
        check_token_pooling(pooling)
        self.num_labels = num_labels
        self.settings = {
            "num_labels": num_labels,
            "pooling": pooling,
            "classifier_dropout": classifier_dropout,
        }
        self.token_pooling = pooling
        self.classifier = SequenceHead(
            hidden_size=encoder.hidden_size,
            num_labels=num_labels,
            activation=SEQUENCE_HEAD_ACTIVATIONS[encoder.attention_kind],
            dropout_prob=classifier_dropout,
        )
        initialise_weights(self.classifier)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Classify a batch.

        Args:
            input_ids: (B, S) int64.
            attention_mask: (B, S) bool, True = PAD.
            labels: (B,) int64; or None.

        Returns:
            ``logits`` (B, L), float32 unless the model was cast; with labels ``loss``, the mean
            cross-entropy.

        Raises:
            TypeError: the mask is not bool.
            ValueError: shapes differ, or a row has no real token.
        """
        check_attention_mask(attention_mask, input_ids.shape)
        if bool(attention_mask.all(dim=1).any()):
            raise ValueError("a row has no real token")
        sequences = encode_sequences(
            self.encoder, input_ids, attention_mask, token_pooling=self.token_pooling
        )
        with torch.autocast(device_type=sequences.device.type, enabled=False):
            logits = self.classifier(in_dtype_of(self.classifier, sequences))
        output = {"logits": logits}
        if labels is not None:
            output["loss"] = F.cross_entropy(logits, send(labels, logits.device))
        return output

    @classmethod
    def from_hf(cls, folder: Path | str) -> Self:
        """Load a folder that transformers' ``RobertaForSequenceClassification``, BERT's, DeBERTa's, or
        ``to_hf`` wrote.

        To start from a published encoder instead, hand ``RobertaModel.from_hf(folder)`` to the class: its
        head is new.

        Args:
            folder: with config.json and model.safetensors or pytorch_model.bin; or, as a str, the name of a
                model on the hub (``owner/name``).

        Returns:
            The model in training mode, in float32.

        Raises:
            CheckpointError: a file is missing or damaged, or a tensor of encoder or head is missing or
                unexpected.
        """
        folder = local_folder(folder)
        if (folder / HEAD_CONFIG_FILE).exists():
            return load_classifier(cls, folder)
        config, state = read_hf_folder(folder)
        output = state.get("classifier.output.bias")
        model, report = build_loaded(
            lambda: cls(
                RobertaModel.from_hf_config(config),
                # Without a head any number will do: strict loading then says what is missing.
                num_labels=1 if output is None else output.numel(),
                classifier_dropout=config.classifier_dropout,
            ),
            state,
            source=str(folder),
            leave_behind=("pooler.", POSITIONS),
        )
        report.log()
        return model

    def to_hf(self, folder: Path | str, *, label_names: Sequence[str] | None = None) -> None:
        """Write the model so that transformers' ``RobertaForSequenceClassification`` or
        ``DebertaForSequenceClassification`` loads it.

        With pooling mean or max, which Hugging Face has no class for, the encoder is written as its
        ``RobertaModel`` or ``DebertaModel`` and the rest beside it in head.json and head.safetensors.

        Args:
            folder: a new one, or one without a model.
            label_names: L names in the order of the logits, for config.json; None: LABEL_0, LABEL_1 …

        Raises:
            UsageError: there is a model in the folder already.
            StorageError: the disk is full, a permission is missing …
            ValueError: the names are not L different ones.
        """
        if self.token_pooling != "cls":
            write_classifier(self, Path(folder), label_names=label_names)
            return
        config = {
            **hf_settings(self.encoder),
            "architectures": [hf_class(self.encoder, "ForSequenceClassification")],
            **dict.fromkeys(CLASSIFIER_DROPOUTS, self.settings["classifier_dropout"]),
            **label_entries(label_names, self.num_labels),
        }
        tensors = hf_tensors(self.encoder, self.state_dict(), bare=False)
        write_hf_folder(Path(folder), config=config, tensors=tensors)
