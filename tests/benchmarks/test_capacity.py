from dataclasses import replace

from benchmarks import capacity
from benchmarks.capacity import Demand, cores, costs, tables


def test_the_page_says_what_the_figures_say() -> None:
    assert tables(Demand()) in capacity.PAGE.read_text()


def test_twice_the_calls_need_twice_the_cores() -> None:
    demand, cpu_s = Demand(calls=10_000_000), costs()[0].cpu_s
    once, twice = cores(demand, cpu_s), cores(replace(demand, calls=20_000_000), cpu_s)
    assert 2 * once - 2 <= twice <= 2 * once


def test_a_core_is_enough_for_what_it_can_hear_in_a_night() -> None:
    demand = Demand(centres=1, calls=60, minutes=60, night_h=1, load=1.0)
    assert cores(demand, cpu_s=60.0) == 1
    assert cores(demand, cpu_s=60.1) == 2


def test_more_that_is_heard_with_costs_more() -> None:
    assert [cost.cpu_s for cost in costs()] == sorted(cost.cpu_s for cost in costs())
