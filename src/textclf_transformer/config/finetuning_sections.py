"""The sections that only finetuning has, and its own defaults of those that it shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from textclf_transformer.config.rules import Problem, raise_problems
from textclf_transformer.config.section import Count, Dropout, LabelName, Section
from textclf_transformer.config.shared_sections import (
    BEST_METRIC,
    BatchSize,
    Epochs,
    LearningRate,
    TrainingSection,
    WarmupRatio,
)

Weight = Annotated[float, Field(gt=0, le=1_000_000)]


class FreezePhaseSection(Section):
    """What is trained from an epoch on; the rest is frozen."""

    from_epoch: Annotated[
        int, Field(ge=0, le=1_000_000, description="Epochs done before the phase begins; 0 for the first.")
    ]
    train: Annotated[
        Literal["head", "top_k", "all"],
        Field(description="head: all but the encoder; top_k: its upper k layers too; all: everything."),
    ]
    k: Annotated[
        Annotated[int, Field(ge=1, le=1_000)] | None, Field(description="Layers, for top_k; else null.")
    ] = None
    learning_rate: Annotated[
        LearningRate | None, Field(description="Highest in this phase; null: training.learning_rate.")
    ] = None


class FinetuningTrainingSection(TrainingSection):
    """How the classifier is trained."""

    learning_rate: LearningRate = 1e-4
    batch_size: BatchSize = 16
    warmup_ratio: WarmupRatio = 0.1
    epochs: Epochs = 5
    best_metric: Annotated[
        Literal["loss", "accuracy", "f1_macro"],
        Field(description=f"{BEST_METRIC} Of equal values, the one with the lower loss."),
    ] = "f1_macro"
    class_weights: Annotated[
        Literal["none", "balanced"] | Annotated[list[Weight], Field(min_length=2)],
        Field(
            description="Weight of each label in the training loss: none, balanced (the rarer the heavier, "
            "on average 1), or a list in the order of ordinal_labels, else as `textclf prepare` lists the "
            "labels; not for documents with several."
        ),
    ] = "none"
    label_smoothing: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Share of a training target that is spread evenly over all labels; not for "
            "documents with several.",
        ),
    ] = 0.0
    word_dropout: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Share of the training documents' tokens that become [MASK], others in each epoch; "
            "with it the vectors of a frozen encoder are not kept.",
        ),
    ] = 0.0
    layerwise_lr_decay: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Factor on the learning rate for each layer below the classifier, the embeddings "
            "last; 1: the same rate everywhere; 0.8 to 0.95 is usual.",
        ),
    ] = 1.0
    freeze: Annotated[
        Annotated[list[FreezePhaseSection], Field(min_length=1)] | None,
        Field(
            description="Phases, e.g. [{from_epoch: 0, train: head, learning_rate: 1e-3}, {from_epoch: 1, "
            "train: top_k, k: 2}, {from_epoch: 2, train: all}]. head freezes the encoder, top_k its "
            "embeddings and all but the upper k layers (k of all layers: the embeddings alone), all freezes "
            "nothing; warm-up and cosine run over the whole run; null: all from the beginning."
        ),
    ] = None
    frozen_cache_gib: Annotated[
        float,
        Field(
            ge=0,
            le=1_000_000,
            description="Most GiB in the run folder for the chunks' vectors of an encoder that is frozen "
            "from the beginning (train: head): computed once, not in each epoch; 0: never kept.",
        ),
    ] = 8.0

    chunks_per_group: Annotated[
        Count,
        Field(
            description="Chunks computed at once under gradient_checkpointing, which keeps only the ids and "
            "vectors of such a group."
        ),
    ] = 4
    kept_chunk_groups: Annotated[
        Annotated[int, Field(ge=0, le=1_048_576)],
        Field(
            description="Groups of which gradient_checkpointing keeps everything all the same: they are not "
            "computed twice."
        ),
    ] = 2

    @model_validator(mode="after")
    def _check(self) -> FinetuningTrainingSection:
        raise_problems(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        phases = self.freeze or []
        begins = [phase.from_epoch for phase in phases]
        if phases and (begins[0] != 0 or begins != sorted(set(begins)) or begins[-1] >= self.epochs):
            yield Problem(
                "training.freeze",
                "the phases do not cover the epochs one after the other",
                found=f"from_epoch {', '.join(map(str, begins))}",
                expected=f"0 first, then rising, below epochs ({self.epochs})",
            )
        for key in ("chunks_per_group", "kept_chunk_groups"):
            is_default = getattr(self, key) == type(self).model_fields[key].default  # as the template has it
            if not is_default and not self.gradient_checkpointing:
                yield Problem(
                    f"training.{key}",
                    "this says how gradient_checkpointing is done, which is off",
                    found=str(getattr(self, key)),
                    expected="the default, or training.gradient_checkpointing: true",
                )
        for phase in phases:
            if (phase.k is not None) != (phase.train == "top_k"):
                k = "no k" if phase.k is None else f"k {phase.k}"
                yield Problem(
                    "training.freeze",
                    "k belongs to top_k, and to it alone",
                    found=f"{k} with train {phase.train} from epoch {phase.from_epoch}",
                    expected="k a number for top_k, else null",
                )


class FinetuningDropoutsSection(Section):
    """Dropout of the encoder while it is finetuned."""

    embedding: Annotated[
        Dropout | None, Field(description="On the embeddings (share of values); null: as in pretraining.")
    ] = None
    attention: Annotated[
        Dropout | None,
        Field(description="On the attention weights (share of values); null: as in pretraining."),
    ] = None
    hidden: Annotated[
        Dropout | None,
        Field(description="On each sub-layer's output (share of values); null: as in pretraining."),
    ] = None


class FinetuningArchitectureSection(Section):
    """The encoder's shape comes from the pretraining checkpoint; only its dropout may be set anew."""

    dropouts: FinetuningDropoutsSection = FinetuningDropoutsSection()


class ClassificationHeadSection(Section):
    """From the chunks' vectors to the labels."""

    num_labels: Annotated[
        Annotated[int, Field(ge=2, le=1_000_000)] | None,
        Field(description="Number of labels; null: as many as the data have."),
    ] = None
    pooling: Annotated[
        Literal["attention", "multihead", "mean", "max", "cls", "transformer"],
        Field(description="How the chunks of a document become one vector."),
    ] = "attention"
    token_pooling: Annotated[
        Literal["cls", "mean", "max"],
        Field(description="How the tokens of a chunk become its vector: [CLS], or mean or max of all."),
    ] = "cls"
    kind: Annotated[
        Literal["normalised", "huggingface"],
        Field(
            description="Layers after the pooling: normalised is LayerNorm, half the size, tanh, labels; "
            "huggingface is transformers' own (full size, tanh, labels) for both poolings cls, so that "
            "`textclf export` writes a model that its AutoModelForSequenceClassification loads."
        ),
    ] = "normalised"
    attention_heads: Annotated[
        int,
        Field(
            ge=1,
            le=65_536,
            description="Heads over chunks (multihead and transformer); must divide embedding_dim.",
        ),
    ] = 8
    classifier_dropout: Annotated[Dropout, Field(description="Inside the classifier (share of values).")] = (
        0.1
    )
    attention_hidden_size: Annotated[
        Annotated[int, Field(ge=1, le=65_536)] | None,
        Field(description="Inner size of the attention over chunks (dimensions); null: embedding_dim."),
    ] = None
    attention_dropout: Annotated[
        Dropout, Field(description="On the weights of the chunks (share of chunks).")
    ] = 0.0
    hidden_dropout: Annotated[
        Dropout, Field(description="On the vectors of the chunks (share of values).")
    ] = 0.1
    chunk_position_embeddings: Annotated[
        bool,
        Field(description="Add a learned vector for a chunk's place in its document; not for mean and cls."),
    ] = False
    ordinal_labels: Annotated[
        Annotated[list[LabelName], Field(min_length=2)] | None,
        Field(
            description="All labels in their order, lowest first, e.g. [General, Teen, Mature]: they are "
            "predicted as steps of one scale; null: labels without an order."
        ),
    ] = None

    @model_validator(mode="after")
    def _check(self) -> ClassificationHeadSection:
        raise_problems(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if self.chunk_position_embeddings and self.pooling in {"mean", "cls"}:
            yield Problem(
                "classification_head.chunk_position_embeddings",
                "this pooling has no use for the places of chunks",
                found=f"true with pooling {self.pooling}",
                expected="pooling attention, multihead, max or transformer",
            )
        poolings = (self.pooling, self.token_pooling)
        if self.kind == "huggingface" and (poolings != ("cls", "cls") or self.ordinal_labels is not None):
            yield Problem(
                "classification_head.kind",
                "Hugging Face's head reads the first chunk's [CLS] and knows no order of labels",
                found=f"huggingface with pooling {self.pooling}, token_pooling {self.token_pooling}"
                + (" and ordinal_labels" if self.ordinal_labels is not None else ""),
                expected="pooling cls and token_pooling cls without ordinal_labels, or kind normalised",
            )
        if self.ordinal_labels is not None and len(set(self.ordinal_labels)) < len(self.ordinal_labels):
            yield Problem(
                "classification_head.ordinal_labels",
                "a label stands twice",
                found=str(self.ordinal_labels),
                expected="each label once",
            )


class ChunkingSection(Section):
    """How a long document is cut into sequences."""

    chunk_size: Annotated[
        Annotated[int, Field(ge=3, le=1_048_576)] | None,
        Field(description="Tokens of a chunk, [CLS] and [SEP] included; null: max_sequence_length."),
    ] = None
    stride: Annotated[
        Annotated[int, Field(ge=1, le=1_048_576)] | None,
        Field(description="Content tokens from chunk to chunk; null: chunk_size − 2, no overlap."),
    ] = None
    max_chunks: Annotated[
        Count, Field(description="Chunks read of a document; tokens beyond them are counted and reported.")
    ] = 32

    @model_validator(mode="after")
    def _check(self) -> ChunkingSection:
        raise_problems(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if self.chunk_size is not None and self.stride is not None and self.stride > self.chunk_size - 2:
            yield Problem(
                "chunking.stride",
                "tokens between two chunks would be skipped",
                found=f"stride {self.stride}, chunk_size {self.chunk_size}",
                expected="a stride of at most chunk_size − 2",
            )
