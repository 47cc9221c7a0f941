"""Pictures without a script: extremes survive thinning, names stay text, no curve is said."""

import base64
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.lake.publish import Lake
from engine.reports.svg import equity_markdown, equity_svg, gap, gap_range, thin


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=400), st.integers(4, 60))
@settings(max_examples=100, deadline=None)
def test_thinning_keeps_ends_and_extremes_within_the_bound(values, most):
    array = np.array(values)
    at = thin(array, most)
    assert len(at) <= max(most, 4)
    assert (np.diff(at) > 0).all()
    assert at[0] == 0 and at[-1] == len(array) - 1
    assert array[at].min() == array.min() and array[at].max() == array.max()


def test_picture_is_well_formed_and_holds_three_curves(example_lake):
    root = ElementTree.fromstring(equity_svg(example_lake, "AAPL", "trend"))
    paths = root.findall("{http://www.w3.org/2000/svg}path")
    assert len(paths) == 3
    assert all("nan" not in path.attrib["d"] for path in paths)


def test_picture_of_an_unknown_strategy_says_so_and_escapes(example_lake):
    picture = equity_svg(example_lake, "AAPL", "<script>")
    assert "No out-of-sample equity yet." in picture
    assert "<script" not in picture
    ElementTree.fromstring(picture)


def test_markdown_holds_one_data_uri_per_strategy(example_lake):
    found = re.findall(
        r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", equity_markdown(example_lake, "AAPL")
    )
    assert len(found) == 3
    assert all(base64.b64decode(part).startswith(b"<svg ") for part in found)


def test_markdown_without_results_is_a_sentence(tmp_path):
    assert equity_markdown(Lake(tmp_path), "AAPL") == "No out-of-sample equity yet."


def row(inside, outside, hold):
    return {"in_sample_bps_per_bar": inside, "bps_per_bar": outside, "matched_hold_bps_per_bar": hold}


def test_gap_range_holds_zero_and_every_defined_value():
    assert gap_range([row(5.0, -2.0, None), row(float("nan"), 1.0, 0.5)]) == (-2.0, 5.0)
    assert gap_range([]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("cells", "circles"), [((5.0, 1.0, 0.2), 2), ((None, 1.0, 0.2), 1), ((None, None, None), 0)]
)
def test_gap_draws_what_is_defined(cells, circles):
    picture = gap(row(*cells), (-1.0, 5.0))
    assert picture.count("<circle") == circles
    assert "nan" not in picture
