import json
import re
import types
import typing
from datetime import date
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from engine.config import Settings, plain
from engine.config_file import _EXAMPLES, _mapping, load, stamp_us
from engine.errors import ConfigError
from engine.lake.records import digest

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "nightfold.yaml"
SYMBOLS = "symbols: {AAPL: {}}\n"


@pytest.fixture
def refused(tmp_path):
    """Return the lines of the refusal of a settings file with this text."""

    def lines(text):
        path = tmp_path / "nightfold.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ConfigError) as caught:
            load(path)
        return str(caught.value).split("\n")

    return lines


@pytest.fixture
def accepted(tmp_path):
    def settings(text):
        path = tmp_path / "nightfold.yaml"
        path.write_text(text)
        return load(path).settings

    return settings


# every key of every model, with the path in the file that leads to it


def models():
    """Yield (path of keys that leads to a model, model); lists are entered at their first item."""
    todo = [((), Settings)]
    while todo:
        path, model = todo.pop()
        yield path, model
        for name, field in model.model_fields.items():
            for step, below in entered(field.annotation):
                todo.append(((*path, field.alias or name, *step), below))


def entered(annotation):
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and origin is None and issubclass(annotation, BaseModel):
        yield (), annotation
    elif origin is dict:
        for step, model in entered(arguments[1]):
            yield ("AAPL" if model.__name__ == "Symbol" else "fast", *step), model
    elif origin is tuple:
        for step, model in entered(arguments[0]):
            yield (0, *step), model
    elif origin in (typing.Annotated, typing.Union, types.UnionType):
        for argument in arguments:
            yield from entered(argument)


MODELS = list(models())
KEYS = [(path, field.alias or name) for path, model in MODELS for name, field in model.model_fields.items()]
ENUMS = [
    (path, field.alias or name, options)
    for path, model in MODELS
    for name, field in model.model_fields.items()
    if (options := [value for value in typing.get_args(field.annotation) if isinstance(value, str)])
    or (
        options := [
            v for a in typing.get_args(field.annotation) for v in typing.get_args(a) if isinstance(v, str)
        ]
    )
]


def written(path, key, value):
    """Return a settings file that is sound but for one key, and the line where that key stands."""
    needed = {"strategies": {"strategy": "trend"}, "parameters": {"type": "fixed", "value": 1}}
    inner = {key: value}
    for depth, step in reversed(list(enumerate(path))):
        if path[: depth + 1] == ("strategies", 0):
            inner = {**needed["strategies"], **inner}
        elif path[depth - 1] == "parameters":
            inner = {**needed["parameters"], **inner}
        elif step == "file":
            inner = {"path": "x.csv", **inner}
        inner = [inner] if step == 0 else {step: inner}
    text = yaml.safe_dump({"symbols": {"AAPL": {}}, **inner}, sort_keys=False)
    lines = enumerate(text.split("\n"), 1)
    return text, next(number for number, line in lines if line.strip("- ").startswith(f"{key}:"))


def test_the_walk_sees_every_section():
    names = {model.__name__ for _, model in MODELS}
    assert len(KEYS) > 150
    assert names >= {"Symbol", "FileForm", "Leaf", "Bounds", "Overlap", "Cost", "Strategy", "Report"}


@pytest.mark.parametrize(
    ("path", "key"), KEYS, ids=lambda value: ".".join(map(str, value)) if value != () else "top"
)
def test_a_misspelt_key_is_refused_with_its_line_and_the_key_meant(path, key, refused):
    wrong = key + "x"
    text, line = written(path, wrong, 1)
    column = text.split("\n")[line - 1].index(wrong) + 1
    dotted = ".".join(map(str, (*path, wrong)))
    (found,) = [message for message in refused(text) if "unknown key" in message]
    start = f"nightfold.yaml:{line}:{column}: unknown key {dotted!r}. Closest: "
    assert found.startswith(start) and re.search(rf"\b{key}\b", found.removeprefix(start)), found


@pytest.mark.parametrize(
    ("path", "key", "options"), ENUMS, ids=lambda value: ".".join(map(str, value)) if value != () else "top"
)
def test_a_value_outside_its_list_is_refused_with_its_line_and_the_list(path, key, options, refused):
    wrong = options[0] + "x"
    text, line = written(path, key, [wrong] if key == "policies" else wrong)
    (found,) = [message for message in refused(text) if repr(wrong) in message]
    at = line + 1 if key == "policies" else line
    assert found.startswith(f"nightfold.yaml:{at}:") and "expected" in found
    assert all(option in found for option in options), found
    assert key == "purge_bars" or options[0] in found.split("Closest: ")[1]


def test_the_walk_sees_the_lists():
    names = {key for _, key, _ in ENUMS}
    assert names >= {"source", "frame", "class", "scheme", "purge_bars", "sampler", "type", "policies"}


STRATEGY = "strategies:\n  - strategy: trend\n    parameters:\n      fast: {LEAF}\n"
BAD = yaml.safe_load((Path(__file__).parent / "bad_settings.yaml").read_text())


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_place_finding_and_expectation(case, refused):
    found, expected = refused(BAD[case]["file"]), BAD[case]["says"]
    assert len(found) == len(expected), found
    for line, pattern in zip(found, expected, strict=True):
        assert re.match(rf"nightfold\.yaml:{pattern}", line), line


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        ("type: int, low: 5, high: 60, step: 0", "step is 0; expected greater than 0"),
        ("type: int, low: 5, high: 60, step: -1", "step is -1; expected greater than 0"),
        ("type: float, low: .nan, high: 1", "low is nan; expected a finite number"),
        (
            "type: integer, low: 1, high: 2",
            "type is 'integer'; expected one of int, float, categorical, fixed. Closest: int.",
        ),
        (
            "type: fixed, value: [1]",
            r"value is \[1\]; expected text or a valid integer or a valid number or a valid boolean",
        ),
        ("type: int, lo: 1, high: 2", "lo'. Closest: low, log."),
    ],
)
def test_a_bad_key_of_a_parameter_is_refused_by_name(leaf, expected, refused):
    assert any(
        re.search(rf"^nightfold\.yaml:5:\d+: .*strategies\.0\.parameters\.fast\.{expected}", line)
        for line in refused(SYMBOLS + STRATEGY.replace("LEAF", leaf))
    )


@pytest.mark.parametrize(
    "key",
    [
        "../../evil",
        "O'Neil",
        "CON",
        "<script>",
        "aapl",
        "A/B",
        "_all",
        "A" * 240,
        "nul.csv",
        "x' OR '1'='1",
        "-",
        "LPT1.B",
    ],
)
def test_a_hostile_symbol_is_refused_at_its_place(key, refused):
    (found,) = refused(f"symbols:\n  IBM: {{}}\n  {json.dumps(key)}: {{}}\n")
    assert re.match(r"nightfold\.yaml:3:3: E16 symbol .* is not canonical \(expected capital letters", found)


def test_an_empty_mapping_is_advised_only_where_it_is_taken():
    advised = [model for _, model in models() if "{}" in _mapping(model)]
    assert len(advised) > 10
    for model in advised:
        model.model_validate({})
    for model, example in _EXAMPLES.items():
        model.model_validate(yaml.safe_load(example))
        with pytest.raises(ValidationError):
            model.model_validate({})


@pytest.mark.parametrize(
    ("key", "write"),
    [("walk", ". Write WALK"), ("spy.ny", ". Write SPY.NY"), ("my prices", ""), ("../e", ""), ("con", "")],
)
def test_a_symbol_in_small_letters_is_told_its_spelling(key, write, refused):
    (found,) = refused(f"symbols:\n  {json.dumps(key)}: {{}}\n")
    assert found.startswith("nightfold.yaml:2:3: E16 ") and found.endswith("{0,31})" + write)


@pytest.mark.parametrize(("first", "second"), [("BTC", "btc"), ("btc", "BTC"), ("Btc", "bTC")])
def test_symbols_that_differ_only_in_case_are_refused(first, second, refused):
    found = refused(f"symbols:\n  {first}: {{}}\n  {second}: {{}}\n")
    assert f"nightfold.yaml:3:3: E16 symbol {second!r} equals {first!r} but for its case" in found


def test_everything_wrong_is_listed_at_once_by_line(refused):
    found = refused(
        "sed: 1\n"
        "symbols: {'../e': {}, IBM: {fee: 1}}\n"
        "folds: {test_bars: 0, train_bars: x}\n"
        "folds: {}\n"
        "costs: {stock: {fee_bps: .nan}}\n"
        "strategies: [{strategy: trend, parameters: {fast: {type: int, low: 9, high: 1}}}, "
        "{strategy: trend, symbols: [B]}]\n"
        "report: {charts: 1}\n"
    )
    places = [tuple(map(int, line.split(":")[1:3])) for line in found]
    assert places == sorted(places) and [line for line, _ in places] == [1, 2, 2, 4, 5, 6, 6, 6, 7]


def test_a_file_that_is_not_there_is_named_with_the_flag(tmp_path):
    message = (
        r"absent\.yaml cannot be read \(No such file or directory\)\. Name another: nightfold --settings FILE"
    )
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / "absent.yaml")


def test_the_place_of_a_key_or_of_the_nearest_above_it(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(SYMBOLS + "strategies:\n  - strategy: trend\n")
    file = load(path)
    assert file.where("strategies", 0, "strategy") == "my.yaml:3:5"
    assert file.where("strategies", 0, "parameters", "fast") == "my.yaml:3:5"
    assert file.where("folds", "test_bars") == "my.yaml:1:1"
    assert file.data_dir == tmp_path / "data"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("prices: {start: 2010-01-31}", lambda s: s.prices.start == date(2010, 1, 31)),
        ("prices: {start: '2010-01-31'}", lambda s: s.prices.start == date(2010, 1, 31)),
        ("asof: 2013-03-01", lambda s: s.asof == "2013-03-01"),
        ("asof: 2013-03-01T21:00:00Z", lambda s: s.asof == "2013-03-01T21:00:00Z"),
        ("execution: {initial_cash: 1e5}", lambda s: s.execution.initial_cash == 100_000),
        ("execution: {leverage: 2}", lambda s: s.execution.leverage == 2),
        ("costs: {stock: {fee_bps: .5}}", lambda s: s.costs.stock.fee_bps == 0.5),
        ("promotion: {min_improvement: -1}", lambda s: s.promotion.min_improvement == -1),
        ("constraints: {min_trades: null}", lambda s: s.constraints.min_trades is None),
        ("constraints: {min_trades: ~, max_drawdown: null}", lambda s: s.constraints.max_drawdown is None),
        ("report: {charts: False}", lambda s: s.report.charts is False),
        ("folds: {purge_bars: 7}", lambda s: s.folds.purge_bars == 7),
    ],
)  # fmt: skip
def test_values_are_what_they_look_like(text, found, accepted):
    assert found(accepted(SYMBOLS + text + "\n"))


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01", 0),
        ("2013-03-01T21:00:00Z", 1_362_171_600_000_000),
        ("2013-03-01T16:00-05:00", 1_362_171_600_000_000),
        ("1969-12-31", -86_400_000_000),
    ],
)
def test_an_iso_time_becomes_microseconds_utc(text, us):
    assert stamp_us(text) == us


def test_a_flag_that_is_no_time_is_refused():
    with pytest.raises(ConfigError, match="asof is 'soon'; expected an ISO time such as 2013-03-01"):
        stamp_us("soon")


# the committed file


def leaves(value, path=()):
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from leaves(below, (*path, key))
    else:
        yield path, value


def test_the_committed_file_equals_the_defaults_key_by_key():
    file = plain(load(COMMITTED).settings)
    defaults = plain(Settings.model_validate({"symbols": dict.fromkeys(["AAPL", "GOOG", "IBM", "MSFT"], {})}))
    assert list(leaves(file)) == list(leaves(defaults))
    assert digest(file) == digest(defaults)


def test_the_committed_file_holds_every_key_that_is_accepted():
    given = yaml.safe_load(COMMITTED.read_text())
    open_lists = ("strategies", "symbols")  # their keys are shown by example
    missing = []
    for path, key in KEYS:
        if path and (path[0] in open_lists or path[-1] == "size"):  # a size has one of its keys
            continue
        value = given
        for step in path:
            value = value[step]
        if not isinstance(value, float) and key not in value:  # levels.smoothing stands in its short form
            missing.append((*path, key))
    assert not missing


def test_the_printed_settings_load_again_as_the_same(tmp_path):
    settings = load(COMMITTED).settings
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(plain(settings), sort_keys=False))
    assert load(again).settings == settings
