"""What a reader of the report must be able to see: every curve's name, inside the picture."""

from __future__ import annotations

import re

import numpy as np

from nereus.backtest.plot import HEIGHT, LETTER, WIDTH, Chart, Line

NAMES = ["HPA on utilisation", "KEDA on request rate", "HPA with Holt-Winters", "offset, a day ago",
         "offset, a week ago", "static (constant replicas)", "schedule from the warm-up", "Nereus"]  # fmt: skip


def drawn(names: list[str], x_name: str = "late requests, % (log)") -> str:
    points = np.array([1.0, 2.0])
    lines = [Line(name=name, x=points, y=points, colour="#000") for name in names]
    return Chart(title="t", x_name=x_name, y_name="y", lines=lines).svg()


def test_the_names_of_many_curves_stay_inside_the_picture_and_apart() -> None:
    svg = drawn(NAMES)
    height = int(re.findall(r'viewBox="0 0 \d+ (\d+)"', svg)[0])
    places = {
        name: (float(x), float(y)) for x, y, name in re.findall(r'<text x="(\d+)" y="(\d+)" fill="#333">([^<]+)<', svg)
    }
    assert set(places) == set(NAMES)
    for name, (x, y) in places.items():
        assert x + LETTER * len(name) <= WIDTH
        assert y < height
    assert len(set(places.values())) == len(NAMES)
    first_row = [name for name, (_, y) in places.items() if y == HEIGHT - 8]
    last = max(first_row, key=lambda name: places[name][0])
    assert places[last][0] + LETTER * len(last) < WIDTH - LETTER * len("late requests, % (log)")


def test_few_curves_need_one_row() -> None:
    assert f'viewBox="0 0 {WIDTH} {HEIGHT}"' in drawn(NAMES[:2])
