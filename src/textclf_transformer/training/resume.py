"""What changed between a checkpoint and now, and whether the run may go on with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from textclf_transformer.errors import CheckpointError, UsageError
from textclf_transformer.model.loading import load_strict

Verdict = Literal["harmless", "numerics", "needs flag", "refused"]

# The longest prefix that fits decides. Everything that is not named needs the flag: better asked once too
# often.
_VERDICTS: dict[str, Verdict] = {
    "config": "needs flag",
    "config.experiment.name": "harmless",
    "config.experiment.output_dir": "harmless",
    "config.logging": "harmless",
    "config.logging.eval_every": "needs flag",  # decides which weights can be the best
    "config.training.save_every": "harmless",
    "config.training.save_minutes": "harmless",
    "config.training.optimizer": "refused",
    "config.training.device": "numerics",
    "config.training.num_threads": "numerics",
    "config.training.compile": "numerics",
    "config.training.gradient_checkpointing": "numerics",
    "config.training.chunks_per_group": "numerics",
    "config.training.kept_chunk_groups": "harmless",  # a group that is computed again gives the same numbers
    "config.training.frozen_cache_gib": "numerics",
    "config.architecture": "refused",
    "config.architecture.dropouts": "needs flag",
    "config.mlm_head.tie_mlm_weights": "refused",
    "config.mlm_head.enhanced_mask_decoder": "refused",
    "config.classification_head.num_labels": "refused",
    "config.classification_head.pooling": "refused",
    "config.classification_head.token_pooling": "refused",
    "config.classification_head.kind": "refused",
    "config.classification_head.attention_hidden_size": "refused",
    "config.classification_head.attention_heads": "refused",
    "config.classification_head.chunk_position_embeddings": "refused",
    "config.classification_head.ordinal_labels": "refused",
    "config.pretrained_experiment.path": "harmless",  # the same as of from_hf
    "config.pretrained_experiment.from_hf": "harmless",  # a folder may move; its fingerprint may not change
    "config.tokenizer": "refused",
    "config.tokenizer.vocab_dir": "harmless",  # a folder may move; its fingerprint may not change
    "config.data": "harmless",  # the same
    "labels": "refused",
    "encoder": "refused",
    "fingerprints": "refused",
    "fingerprints.data.test": "needs flag",  # no number of the training depends on it
    "fingerprints.pretrained": "needs flag",  # the weights go on from the checkpoint, which has all of them
    "environment": "numerics",
}

# What a value of the deciding metric means: values from before and after such a change cannot be compared.
_MEASURES = (
    "training.best_metric",
    "chunking",
    "mlm_head.mask_p",
    "mlm_head.mask_token_p",
    "mlm_head.random_token_p",
)

# What a fingerprint is of, and the keys of the config that say where that lies.
_STARTS = ("pretrained_experiment.path", "pretrained_experiment.from_hf")
_LIES_IN = {
    **{
        f"fingerprints.data.{split}": ("documents", (f"data.{split}.dataset_path",))
        for split in ("train", "val", "test")
    },
    "fingerprints.tokenizer": ("tokenizer's files", ("tokenizer.vocab_dir", *_STARTS)),
    "fingerprints.pretrained": ("weights", _STARTS),
}

_LOADS_WEIGHTS = "config.pretrained_experiment.load_weights"

_ABSENT = "nothing"
_SHORT = 60
_SHORT_FINGERPRINT = 19


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was.

    Attributes:
        key: what ``--allow-changed`` calls it: the config's dotted key, else the path in the checkpoint.
        then: the value in the checkpoint.
        now: the present value.
        verdict: ``harmless`` and ``numerics`` (results are equal to rounding only) pass.
        words: what a fingerprint is of and where that lies; else empty.
    """

    key: str
    then: Any
    now: Any
    verdict: Verdict
    words: str = ""

    def __str__(self) -> str:
        said = f" ({self.words})" if self.words else ""
        limit = _SHORT_FINGERPRINT if self.words else _SHORT
        return f"{self.key}: {_short(self.then, limit)} -> {_short(self.now, limit)}{said}"

    @property
    def notice(self) -> str:
        """The line that a resume shows of it, with what it means for the run."""
        note = ""
        if self.key == "fingerprints.pretrained":
            note = " (this run goes on with its own)"
        elif self.key == "environment.numpy":  # which promises its order of no version but one
            note = " (if it gives another order, some documents of this epoch are read twice and some not)"
        elif self.verdict == "numerics":
            note = " (the order of the data is the same; results are equal to rounding, not to the bit)"
        return f"changed since the checkpoint: {self}{note}"


def find_differences(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[Difference]:
    """Compare what a checkpoint carries with what the run would use now, in the order of ``saved``.

    Args:
        saved: a checkpoint. Only ``config``, ``labels``, ``fingerprints`` (of data.train, data.val,
            data.test, tokenizer …), ``environment`` (code version, torch version, device, threads …) and, of
            a run with labels, ``architecture`` are compared, plain Python.
        current: the same for this start.
    """
    then, now = _flat_parts(saved), _flat_parts(current)
    loads_weights = all(flat.get(_LOADS_WEIGHTS, True) for flat in (then, now))
    return [
        Difference(
            key.removeprefix("config."),
            then.get(key, _ABSENT),
            now.get(key, _ABSENT),
            _verdict(key),
            _in_words(key, then, now),
        )
        for key in {**then, **now}
        if _differs(then.get(key, _ABSENT), now.get(key, _ABSENT))
        # a run that starts from random weights loads none, whatever was noted of them
        and (loads_weights or key != "fingerprints.pretrained")
        # what an older version did not note of the machine, nobody knows to have changed
        and (key in then or not key.startswith("environment."))
    ]


def check_resume(
    saved: Mapping[str, Any], current: Mapping[str, Any], *, allow_changed: Sequence[str]
) -> list[Difference]:
    """Decide whether a run goes on, and return the differences, all of which pass.

    Args:
        saved: see ``find_differences``.
        current: see ``find_differences``.
        allow_changed: the keys of ``--allow-changed``; naming one that did not change is fine.

    Raises:
        CheckpointError: something changed that may not, or not without the flag; shows all such differences.
        UsageError: ``allow_changed`` names something that does not exist.
    """
    known = [key.removeprefix("config.") for key in {**_flat_parts(saved), **_flat_parts(current)}]
    for key in allow_changed:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            raise UsageError(
                "--allow-changed names no key of this run",
                found=repr(key),
                mend=f"did you mean {close[0]}?" if close else "see config.yaml for the keys",
            )
    differences = find_differences(saved, current)
    refused = [d for d in differences if d.verdict == "refused"]
    unflagged = [d for d in differences if d.verdict == "needs flag" and d.key not in allow_changed]
    if refused:
        raise CheckpointError(
            "this run cannot be resumed, since it would not be the same run: "
            + _joined([*refused, *unflagged]),
            mend=f"{_way_back([*refused, *unflagged])}, or start a new run under another name",
        )
    if unflagged:
        flags = " ".join(f"--allow-changed {difference.key}" for difference in unflagged)
        raise CheckpointError(
            "the run was changed since its checkpoint: " + _joined(unflagged),
            mend=f"{_way_back(unflagged)}, or add {flags}",
        )
    return differences


def changed_measures(differences: Iterable[Difference]) -> list[str]:
    """Return the keys that changed and with them what an evaluation measures."""
    keys = (difference.key for difference in differences)
    return [key for key in keys if any(key == m or key.startswith(f"{m}.") for m in _MEASURES)]


def phases_changed(differences: Iterable[Difference]) -> bool:
    """Whether other parts of the model are trained in some epoch."""
    return any(difference.key == "training.freeze" for difference in differences)


def load_model_state(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Copy a checkpoint's weights into ``model``, strictly; the loop's door to ``model.loading``.

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape. The model is as it was.
    """
    load_strict(model, state, source=source)


def carried(state: dict[str, dict[str, Tensor]], optimizer: Optimizer) -> dict[str, dict[str, Tensor]]:
    """Return what of the ``state`` that ``optimizer_state`` gave belongs to the parameters of ``optimizer``.

    They are other ones where the schedule was changed between two sessions of a run. As between two phases,
    those that were not trained before begin anew.
    """
    names = [name for group in optimizer.param_groups for name in group["param_names"]]
    return {name: state.get(name, {}) for name in names} if state else {}


def _verdict(key: str) -> Verdict:
    parts = key.split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next(_VERDICTS[prefix] for prefix in prefixes if prefix in _VERDICTS)


def _in_words(key: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say what the fingerprint ``key`` is of and where that lies now, and lay; nothing of any other key."""
    if key not in _LIES_IN:
        return ""
    what, keys = _LIES_IN[key]
    before, place = (
        next(filter(None, (flat.get(f"config.{k}") for k in keys)), None) for flat in (then, now)
    )
    if place is None:
        return f"there are no {what} now" + (f", then those in {before}" if before else "")
    lay = f", which lay in {before}" if before not in {None, place} else ""
    return f"the {what} in {place} are not those of the checkpoint{lay}"


def _way_back(differences: Sequence[Difference]) -> str:
    return " and ".join(sorted({_way(difference) for difference in differences}))


def _way(difference: Difference) -> str:
    if difference.words:
        return "put the same files back there (a store: the same text, prepared with the same tokenizer)"
    if difference.key.startswith("encoder."):
        return "change it back in what pretrained_experiment names, which gives the encoder its shape"
    return "change it back"


def _flat_parts(state: Mapping[str, Any]) -> dict[str, Any]:
    named = ("config", "labels", "fingerprints", "environment")
    parts = {part: state[part] for part in named if state.get(part) is not None}
    if "labels" in state and "architecture" in state:
        # of a finetuning run, whose config says no more of it than the dropouts
        parts["encoder"] = {key: value for key, value in state["architecture"].items() if key != "dropouts"}
    return _flat(parts)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            flat |= _flat(entry, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(entry) if isinstance(entry, tuple) else entry
    return flat


def _differs(then: Any, now: Any) -> bool:
    # without a section its keys are absent and it is null itself: data.test, data.test.dataset_path
    if then is None and now == _ABSENT:
        return False
    if now is None and then == _ABSENT:
        return False
    # 1 and 1.0 are the same number, 1 and True are not the same setting
    return bool(then != now) or isinstance(then, bool) != isinstance(now, bool)


def _joined(differences: Sequence[Difference]) -> str:
    return ", ".join(str(difference) for difference in differences)


def _short(value: Any, limit: int) -> str:
    text = str(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
