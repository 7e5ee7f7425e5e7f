"""The finder of near duplicates, against Jaccard similarities counted one by one."""

from __future__ import annotations

import numpy as np

from textclf_transformer.data.near_duplicates import HASHES, RUN, SIMILAR, clusters, signatures, similar_pairs


def random_documents(
    generator: np.random.Generator, *, count: int, units: int, vocabulary: int
) -> list[np.ndarray]:
    """Documents whose words have about the frequencies of natural text."""
    lengths = generator.integers(units // 4, 2 * units, size=count)
    return [generator.zipf(1.3, size=length).clip(max=vocabulary) - 1 for length in lengths]


def edited(generator: np.random.Generator, document: np.ndarray, *, share: float) -> np.ndarray:
    """A copy in which a share of the words is replaced."""
    copy = document.copy()
    chosen = generator.random(len(copy)) < share
    copy[chosen] = generator.integers(0, 30_000, size=int(chosen.sum()))
    return copy


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    runs = []
    for document in (one, other):
        padded = [*document.tolist(), *[-1] * (RUN - 1)]
        runs.append({tuple(padded[place : place + RUN]) for place in range(len(document))})
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


def test_estimates_are_jaccard_similarities() -> None:
    generator = np.random.default_rng(0)
    document = random_documents(generator, count=1, units=400, vocabulary=5000)[0]
    copies = [edited(generator, document, share=share) for share in np.linspace(0.0, 0.4, 60)]
    marks, distinct = signatures([document, *copies])
    estimates = (marks[0] == marks[1:]).mean(axis=1)
    exact = np.array([jaccard(document, copy) for copy in copies])
    assert np.abs(estimates - exact).max() < 4 * 0.044
    assert abs((estimates - exact).mean()) < 0.02
    padded = [*document.tolist(), *[-1] * (RUN - 1)]
    assert distinct[0] == len({tuple(padded[i : i + RUN]) for i in range(len(document))})


def test_equal_documents_agree_whatever_their_neighbours() -> None:
    generator = np.random.default_rng(1)
    documents = random_documents(generator, count=50, units=300, vocabulary=1000)
    together, _ = signatures(documents)
    alone, _ = signatures(documents[30:31])
    assert (together[30] == alone[0]).all()
    large = [np.arange(200_000), np.arange(3), np.arange(200_000)]  # larger than what is hashed at once
    marks, _ = signatures(large)
    assert (marks[0] == marks[2]).all() and (marks[0] != marks[1]).any()


def test_planted_copies_are_found_and_nothing_else() -> None:
    generator = np.random.default_rng(2)
    documents = random_documents(generator, count=2000, units=200, vocabulary=20_000)
    originals = generator.choice(len(documents), size=200, replace=False)
    copies = [edited(generator, documents[place], share=0.05) for place in originals]
    marks, _ = signatures([*documents, *copies])
    pairs, similarity = similar_pairs(marks)
    found = set(map(tuple, pairs.tolist()))
    planted = {(int(place), len(documents) + number) for number, place in enumerate(originals)}
    long = {(a, b) for a, b in planted if len(documents[a]) >= 100}
    assert len(found & long) >= 0.95 * len(long)
    for one, other in found - planted:
        every = [*documents, *copies]
        assert jaccard(every[one], every[other]) > SIMILAR - 4 * 0.044
    assert (similarity >= SIMILAR).all() and (pairs[:, 0] < pairs[:, 1]).all()


def test_ten_thousand_documents() -> None:
    """The size that the audit promises: recall 95 % on 10,000 documents; the time stands in docs/audit.md."""
    generator = np.random.default_rng(3)
    documents = random_documents(generator, count=9_500, units=1_000, vocabulary=30_000)
    originals = generator.choice(len(documents), size=500, replace=False)
    marks, _ = signatures([*documents, *(edited(generator, documents[p], share=0.05) for p in originals)])
    found = set(map(tuple, similar_pairs(marks)[0].tolist()))
    planted = {(int(place), len(documents) + number) for number, place in enumerate(originals)}
    assert len(found & planted) >= 0.95 * len(planted)
    assert len(found - planted) <= 5


def test_short_and_no_documents() -> None:
    marks, distinct = signatures([np.array([7]), np.array([7]), np.array([8, 9])])
    pairs, similarity = similar_pairs(marks)
    assert pairs.tolist() == [[0, 1]] and similarity.tolist() == [1.0]
    assert distinct.tolist() == [1, 1, 2]
    empty, _ = signatures([])
    assert similar_pairs(empty)[0].shape == (0, 2)


def test_many_forms_of_one_template_become_one_cluster() -> None:
    generator = np.random.default_rng(4)
    template = generator.integers(0, 30_000, size=400)
    forms = [edited(generator, template, share=0.01) for _ in range(300)]
    marks, _ = signatures([*forms, generator.integers(0, 30_000, size=400)])
    pairs, _ = similar_pairs(marks)
    roots = clusters(pairs, count=301)
    same = np.zeros((300, HASHES), dtype=np.uint32)
    assert len(similar_pairs(same)[0]) == 299  # each with its neighbour, not each with each
    assert len(similar_pairs(same[:16])[0]) == 16 * 15 / 2
    assert (roots[:300] == 0).all() and roots[300] == 300


def test_clusters_follow_long_chains() -> None:
    chain = np.stack([np.arange(99)[::-1], np.arange(1, 100)[::-1]], axis=1)
    assert (clusters(chain, count=100) == 0).all()
    assert clusters(np.zeros((0, 2), dtype=np.int64), count=3).tolist() == [0, 1, 2]
