"""The form and the live part of the page that measures an opened model and one-shot cuts of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from analysis import frames, recipes
from analysis.engine import hub, probe
from analysis.errors import DataError, LabError, ModelError
from analysis.figures import probe as figures
from analysis.parts import knobs
from analysis.spec import ProbeSpec, TaskSpec
from analysis.spec.probe import KEEPS, task_of
from analysis.store import jobs
from analysis.store.runs import RunInfo
from analysis.ui import cached, charts, forms, guard, live, nav, pick, plans, roots, url

PREFIX = "eval."
COLUMNS = tuple(k.name for k in knobs(TaskSpec) if k.name != "source")
OFFERED = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.03, 0.01)
BY = {"magnitude": "Magnitude", "scores": "Stored scores"}
SCOPES = {"global": "All matrices together", "local": "Each matrix alone"}
CHOOSE = "Choose one, or type run:ID, the path of a model folder, or a hub id"
MOST = 100
EARLY = 0.15  # share of the rows before which loading is most of the time, and says nothing of what is left
KNOBS = {k.name: k for k in knobs(ProbeSpec)}
ENDED = {
    "cancelled": "Stopped. What was measured stays; press the button to go on.",
    "crashed": "The process that measured was killed or ran out of memory; press the button to go on.",
}


def _finished() -> dict[str, RunInfo]:
    """Runs with a model, whose head is trained: newest first."""
    infos = [i for i in cached.runs(nav.runs_dir()) if not i.recorded and (i.path / "model").is_dir()]
    return {f"run:{i.id}": i for i in infos[:MOST]}


def _folders() -> dict[str, str]:
    """Model folders below the two folders that variables name."""
    found: dict[str, str] = {}
    for variable in (hub.MODELS, roots.CHECKPOINTS):
        root = Path(os.environ.get(variable) or "/nowhere")
        try:
            entries = sorted(p for p in root.iterdir() if (p / "config.json").is_file())
        except OSError:
            continue
        found |= {str(p): f"{root.name} · {p.name}" for p in entries[:MOST]}
    return found


def _forget_task() -> None:
    """Lets the task follow another model: a run is measured on its own task first."""
    for key in [f"{PREFIX}on", *(f"{PREFIX}data.{name}" for name in COLUMNS)]:
        st.session_state.pop(key, None)
        url.write(key, None)


def ask() -> ProbeSpec:
    """Shows every control and returns what was chosen; ends the page while there is no model.

    Raises:
        LabError: a value that is not allowed, or a path outside the folders a visitor may read.
    """
    runs = _finished()
    known = {name: f"Run · {pick.label(info)}" for name, info in runs.items()} | _folders()
    left, right = st.columns(2)
    with left:
        model = _model(known if runs else {"": CHOOSE, **known})
    if not model:
        _example()
        st.stop()
    own = task_of(runs[model].spec) if model in runs else None
    with right:
        source = _source(own)
    keeps, by, scope, rows = _cuts()
    start = own if own is not None and own.source == source else TaskSpec(source=source)
    with st.expander("Columns and size of the data", icon=":material/table_rows:"):
        changed = forms.fields(start, "data", prefix=PREFIX, only=COLUMNS)
    task = start.replace(**{name.partition(".")[2]: value for name, value in changed.items()})
    roots.require_name(model, hub.MODELS, ModelError)
    roots.require_name(source, hub.DATA, DataError)
    return ProbeSpec(model, task, tuple(keeps), by=by, scope=scope, rows=int(rows))


def _name(label: str, key: str, options: Sequence[str], **more: Any) -> str:
    """A choice out of a list, or a name that is typed in or stands in the address."""
    held = st.session_state.get(key)
    whole = list(dict.fromkeys([*options, *url.read(key)[:1], *([held] if held else [])]))
    return str(url.select(label, whole, key=key, accept_new_options=True, **more) or "")


def _model(known: dict[str, str]) -> str:
    return _name(
        "Model",
        f"{PREFIX}model",
        list(known),
        name=lambda name: known.get(name, name),
        on_change=_forget_task,
        placeholder=CHOOSE,
        shared=True,  # always in the address: the newest run, which is the default, will be another one
        help="Finished runs come first. Any Hugging Face folder whose head was trained on the task will do; "
        "type its path or its hub id.",
    )


def _source(own: TaskSpec | None) -> str:
    named = plans.found(hub.DATA, plans.TASKS)
    first = own.source if own is not None else named[0]
    help_text = "Bundled, a file or folder with labels, or a hub data set; the test split is measured."
    return _name("Data", f"{PREFIX}on", [first, *named], default=first, help=help_text) or first


def _cuts() -> tuple[list[float], str, str, int]:
    keeps = url.many(
        "Kept after the cut",
        OFFERED,
        key=f"{PREFIX}keeps",
        default=KEEPS,
        name=pick.percent,
        help="Shares of the prunable weights that stay; the model as opened is always measured beside them.",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        by = url.switch("Kept first", list(BY), key=f"{PREFIX}by", name=BY.__getitem__)
        scope = url.switch("Ranked over", list(SCOPES), key=f"{PREFIX}scope", name=SCOPES.__getitem__)
        rows = url.value(
            "Quick look (rows)",
            key=f"{PREFIX}rows",
            default=KNOBS["rows"].default,
            widget=st.number_input,
            step=64,
            min_value=1,
            max_value=1_000_000,
            width=160,
            help="So many rows, evenly spread over the split, give the first estimate of every point.",
        )
    return keeps, by, scope, rows


def _example() -> None:
    """Where no model is offered: one press makes the smallest that can be measured."""
    st.info(
        "A model is needed whose head was trained on a task: the bundled model has none until a run trains "
        "it. Choose or type one above, or train the bundled model on the bundled task.",
        icon=":material/info:",
    )
    busy = [i for i in cached.runs(nav.runs_dir()) if i.recipe == "dense" and not i.recorded and not i.over]
    st.button(
        "Train the example",
        type="primary",
        icon=":material/play_arrow:",
        on_click=guard.action(_train),
        disabled=bool(busy),
        key="eval-example",
        help="A dense run of the bundled text model, well under a minute; its model is then offered here.",
    )

    def draw() -> bool:
        now = [i for i in cached.runs(nav.runs_dir()) if i.id in {info.id for info in busy}]
        for info in now:
            live.bar(info, pick.title(info))
        return any(not info.over for info in now)

    live.follow(draw, bool(busy))


def _train() -> None:
    plans.launch(nav.runs_dir(), [recipes.build("dense", "bundled:text", "bundled:opinions")])
    guard.say("The example is being trained.")


def folder(spec: ProbeSpec) -> Path:
    """The folder with what was measured of a choice so far; what cannot be measured ends the page in a
    sentence.
    """
    try:
        return probe.folder_of(spec, nav.runs_dir())
    except LabError as error:
        st.error(guard.escape(error), icon=":material/error:")
        st.stop()


def button(spec: ProbeSpec, out: Path) -> None:
    """The one button, which starts what is missing, and the command line that does the same."""
    left, working = probe.missing(out, spec), not jobs.read(out).over
    some = left <= len(spec.keeps)
    st.button(
        ("Measure the rest" if some else "Measure") if left else "Measured",
        type="primary",
        icon=":material/speed:",
        shortcut="Ctrl+Enter",
        disabled=working or not left,
        on_click=guard.action(_begin),
        args=(spec,),
        key="measure",
        help="A quick look at every point first, then all rows, then the times; a process of its own works "
        "on when this page is closed.",
    )
    st.code(command(spec), language="bash", wrap_lines=True)


def _begin(spec: ProbeSpec) -> None:
    probe.begin(spec, nav.runs_dir())


def command(spec: ProbeSpec) -> str:
    """The command line that measures the same; it pastes into any POSIX shell."""
    words = ["python", "-m", "analysis", "evaluate", spec.model, "--data", spec.task.source]
    cuts = ",".join(f"{keep:g}" for keep in spec.keeps if keep < 1) or "1"
    words += ["--keeps", cuts, "--by", spec.by, "--scope", spec.scope]
    if spec.rows != KNOBS["rows"].default:
        words += ["--rows", str(spec.rows)]
    plain = TaskSpec(source=spec.task.source)
    for name in COLUMNS:
        if (value := getattr(spec.task, name)) != getattr(plain, name):
            words += ["--set", f"task.{name}={value}"]
    return shlex.join(words)


def progress(spec: ProbeSpec, out: Path) -> bool:
    """How far the work is, with a way to stop it, or how it ended; returns whether somebody works."""
    note = jobs.read(out)
    if note.over:
        if probe.asked(out, spec):  # how another wish ended says nothing of this one
            _ended(note)
        return False
    share = note.done / note.total if note.total else 0.0
    words = f"{note.done:,.0f} of {note.total:,.0f} rows" if note.total else "loading the model and the data"
    words += f" · {live.duration(note.left)} left" if note.left and share > EARLY else ""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(1.0, share), words)
        st.button("Stop", icon=":material/stop:", on_click=jobs.cancel, args=(out,), key="stop-measuring")
    return True


def _ended(note: jobs.Note) -> None:
    if note.state == "failed":
        st.error(guard.escape(note.reason), icon=":material/error:")
    elif note.state in ENDED:
        st.warning(ENDED[note.state], icon=":material/stop_circle:")


def results(out: Path) -> None:
    """What is measured so far: the points, the times, and both in sentences."""
    about, points, times = frames.probe_about(out), frames.probe_points(out), frames.probe_latency(out)
    metric = str(about.get("metric", "accuracy")).replace("_", " ")
    floor = about.get("floor")
    title = f"{about.get('split', 'test')} {metric} (fraction)"
    figure = figures.cost(points, metric=title, floor=floor, dark=charts.dark())
    charts.chart(figure, key="cost", revision=out.name)
    if points.empty:
        return
    _say(frames.probe_sentences(out))
    charts.data(points, figure, name="points", title="Points and downloads")
    bars = figures.latency(times, dark=charts.dark())
    charts.chart(bars, key="latency", revision=out.name)
    _say(frames.probe_speed(out))
    charts.data(times, bars, name="latency", title="Times, kernels and downloads")


def _say(sentences: Sequence[str]) -> None:
    st.markdown("\n".join(f"- {guard.escape(sentence)}" for sentence in sentences))


def watch(spec: ProbeSpec, out: Path) -> None:
    """Draws progress and results, again and again while somebody measures."""

    def draw() -> bool:
        working = progress(spec, out)
        results(out)
        return working

    live.follow(draw, not jobs.read(out).over)
