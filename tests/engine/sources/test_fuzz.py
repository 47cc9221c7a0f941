"""Mutated files never change a price in silence: each is refused, or reads to the very same bars.

`DAMAGE` breaks a file's form and leaves the digits of its numbers alone: what is read must be the original's
bars. `test_any_bytes...` breaks anything: what is read must be what a slow and strict reader finds written.
"""

import csv
import gzip
import io
import random
import re
from dataclasses import fields, replace

import numpy as np
import pytest

from engine.bars.synthetic import make_bars, to_csv
from engine.errors import NightfoldError
from engine.sources import SymbolSource, load

COLUMNS = ("open", "high", "low", "close", "volume")
STRICT = re.compile(r"[ \t]*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?[ \t]*", re.I | re.ASCII)
JUNK = [
    "x", " ", ",", ";", '"', "'", "\t", "\x00", "١", "\n", "\r", "\r\n", "-", "+", "_", "e", "#", "%", "$",
    "\ufeff", "nan", "|",
]  # fmt: skip
CELLS = [
    "", "N/A", "nan", "inf", "-inf", "null", "-", "-1", "1_0", "１０", "1.2.3", "0x10", "--5", "1e999",
]  # fmt: skip


def lines_of(text):
    return text.splitlines(keepends=True)


def cell(rng, text, change):
    """Change one cell of one row."""
    lines = lines_of(text)
    number = rng.randrange(1, len(lines))
    cells = lines[number].rstrip("\n").split(",")
    at = rng.randrange(1, 6)
    cells[at] = change(cells[at])
    lines[number] = ",".join(cells) + "\n"
    return "".join(lines)


def truncate(rng, text):
    return text[: rng.randrange(len(text))]


def cut_middle(rng, text):
    """Lose a stretch that begins and ends inside rows."""
    first = rng.randrange(len(text) // 2)
    last = first + rng.randrange(10, 400)
    lost = text[first:last]
    before, after = text[:first].rsplit("\n", 1)[-1], text[last:].split("\n", 1)[0]
    if "\n" not in lost or before.count(",") + after.count(",") == 5:
        return text[:first]  # two halves that make one row are another row, not a broken one
    return text[:first] + text[last:]


def insert(rng, text):
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(JUNK) + text[at:]


def swap_rows(rng, text):
    lines = lines_of(text)
    a, b = rng.sample(range(1, len(lines)), 2)
    lines[a], lines[b] = lines[b], lines[a]
    return "".join(lines)


def double_row(rng, text):
    lines = lines_of(text)
    a, b = rng.randrange(1, len(lines)), rng.randrange(1, len(lines))
    return "".join([*lines[:b], lines[a], *lines[b:]])


def scale(rng, text):
    lines, factor = lines_of(text), rng.choice([0.001, 0.01, 0.1, 10, 100, 1000])
    first = rng.randrange(2, len(lines))
    for number in range(first, min(len(lines), first + rng.randrange(1, 30))):
        stamp, *prices, volume = lines[number].split(",")
        lines[number] = ",".join([stamp, *(repr(float(p) * factor) for p in prices), volume])
    return "".join(lines)


def permute(rng, text):
    order = rng.sample(range(6), 6)
    rows = [line.rstrip("\n").split(",") for line in lines_of(text)]
    return "".join(",".join(row[i] for i in order) + "\n" for row in rows)


def stamp(rng, text):
    lines = lines_of(text)
    a, b = rng.sample(range(1, len(lines)), 2)
    own, other = lines[a].split(",")[0], lines[b].split(",")[0]
    year, month, day = own.split("-")
    wrong = rng.choice(
        [other, f"{day}/{month}/{year}", f"{year}{month}{day}", f"{own} 09:30", f"{own}Z", "", "2015-02-30"]
    )
    lines[a] = lines[a].replace(own, wrong, 1)
    return "".join(lines)


def whole(rng, text):
    """Change the form of the whole file."""
    head, body = text.split("\n", 1)
    return rng.choice(
        [
            "\ufeff" + text, text.replace("\n", "\r\n"), text.replace("\n", "\r"), text.replace(",", ";"),
            text.replace(",", "\t"), text.upper(), body, text + text, text + body, head + "\n\n" + body,
            head + "\n" + head + "\n" + body, "# made by hand\n" + text, text.replace(".", ","),
            text.encode("utf-16"), gzip.compress(text.encode()), text.encode() + b"\xff\n",
            "\n".join([head, *body.splitlines()[::-1], ""]), text.replace("date", "day"),
            re.sub(r"(\d+\.\d+)", r'"\1"', text), re.sub(r"(\d)(\d{3}\.)", r"\1,\2", text),
            text.replace("\n", ",\n"), text.replace("\n", ",1\n"), text + "\n", text + "total,1,1,1,1,1\n",
            text.replace("volume", "vol"), text.replace(",", ", "), text.replace("\n", " \n"),
        ]
    )  # fmt: skip


DAMAGE = {
    "truncate": truncate,
    "cut a stretch": cut_middle,
    "insert": insert,
    "swap rows": swap_rows,
    "double a row": double_row,
    "a cell": lambda rng, text: cell(rng, text, lambda _: rng.choice(CELLS)),
    "thousands": lambda rng, text: cell(rng, text, lambda c: c[:1] + rng.choice(",'_ ") + c[1:]),
    "unit": lambda rng, text: cell(rng, text, lambda c: rng.choice(["$", "€", ""]) + c + rng.choice("%€Mx")),
    "scale": scale,
    "permute": permute,
    "stamp": stamp,
    "whole": whole,
}


def read(folder, data):
    (folder / "inbox").mkdir(exist_ok=True)
    (folder / "inbox/TEST.csv").write_bytes(data)
    try:
        return load("files", "TEST", SymbolSource(tick=0.01), data_dir=folder, frame="1d").bars
    except NightfoldError as error:
        assert "nightfold check TEST" in str(error) and "TEST" in str(error).splitlines()[0]
        return None


def only(bars, kept):
    return replace(bars, **{f.name: getattr(bars, f.name)[kept] for f in fields(bars)[3:]})


def same(a, b):
    return len(a) == len(b) and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("ts", *COLUMNS, "adj", "dividend")
    )


def damaged_files(folder, count, seed):
    """Read ``count`` damaged files; return how many were refused and how many read, by kind of damage."""
    outcome = {name: [0, 0] for name in DAMAGE}
    for number in range(count):
        rng = random.Random(f"{seed}-{number}")
        kind = list(DAMAGE)[number % len(DAMAGE)]
        bars = make_bars(number % 50, rng.randrange(30, 90))
        text = to_csv(bars)
        data = DAMAGE[kind](rng, text)
        data = data if isinstance(data, bytes) else data.encode()
        got = read(folder, data)
        outcome[kind][got is not None] += 1
        if got is None:
            continue
        if kind in ("truncate", "cut a stretch"):  # whole lines are gone: the others are there, none changed
            bars = only(bars, np.isin(bars.ts, got.ts))
        assert same(got, bars), (seed, number, kind)
    return outcome


def test_damaged_files_are_refused_or_read_to_the_very_same_bars(tmp_path):
    outcome = damaged_files(tmp_path, 204, "fast")
    assert all(refused for name, (refused, _) in outcome.items() if name != "permute")
    assert outcome["permute"] == [0, 17]  # the order of the columns is free
    assert sum(taken for _, taken in outcome.values()) > 17  # blanks, line ends, quotes, copies: read


@pytest.mark.slow
def test_5000_damaged_files_are_refused_or_read_to_the_very_same_bars(tmp_path):
    outcome = damaged_files(tmp_path, 5000, "slow")
    assert sum(map(sum, outcome.values())) == 5000 and sum(refused for refused, _ in outcome.values()) > 3000


def strictly(data):
    """Read a file the slow way: what is written, or None where it has any other form."""
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    columns = {name: i for i, name in enumerate(rows[0])}
    out = []
    for row in rows[1:]:
        if len(row) != len(rows[0]) or not all(STRICT.fullmatch(row[columns[name]]) for name in COLUMNS):
            return None
        out.append((row[columns["date"]], *(float(row[columns[name]]) for name in COLUMNS)))
    return [row for i, row in enumerate(out) if i == 0 or row != out[i - 1]]  # W06


def any_bytes(folder, count, seed):
    taken = 0
    for number in range(count):
        rng = random.Random(f"{seed}-{number}")
        data = bytearray(to_csv(make_bars(number % 50, 40)).encode())
        for _ in range(rng.choice([1, 1, 2, 5])):
            at = rng.randrange(len(data))
            what = rng.randrange(4)
            if what == 0:
                data[at] = rng.choice(b"0123456789.,-e\n ") if rng.random() < 0.8 else rng.randrange(256)
            elif what == 1:
                del data[at : at + rng.choice([1, 1, 3, 20])]
            elif what == 2:
                data[at:at] = rng.choice([b"0", b"9", b".", b"e1", b"-", b"\n", b",", b'"'])
            else:
                data[at:at] = data[max(0, at - rng.randrange(1, 60)) : at]
        got = read(folder, bytes(data))
        if got is None:
            continue
        taken += 1
        days = got.ts.astype("M8[us]").astype("M8[D]").astype(str)
        rows = list(zip(days, *(getattr(got, name).tolist() for name in COLUMNS), strict=True))
        assert rows == strictly(bytes(data)), (seed, number)
    return taken


def test_any_bytes_that_are_read_say_what_a_slow_and_strict_reader_finds(tmp_path):
    assert any_bytes(tmp_path, 200, "fast") > 10


@pytest.mark.slow
def test_5000_files_of_any_bytes_are_refused_or_read_as_they_are_written(tmp_path):
    assert any_bytes(tmp_path, 5000, "slow") > 300
