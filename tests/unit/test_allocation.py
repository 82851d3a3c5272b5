"""One Slurm job for everything: the script is valid shell, carries the settings, and refuses what it cannot do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import typer
from astropy.table import Table
from typer.testing import CliRunner

from provabgs.cli.cluster import cluster_app
from provabgs.core.errors import ConfigError, InputError
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.pipelines.allocation import allocation_script
from provabgs.pipelines.config import RunConfig, parse_config
from provabgs.pipelines.supervisor import Batch, FitProcess
from provabgs.pipelines.warmup import warm_up
from tests.integration.test_faults import write_inputs


def config(folder: Path, **cluster: object) -> RunConfig:
    table = {"kind": "slurm", "cores": 64, "memory": "120GiB", "account": "desi", "queue": "regular", **cluster}
    return parse_config({"run": {"output": str(folder / "my out")}, "inputs": {"paths": ["in"]}, "cluster": table})


def test_script_is_shell_and_carries_the_settings(tmp_path: Path) -> None:
    made = config(tmp_path, interface="hsn0", directives=["--constraint=cpu"], prologue=["module load python"])
    script = allocation_script(made, tmp_path / "my run.toml", 3)
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for piece in ("#SBATCH --nodes=3 --ntasks-per-node=1 --cpus-per-task=64", "#SBATCH --time=04:00:00",
                  "#SBATCH --mem=122880M", "#SBATCH --account=desi", "#SBATCH --constraint=cpu", "--nworkers 64",
                  "--interface hsn0", "module load python", "export OMP_NUM_THREADS=1",
                  "export DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=9", f"'{tmp_path}/my run.toml'"):  # fmt: skip
        assert piece in script, piece


def test_what_cannot_be_scripted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="written for 'slurm'"):
        allocation_script(config(tmp_path, kind="local"), tmp_path / "r.toml", 1)
    with pytest.raises(ConfigError, match=r"walltime = '4m': must be longer than 240 s"):
        allocation_script(config(tmp_path, walltime="4m"), tmp_path / "r.toml", 1)


def test_commands(tmp_path: Path) -> None:
    app = typer.Typer()
    app.add_typer(cluster_app, name="cluster")
    (tmp_path / "r.toml").write_text('[run]\noutput = "out"\n[inputs]\npaths = ["in"]\n[cluster]\nkind = "slurm"\n')
    job = tmp_path / "job.sh"
    done = CliRunner().invoke(app, ["cluster", "script", str(tmp_path / "r.toml"), "--nodes", "2", "-o", str(job)])
    assert done.exit_code == 0, done.output
    assert "--nodes=2" in job.read_text()
    done = CliRunner().invoke(app, ["cluster", "keys", str(tmp_path / "keys")])
    assert done.exit_code == 0
    assert f"--tls-key {tmp_path}/keys/key.pem" in done.output


def test_a_warm_up_fits_the_first_galaxy_that_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_inputs(tmp_path / "in", 12)
    data = {
        "run": {"output": str(tmp_path / "out"), "fit": "provabgs.pipelines.dry_run:fit_observation"},
        "inputs": {"paths": [str(tmp_path / "in")], "reader": "photometry"},
    }
    assert re.fullmatch(r"TARGETID 100001 of t0.fits: \d+ s", warm_up(parse_config(data)))  # row 0 has no redshift
    asked = []

    def fit(self: FitProcess, batch: Batch, settings: FitConfig | None = None) -> list[Posterior]:
        asked.append(settings.observing.vdisp_kms if settings is not None else None)
        return make(self, batch, settings)

    make = FitProcess.fit
    monkeypatch.setattr(FitProcess, "fit", fit)
    warm_up(parse_config(data | {"fit": {"observing": {"vdisp_kms": "auto"}}}))
    assert asked[-2:] == [150.0, "fit"]  # what either kind of galaxy needs is compiled
    warm_up(parse_config(data | {"fit": {"preset": "published"}}))
    assert asked[-1] == 150.0
    only = Table.read(tmp_path / "in" / "t0.fits")[:1]
    only.write(tmp_path / "none.fits")
    data["inputs"] = {"paths": [str(tmp_path / "none.fits")], "reader": "photometry"}
    with pytest.raises(InputError, match="none of the first 1 rows can be fitted; the last: NO_REDSHIFT"):
        warm_up(parse_config(data))
