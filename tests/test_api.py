"""Facts about studies and results in Python: what is listed, what is raised, what frames have, one chain in process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from instant_workers import Lab, collapsing, study
from safetensors.torch import load_file
from small_studies import SMALL, reported, study_file, unmeasured, with_encoder_of

import sweep
from sweep.cli import main
from sweep.config.axes import cell_columns
from sweep.errors import StudyError
from sweep.run.progress import Feed, Progress
from sweep.store.artifacts import Store

TWO = {"intermediate": ["none", "world/nli"]}
GRID = {"learning_rate": {"log": [1e-4, 1e-2], "points": 3}}
TOPICS = {
    "family": "sequence", "format": "tsv", "columns": {"text": "text", "label": "label"}, "labels": ["x", "y"],
    "languages": ["en", "sw"], "train": "en.tsv", "dev": "en.tsv", "test": "{language}.tsv",
}  # fmt: skip


@pytest.fixture
def content() -> dict[str, Any]:
    """A study as a mapping."""
    return json.loads(json.dumps({**SMALL, "axes": {**SMALL["axes"], **TWO}}))


@pytest.fixture
def path(small_store, tmp_path) -> Path:
    """A study of two chains, whose encoder is pretrained."""
    with_encoder_of(small_store, tmp_path / "runs" / "small" / "store")
    return study_file(tmp_path, TWO)


@pytest.fixture(scope="module")
def done(small_store, tmp_path_factory) -> sweep.Results:
    """Results of two chains that were run one by one, with the weights of their target phases."""
    folder = tmp_path_factory.mktemp("done")
    with_encoder_of(small_store, folder / "runs" / "small" / "store")
    small = sweep.load(study_file(folder, TWO))
    for intermediate in TWO["intermediate"]:
        small.run_chain({"intermediate": intermediate})
    return sweep.open(folder / "runs" / "small")


# What is loaded, and when


def test_every_public_name_is_there_and_no_other():
    assert all(getattr(sweep, name) is not None for name in sweep.__all__)
    assert set(sweep.__all__) <= set(dir(sweep))
    with pytest.raises(AttributeError, match="'sweep' has no attribute 'lod'"):
        _ = sweep.lod  # type: ignore[attr-defined]


def test_the_package_is_marked_as_typed():
    assert Path(str(sweep.__file__)).with_name("py.typed").is_file()


# Loading


def test_a_mapping_is_the_study_that_a_file_with_it_is(path, content):
    as_mapping, as_file = (sweep.load(source).plan().plan.study for source in (content, path))
    assert as_mapping.model_dump() == as_file.model_dump()


def test_a_mapping_that_is_changed_later_changes_nothing(content):
    loaded = sweep.load(content)
    content["axes"]["target"] = ["world/ner"]
    assert list(loaded.plan().cells["target"].unique()) == ["world/topic"]


def test_paths_in_a_mapping_start_in_its_base(content, tmp_path):
    for name in ("en", "sw"):
        (tmp_path / f"{name}.tsv").write_text("text\tlabel\na word\tx\nno word\ty\n")
    content |= {"tasks": {"topics": TOPICS}, "axes": {**content["axes"], "target": ["topics"]}}
    found = sweep.load(content, base=tmp_path)
    assert found.check().mistakes == ()
    assert found.results_folder == tmp_path / "runs" / "small"
    assert any("en.tsv" in mistake for mistake in sweep.load(content).check().mistakes)


def test_plain_values_of_libraries_are_taken_and_others_refused(content, tmp_path):
    content["axes"] |= {"seed": [np.int64(1)], "target": ("world/topic",)}
    content["target"] |= {"learning_rate": np.float64(1e-3)}
    assert sweep.load({**content, "results": tmp_path}).plan().summary["chains"] == 2
    with pytest.raises(StudyError, match=r"study: found a value that is not plain \(\{'world/topic'\}, a set\)"):
        sweep.load({**content, "axes": {**content["axes"], "target": {"world/topic"}}})


def test_a_file_that_cannot_be_read_is_said_at_once(tmp_path):
    with pytest.raises(StudyError, match=r"absent\.yaml: found no readable file"):
        sweep.load(tmp_path / "absent.yaml")
    with pytest.raises(TypeError, match="`base` goes with a mapping"):
        sweep.load(study_file(tmp_path), base=tmp_path)
    with pytest.raises(StudyError, match="found no study"):
        sweep.open(tmp_path)


def test_a_file_is_read_anew_by_every_method(path):
    loaded = sweep.load(path)
    assert loaded.plan().summary["cells"] == 2
    study_file(path.parent)
    assert loaded.plan().summary["cells"] == 1


# Checking


def test_a_check_lists_mistakes_in_place_of_raising_them(content):
    content["axes"] |= {"target": ["world/topik"], "encoder": ["tinny"]}
    found = sweep.load(content).check()
    assert [mistake.split(": found")[0] for mistake in found.mistakes] == [
        "study: axes.target[0]", "study: axes.encoder[0]",
    ]  # fmt: skip
    assert (found.notes, found.cells) == ((), 0)
    assert str(found) == "\n".join(found.mistakes)
    assert sweep.load({"study": "x", "axis": {}}).check().mistakes[0].startswith("study: axis: found the unknown key")


def test_a_check_is_what_the_command_prints(path, capsys):
    found = sweep.load(path).check()
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: {found}\n"
    assert (found.cells, found.data_sets, found.mistakes) == (2, 3, ())
    assert found.notes


# Planning


def test_frames_of_a_plan_add_up_to_its_summary(tmp_path):
    plan = sweep.load(study_file(tmp_path, {**TWO, "seed": [1, 2]}, target=GRID, tuning={"candidates": 2})).plan()
    assert plan.chains["flops_new"].sum() == pytest.approx(plan.summary["flops_shared"])
    assert plan.chains["flops"].sum() == pytest.approx(plan.summary["flops_unshared"])
    assert (len(plan.cells), len(plan.chains)) == (plan.summary["cells"], plan.summary["chains"]) == (2, 6)
    assert (len(plan.phases), plan.phases["chains"].sum()) == (
        plan.summary["phases_distinct"], plan.summary["phases_unshared"],
    )  # fmt: skip
    assert set(plan.chains["phases"].explode()) == set(plan.phases["phase"])
    assert plan.chains["name"].is_unique
    assert plan.chains["lr.intermediate"].isna().sum() == 3
    assert plan.cells["covered"].all()


def test_a_budget_that_is_asked_about_covers_the_cells_that_the_plan_says(path):
    small = sweep.load(path)
    first, second = small.plan().cells["amount"]
    plan = small.plan(budget=f"{first + second / 2:.0f} flops")
    assert list(plan.cells["covered"]) == [True, False]
    assert [entry["spent"] for entry in plan.summary["coverage"]] == [plan.cells["spent"][0]] == [first]
    assert np.isnan(plan.cells["amount"][1])
    with pytest.raises(StudyError, match=r"^budget: found '1 flop'.*did you mean"):
        small.plan("1 flop")


def test_a_plan_prints_what_the_command_prints(path, capsys):
    for budget in (None, "1e13 flops"):
        options = [] if budget is None else ["--budget", budget]
        assert main(["plan", str(path), *options]) == 0
        plan = sweep.load(path).plan(budget)
        assert capsys.readouterr().out == f"{plan}\n"
        assert main(["plan", str(path), *options, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(plan.summary))


# One chain in this process


def test_a_chain_that_was_run_alone_is_found_by_a_run(path):
    small, events = sweep.load(path), list[Progress]()
    scores = small.run_chain("none | - | world/topic, seed 1", events.append)
    assert list(scores["state"].unique()) == ["done"]
    assert len(scores) == 7
    assert [events[-1].state, events[-1].done, events[-1].chains] == ["done", 1, 1]
    assert [event.step for event in events if event.phase == "target" and event.dev is not None] == [4, 8]
    stands = small.plan().standing
    assert stands is not None
    assert (stands.done, stands.left, stands.scored_alone, stands.again) == (1, 1, 0, {})
    trained, results = {*Store(path.parent / "runs/small/store").keys("phases")}, path.parent / "runs" / "small"
    _, done = reported(path, results)
    chains = sweep.open(results).chains().set_index("intermediate")
    assert done == 2
    assert chains["flops"]["none"] == events[-1].flops
    assert len({*Store(results / "store").keys("phases")} - trained) == 2


def test_a_chain_alone_has_the_results_that_it_has_in_a_run(path, done):
    _, count = reported(path, path.parent / "runs" / "small")
    assert count == 2
    run, alone = (Store(folder / "store") for folder in (path.parent / "runs" / "small", done.folder))
    assert run.keys("scores") == alone.keys("scores")
    assert [unmeasured(run.score(key)) for key in run.keys("scores")] == [
        unmeasured(alone.score(key)) for key in alone.keys("scores")
    ]


def test_a_chain_that_is_done_is_done_at_once(done):
    small, events = sweep.load(done.folder.parents[1] / "study.yaml"), list[Progress]()
    again = small.run_chain("world/nli", events.append)
    pd.testing.assert_frame_equal(
        again, done.scores()[done.scores()["chain"] == again["chain"][0]].reset_index(drop=True)
    )
    assert [(event.state, event.flops) for event in events] == [("done", 0.0)]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("seed 1", ["'seed 1', which 2 fit", "tiny | none | - | world/topic, seed 1; tiny | world/nli | full"]),
        (
            "tiny | non | - | world/topic, seed 1",
            ["does not have", "expected: tiny | none | - | world/topic, seed 1; "],
        ),
        ({"seed": 7}, ["{'seed': 7}, which the study does not have", "tiny | none | - | world/topic, seed 1"]),
        ({"sed": 1}, ["the unknown column 'sed'", "did you mean 'seed'?"]),
    ],
)
def test_a_chain_that_is_none_or_several_is_one_line_with_those_that_are_meant(asked, said, done):
    with pytest.raises(StudyError, match=r"^chain: found") as caught:
        sweep.load(done.folder.parents[1] / "study.yaml").run_chain(asked)
    assert [fragment for fragment in said if fragment not in str(caught.value)] == []


def test_a_chain_whose_rates_depend_on_scores_waits_for_them(path):
    small = sweep.load(study_file(path.parent, {"seed": [1, 2]}, target=GRID, tuning={"candidates": 2}))
    for asked in ({"seed": 2}, "seed 1, candidate 1"):
        with pytest.raises(StudyError, match="whose hyperparameters are chosen by dev scores that are not known yet"):
            small.run_chain(asked)


def test_candidates_that_were_run_alone_are_compared_by_a_run(path):
    tuned = study_file(path.parent, {"seed": [1, 2]}, target=GRID, tuning={"candidates": 3})
    small, results = sweep.load(tuned), path.parent / "runs" / "small"
    for candidate in range(3):
        small.run_chain(f"seed 1, candidate {candidate}")
    assert not sweep.open(results).chains()["selected"].any()
    trained = {*Store(results / "store").keys("phases")}
    reported(tuned, results)
    chains = sweep.open(results).chains()
    assert list(chains["selected"]).count(True) == 2
    assert len({*Store(results / "store").keys("phases")} - trained) == 2  # pretraining and target of the other seed


def test_a_chain_that_the_budget_does_not_pay_for_is_not_begun_or_stops(path):
    poor = study_file(path.parent, TWO, budget="1e6 flops")
    with pytest.raises(StudyError, match=r"^budget: found 1e\+06 FLOPs, of which too little is left for this chain"):
        sweep.load(poor).run_chain("none")
    assert sweep.open(path.parent / "runs" / "small").chains().empty


def test_a_breakpoint_in_code_of_a_users_own_opens_and_its_error_arrives_as_it_was_raised(path, monkeypatch):
    (path.parent / "metric_of_a_debugger.py").write_text(
        "def fragile(sums):\n    breakpoint()\n    raise ZeroDivisionError('of the metric')\n"
    )
    for name in ("en", "sw"):
        (path.parent / f"{name}.tsv").write_text("text\tlabel\na word\tx\nno word\ty\n")
    topics = {**TOPICS, "metric": "metric_of_a_debugger:fragile"}
    own = study_file(path.parent, {"target": ["topics"]}, tasks={"topics": topics}, results="own")
    opened = list[str]()
    monkeypatch.setattr(sys, "breakpointhook", lambda: opened.append(sys._getframe(1).f_code.co_name))
    with pytest.raises(ZeroDivisionError, match="of the metric"):
        main(["run", str(own), "--chain", "seed 1", "--inline"])
    assert opened == ["fragile"]
    chains = sweep.open(path.parent / "own").chains()
    assert list(chains["message"]) == ["ZeroDivisionError: of the metric"]
    assert list(chains["state"]) == ["failed"]


def test_what_a_listener_raises_ends_the_chain_which_goes_on_from_there(path):
    small = sweep.load(path)

    def refuse(event: Progress) -> None:
        if event.phase == "score":
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        small.run_chain("none", refuse)
    events = list[Progress]()
    small.run_chain("none", events.append)
    assert {event.phase for event in events} == {"", "score"}


def test_a_chain_leaves_torch_its_threads(path):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        sweep.load(path).run_chain("none")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_the_command_line_runs_one_chain_inline(done, capsys):
    file = str(done.folder.parents[1] / "study.yaml")
    assert main(["run", file, "--chain", "world/nli", "--inline"]) == 0
    first, *rows = capsys.readouterr().out.splitlines()
    assert first == "tiny | world/nli | full | world/topic, seed 1, accuracy:"
    assert [row.split()[0] for row in rows] == ["pivot", "sov25", "sov55", "svo70", "svo85", "vso10", "vso40"]
    for options in (["--chain", "world/nli"], ["--inline"]):
        assert main(["run", file, *options]) == 2
        assert capsys.readouterr().err.startswith("sweep: --chain and --inline: found one of them; both are")


# Progress of a run


def test_a_listener_hears_of_every_end_with_what_it_cost(tmp_path):
    lab = Lab(study(tmp_path, tuning={"candidates": 1}), tmp_path)
    collapsing(lab, "intermediate", ("world/nli",))
    events = list[Progress]()
    feed = Feed(lab.admission, events.append)
    while not lab.admission.finished:
        lab.run(1)
        feed.update()
    feed.close()
    ends = [event for event in events if event.state != "running"]
    assert len(ends) == len({(event.chain, event.candidate) for event in ends}) == lab.admission.total
    assert {event.state for event in ends} == {"done", "collapsed"}
    assert all("learned nothing" in event.message for event in ends if event.state == "collapsed")
    assert ends[-1].done == sum(event.state == "done" for event in ends)


def test_what_a_listener_raises_closes_the_study_and_is_raised_at_its_end(tmp_path):
    lab = Lab(study(tmp_path), tmp_path, workers=2)

    def refuse(_event: Progress) -> None:
        raise LookupError("enough")

    feed = Feed(lab.admission, refuse)
    lab.fill()
    feed.say("a line")
    assert lab.admission.next() is None
    lab.run()
    assert lab.admission.finished
    with pytest.raises(LookupError, match="enough"):
        feed.close()


# Results


def test_scores_are_those_of_the_published_table(done):
    page = done.report()
    assert page == done.folder / "report.html"
    table = pd.read_csv(done.folder / "scores.csv", keep_default_na=False, na_values=[""], dtype={"volume": str})
    assert list(table.columns) == list(done.scores().columns)
    assert table["value"].to_numpy() == pytest.approx(done.scores()["value"].to_numpy())


@pytest.mark.parametrize(
    ("per", "rows", "beyond"),
    [("target", 2, []), ("language", 14, ["language"]), ("group", None, ["group"]), ("mean", 1, None)],
)
def test_gains_have_a_row_for_each_of_what_they_are_asked_per(per, rows, beyond, done):
    gains = done.gains(per)
    assert rows is None or len(gains) == rows
    named = ["encoder", "intermediate"] if beyond is None else [*cell_columns(), *beyond]
    assert not gains.duplicated(named).any()
    assert {"gain", "low", "high", "p_corrected", "verdict"} <= set(gains.columns)


def test_gains_per_something_else_are_refused(done):
    with pytest.raises(StudyError, match=r"per: found 'languages'; one of .*did you mean 'language'"):
        done.gains("languages")


def test_an_answer_is_the_reports_sentence_with_what_backs_it(done):
    answer = done.answer()
    assert str(answer) == answer.sentence
    assert answer.sentence in done.report().read_text(encoding="utf-8")
    mean = done.gains("mean").iloc[0]
    assert (answer.setting, answer.verdict, answer.seeds, answer.targets) == ("world/nli", "one seed", 1, 1)
    assert (answer.gain, answer.low, answer.high) == (mean["gain"], mean["low"], mean["high"])
    assert repr(answer).splitlines() == [
        answer.sentence,
        "(2 of 2 chains are done)",
        *(f"- {it}" for it in answer.doubts),
    ]
    assert answer.doubts


def test_a_study_without_a_comparison_has_an_answer_too(path):
    small = sweep.load(study_file(path.parent))
    small.run_chain("none")
    answer = sweep.open(small.results_folder).answer()
    assert answer.sentence.startswith("Nothing can be compared with no intermediate phase yet")
    assert (answer.setting, answer.verdict) == (None, "missing")


def test_curves_have_every_point_of_every_phase_once(done):
    curves, store = done.curves(), Store(done.folder / "store")
    assert not curves.duplicated(["phase", "measure", "step"]).any()
    for key in store.keys("phases"):
        record, mine = store.phase(key), curves[curves["phase"] == key]
        assert record is not None
        for measure, points in (("loss", [p["loss"] for p in record.curve]), ("dev", [p["value"] for p in record.dev])):
            assert list(mine[mine["measure"] == measure]["value"]) == points
    shared = curves[curves["kind"] == "pretrain"].iloc[0]
    assert set(shared["chains"]) == set(done.chains()["chain"])


def test_the_encoder_of_a_chain_has_the_weights_that_were_kept(done):
    encoder, tokenizer = done.encoder(intermediate=["world/nli"], target="world/topic", seed=1)
    target = done.curves().query("kind == 'target'").explode("chains")
    chain = done.chains().query("intermediate == 'world/nli'")["chain"].iloc[0]
    key = target[target["chains"] == chain]["phase"].iloc[0]
    kept = load_file(done.folder / "store" / "phases" / key / "encoder.safetensors")
    assert not encoder.training
    assert all(torch.equal(tensor, kept[name]) for name, tensor in encoder.state_dict().items())
    assert encoder(**tokenizer("a text", return_tensors="pt")).last_hidden_state.shape[-1] == 32
    with pytest.raises(StudyError, match=r"^intermediate: found .* did you mean"):
        done.encoder(intermediate="world/nly")


def test_predictions_are_those_of_the_winners_and_of_what_is_asked_for(done):
    found, scores = done.predictions(), done.scores()
    assert set(found["chain"]) == set(scores["chain"])
    language = scores["language"].iloc[0]
    asked = done.predictions("world/topic", language)
    assert len(asked) == 50 * 2
    for chain, part in asked.groupby("chain"):
        value = scores[(scores["chain"] == chain) & (scores["language"] == language)]["value"].iloc[0]
        assert (part["gold"] == part["prediction"]).mean() == pytest.approx(value)
    with pytest.raises(StudyError, match="did you mean 'world/topic'"):
        done.predictions("world/topics")


def test_results_stay_as_they_were_read_and_do_not_change_with_their_frames(done):
    for frame in (done.scores(), done.gains()):
        frame["value"] = 7.0
    assert done.scores()["value"].max() < 1
    assert done.gains()["value"].max() < 1
    assert repr(done) == f"results of small in {done.folder}: 2 of 2 chains are done"
