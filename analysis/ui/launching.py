"""The form of the launch page: choices, the runs they make, their cost, and the one button."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from analysis import recipes
from analysis.errors import LabError
from analysis.figures.theme import recipe_title
from analysis.parts import knobs
from analysis.spec import RunSpec, TaskSpec, Training
from analysis.ui import cached, forms, guard, live, nav, pick, plans, preview, url

BUDGET = ("steps", "batch", "evaluations")
MACHINE = tuple(k.name for k in knobs(Training) if k.name not in BUDGET)
COLUMNS = tuple(k.name for k in knobs(TaskSpec) if k.name != "source")
NO_TEACHER = "none"
STAGES = "What a run does one after the other: the recipe's own way, or a variant that its card describes."


def _name(label: str, key: str, known: Sequence[str], default: str, help: str) -> str:
    """A name out of a list or typed in; a name from the address that is on no list is added to it."""
    held = [st.session_state[key]] if st.session_state.get(key) else []
    options = list(dict.fromkeys([*known, *url.read(key)[:1], *held]))
    return str(
        url.select(label, options, key=key, default=default, accept_new_options=True, help=help) or default
    )


def _text(label: str, key: str, default: str, help: str) -> str:
    return str(url.value(label, key=key, default=default, widget=st.text_input, help=help))


def ask() -> plans.Choices:
    """Shows every control and returns what was chosen.

    Raises:
        SpecError: a value that is not allowed.
    """
    infos = cached.runs(nav.runs_dir())
    finished = [f"run:{i.id}" for i in infos if i.state == "done" and (i.path / "model").is_dir()][:50]
    left, right = st.columns(2)
    with left:
        known = [*plans.found("PRUNING_LAB_MODELS", plans.MODELS), *finished]
        model = _name(
            "Model", "model", known, plans.MODELS[0], "Bundled, a folder, a hub id, or run:ID; type any name."
        )
    with right:
        fitting = "bundled:digits" if model == "bundled:digits" else plans.TASKS[0]
        known = plans.found("PRUNING_LAB_DATA", plans.TASKS)
        task = _name(
            "Task", "task", known, fitting, "Bundled, a file or folder, or a hub data set; type any name."
        )
    titles = {name: recipe.title for name, recipe in recipes.RECIPES.items()}
    chosen = url.many(
        "Recipes", list(titles), key="recipes", default=["magnitude", "movement"], name=titles.__getitem__
    )
    columns = st.columns(4)
    with columns[0]:
        keeps = _text(
            "Keeps", "keeps", "0.1, 0.03", "Fractions of the prunable weights that stay: 0.03 keeps 3 %."
        )
    with columns[1]:
        seeds = _text("Seeds", "seeds", "0", "Whole numbers between commas; several seeds make a band.")
    with columns[2]:
        help_text = "A finished dense run or a folder whose logits the pruned model follows."
        teacher = _name("Teacher", "teacher", [NO_TEACHER, *finished], NO_TEACHER, help_text)
    with columns[3]:
        name = _text("Name", "name", "", "A label for these runs, up to 80 characters; may stay empty.")
    teacher = "" if teacher == NO_TEACHER else teacher
    first = recipes.build((chosen or ["movement"])[0], model, task)
    common = _common(first)
    knobs = {
        recipe: changed for recipe in chosen if (changed := _knobs(recipe, model, task, teacher, common))
    }
    keep_list, seed_list = plans.numbers(keeps, "Keeps", float), plans.numbers(seeds, "Seeds", int)
    return plans.Choices(model, task, chosen, keep_list, seed_list, teacher, name, common, knobs)


def _common(first: RunSpec) -> dict[str, Any]:
    """What all the runs share: budget, columns of the data, machine."""
    common = forms.fields(first.training, "training", only=BUDGET)
    with st.expander("Columns and size of the data", icon=":material/table_rows:"):
        common |= forms.fields(TaskSpec(source=first.task.source), "data", only=COLUMNS)
    with st.expander("Machine and records", icon=":material/memory:"):
        common |= forms.fields(first.training, "training", only=MACHINE)
    return common


def _knobs(recipe: str, model: str, task: str, teacher: str, common: Mapping[str, Any]) -> dict[str, Any]:
    """The form of one recipe's parts, folded away; returns the settings that were changed."""
    teacher = recipes.teacher_for(recipe, teacher)
    variants = [recipes.OWN, *recipes.RECIPES[recipe].variants]
    chosen: dict[str, Any] = {}
    with st.expander(f"Knobs of {recipe_title(recipe)}", icon=":material/tune:"):
        if len(variants) > 1:
            variant = url.select("Stages", variants, key=f"{recipe}:{recipes.VARIANT}", help=STAGES)
            chosen = {} if variant == recipes.OWN else {recipes.VARIANT: variant}
        spec = recipes.build(recipe, model, task, teacher=teacher, settings=chosen)
        if spec.stages:
            steps = {"training.steps": common.get("training.steps", spec.training.steps)}
            timed = recipes.configured(spec, steps)
            st.caption(f"Stages: {plans.stages(timed)}. Knobs below are those of the stage that prunes.")
        return chosen | forms.line_up(spec, f"{recipe}:")


def summary(wanted: Sequence[RunSpec]) -> None:
    """Number of runs, and what they are estimated to take."""
    cost = preview.estimate(wanted, cached.runs(nav.runs_dir()), nav.runs_dir())
    cells = st.columns(4)
    cells[0].metric("Runs", cost.runs, border=True)
    cells[1].metric("Time, estimated", live.duration(cost.minutes * 60), border=True)
    cells[2].metric("Memory per run, estimated", preview.size(cost.memory), border=True)
    cells[3].metric("Disk, estimated", preview.size(cost.disk), border=True)
    st.caption(
        f"Estimated from {cost.source}, {cost.at_once} at a time; loading and evaluating are counted in."
    )


def _launch(wanted: Sequence[RunSpec]) -> None:
    ids = plans.launch(nav.runs_dir(), wanted)
    st.session_state["launched"] = ids
    guard.say(f"{len(ids)} run{'s' if len(ids) > 1 else ''} started.")


def button(wanted: Sequence[RunSpec]) -> None:
    """The one button, beside it the specs it starts; a press is handled before the page is drawn, exactly
    once.
    """
    number = f"{len(wanted)} run{'s' if len(wanted) > 1 else ''}"
    name, body = plans.download(wanted)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            f"Launch {number}",
            type="primary",
            icon=":material/rocket_launch:",
            shortcut="Ctrl+Enter",
            on_click=guard.action(_launch),
            args=(wanted,),
            key="launch",
        )
        st.download_button(
            "Spec as JSON",
            body,
            name,
            icon=":material/download:",
            on_click="ignore",
            help="What the runs are, exactly.",
        )
        ids = st.session_state.get("launched", [])
        if ids:
            nav.link("monitor", f"Watch the {len(ids)} started", runs=ids[:10], own=ids[0])


def one(wanted: Sequence[RunSpec]) -> RunSpec:
    """Lets the visitor choose the run whose schedule is drawn."""
    names = {f"{recipe_title(spec.recipe)} {pick.percent(spec.keep)}": spec for spec in reversed(wanted)}
    return names[url.select("Schedule of", list(names)[::-1], key="schedule")]


def commands(wanted: Sequence[RunSpec]) -> None:
    """The command line of every run."""
    st.subheader("The same from a terminal")
    st.code("\n".join(plans.command(spec) for spec in wanted[:20]), language="bash", wrap_lines=True)
    if len(wanted) > 20:
        st.caption(f"The first 20 of {len(wanted)}.")


def built(choices: plans.Choices) -> list[RunSpec]:
    """The runs that were asked for; a value that is not allowed is explained in place and ends the page.

    The explanation stands where the button would, so that nothing can be started that cannot run.
    """
    try:
        wanted = plans.specs(choices)
        plans.look(nav.runs_dir(), wanted)
        return wanted
    except LabError as error:
        st.error(guard.escape(error), icon=":material/error:")
        st.stop()
