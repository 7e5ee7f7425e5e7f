"""The section that says what a finetuning run starts from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from textclf_transformer.config.rules import Problem, raise_problems
from textclf_transformer.config.section import Section, Text


class PretrainedExperimentSection(Section):
    """Where the encoder and the tokenizer come from."""

    path: Annotated[
        Text | None,
        Field(
            description="Name of a pretraining run, or the path of its folder (with a / in it); "
            "null: from_hf says where from."
        ),
    ]
    from_hf: Annotated[
        Text | None,
        Field(
            description="Published weights in place of a run: a folder in Hugging Face's layout "
            "(config.json, model.safetensors, tokenizer.json), or owner/name of a model on its hub; "
            "null: none."
        ),
    ] = None
    checkpoint: Annotated[
        Text,
        Field(
            description="Of a run: best, last or a file; best falls back to last in a run without validation."
        ),
    ] = "best"
    load_weights: Annotated[
        bool,
        Field(description="false: start from random weights; the run then need not be trained."),
    ] = True

    @model_validator(mode="after")
    def _check(self) -> PretrainedExperimentSection:
        raise_problems(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if (self.path is None) == (self.from_hf is None):
            yield Problem(
                "pretrained_experiment." + ("path" if self.path is None else "from_hf"),
                "the encoder comes from a pretraining run or from published weights",
                found="neither" if self.path is None else "both",
                expected="either path or from_hf, the other null",
            )
        elif self.from_hf is not None and self.checkpoint != "best":
            yield Problem(
                "pretrained_experiment.checkpoint",
                "published weights have no checkpoints to choose from",
                found=self.checkpoint,
                expected="best, the default",
            )
