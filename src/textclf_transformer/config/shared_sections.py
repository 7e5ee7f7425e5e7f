"""The sections that pretraining and finetuning have in common; each key's documentation stands beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PureWindowsPath
from typing import Annotated, Literal

from pydantic import Field, model_validator

from textclf_transformer.config.rules import Problem, raise_problems
from textclf_transformer.config.section import (
    Count,
    CsvInRun,
    DeviceName,
    Dropout,
    PathValue,
    RunName,
    Section,
    Text,
    WrapperPath,
)


class ExperimentSection(Section):
    """Which run this is."""

    name: Annotated[RunName, Field(description="Name of the run, and of its folder.")]
    output_dir: Annotated[
        PathValue | None,
        Field(
            description="Folder for the run's folder NAME with its results; null: experiments/pretraining or "
            "experiments/finetuning of the checkout."
        ),
    ] = None
    seed: Annotated[
        int,
        Field(ge=0, le=2**63 - 1, description="Seed of the weights, the order, the masks and the dropout."),
    ] = 42


class LoggingSection(Section):
    """What is written down while a run trains."""

    use_wandb: Annotated[
        bool,
        Field(description="Log to Weights & Biases too; the API key comes from the environment."),
    ] = False
    wandb_project: Annotated[Text, Field(description="Weights & Biases project.")] = "textclf_transformer"
    wandb_entity: Annotated[
        Text | None, Field(description="Weights & Biases team or user; null: your default one.")
    ] = None
    wandb_run_name: Annotated[
        Text | None, Field(description="Name shown in Weights & Biases; null: the name of the run.")
    ] = None
    train_csv: Annotated[CsvInRun, Field(description="Training metrics, inside the run folder.")] = (
        "metrics/train/metrics.csv"
    )
    eval_csv: Annotated[CsvInRun, Field(description="Evaluation metrics, inside the run folder.")] = (
        "metrics/eval/metrics.csv"
    )
    log_every: Annotated[
        Count, Field(description="Training metrics are written every so many optimizer steps.")
    ] = 10
    eval_every: Annotated[
        Count | None,
        Field(description="Validation runs every so many optimizer steps; null: at the end of each epoch."),
    ] = None
    report: Annotated[
        bool, Field(description="Make report.html at the end of the run; `textclf report` makes it anew.")
    ] = True
    report_documents: Annotated[
        int,
        Field(
            ge=0,
            le=1000,
            description="Documents that report.html shows with the passages that decided, at most.",
        ),
    ] = 12

    @model_validator(mode="after")
    def _check(self) -> LoggingSection:
        raise_problems(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        # Windows' rules: m.csv, ./m.csv and M.csv are one file there, and no loss elsewhere.
        if PureWindowsPath(self.train_csv) == PureWindowsPath(self.eval_csv):
            yield Problem(
                "logging.eval_csv",
                "both metrics files are the same",
                found=self.eval_csv,
                expected="two files",
            )


class TokenizerSection(Section):
    """Which tokenizer reads the text."""

    wrapper_path: Annotated[
        WrapperPath,
        Field(description="Its kind: wordpiece, byte_bpe, unigram, or FILE.py:CLASS (needs --trust-code)."),
    ] = "wordpiece"
    vocab_dir: Annotated[
        PathValue,
        Field(description="Folder with tokenizer.json, as `textclf train-tokenizer` writes it."),
    ]


class AttentionSection(Section):
    """Self-attention of the encoder."""

    kind: Annotated[
        Literal["standard", "disentangled"],
        Field(description="Kind of attention: standard is RoBERTa's, disentangled DeBERTa's."),
    ] = "standard"
    num_heads: Annotated[
        int, Field(ge=1, le=65_536, description="Attention heads per layer; must divide embedding_dim.")
    ] = 4
    max_relative_positions: Annotated[
        Annotated[int, Field(ge=1, le=1_048_576)] | None,
        Field(
            description="Distance (tokens) from which on disentangled attention tells no difference; "
            "null: max_sequence_length."
        ),
    ] = None

    @model_validator(mode="after")
    def _check(self) -> AttentionSection:
        raise_problems(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if self.kind == "standard" and self.max_relative_positions is not None:
            yield Problem(
                "architecture.attention.max_relative_positions",
                "standard attention knows no relative positions",
                found=str(self.max_relative_positions),
                expected="null, or architecture.attention.kind: disentangled",
            )


class DropoutsSection(Section):
    """Shares of values that are set to zero in training."""

    embedding: Annotated[Dropout, Field(description="On the embeddings (share of values).")] = 0.1
    attention: Annotated[Dropout, Field(description="On the attention weights (share of values).")] = 0.0
    hidden: Annotated[Dropout, Field(description="On each sub-layer's output (share of values).")] = 0.1


class ArchitectureSection(Section):
    """Shape of the encoder."""

    max_sequence_length: Annotated[
        int,
        Field(ge=3, le=1_048_576, description="Longest sequence, in tokens, [CLS] and [SEP] included."),
    ] = 256
    embedding_dim: Annotated[
        int, Field(ge=1, le=65_536, description="Size of a token's vector (dimensions).")
    ] = 256
    num_layers: Annotated[int, Field(ge=1, le=1_000, description="Transformer layers.")] = 4
    ffn_dim: Annotated[
        int, Field(ge=1, le=1_048_576, description="Inner size of the feed-forward part (dimensions).")
    ] = 1024
    layer_norm_eps: Annotated[
        float,
        Field(gt=0, le=0.1, description="Added to the variance in LayerNorm, against division by zero."),
    ] = 1e-5
    attention: AttentionSection = AttentionSection()
    dropouts: DropoutsSection = DropoutsSection()

    @model_validator(mode="after")
    def _check(self) -> ArchitectureSection:
        raise_problems(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if self.embedding_dim % self.attention.num_heads != 0:
            yield Problem(
                "architecture.attention.num_heads",
                "the heads do not divide the embedding",
                found=f"{self.attention.num_heads} heads, embedding_dim {self.embedding_dim}",
                expected="embedding_dim a multiple of num_heads",
            )


BEST_METRIC = "Validation metric that decides about best.ckpt and early stopping."

# Their defaults differ between the kinds of run, and a subclass that sets one must say the whole type again.
LearningRate = Annotated[
    float,
    Field(gt=0, le=1, description="Highest learning rate: reached after the warm-up, then a cosine to 0."),
]
BatchSize = Annotated[
    int,
    Field(
        ge=1, le=1_048_576, description="Samples of an optimizer step, before grad_accum_steps multiplies it."
    ),
]
WarmupRatio = Annotated[
    float, Field(ge=0, lt=1, description="Share of all steps in which the learning rate rises from 0.")
]
Epochs = Annotated[int, Field(ge=1, le=1_000_000, description="Passes over the training data.")]


class TrainingSection(Section):
    """How a model is trained; what has no default here has one per kind of run."""

    learning_rate: LearningRate
    batch_size: BatchSize
    grad_accum_steps: Annotated[
        int,
        Field(
            ge=1, le=1_048_576, description="batch_size × this is the number of samples of an optimizer step."
        ),
    ] = 1
    warmup_ratio: WarmupRatio
    weight_decay: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Weights shrink by learning rate × this in each step, as in AdamW; biases and norms "
            "do not.",
        ),
    ] = 0.01
    max_grad_norm: Annotated[
        float, Field(gt=0, le=1_000_000, description="Gradients are scaled down to this global L2 norm.")
    ] = 1.0
    use_amp: Annotated[
        bool, Field(description="Mixed precision where the device has it; false: float32 throughout.")
    ] = True
    amp_dtype: Annotated[
        Literal["auto", "bf16", "fp16"],
        Field(description="Number format of mixed precision; auto: bf16 where the device has it."),
    ] = "auto"
    epochs: Epochs
    device: Annotated[
        DeviceName, Field(description="auto (CUDA where there is one), cpu, cuda or cuda:N.")
    ] = "auto"
    save_every: Annotated[
        Count | None, Field(description="A checkpoint every so many optimizer steps; null: not by steps.")
    ] = 500
    save_minutes: Annotated[
        Annotated[float, Field(gt=0, le=1_000_000)] | None,
        Field(description="A checkpoint every so many minutes; null: not by time."),
    ] = 10.0
    tokens_per_micro_batch: Annotated[
        Literal["auto"] | Count,
        Field(
            description="Tokens computed at once: memory and speed, not the result; auto: 16384 on a CPU, "
            "65536 on a GPU, halved where the memory does not suffice."
        ),
    ] = "auto"
    early_stopping_patience: Annotated[
        Count | None,
        Field(description="Stop after so many evaluations without a better best_metric; null: never."),
    ] = None
    gradient_checkpointing: Annotated[
        bool,
        Field(description="Recompute activations in the backward pass: less memory, about a third slower."),
    ] = False
    compile: Annotated[
        bool,
        Field(
            description="Let torch.compile fuse what follows the attention in each layer: some seconds at "
            "the start, slower steps on a CPU, not measured on a GPU yet."
        ),
    ] = False
    num_threads: Annotated[
        Annotated[int, Field(ge=1, le=4096)] | None,
        Field(description="CPU threads; null: as many as torch chooses."),
    ] = None


class DataSplitSection(Section):
    """One split of the data."""

    dataset_path: Annotated[
        PathValue, Field(description="A store made by `textclf prepare`, or a .pt file of token ids.")
    ]


class DataSection(Section):
    """What is trained, validated and tested on."""

    train: DataSplitSection
    val: Annotated[
        DataSplitSection | None,
        Field(description="Validation data, e.g. {dataset_path: stores/val}; null: none, so no best.ckpt."),
    ] = None
    test: Annotated[
        DataSplitSection | None,
        Field(description="Test data, read once at the end, e.g. {dataset_path: stores/test}; null: none."),
    ] = None
