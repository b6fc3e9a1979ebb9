"""What a reading says for every way in which the answers of Prometheus can be: recorded answers, no server."""

from __future__ import annotations

import pytest

from nereus.prometheus.client import QueryError
from nereus.prometheus.options import Options
from nereus.prometheus.queries import FOR_WARM_UP, Query
from nereus.prometheus.reader import Reader
from nereus.prometheus.reading import Freshness, Key, Reading, Wanted
from tests.unit.prometheus.recorded import NOW, SERVICE, Recorded, healthy, reader, row, wanted


async def read(source: Recorded, *services: Wanted, clock: float = NOW) -> Reading:
    """The reading of the first service."""
    asked = services or (wanted(),)
    found = await reader(source, clock=clock).read(asked)
    assert set(found) == {w.key for w in asked}
    return found[asked[0].key]


async def test_a_service_whose_pods_are_all_seen_is_fresh() -> None:
    reading = await read(Recorded())
    assert reading.state is Freshness.FRESH
    assert reading.message == ""
    assert reading.pods_seen == 2
    assert reading.at == NOW - 3
    assert reading.rate == 20
    assert reading.capacity == pytest.approx(95)  # 0.95 of batches of 4 in 40 ms
    assert reading.load == pytest.approx(20 / 95)
    assert not reading.lower_bound


async def test_an_objective_shorter_than_one_inference_is_advised_against() -> None:
    assert (await read(Recorded())).hint == ""  # batches of 4 in 40 ms, objective 500 ms
    hint = (await read(Recorded(), wanted(latency_seconds=0.03))).hint
    assert "one inference of m takes 0.04 s, longer than the objective of 0.03 s" in hint


async def test_a_service_without_requests_has_load_zero_and_is_fresh() -> None:
    reading = await read(Recorded(healthy(rate=0)))
    assert (reading.state, reading.load, reading.rate) == (Freshness.FRESH, 0, 0)


async def test_no_series_is_missing_and_never_zero() -> None:
    reading = await read(Recorded({}))
    assert reading.state is Freshness.MISSING
    assert reading.load is None
    assert reading.rate is None
    assert "2 pods are ready" in reading.message
    assert "serving_nereus_dev_service" in reading.message


async def test_series_without_the_label_of_the_service_are_named() -> None:
    reading = await read(Recorded({}, extra=[(r'service=""', [row(12)])]))
    assert reading.state is Freshness.MISSING
    assert "12 series of Triton without the label" in reading.message


async def test_a_service_without_ready_pods_is_no_fault() -> None:
    reading = await read(Recorded({}), wanted(ready=0))
    assert reading.state is Freshness.NO_PODS
    assert not reading.state.is_fault
    assert not reading.state.may_lower
    assert reading.load is None


async def test_old_samples_are_stale_and_their_values_are_not_used() -> None:
    source = Recorded({**healthy(), Query.NEWEST: [row(NOW - 100)], Query.PODS: []})
    reading = await read(source)
    assert reading.state is Freshness.STALE
    assert reading.load is None
    assert reading.pods_seen == 0
    assert "100 s old" in reading.message


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
async def test_a_rate_that_is_no_number_is_invalid_and_gives_no_load(value: str) -> None:
    source = Recorded({**healthy(), Query.INFERENCES: [row(value, model="m")]})
    reading = await read(source)
    assert reading.state is Freshness.INVALID
    assert reading.load is None
    assert "m is not a number" in reading.message


async def test_half_the_pods_is_partial_and_the_others_are_taken_to_have_as_much() -> None:
    reading = await read(Recorded(healthy(pods=2)), wanted(ready=4))
    assert reading.state is Freshness.PARTIAL
    assert reading.pods_seen == 2
    assert reading.rate == 20
    assert reading.load == pytest.approx(2 * 20 / 95)
    assert "2 of 4 ready pods" in reading.message


async def test_a_model_that_is_not_seen_is_partial() -> None:
    reading = await read(Recorded(), wanted(models=("m", "other")))
    assert reading.state is Freshness.PARTIAL
    assert reading.rate is None
    assert "no series of other" in reading.message


async def test_a_window_with_a_hole_is_recovering() -> None:
    reading = await read(Recorded({**healthy(), Query.WHOLE: []}))
    assert reading.state is Freshness.RECOVERING
    assert reading.load == pytest.approx(20 / 95)
    assert "60 s" in reading.message


async def test_one_new_pod_among_old_ones_is_no_hole() -> None:
    source = Recorded({**healthy(pods=5), Query.WHOLE: [row(4)]})
    assert (await read(source, wanted(ready=5))).state is Freshness.FRESH
    source.rows[Query.WHOLE] = [row(3)]
    assert (await read(source, wanted(ready=5))).state is Freshness.RECOVERING


@pytest.mark.parametrize("state", [Freshness.SLOW, Freshness.UNREACHABLE, Freshness.DENIED, Freshness.NOT_PROMETHEUS])
async def test_a_server_that_fails_is_said_with_its_words_for_every_service(state: Freshness) -> None:
    source = Recorded(faults={None: QueryError(state, "http://prometheus:9090 does not want to")})
    other = Key("team", "bert")
    found = await reader(source).read([wanted(), wanted(other)])
    assert {reading.state for reading in found.values()} == {state}
    assert all(reading.load is None for reading in found.values())
    assert found[other].message == "http://prometheus:9090 does not want to"


@pytest.mark.parametrize("query", [Query.FAILURES, Query.QUEUE, Query.CURVE, Query.GROWTH])
async def test_a_part_that_fails_leaves_the_rest_but_never_lowers(query: Query) -> None:
    reading = await read(Recorded(faults={query: QueryError(Freshness.SLOW, "too slow")}))
    assert reading.state is Freshness.PARTIAL
    assert reading.rate == 20
    assert query.value in reading.message
    assert "too slow" in reading.message


async def test_an_answer_that_says_it_is_incomplete_is_partial() -> None:
    reading = await read(Recorded(warnings={Query.INFERENCES: ("store 10.0.0.7 is down",)}))
    assert reading.state is Freshness.PARTIAL
    assert "store 10.0.0.7 is down" in reading.message


async def test_a_clock_that_differs_shifts_nothing_and_is_said() -> None:
    reading = await read(Recorded(), clock=NOW - 300)
    assert reading.state is Freshness.FRESH
    assert reading.skew_seconds == pytest.approx(300)
    assert reading.at == NOW - 3
    assert "+300 s" in reading.message


async def test_without_an_address_the_state_says_so() -> None:
    reading = (await Reader(Options()).read([wanted()]))[SERVICE]
    assert reading.state is Freshness.NOT_CONFIGURED
    assert reading.load is None


async def test_only_fresh_may_lower() -> None:
    assert [state for state in Freshness if state.may_lower] == [Freshness.FRESH]


async def test_refusals_and_the_growth_of_the_queue_are_offered_load() -> None:
    rows = healthy()
    rows |= {
        Query.FAILURES: [row(3, model="m", reason="REJECTED"), row(1, model="m", reason="OTHER")],
        Query.GROWTH: [row(2, model="m")],
        Query.QUEUE: [row(40, model="m")],
        Query.REQUESTS: [row(10, model="m")],
    }
    reading = await read(Recorded(rows))
    assert reading.rate == pytest.approx(20 + 2 * (3 + 1 + 2))  # two inferences in each request
    assert reading.queue == pytest.approx(80)
    assert reading.lower_bound


async def test_a_queue_that_is_full_makes_a_lower_bound() -> None:
    rows = {**healthy(), Query.FULLEST: [row(64, model="m")]}
    assert (await read(Recorded(rows), wanted(queue_limits={"m": 64}))).lower_bound
    assert not (await read(Recorded(rows), wanted(queue_limits={"m": 65}))).lower_bound


async def test_a_queue_that_empties_is_not_counted_twice() -> None:
    reading = await read(Recorded({**healthy(), Query.GROWTH: [row(-5, model="m")]}))
    assert reading.rate == pytest.approx(15)


async def test_cache_hits_do_not_count() -> None:
    rows = {**healthy(), Query.REQUESTS: [row(100, model="m")], Query.HITS: [row(80, model="m")]}
    rows[Query.FAILURES] = [row(1, model="m", reason="OTHER")]
    reading = await read(Recorded(rows))
    assert reading.rate == pytest.approx(21)


async def test_models_that_are_not_wanted_such_as_ensembles_do_not_count() -> None:
    rows = healthy()
    rows[Query.INFERENCES] = [row(20, model="m"), row(20, model="ensemble")]
    assert (await read(Recorded(rows))).rate == 20
    assert (await read(Recorded(rows), wanted(models=()))).rate == 40


async def test_late_answers_are_read_from_the_histogram_at_the_objective() -> None:
    rows = healthy()
    rows[Query.LATE] = [row(v, model="m", le=le) for le, v in (("100", 5), ("500", 15), ("+Inf", 20))]
    reading = await read(Recorded(rows), wanted(latency_seconds=0.5))
    assert reading.late == pytest.approx(0.25)
    between = await read(Recorded(rows), wanted(latency_seconds=0.3))
    assert between.late == pytest.approx(0.5)
    beyond = await read(Recorded(rows), wanted(latency_seconds=2))
    assert beyond.late == pytest.approx(0.25)


async def test_values_that_are_not_text_of_a_number_are_not_zero() -> None:
    reading = await read(Recorded({**healthy(), Query.INFERENCES: [row("oops", model="m")]}))
    assert reading.state is Freshness.INVALID
    assert reading.models["m"].rate is None
    assert reading.load is None


async def test_as_many_queries_for_a_thousand_services_as_for_one() -> None:
    one, many = Recorded(), Recorded()
    await reader(one).read([wanted()])
    await reader(many).read([wanted(Key("team", f"s{n}")) for n in range(1000)] + [wanted()])
    assert len(one.asked) == len(many.asked) == len(Query) - len(FOR_WARM_UP)


async def test_warm_up_is_taken_off_again_but_never_the_load_of_older_pods() -> None:
    rows = {**healthy(rate=30), Query.RISING: [row(12, model="m")], Query.BEGUN: [row(1, model="m")]}
    assert (await read(Recorded(rows), wanted(warm_up={"m": 600}))).rate == pytest.approx(20)  # 600 in 60 s
    assert (await read(Recorded(rows), wanted(warm_up={"m": 6000}))).rate == pytest.approx(18)
    assert (await read(Recorded(rows), wanted())).rate == pytest.approx(30)


async def test_after_a_gap_the_last_two_samples_may_raise_the_load() -> None:
    rows = {**healthy(rate=4), Query.WHOLE: [], Query.RECENT: [row(20, model="m")]}
    reading = await read(Recorded(rows))
    assert (reading.state, reading.rate) == (Freshness.RECOVERING, 20)
    rows[Query.WHOLE] = [row(2)]
    assert (await read(Recorded(rows))).rate == 4


@pytest.mark.parametrize(
    ("counts", "learned"),
    [
        ((20, 10), 15.0),
        ((21, 10), 15.0),
        ((10, 5), 30.0),
        ((5, 2.5), 60.0),
        ((12, 10), 15.0),
        ((0, 0), 15.0),
        ((37, 18.5), 300 / 37),
        ((14, 14, 12, 6), 5.0),  # younger than five minutes
        ((4, 4, 4, 2), 15.0),  # too few to tell
    ],
)
async def test_how_often_pods_are_scraped_is_learned_when_the_count_is_steady(
    counts: tuple[float, ...], learned: float
) -> None:
    rows = [
        {"metric": {"of": of}, "value": [NOW, str(n)]}
        for of, n in zip(("300", "150", "60", "30"), counts, strict=False)
    ]
    made = Reader(Options(address="http://p"), source=Recorded(extra=[("quantile", rows)]), clock=lambda: NOW)
    await made.read([wanted()])
    assert made.scope.scrape_interval == pytest.approx(learned)
