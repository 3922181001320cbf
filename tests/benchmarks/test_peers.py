"""The pure parts of the comparison with other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.peer_workers.serve import Case, equity_row
from benchmarks.peers import EXACT, MARKERS, Comparison, Work, agree, between_markers, differences


def test_differences_are_relative_for_the_value_and_absolute_for_the_rest() -> None:
    ours = np.array([[100.0, 1.0, 0.2], [200.0, -1.0, 0.1]])
    theirs = np.array([[101.0, 1.0, 0.2], [200.0, -1.5, 0.125]])
    assert differences(ours, theirs) == pytest.approx((0.01, 0.5, 0.025))


def test_what_only_one_side_defines_never_agrees() -> None:
    ours, theirs = np.array([[100.0, np.nan, 0.0]]), np.array([[100.0, np.inf, 0.0]])
    assert agree(differences(ours, theirs), EXACT)
    theirs[0, 1] = 0.0
    assert not agree(differences(ours, theirs), (1e9, 1e9, 1e9))
    with pytest.raises(ValueError, match="shape"):
        differences(ours, theirs[:0])


def test_the_table_replaces_what_stands_between_the_markers() -> None:
    start, end = MARKERS
    text = f"before\n{start}\nold\n{end}\nafter\n"
    assert between_markers(text, "new\n") == f"before\n{start}\nnew\n{end}\nafter\n"
    for broken in ("no markers", f"{end}\n{start}", text + start):
        with pytest.raises(ValueError, match="expected one"):
            between_markers(broken, "new")


def test_the_readme_has_a_place_for_the_table() -> None:
    assert between_markers(peers.README.read_text(), "x") != ""


def test_a_row_says_what_a_peer_cannot_do_and_has_the_ratio_of_the_medians() -> None:
    row = Comparison(
        "w1", "b", "yes", 10, (1e-12, 0.0, 0.0), "a note", [1.0, 2.0, 9.0], [30.0, 40.0]
    )
    lines = peers.table([Comparison("w1", "a", "cannot do it"), row])
    assert lines[2].startswith("| a | cannot do it | ")
    assert lines[3].endswith("| 17.5x |")
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert lines[-1] == "- b: a note."


def test_a_peer_that_is_not_there_is_reported_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(peers.PeerError, match="make bench-peers"):
        peers.Worker(tmp_path, "raptorbt")
    (tmp_path / "raptorbt").mkdir()
    (tmp_path / "raptorbt" / "pip.txt").write_text("WARNING: x\nERROR: No matching distribution\n")
    with pytest.raises(peers.PeerError, match="No matching distribution"):
        peers.Worker(tmp_path, "raptorbt")


def test_all_in_is_all_in_by_a_slow_loop_over_the_workers_signals(tmp_path: Path) -> None:
    """Two symbols sharing cash, one bar at a time: purchases of a bar get equal parts of it."""
    work = Work("w", "", 2, (5, 60), (0.01, 0.05))
    bars = peers.make_bars(work)
    peers.write_case(work, bars, tmp_path / "w.npz")
    case = Case(tmp_path / "w.npz")
    entries, exits = (signal.reshape(-1, 4, 2) for signal in case.signals(0, 4))
    prices = case.close[case.first :]
    assert len(prices) == peers.N_BARS
    expected = []
    for i in range(4):
        cash, units, equity = case.cash, [0.0, 0.0], []
        for t, price in enumerate(prices):
            buys = [s for s in range(2) if entries[t, i, s] and units[s] == 0.0]
            sells = [s for s in range(2) if exits[t, i, s] and units[s] > 0.0]
            # Orders are sized before their costs are known.
            budget = cash + sum(units[s] * price[s] for s in sells)
            wanted = {s: budget / len(buys) / price[s] for s in buys}
            wanted = {s: lots for s, lots in wanted.items() if lots > case.min_size}
            for s in sells:
                cash += units[s] * price[s] * (1.0 - case.fees)
                units[s] = 0.0
            need = sum(lots * price[s] * (1.0 + case.fees) for s, lots in wanted.items())
            cut = min(1.0, cash / need) if wanted else 0.0
            for s, lots in wanted.items():
                units[s] = lots * cut
            cash -= need * cut
            equity.append(cash + units[0] * price[0] + units[1] * price[1])
        expected.append(equity_row(np.array(equity), case))
    ours, seconds = peers.sweep(work, bars)
    assert agree(differences(ours, np.array(expected)), EXACT)
    assert set(seconds) == {"features", "simulation"}
