"""The audit counts what is there and finds what was planted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from scipy import stats

from textclf_transformer.data.audit import Audit, Chunking, audit, length_edges, needed_chunks
from textclf_transformer.data.audit_drifts import random_distances
from textclf_transformer.data.audit_findings import findings
from textclf_transformer.data.audit_input import AuditDocument
from textclf_transformer.data.chunking import chunk_spans
from textclf_transformer.data.oddities import oddities, repetitive
from textclf_transformer.errors import DataError

CHUNKING = Chunking(chunk_size=12, stride=8, max_chunks=3)
UNKNOWN = 1
WORDS = ("tide", "rope", "crane", "anchor", "ship", "soil", "seed", "root", "leaf", "bloom", "oven", "salt")


@dataclass
class Planted:
    """A split of documents made by hand."""

    documents: list[AuditDocument] = field(default_factory=list)
    path: str = "planted"
    unit: str = "tokens"
    unk_token_id: int | None = UNKNOWN
    empty: int = 0

    def __iter__(self) -> Iterator[AuditDocument]:
        return iter(self.documents)


def document(seed: int, *, words: int = 60, label: str | None = "a", **more) -> AuditDocument:
    numbers = np.random.default_rng(seed).integers(0, 5_000, size=words)
    text = " ".join(f"{WORDS[number % len(WORDS)]}{'aeiou'[number % 5]}" for number in numbers)
    values = {"text": text, "labels": None if label is None else (label,), "id": f"d{seed}", "group": None}
    return AuditDocument(units=numbers + 10, **(values | more))


def split(first: int, count: int) -> Planted:
    return Planted([document(first + n, label="ab"[n % 2]) for n in range(count)])


def lines(result: Audit, level: str) -> list[str]:
    return [finding.what for finding in findings(result) if finding.level == level]


def test_sound_data_get_good_lines_only() -> None:
    parts = {"train": split(0, 300), "val": split(1000, 40), "test": split(2000, 40)}
    result = audit(parts, Chunking(chunk_size=66, stride=64, max_chunks=1))
    assert lines(result, "fail") == lines(result, "warn") == []
    assert len(lines(result, "good")) == 7  # three pairs of splits, labels, reading, oddities, tokenizer
    assert result.splits[0].labels == {"a": 150, "b": 150}
    assert [part.documents for part in result.splits] == [300, 40, 40]
    assert result.to_dict()["splits"][0]["copies"] == {"exact": 0, "near": 0, "examples": []}


def test_copies_across_splits_fail() -> None:
    train, test = split(0, 300), split(1000, 40)
    test.documents += [document(6, id="same"), document(8, label="b", id="same too")]
    nearly = document(9, words=200)
    train.documents.append(nearly)
    units = nearly.units.copy()
    units[50:54] = 9
    test.documents.append(AuditDocument(units, nearly.text, ("a",), "near", None))
    result = audit({"train": train, "test": test}, CHUNKING)
    (overlap,) = result.overlaps
    assert (overlap.split, overlap.other, overlap.documents) == ("test", "train", 43)
    assert (overlap.exact, overlap.near) == (2, 1)
    pairs = [(pair.first, pair.second) for pair in overlap.examples]
    assert pairs == [("same", "d6"), ("same too", "d8"), ("near", "d9")]
    assert 0.6 <= overlap.examples[2].similarity < 1
    failed = lines(result, "fail")
    assert len(failed) == 2 and "word for word in train as well: 2 of 43" in failed[0]
    assert result.conflicting == 2  # d8 stands in train with the label a


def test_of_many_near_copies_the_likest_are_shown() -> None:
    train, test = split(0, 300), split(1000, 40)
    for changed in range(59, 0, -5):  # more than five stand first on either side of a pair
        whole = document(3000 + changed, words=200)
        units = whole.units.copy()
        units[50 : 50 + changed] = 9
        # the likest come first, so the first document is one of them
        train.documents.insert(0, whole)
        test.documents.insert(0, AuditDocument(units, whole.text, ("a",), f"{changed} changed", None))
    (overlap,) = audit({"train": train, "test": test}, CHUNKING).overlaps
    assert overlap.near > len(overlap.examples) == 5
    assert [pair.first for pair in overlap.examples] == [f"{n} changed" for n in (4, 9, 14, 19, 24)]


def test_few_near_copies_across_splits_only_warn() -> None:
    train, test = split(0, 10), split(1000, 200)
    units = train.documents[0].units.copy()
    units[5] = 9
    test.documents.append(AuditDocument(units, "some text with a few words", ("a",), "near", None))
    result = audit({"train": train, "test": test}, CHUNKING)
    assert result.overlaps[0].near == 1 and not lines(result, "fail")
    assert any("nearly the same" in line for line in lines(result, "warn"))


def test_copies_within_a_split() -> None:
    train = split(0, 200)
    train.documents += [document(3, id="copy"), document(3, id="copy")]
    units = train.documents[5].units.copy()
    units[20] = 9
    train.documents.append(AuditDocument(units, "five words are enough here", ("a",), "near", None))
    result = audit({"data": train}, CHUNKING)
    copies = result.splits[0].copies
    assert (copies.exact, copies.near) == (2, 1)
    assert [(pair.first, pair.second) for pair in copies.examples] in ([("d5", "near")], [("near", "d5")])
    assert result.splits[0].repeated_ids == 1
    assert any("copies within data: 2 exact, 1 near" in line for line in lines(result, "warn"))
    assert any("ids that stand twice" in line for line in lines(result, "warn"))


def test_groups_in_two_splits_fail() -> None:
    train, test = split(0, 200), split(1000, 20)
    train.documents += [document(5000 + n, group=f"channel {n}") for n in range(9)]
    test.documents += [document(6000 + n, group=f"channel {n % 7 + 5}") for n in range(14)]
    result = audit({"train": train, "test": test}, CHUNKING)
    (overlap,) = result.overlaps
    assert overlap.groups == 4 and overlap.group_documents == 8
    (failed,) = lines(result, "fail")
    assert "channel 5, channel 6, channel 7, channel 8, with 8 of 34" in failed


@pytest.mark.parametrize(
    ("labels", "level", "words"),
    [
        (["a"] * 300, "fail", "nothing to tell apart: train has 1 label"),
        (["a"] * 290 + ["b"] * 10, "warn", "97% of train"),
        (["a", "b"] * 150 + ["c"] * 3, "warn", "fewer than 10 documents in train: c (3)"),
        (["a", "b", " A", "b "] * 75, "warn", "form only: ' A' = 'a', 'b' = 'b '"),
        (["é", "e\u0301"] * 150, "warn", "form only: 'e\\u0301' = 'é'"),
        (["a", "b"] * 50, "warn", "only 100 documents"),
        (["a", "b"] * 150 + [None], "fail", "without a label: 1 of 301"),
    ],
)
def test_labels(labels: list[str | None], level: str, words: str) -> None:
    part = Planted([document(n, label=label) for n, label in enumerate(labels)])
    assert any(words in line for line in lines(audit({"train": part}, CHUNKING), level))


def test_several_labels_of_which_no_document_carries_any() -> None:
    part = Planted([replace(document(n), labels=()) for n in range(300)])
    assert lines(audit({"train": part}, CHUNKING), "fail") == ["nothing to tell apart: train has 0 labels"]


def test_labels_of_splits_that_do_not_fit() -> None:
    train, test = split(0, 200), split(1000, 20)
    test.documents.append(document(5, label="new"))
    result = audit({"train": train, "test": test}, CHUNKING)
    assert "labels of test that train does not have: new" in lines(result, "fail")
    only = Planted([document(3000 + n) for n in range(20)])
    result = audit({"train": train, "test": only}, CHUNKING)
    warned = "\n".join(lines(result, "warn"))
    assert "test has no document of: b" in warned
    assert "50% of the labels of test would have to change" in warned


def labelled(first: int, labels: Iterable[tuple[str, ...]]) -> Planted:
    return Planted([replace(document(first + n, words=5), labels=own) for n, own in enumerate(labels)])


def test_labels_that_chance_spreads_differently_are_not_accused() -> None:
    drawn = np.random.default_rng(0).integers(0, 300, size=1_080)
    names = [(f"label {number}",) for number in drawn]
    result = audit({"train": labelled(0, names[80:]), "test": labelled(5000, names[:80])}, CHUNKING)
    assert result.drifts[0].distance > 0.3
    assert not any("spread" in line for line in lines(result, "warn"))

    few = [(f"label {number // 4}",) for number in drawn[:80]]
    result = audit({"train": labelled(0, names[80:]), "test": labelled(5000, few)}, CHUNKING)
    assert any("none of 1,000 random cuts is as far apart" in line for line in lines(result, "warn"))


def test_labels_of_one_document_are_cut_together() -> None:
    bundles = [tuple(f"{kind}{n}" for n in range(20)) for kind in "ab"]
    train, test = [bundles[n % 2] for n in range(100)], [bundles[n < 6] for n in range(8)]
    result = audit({"train": labelled(0, train), "test": labelled(5000, test)}, CHUNKING)
    assert result.drifts[0].distance == pytest.approx(0.25)
    assert not any("spread" in line for line in lines(result, "warn"))


@pytest.mark.parametrize("grouped", [True, False])
def test_documents_of_one_group_are_cut_together(grouped: bool) -> None:
    """Each author writes about one thing, so few authors differ by chance, however much each wrote."""

    def by_authors(first: int, labels: str) -> Planted:
        written = labelled(first, [(label,) for label in labels for _ in range(20)]).documents
        return Planted(
            [
                replace(one, group=f"{first} {place // 20}" if grouped else None)
                for place, one in enumerate(written)
            ]
        )

    parts = {"train": by_authors(0, "a" * 10 + "b" * 8), "test": by_authors(5000, "aabbbb")}
    result = audit(parts, CHUNKING)
    assert result.drifts[0].distance == pytest.approx(10 / 18 - 2 / 6)
    assert any("would have to change" in line for line in lines(result, "warn")) != grouped


@pytest.mark.parametrize("labels", [4, 200])  # few and many kinds of documents are drawn in two ways
def test_random_cuts_are_those_of_shuffled_documents(labels: int) -> None:
    def distance(splits: list[list[tuple[str, ...]]]) -> float:
        one, two = (Counter(name for own in part for name in own) for part in splits)
        shares = {name: one[name] / one.total() - two[name] / two.total() for name in one | two}
        return sum(map(abs, shares.values())) / 2

    drawn = np.random.default_rng(labels).integers(0, labels, size=(160, 3))
    documents = [tuple(sorted({str(number) for number in row})) for row in drawn]
    found, cuts = random_distances(documents[:120], documents[120:], 1_000)
    assert found == pytest.approx(distance([documents[:120], documents[120:]]))
    orders = (np.random.default_rng(seed).permutation(160) for seed in range(1_000))
    shuffled = [
        distance([[documents[n] for n in part] for part in np.split(order, [120])]) for order in orders
    ]
    assert stats.ks_2samp(list(cuts), shuffled).pvalue > 0.001


def test_unlabelled_data_get_no_word_about_labels_or_chunks() -> None:
    part = Planted([document(n, label=None) for n in range(50)])
    result = audit({"data": part}, CHUNKING)
    assert result.splits[0].labels is None
    assert not lines(result, "warn") and not any("read" in line for line in lines(result, "good"))


def test_labels_of_one_split_alone_are_not_compared() -> None:
    test = Planted([document(n, label=None) for n in range(1000, 1040)])
    assert not any(
        "spread" in line for line in lines(audit({"train": split(0, 300), "test": test}, CHUNKING), "warn")
    )


def test_what_is_read_is_what_chunks_hold() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 90, size=80)
    part = Planted([document(n, words=int(length)) for n, length in enumerate(lengths)])
    result = audit({"train": part}, CHUNKING)
    spans = [chunk_spans(int(n), chunk_size=12, stride=8, max_chunks=3) for n in lengths]
    read = np.array([max(stop for _, stop in own) for own in spans])
    assert result.splits[0].tokens_read == read.sum()
    assert result.splits[0].documents_cut == (read < lengths).sum()
    assert any("of the tokens are read; documents of more than 3 chunks" in w for w in lines(result, "warn"))
    for need in needed_chunks(lengths, CHUNKING):
        for number, enough in ((need.for_tokens - 1, False), (need.for_tokens, True)):
            total = sum(
                chunk_spans(int(n), chunk_size=12, stride=8, max_chunks=max(number, 1))[-1][1]
                for n in lengths
            )
            assert (total >= need.share * lengths.sum()) == enough
        for number, enough in ((need.for_documents - 1, False), (need.for_documents, True)):
            ends = [chunk_spans(int(n), chunk_size=12, stride=8, max_chunks=number)[-1][1] for n in lengths]
            assert (np.mean(np.array(ends) == lengths) >= need.share) == enough


def test_of_shares_that_need_as_many_chunks_the_highest_is_named() -> None:
    part = Planted([document(n, words=40) for n in range(80)])
    mends = [finding.mend for finding in findings(audit({"train": part}, CHUNKING))]
    assert "raise chunking.max_chunks (5 reads 99% of the tokens), or chunking.chunk_size" in mends


def test_unknown_tokens_and_fertility() -> None:
    part = split(0, 200)
    for number in range(20):
        part.documents[number].units[:2] = UNKNOWN
    result = audit({"train": part}, CHUNKING)
    assert result.splits[0].unknown_tokens == 40
    assert any("does not know 0.33% of the tokens" in line for line in lines(result, "warn"))
    for number in range(200):
        part.documents[number].units[:2] = UNKNOWN
    assert any("does not know" in line for line in lines(audit({"train": part}, CHUNKING), "fail"))
    halves = Planted([document(n, words=60, text="only a few words of it here") for n in range(200)])
    assert any("becomes 8.57 tokens" in line for line in lines(audit({"train": halves}, CHUNKING), "warn"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("too short", "very short"),
        ("12 34 56 78 90 12 34 56 78 90 12 34 56 78 90 12 34 56 78 90 + -", "few letters"),
        ("a" * 30 + " other words stand here as well", "one character repeated"),
        ("five words and then cafÃ© and dÃ©jÃ\xa0 vu", "wrong encoding"),
        ("five words and then a \ufffd sign", "wrong encoding"),
        ("itâ€™s five words and a dash â€” here", "wrong encoding"),
        ("five words and a NUL \x00 here", "control characters"),
        ("<p>five words<br>and some &amp; more</p> of them", "markup"),
    ],
)
def test_oddities(text: str, name: str) -> None:
    assert list(oddities(text, words=len(text.split()))) == [name]


@pytest.mark.parametrize(
    "text",
    [
        "an ordinary sentence with nothing to see in it, at all!",
        "ကျွန်ုပ်တို့သည် မြန်မာနိုင်ငံ၏ ရွှေတိဂုံစေတီတော်ကို လေ့လာခဲ့ကြသည်",
        "SÃO PAULO é uma cidade do Brasil, com muita gente",
        "a < b and b > c, R&D, <so> he said; 100 % of it",
        "これは日本語の文章です。長い文章でも問題ありません。文字はすべて文字として数えられます。",
        "emoji 😀 are fine 😀 among many ordinary words, and 𝒜 too",
        "a text that says <br> once, and no more than that",
        "line one\nline two\twith a tab\r\nline three",
    ],
)
def test_ordinary_text_is_not_odd(text: str) -> None:
    assert not list(oddities(text, words=10))


@pytest.mark.parametrize(("characters", "names"), [(39, []), (40, ["few letters"])])
def test_a_text_of_few_characters_is_not_judged_by_them(characters: int, names: list[str]) -> None:
    assert list(oddities(" ".join("1234567890" * 4)[: 2 * characters], words=10)) == names


def test_repetition_and_lack_of_text() -> None:
    runs, distinct = np.array([49, 100, 100, 100]), np.array([1, 29, 30, 100])
    assert repetitive(runs, distinct).tolist() == [False, True, False, False]
    assert list(oddities(None, words=4)) == ["very short"]
    part = split(0, 200)
    part.documents.append(document(5, text="la " * 60, id="song"))
    part.documents[-1].units[:] = 9
    assert audit({"data": part}, CHUNKING).splits[0].oddities == {
        "repetitive": ["song"],
        "one character repeated": ["song"],
    }


def test_empty_documents_and_no_documents() -> None:
    part = split(0, 200)
    part.empty = 3
    assert any("without text: 3" in line for line in lines(audit({"train": part}, CHUNKING), "warn"))
    with pytest.raises(DataError, match="no documents with text"):
        audit({"train": Planted()}, CHUNKING)


def test_words_have_no_chunks_and_no_unknown() -> None:
    part = split(0, 200)
    part.unit, part.unk_token_id = "words", None
    result = audit({"train": part}, CHUNKING)
    assert result.chunking is None and result.needed == []
    assert result.splits[0].unknown_tokens is None and result.splits[0].tokens_read is None
    assert not any("token" in finding.what for finding in findings(result))


@pytest.mark.parametrize("lengths", [[1], [5, 5], [1, 2, 3], [7, 8], [100, 1000, 100_000], [511, 512, 513]])
def test_every_length_has_a_bin(lengths: list[int]) -> None:
    edges = length_edges(np.array(lengths))
    assert (np.diff(edges) > 0).all()
    assert np.histogram(lengths, bins=edges)[0].sum() == len(lengths)
    assert edges[-1] > max(lengths)
