"""`provabgs run`: from a configuration to a finished catalog, again and again until it is complete."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from provabgs.catalog.layout import SUMMARY_NAME
from provabgs.catalog.summary import build_summary
from provabgs.core.atomic import atomic_path, sweep
from provabgs.core.messages import reason
from provabgs.core.status import Status
from provabgs.inference.fit import check_names
from provabgs.pipelines.clusters import open_cluster
from provabgs.pipelines.config import RunConfig
from provabgs.pipelines.dask_worker import StorageError
from provabgs.pipelines.driver import Driver
from provabgs.pipelines.inputs import check_module
from provabgs.pipelines.lock import DirectoryLock
from provabgs.pipelines.manifest import check_manifest
from provabgs.pipelines.plan import make_plan
from provabgs.pipelines.progress import Progress
from provabgs.pipelines.sharing import make_output
from provabgs.pipelines.stopping import orderly_stop

REPORT_NAME = "report.json"


@dataclass
class RunReport:
    """What a run did.

    Attributes
    ----------
    output
        Catalog directory.
    n_planned
        Rows that the inputs hold.
    n_catalog
        Rows in the catalog, those of earlier runs with other inputs included.
    n_fitted
        Rows fitted by this run.
    status
        Rows of the catalog by STATUS.
    unreadable
        Input files that could not be read, with reasons: their rows are not in the catalog.
    damaged
        Files of the catalog that were found damaged and made again.
    n_missing
        TARGETIDs of the target table that no input holds.
    wall_s
        Wall time, seconds.
    """

    output: str
    n_planned: int = 0
    n_catalog: int = 0
    n_fitted: int = 0
    status: dict[str, int] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    n_missing: int = 0
    wall_s: float = 0.0


def run(config: RunConfig, *, quiet: bool = False, announce: Callable[[str], None] = lambda _: None) -> RunReport:
    """Fit what the inputs hold and the catalog does not, then build the summary.

    May be stopped at any moment, in any way, and called again: finished batches are kept, and the catalog that results
    is the one an uninterrupted run makes.

    Parameters
    ----------
    config
        The run.
    quiet
        No progress line.
    announce
        Called with lines for people: the plan's size, the dashboard's address.

    Raises
    ------
    ConfigError, InputError
        For settings or inputs that cannot be used, and when another run is at work on the directory.
    StorageError, SchedulerLost, FitterError
        When the disk, the scheduler or the fit itself fails as a whole; the same command goes on from there.
    """
    start = time.monotonic()
    output = config.run.output
    check_module(config.run.fit, "[run] fit")  # a misspelt name should not wait for workers to be found out
    check_names(config.fit)
    make_output(config.run)
    with DirectoryLock(output), orderly_stop():
        check_manifest(config)
        sweep(output)
        plan = make_plan(config)
        announce(f"{len(plan)} rows in {len(plan.files)} files")
        report = RunReport(str(output), n_planned=len(plan), n_missing=plan.n_missing)
        report.unreadable = [(str(p), reason) for p, reason in plan.unreadable]
        progress = Progress(output, len(plan), quiet=quiet)
        if len(plan):
            tries = config.execution.worker_tries
            with progress, open_cluster(config.cluster, tries, output, progress.say) as client:
                announce(f"dashboard: {client.dashboard_link}")
                driver = Driver(client, config, plan, progress)
                driver.run()
                report.damaged = driver.damaged
            _finish(config, report)
        report.n_fitted = sum(progress.fitted.values())
        report.wall_s = time.monotonic() - start
        with atomic_path(output / REPORT_NAME) as temporary:
            temporary.write_text(json.dumps(asdict(report), indent=1))
        return report


def _finish(config: RunConfig, report: RunReport) -> None:
    """Build the summary and count its rows."""
    output = config.run.output
    try:
        report.n_catalog = build_summary(output, allow_mixed=config.run.allow_mixed)
    except OSError as error:
        raise StorageError(f"{output}: cannot write the summary ({reason(error)}); free space and run again") from None
    counted = pc.value_counts(pq.read_table(output / SUMMARY_NAME, columns=["STATUS"])["STATUS"]).to_pylist()
    counts = Counter({entry["values"]: entry["counts"] for entry in counted})
    report.status = {Status(code).name: n for code, n in sorted(counts.items())}


def load_report(output: str | Path) -> RunReport:
    """The report that the last finished run left in its directory."""
    return RunReport(**json.loads((Path(output) / REPORT_NAME).read_text()))
