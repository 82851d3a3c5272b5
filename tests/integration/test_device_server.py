"""A device server on this machine's processor: answers, isolation, and what becomes of fits when it goes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from provabgs.core.jax import jax
from provabgs.core.status import Status
from provabgs.inference.backends import make_likelihood, model_for
from provabgs.inference.config import FitConfig
from provabgs.inference.device.client import UNSERVED, VARIABLE, serve
from provabgs.inference.device.evaluations import evaluation
from provabgs.inference.device.messages import ROWS, Close, Common, Evaluate, Open, Refusal, Request
from provabgs.inference.device.server import Evaluator, Options
from provabgs.inference.fit import fit_one
from provabgs.inference.fit_observation import prior_of
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.likelihood.base import LinearSystem
from provabgs.inference.marginalised import marginalise, share_of
from provabgs.inference.priors import Prior
from provabgs.observe.as_configured import as_configured
from provabgs.observe.observation import Observation
from provabgs.observe.projection import project
from provabgs.observe.spectrum_fraction import with_spectrum_fraction
from studies.support.prior_galaxies import simulate

CONFIG = FitConfig.model_validate({"use": "photometry", "sampler": {"rhat": 1.05, "ess": 100, "aim_eval": 0}})


def galaxy(seed: int) -> Observation:
    return simulate(seed, "honest")[0]


def system_of(seed: int) -> tuple[LinearSystem, Prior, np.ndarray]:
    observation = galaxy(seed)
    fitted, _ = with_spectrum_fraction(as_configured(observation.part(CONFIG.use), CONFIG.observing))
    model = model_for(CONFIG.model, fitted)
    exact = ExactLikelihood(project(fitted, model.library, CONFIG.observing), model)
    system = make_likelihood(exact, CONFIG).linear_system
    assert system is not None
    return system, prior_of(exact, fitted, CONFIG), np.asarray(exact.tables.weight)


def opened(evaluator: Evaluator, seed: int) -> int | Refusal:
    system, prior, weight = system_of(seed)
    assert system.recipe is not None
    share = share_of(model_for(CONFIG.model, galaxy(seed)).linear_block, weight)
    arrays = jax.tree.map(np.asarray, (system.data, Common(prior, share)))
    return evaluator.open(Open(system.recipe, *arrays))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    command = [sys.executable, "-m", "provabgs.inference.device.server", "--width", "2", "--galaxies", "4"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        address = process.stdout.readline().strip()
        yield address
        folder = Path(address.rpartition(":")[0]).parent
        assert folder.is_dir()
        process.stdin.close()
        assert process.wait(30) == 0
        assert not folder.exists()


def test_a_served_fit_is_the_fit(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = fit_one(galaxy(102), CONFIG, 1)
    monkeypatch.setenv(VARIABLE, address)
    served = fit_one(galaxy(102), CONFIG, 1)
    assert served.diagnostics.n_eval == alone.diagnostics.n_eval
    np.testing.assert_allclose(served.samples, alone.samples, rtol=1e-4, atol=1e-4)


def test_numbers_do_not_depend_on_the_others_in_a_call() -> None:
    """Bits of one galaxy, alone in its call and with two others that wait at the same time."""
    evaluator = Evaluator(Options(width=2, galaxies=4))
    numbers = [opened(evaluator, seed) for seed in (102, 103, 104)]
    rows = [np.random.default_rng(k).standard_normal((ROWS, 8)) for k in range(3)]
    alone = evaluator.evaluate(Evaluate(numbers[0], "marginal", False, (rows[0],)))
    found: dict[int, tuple] = {}

    def ask(k: int) -> None:
        found[k] = evaluator.evaluate(Evaluate(numbers[k], "marginal", False, (rows[k],)))

    for _ in range(3):
        threads = [threading.Thread(target=ask, args=(k,)) for k in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        np.testing.assert_array_equal(found[0][0], alone[0])
        assert not np.array_equal(found[1][0], alone[0])
    assert evaluator.counters().padding >= ROWS


def test_every_kind_is_what_the_process_itself_computes() -> None:
    evaluator = Evaluator(Options(width=2, galaxies=2))
    number = opened(evaluator, 102)
    system, prior, weight = system_of(102)
    block = model_for(CONFIG.model, galaxy(102)).linear_block
    own = marginalise(system, block, prior, weight)
    rng = np.random.default_rng(3)
    outer, uniforms = rng.standard_normal((ROWS, own.n_outer)), rng.random((ROWS, 6, own.n_uniform))
    (marginal,) = evaluator.evaluate(Evaluate(number, "marginal", False, (outer,)))
    np.testing.assert_allclose(marginal, own.log_marginal(outer), rtol=1e-5, atol=1e-3)
    latent, target = evaluator.evaluate(Evaluate(number, "linear", False, (outer, uniforms)))
    expected = own.draw_linear(outer, uniforms)
    assert np.mean(np.abs(latent - expected[0]) > 1e-3) < 0.01  # one of six draws is picked: ties may go either way
    np.testing.assert_allclose(target, expected[1], rtol=1e-4, atol=1e-2)


def test_rows_of_two_shapes_wait_side_by_side() -> None:
    """Learnt priors ask for one draw of the masses where others ask for six."""
    evaluator = Evaluator(Options(width=2, galaxies=2))
    numbers, rng, found = [opened(evaluator, seed) for seed in (102, 103)], np.random.default_rng(4), {}
    outer = rng.standard_normal((ROWS, 8))

    def ask(k: int, n: int) -> None:
        found[k] = evaluator.evaluate(Evaluate(numbers[k], "linear", False, (outer, rng.random((ROWS, n, 5)))))

    threads = [threading.Thread(target=ask, args=pair) for pair in ((0, 1), (1, 6))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(isinstance(answer, tuple) and answer[1].shape == (ROWS,) for answer in found.values())


def test_a_full_server_refuses_and_room_comes_back() -> None:
    evaluator = Evaluator(Options(width=2, galaxies=1))
    first = opened(evaluator, 102)
    assert isinstance(opened(evaluator, 103), Refusal)
    evaluator.close(first)
    assert isinstance(opened(evaluator, 103), int)
    assert isinstance(evaluator.evaluate(Evaluate(first, "marginal", False, (np.zeros((ROWS, 8)),))), Refusal)


def test_what_cannot_be_evaluated_is_refused_not_fatal() -> None:
    evaluator = Evaluator(Options(width=1, galaxies=2))
    number = opened(evaluator, 102)
    refused = evaluator.evaluate(Evaluate(number, "marginal", False, (np.zeros((ROWS, 3)),)))
    assert isinstance(refused, Refusal)
    good = evaluator.evaluate(Evaluate(number, "marginal", False, (np.zeros((ROWS, 8)),)))
    assert np.isfinite(good[0]).all()


@pytest.mark.parametrize("address_of", ["{folder}/nothing:00", "{folder}:zz", "no address"])
def test_without_a_server_fits_go_on(address_of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, address_of.format(folder=tmp_path))
    assert fit_one(galaxy(102), CONFIG, 1).status == Status.CONVERGED


def test_a_server_that_dies_leaves_fits_that_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "provabgs.inference.device.server", "--width", "1", "--galaxies", "2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        monkeypatch.setenv(VARIABLE, process.stdout.readline().strip())
        system, prior, weight = system_of(102)
        block = model_for(CONFIG.model, galaxy(102)).linear_block
        served = serve(system, prior, share_of(block, weight))
        assert served is not UNSERVED
        target = marginalise(system, block, prior, weight, served)
        x = np.random.default_rng(0).standard_normal((ROWS, target.n_outer))
        before = target.log_marginal(x)
        process.kill()
    np.testing.assert_allclose(target.log_marginal(x), before, rtol=1e-5, atol=1e-3)
    assert serve(system, prior, share_of(block, weight)) is UNSERVED


def test_a_wrong_key_is_not_let_in(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _, key = address.rpartition(":")
    monkeypatch.setenv(VARIABLE, f"{path}:{'0' * len(key)}")
    system, prior, weight = system_of(102)
    assert serve(system, prior, share_of(model_for(CONFIG.model, galaxy(102)).linear_block, weight)) is UNSERVED
    assert Path(path).stat().st_mode & 0o077 == 0


def test_a_command_beside_a_server() -> None:
    ask = f"import os, sys; print(os.path.exists(os.environ['{VARIABLE}'].split(':')[0])); sys.exit(3)"
    command = [sys.executable, "-m", "provabgs.cli.main", "cluster", "serve", "--width", "1", sys.executable, "-c", ask]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (3, "True")


def test_evaluations_are_made_once() -> None:
    system, _, _ = system_of(102)
    assert system.recipe is not None
    request = Request(system.recipe, "marginal", False)
    assert evaluation(request) is evaluation(Request(*request))
    assert Close(1).galaxy == 1
