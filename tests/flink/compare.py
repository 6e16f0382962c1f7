#!/usr/bin/env python3
"""Runs every case of cases/ with Millstream and compares with what Flink answered: goldens/, recorded by `./dev flink`.

    cases/TOPIC.sql ──▶ millstream, at parallelism 1, 2 and 7 ──▶ changelog ──▶ final rows ─┐
    goldens/TOPIC.json: Flink's final rows and types ───────────────────────────────────────┴─▶ the same, or listed

Each query goes into a `print` table of Flink's types, so that a result that does not fit them is a difference as well.
What may differ stands in differences.md, each with its reason: a wanted difference, a defect, or something that is not there
yet. What Millstream answers where the difference is wanted is in ours.json, and is compared too. A case that is listed and
does not do what the list says is a failure: take it off the list.
"""

import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARALLELISM = (1, 2, 7)
AT_A_TIME = 2
RUN_SECONDS_MAX = 120
# What refuses a statement because it is not there; 2 and 4 would be faults of this script.
REFUSED_BY_SQL = 3
SHOWN_MAX = 4

Case = collections.namedtuple("Case", "topic name text golden")
# What became of a case: `same`, `different` or `refused`; what there is to say about it; and what Millstream answers.
Outcome = collections.namedtuple("Outcome", "what why answer", defaults=[None])


# ---- the cases and what is said of them ------------------------------------------------------------------------------


def statements(text):
    """Statements end with a semicolon at the end of a line; the last one is the query. As runner/Record.java."""
    text = re.sub(r"^\s*--.*$", "", text, flags=re.M)
    return [s.strip() for s in re.split(r";[ \t]*(?:\n|$)", text) if s.strip()]


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def data_digest():
    inputs = hashlib.sha256()
    for file in sorted((HERE / "data").iterdir()):
        inputs.update(f"{file.name}\n".encode())
        inputs.update(file.read_bytes())
    return inputs.hexdigest()[:16]


def load(only):
    """The cases asked for, each with its golden; exits where they do not belong together."""
    cases, stale, data = [], [], data_digest()
    for file in sorted((HERE / "cases").glob("*.sql")):
        topic, golden_file = file.stem, HERE / "goldens" / f"{file.stem}.json"
        golden = json.loads(golden_file.read_text(encoding="utf-8")) if golden_file.exists() else {"data": None, "cases": {}}
        parts = re.split(r"^-- case: *(\S+) *$", file.read_text(encoding="utf-8"), flags=re.M)
        for name, text in zip(parts[1::2], map(str.strip, parts[2::2])):
            recorded = golden["cases"].pop(name, None)
            if only and topic not in only and f"{topic}/{name}" not in only:
                continue
            if recorded is None or recorded["sql"] != digest(text.encode()) or golden["data"] != data:
                stale.append(f"{topic}/{name}")
            cases.append(Case(topic, name, text, recorded))
        stale += [f"{topic}/{name} (no such case)" for name in golden["cases"] if not only]
    if stale:
        print(f"FAILED {len(stale)} goldens are missing or older than their case or data, such as {', '.join(stale[:5])}: run ./dev flink")
        print(f"0 passed, {len(stale)} failed")
        sys.exit(1)
    return cases


SECTIONS = {"Wanted": "wanted", "Defects": "defect", "Not there yet": "not there"}


def differences():
    """From `topic/case` to the section it is listed in and the heading it stands under."""
    listed, section, heading = {}, None, None
    for line in (HERE / "differences.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section, heading = SECTIONS.get(line[3:].strip()), None
        elif line.startswith("### "):
            heading = line[4:].strip()
        entry = re.fullmatch(r"- `(\w+/\w+)`.*", line)
        if entry and section and heading:
            if entry.group(1) in listed:
                raise SystemExit(f"differences.md lists {entry.group(1)} twice")
            listed[entry.group(1)] = (section, heading)
    return listed


# ---- types and values ------------------------------------------------------------------------------------------------


def split_top(text, separator=", "):
    """The parts between separators that stand in no bracket."""
    parts, depth, start, i = [], 0, 0, 0
    while i < len(text):
        if text[i] in "[{<(":
            depth += 1
        elif text[i] in "]}>)":
            depth -= 1
        elif depth == 0 and text.startswith(separator, i):
            parts.append(text[start:i])
            i += len(separator)
            start = i
            continue
        i += 1
    return parts + [text[start:]]


def parse_type(text):
    """(`ARRAY`, [item]), (`MAP`, [key, value]), (`ROW`, [fields]), or (scalar, [])."""
    outer = re.fullmatch(r"(ARRAY|MAP|ROW|MULTISET)<(.*)>", text)
    if not outer:
        return (text.split("(")[0] if "TIME ZONE" not in text else "TIMESTAMP_LTZ", [])
    inner = split_top(outer.group(2))
    if outer.group(1) == "ROW":
        inner = [re.sub(r"^`[^`]*` ", "", field) for field in inner]
    if outer.group(1) == "MULTISET":
        return ("MAP", [parse_type(inner[0]), ("INT", [])])
    return (outer.group(1), [parse_type(i) for i in inner])


def declared(text):
    """The type as both engines declare it."""
    text = re.sub(r"\b(VAR)?CHAR\(\d+\)", "STRING", text)
    text = re.sub(r"\b(VAR)?BINARY\(\d+\)", "BYTES", text)
    return re.sub(r"TIMESTAMP\((\d)\) WITH LOCAL TIME ZONE", r"TIMESTAMP_LTZ(\1)", text)


def number(text, single, digits):
    value = float(text)
    if single:
        value = struct.unpack("f", struct.pack("f", value))[0]
    return repr(value) if digits is None else f"{value:.{digits - 1}e}"


def from_golden(value, kind, digits):
    name, inner = kind
    if value is None:
        return None
    if name == "ARRAY":
        return tuple(from_golden(v, inner[0], digits) for v in value)
    if name == "ROW":
        return tuple(from_golden(v, k, digits) for v, k in zip(value, inner))
    if name == "MAP":
        return tuple(sorted(((from_golden(k, inner[0], digits), from_golden(v, inner[1], digits)) for k, v in value), key=repr))
    return number(value, name == "FLOAT", digits) if name in ("DOUBLE", "FLOAT") else value


def from_print(text, kind, digits):
    name, inner = kind
    if text == "null":
        return None
    if name == "ARRAY":
        return tuple(from_print(t, inner[0], digits) for t in split_top(text[1:-1])) if text != "[]" else ()
    if name == "ROW":
        return tuple(from_print(t, k, digits) for t, k in zip(split_top(text[3:-1]), inner))
    if name == "MAP":
        pairs = (split_top(t, "=") for t in split_top(text[1:-1])) if text != "{}" else ()
        return tuple(sorted(((from_print(p[0], inner[0], digits), from_print(p[1], inner[1], digits)) for p in pairs), key=repr))
    return number(text, name == "FLOAT", digits) if name in ("DOUBLE", "FLOAT") else text


def to_print(value, kind):
    name, inner = kind
    if value is None:
        return "null"
    if name == "ARRAY":
        return "[" + ", ".join(to_print(v, inner[0]) for v in value) + "]"
    if name == "ROW":
        return "+I[" + ", ".join(to_print(v, k) for v, k in zip(value, inner)) + "]"
    if name == "MAP":
        return "{" + ", ".join(f"{to_print(k, inner[0])}={to_print(v, inner[1])}" for k, v in value) + "}"
    return value


class Reader:
    """Rows as `print` writes them, read by the types of the golden."""

    def __init__(self, golden, digits):
        self.kinds, self.digits = [parse_type(t) for _, t in golden["columns"]], digits
        self.wanted = collections.Counter()
        # `print` quotes nothing. A row whose text is the one of a golden row is that row, whatever stands in its texts.
        self.known = {}
        for row in golden["rows"]:
            values = tuple(from_golden(v, k, digits) for v, k in zip(row, self.kinds))
            self.wanted[values] += 1
            self.known[", ".join(to_print(v, k) for v, k in zip(row, self.kinds))] = values

    def row(self, text):
        if text in self.known:
            return self.known[text]
        cells = split_top(text)
        if len(cells) != len(self.kinds):
            return ("?", text)
        return tuple(from_print(c, k, self.digits) for c, k in zip(cells, self.kinds))


# ---- running ---------------------------------------------------------------------------------------------------------


def script(case):
    """One process plays the case at every parallelism; rows are told apart by the identifier in front."""
    *before, query = statements(case.text)
    text = [(HERE / "data" / "tables.sql").read_text(encoding="utf-8")] + [s + ";" for s in before]
    for p in PARALLELISM:
        text.append(f"SET 'parallelism.default' = '{p}';")
        if "refused" in case.golden:
            text.append(query + ";")
        else:
            columns = ", ".join(f"c{i} {declared(t)}" for i, (_, t) in enumerate(case.golden["columns"]))
            text.append(f"CREATE TABLE printed_{p} ({columns}) WITH ('connector' = 'print', 'print-identifier' = 'p{p}');")
            text.append(f"INSERT INTO printed_{p} {query};")
    return "\n".join(text)


PRINTED = re.compile(r"p(\d+)(?::\d+)?> (\+I|-U|\+U|-D)\[(.*)\]")


def play(binary, case, settings=()):
    # The machine's zone may not matter.
    environment = {**os.environ, "NO_COLOR": "1", "RUST_BACKTRACE": "0", "TZ": "Asia/Kolkata"}
    try:
        done = subprocess.run([binary, "run", "-", "--progress", "none", *settings], input=script(case), cwd=HERE, env=environment,
                              capture_output=True, encoding="utf-8", timeout=RUN_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return Outcome("different", f"not done after {RUN_SECONDS_MAX} s")
    said = done.stderr.strip()
    if done.returncode != 0:
        # In a line: where it is in a script that was put together helps nobody.
        why = " ".join(re.sub(r"^\s*(-->|\||\d+ \|).*$", "", said, flags=re.M).split())
        what = "refused" if done.returncode == REFUSED_BY_SQL else "different"
        if "refused" in case.golden and done.returncode in (1, REFUSED_BY_SQL):
            return Outcome("same", f"both refuse: {why}")
        return Outcome(what, f"exit code {done.returncode}: {why[:700]}", [f"exit code {done.returncode}"])
    if "refused" in case.golden:
        return Outcome("different", f"Flink refuses it ({case.golden['refused'][:150]}), Millstream does not", ["not refused"])
    return judge(case, done.stdout)


def judge(case, printed):
    digits = re.search(r"^-- doubles: (\d+)$", case.text, re.M)
    reader = Reader(case.golden, int(digits.group(1)) if digits else None)
    wanted = reader.wanted
    got = {p: collections.Counter() for p in PARALLELISM}
    for line in printed.splitlines():
        match = PRINTED.fullmatch(line)
        if not match:
            return Outcome("different", f"cannot be read: {line[:200]}")
        p, change, text = int(match.group(1)), match.group(2), match.group(3)
        row = reader.row(text)
        got[p][row] += 1 if change in ("+I", "+U") else -1
        if change != "+I" and case.golden["append"]:
            return Outcome("different", f"{line[:200]}: the query is append-only")
        if p == 1 and got[p][row] < 0:
            return Outcome("different", f"{line[:200]}: taken back before it was given")
    problems = []
    for p in PARALLELISM:
        if +got[p] != wanted or -got[p]:
            problems.append((p, got[p]))
    if not problems:
        return Outcome("same", "")
    p, rows = problems[0]
    lines = [f"at parallelism {', '.join(str(p) for p, _ in problems)}: {sum((+rows).values())} rows, Flink has {sum(wanted.values())}"]
    if any(r != rows for _, r in problems) or len(problems) < len(PARALLELISM):
        lines[0] += "; NOT THE SAME at every parallelism"
    for title, bag in (("only here ", rows - wanted), ("only Flink", wanted - +rows), ("taken back too often", -rows)):
        lines += [f"      {title} {show(row)}" + (f" ({n} times)" if n > 1 else "") for row, n in list(bag.items())[:SHOWN_MAX]]
        lines += [f"      {title} … {len(bag) - SHOWN_MAX} more"] if len(bag) > SHOWN_MAX else []
    return Outcome("different", "\n".join(lines), sorted(show(row) for row in (+rows).elements()))


def show(row):
    return "(" + ", ".join("NULL" if v is None else str(v) for v in row) + ")"


# ---- the verdict -----------------------------------------------------------------------------------------------------


def tidy(passing):
    """Takes what does as Flink does off the list, and headings under which nothing is left."""
    kept, held = [], []
    for line in (HERE / "differences.md").read_text(encoding="utf-8").splitlines():
        entry = re.fullmatch(r"- `(\w+/\w+)`.*", line)
        if entry and entry.group(1) in passing:
            continue
        if line.startswith("#"):
            # What stands since the last heading goes with it when no case followed.
            kept += [] if held and held[0].startswith("### ") and not any(h.startswith("- `") for h in held) else held
            held = []
        held.append(line)
    kept += [] if held[0].startswith("### ") and not any(h.startswith("- `") for h in held) else held
    (HERE / "differences.md").write_text("\n".join(kept).rstrip() + "\n", encoding="utf-8")


def verdict(case, outcome, listed, ours):
    """(`ok`, `FAILED` or the section in which this is listed, what to say)."""
    key = f"{case.topic}/{case.name}"
    section, said = listed.get(key, (None, None))
    if section is None:
        return ("ok", "") if outcome.what == "same" else ("FAILED", outcome.why)
    if outcome.what == "same":
        return "FAILED", f"it is listed in differences.md as {section} and does what Flink does: take it off the list"
    if "NOT THE SAME" in outcome.why:
        return "FAILED", f"listed as {section}, but: {outcome.why}"
    if section == "not there":
        # The headings are parts of the messages that are expected: one of them, since the one thing that is not there
        # yet is often met before the other.
        expected = {heading for of, heading in listed.values() if of == "not there"}
        if not outcome.why.startswith("exit code") or not any(e in outcome.why for e in expected):
            return "FAILED", f"it is listed as not there yet with another message: {outcome.why}"
    elif section == "wanted" and ours.get(key) != outcome.answer:
        return "FAILED", f"it differs from Flink on purpose, and now in another way than ours.json says (--accept): {outcome.why}"
    return section, said


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", type=Path, help="the millstream binary to test")
    parser.add_argument("only", nargs="*", metavar="TOPIC|TOPIC/CASE", help="only these")
    parser.add_argument("--verbose", action="store_true", help="name every case, and show how listed ones differ")
    parser.add_argument("--accept", action="store_true", help="write the answers to cases that differ on purpose to ours.json")
    parser.add_argument("--tidy", action="store_true", help="take cases off differences.md that do as Flink does")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, such as execution.runtime-mode=batch")
    parser.add_argument("--script", action="store_true", help="print the scripts instead of running them")
    arguments = parser.parse_args()
    if not os.access(arguments.binary, os.X_OK):
        parser.error(f"{arguments.binary} is not there or cannot be run: build it with `cargo build -p millstream`")
    binary, listed, cases = arguments.binary.resolve(), differences(), load(arguments.only)
    unknown = set(listed) - {f"{c.topic}/{c.name}" for c in cases}
    if unknown and not arguments.only:
        raise SystemExit(f"differences.md lists cases that are not there: {', '.join(sorted(unknown))}")
    if arguments.script:
        print("\n\n".join(script(c) for c in cases))
        return 0
    ours_file = HERE / "ours.json"
    ours = json.loads(ours_file.read_text(encoding="utf-8")) if ours_file.exists() else {}
    if not arguments.only:
        ours = {key: answer for key, answer in ours.items() if listed.get(key, ("",))[0] == "wanted"}
    settings = [part for setting in arguments.set for part in ("-S", setting)]
    passing, counts, by_topic = set(), collections.Counter(), collections.defaultdict(collections.Counter)
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        for case, outcome in zip(cases, pool.map(lambda c: play(binary, c, settings), cases)):
            key = f"{case.topic}/{case.name}"
            if arguments.accept and listed.get(key, ("",))[0] == "wanted" and outcome.answer is not None:
                ours[key] = outcome.answer
            if outcome.what == "same":
                passing.add(key)
            result, why = verdict(case, outcome, listed, ours)
            counts[result] += 1
            by_topic[case.topic][result] += 1
            if result == "FAILED" or arguments.verbose:
                print(f"{result:10} {key}" + (f"\n      {why}" if why else ""), flush=True)
                if arguments.verbose and outcome.what != "same" and result not in ("FAILED", "not there"):
                    print(f"      now: {outcome.why}")
    if arguments.tidy:
        tidy(passing)
    if arguments.accept:
        ours_file.write_text(json.dumps(ours, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    for topic, of in sorted(by_topic.items()):
        print(f"{'FAILED' if of['FAILED'] else 'ok    '} {topic}: " + ", ".join(f"{n} {what}" for what, n in sorted(of.items(), key=lambda i: i[0].lower() != "ok")))
    for section, words in (("wanted", "cases differ from Flink ON PURPOSE"), ("defect", "cases differ from Flink by a DEFECT"),
                           ("not there", "cases are NOT THERE YET")):
        if counts[section]:
            print(f"!! {counts[section]} {words}: tests/flink/differences.md")
    print(f"{counts['ok']} passed, {counts['FAILED']} failed")
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
