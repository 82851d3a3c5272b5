"""How a posterior shows itself in a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from provabgs.core.html import folded, paragraph, table
from provabgs.inference.flags import in_words

if TYPE_CHECKING:
    from provabgs.inference.posterior import Posterior
    from provabgs.sps.parameters import Quantity


def posterior_html(posterior: Posterior) -> str:
    """Which galaxy, its STATUS, its properties with 68 % intervals, and what does not fit."""
    p = posterior
    who = f"TARGETID {p.targetid}" if p.targetid >= 0 else "galaxy"
    redshift = f", z = {p.redshift:.4f}" if np.isfinite(p.redshift) else ""
    parts = [f"<p><strong>{escape(who + redshift)}</strong>, STATUS {p.status.name}</p>"]
    if not p.status.has_samples:
        return "<div>" + "".join([*parts, paragraph(p.message)]) + "</div>"
    d = p.diagnostics
    parts.append(_numbers(p, p.properties))
    parts.append(folded(f"{len(p.parameters)} parameters", _numbers(p, p.parameters)))
    said = [*in_words(p), *([p.message] if p.message else [])]
    said.append(
        f"R-hat at most {d.rhat_max:.3f}, effective sample size at least {d.ess_min:.0f}, {len(p.samples)} draws."
    )
    parts += [paragraph(line) for line in said]
    parts.append(paragraph("provabgs.draw(posterior, observation) draws it, provabgs.draw(posterior) its corner plot.",
                           small=True))  # fmt: skip
    return "<div>" + "".join(parts) + "</div>"


def _numbers(posterior: Posterior, quantities: Iterable[Quantity]) -> str:
    rows = []
    for q in quantities:
        low, median, high = posterior.quantiles(q.name)
        rows.append((q.name, f"{median:.4g}", f"{median - low:.2g}", f"{high - median:.2g}", q.unit, q.description))
    return table(("name", "median", "−", "+", "unit", "meaning"), rows)
