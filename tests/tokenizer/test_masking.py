from __future__ import annotations

import pytest
import torch

from textclf_transformer.tokenizer.masking import IGNORE_INDEX
from textclf_transformer.tokenizer.training import train_wordpiece
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper

SHARES = {"mask_p": 0.15, "mask_token_p": 0.8, "random_token_p": 0.1}


@pytest.fixture(scope="module")
def tokenizer() -> WordPieceTokenizerWrapper:
    texts = ["a quick brown fox jumps over the lazy dog and runs away from here"] * 5
    return WordPieceTokenizerWrapper.from_tokenizer(
        train_wordpiece(texts, vocab_size=200, min_frequency=1, lowercase=True)
    )


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(tokenizer: WordPieceTokenizerWrapper, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [CLS] words [SEP] PAD …: a tenth of each row is padding, in half of the rows over ids of words."""
    ids = torch.randint(5, tokenizer.vocab_size, (rows, columns), generator=seeded(1))
    ids[:, 0] = tokenizer.cls_token_id
    real = columns - columns // 10
    ids[:, real - 1] = tokenizer.sep_token_id
    padding = torch.zeros(rows, columns, dtype=torch.bool)
    padding[:, real:] = True
    ids[: rows // 2, real:] = tokenizer.pad_token_id
    return ids, padding


def test_shares_hold_within_one_percent(tokenizer: WordPieceTokenizerWrapper) -> None:
    ids, padding = batch(tokenizer, 400, 2000)
    changed, labels = tokenizer.mask_input_for_mlm(ids, padding, **SHARES, generator=seeded(2))
    chosen = labels != IGNORE_INDEX
    words = ~padding & (ids >= 5)
    masked = changed[chosen] == tokenizer.mask_token_id
    same = changed[chosen] == ids[chosen]
    assert chosen.sum() / words.sum() == pytest.approx(0.15, rel=0.01)
    assert masked.float().mean() == pytest.approx(0.8, rel=0.01)
    # A random word is the word itself once in as many times as there are words.
    regular = tokenizer.vocab_size - 5
    assert (~masked & ~same).float().mean() == pytest.approx(0.1 * (1 - 1 / regular), rel=0.03)
    assert same.float().mean() == pytest.approx(0.1 + 0.1 / regular, rel=0.03)


def test_only_words_are_chosen_and_labels_are_the_words(tokenizer: WordPieceTokenizerWrapper) -> None:
    ids, padding = batch(tokenizer, 50, 200)
    before = ids.clone()
    changed, labels = tokenizer.mask_input_for_mlm(
        ids, padding, mask_p=1.0, mask_token_p=0.5, random_token_p=0.5, generator=seeded(3)
    )
    chosen = labels != IGNORE_INDEX
    assert torch.equal(chosen, ~padding & (ids >= 5))  # all of them, and nothing else
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(changed[~chosen], ids[~chosen])
    assert torch.equal(ids, before)


def test_random_words_cover_the_whole_vocabulary_evenly(tokenizer: WordPieceTokenizerWrapper) -> None:
    ids = torch.full((400, 1000), 7)
    padding = torch.zeros_like(ids, dtype=torch.bool)
    changed, _ = tokenizer.mask_input_for_mlm(
        ids, padding, mask_p=1.0, mask_token_p=0.0, random_token_p=1.0, generator=seeded(4)
    )
    counts = torch.bincount(changed.flatten(), minlength=tokenizer.vocab_size)
    assert (counts[:5] == 0).all()
    expected = ids.numel() / (tokenizer.vocab_size - 5)
    assert counts[5:].min() > 0.8 * expected
    assert counts[5:].max() < 1.2 * expected


def test_the_generator_alone_decides(tokenizer: WordPieceTokenizerWrapper) -> None:
    ids, padding = batch(tokenizer, 4, 100)
    torch.manual_seed(0)
    first = tokenizer.mask_input_for_mlm(ids, padding, **SHARES, generator=seeded(5))
    torch.manual_seed(1)
    second = tokenizer.mask_input_for_mlm(ids, padding, **SHARES, generator=seeded(5))
    other = tokenizer.mask_input_for_mlm(ids, padding, **SHARES, generator=seeded(6))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], other[1])


def test_a_row_alone_is_masked_like_a_batch_of_one(tokenizer: WordPieceTokenizerWrapper) -> None:
    ids, padding = batch(tokenizer, 1, 300)
    row = tokenizer.mask_input_for_mlm(ids[0], padding[0], **SHARES, generator=seeded(8))
    whole = tokenizer.mask_input_for_mlm(ids, padding, **SHARES, generator=seeded(8))
    assert row[0].shape == (300,)
    assert torch.equal(row[0], whole[0][0])
    assert torch.equal(row[1], whole[1][0])


def test_share_zero_changes_nothing(tokenizer: WordPieceTokenizerWrapper) -> None:
    ids, padding = batch(tokenizer, 4, 100)
    changed, labels = tokenizer.mask_input_for_mlm(
        ids, padding, mask_p=0.0, mask_token_p=0.8, random_token_p=0.1, generator=seeded(9)
    )
    assert torch.equal(changed, ids)
    assert (labels == IGNORE_INDEX).all()


def test_a_mask_of_numbers_is_refused_with_the_way_out(tokenizer: WordPieceTokenizerWrapper) -> None:
    ids, padding = batch(tokenizer, 2, 20)
    with pytest.raises(TypeError, match="attention_mask == 0"):
        tokenizer.mask_input_for_mlm(ids, (~padding).long(), **SHARES, generator=seeded(0))


def test_other_shapes_and_shares_are_refused(tokenizer: WordPieceTokenizerWrapper) -> None:
    ids, padding = batch(tokenizer, 2, 20)
    with pytest.raises(ValueError, match="shape"):
        tokenizer.mask_input_for_mlm(ids, padding[0], **SHARES, generator=seeded(0))
    with pytest.raises(ValueError, match="no probabilities"):
        tokenizer.mask_input_for_mlm(
            ids, padding, mask_p=0.15, mask_token_p=0.8, random_token_p=0.3, generator=seeded(0)
        )


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_the_same_mask_comes_out(tokenizer: WordPieceTokenizerWrapper) -> None:
    ids, padding = batch(tokenizer, 4, 100)
    here = tokenizer.mask_input_for_mlm(ids, padding, **SHARES, generator=seeded(5))
    there = tokenizer.mask_input_for_mlm(ids.cuda(), padding.cuda(), **SHARES, generator=seeded(5))
    assert there[0].is_cuda
    assert torch.equal(there[0].cpu(), here[0])
    assert torch.equal(there[1].cpu(), here[1])
