"""The parts of a normalizer or pre-tokenizer, which the library itself does not list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer


def steps_of(part: Normalizer | PreTokenizer | None) -> Iterator[dict[str, Any]]:
    """Yield the steps of a part of a tokenizer in their order, as ``tokenizer.json`` has them; none for None.

    Sequences in sequences are opened, so each step has a ``type`` of its own.
    """
    # what pickling would keep of it; the whole tokenizer as text has the vocabulary in it
    waiting = [] if part is None else [json.loads(part.__getstate__())]
    while waiting:
        step = waiting.pop(0)
        if step["type"] == "Sequence":
            waiting[:0] = step.get("normalizers") or step.get("pretokenizers") or ()
        else:
            yield step
