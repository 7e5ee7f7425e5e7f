import math

import pytest
from scipy import stats

from benchmarks.poolings_and_freezing import FREEZING, SEEDS, TABLES, interval, run_name, verdict
from textclf_transformer.config.overrides import parse_overrides


def test_the_interval_is_that_of_students_t() -> None:
    for scores in ([80.0, 83.0], [80.0, 83.0, 81.5]):
        expected = stats.t.interval(
            0.95, len(scores) - 1, loc=sum(scores) / len(scores), scale=stats.sem(scores)
        )
        assert interval(scores) == pytest.approx(expected, rel=1e-4)
    assert interval([80.0]) == (-math.inf, math.inf)


def test_a_choice_is_recommended_only_where_intervals_separate() -> None:
    high, middle, low = [90.0, 90.1, 90.2], [89.9, 90.0, 90.1], [70.0, 70.1, 70.2]
    assert verdict({"a": low, "b": high}) == "Recommended: b. Its interval lies above all others."
    mixed = verdict({"a": low, "b": high, "c": middle})
    assert mixed.startswith("Nothing is recommended") and "above a, and" in mixed
    assert "above no other" in verdict({"b": high, "c": middle})
    assert "Not all seeds" in verdict({"a": low, "b": high[:2]})


def test_the_tables_share_one_row_and_no_other() -> None:
    names = [
        run_name(table, number, seed)
        for seed in SEEDS
        for table in TABLES
        for number in range(len(TABLES[table]))
    ]
    assert len(names) == 3 * 15 and len(set(names)) == 3 * (15 - 2)
    assert next(iter(TABLES["pooling"].values()))["classification_head.pooling"] == "attention"
    assert next(iter(FREEZING.values())) is None


def test_every_row_can_be_given_on_the_command_line() -> None:
    for rows in TABLES.values():
        for row in rows.values():
            assert parse_overrides([f"{key}={value}" for key, value in row.items()], "finetuning")[1] == []
