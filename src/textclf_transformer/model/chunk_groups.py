"""The exact gradient of long documents in the memory of a few chunks.

Chunks are encoded independently of each other and leave one vector each, so the backward pass needs the
inside of a chunk only while it passes through that chunk. Chunks are therefore encoded in groups; of most
groups only ids, mask, vectors and the state of the random streams are kept, and the group is computed again,
with the same dropout, when its turn comes (Chen et al. 2016, "Training Deep Nets with Sublinear Memory
Cost"; Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup").

M chunks, S positions in a chunk, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from textclf_transformer.allocator import release_free_memory


def encode_in_groups(
    encode: Callable[[Tensor, Tensor], Tensor],
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    chunks_per_group: int,
    kept_groups: int,
    device: torch.device,
) -> Tensor:
    """Encode chunks group by group and keep the graph of the last few groups only.

    The backward pass goes from the last group to the first, and what kept groups hold is gone before another
    group is computed again. So the memory at the peak is that of the kept groups, or that of one group and
    the gradients of the weights; a batch of no more chunks than are kept loses no time.

    Args:
        encode: maps (m, S) ids and mask to (m, D) vectors; a chunk's vector depends on that chunk alone.
        input_ids: (M, S) int64.
        attention_mask: (M, S) bool, True = PAD.
        chunks_per_group: m. It decides, not the memory at hand, in which order dropout draws and gradients
            are added up.
        kept_groups: how many groups keep their graph; the others are computed twice, to the same bits.
        device: where ``encode`` computes and draws; ids and mask may lie on the CPU all the same.

    Returns:
        (M, D).
    """
    groups = list(zip(input_ids.split(chunks_per_group), attention_mask.split(chunks_per_group), strict=True))
    # ``checkpoint`` keeps the random streams of the devices where its tensors lie. With ids and mask on the
    # CPU and nothing else, a group on a GPU would be computed again with other dropout.
    on_device = torch.empty(0, device=device)
    vectors = []
    for number, group in enumerate(groups):
        if number >= len(groups) - kept_groups:
            vectors.append(encode(*group))
        else:
            again = partial(_encode_after_release, encode)
            vectors.append(checkpoint(again, *group, on_device, use_reentrant=False))
        # Where torch multiplies (on a GPU, say), autocast would let all groups share its bf16 copies of the
        # weights, and their gradients would be added up in bf16: over 32 groups that doubles the rounding
        # error. Each group's own go to float32.
        torch.clear_autocast_cache()
    return torch.cat(vectors)


def _encode_after_release(
    encode: Callable[[Tensor, Tensor], Tensor], input_ids: Tensor, attention_mask: Tensor, on_device: Tensor
) -> Tensor:
    """Encode one of many groups, each of which leaves holes in the heap where the next one's do not fit.

    Without the release half as much again is held after 32 groups; the time is the same (LOG.md).
    ``on_device`` is there for ``checkpoint`` alone.
    """
    release_free_memory()
    return encode(input_ids, attention_mask)
