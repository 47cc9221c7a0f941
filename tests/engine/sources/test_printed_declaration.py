"""The line of nightfold.yaml that a refused header prints is YAML, and the file is read with it."""

import numpy as np
import pytest
import yaml

from engine.bars.synthetic import make_bars, to_csv
from engine.config_data import FileForm
from engine.errors import DataError
from engine.sources import FileFormat, SymbolSource, load

BARS = make_bars(3, 60, symbol="AAA")
ROWS = [line.split(",") for line in to_csv(BARS).splitlines()[1:]]
VENDOR = "Date,Open,High,Low,Close,Adj Close,Volume\n" + "".join(
    ",".join([*row[:5], "1.0", row[5]]) + "\n" for row in ROWS
)
PANDAS = ",Date,Open,High,Low,Close,Adj Close,no: 1,Volume\n" + "".join(
    ",".join([str(i), *row[:5], "1.0", "2.0", row[5]]) + "\n" for i, row in enumerate(ROWS)
)
SYMBOL = "\n".join(
    [VENDOR.splitlines()[0] + ",Symbol", *(f"{line},AAA" for line in VENDOR.splitlines()[1:]), ""]
)


def closes(folder, text, **form):
    (folder / "inbox").mkdir(exist_ok=True)
    (folder / "inbox" / "AAA.csv").write_text(text)
    options = SymbolSource(file=FileFormat(**form) if form else None)
    return load("files", "AAA", options, data_dir=folder, frame="1d").bars.close


def printed(folder, text, **form):
    with pytest.raises(DataError, match="^E01 ") as caught:
        closes(folder, text, **form)
    line = str(caught.value).splitlines()[-1]
    return yaml.safe_load(line.split("declare ")[-1].split(" for AAA in nightfold.yaml")[0])["file"]


@pytest.mark.parametrize(
    "text",
    [VENDOR, PANDAS, PANDAS.lower(), SYMBOL],
    ids=["vendor", "index", "our names and an index", "symbol"],
)
def test_the_printed_declaration_is_yaml_that_reads_the_file(tmp_path, text):
    form = FileForm.model_validate(printed(tmp_path, text))
    assert form.path == "inbox/AAA.csv"
    np.testing.assert_array_equal(closes(tmp_path, text, **form.model_dump()), BARS.close)


def test_the_printed_declaration_keeps_what_is_declared_already(tmp_path):
    text = VENDOR.replace("Close,Adj Close", 'Last,"Adj, 1"')
    file = printed(tmp_path, text, columns={"close": "Last"}, zone="Europe/London", ignore_columns=("none",))
    assert file == {
        "path": "inbox/AAA.csv",
        "zone": "Europe/London",
        "columns": {n: n.capitalize() for n in ("date", "open", "high", "low", "volume")} | {"close": "Last"},
        "ignore_columns": ["none", "Adj, 1"],
    }
    np.testing.assert_array_equal(closes(tmp_path, text, **file), BARS.close)
