"""While the encoder is frozen, what it makes of the chunks is computed once and kept on the disk.

A frozen encoder runs in evaluation mode, so the vector of a chunk is the same in every epoch: later epochs
train the head alone. The cache only saves time: what cannot be kept is computed anew, to the same result.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from textclf_transformer.atomic import storage_errors
from textclf_transformer.data.batches import DocumentBatches
from textclf_transformer.data.collate import DocumentBatch, VectorBatch
from textclf_transformer.data.vector_batches import VectorBatches
from textclf_transformer.errors import StorageError, counted
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.training.checkpoint import compute_digests
from textclf_transformer.training.numerics import autocast, deterministic_algorithms
from textclf_transformer.training.shortage import in_halves
from textclf_transformer.training.vector_file import VectorFile

_COMMIT_SECONDS = 30.0


class FrozenEncoderCache:
    """The batches of a run whose encoder is frozen for its first epochs; stands in for those of "train".

    Args:
        folder: where the vectors go; made if it is needed, deleted by ``remove``.
        splits: the batches of tokens, "train" among them.
        epochs: how many epochs, from the first, the encoder is frozen.
        device: where the model lies.
        amp_dtype: dtype of autocast in the forward pass; None computes in float32.

    Attributes:
        steps_per_epoch: optimizer steps of one epoch.
        epochs: as given.
    """

    def __init__(
        self,
        folder: Path,
        splits: Mapping[str, DocumentBatches],
        *,
        epochs: int,
        device: torch.device,
        amp_dtype: torch.dtype | None,
    ) -> None:
        self._folder = folder
        self._splits = dict(splits)
        self.epochs = epochs
        self._device = device
        self._amp_dtype = amp_dtype
        self._ready: dict[str, VectorBatches] = {}
        self.steps_per_epoch = splits["train"].steps_per_epoch

    @property
    def tokens_per_micro_batch(self) -> int:
        """Most padded tokens of a micro-batch of train, whether its tokens or its vectors are read."""
        return self._splits["train"].tokens_per_micro_batch

    @tokens_per_micro_batch.setter
    def tokens_per_micro_batch(self, tokens: int) -> None:
        self._splits["train"].tokens_per_micro_batch = tokens

    def step(self, epoch: int, index: int) -> Sequence[DocumentBatch] | Sequence[VectorBatch]:
        """Return the micro-batches of one optimizer step: vectors where they are known and still hold."""
        if epoch < self.epochs and "train" in self._ready:
            return self._ready["train"].step(epoch, index)
        return self._splits["train"].step(epoch, index)

    def evaluation(self, split: str) -> DocumentBatches | VectorBatches:
        """Return what a split is evaluated on: vectors, until ``remove`` says that they hold no longer."""
        return self._ready.get(split, self._splits[split])

    def fill(
        self,
        model: HierarchicalRobertaForClassification,
        *,
        epoch: int,
        message: Callable[[str], None],
        warn: Callable[[str], None],
        should_stop: Callable[[], bool],
    ) -> None:
        """Encode all chunks, going on where a run before this one was cut off.

        Nothing happens where the encoder is not frozen any more. Where the disk refuses nothing is kept, so
        that what was written does not take the room of the checkpoints.

        Args:
            model: in the first phase of its freeze schedule.
            epoch: the epoch that the run is in, from 0.
            message: is told what goes on.
            warn: is told that the disk refuses.
            should_stop: whether to leave off; what is done so far stays.
        """
        if epoch >= self.epochs:
            self.remove()
            return
        key = self._key(model)
        try:
            with storage_errors(self._folder):
                self._folder.mkdir(exist_ok=True)
            self._fill(model, key, message=message, should_stop=should_stop)
        except StorageError as fault:
            self.remove()
            warn(f"the frozen encoder's vectors are not kept, so each epoch encodes anew: {fault}")

    def _fill(
        self,
        model: HierarchicalRobertaForClassification,
        key: str,
        *,
        message: Callable[[str], None],
        should_stop: Callable[[], bool],
    ) -> None:
        # the kernels that the steps have: cuBLAS reads the setting once, when it first starts
        with deterministic_algorithms(self._device):
            for split, batches in self._splits.items():
                path = self._folder / f"{split}.f32"
                with VectorFile(
                    path, width=model.encoder.hidden_size, key=f"{key} {batches.fingerprint}"
                ) as file:
                    if file.rows < batches.num_chunks:
                        message(f"encoding the {counted(batches.num_chunks, 'chunk')} of {split} once")
                        self._encode(model, batches, file, message=message, should_stop=should_stop)
                    if file.rows < batches.num_chunks:
                        return
                    self._ready[split] = VectorBatches(batches, file.read())

    def remove(self) -> None:
        """Delete the vectors; to be called when the head's epochs are over.

        A later phase may freeze the encoder again, after it was trained: that it is frozen says too little.
        """
        self._ready = {}
        remove_vectors(self._folder)

    def _encode(
        self,
        model: HierarchicalRobertaForClassification,
        batches: DocumentBatches,
        file: VectorFile,
        *,
        message: Callable[[str], None],
        should_stop: Callable[[], bool],
    ) -> None:
        """Append the vectors of all documents, in the order of ``evaluation()``, beyond those in ``file``."""
        last_commit, seen = time.monotonic(), 0
        for batch in batches.evaluation():
            first_new = file.rows - seen  # micro-batches may have been larger in the session before
            seen += len(batch.input_ids)
            if seen <= file.rows:
                continue
            if should_stop():
                break
            on_device = batch.to(self._device)
            vectors = self._vectors(model, on_device.input_ids, on_device.attention_mask)
            file.append(vectors[first_new:].numpy())
            if time.monotonic() - last_commit >= _COMMIT_SECONDS:
                file.commit()
                last_commit = time.monotonic()
                message(f"encoded {file.rows:,} of {counted(batches.num_chunks, 'chunk')}")
        file.commit()

    def _vectors(
        self, model: HierarchicalRobertaForClassification, input_ids: Tensor, attention_mask: Tensor
    ) -> Tensor:
        """Return (M, D) float32 on the host; in halves where the memory does not suffice for all at once."""

        def encode(ids: Tensor, mask: Tensor) -> Tensor:
            return model.encode_chunks(ids, mask).float().cpu()

        with torch.inference_mode(), autocast(self._device, self._amp_dtype):
            return torch.cat(in_halves(encode, input_ids, attention_mask))

    def _key(self, model: HierarchicalRobertaForClassification) -> str:
        """Return what vectors of given chunks hang on: weights, token pooling, precision, machine, torch."""
        facts = [
            *sorted(compute_digests(model.encoder.state_dict()).items()),
            model.token_pooling,
            self._amp_dtype,
            self._device.type,
            torch.__version__,
        ]
        return hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def remove_vectors(folder: Path) -> None:
    """Delete what a run, or one before it that was set otherwise, kept in ``folder``, which may be absent."""
    shutil.rmtree(folder, ignore_errors=True)


def cache_gib(num_chunks: int, *, hidden_size: int) -> float:
    """Return the size of the vectors of so many chunks in GiB."""
    return num_chunks * hidden_size * 4 / 1024**3
