"""Learning a vocabulary with the ``tokenizers`` library; the same text always gives the same one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from textclf_transformer.errors import UsageError

WORDPIECE_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BPE_SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")  # RoBERTa's ids 0 to 3; <mask> comes last
BPE_MASK_TOKEN = "<mask>"
CONTINUATION = "##"

# Rarer characters (one document in Chinese, say) become [UNK] instead of filling the table: after 1,000 as in
# BERT's own training, for scripts of many characters after the share that SentencePiece covers.
ALPHABET = 1000
COVERAGE = 0.9995
# Per cent in the translations of Django: German 1.4, French 2.5, Portuguese 4.0; Finnish 5.5, Polish 5.9,
# Japanese 9, Thai 20, Vietnamese 22, Hindi 36, Korean 75.
ACCENTED = 0.05
SMALLEST_WORDPIECE_VOCABULARY = 100
SMALLEST_BPE_VOCABULARY = 262  # 256 bytes, 5 special tokens and one merge
LARGEST_VOCABULARY = 10_000_000
LARGEST_FREQUENCY = 1_000_000_000


def train_wordpiece(
    texts: Iterable[str], *, vocab_size: int, min_frequency: int, lowercase: bool
) -> Tokenizer:
    """Learn a WordPiece vocabulary as BERT has it; ids 0 to 4 are [PAD], [UNK], [CLS], [SEP], [MASK].

    Args:
        texts: the documents; they are gone through twice, so an iterator is not enough.
        vocab_size: tokens in all; fewer where the text has too few words.
        min_frequency: how often a pair of pieces must occur to become a token.
        lowercase: whether case is taken away, and accents, unless more than ``ACCENTED`` of the characters
            have one: vowels and tones in many scripts, which tell words apart.

    Raises:
        UsageError: ``vocab_size`` or ``min_frequency`` is of no use, or ``texts`` can be gone through only
            once.
    """
    _check_size(vocab_size, SMALLEST_WORDPIECE_VOCABULARY, min_frequency=min_frequency)
    if isinstance(texts, Iterator):
        raise UsageError(
            "the texts must allow a second pass", found="an iterator", expected="a list or the like"
        )
    characters: Counter[str] = Counter()
    for text in texts:
        characters.update(text)
    keep_accents = lowercase and _accented(characters) > ACCENTED
    # None: they go with the case
    normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=False if keep_accents else None
    )
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    alphabet = _alphabet(characters, normalizer, most_pieces=vocab_size // 2)
    # The library numbers the pieces ##a, ##b … in the order of a hash map, which differs from run to run, and
    # ties between merges go by these numbers. Handing the pieces over beforehand, among the special tokens,
    # settles both.
    pieces = [CONTINUATION + char for char in alphabet if _stays_in_word(char, normalizer)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*WORDPIECE_SPECIAL_TOKENS, *pieces],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)

    # A new tokenizer from the vocabulary, in which the pieces are ordinary tokens.
    trained = Tokenizer(
        models.WordPiece(tokenizer.get_vocab(), unk_token="[UNK]", continuing_subword_prefix=CONTINUATION)
    )
    trained.normalizer = normalizer
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trained.decoder = decoders.WordPiece(prefix=CONTINUATION)
    trained.add_special_tokens(list(WORDPIECE_SPECIAL_TOKENS))
    trained.post_processor = processors.BertProcessing(_with_id(trained, "[SEP]"), _with_id(trained, "[CLS]"))
    return trained


def train_byte_level_bpe(texts: Iterable[str], *, vocab_size: int, min_frequency: int) -> Tokenizer:
    """Learn a byte-level BPE vocabulary as RoBERTa has it; ids 0 to 3 are <s>, <pad>, </s>, <unk>, the last
    is <mask>.

    Args:
        texts: the documents.
        vocab_size: tokens in all; fewer where the text has too few words.
        min_frequency: how often a pair of pieces must occur to become a token.

    Raises:
        UsageError: ``vocab_size`` does not hold the 256 bytes and the special tokens, or it or
            ``min_frequency`` is of no use.
    """
    _check_size(vocab_size, SMALLEST_BPE_VOCABULARY, min_frequency=min_frequency)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        min_frequency=min_frequency,
        special_tokens=list(BPE_SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # The mask stands for a word with the space before it.
    tokenizer.add_special_tokens([AddedToken(BPE_MASK_TOKEN, lstrip=True, special=True, normalized=False)])
    tokenizer.decoder = decoders.ByteLevel()
    # Without trim_offsets a token's characters would include the space before the word.
    tokenizer.post_processor = processors.RobertaProcessing(
        _with_id(tokenizer, "</s>"),
        _with_id(tokenizer, "<s>"),
        trim_offsets=True,
        add_prefix_space=False,
    )
    return tokenizer


def _check_size(vocab_size: int, smallest: int, *, min_frequency: int) -> None:
    if vocab_size < smallest:
        raise UsageError("the vocabulary is too small", found=vocab_size, expected=f"at least {smallest}")
    for what, number, least, most in (
        ("the vocabulary is too large", vocab_size, smallest, LARGEST_VOCABULARY),
        ("no frequency that a pair can have", min_frequency, 0, LARGEST_FREQUENCY),
    ):
        if not least <= number <= most:
            raise UsageError(what, found=number, expected=f"{least:,} to {most:,}")


def _with_id(tokenizer: Tokenizer, token: str) -> tuple[str, int]:
    """Return a token that is in the vocabulary, with its id."""
    return token, tokenizer.get_vocab(with_added_tokens=True)[token]


def _accented(characters: Counter[str]) -> float:
    """Return the share of the characters that would be others without their marks, spaces left aside."""
    plain = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    accented = sum(count for char, count in characters.items() if plain.normalize_str(char) != char)
    return accented / max(sum(count for char, count in characters.items() if not char.isspace()), 1)


def _alphabet(characters: Counter[str], normalizer: normalizers.Normalizer, *, most_pieces: int) -> list[str]:
    """Return the most frequent of the characters as they are normalised, sorted.

    They are ``ALPHABET``, or as many as make ``COVERAGE`` of the text; fewer where they would become more
    than ``most_pieces`` pieces: two each, one of those that do not stay in a word.
    """
    counts: Counter[str] = Counter()
    for char, count in characters.items():
        for normal in normalizer.normalize_str(char):
            counts[normal] += count
    ranked = sorted((char for char in counts if not char.isspace()), key=lambda char: (-counts[char], char))
    wanted = COVERAGE * sum(counts[char] for char in ranked)
    alphabet: list[str] = []
    for char in ranked:
        most_pieces -= 2 if _stays_in_word(char, normalizer) else 1
        if most_pieces < 0 or (len(alphabet) >= ALPHABET and wanted <= 0):
            break
        alphabet.append(char)
        wanted -= counts[char]
    return sorted(alphabet)


def _stays_in_word(char: str, normalizer: normalizers.Normalizer) -> bool:
    """Whether ``char`` can stand inside a word: punctuation and Chinese characters are words of their own."""
    normal = normalizer.normalize_str("a" + char)  # which puts spaces around Chinese characters
    return len(pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normal)) == 1
