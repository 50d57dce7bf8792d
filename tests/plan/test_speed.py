"""Facts about forecasts of device time: what measurements teach, what is assumed before, and what devices cost."""

from __future__ import annotations

import json

import pytest
from instant_workers import Lab, study
from small_studies import plan_of, study_file

from sweep.api import Study
from sweep.cli import USER_ERROR, main
from sweep.errors import StudyError
from sweep.plan.cost import Costs, Data, Work
from sweep.plan.hardware import GPUS, Price, device_of
from sweep.plan.order import plan_text, summary
from sweep.plan.speed import Speed, Taken

NLI = ("train", "sequence", "sequence, 1024 tokens", "one recipe")
TAGS = ("train", "token", "token, 1024 tokens", "another recipe")


def taken(kinds: tuple[str, ...], *parts: tuple[float, float]) -> dict[tuple[str, ...], Taken]:
    return {("tiny", *kinds): sum((Taken.of(*part) for part in parts), Taken())}


def forecast(speed: Speed, kinds: tuple[str, ...], flops: float, encoder: str = "tiny") -> float:
    return speed.device_seconds(Work(encoder, kinds, flops))


def test_work_in_proportion_to_its_flops_is_forecast_exactly():
    speed = Speed(taken(NLI, (1e12, 50.0), (3e12, 150.0)))
    assert forecast(speed, NLI, 2e12) == pytest.approx(100.0)
    assert forecast(speed, TAGS, 2e12) == pytest.approx(100.0)


def test_work_of_the_same_recipe_is_forecast_at_what_it_has_taken_on_average():
    speed = Speed(taken(NLI, (1e12, 50.0), (1e12, 70.0)))
    assert forecast(speed, NLI, 1e12) == pytest.approx(60.0, rel=0.01)


def test_what_parts_take_whatever_their_size_is_told_from_what_they_compute():
    """Three seconds to load and store, and 50 per 1e12 FLOPs."""
    speed = Speed(taken(NLI, *((size * 1e12, 3 + 50 * size) for size in (0.01, 0.1, 1.0, 2.0))))
    assert forecast(speed, NLI, 4e12) == pytest.approx(203.0, rel=0.05)
    assert forecast(speed, NLI, 0.02e12) == pytest.approx(4.0, rel=0.15)


def test_a_kind_that_is_slower_than_others_of_its_encoder_is_forecast_as_slower():
    speed = Speed(taken(NLI, (1e12, 50.0), (2e12, 100.0)) | taken(TAGS, (1e12, 80.0), (2e12, 160.0)))
    assert forecast(speed, NLI, 4e12) == pytest.approx(200.0, rel=0.02)
    assert forecast(speed, TAGS, 4e12) == pytest.approx(320.0, rel=0.02)
    new = ("train", "span", "span, 1024 tokens", "a third recipe")
    assert 200.0 < forecast(speed, new, 4e12) < 320.0


def test_an_encoder_of_which_nothing_is_known_is_forecast_by_the_others():
    speed = Speed(taken(NLI, (1e12, 50.0)))
    assert forecast(speed, NLI, 1e12, "another") == pytest.approx(50.0)


def test_the_range_narrows_with_what_is_known_of_the_work():
    known, work = taken(NLI, (1e12, 50.0)), Work("tiny", NLI, 1e12)
    works = [Work("another", NLI, 1e12), Work("tiny", ("score",), 1e12), Work("tiny", TAGS, 1e12), work]
    ranges = [Speed(known).device_time([each]) for each in works]
    widths = [found.high / found.low for found in (Speed().device_time([work]), *ranges)]
    assert widths[1:] == sorted(widths[1:], reverse=True)
    assert widths[0] > widths[2] > widths[-1] > 1
    assert all(found.low < found.expected < found.high for found in ranges)


def test_data_is_encoded_once_per_encoder():
    data = Data("tiny", "nli", "train", "en", None)
    speed = Speed({("tiny", *NLI): Taken.of(1e12, 50.0, examples=1000, encoding=2.0)})
    works = [Work("tiny", NLI, 1e12, {data: 500}), Work("tiny", TAGS, 1e12, {data: 500})]
    assert speed.encoding(works) == 1.0
    assert speed.encoding(works, {data}) == 0.0


def test_before_anything_is_measured_a_device_gives_the_range():
    time = Speed(device=device_of(1.0, "auto", "h100")).device_time([Work("tiny", NLI, 989e12)])
    assert (time.low, time.high) == pytest.approx((1 / 0.5, 1 / 0.15))
    assert "15% to 50%" in time.basis


def test_a_gpu_without_bf16_computes_in_fp32_as_every_one_does_where_the_study_says_so():
    assert device_of(1.0, "auto", "t4").peak == device_of(1.0, "fp32", "T4").peak == 8.1e12
    assert device_of(1.0, "fp32", "a100").peak < device_of(1.0, "auto", "a100").peak


@pytest.mark.parametrize("name", ["cpu", *GPUS])
def test_every_named_device_has_a_range(name):
    low, high = device_of(1.0, "auto", name).seconds(1e15)
    assert 0 < low < high


def test_what_was_measured_says_nothing_about_another_device_that_is_asked_for(tmp_path):
    lab = Lab(study(tmp_path, results="."), tmp_path).run(chains=2)
    planned = Study(lab.admission.plan.study.path)
    assert planned.plan().device_time.basis == "as its encoders were measured"
    assert planned.plan(on="h100").device_time == planned.plan(on="H100").device_time
    assert planned.plan(on="h100").device_time.basis.startswith("on h100: 15% to 50% of its peak")


def test_an_unknown_device_is_named_with_its_nearest(tmp_path, capsys):
    assert main(["plan", str(study_file(tmp_path)), "--on", "h10"]) == USER_ERROR
    assert capsys.readouterr().err.splitlines() == [
        "sweep: --on: found 'h10'; one of t4, l4, a10g, a100, h100, h200, cpu is expected; did you mean 'h100'?"
    ]


@pytest.mark.parametrize(
    ("text", "price", "written"),
    [
        ("2.5/h", Price(2.5), "3.75 to 5"),
        ("$2.5/h", Price(2.5, "$"), "$3.75 to 5"),
        ("2.5 EUR/h", Price(2.5, "", "EUR"), "3.75 to 5 EUR"),
        ("EUR 2.5 / h", Price(2.5, "EUR"), "EUR 3.75 to 5"),
    ],
)
def test_a_price_keeps_the_currency_as_it_was_given(text, price, written):
    assert Price.read(text) == price
    assert price.written(price.of(1.5 * 3600), price.of(2 * 3600)) == written


@pytest.mark.parametrize("text", ["2.5", "/h", "two/h", "-1/h", "2.5/d", ""])
def test_a_price_that_is_none_is_refused(text):
    with pytest.raises(StudyError, match="an amount per device-hour is expected"):
        Price.read(text)


def test_a_plan_says_device_time_as_a_range_also_without_budget_and_measurement(tmp_path):
    plan = plan_of(study_file(tmp_path))
    text = plan_text(plan, summary(plan, Costs(plan), Speed()), Speed())
    (line,) = [line for line in text.splitlines() if line.startswith("device time")]
    assert " to " in line
    assert line.endswith("device-seconds")


def test_the_summary_and_the_plan_in_python_have_the_same_time_and_its_price(tmp_path, capsys):
    file = study_file(tmp_path)
    assert main(["plan", str(file), "--json", "--on", "l4", "--price", "3/h"]) == 0
    printed = json.loads(capsys.readouterr().out)
    planned = Study(file).plan(on="l4", price="3/h")
    assert printed["device_time"] == planned.summary["device_time"]
    assert printed["price"]["high"] == pytest.approx(3 * planned.device_time.high / 3600)
    assert "at 3 per device-hour" in str(planned)
