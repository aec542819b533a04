"""What is it worth, and what would a further cut cost?"""

from __future__ import annotations

from analysis.ui import probe, story

CLAIM = (
    "**Measure a model as it is, and cut it once at several keeps, without training.** A quick look draws "
    "every point at once; each is then measured on all rows. Dense, masked, sparse and physically reduced "
    "forms are timed beside each other on this machine."
)

with story.page("Evaluate", CLAIM):
    spec = probe.ask()
    out = probe.folder(spec)
    probe.button(spec, out)
    probe.watch(spec, out)
