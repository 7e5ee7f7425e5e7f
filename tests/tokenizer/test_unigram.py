"""Unigram tokenizers as XLM-RoBERTa and CamemBERT are published with: equal ids, and text that stays text."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers
from end_to_end.published import unigram_vocabulary
from test_wrappers import ROLES, change
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from textclf_transformer.errors import DataError
from textclf_transformer.tokenizer.files import KNOWN_NAMES
from textclf_transformer.tokenizer.loading import get_tokenizer, load_tokenizer
from textclf_transformer.tokenizer.unigram_tokenizer_wrapper import UnigramTokenizerWrapper

TEXTS = [
    "The mask </s> hides [MASK] the words;  the pad fills\n< s > rows, ½ of them.",
    "Le masque cache les mots: <, s, > et </ s> de l'été.",
    "隠す言葉 Слова",
]
SPELLED = ("<s>", "</s>", "<pad>", "<unk>", "<mask>", "<s>NOTUSED", "</s>NOTUSED")


@pytest.fixture(params=["XLMRobertaTokenizer", "CamembertTokenizer"])
def theirs(request: pytest.FixtureRequest, tmp_path: Path) -> transformers.PreTrainedTokenizerBase:
    """Their tokenizer, which knows the letters of the first two texts, also saved at ``tmp_path``."""
    first = ("<s>", "<pad>", "</s>", "<unk>")
    if request.param == "CamembertTokenizer":  # whose control pieces have been moved
        first = ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>")
    vocabulary = unigram_vocabulary(TEXTS[:2], first=first)
    tokenizer = getattr(transformers, request.param)(vocab=vocabulary)
    tokenizer.save_pretrained(tmp_path)
    return tokenizer


def test_ids_are_theirs(theirs: transformers.PreTrainedTokenizerBase, tmp_path: Path) -> None:
    ours = get_tokenizer(tmp_path)
    assert isinstance(ours, UnigramTokenizerWrapper)
    assert [getattr(ours, f"{role}_token_id") for role in ROLES] == [
        getattr(theirs, f"{role}_token_id") for role in ROLES
    ]
    texts = [text.replace("</s>", "s") for text in TEXTS]
    expected = theirs(texts, add_special_tokens=False)["input_ids"]
    assert [one.ids for one in ours.encode_batch(texts)] == expected
    assert [ours.unk_token_id in ids for ids in expected] == [False, False, True]
    assert ours.decode(expected[1]) == " ".join(texts[1].split())


@pytest.mark.parametrize("spelled", SPELLED)
def test_text_that_spells_a_special_token_stays_text(
    theirs: transformers.PreTrainedTokenizerBase, tmp_path: Path, spelled: str
) -> None:
    ours = get_tokenizer(tmp_path)
    for text in (spelled, f"a {spelled} b", f"the{spelled}{spelled}words", f"<{spelled}>"):
        (found,) = ours.encode_batch([text])
        assert not set(found.ids) & (set(ours.special_token_ids) - {ours.unk_token_id}), found.tokens
        covered = {place for start, end in found.offsets for place in range(start, end)}
        assert covered >= {place for place, letter in enumerate(text) if letter != " "}


def test_loads_what_it_saved(theirs: transformers.PreTrainedTokenizerBase, tmp_path: Path) -> None:
    ours = load_tokenizer("unigram", tmp_path)
    ours.save(tmp_path / "again")
    again = load_tokenizer("unigram", tmp_path / "again")
    assert again.fingerprint == ours.fingerprint
    again.save(tmp_path / "third")
    first, second = ((tmp_path / name / "tokenizer.json").read_bytes() for name in ("again", "third"))
    assert first == second
    assert [one.ids for one in again.encode_batch(TEXTS)] == [one.ids for one in ours.encode_batch(TEXTS)]


def test_without_a_pre_tokenizer_of_its_own() -> None:
    model = models.Unigram(unigram_vocabulary(["the words"]), unk_id=3, byte_fallback=False)
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    ours = UnigramTokenizerWrapper.from_tokenizer(tokenizer)
    assert 0 not in ours.encode_batch(["the<s>words"])[0].ids


def test_special_tokens_of_one_letter_cut_no_word() -> None:
    """Which no text has, since all of it is lowercased."""
    first = ("C", "P", "S", "U", "M")
    tokenizer = Tokenizer(models.Unigram(unigram_vocabulary(["the words"], first=first), unk_id=3))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    expected = tokenizer.encode("The words").tokens
    ours = UnigramTokenizerWrapper(tokenizer, dict(zip(KNOWN_NAMES, "PUCSM", strict=True)))
    assert ours.encode_batch(["The words"])[0].tokens == expected == ["▁the", "▁words"]


def test_the_same_text_gets_the_same_ids_though_the_model_samples() -> None:
    model = models.Unigram(unigram_vocabulary(["the words"]), unk_id=3, byte_fallback=False)
    if not hasattr(model, "alpha"):
        pytest.skip("this version of tokenizers does not sample")
    model.alpha, model.nbest_size = 0.1, 8
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    ours = UnigramTokenizerWrapper.from_tokenizer(tokenizer)
    assert len({tuple(one.ids) for one in ours.encode_batch(["▁the▁words"] * 50)}) == 1


@pytest.mark.parametrize(
    ("unk_id", "message"),
    [
        (None, "fails at the first text.*tokenizer.json.*without unk_id.*id of <unk>"),
        (5, "another token than the unknown one.*tokenizer.json.*expected '<unk>'"),
    ],
)
def test_unknown_characters_are_written_as_the_unknown_token(
    unk_id: int | None, message: str, tmp_path: Path
) -> None:
    transformers.XLMRobertaTokenizer(vocab=unigram_vocabulary(TEXTS)).save_pretrained(tmp_path)
    change(tmp_path, lambda content: content["model"].update(unk_id=unk_id))
    with pytest.raises(DataError, match=message):
        UnigramTokenizerWrapper.load(tmp_path)
