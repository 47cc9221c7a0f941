import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config_yaml import read
from engine.errors import ConfigError


@pytest.fixture
def reads(tmp_path):
    def document(text):
        path = tmp_path / "x.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(path)

    return document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None), ("~", None), ("", None), ("true", True), ("False", False), ("0", 0), ("-17", -17),
        ("+3", 3),
        ("1.5", 1.5), (".5", 0.5), ("2.", 2.0), ("1e5", 1e5), ("1.5E-3", 0.0015), ("-.inf", float("-inf")),
        ("yes", "yes"), ("No", "No"), ("ON", "ON"), ("y", "y"), ("010", "010"), ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("12:30:00", "12:30:00"), ("2013-03-01", "2013-03-01"),
        ("2013-03-01T21:00:00Z", "2013-03-01T21:00:00Z"),
        ("=", "="), ("<<", "<<"), ("'7'", "7"),
        ("sma.close.n=20", "sma.close.n=20"), ("9" * 19, "9" * 19),
    ],
)  # fmt: skip
def test_a_value_is_what_it_looks_like(text, value, reads):
    found = reads(f"a: {text}\n").value["a"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "key", ["ON", "NO", "Y", "TRUE", "NULL", "0700", "600519", "1E5", "2330.TW", "2013-03-01", "~"]
)
def test_a_key_is_always_text(key, reads):
    assert reads(f"{key}: 1\n").value == {key: 1}


def test_places_are_those_of_keys_and_items(reads):
    found = reads("a:\n  b: [7,\n      {c: 1}]\n")
    assert found.places == {
        ("a",): (1, 1), ("a", "b"): (2, 3), ("a", "b", 0): (2, 7), ("a", "b", 1): (3, 7),
        ("a", "b", 1, "c"): (3, 8)
    }  # fmt: skip
    assert found.place(("a", "b", 5)) == (2, 3) and found.place(("z",)) == (1, 1)


def test_each_key_that_stands_twice_is_noted_where_it_stands_again(reads):
    found = reads("a: {x: 1}\nb: 1\na: {x: 1}\nb: 2\n")
    assert found.repeated == [
        ((3, 1), "key 'a' stands twice; first in line 1"),
        ((4, 1), "key 'b' stands twice; first in line 2"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a: 1\n# \xff\n", r"x.yaml:1:1: not valid YAML: unacceptable character #x00ff: invalid start byte"),
        ("a: \0\n", r"x.yaml:1:1: not valid YAML: unacceptable character #x0000"),
        ("a: " + "[" * 50_000, r"x.yaml:1:23: nested deeper than 20 levels"),
        ("#" * ((1 << 20) + 1), r"x.yaml is too large; expected at most 1048576 bytes"),
        ("a: !!int abc\n", r"x.yaml:1:4: the tag tag:yaml.org,2002:int is not accepted"),
        ("a: !local b\n", r"x.yaml:1:4: the tag !local is not accepted"),
        ("!!python/name:os.system : 1\n", r"x.yaml:1:1: the tag .* is not accepted"),
        ("a: &x 1\nb: *x\n", r"x.yaml:2:4: aliases \(\*\) are not accepted"),
        ("[a]: 1\n", r"x.yaml:1:1: a key must be plain text"),
    ],
)  # fmt: skip
def test_what_is_not_accepted_is_refused_with_its_place(text, message, reads):
    with pytest.raises(ConfigError, match=f"^{message}"):
        reads(text)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(
        ConfigError, match="cannot be read .Is a directory.. Name another: nightfold --settings FILE"
    ):
        read(tmp_path)


def test_twenty_levels_are_accepted(reads):
    assert reads("[" * 20 + "]" * 20).places
    assert reads("[" + "[], " * 30 + "]").places  # thirty beside each other are two levels


@given(
    st.binary(max_size=200) | st.text(alphabet="ab:{}[]-?!&*#|>'\"\\n \t0.<%@`", max_size=60).map(str.encode)
)
def test_whatever_the_bytes_there_is_a_value_or_a_refusal(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "x.yaml"
    path.write_bytes(text)
    try:
        json.dumps(read(path).value)
    except ConfigError as error:
        assert str(error).startswith("x.yaml:")
