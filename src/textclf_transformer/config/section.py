"""The base of all sections of the config and the types of their values."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from textclf_transformer.errors import UsageError
from textclf_transformer.experiment import RUN_NAMES, validate_run_name

KINDS_OF_TOKENIZER = ("wordpiece", "byte_bpe", "unigram")


class Section(BaseModel):
    """A section of the config: frozen, no unknown keys, no conversion of types, no NaN, no infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True
    )


def wrong_value(expected: str) -> PydanticCustomError:
    """Return the error for a value of the right type that is not allowed, ``expected`` in words."""
    return PydanticCustomError("wrong_value", "{expected}", {"expected": expected})


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise wrong_value("text that is not empty and has no control characters")
    return text


def _to_path(value: Any) -> Any:
    return Path(_printable(value)) if isinstance(value, str) else value


def _to_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _run_name(name: str) -> str:
    try:
        return validate_run_name(name)
    except UsageError:
        raise wrong_value(
            "1 to 100 letters, digits or ._-, a letter or digit first, no dot last, no Windows device"
        ) from None


def _inside(text: str) -> str:
    """Let through a relative path without ``..``, judged as Linux and as Windows would read it."""
    ways = (PurePosixPath(text), PureWindowsPath(text))
    if any(way.anchor or ".." in way.parts or way.name == "" for way in ways) or not text.endswith(".csv"):
        raise wrong_value("a relative path inside the run folder that ends in .csv")
    if ways[1].parts[0].lower() in RUN_NAMES:
        raise wrong_value("a path that does not begin with the name of another file or folder of a run")
    return text


def _wrapper(text: str) -> str:
    if text not in KINDS_OF_TOKENIZER and re.fullmatch(r".+:[A-Za-z_]\w*", text) is None:
        raise wrong_value(f"{', '.join(KINDS_OF_TOKENIZER)}, FILE.py:CLASS or MODULE:CLASS")
    return text


def _device(text: str) -> str:
    if re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text) is None:
        raise wrong_value("auto, cpu, cuda or cuda:N")
    return text


Text = Annotated[str, AfterValidator(_printable), Field(max_length=1000)]
LabelName = Annotated[Text, BeforeValidator(_to_text, json_schema_input_type=str | int)]
RunName = Annotated[str, AfterValidator(_run_name)]
PathValue = Annotated[Path, BeforeValidator(_to_path, json_schema_input_type=str)]
CsvInRun = Annotated[str, AfterValidator(_printable), AfterValidator(_inside)]
WrapperPath = Annotated[str, AfterValidator(_printable), AfterValidator(_wrapper)]
DeviceName = Annotated[str, AfterValidator(_device)]

Probability = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
