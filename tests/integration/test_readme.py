"""The README's example runs as it stands, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import provabgs
from provabgs.inference.config import SamplerOptions
from provabgs.inference.samplers import ensemble

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def example() -> str:
    """The code block marked as run by this test."""
    found = re.search(r"<!-- example:[^>]*-->\s*```python\n(.*?)```", README, re.DOTALL)
    assert found, "README.md has lost its example"
    return found.group(1)


def test_example_is_ten_lines() -> None:
    assert len([line for line in example().splitlines() if line.strip()]) == 10


def test_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Run as printed, with the least budget for the sampler."""
    small = provabgs.FitConfig(sampler=SamplerOptions(name="emcee", max_eval=100), n_samples=50)
    real, kept = provabgs.fit, []

    def fit(data: provabgs.Observation, **options: int) -> provabgs.Posterior:
        kept.append(real(data, config=small, **options))
        return kept[0]

    monkeypatch.setattr(ensemble, "CHUNK", 20)
    monkeypatch.setattr(provabgs, "fit", fit)
    exec(compile(example(), "README.md", "exec"), {})
    assert kept[0].status.has_samples
    assert kept[0].dof_phot == 4
    assert kept[0].dof_spec > 2000
    assert kept[0].status.name in capsys.readouterr().out


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)#]+)", README))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
