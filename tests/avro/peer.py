"""What another implementation of Avro (fastavro) makes of the same bytes.

  peer.py write DIR   writes files and records as JSON describes them on standard input
  peer.py read FILE   prints the rows of a file as JSON, one on each line
  peer.py decode      reads {"writer": schema, "reader": schema or null, "records": [hex, ...]}, prints each record as JSON
"""

import datetime
import decimal
import io
import json
import sys

import fastavro


def plain(value):
    """A value as JSON says it."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None).isoformat(sep=" ")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    return value


def rich(value):
    """A value that JSON cannot say: {"$": kind, "v": text}."""
    if isinstance(value, dict) and "$" in value:
        text = value["v"]
        return {
            "hex": bytes.fromhex,
            "decimal": decimal.Decimal,
            "date": datetime.date.fromisoformat,
            "time": datetime.time.fromisoformat,
            "datetime": datetime.datetime.fromisoformat,
        }[value["$"]](text)
    if isinstance(value, dict):
        return {key: rich(v) for key, v in value.items()}
    if isinstance(value, list):
        return [rich(v) for v in value]
    return value


def main():
    verb = sys.argv[1]
    if verb == "write":
        task = json.load(sys.stdin)
        schema = fastavro.parse_schema(task["schema"])
        rows = [rich(row) for row in task["rows"]]
        for codec in task["codecs"]:
            with open(f"{sys.argv[2]}/{codec}.avro", "wb") as out:
                fastavro.writer(out, schema, rows, codec=codec, sync_interval=task["sync_interval"])
        records = []
        for row in rows:
            out = io.BytesIO()
            fastavro.schemaless_writer(out, schema, row)
            records.append(out.getvalue().hex())
        json.dump(records, sys.stdout)
    elif verb == "read":
        with open(sys.argv[2], "rb") as file:
            for row in fastavro.reader(file):
                print(json.dumps(plain(row), sort_keys=True, ensure_ascii=False))
    elif verb == "decode":
        task = json.load(sys.stdin)
        writer = fastavro.parse_schema(task["writer"])
        reader = task["reader"] and fastavro.parse_schema(task["reader"])
        for record in task["records"]:
            file = io.BytesIO(bytes.fromhex(record))
            row = fastavro.schemaless_reader(file, writer, reader)
            assert not file.read(1), "bytes behind the record"
            print(json.dumps(plain(row), sort_keys=True, ensure_ascii=False))


if __name__ == "__main__":
    main()
