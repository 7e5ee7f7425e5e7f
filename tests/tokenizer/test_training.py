from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from tokenizers import Tokenizer

from textclf_transformer.errors import UsageError
from textclf_transformer.tokenizer.training import train_byte_level_bpe, train_wordpiece


def generated_texts(count: int = 200) -> list[str]:
    """Texts of made-up words, so many of them that merges tie and their order matters."""
    random_ = random.Random(7)
    words = [
        "".join(random_.choices("abcdefghijklmnopqrstuvwxyz", k=random_.randint(2, 9))) for _ in range(400)
    ]
    return [" ".join(random_.choices(words, k=50)) + "." for _ in range(count)]


def wordpiece(texts: list[str], vocab_size: int = 500, lowercase: bool = True) -> Tokenizer:
    return train_wordpiece(texts, vocab_size=vocab_size, min_frequency=2, lowercase=lowercase)


def bpe(texts: list[str], vocab_size: int = 500) -> Tokenizer:
    return train_byte_level_bpe(texts, vocab_size=vocab_size, min_frequency=2)


@pytest.mark.parametrize("train", [wordpiece, bpe])
def test_same_text_gives_the_same_tokenizer(train) -> None:
    texts = generated_texts()
    assert {train(texts).to_str() for _ in range(4)} == {train(texts).to_str()}


def test_wordpiece_special_tokens_come_first() -> None:
    tokenizer = wordpiece(generated_texts())
    assert [tokenizer.id_to_token(i) for i in range(5)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    assert special == {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    assert tokenizer.get_vocab_size() == 500


def test_bpe_special_tokens_stand_as_in_roberta() -> None:
    tokenizer = bpe(generated_texts())
    assert [tokenizer.id_to_token(i) for i in range(4)] == ["<s>", "<pad>", "</s>", "<unk>"]
    assert tokenizer.id_to_token(tokenizer.get_vocab_size() - 1) == "<mask>"
    assert tokenizer.get_vocab_size() == 500


def test_trained_tokenizers_add_the_special_tokens_for_other_programs() -> None:
    tokens = wordpiece(generated_texts()).encode("ab").tokens
    assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]")
    tokens = bpe(generated_texts()).encode("ab").tokens
    assert (tokens[0], tokens[-1]) == ("<s>", "</s>")


def test_frequent_words_become_one_token_and_case_is_folded_only_if_wanted() -> None:
    texts = ["Gradient descent, Gradient ascent."] * 50
    assert wordpiece(texts).encode("GRADIENT", add_special_tokens=False).tokens == ["gradient"]
    cased = wordpiece(texts, lowercase=False)
    assert cased.encode("Gradient", add_special_tokens=False).tokens == ["Gradient"]
    assert cased.encode("gradient", add_special_tokens=False).tokens != ["Gradient"]


def test_rare_characters_do_not_fill_the_vocabulary() -> None:
    texts = ["the cat sat on the mat"] * 100 + ["".join(chr(0x4E00 + i) for i in range(3000))]
    tokenizer = wordpiece(texts, vocab_size=200)
    assert tokenizer.get_vocab_size() <= 200
    assert tokenizer.encode("cat", add_special_tokens=False).tokens == ["cat"]


def test_a_script_of_many_characters_is_known() -> None:
    """2,500 characters as frequent as Zipf has it; each is a word of its own and has no piece within one."""
    random_ = random.Random(3)
    characters = [chr(0x4E00 + place) for place in range(2500)]
    weights = [1 / rank for rank in range(1, 2501)]
    texts = ["".join(random_.choices(characters, weights, k=200)) for _ in range(400)]
    tokenizer = wordpiece(texts, vocab_size=8000)
    encoded = [tokenizer.encode(text, add_special_tokens=False).tokens for text in texts]
    unknown = sum(tokens.count("[UNK]") for tokens in encoded)
    assert 0 < unknown <= 0.0005 * 200 * 400
    assert not [token for token in tokenizer.get_vocab() if token.startswith("##")]
    # half of a small vocabulary is for other things
    assert 400 <= wordpiece(texts, vocab_size=1000).get_vocab_size() <= 505


@pytest.mark.parametrize(
    ("text", "word", "kept"),
    [
        ("im garten steht noch eine schöne alte bank aus holz, und daneben ein baum", "SCHÖNE", "schone"),
        ("Tôi muốn học tiếng Việt để nói chuyện với bạn bè ở Hà Nội", "Việt", "việt"),
        ("मैं हिन्दी में लिखना सीख रहा हूँ और यह बहुत अच्छा है", "हिन्दी", "हिन्दी"),
        ("나는 한국어를 공부하고 있습니다", "한국어를", "한국어를"),
    ],
)
def test_accents_go_with_the_case_where_few_characters_have_one(text: str, word: str, kept: str) -> None:
    tokenizer = wordpiece([text] * 50)
    assert tokenizer.encode(word, add_special_tokens=False).tokens == [kept]


def test_bpe_writes_what_it_never_saw() -> None:
    tokenizer = bpe(generated_texts())
    text = "naïve 中文 🙂\x00"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


@pytest.mark.parametrize("train", [wordpiece, bpe])
def test_tiny_vocabulary_is_refused(train) -> None:
    with pytest.raises(UsageError, match="vocabulary is too small"):
        train(generated_texts(1), vocab_size=50)


@pytest.mark.parametrize(("train", "smallest"), [(wordpiece, 100), (bpe, 262)])
def test_the_smallest_vocabulary(train, smallest: int) -> None:
    assert train(generated_texts(), vocab_size=smallest).get_vocab_size() == smallest
    with pytest.raises(UsageError, match="vocabulary is too small"):
        train(generated_texts(1), vocab_size=smallest - 1)


def test_wordpiece_refuses_texts_that_pass_only_once() -> None:
    def once() -> Iterator[str]:
        yield from generated_texts(3)

    with pytest.raises(UsageError, match="second pass"):
        train_wordpiece(once(), vocab_size=500, min_frequency=2, lowercase=True)
