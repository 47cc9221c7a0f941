"""What a long inference has answered so far: `Parts`, so that a killed one loses one batch at most.

The files lie in the cache and not in the lake, which holds whole results alone; a finished stage
drops them. Rows count only where model, as-of bar and input hash are those wanted.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import LakeError
from engine.lake import leases
from engine.lake.files import replace_atomically
from engine.lake.publish import UNREADABLE, conform, write_parquet
from engine.lake.schemas import schema_of

TABLES = ("forecasts", "forecast_inputs")  # in the order they are written: a part is its inputs' file


@dataclass(frozen=True)
class Parts:
    """Answered batches of one symbol and model.

    Parameters
    ----------
    data_dir : Path
        Data folder.
    symbol : str
        Canonical key; it must have made a path of the lake before.
    model_key : str
        Of the model.
    """

    data_dir: Path
    symbol: str
    model_key: str

    @property
    def folder(self) -> Path:
        """Return where they lie."""
        return self.data_dir / "cache" / "forecasts" / self.symbol / self.model_key

    def _file(self, number: int, table: str) -> Path:
        return self.folder / f"{number:06d}.{table}.parquet"

    def _numbers(self) -> list[int]:
        return sorted(int(path.name[:6]) for path in self.folder.glob(f"*.{TABLES[1]}.parquet"))

    def read(self) -> tuple[pa.Table, pa.Table]:
        """Return the rows of ``forecasts`` and ``forecast_inputs`` kept, the newest of each as-of bar.

        Raises
        ------
        LakeError
            A file is damaged.
        """
        found = [[schema_of(table).empty_table()] for table in TABLES]
        seen = found[1][0]["as_of"]
        for number in reversed(self._numbers()):  # a bar corrected between two kills is there twice
            for rows, table in zip(found, TABLES, strict=True):
                part = self._read(number, table)
                rows.append(part.filter(pc.invert(pc.is_in(part["as_of"], seen))))
            seen = pa.concat_tables([table.select(["as_of"]) for table in found[1]])["as_of"]
        return pa.concat_tables(found[0]), pa.concat_tables(found[1])

    def _read(self, number: int, table: str) -> pa.Table:
        path = self._file(number, table)
        try:
            return conform(table, pq.ParquetFile(path).read())
        except UNREADABLE as error:
            raise LakeError(
                f"{path} cannot be read ({error}). It is kept work of a run that was killed; "
                f"delete the folder {self.folder} and run again"
            ) from error

    def keep(self, forecasts: pa.Table, inputs: pa.Table) -> None:
        """Add a batch.

        Raises
        ------
        LakeError
            The lease was lost, or the disk refuses.
        """
        number = max(self._numbers(), default=0) + 1
        for table, rows in zip(TABLES, (forecasts, inputs), strict=True):

            def write(temporary: Path, rows: pa.Table = rows) -> None:
                write_parquet(rows, temporary)

            replace_atomically(
                self._file(number, table), write, name=f"{table}_part",
                before=lambda: leases.confirm(self.data_dir, self.symbol),
            )  # fmt: skip

    def drop(self) -> None:
        """Delete what is kept of the symbol, of any model."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)
