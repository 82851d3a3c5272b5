"""fit_one and fit_many: one galaxy's fate is its own, and what is wrong for all is raised."""

from __future__ import annotations

from dataclasses import replace
from multiprocessing import Pipe
from threading import Thread

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from provabgs.catalog.compare import block_differences
from provabgs.catalog.records import to_block
from provabgs.core.errors import ConfigError, DataFileError, InputError, MissingDependencyError, UnusableTargetError
from provabgs.core.status import Status
from provabgs.core.versions import versions
from provabgs.inference.config import FitConfig
from provabgs.inference.fit import Fitted, fit_many, fit_one
from provabgs.inference.posterior import Posterior, identity_of
from provabgs.observe.observation import Observation, Photometry
from provabgs.observe.target import TargetResult
from provabgs.pipelines.dry_run import fit_observation as dry_run
from provabgs.pipelines.process import portable

CONFIG = FitConfig(n_samples=50)


def galaxy(targetid: int = 5, **more: object) -> Observation:
    bands = Photometry(("decam2014-g", "decam2014-r"), [1.0 + targetid, 2.0], [4.0, 4.0])
    return Observation(0.1, (), bands, targetid=targetid, ra=12.5, dec=-3.0, zerr=1e-4, meta={"EBV": 0.02}, **more)  # type: ignore[arg-type]


def row(number: int, observation: Observation | None, note: str = "") -> TargetResult:
    status = None if observation else Status.REDSHIFT_WARNING
    found = TargetResult(100 + number, number, observation, status, note, ra=1.0, dec=2.0)
    return found.named("coadd-1.fits")


def raising(error: Exception):
    def fit(observation: Observation, config: FitConfig, seed: int) -> Posterior:
        raise error

    return fit


def assert_same(a: Posterior, b: Posterior) -> None:
    for name, value in vars(a).items():
        if name == "quality":
            np.testing.assert_equal(vars(b.quality), vars(value), err_msg=name)
        elif name != "diagnostics":
            np.testing.assert_equal(getattr(b, name), value, err_msg=name)


def test_a_row_says_where_it_came_from_and_what_to_mind() -> None:
    found = fit_one(row(3, galaxy(), "no photometry in W1"), CONFIG, 4, fit=dry_run)
    assert found.status == Status.CONVERGED
    assert found.meta == {"EBV": 0.02, "INPUT": "coadd-1.fits", "ROW": 3}
    assert found.message == "no photometry in W1"
    assert (found.seed, found.versions, found.data_hash) == (4, versions(), galaxy().digest())
    assert FitConfig.model_validate_json(found.config) == CONFIG


def test_an_observation_and_its_row_give_the_same_posterior() -> None:
    target = row(3, galaxy())
    assert target.observation is not None
    assert_same(fit_one(target.observation, CONFIG, 4, fit=dry_run), fit_one(target, CONFIG, 4, fit=dry_run))


def test_an_unread_row_keeps_its_place() -> None:
    found = fit_one(row(7, None, "ZWARN is 4"), CONFIG, 4, fit=raising(AssertionError()))
    assert (found.status, found.message, found.targetid) == (Status.REDSHIFT_WARNING, "ZWARN is 4", 107)
    assert (found.ra, found.dec, found.meta) == (1.0, 2.0, {"INPUT": "coadd-1.fits", "ROW": 7})
    assert (found.seed, found.versions, found.data_hash) == (4, versions(), "")
    assert FitConfig.model_validate_json(found.config) == CONFIG
    assert fit_one(TargetResult(1, 0, None, None, "gone"), CONFIG).status == Status.INPUT_ERROR


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ZeroDivisionError("one\ntwo"), Status.CRASHED, "ZeroDivisionError: one"),
        (MemoryError(), Status.CRASHED, "MemoryError: MemoryError"),
        (InputError("theta has shape (3,)"), Status.CRASHED, "InputError: theta has shape (3,)"),
        (UnusableTargetError("no filter", Status.BAD_DATA), Status.BAD_DATA, "no filter"),
    ],
)
def test_one_bad_galaxy_is_not_raised(error: Exception, status: Status, message: str) -> None:
    found = fit_one(row(3, galaxy(), "a note"), CONFIG, 4, fit=raising(error))
    assert (found.status, found.message) == (status, f"{message}; a note")
    assert found.samples.shape == (0, 13)
    expected = identity_of(galaxy()) | {"meta": {"EBV": 0.02, "INPUT": "coadd-1.fits", "ROW": 3}}
    assert {k: getattr(found, k) for k in expected} == expected
    assert (found.seed, found.versions) == (4, versions())
    assert FitConfig.model_validate_json(found.config) == CONFIG


@pytest.mark.parametrize(
    "error", [ConfigError("no such sampler"), DataFileError("lib.h5"), MissingDependencyError("x")]
)
def test_what_is_wrong_for_all_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        fit_one(galaxy(), CONFIG, fit=raising(error))
    with pytest.raises(type(error)):
        list(fit_many([galaxy()], CONFIG, fit=raising(error)))


def test_interrupts_pass() -> None:
    with pytest.raises(KeyboardInterrupt):
        fit_one(galaxy(), CONFIG, fit=raising(KeyboardInterrupt()))  # type: ignore[arg-type]


def test_many_in_any_order_are_each_alone() -> None:
    targets = [galaxy(1), row(1, None, "star"), row(2, galaxy(2)), galaxy(3)]
    forward = list(fit_many(targets, CONFIG, 9, fit=dry_run))
    backward = list(fit_many(targets[::-1], CONFIG, 9, fit=dry_run))[::-1]
    for target, one, other in zip(targets, forward, backward, strict=True):
        assert_same(one.posterior, other.posterior)
        assert_same(one.posterior, fit_one(target, CONFIG, 9, fit=dry_run))
    assert [f.observation is None for f in forward] == [False, True, False, False]


def test_many_is_lazy() -> None:
    seen: list[int] = []

    def targets():
        for k in range(3):
            seen.append(k)
            yield galaxy(k)

    fits = fit_many(targets(), CONFIG, fit=dry_run)
    assert isinstance(next(fits), Fitted)
    assert seen == [0]


def test_a_fit_of_ones_own_leaves_configuration_and_seed_to_the_road() -> None:
    """Rows that it fitted and rows that could not be read then say the same, and stand in one catalog."""

    def mine(observation: Observation, config: FitConfig, seed: int) -> Posterior:
        made = replace(dry_run(observation, config, seed), config='{"mine": 1}', versions={"mine": "2"}, seed=99)
        return replace(made, meta={"MINE": 2.5})

    found = fit_one(galaxy(), CONFIG, 4, fit=mine)
    unread = fit_one(row(1, None), CONFIG, 4, fit=mine)
    assert (found.config, found.versions, found.seed) == (unread.config, unread.versions, 4)
    assert found.meta == {"EBV": 0.02, "MINE": 2.5}


def test_a_fit_of_ones_own_that_returns_something_else() -> None:
    with pytest.raises(ConfigError, match="returned a dict; it must return a Posterior"):
        fit_one(galaxy(), CONFIG, fit=lambda *_: {})  # type: ignore[arg-type, return-value]


def test_posteriors_leave_the_fit_process() -> None:
    """Through a pipe, as plain data: properties' own functions may be anybody's."""
    made = fit_one(row(1, galaxy()), CONFIG, fit=dry_run)
    made = replace(made, properties=(replace(made.properties[0], compute=lambda state: state), *made.properties[1:]))
    receiving, sending = Pipe(duplex=False)
    Thread(target=sending.send, args=(portable(made),)).start()
    got = receiving.recv()
    assert_same(got, made)
    assert block_differences(to_block([got]), to_block([made])) == []


def test_no_target() -> None:
    with pytest.raises(InputError, match="takes an Observation"):
        fit_one("coadd.fits")  # type: ignore[arg-type]


def test_linear_algebra_of_a_fit_is_on_one_thread() -> None:
    """Threads that wait for each other took a third of a fit's processor time."""
    seen: list[int] = []

    def fit(observation: Observation, config: FitConfig, seed: int) -> Posterior:
        seen.extend(lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas")
        return Posterior.without_samples(Status.TIMED_OUT, "", config, seed)

    with threadpool_limits(limits=2, user_api="blas"):
        fit_one(galaxy(), fit=fit)
        after = [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]
    assert seen
    assert set(seen) == {1}
    assert set(after) == {2}
