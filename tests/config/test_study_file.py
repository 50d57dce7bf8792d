"""Facts about the study file: what is read rightly, and the one line that each mistake gives."""

from __future__ import annotations

import re

import pytest

from sweep.config.load import load, parse
from sweep.config.phases import PhaseSettings
from sweep.errors import SweepError

GOOD = """
study: sample
axes: {encoder: [a], intermediate: [none, nli, [nli, pos]], target: [no, topic], seed: [1, 2]}
intermediate: {learning_rate: {log: [1e-5, 1e-3], points: 3}, batch_tokens: 100, epochs: 1}
target: {learning_rate: 1e-5, batch_tokens: 100, epochs: 1, overrides: {topic: {steps: 10}}}
budget: 2 device-hours
runtime: {gpu: 0.5}
"""

MISTAKES = [
    ("seed: [1, 2]", "sede: [1, 2]", ["axes.sede", "unknown key 'sede'", "did you mean 'seed'"]),
    ("study: sample", "study: sample\nbudgte: 1", ["budgte", "did you mean 'budget'"]),
    ("epochs: 1, overrides", "epoch: 1, overrides", ["target.epoch", "did you mean 'epochs'"]),
    ("{steps: 10}", "{step: 10}", ["overrides.topic.step", "did you mean 'steps'"]),
    ("{steps: 10}", "{sampling: {capp: 3}}", ["target.overrides.topic.sampling.capp", "did you mean 'cap'"]),
    ("{steps: 10}", "{steps: ten}", ["target.overrides.topic.steps: found 'ten'", "a whole number"]),
    ("{steps: 10}", "{steps: 10, epochs: 1}", ["target.overrides.topic: found {'steps': 10, 'epochs': 1}"]),
    ("{topic: {steps: 10}}", "{7: {steps: 10}}", ["target.overrides.7: found the key 7", "text as a key"]),
    ("runtime: {", "encoders: {tokenizer: {pth: x}}\nruntime: {", ["encoders.tokenizer.pth", "did you mean 'path'"]),
    ("gpu: 0.5", "gpus: 1", ["runtime.gpus", "did you mean 'gpu'"]),
    ("seed: [1, 2]", "seed: []", ["axes.seed", "at least one value"]),
    ("seed: [1, 2]", "seed: [1, 1]", ["axes.seed", "1 occurs twice"]),
    ("seed: [1, 2]", "seed: ['1']", ["axes.seed[0]", "'1'", "a whole number"]),
    ("seed: [1, 2]", "seed: 1", ["axes.seed: found 1", "a list"]),
    ("seed: [1, 2]", "seed: [1, 2], volume: [1, ful]", ["axes.volume[1]", "did you mean 'full'"]),
    ("seed: [1, 2]", "seed: [1, 2], volume: [0]", ["axes.volume[0]", "above 0"]),
    ("[nli, pos]", "[nli, c++]", ["axes.intermediate", "names without '+'", "not c++"]),
    ("encoder: [a]", "encoder: [a | b]", ["axes.encoder", "names without ' | '", "not a | b"]),
    ("seed: [1, 2]", "seed: [1], chain_budget: {flops: [1e15, 1.0000001e15]}", ["axes.chain_budget", "1e+15 occurs"]),
    ("[nli, pos]", "[nli, nli]", ["axes.intermediate", "nli occurs twice"]),
    ("[nli, pos]", "[nli, pos], [pos, nli]", ["axes.intermediate", "nli+pos occurs twice"]),
    ("[nli, pos]", "[nli, none]", ["axes.intermediate", "'none' alone"]),
    ("intermediate: [none,", "intermediate: [none, none,", ["axes.intermediate", "none occurs twice"]),
    ("axes: {", "axes: 5\nold: {", ["old", "unknown key 'old'"]),
    ("runtime: {gpu: 0.5}", "runtime: 5", ["runtime: found 5", "a mapping"]),
    ("budget: 2", "language_groups: {low: []}\nbudget: 2", ["language_groups.low: found an empty list"]),
    ("log: [1e-5, 1e-3]", "log: [1e-5]", ["intermediate.learning_rate.log", "one more value"]),
    ("log: [1e-5, 1e-3]", "log: [1e-3, 1e-5]", ["intermediate.learning_rate", "the lower first"]),
    ("points: 3", "points: 1", ["intermediate.learning_rate", "at least 2 points"]),
    ("epochs: 1, overrides", "epochs: 1, warmup: 2, overrides", ["target.warmup: found 2", "or {steps: 100}"]),
    ("epochs: 1, overrides", "epochs: 1, warmup: {}, overrides", ["target.warmup", "'share' and 'steps'"]),
    ("epochs: 1, overrides", "epochs: 1, warmup: {step: 9}, overrides", ["target.warmup.step", "did you mean 'steps'"]),
    ("epochs: 1, overrides", "epochs: 1, schedule: wsd, overrides", ["target", "warmup: {steps: 100}"]),
    ("{steps: 10}", "{schedule: wsd, warmup: 0.1}", ["target.overrides.topic", "warmup: {steps: 100}"]),
    ("learning_rate: 1e-5", "learning_rate: fast", ["target.learning_rate", "'fast'"]),
    ("learning_rate: 1e-5", "learning_rate: -1", ["target.learning_rate: found -1", "a number above 0"]),
    ("learning_rate: 1e-5", "learning_rate: 10", ["target.learning_rate: found 10", "less than 10"]),
    ("learning_rate: 1e-5", "clip: .inf, learning_rate: 1e-5", ["target.clip: found inf", "a finite number"]),
    ("gpu: 0.5", "gpu: .inf", ["runtime.gpu: found inf", "0, 1, 1/k of a GPU"]),
    ("gpu: 0.5", "gpu: 2", ["runtime.gpu: found 2", "a chain trains on one GPU"]),
    ("gpu: 0.5", "gpu: .nan", ["runtime.gpu: found nan", "0, 1, 1/k of a GPU"]),
    ("gpu: 0.5", "cores: 0", ["runtime.cores: found 0"]),
    ("gpu: 0.5", "cores: -2", ["runtime.cores: found -2"]),
    ("gpu: 0.5", "keep_target_weights: 1", ["runtime.keep_target_weights: found 1", "true or false"]),
    ("study: sample", "study: a sample", ["study: found 'a sample'", "letters, digits"]),
    ("study: sample\n", "", ["study: found nothing", "the key 'study'"]),
    ("epochs: 1, overrides", "epochs: 1, steps: 5, overrides", ["target", "exactly one of 'epochs' and 'steps'"]),
    ("2 device-hours", "2 device-hours\ndeadline: 8", ["deadline: found 8", "as in '8h' or '90 min'"]),
    ("2 device-hours", "2 device-hours\ndeadline: 8 hours", ["deadline: found '8 hours'", "s, min, h, d"]),
    ("2 device-hours", "2 device-hours\ndeadline: 0h", ["deadline", "above zero"]),
    ("2 device-hours", "2 device-hours\ndeadline: 1.2.3h", ["deadline", "above zero"]),
    ("2 device-hours", "2 device-hours\ndeadline: 1e9999h", ["deadline"]),
    ("gpu: 0.5", "silence: 30", ["runtime.silence: found 30", "as in '8h' or '90 min'"]),
    ("gpu: 0.5", "silence:", ["runtime.silence"]),
    ("2 device-hours", "0 device-hours", ["budget", "above zero"]),
    ("2 device-hours", "-1 flops", ["budget", "above zero"]),
    ("2 device-hours", "2 device-yours", ["budget", "did you mean 'device-hours'"]),
    ("2 device-hours", "2 hours", ["budget", "did you mean 'device-hours'"]),
    ("2 device-hours", "1e999 flops", ["budget", "above zero"]),
    ("2 device-hours", "two flops", ["budget", "as in '2 device-hours'"]),
    ("2 device-hours", "2", ["budget", "as in '2 device-hours'"]),
    ("gpu: 0.5", "gpu: 0.3", ["runtime.gpu: found 0.3", "1/k of a GPU such as 0.5 or 0.25"]),
    ("gpu: 0.5", "gpu: 1.5", ["runtime.gpu: found 1.5", "a chain trains on one GPU"]),
    ("gpu: 0.5", "gpu: -1", ["runtime.gpu: found -1"]),
    ("gpu: 0.5", "gpu: yes please", ["runtime.gpu", "'auto'"]),
    ("gpu: 0.5", "gpu: atuo", ["runtime.gpu: found 'atuo'", "did you mean 'auto'"]),
    ("gpu: 0.5", "gpu: true", ["runtime.gpu: found True"]),
    ("gpu: 0.5", "precision: fp61", ["runtime.precision", "'fp61'"]),
    ("study: sample", "study: [", ["study.yaml:", "YAML is expected"]),
    ("study: sample\n", "study: sample\nstudy: other\n", ["study.yaml:", "duplicate key"]),
    ("study: sample", "study: *sample", ["study.yaml:2: found undefined alias"]),
    ("study: sample", "study: " + 101 * "a", ["study: found", "at most 100 characters"]),
    ("study: sample", 'study: sample\nresults: "a\\0b"', ["results", "a name of printable characters"]),
    ("{topic: {steps: 10}}", '{"a\\u0007": {}}', ["target.overrides", "text as a key"]),
    ("seed: [1, 2]", "seed: [4294967296]", ["axes.seed[0]", "less than 4294967296"]),
    ("seed: [1, 2]", "seed: [1], volume: [1.5]", ["axes.volume[0]: found 1.5"]),
    ("gpu: 0.5", "gpu: 5e-324", ["runtime.gpu: found 5e-324", "1/k"]),
    ("gpu: 0.5", "cores: 1000000000000000000000", ["runtime.cores", "a number up to 1e+12"]),
    ("points: 3", "points: 1000000000", ["learning_rate.points", "a number up to 1000"]),
    ("epochs: 1, overrides", "epochs: 1e308, overrides", ["target.epochs", "a number up to 1e+06"]),
    ("{steps: 10}", "{steps: 10, warmup: {steps: 11}}", ["target.overrides.topic", "no longer than the phase's steps"]),
    ("budget: 2", "language_groups: {low: [sw, sw]}\nbudget: 2", ["language_groups.low", "sw occurs twice"]),
    (
        "budget: 2",
        "encoders: {a: {random_init: {model_type: 3}}}\nbudget: 2",
        ["encoders.a.random_init", "'model_type'"],
    ),
    ("budget: 2", "encoders: {a: {random_init: {model_type: bert, x: .inf}}}\nbudget: 2", ["value.x is inf"]),
    ("seed: [1, 2]", "seed: [1], targt.clip: [1]", ["axes.targt.clip: found the unknown phase", "mean 'target.clip'"]),
    ("seed: [1, 2]", "seed: [1], warmup: [0, 0.1]", ["axes.warmup: found the unknown key", "mean 'target.warmup'"]),
    ("seed: [1, 2]", "seed: [1], target.clp: [1]", ["axes.target.clp: found the unknown key", "mean 'target.clip'"]),
    ("seed: [1, 2]", "seed: [1], target.overrides: [1]", ["unknown key 'overrides'", "one of learning_rate, batch"]),
    ("seed: [1, 2]", "seed: [1], target.sampling.bye: [1]", ["key 'sampling.bye'", "mean 'target.sampling.by'"]),
    ("seed: [1, 2]", "seed: [1], target.learning_rate.log: [1]", ["unknown key 'learning_rate.log'"]),
    ("seed: [1, 2]", "seed: [1], target.clip: 1", ["axes.target.clip: found 1", "a list"]),
    ("seed: [1, 2]", "seed: [1], target.clip: []", ["axes.target.clip: found an empty list", "at least one value"]),
    ("seed: [1, 2]", "seed: [1], target.clip: [1, -1]", ["axes.target.clip[1]: found -1", "a number above 0"]),
    ("seed: [1, 2]", "seed: [1], target.clip: [.inf]", ["axes.target.clip[0]: found inf", "a finite number"]),
    ("seed: [1, 2]", "seed: [1], target.decay: [0.01, 1e-2]", ["axes.target.decay", "0.01 occurs twice"]),
    ("seed: [1, 2]", "seed: [1], target.warmup: [0.1, {share: 0.1}]", ["axes.target.warmup", "share=0.1 occurs twice"]),
    ("seed: [1, 2]", "seed: [1], target.warmup: [{step: 1}]", ["target.warmup[0].step", "did you mean 'steps'"]),
    ("seed: [1, 2]", "seed: [1], target.select: [bets]", ["axes.target.select[0]: found 'bets'", "mean 'best'"]),
    ("seed: [1, 2]", "seed: [1], target.schedule: [linear, wsd]", ["axes.target.schedule: found target.schedule wsd"]),
    (
        "seed: [1, 2]",
        "seed: [1], target.warmup: [0.1, {steps: 3}], target.schedule: [linear, wsd]",
        ["axes.target.warmup: found target.schedule wsd with target.warmup 0.1", "a warm-up in steps is expected"],
    ),
    ("seed: [1, 2]", "seed: [1], pretrain.clip: [1]", ["axes.pretrain.clip", "the pretrain phase, which this study"]),
    ("none, nli, [nli, pos]]", "none], intermediate.clip: [1]", ["axes.intermediate.clip", "an intermediate task"]),
    (
        "seed: [1, 2]",
        "seed: [1], target.epochs: [1]",
        ["target.overrides.topic.steps: found a value beside axes.target"],
    ),
    (
        "seed: [1, 2]",
        "seed: [1], intermediate.epochs: [1], intermediate.steps: [1]",
        ["axes.intermediate.steps: found an axis beside intermediate.epochs, which sets the same"],
    ),
    (
        "seed: [1, 2]",
        "seed: [1], intermediate.learning_rate: [1e-4]",
        ["axes.intermediate.learning_rate: found an axis of what intermediate.learning_rate tunes"],
    ),
    (
        "seed: [1, 2]",
        "seed: [1], target.learning_rate: [{log: [1e-5, 1e-3], points: 3}]",
        ["axes.target.learning_rate[0]: found {'log'", "one value is expected"],
    ),
    (
        "seed: [1, 2]",
        "seed: [1], chain_budget: {flops: [1e15]}, intermediate.epochs: [1]",
        ["axes.intermediate.epochs: found a length", "axes.chain_budget says how long this phase is"],
    ),
    ("{steps: 10}", "{clip: {choices: [1, -1]}}", ["target.overrides.topic.clip.choices[1]: found -1", "above 0"]),
    (GOOD, "- a list", ["study.yaml: found ['a list']"]),
    (GOOD, "", ["study.yaml: found nothing", "a mapping"]),
]
SPACE_MISTAKES = [
    ("epochs: {choices: [1, 0]}", ["target.epochs.choices[1]: found 0", "above 0"]),
    ("epochs: {choices: [1, null]}", ["target.epochs.choices[1]", "a number"]),
    ("epochs: {choices: []}", ["target.epochs: found", "at least 2 choices"]),
    ("epochs: {choices: [1, 1]}", ["target.epochs: found", "1.0 occurs twice"]),
    ("epochs: {choices: [1, 2], first: 3}", ["target.epochs", "one of the choices"]),
    ("epochs: {choices: [1, 2], points: 2}", ["target.epochs", "without 'points'"]),
    ("epochs: {linear: [1], points: 2}", ["target.epochs.linear", "one more value"]),
    ("epochs: {linear: [1, two], points: 2}", ["target.epochs.linear[1]: found 'two'"]),
    ("epochs: {linear: [1, 2]}", ["target.epochs", "the key 'points'"]),
    ("epochs: {linear: [1, 2], points: 1}", ["target.epochs", "at least 2 points"]),
    ("epochs: {linear: [1, 2], points: 2000}", ["target.epochs.points", "a number up to 1000"]),
    ("epochs: {liner: [1, 2], points: 2}", ["target.epochs.liner", "did you mean 'linear'"]),
    ("epochs: {}", ["target.epochs", "exactly one of 'log', 'linear' and 'choices'"]),
    ("steps: {linear: [8, 9], points: 3}", ["target.steps", "no more points than there are different values", "2"]),
    ("steps: {linear: [10, 50], points: 5}, warmup: {steps: 11}", ["target", "no longer than the phase's steps"]),
    ("epochs: 1, weight_decay: {log: [0, 1], points: 2}", ["target.weight_decay", "above 0, the lower first"]),
    ("epochs: 1, dropout: {linear: [null, 1], points: 2}", ["target.dropout.linear[0]: found nothing", "a number"]),
    ("epochs: 1, warmup: {choices: [0, 2]}", ["target.warmup.choices[1]: found 2", "a number up to 1"]),
    ("epochs: 1, warmup: {linear: [0, 1], point: 2}", ["target.warmup.point", "did you mean 'points'"]),
    ("epochs: 1, sampling: {temperature: {choices: [1, 0]}}", ["target.sampling.temperature.choices[1]: found 0"]),
    ("epochs: 1, evaluations: {choices: [2, 4]}", ["target.evaluations: found {'choices'", "a whole number"]),
]
MISTAKES += [("epochs: 1, overrides", f"{written}, overrides", said) for written, said in SPACE_MISTAKES]


@pytest.mark.parametrize(("good", "bad", "said"), MISTAKES, ids=[bad.strip()[:30] for _, bad, _ in MISTAKES])
def test_a_mistake_is_one_line_with_its_place_what_was_found_and_what_would_do(good, bad, said):
    assert good in GOOD
    with pytest.raises(SweepError) as raised:
        parse(GOOD.replace(good, bad, 1), "study.yaml")
    line = str(raised.value)
    assert "\n" not in line
    assert line.startswith("study.yaml")
    for fragment in said:
        assert fragment in line


def test_bytes_that_are_no_text_are_one_line(tmp_path):
    (tmp_path / "study.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SweepError, match="no readable file"):
        load(tmp_path / "study.yaml")


def test_numbers_and_norwegian_are_read_as_yaml_1_2_reads_them():
    study = parse(GOOD, "study.yaml")
    assert study.target.learning_rate == 1e-5
    assert study.axes.target == ("no", "topic")


def test_none_is_no_phase_a_name_is_one_task_and_a_list_is_one_phase_on_several():
    assert parse(GOOD, "study.yaml").axes.intermediate == ((), ("nli",), ("nli", "pos"))


SPACES = [
    ("learning_rate: {log: [1e-5, 1e-3], points: 3}", (1e-5, 1e-4, 1e-3), 1e-4),
    ("learning_rate: {log: [1e-5, 1e-3], points: 3, first: 2e-5}", (1e-5, 1e-4, 1e-3), 1e-5),
    ("weight_decay: {linear: [0, 0.3], points: 4}", (0.0, 0.1, 0.2, 0.3), 0.1),
    ("batch_tokens: {log: [256, 4096], points: 5}", (256, 512, 1024, 2048, 4096), 1024),
    ("steps: {linear: [10, 25], points: 3}", (10, 18, 25), 18),
    ("clip: {choices: [5, 1, 0.5], first: 5}", (0.5, 1.0, 5.0), 5.0),
    ("dropout: {choices: [null, 0.2, 0.1]}", (None, 0.2, 0.1), None),
    ("warmup: {choices: [0, 0.06, 0.1]}", (0.0, 0.06, 0.1), 0.06),
    ("warmup: {steps: {linear: [0, 8], points: 5}}", (0, 2, 4, 6, 8), 4),
    ("sampling: {temperature: {linear: [1, 5], points: 3}}", (1.0, 3.0, 5.0), 3.0),
    ("text: {temperature: {choices: [1, 3]}}", (1.0, 3.0), 1.0),
]


@pytest.mark.parametrize(("written", "values", "first"), SPACES, ids=[written for written, *_ in SPACES])
def test_a_number_may_be_a_space_of_values_of_its_own_type_and_stands_at_the_one_that_tuning_begins_with(
    written, values, first
):
    settings = _phase(written)
    ((name, space),) = settings.spaces.items()
    assert (space.values, settings.possible(name)) == (values, values)
    assert [type(value) for value in space.values] == [type(value) for value in values]
    begun = settings
    for part in name.split("."):
        begun = getattr(begun, part)
    assert begun == first
    assert settings.at({name: values[-1]}) == _phase(written, values[-1])


def _phase(written: str, value: object = None) -> PhaseSettings:
    """Settings with a key as `written`, or with the value in place of its space."""
    text = written if value is None else re.sub(r"\{(log|linear|choices)[^}]*\}", str(value), written)
    needed = {"learning_rate: 1e-5", "batch_tokens: 100", "epochs: 1"}
    named = {line for line in needed if line.partition(":")[0] == text.partition(":")[0]}
    others = needed - named - ({"epochs: 1"} if text.startswith("steps") else set())
    study = f"{GOOD[: GOOD.index('intermediate: {')]}target: {{{', '.join([text, *sorted(others)])}}}"
    target = parse(study, "study.yaml").target
    assert target is not None
    return target.of(("topic",))


def test_an_override_changes_its_task_alone_and_steps_replace_epochs():
    target = parse(GOOD, "study.yaml").target
    assert (target.of(("topic",)).steps, target.of(("topic",)).epochs) == (10, None)
    assert (target.of(("no",)).steps, target.of(("no",)).epochs) == (None, 1)


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("90 device-seconds", 90, "device_seconds"),
        ("2 device-minutes", 120, "device_seconds"),
        ("1e15 FLOPs", 1e15, "flops"),
    ],
)
def test_a_budget_has_a_unit(text, amount, unit):
    budget = parse(GOOD.replace("2 device-hours", text), "study.yaml").budget
    assert (budget.amount, budget.unit) == (amount, unit)


def test_a_layer_that_is_not_given_may_be_written_as_nothing():
    assert parse(GOOD + "scoring: {layer: null}", "study.yaml").scoring.layer is None


def test_a_character_that_json_writes_as_two_escapes_is_one():
    assert parse(GOOD + 'question: "\\ud83e\\udd17?"', "study.yaml").question == "\U0001f917?"


def test_an_anchor_that_is_used_again_is_no_mistake_and_prints_nothing():
    text = GOOD.replace("{learning_rate: 1e-5", "&a {learning_rate: 1e-5").replace("runtime: {", "runtime: &a {")
    assert parse(text, "study.yaml") == parse(GOOD, "study.yaml")


def test_a_second_mistake_is_announced():
    text = GOOD.replace("batch_tokens: 100", "batch_tokens: -1")
    with pytest.raises(SweepError, match="1 more after this one"):
        parse(text, "study.yaml")


def test_mistakes_of_all_axes_are_said_at_once():
    axes = "seed: [1, 1], targt.clip: [1], target.clip: [-1, x], intermediate.sampling.by: [even, odd]"
    with pytest.raises(SweepError) as raised:
        parse(GOOD.replace("seed: [1, 2]", axes), "study.yaml")
    places = {line.where for line in (raised.value, *raised.value.further)}
    assert places == {
        f"study.yaml: axes.{place}"
        for place in (
            "seed", "targt.clip", "target.clip[0]", "target.clip[1]", "intermediate.sampling.by[0]",
            "intermediate.sampling.by[1]",
        )
    }  # fmt: skip


def test_an_axis_of_a_setting_has_its_values_as_tables_write_them():
    axes = (
        "seed: [1], target.dropout: [null, 0.10], target.warmup: [0, {steps: 9}], target.clip: [1.0, 1e-5, 1234567.5]"
    )
    study = parse(GOOD.replace("seed: [1, 2]", axes), "study.yaml")
    texts = [study.axes.values(path) for path in ("target.dropout", "target.warmup", "target.clip")]
    assert texts == [("absent", "0.1"), ("0", "steps=9"), ("1", "1e-05", "1234567.5")]
    assert study.axes.changes((("target.warmup", "steps=9"), ("target.dropout", "absent")), "target") == {
        "warmup": {"steps": 9},
        "dropout": None,
    }
