import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.lake import records
from engine.lake.records import arrays_sha, canonical, code_id, content_sha, digest, make_record
from engine.stages.common import PER_SYMBOL

NESTED = pa.list_(pa.struct([("ts", pa.timestamp("us")), ("side", pa.string()), ("price", pa.float64())]))
FILLS = [
    [{"ts": 5, "side": "a", "price": 1.5}],
    [],
    None,
    [{"ts": None, "side": None, "price": None}] * 2,
    [None],
]


def every_type(rows=5):
    """A table with a column of each type, nulls and NaN among the values."""
    return pa.table(
        {
            "text": pa.array(["a", None, "", "Ü", "a"][:rows]),
            "i": pa.array([1, None, 3, 0, -5][:rows], pa.int64()),
            "small": pa.array([1, 2, 3, 4, 5][:rows], pa.int16()),
            "f": pa.array([1.0, None, np.nan, -0.0, 2.0][:rows], from_pandas=False),
            "f4": pa.array(np.array([1, np.nan, 3, 4, 5], "f4")[:rows], pa.float32()),
            "b": pa.array([True, None, False, True, True][:rows]),
            "day": pa.array([0, None, 2, 3, 4][:rows], pa.int32()).cast(pa.date32()),
            "ts": pa.array([0, None, -5, 7, 8][:rows], pa.timestamp("us")),
            "scores": pa.array([[1.0, np.nan], [], None, [None], [2.0]][:rows], pa.list_(pa.float64())),
            "fills": pa.array(FILLS[:rows], NESTED),
        }
    )


# content_sha


@given(st.lists(st.integers(0, 5), max_size=4))
def test_the_content_does_not_depend_on_chunks(cuts):
    table, edges = every_type(), [0, *sorted(cuts), 5]
    pieces = [table.slice(a, b - a) for a, b in zip(edges, edges[1:], strict=False)]
    assert content_sha(pa.concat_tables(pieces)) == content_sha(table)


@pytest.mark.parametrize(
    "options", [{"compression": "none"}, {"row_group_size": 2}, {"use_dictionary": False}]
)
def test_the_content_does_not_depend_on_the_file(tmp_path, options):
    table = every_type()
    pq.write_table(table, tmp_path / "x.parquet", **options)
    assert content_sha(pq.ParquetFile(tmp_path / "x.parquet").read()) == content_sha(table)


def test_a_slice_counts_for_what_it_shows():
    table = every_type()
    assert (
        content_sha(table.slice(1, 3)) == content_sha(table.take([1, 2, 3])) != content_sha(table.slice(0, 3))
    )


def test_every_nan_hashes_alike():
    odd = np.array([0x7FF8000000000001], "u8").view("f8")
    assert content_sha(pa.table({"x": odd})) == content_sha(pa.table({"x": [np.nan]}))


def test_a_null_is_no_nan_and_no_zero():
    shas = [
        content_sha(pa.table({"x": pa.array([v], pa.float64(), from_pandas=False)}))
        for v in (None, np.nan, 0.0)
    ]
    assert len(set(shas)) == 3


def test_a_null_in_another_row_is_another_content():
    shas = [
        content_sha(pa.table({"x": pa.array(v, pa.int64())}))
        for v in ([1, None, 1], [None, 1, 1], [1, 1, None])
    ]
    assert len(set(shas)) == 3


def test_a_table_without_rows_has_a_content():
    table = every_type()
    assert content_sha(table.schema.empty_table()) == content_sha(table.slice(0, 0)) != content_sha(table)


def changed(table, name, row, value):
    values = table[name].to_pylist()
    values[row] = value
    index = table.column_names.index(name)
    return table.set_column(index, name, pa.array(values, table[name].type, from_pandas=False))


@pytest.mark.parametrize(
    ("name", "row", "value"),
    [
        ("text", 0, "b"), ("text", 1, ""), ("text", 2, None), ("i", 4, 5), ("i", 1, 0), ("small", 0, 0),
        ("f", 3, 0.0), ("f", 0, 1.0000000000000002), ("f4", 1, 0.0), ("b", 0, False), ("day", 0, None),
        ("ts", 2, None),
        ("scores", 1, None), ("scores", 2, []), ("scores", 3, [0.0]), ("scores", 4, [2.0, 2.0]),
        ("fills", 1, None), ("fills", 2, []), ("fills", 4, [{"ts": None, "side": None, "price": None}]),
        ("fills", 0, [{"ts": None, "side": "a", "price": 1.5}]),
        ("fills", 0, [{"ts": None, "side": "a", "price": 1.0}]),
    ],
)  # fmt: skip
def test_each_changed_value_changes_the_content(name, row, value):
    assert content_sha(changed(every_type(), name, row, value)) != content_sha(every_type())


def test_names_types_and_order_count():
    base = pa.table({"a": [1], "b": [2]})
    others = [
        pa.table({"b": [2], "a": [1]}),
        pa.table({"a": [1], "c": [2]}),
        pa.table({"a": [1], "b": pa.array([2], pa.int16())}),
        pa.table({"a": [2], "b": [1]}),
    ]
    assert len({content_sha(table) for table in [base, *others]}) == 5


def test_values_do_not_run_into_their_neighbours():
    split = [pa.table({"a": ["xy"], "b": ["z"]}), pa.table({"a": ["x"], "b": ["yz"]})]
    assert content_sha(split[0]) != content_sha(split[1])


def test_arrays_hash_by_name_type_shape_and_values():
    x = np.arange(6.0)
    others = [
        {"x": x},
        {"y": x},
        {"x": x.astype("f4")},
        {"x": x.reshape(2, 3)},
        {"x": x + 1},
        {"x": x, "y": x},
    ]
    assert len({arrays_sha(arrays) for arrays in others}) == len(others)
    assert arrays_sha({"x": np.arange(12.0)[::2]}) == arrays_sha({"x": np.arange(0.0, 12, 2)})


# canonical JSON


def test_canonical_text_is_sorted_and_exact():
    assert canonical({"b": 0.1, "a": [1, None, True, "ü"]}) == '{"a":[1,null,true,"\\u00fc"],"b":0.1}'
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) and len(digest({})) == 20


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"x": [float("-inf")]}])
def test_a_record_holds_no_nan(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(value)


# code_id

FILES = {
    "__init__.py": "",
    "a.py": "from engine.b import f\n\n\ndef run():\n    return f()\n",
    "b/__init__.py": "def f():\n    from engine.c import g\n\n    return g()\n",
    "c.py": "import numpy\nfrom engine.errors import require\n\n\ndef g():\n    require('torch', 'x')\n",
    "errors.py": "def require(name, extra):\n    return name\n",
    "apart.py": "import scipy\n",
}


@pytest.fixture
def code(tmp_path, monkeypatch):
    """code(**edits) -> id and libraries of module a of a small engine with these texts."""
    number = 0

    def of(edits=()):
        nonlocal number
        number += 1
        root = tmp_path / str(number)
        for name, text in {**FILES, **dict(edits)}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        monkeypatch.setattr(records, "_ENGINE", root)
        return code_id.__wrapped__("engine.a")

    return of


@pytest.mark.parametrize(
    "edit",
    [
        ("a.py", "# a comment\n" + FILES["a.py"]),
        ("a.py", '"""What it is for."""\n' + FILES["a.py"]),
        ("a.py", FILES["a.py"].replace("    return", '    """Run."""\n    return')),
        ("a.py", FILES["a.py"].replace("return f()", "return (\n        f()\n    )  # so")),
        ("apart.py", "import scipy\n\nX = 1\n"),
    ],
)
def test_comments_docstrings_layout_and_other_modules_do_not_count(code, edit):
    assert code([edit]) == code()


@pytest.mark.parametrize(
    "edit",
    [
        ("a.py", FILES["a.py"].replace("f()", "f() + 1")),
        ("b/__init__.py", FILES["b/__init__.py"].replace("g()", "-g()")),
        ("c.py", FILES["c.py"].replace("torch", "numba")),
        ("errors.py", FILES["errors.py"].replace("return name", "return extra")),
        ("c.py", FILES["c.py"] + "\n\nLIMIT = 'not a docstring'\n"),
    ],
)
def test_code_anywhere_in_the_closure_counts(code, edit):
    assert code([edit])[0] != code()[0]


def test_the_libraries_are_those_of_the_closure(code):
    libraries = code()[1]
    assert set(libraries) == {"python", "numpy", "torch"}  # not scipy, which nothing in it imports
    assert all(version.count(".") == 1 for version in libraries.values())


MODULES = {
    "engine.bars.checks": {"prices"},
    "engine.features.wilder": {"features", "optimizations", "backtests"},
    "engine.forecasts.local_fit": {"forecasts"},
    "engine.search.study": {"optimizations"},
    "engine.search.levels.exact": {"optimizations"},
    "engine.simulation.kernel": {"optimizations", "backtests"},
    "engine.lake.warehouse": set(),
    "engine.reports.tearsheet": set(),
    "engine.cli": set(),
}


@pytest.mark.parametrize("module", MODULES)
def test_the_ids_of_the_stages_see_the_code_they_rest_on(module):
    rests = {stage for stage in PER_SYMBOL if module in closure(f"engine.stages._{stage}")}
    assert rests == MODULES[module] if not MODULES[module] else rests >= MODULES[module]


def closure(module):
    todo, seen = [module], set()
    while todo:
        name = todo.pop()
        path = records._file_of(name)
        if path is not None and name not in seen:
            seen.add(name)
            todo += records._module(path)[1]
    return seen


# make_record


def test_a_record_says_stage_inputs_and_libraries():
    made = make_record("engine.stages._features", "AAPL", inputs={"bars": "x"}, params={"a": 1})
    code, libraries = code_id("engine.stages._features")
    result = made.pop("result_id")
    assert made == {
        "stage": "features", "symbol": "AAPL", "inputs": {"bars": "x"}, "params": {"a": 1}, "device": "cpu",
        "code_id": code, "libs": libraries,
    }  # fmt: skip
    assert result == digest(made) and len(result) == 20


def test_the_id_changes_with_each_part(monkeypatch):
    given = {"inputs": {"bars": "x"}, "params": {"a": 1}}

    def made(stage="engine.stages._features", symbol="AAPL", **parts):
        return make_record(stage, symbol, **{**given, **parts})["result_id"]

    ids = [
        made(),
        made(symbol="IBM"),
        made(stage="engine.stages._forecasts"),
        made(inputs={"bars": "y"}),
        made(inputs={"bars": "x", "features": "z"}),
        made(params={"a": 2}),
        made(device="cuda"),
    ]
    monkeypatch.setattr(records, "code_id", lambda stage: ("another", code_id(stage)[1]))
    ids.append(made())
    monkeypatch.setattr(records, "code_id", lambda stage: (code_id(stage)[0], {"python": "9.9"}))
    ids.append(made())
    assert len(set(ids)) == len(ids)
    monkeypatch.undo()
    assert made() == ids[0]
