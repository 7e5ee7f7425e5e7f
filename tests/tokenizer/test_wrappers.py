from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

from textclf_transformer.errors import DataError
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.byte_bpe_tokenizer_wrapper import ByteLevelBPETokenizerWrapper
from textclf_transformer.tokenizer.training import train_byte_level_bpe, train_wordpiece
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper

TEXTS = ["The mask </s> hides [MASK] the words; <mask> the pad [PAD] fills <pad> rows."] * 20

ROLES = ("pad", "unk", "cls", "sep", "mask")


@pytest.fixture(params=["wordpiece", "byte_bpe"])
def wrapper(request) -> TokenizerWrapper:
    if request.param == "wordpiece":
        trained = train_wordpiece(TEXTS, vocab_size=300, min_frequency=2, lowercase=True)
        return WordPieceTokenizerWrapper.from_tokenizer(trained)
    trained = train_byte_level_bpe(TEXTS, vocab_size=300, min_frequency=2)
    return ByteLevelBPETokenizerWrapper.from_tokenizer(trained)


def test_loads_what_it_saved(wrapper: TokenizerWrapper, tmp_path: Path) -> None:
    wrapper.save(tmp_path / "tok")
    loaded = type(wrapper).load(tmp_path / "tok")
    assert loaded.fingerprint == wrapper.fingerprint
    assert loaded.vocab_size == wrapper.vocab_size
    assert loaded.special_token_ids == wrapper.special_token_ids
    assert loaded.encode_batch(TEXTS)[0].ids == wrapper.encode_batch(TEXTS)[0].ids


def test_gives_content_tokens_only(wrapper: TokenizerWrapper) -> None:
    ids = wrapper.encode_batch(["the words"])[0].ids
    assert not set(ids) & set(wrapper.special_token_ids)
    assert wrapper.decode(ids) == "the words"
    assert wrapper.id_to_token(wrapper.mask_token_id) in wrapper.decode([*ids, wrapper.mask_token_id])


@pytest.mark.parametrize("spelled", ["[MASK]", "[CLS]", "[PAD]", "<mask>", "</s>", "<s>", "<pad>", "<unk>"])
def test_text_that_spells_a_special_token_stays_text(wrapper: TokenizerWrapper, spelled: str) -> None:
    ids = wrapper.encode_batch([f"the {spelled} words"])[0].ids
    unwanted = set(wrapper.special_token_ids) - {wrapper.unk_token_id}
    assert not set(ids) & unwanted


def test_offsets_point_at_the_characters(wrapper: TokenizerWrapper) -> None:
    text = "The  mask hides\nthe words"
    pieces = [text[start:end] for start, end in wrapper.encode_batch([text])[0].offsets]
    assert "".join(piece for piece in pieces if not piece.isspace()) == "Themaskhidesthewords"


def test_without_offsets_the_ids_are_the_same(wrapper: TokenizerWrapper) -> None:
    with_offsets = wrapper.encode_batch(TEXTS)[0]
    without = wrapper.encode_batch(TEXTS, with_offsets=False)[0]
    assert with_offsets.ids == without.ids


def test_truncation_and_padding_in_the_file_are_switched_off(
    wrapper: TokenizerWrapper, tmp_path: Path
) -> None:
    wrapper.save(tmp_path)
    foreign = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    foreign.enable_truncation(4)
    foreign.enable_padding(length=64)
    foreign.save(str(tmp_path / "tokenizer.json"))
    loaded = type(wrapper).load(tmp_path)
    assert loaded.encode_batch(TEXTS)[0].ids == wrapper.encode_batch(TEXTS)[0].ids
    assert loaded.fingerprint == wrapper.fingerprint


def bpe(tmp_path: Path, **model: object) -> Path:
    """Write a trained byte-level BPE tokenizer whose model is changed."""
    train_byte_level_bpe(TEXTS, vocab_size=300, min_frequency=2).save(str(tmp_path / "tokenizer.json"))
    return change(tmp_path, lambda content: content["model"].update(model))


def change(folder: Path, edit: Callable[[Any], None]) -> Path:
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    edit(content)
    file.write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_dropout_of_merges_in_the_file_is_switched_off(tmp_path: Path) -> None:
    loaded = ByteLevelBPETokenizerWrapper.load(bpe(tmp_path, dropout=0.5))
    expected = ByteLevelBPETokenizerWrapper.load(bpe(tmp_path))
    assert loaded.encode_batch(TEXTS)[0].ids == expected.encode_batch(TEXTS)[0].ids
    assert loaded.fingerprint == expected.fingerprint


@pytest.mark.parametrize("how", ["a byte is missing", "no bytes at all"])
def test_a_tokenizer_that_leaves_characters_out_is_refused(tmp_path: Path, how: str) -> None:
    """BPE without an unknown token drops what it cannot write, and nothing counts it."""
    folder = bpe(tmp_path)
    edits: dict[str, Callable[[Any], object]] = {
        "a byte is missing": lambda content: content["model"]["vocab"].pop("ê"),
        "no bytes at all": lambda content: content.update(pre_tokenizer={"type": "Whitespace"}),
    }
    change(folder, edits[how])  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"leaves out.*tokenizer\.json.*256 bytes.*<unk>"):
        ByteLevelBPETokenizerWrapper.load(folder)
    change(folder, lambda content: content["model"].update(unk_token="<unk>"))
    loaded = ByteLevelBPETokenizerWrapper.load(folder)
    assert loaded.unk_token_id in loaded.encode_batch(["the 각 words"])[0].ids


def test_bytes_that_stand_in_for_unknown_characters_are_all_there(tmp_path: Path) -> None:
    folder = bpe(tmp_path)

    def fall_back(content: Any) -> None:
        vocabulary = content["model"]["vocab"]
        vocabulary |= {f"<0x{byte:02X}>": len(vocabulary) + byte for byte in range(256)}
        content["model"]["byte_fallback"] = True
        content["pre_tokenizer"] = {"type": "Whitespace"}

    change(folder, fall_back)
    loaded = ByteLevelBPETokenizerWrapper.load(folder)
    assert len(loaded.encode_batch(["각"])[0].ids) == 3
    change(folder, lambda content: content["model"]["vocab"].pop("<0xFF>"))
    with pytest.raises(DataError, match=r"leaves out.*256 bytes"):
        ByteLevelBPETokenizerWrapper.load(folder)


@pytest.mark.parametrize("unknown", ["", "<|endoftext|>", "<s>"])
def test_what_bytes_have_for_unknown_words_does_not_matter(tmp_path: Path, unknown: str) -> None:
    """Published files name all sorts of tokens there, and none is ever written."""
    expected = ByteLevelBPETokenizerWrapper.load(bpe(tmp_path))
    loaded = ByteLevelBPETokenizerWrapper.load(bpe(tmp_path, unk_token=unknown))
    texts = [*TEXTS, "각 \0 \U0010ffff"]
    assert [one.ids for one in loaded.encode_batch(texts)] == [
        one.ids for one in expected.encode_batch(texts)
    ]


def test_unknown_words_are_written_as_the_unknown_token(tmp_path: Path) -> None:
    trained = train_wordpiece(TEXTS, vocab_size=300, min_frequency=2, lowercase=True)
    trained.save(str(tmp_path / "tokenizer.json"))
    change(tmp_path, lambda content: content["model"].update(unk_token="m"))
    with pytest.raises(DataError, match=r"another token.*tokenizer\.json.*'m' in its model"):
        WordPieceTokenizerWrapper.load(tmp_path)


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [({}, "special tokens only"), ({"far": 4_000_000_000}, "id is too high.*4000000000")],
)
def test_a_vocabulary_that_cannot_be_used_is_refused(
    tmp_path: Path, vocabulary: dict[str, int], message: str
) -> None:
    train_wordpiece(TEXTS, vocab_size=300, min_frequency=2, lowercase=True).save(
        str(tmp_path / "tokenizer.json")
    )
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    special = {name: place for place, name in enumerate(names)}
    change(tmp_path, lambda content: content["model"].update(vocab=special | vocabulary))
    with pytest.raises(DataError, match=message):
        WordPieceTokenizerWrapper.load(tmp_path)


def test_fingerprint_depends_on_the_vocabulary() -> None:
    first = train_wordpiece(TEXTS, vocab_size=300, min_frequency=2, lowercase=True)
    second = train_wordpiece(TEXTS, vocab_size=300, min_frequency=2, lowercase=False)
    prints = {WordPieceTokenizerWrapper.from_tokenizer(trained).fingerprint for trained in (first, second)}
    assert len(prints) == 2


def roberta_like() -> Tokenizer:
    """A tokenizer laid out as RoBERTa's own file: special tokens 0 to 3 and the last, no config."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *letters, "th", "the", "<mask>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("t", "h"), ("th", "e")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True)])
    return tokenizer


def test_a_roberta_file_loads_with_its_own_special_tokens(tmp_path: Path) -> None:
    tokenizer = roberta_like()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = ByteLevelBPETokenizerWrapper.load(tmp_path)
    found = [getattr(loaded, f"{role}_token_id") for role in ROLES]
    assert found == [1, 3, 0, 2, tokenizer.token_to_id("<mask>")]
    assert loaded.encode_batch(["the"])[0].ids == [tokenizer.token_to_id("the")]


def test_the_config_names_unusual_special_tokens(tmp_path: Path) -> None:
    names = {"pad": "_P", "unk": "_U", "cls": "_C", "sep": "_S", "mask": "_M"}
    vocabulary = {token: i for i, token in enumerate(["hello", *names.values()])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="_U"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    config: dict[str, object] = {f"{role}_token": name for role, name in names.items()}
    config["mask_token"] = {"content": "_M", "lstrip": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    loaded = WordPieceTokenizerWrapper.load(tmp_path)
    assert [getattr(loaded, f"{role}_token_id") for role in ROLES] == [1, 2, 3, 4, 5]
    assert loaded.special_token_ids == (1, 2, 3, 4, 5)


def test_a_tokenizer_that_finds_special_tokens_among_words_is_refused() -> None:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(names)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with pytest.raises(DataError, match=r"turns text into a special token.*\[PAD\]"):
        WordPieceTokenizerWrapper.from_tokenizer(tokenizer)


def test_vocabulary_size_counts_holes() -> None:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "far": 90}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(vocabulary)[:5])
    loaded = WordPieceTokenizerWrapper.from_tokenizer(tokenizer)
    assert loaded.vocab_size == 91


def test_missing_role_is_named(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[UNK]"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="no pad token"):
        WordPieceTokenizerWrapper.load(tmp_path)


def test_a_model_that_could_not_write_unknown_words_is_refused(tmp_path: Path) -> None:
    """As after a flipped bit in the vocabulary, of a token that stands among the added ones as well."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {name: i for i, name in enumerate(["[PAD]", "[EUK]", "[CLS]", "[SEP]", "[MASK]", "a"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(names)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match=r"unknown words is not in its vocabulary.*tokenizer.json.*\[UNK\]"):
        WordPieceTokenizerWrapper.load(tmp_path)


def test_role_outside_the_vocabulary_is_named(wrapper: TokenizerWrapper, tmp_path: Path) -> None:
    wrapper.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"mask_token": "[GONE]"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"mask token is not in the vocabulary.*\[GONE\]"):
        type(wrapper).load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": {"type": "WordPiece"}}', "[" * 100_000])
def test_damaged_file_is_a_data_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        WordPieceTokenizerWrapper.load(tmp_path)


@pytest.mark.parametrize(
    "steps",
    [
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    ],
)
def test_a_panic_of_the_library_is_a_data_error(
    wrapper: TokenizerWrapper, steps: dict[str, object], tmp_path: Path
) -> None:
    """It is no Exception: neither a command nor a notebook would say which file it comes from."""
    wrapper.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | steps), encoding="utf-8")
    with pytest.raises(DataError, match=r"(this is no tokenizer file|leaves out).*tokenizer\.json") as caught:
        type(wrapper).load(tmp_path)
    assert "\n" not in str(caught.value)


def test_other_kind_and_missing_folder_are_data_errors(wrapper: TokenizerWrapper, tmp_path: Path) -> None:
    wrapper.save(tmp_path)
    other = (
        ByteLevelBPETokenizerWrapper
        if isinstance(wrapper, WordPieceTokenizerWrapper)
        else WordPieceTokenizerWrapper
    )
    with pytest.raises(DataError, match="of another kind"):
        other.load(tmp_path)
    with pytest.raises(DataError, match="no tokenizer here"):
        other.load(tmp_path / "gone")


@pytest.mark.parametrize("file", ["sentencepiece.bpe.model", "vocab.json"])
def test_a_published_model_without_the_file_says_how_to_write_it(file: str, tmp_path: Path) -> None:
    """For SentencePiece's own file transformers wants two packages, and names another."""
    for name in ("config.json", file):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="AutoTokenizer") as caught:
        WordPieceTokenizerWrapper.load(tmp_path)
    assert ("pip install sentencepiece protobuf" in str(caught.value)) == file.endswith(".model")
