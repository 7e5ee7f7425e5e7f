"""Dynamic masking for masked-language-model training: the only masking code of the project.

The scheme is BERT's (Devlin et al. 2019, section 3.1): a share ``mask_p`` of the tokens become targets; of
these, a share ``mask_token_p`` is replaced with the mask token, ``random_token_p`` with a random word, and
the rest stays. Each token is drawn on its own, so the share of targets varies from row to row around
``mask_p``.
"""

from __future__ import annotations

import torch
from torch import Tensor

IGNORE_INDEX = -100
"""Marks positions without a target; the default ``ignore_index`` of torch's cross entropy."""


def check_padding_mask(attention_mask: Tensor) -> None:
    """Raise TypeError unless ``attention_mask`` is torch.bool (True = PAD)."""
    if attention_mask.dtype != torch.bool:
        raise TypeError(
            f"attention_mask must be torch.bool with True = PAD, found {attention_mask.dtype}; "
            "turn a 1-means-keep mask round with `attention_mask == 0`"
        )


def mask_tokens(
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    is_special: Tensor,
    regular_ids: Tensor,
    mask_token_id: int,
    mask_p: float,
    mask_token_p: float,
    random_token_p: float,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Choose the targets of one row or batch and return (changed ids, labels); the input is left untouched.

    The numbers are drawn on the CPU whatever device the ids are on, so that a generator gives the same mask
    everywhere.

    Args:
        input_ids: int64 token ids, (S,) or (B, S).
        attention_mask: bool of the same shape, True = PAD.
        is_special: bool (V,), True for ids that are never chosen.
        regular_ids: int64, the ids that random words are drawn from, evenly.
        mask_token_id: id of the mask token.
        mask_p: share of the tokens that become targets.
        mask_token_p: share of the targets replaced with the mask token.
        random_token_p: share of the targets replaced with a random word.
        generator: CPU generator that decides everything; None draws from torch's global stream.

    Returns:
        ids (int64) and labels (int64, ``IGNORE_INDEX`` where there is no target), both of the shape and on
        the device of ``input_ids``.

    Raises:
        TypeError: the mask is not torch.bool.
        ValueError: shapes differ or the shares are no probabilities.
    """
    check_padding_mask(attention_mask)
    if attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"attention_mask must have the shape of input_ids, found {tuple(attention_mask.shape)} "
            f"and {tuple(input_ids.shape)}"
        )
    if not (
        0 <= mask_p <= 1 and min(mask_token_p, random_token_p) >= 0 and mask_token_p + random_token_p <= 1
    ):
        raise ValueError(
            f"no probabilities: mask_p={mask_p}, mask_token_p={mask_token_p}, random_token_p={random_token_p}"
        )
    device = input_ids.device
    # One uniform number per position decides both questions: below mask_p the token is a target, and where it
    # lies below that says what becomes of it. This runs once per sample in the data path, so few operations
    # matter. Device and dtype are named because a caller may have set other defaults, which draw otherwise.
    draw = torch.rand(input_ids.shape, generator=generator, dtype=torch.float32, device="cpu").to(device)
    open_to_choice = ~(is_special.to(device)[input_ids] | attention_mask)
    labels = input_ids.masked_fill(~(open_to_choice & (draw < mask_p)), IGNORE_INDEX)
    to_mask = open_to_choice & (draw < mask_p * mask_token_p)
    to_random = open_to_choice & (draw < mask_p * (mask_token_p + random_token_p)) & ~to_mask
    ids = input_ids.masked_fill(to_mask, mask_token_id)
    count = int(to_random.sum())
    picked = torch.randint(len(regular_ids), (count,), generator=generator, device="cpu")
    ids[to_random] = regular_ids[picked].to(device)
    return ids, labels
