from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from textclf_transformer.config.section import KINDS_OF_TOKENIZER
from textclf_transformer.errors import ConfigError, DataError, StorageError, UsageError
from textclf_transformer.tokenizer.loading import WRAPPERS, get_tokenizer, load_tokenizer, tokenizer_kind
from textclf_transformer.tokenizer.training import train_byte_level_bpe, train_wordpiece
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper

TEXTS = ["some words to learn from, some more words"] * 5

FOREIGN = """
from textclf_transformer.tokenizer.wordpiece_tokenizer_wrapper import WordPieceTokenizerWrapper

class Mine(WordPieceTokenizerWrapper):
    pass

class Old(WordPieceTokenizerWrapper):
    def mask_input_for_mlm(self, input_ids, attention_mask, mask_p, mask_token_p, random_token_p):
        raise AssertionError

class Empty:
    pass

class Bare:
    pad_token_id = unk_token_id = cls_token_id = sep_token_id = 0
    load = classmethod(lambda cls, vocab_dir: cls())
    save = encode_batch = decode = id_to_token = Mine.save
    mask_input_for_mlm = Mine.mask_input_for_mlm

class Framed(Mine):
    def encode_batch(self, texts, *, with_offsets=True):
        return self._tokenizer.encode_batch(list(texts), add_special_tokens=True)

class Fewer(Mine):
    def encode_batch(self, texts, *, with_offsets=True):
        return super().encode_batch(texts)[:1]

class Higher(Mine):
    @classmethod
    def load(cls, vocab_dir):
        loaded = super().load(vocab_dir)
        loaded.vocab_size = 7
        return loaded

class Broken(Mine):
    def encode_batch(self, texts):
        return super().encode_batch(texts)

class Sizeless(Mine):
    def encode_batch(self, texts, *, with_offsets=True):
        from types import SimpleNamespace
        return [SimpleNamespace(ids=one.ids, offsets=one.offsets) for one in super().encode_batch(texts)]

class Method(Mine):
    mask_token_id = lambda self: 4

class Numpy(Mine):
    @classmethod
    def load(cls, vocab_dir):
        import numpy
        loaded = super().load(vocab_dir)
        loaded.vocab_size = numpy.int64(loaded.vocab_size)
        return loaded

class Failing(Mine):
    @classmethod
    def load(cls, vocab_dir):
        raise KeyError("chars")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    trained = train_wordpiece(TEXTS, vocab_size=200, min_frequency=1, lowercase=True)
    WordPieceTokenizerWrapper.from_tokenizer(trained).save(tmp_path / "tok")
    return tmp_path / "tok"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    file = tmp_path / "foreign.py"
    file.write_text(FOREIGN, encoding="utf-8")
    return file


def test_names_choose_the_class(folder: Path, tmp_path: Path) -> None:
    assert isinstance(load_tokenizer("wordpiece", folder), WordPieceTokenizerWrapper)
    assert tokenizer_kind(folder) == "wordpiece"
    bpe = train_byte_level_bpe(TEXTS, vocab_size=300, min_frequency=1)
    (tmp_path / "bpe").mkdir()
    bpe.save(str(tmp_path / "bpe" / "tokenizer.json"))
    assert tokenizer_kind(tmp_path / "bpe") == "byte_bpe"
    assert load_tokenizer("byte_bpe", tmp_path / "bpe").vocab_size == bpe.get_vocab_size()


def test_configs_take_the_same_names() -> None:
    assert tuple(WRAPPERS) == KINDS_OF_TOKENIZER


def test_unknown_name_lists_the_known_ones(folder: Path) -> None:
    with pytest.raises(UsageError, match="wordpiece, byte_bpe, unigram or"):
        load_tokenizer("sentencepiece", folder)


def test_foreign_class_needs_consent(folder: Path, foreign: Path) -> None:
    with pytest.raises(UsageError, match="--trust-code"):
        load_tokenizer(f"{foreign}:Mine", folder)
    loaded = load_tokenizer(f"{foreign}:Mine", folder, trust_code=True)
    assert type(loaded).__name__ == "Mine"


def test_foreign_class_without_generator_is_refused(folder: Path, foreign: Path) -> None:
    with pytest.raises(UsageError, match="no generator"):
        load_tokenizer(f"{foreign}:Old", folder, trust_code=True)


def test_foreign_class_without_the_methods_is_refused(folder: Path, foreign: Path) -> None:
    with pytest.raises(UsageError, match=r"lacks methods.*encode_batch"):
        load_tokenizer(f"{foreign}:Empty", folder, trust_code=True)


def test_foreign_class_without_the_attributes_is_refused(folder: Path, foreign: Path) -> None:
    with pytest.raises(UsageError, match=r"lacks attributes.*vocab_size.*mask_token_id.*TokenizerWrapper"):
        load_tokenizer(f"{foreign}:Bare", folder, trust_code=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Framed", "special tokens with the text; .*found cls, sep"),
        ("Fewer", "found 1 for 2 texts"),
        ("Higher", "outside its vocabulary.*expected 0 to 6"),
        ("Broken", "encode_batch of the class fails.*with_offsets"),
        ("Sizeless", r"encode_batch of the class fails.*has no len\(\)"),
    ],
)
def test_foreign_class_gives_content_tokens(folder: Path, foreign: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_tokenizer(f"{foreign}:{name}", folder, trust_code=True)


@pytest.mark.parametrize(
    ("name", "found"), [("Method", "mask_token_id: method"), ("Numpy", "vocab_size: int64")]
)
def test_foreign_class_with_attributes_of_another_type_is_refused(
    folder: Path, foreign: Path, name: str, found: str
) -> None:
    """They go into checkpoints, which hold plain Python alone, and are compared with ids."""
    with pytest.raises(UsageError, match=f"wrong type.*found {found}, expected int; make a method"):
        load_tokenizer(f"{foreign}:{name}", folder, trust_code=True)


def test_foreign_class_that_fails_is_named(folder: Path, foreign: Path) -> None:
    with pytest.raises(UsageError, match=r"does not load; .*:Failing; found KeyError: 'chars'"):
        load_tokenizer(f"{foreign}:Failing", folder, trust_code=True)


def test_kind_without_a_wrapper_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "WordLevel"}}', encoding="utf-8")
    with pytest.raises(DataError, match="WordLevel model, expected WordPiece, BPE, Unigram"):
        tokenizer_kind(tmp_path)


@pytest.mark.parametrize("folder", [None, 5, b"tokenizer", "toke\0nizer", Path("\0")])
def test_what_is_no_path_is_refused(folder: Any) -> None:
    with pytest.raises(ConfigError, match=r"not a path; folder; found .*, expected .* with tokenizer\.json"):
        get_tokenizer(folder)


def test_links_in_a_circle_are_named(tmp_path: Path) -> None:
    for name in ("tokenizer", "tokenizer.json"):
        (tmp_path / name).symlink_to(tmp_path / name)
    for folder in (tmp_path / "tokenizer", tmp_path):
        with pytest.raises(StorageError, match=r"tokenizer\.json; found Too many levels of symbolic links"):
            get_tokenizer(folder)


def test_a_published_model_without_a_tokenizer_file_gets_its_own_and_no_new_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="textclf train-tokenizer"):
        get_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="save_pretrained") as refusal:
        get_tokenizer(tmp_path)
    assert "train-tokenizer" not in str(refusal.value)
