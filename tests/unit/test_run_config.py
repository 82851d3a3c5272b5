"""Run configurations: errors name the key and what it may be; the template is a valid file."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from provabgs.cli.run import config_app, run_command
from provabgs.core.errors import ConfigError
from provabgs.pipelines.cluster_options import ClusterOptions, seconds_of
from provabgs.pipelines.clusters import dask_environment, log_directory
from provabgs.pipelines.config import RunConfig, load_config, parse_config, template
from provabgs.pipelines.job_script import job_arguments, job_script
from provabgs.pipelines.keys import write_pair
from provabgs.pipelines.supervisor import fit_environment

GOOD = {"run": {"output": "out"}, "inputs": {"paths": ["in"]}}


def with_value(section: str, key: str, value: object) -> dict[str, object]:
    return {**GOOD, section: {**GOOD.get(section, {}), key: value}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"inputs": {"paths": []}}, r"\[run\] is required"),
        ({"run": {}, "inputs": {"paths": []}}, r"\[run\] output is required \(directory of the catalog"),
        (with_value("cluster", "kind", "slrum"), r"\[cluster\] kind = 'slrum': .*'local', 'slurm', 'pbs', 'lsf'"),
        (with_value("execution", "bacth", 3), r"\[execution\] bacth is no key; did you mean batch\?"),
        (with_value("execution", "batch", 0), r"\[execution\] batch = 0: .*greater than or equal to 1"),
        (with_value("store", "encoding", "f16"), r"\[store\] encoding = 'f16': .*'uint16' or 'float32'"),
        (with_value("run", "retry", ["LOST"]), r"\[run\] retry = .*'LOST' is no STATUS; allowed: CONVERGED"),
        (with_value("fit", "engin", "exact"), r"\[fit\] engin is no key; did you mean engine\?"),
        ({**GOOD, "fit": {"sampler": {"rhat": 0.5}}}, r"\[fit\] sampler.rhat = 0.5: .*greater than 1"),
        ({**GOOD, "storage": {}}, r"\[storage\] is no key; did you mean store\?"),
    ],
)
def test_errors_name_key_and_remedy(data: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_config(data, "my.toml")
    assert str(caught.value).startswith("my.toml: ")
    assert "\n" not in str(caught.value)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    with pytest.raises(ConfigError, match="provabgs config init"):
        load_config(path)
    path.write_text("run = [")
    with pytest.raises(ConfigError, match="not a TOML file"):
        load_config(path)
    path.write_text('[run]\noutput = "out"\n[inputs]\npaths = ["in", "/abs"]\ntargets = "t.fits"\n')
    config = load_config(path)
    assert config.run.output == tmp_path / "out"
    assert config.inputs.paths == (str(tmp_path / "in"), "/abs")
    assert config.inputs.targets == tmp_path / "t.fits"


def test_template_is_valid_and_says_every_default() -> None:
    text = template()
    assert RunConfig.model_validate(tomllib.loads(text)) == parse_config(
        {"run": {"output": "catalog"}, "inputs": {"paths": ["coadds/"]}}
    )
    uncommented = []
    for line in text.splitlines():
        bare = line.removeprefix("# ")
        uncommented.append(line if line.startswith("[") or " = " not in bare else bare)
    data = tomllib.loads("\n".join(uncommented))
    for section, model in RunConfig.model_fields.items():
        assert set(data[section]) == set(model.annotation.model_fields), section  # type: ignore[union-attr]


def test_config_commands(tmp_path: Path) -> None:
    app = typer.Typer()
    app.add_typer(config_app, name="config")
    app.command("run")(run_command)
    path = tmp_path / "a.toml"
    assert CliRunner().invoke(app, ["config", "init", str(path)]).exit_code == 0
    again = CliRunner().invoke(app, ["config", "init", str(path)])
    assert isinstance(again.exception, ConfigError)
    assert '"batch": 16' in CliRunner().invoke(app, ["config", "check", str(path)]).output


def test_batch_system_jobs_carry_limits_keys_and_settings(tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    options = ClusterOptions(
        kind="slurm", account="desi", queue="regular", lifetime="230m", directives=("--constraint=cpu",), cores=64,
        walltime="4h", interface="lo", job_name="bgs", python="shifter python",
    )  # fmt: skip
    keys = write_pair(tmp_path / "my keys")
    script = job_script(options, "tls://x:1", "job-3", tmp_path / "logs", keys, dask_environment())
    for piece in ("-A desi", "-p regular", "--constraint=cpu", "-t 04:00:00", "-J bgs",
                  f"-o {tmp_path}/logs/bgs-%J.out",
                  "export OMP_NUM_THREADS='1'", "export DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE='False'",
                  "--lifetime '13800 s'", "--lifetime-stagger '480 s'", "--nworkers 64", "--nthreads 1",
                  "--name job-3", "shifter python -m ", "--interface lo", "--no-dashboard",
                  f"--tls-key '{tmp_path}/my keys/key.pem'"):  # fmt: skip
        assert piece in script, script
    assert script.index("--memory-limit 0") > script.index("--memory-limit 3")  # the last one counts
    assert (tmp_path / "my keys" / "key.pem").read_text() not in script
    lsf = job_arguments(options.model_copy(update={"kind": "lsf"}), tmp_path, keys, {})
    assert (lsf["project"], lsf["walltime"]) == ("desi", "04:00")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"memory": "2 gigs"}, r"\[cluster\] memory = '2 gigs': must be a number and a unit: '230GB'"),
        ({"memory": "230"}, r"\[cluster\] memory = '230': must be a number and a unit"),
        ({"walltime": "220"}, r"\[cluster\] walltime = '220': must be hours:minutes:seconds"),
        ({"walltime": "00:00:00"}, r"\[cluster\] walltime = '00:00:00': must be longer than 0 s"),
        ({"lifetime": "soon"}, r"\[cluster\] lifetime = 'soon': must be"),
        ({"kind": "slurm", "lifetime": "4h"}, r"\[cluster\] lifetime = '4h' .* reach beyond walltime = '04:00:00'"),
        ({"workers": 8, "max_workers": 4}, r"\[cluster\] max_workers = 4 is less than workers = 8"),
        ({"job_name": "a b"}, r"\[cluster\] job_name = 'a b'"),
        ({"kind": "address"}, r"\[cluster\] kind = 'address' needs the scheduler's address"),
        (
            {"kind": "address", "address": "tcp://a:1"},
            r"'tcp://a:1' is not encrypted, .*`provabgs cluster keys",
        ),
        ({"kind": "address", "address": "tls://a:1"}, r"\[cluster\] keys is required"),
    ],
)
def test_clusters_are_checked_with_the_configuration(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({**GOOD, "cluster": table})


def test_log_folders_that_no_job_header_can_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[cluster\] log_directory = .*my out.* no blanks"):
        log_directory(ClusterOptions(kind="slurm"), tmp_path / "my out")
    assert log_directory(ClusterOptions(kind="slurm"), tmp_path / "out").is_dir()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("04:00:00", 14400), ("1-12:00:00", 129600), ("220m", 13200), ("4h", 14400), ("90 s", 90), ("2 days", 172800)],
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


def test_fit_processes_keep_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")  # as Dask's nannies set it for their workers
    environment = fit_environment()
    # glibc stops adapting both as soon as one is set
    assert int(environment["MALLOC_TRIM_THRESHOLD_"]) >= 32 << 20
    assert int(environment["MALLOC_MMAP_THRESHOLD_"]) >= 32 << 20
    assert environment["OMP_NUM_THREADS"] == "1"
