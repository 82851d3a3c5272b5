"""One batch job that holds everything: scheduler, workers on all of its nodes, and the run itself.

For machines that prefer one job of many nodes to many jobs of one node, and whose compute nodes must not call sbatch.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from dask.utils import parse_bytes

from provabgs.core.errors import ConfigError
from provabgs.core.threads import ONE_THREAD
from provabgs.pipelines.cluster_options import ClusterOptions, seconds_of
from provabgs.pipelines.clusters import CLUSTER_DIRECTORY, dask_environment
from provabgs.pipelines.config import RunConfig
from provabgs.pipelines.keys import CERTIFICATE_NAME, KEY_NAME

STOP_S = 120
"""Seconds before the end of the allocation at which the run is told to stop."""

_BODY = """\
set -u
mkdir -p {folder}/logs
{exports}
{prologue}
FOLDER={folder}
rm -f "$FOLDER/scheduler.json"
{python} -m provabgs.cli.main cluster keys "$FOLDER/keys" >"$FOLDER/logs/keys.log" || exit 2
export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True DASK_DISTRIBUTED__COMM__TLS__CA_FILE="$FOLDER/keys/{certificate}"
for ROLE in SCHEDULER WORKER CLIENT; do  # the options of `dask scheduler` do not go together with an interface
    export DASK_DISTRIBUTED__COMM__TLS__${{ROLE}}__CERT="$FOLDER/keys/{certificate}"
    export DASK_DISTRIBUTED__COMM__TLS__${{ROLE}}__KEY="$FOLDER/keys/{key}"
done

# scheduler here, workers on every node of the allocation, then the run; the last ends the others
{python} -m distributed.cli.dask_scheduler --scheduler-file "$FOLDER/scheduler.json" --protocol tls {interface} \\
    --port 0 --dashboard-address 127.0.0.1:0 >"$FOLDER/logs/scheduler-$SLURM_JOB_ID.log" 2>&1 &
SCHEDULER=$!
while [ ! -s "$FOLDER/scheduler.json" ] && kill -0 "$SCHEDULER"; do sleep 1; done
[ -s "$FOLDER/scheduler.json" ] || {{ echo "the scheduler does not start: $FOLDER/logs" >&2; exit 2; }}
srun --ntasks-per-node=1 --ntasks="$SLURM_JOB_NUM_NODES" --cpus-per-task={cores} --kill-on-bad-exit=0 \\
    {python} -m distributed.cli.dask_worker --scheduler-file "$FOLDER/scheduler.json" --protocol tls {interface} \\
    --nworkers {cores} --nthreads 1 --memory-limit 0 --no-dashboard --dashboard-address 127.0.0.1:0 \\
    --death-timeout 300 >"$FOLDER/logs/workers-$SLURM_JOB_ID.log" 2>&1 &
WORKERS=$!
{python} -m provabgs.cli.main run {config} --scheduler-file "$FOLDER/scheduler.json" --keys "$FOLDER/keys" &
RUN=$!
trap 'kill -TERM "$RUN"' TERM
wait "$RUN"; CODE=$?
while kill -0 "$RUN" 2>/dev/null; do wait "$RUN"; CODE=$?; done
kill "$WORKERS" "$SCHEDULER" 2>/dev/null
wait
rm -rf "$FOLDER/keys" "$FOLDER/scheduler.json"
[ "$CODE" = 143 ] && scontrol requeue "$SLURM_JOB_ID"  # time was up: the same job goes on
exit "$CODE"
"""


def allocation_script(config: RunConfig, path: Path, nodes: int) -> str:
    """A script for sbatch that carries out a run on `nodes` nodes, and requeues itself until the run is complete.

    Parameters
    ----------
    config
        The run; of its ``[cluster]`` table cores, memory, walltime, queue, account, job_name, interface, directives,
        prologue, python and log_directory are used.
    path
        Its TOML file.
    nodes
        Number of nodes.

    Raises
    ------
    ConfigError
        When ``[cluster] kind`` is not slurm, or the walltime leaves no time to stop in good order.
    """
    options = config.cluster
    if options.kind != "slurm":
        raise ConfigError(f"{path}: [cluster] kind = {options.kind!r}: scripts are written for 'slurm'")
    if seconds_of(options.walltime) <= 2 * STOP_S:
        raise ConfigError(f"{path}: [cluster] walltime = {options.walltime!r}: must be longer than {2 * STOP_S} s")
    folder = config.run.output.absolute() / CLUSTER_DIRECTORY
    exports = {**ONE_THREAD, **dask_environment()}
    exports["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = str(config.execution.worker_tries - 1)
    return (
        "\n".join(_header(options, folder, nodes))
        + "\n"
        + _BODY.format(
            folder=shlex.quote(str(folder)),
            exports="\n".join(f"export {k}={shlex.quote(v)}" for k, v in exports.items()),
            prologue="\n".join(options.prologue),
            python=options.python or shlex.quote(sys.executable),
            certificate=CERTIFICATE_NAME,
            key=KEY_NAME,
            interface=f"--interface {shlex.quote(options.interface)}" if options.interface else "",
            cores=options.cores,
            config=shlex.quote(str(path.absolute())),
        )
    )


def _header(options: ClusterOptions, folder: Path, nodes: int) -> list[str]:
    """Lines that sbatch reads."""
    minutes, seconds = divmod(int(seconds_of(options.walltime)), 60)
    logs = options.log_directory or folder / "logs"
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={options.job_name}",
        f"#SBATCH --nodes={nodes} --ntasks-per-node=1 --cpus-per-task={options.cores}",
        f"#SBATCH --time={minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}",
        f"#SBATCH --signal=B:TERM@{STOP_S}",
        "#SBATCH --requeue --open-mode=append",
        f"#SBATCH --output={logs.absolute()}/{options.job_name}-%j.out",
    ]
    lines += [f"#SBATCH --mem={parse_bytes(options.memory) // 2**20}M"]
    lines += [f"#SBATCH --partition={options.queue}"] if options.queue else []
    lines += [f"#SBATCH --account={options.account}"] if options.account else []
    return [*lines, *(f"#SBATCH {d}" for d in options.directives)]
