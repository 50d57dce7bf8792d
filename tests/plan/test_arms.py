"""Facts about the arms of a study: source languages, mixed-in text, and what of their grid there is."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from small_studies import finish, plan_of, study_file, with_encoder_of

from sweep.config.axes import Cell
from sweep.config.phases import Sampling
from sweep.errors import StudyError
from sweep.plan.cost import Costs
from sweep.plan.order import coverage_order
from sweep.tasks.synthetic import FOREIGN, EmbeddedSource

NEAR, FAR = "svo85", "vso10"  # world/qa is translated into the first, world/nli into both
MIXED = {"intermediate": ["world/nli", ["world/nli", "world/raw"]]}


def plan(folder, axes, **sections):
    folder.mkdir(exist_ok=True)
    return plan_of(study_file(folder, axes, **sections))


def intermediate(planned, number=0):
    """The intermediate phase of a plan's chain with this number."""
    return list(planned.planned_chains())[number].phases[1]


def message(folder, axes, **sections):
    with pytest.raises(StudyError) as raised:
        plan(folder, axes, **sections)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# ---- the source language of the intermediate phase -------------------------------------------------------------------


def test_a_source_is_part_of_the_key_of_the_intermediate_phase_and_of_what_follows(tmp_path):
    axes = {"intermediate": ["world/nli"], "source": ["own", NEAR, "all"]}
    chains = list(plan(tmp_path, axes).planned_chains())
    assert [len({chain.phases[kind].key for chain in chains}) for kind in range(3)] == [1, 3, 3]
    languages = [chain.phases[1].recipe.languages for chain in chains]
    assert languages == [(("pivot",),), ((NEAR,),), (("pivot", *FOREIGN),)]


def test_a_source_that_is_the_tasks_own_language_is_the_default_and_the_same_cell(tmp_path):
    plain = plan(tmp_path / "a", {"intermediate": ["world/nli"]})
    named = plan(tmp_path / "b", {"intermediate": ["world/nli"], "source": ["pivot"]})
    assert plain.cells == named.cells
    assert [chain.key for chain in plain.planned_chains()] == [chain.key for chain in named.planned_chains()]
    assert len(plan(tmp_path / "c", {"intermediate": ["world/nli"], "source": ["pivot", "own"]}).cells) == 1


def test_a_cell_names_its_source_only_where_it_is_not_the_default(tmp_path):
    planned = plan(tmp_path, {"intermediate": ["none", "world/nli"], "source": ["own", NEAR]})
    assert [cell.name for cell in planned.cells] == [
        "tiny | none | - | world/topic",
        "tiny | world/nli | full | world/topic",
        f"tiny | world/nli | full | {NEAR} | world/topic",
    ]
    assert [cell.text("source") for cell in planned.cells] == ["-", "own", NEAR]


def test_cells_whose_tasks_lack_a_source_are_left_out_and_the_plan_says_so(tmp_path):
    settings = ["none", "world/nli", "world/qa", "world/pos", ["world/nli", "world/qa"], ["world/nli", "world/pos"]]
    planned = plan(tmp_path, {"intermediate": settings, "source": ["own", NEAR, FAR, "all"]})
    found = Counter(cell.source for cell in planned.cells if cell.intermediate)
    assert found == {"own": 5, NEAR: 3, FAR: 1, "all": 3}
    assert f"source {NEAR}: world/pos has no training data in it; cells with it are left out" in planned.flags
    wanted = f"source {FAR}: world/qa, world/pos have no training data in it; cells with one of them are left out"
    assert wanted in planned.flags
    assert "source all: world/pos has training data in one language only; cells with it are left out" in planned.flags


def test_a_phase_of_several_tasks_has_a_source_only_where_each_task_has_it(tmp_path):
    planned = plan(tmp_path, {"intermediate": [["world/nli", "world/qa"]], "source": [NEAR, FAR, "all"]})
    phases = {chain.cell.source: chain.phases[1].recipe.languages for chain in planned.planned_chains()}
    assert phases == {NEAR: ((NEAR,), (NEAR,)), "all": (("pivot", *FOREIGN), ("pivot", *FOREIGN[:3]))}


def test_raw_text_keeps_its_languages_whatever_the_source(tmp_path):
    planned = plan(tmp_path, {"intermediate": ["world/raw", ["world/nli", "world/raw"]], "source": ["own", NEAR]})
    text = ("pivot", *FOREIGN)
    found = [(cell.source, planned.recipes(cell)[1].languages) for cell in planned.cells]
    assert found == [("own", (text,)), ("own", (("pivot",), text)), (NEAR, ((NEAR,), text))]


def test_all_languages_are_more_data_unless_a_volume_makes_them_equal(tmp_path):
    flag = "source all: with volume 'full' it trains on more data than one language has; a number makes them equal"
    axes = {"intermediate": ["world/nli"], "source": ["own", "all"]}
    assert flag in plan(tmp_path, axes).flags
    assert flag not in plan(tmp_path, {**axes, "volume": [100]}).flags


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"intermediate": ["world/nli"], "source": ["own", "svo58"]}, ["axes.source[1]", "'svo58'", "mean 'svo85'"]),
        ({"intermediate": ["world/qa"], "source": [FAR]}, ["axes.source[0]", FAR, "no intermediate task"]),
        ({"intermediate": ["world/nli"], "source": ["al"]}, ["axes.source[0]", "did you mean 'all'"]),
        (
            {"intermediate": ["world/pos"], "source": ["all"]},
            ["axes.source[0]", "more than one lang", "own, pivot"],
        ),
        ({"intermediate": ["none"], "source": ["en"]}, ["axes.source[0]", "'en'"]),
        ({"intermediate": ["world/nli"], "source": []}, ["axes.source", "at least one value"]),
        ({"intermediate": ["world/nli"], "source": "en"}, ["axes.source: found 'en'", "a list"]),
        ({"intermediate": ["world/nli"], "source": [NEAR, NEAR]}, ["axes.source", "svo85 occurs twice"]),
    ],
)
def test_a_source_that_no_task_has_is_one_line_with_its_place(axes, said, tmp_path):
    line = message(tmp_path, axes)
    for fragment in said:
        assert fragment in line


def test_more_source_data_costs_more(tmp_path):
    planned = plan(tmp_path, {"intermediate": ["world/nli"], "source": ["own", "all"]}, intermediate=EPOCHS)
    own, everything = (Costs(planned).phase(cell, planned.recipes(cell)[1]) for cell in planned.cells)
    assert everything == pytest.approx(7 * own, rel=0.05)


EPOCHS = {"steps": None, "epochs": 1}


@pytest.mark.parametrize("source", [["own"], ["own", NEAR], ["own", NEAR, FAR, "all"], ["own", "sov55", "all"]])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_grid_with_gaps_is_covered_evenly(source, count, tmp_path):
    """No intermediate, source or target is ever behind another that had no more cells left to try."""
    tasks = ["world/nli", "world/qa", "world/pos", "world/paraphrase"][:count]
    targets = ["world/topic", "world/ner", "world/retrieval"]
    planned = plan(tmp_path, {"intermediate": ["none", *tasks], "target": targets, "source": source, "volume": [9, 99]})
    cells = [planned.cells[index] for index in coverage_order(planned)]
    assert Counter(cells) == Counter(planned.cells)
    others = [cell for cell in cells if cell.intermediate]
    assert_even(others, lambda cell: (cell.intermediate, cell.source), 1)
    assert_even(others, lambda cell: cell.target, 1)
    assert_even(others, lambda cell: cell.volume, 1)
    begun = others[: len({cell.intermediate for cell in others})]
    assert len({cell.intermediate for cell in begun}) >= len(begun) - 1


def assert_even(cells: list[Cell], value, slack):
    tried = dict.fromkeys(map(value, cells), 0)
    for cell in cells:
        tried[value(cell)] += 1
        assert max(tried.values()) - min(tried.values()) <= slack


@pytest.mark.parametrize("sources", range(1, 6))
def test_a_full_grid_of_sources_is_even_on_both_axes(sources, tmp_path):
    axes = {"intermediate": ["world/nli", "world/qa"], "source": ["own", *FOREIGN[:3], "all"][:sources]}
    cells = plan(tmp_path, axes)
    ordered = [cells.cells[index] for index in coverage_order(cells)]
    assert_even(ordered, lambda cell: cell.intermediate, 1)
    assert_even(ordered, lambda cell: cell.source, 1)


# ---- mixed-in text ---------------------------------------------------------------------------------------------------


def test_a_ratio_is_the_share_of_the_steps_and_the_others_divide_the_rest():
    sampling = Sampling(by="uniform", ratios={"text": 0.2})
    assert sampling.shares({"nli": 10, "qa": 90, "text": 1000}) == pytest.approx({"nli": 0.4, "qa": 0.4, "text": 0.2})


def test_a_ratio_of_text_takes_no_step_from_the_tasks():
    assert Sampling(ratios={"text": 0.2}).one_pass({"nli": 60, "qa": 20, "text": 1000}) == pytest.approx(100)
    assert Sampling().one_pass({"nli": 60, "text": 1000}) == 1060
    assert Sampling(ratios={"a": 0.5, "b": 0.5}).one_pass({"a": 60, "b": 40}) == 100


def test_a_ratio_concerns_the_phases_that_mix_its_task_alone(tmp_path):
    """So the arm without text is the same phase, whatever is said of text."""
    without, half = plan(tmp_path / "a", MIXED), plan(tmp_path / "b", MIXED, intermediate=ratios(0.5))
    assert intermediate(without).key == intermediate(half).key
    assert intermediate(without, 1).key != intermediate(half, 1).key


def ratios(share):
    return {"sampling": {"ratios": {"world/raw": share}}}


def test_a_phase_has_the_cost_of_its_mixture(tmp_path):
    """A fifth of text makes a phase a quarter longer than the task alone, however much text there is."""
    planned = plan(tmp_path, MIXED, intermediate={**EPOCHS, **ratios(0.2)})
    tokens = [planned.recipes(cell)[1] for cell in planned.cells]
    sizes = {"world/nli": 1.0, "world/raw": 50.0}
    lengths = [recipe.settings.sampling.one_pass({name: sizes[name] for name in recipe.tasks}) for recipe in tokens]
    assert lengths == pytest.approx([1.0, 1.25])
    alone, mixed = (Costs(planned).phase(cell, planned.recipes(cell)[1]) for cell in planned.cells)
    assert 1.25 * alone < mixed < 2.5 * alone  # the head over the vocabulary costs too


def test_text_can_be_in_some_of_its_languages(tmp_path):
    languages = {"text": {"languages": [NEAR, FAR], "temperature": 3}}
    planned = plan(tmp_path, MIXED, intermediate=languages)
    assert intermediate(planned, 1).recipe.languages == (("pivot",), (NEAR, FAR))
    assert intermediate(planned).key == intermediate(plan(tmp_path, MIXED)).key


@pytest.mark.parametrize(
    ("axes", "section", "said"),
    [
        (MIXED, ratios(1.5), ["ratios.world/raw", "1.5"]),
        (MIXED, ratios(0), ["ratios.world/raw", "above 0"]),
        (MIXED, ratios("half"), ["ratios.world/raw", "'half'", "a number"]),
        (MIXED, {"sampling": {"ratios": {"world/rew": 0.2}}}, ["ratios", "'world/rew'", "did you mean 'world/raw'"]),
        ({"intermediate": ["world/nli"]}, {"sampling": {"ratios": {"world/nli": 0.2}}}, ["ratios", "several tasks"]),
        (
            MIXED,
            {"sampling": {"ratios": {"world/nli": 0.2, "world/raw": 0.2}}},
            ["0.4 for world/nli+world", "1 to"],
        ),
        (MIXED, {"sampling": {"ratios": {"world/nli": 0.8, "world/raw": 0.8}}}, ["sampling", "at most 1"]),
        (
            {"intermediate": [["world/nli", "world/qa", "world/raw"]]},
            {"sampling": {"ratios": {"world/nli": 0.5, "world/raw": 0.5}}},
            ["leaves nothing for world/qa", "less than 1"],
        ),
        (MIXED, {"text": {"languages": ["svo58"]}}, ["intermediate.text.languages[0]", "did you mean 'svo85'"]),
        (MIXED, {"text": {"languages": []}}, ["intermediate.text.languages", "an empty list"]),
        (MIXED, {"text": {"languages": [NEAR, NEAR]}}, ["intermediate.text.languages", "twice"]),
        (MIXED, {"text": {"temperature": 0.5}}, ["intermediate.text.temperature", "from 1 on"]),
        ({"intermediate": ["world/nli"]}, {"text": {"temperature": 3}}, ["intermediate.text", "a masked task"]),
    ],
)
def test_a_mixture_that_does_not_add_up_is_one_line_with_its_place(axes, section, said, tmp_path):
    line = message(tmp_path, axes, intermediate=section)
    for fragment in said:
        assert fragment in line


# ---- at work ---------------------------------------------------------------------------------------------------------


def test_a_translated_phase_trains_on_its_language_and_is_selected_by_the_pivot(small_store, tmp_path):
    axes = {"intermediate": ["world/nli"], "source": [NEAR, "all"], "volume": [40], "target": ["world/retrieval"]}
    path = study_file(tmp_path, axes, intermediate=EPOCHS)
    store = with_encoder_of(small_store, tmp_path / "store")
    dev = EmbeddedSource("nli").rows("dev", "pivot")
    majority = max(np.bincount([row["label"] for row in dev])) / len(dev)
    for chain in finish(path, store):
        record = store.phase(chain.phases[1].key)
        assert record.examples == 40  # of all languages together
        assert record.majority == pytest.approx(majority)
        assert record.recipe["languages"] == [list(languages) for languages in chain.phases[1].recipe.languages]


def test_text_in_languages_of_their_own_streams_is_trained_with_a_task(small_store, tmp_path):
    settings = {"steps": 40, "text": {"languages": [NEAR, FAR], "temperature": 5}, **ratios(0.5)}
    path = study_file(tmp_path, {"intermediate": [["world/rte", "world/raw"]]}, intermediate=settings)
    store = with_encoder_of(small_store, tmp_path / "store")
    (chain,) = finish(path, store)
    record = store.phase(chain.phases[1].key)
    assert record.steps == 40
    assert record.recipe["text"]["temperature"] == 5
    assert record.recipe["languages"] == [["pivot"], [NEAR, FAR]]
