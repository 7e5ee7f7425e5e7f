"""What a checkpoint holds under which name, and of which type.

Digests tell that a file is as it was written, not by whom: it may come from a stranger or from another
program. What is checked here once, where it is read, nobody has to doubt later; a list in place of a tensor
would end in a fault of ours, far from the file. Whether the values fit the run, the model and this version is
decided where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
)
from torch import Tensor

from textclf_transformer.config.rules import first_problem
from textclf_transformer.config.section import Count, wrong_value
from textclf_transformer.errors import CheckpointError
from textclf_transformer.training.state import LoopState

NotNegative = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


def _distinct(names: list[str]) -> list[str]:
    if len(names) < 2 or len(set(names)) != len(names):
        raise wrong_value("two or more different names")
    return names


Labels = Annotated[list[str], AfterValidator(_distinct)]


def _without_tensors(value: Any) -> Any:
    """Refuse tensors among settings: compared with a number, one is neither equal nor different."""
    if isinstance(value, Tensor):
        raise wrong_value("settings without tensors")
    if isinstance(value, dict | list | tuple):
        for entry in value.values() if isinstance(value, dict) else value:
            _without_tensors(entry)
    return value


class _Part(BaseModel):
    """A dict in a checkpoint: no conversion of types; more keys are let through.

    A key that has a default here may be absent: who needs it says so (``require_keys``).
    """

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)


class _Tokenizer(_Part):
    wrapper_path: str
    vocab_size: NotNegative
    fingerprint: str


class _Fingerprints(_Part):
    tokenizer: str = ""
    data: dict[str, str] = {}
    pretrained: str = ""


class _Experiment(_Part):
    seed: NotNegative


class _Architecture(_Part):
    dropouts: dict[str, float | None] = {}


class _Training(_Part):
    best_metric: str = "loss"


class _Source(_Part):
    path: str | None = None
    from_hf: str | None = None
    load_weights: bool = True


class _Split(_Part):
    dataset_path: str


class _Config(_Part):
    """What is read of a config besides the sections of the model, which their own classes check."""

    experiment: _Experiment = _Experiment(seed=0)
    architecture: _Architecture = _Architecture()
    training: _Training = _Training()
    pretrained_experiment: _Source = _Source()
    data: dict[str, _Split | None] = {}


class _Environment(_Part):
    device: str = ""
    amp_dtype: str = ""
    micro_batch_tokens: Count = 1


class _Plan(_Part):
    """What stands in ``loop`` beside the fields of ``LoopState``."""

    total_steps: Positive = 1
    steps_per_epoch: Positive = 1
    tokens_per_micro_batch: Count | None = None

    @field_validator("*")
    @classmethod
    def _count(cls, value: Any) -> Any:
        if isinstance(value, int) and value < 0:
            raise wrong_value("0 or more")
        return value


_TYPES = get_type_hints(LoopState)
_FIELDS: dict[str, Any] = {field.name: (_TYPES[field.name], field.default) for field in fields(LoopState)}
_Loop = create_model("_Loop", __base__=_Plan, **_FIELDS)


class _Scaler(_Part):
    """What ``torch.amp.GradScaler`` remembers."""

    scale: float
    growth_factor: float
    backoff_factor: float
    growth_interval: int
    growth_tracker: Annotated[int, Field(alias="_growth_tracker")]


class _Lengths(_Part):
    train: NotNegative
    eval: NotNegative


class _Checkpoint(_Part):
    """What both kinds of files have."""

    model: dict[str, Tensor] = {}
    config: Annotated[_Config, BeforeValidator(_without_tensors)] = _Config()
    environment: Annotated[_Environment, BeforeValidator(_without_tensors)] = _Environment()
    architecture: Annotated[dict[str, Any], AfterValidator(_without_tensors)] = {}
    tokenizer: _Tokenizer = _Tokenizer(wrapper_path="", vocab_size=0, fingerprint="")
    fingerprints: _Fingerprints = _Fingerprints()
    labels: Labels = ["", " "]
    multi_label: bool = False


class _Best(_Checkpoint):
    """best.ckpt."""

    step: NotNegative = 0
    metrics: dict[str, float] = {}


class _State(_Checkpoint):
    """model.ckpt."""

    optimizer: dict[str, dict[str, Tensor]] = {}
    scaler: _Scaler | None = None
    loop: _Loop  # type: ignore[valid-type]
    metrics: _Lengths = _Lengths(train=0, eval=0)
    wandb_run_id: str | None = None


def check_outline(state: Mapping[str, Any], *, where: str | Path) -> None:
    """Check the types of what a checkpoint holds; ``where`` is its file.

    Raises:
        CheckpointError: an entry is of another type, or a number that it cannot be; names the first one.
    """
    try:
        (_State if "loop" in state else _Best).model_validate(state)
    except ValidationError as error:
        problem = first_problem(error)
        raise CheckpointError(
            "this checkpoint holds something else than a checkpoint of this project",
            where=f"{where}: {problem.key}",
            found=problem.found,
            expected=problem.expected,
            mend="put a copy in its place that this project wrote",
        ) from None
