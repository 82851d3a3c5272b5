"""Signals end a run in good order, whoever else gets them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from provabgs.pipelines.stopping import Stopped, exit_code, orderly_stop
from tests.integration.test_faults import Bench, assert_gone, descendants, fit_processes, wait_for, write_inputs


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 130)])
def test_a_terminal_signals_all_processes_of_a_run(tmp_path: Path, number: signal.Signals, code: int) -> None:
    write_inputs(tmp_path / "in", 40)
    bench = Bench(tmp_path / "bench", tmp_path / "in")
    (bench.faults / "held").touch()
    process = bench.start()
    wait_for(lambda: len(fit_processes(process)) == 2, limit=120)
    family = descendants(process)
    os.killpg(process.pid, number)
    os.killpg(process.pid, number)  # a nervous finger
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, out + err
    assert "stopped; finished batches are kept" in err
    assert_gone(family)


def test_only_the_first_signal_counts_and_handlers_return() -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGHUP)  # while the run stops
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped) as caught, orderly_stop():
        work()
    assert exit_code(caught.value) == 143
    assert exit_code(KeyboardInterrupt()) == 130
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with orderly_stop():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
