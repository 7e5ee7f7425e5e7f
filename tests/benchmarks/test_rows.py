"""Each benchmark from end to end at a toy size, in this process; equal numbers on both sides."""

from __future__ import annotations

import functools

import pytest
import torch

from benchmarks import __main__ as program
from benchmarks import page
from benchmarks.document_peer import Theirs
from benchmarks.document_work import DocumentWork
from benchmarks.exactness import compare_curves, compare_gradients, largest_difference, training_curve
from benchmarks.frozen_base import FrozenEpoch, HeadTraining, compare_with_uncached
from benchmarks.growth import Loading, StoreWork
from benchmarks.harness import comparison, difference, take_turn
from benchmarks.long_documents import our_side as our_documents
from benchmarks.mlm import MlmWork, TheirMlm
from benchmarks.mlm import our_side as our_mlm
from benchmarks.peers import Peer, training_peers
from benchmarks.preparing import OurPreparing, TextWork, TheirEncoding, write_corpus
from benchmarks.rows import SUITES, Row, lognormal_documents
from benchmarks.workloads import ROBERTA, TEMPLATE, TOY, document_lengths, normal_lengths
from textclf_transformer.data.store_format import TOKENS
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.training import numerics

pytest.importorskip("transformers")

CPU = torch.device("cpu")
PEERS = (
    Peer("naive", ROBERTA, rows=2),
    Peer("strong", TEMPLATE, rows=2),
    Peer("strong", TEMPLATE, attention="eager", rows=2),
)


def both_run_and_agree(ours, theirs) -> None:
    expected = ours.check()
    assert difference(expected, theirs.check()) < 1e-5
    for side in (ours, theirs):
        side.run()


@pytest.mark.parametrize("peer", PEERS, ids=str)
def test_mlm_steps_start_from_the_same_loss_and_change_the_weights(peer: Peer) -> None:
    work = MlmWork(TOY, tuple(normal_lengths(5, mean=20, deviation=8, most=32)), CPU)
    ours, theirs = our_mlm(work, peer.our_dropouts), TheirMlm(work, peer)
    before = ours.check()
    both_run_and_agree(ours, theirs)
    # One step at the same small learning rate leads both to nearly the same place.
    assert ours.check() != before
    assert difference(ours.check(), theirs.check()) < 1e-3


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("peer", PEERS, ids=str)
def test_long_documents_agree(peer: Peer, training: bool) -> None:
    lengths = document_lengths([3, 1, 20, 2], chunk_size=TOY.length)
    work = DocumentWork(TOY, tuple(lengths), CPU, training=training)
    assert work.facts()["chunks"] == 26
    both_run_and_agree(our_documents(work, peer.our_dropouts), Theirs(work, peer))


def test_strong_groups_by_length_and_naive_pads_to_the_longest() -> None:
    naive, strong, _ = PEERS
    assert strong.groups([3, 9, 5]) == [[1, 2], [0]]
    assert naive.groups([3, 9, 5]) == [[0, 1], [2]]
    assert (naive.width([3, 5], 32), strong.width([3, 5], 32)) == (32, 5)


def test_our_dropout_is_the_templates_beside_naive_and_equal_beside_strong() -> None:
    peers = training_peers(compiled=False)
    assert peers["naive"].our_dropouts == TEMPLATE
    assert peers["strong, dropout 0.1"].our_dropouts == ROBERTA
    assert peers["strong, our dropout"].our_dropouts == TEMPLATE


def test_fast_and_plain_gradients_agree_and_a_wrong_one_is_seen() -> None:
    rows = compare_gradients(TOY, (32, 20, 9))
    assert len(rows) == 4
    for _, _, loss, gradients, bound in rows:
        assert float(loss) <= float(bound)
        assert float(gradients) <= float(bound)
    one = {"a": torch.tensor([1.0, 4.0])}
    assert largest_difference(one, {"a": torch.tensor([1.0, 5.0])}) == pytest.approx(0.2)


def test_a_curve_in_bf16_is_put_beside_the_spread_of_seeds() -> None:
    rows = compare_curves(steps=6, seeds=2)
    assert [row[0] for row in rows] == ["1–2", "3–4", "5–6"]
    assert all(0 <= float(row[4]) < 1 for row in rows)
    assert training_curve(seed=1, steps=20, amp_dtype=None)[-1] < 5.6  # ln 300 is 5.70


def test_later_epochs_of_a_frozen_encoder_encode_nothing_and_learn_the_same(monkeypatch) -> None:
    lengths = document_lengths([3, 1, 5, 2], chunk_size=TOY.length)
    work = DocumentWork(TOY, tuple(lengths), CPU, training=True)
    by_losses, by_weights, of_largest = compare_with_uncached(work, samples_per_step=2)
    assert by_losses < 1e-6
    assert by_weights < 1e-6
    assert of_largest < 1e-5
    first, later = (FrozenEpoch(work, samples_per_step=2, first=first) for first in (True, False))
    encoded, encode = [], RobertaModel.encode

    def counting(self, input_ids, *arguments, **options):
        encoded.append(len(input_ids))
        return encode(self, input_ids, *arguments, **options)

    monkeypatch.setattr(RobertaModel, "encode", counting)
    first.run()
    assert sum(encoded) == 11
    later.run()
    assert sum(encoded) == 11
    training = HeadTraining(work, samples_per_step=2, amp_dtype=None)
    before = training.head()
    assert len(training.train(0)) == 2
    assert largest_difference(training.head(), before) > 1e-4
    assert sum(encoded) == 22


def test_the_title_of_a_row_counts_its_documents() -> None:
    assert lognormal_documents(TOY, 1, CPU, training=True)[1] == "1 document of 8 chunks"
    assert lognormal_documents(TOY, 4, CPU, training=True)[1].startswith("4 documents of ")


def test_preparing_and_encode_batch_give_the_same_tokens(tmp_path) -> None:
    write_corpus(tmp_path, characters=60_000)
    for keep_text in (True, False):
        work = TextWork(tmp_path, keep_text)
        both_run_and_agree(OurPreparing(work), TheirEncoding(work))


def test_loading_is_measured_on_a_store_of_the_wanted_size(tmp_path) -> None:
    work = StoreWork(tmp_path / "store", TOY.vocab_size)
    work.write(megabytes=0.1)
    assert (tmp_path / "store" / TOKENS).stat().st_size == 100_000
    loading = Loading(work)
    loading.run()
    start, step, _ = loading.check()
    assert 0 < step < 10
    assert 0 < start < 10


def toy_result() -> dict[str, object]:
    works = (functools.partial(sum, range(count)) for count in (10_000, 100_000))
    fast, slow = (take_turn(work, CPU, seconds=0.0) for work in works)
    compared = {
        "peer": "naive",
        "our_dropout": "none",
        "their_dropout": "none",
        "difference": 1e-7,
        **comparison([fast], [slow]),
    }
    return {"tokens": 100, "flops": 1e6, "documents": 4, "comparisons": {"naive": compared}}


def test_rows_are_measured_once_and_put_on_the_page(tmp_path, monkeypatch, capsys) -> None:
    calls = []

    def measure() -> dict[str, object]:
        calls.append(1)
        return toy_result()

    def fail() -> dict[str, object]:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(program, "code_commit", lambda: "abc")
    monkeypatch.setattr(program, "describe_machine", lambda device: MACHINE)
    rows = [Row("bad", "Fails", CPU, fail), Row("toy", "A toy", CPU, measure, {"naive": (2, 3)})]
    folder = tmp_path / "small"
    for fresh in (False, False, True):
        assert program.measure_rows(rows, folder, fresh=fresh) == 1
    assert len(calls) == 2
    assert "failed: bad" in capsys.readouterr().err

    results = page.read_results(folder)
    monkeypatch.setattr(page, "PAGE", tmp_path / "performance.md")
    order = {"On a CPU": ["A toy", "Other", "Never"], "On a GPU": ["Row"]}
    kept = "### Other\n\nmeasured elsewhere\n"
    before = f"## On a CPU\n\n### A toy\n\nold\n\n{kept}\n### Gone\n\nold\n"
    page.PAGE.write_text(f"before\n{page.START}\n\n{before}\n{page.END}\nafter\n")
    page.write_page({"On a CPU": {"A toy": results["toy"]}}, order)
    text = page.PAGE.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "2× / 3×" in text
    assert kept in text
    assert text.count("Not measured.") == 2
    page.write_page({}, order)
    assert page.PAGE.read_text() == text


def test_shares_and_ratios_asked_for_are_of_bf16_where_the_hardware_has_it() -> None:
    row = {"title": "A toy", "wanted": {"naive": (2, 3)}, **toy_result(), "flops": 1e9}
    lines = {
        has_bf16: page.section({**row, "machine": {**MACHINE, "multiplies_bf16": has_bf16}})[4].split(" | ")
        for has_bf16 in (True, False)
    }
    ours = {has_bf16: float(cells[6].split("%")[0]) for has_bf16, cells in lines.items()}
    assert ours[False] == pytest.approx(10 * ours[True], rel=0.01)  # of a tenth of the rate
    assert lines[True][5] == "2× / 3×" and not lines[False][5]


def test_the_strong_peer_has_our_number_format(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_bf16, expected in ((True, torch.bfloat16), (False, None)):
        monkeypatch.setattr(numerics, "cpu_has_bf16", lambda has_bf16=has_bf16: has_bf16)
        assert [peer.amp_dtype(CPU) for peer in PEERS] == [None, expected, expected]


MACHINE = {
    "hardware": "2 cores",
    "versions": {"torch": "2"},
    "python": "3",
    "threads": 2,
    "commit": "abc",
    "date": "today",
    "load": None,
    "multiplies_bf16": True,
    "gemm_bf16": 1e12,
    "gemm_fp32": 1e11,
}


def test_without_a_gpu_the_gpu_suite_says_so(monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert program.main(["gpu"]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_names_of_rows_are_unique() -> None:
    for rows in SUITES.values():
        assert len({row.name for row in rows}) == len(rows)
