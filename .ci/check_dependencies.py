#!/usr/bin/env python3
"""Licences, sources and bans of all dependencies against deny.toml, in a second and without installing anything.

What `cargo deny check licenses bans sources` does, from `cargo metadata` alone. It trusts the licence that a package
states and does not know of advisories: `cargo deny check` does both and is run by `./dev lint` where it is installed.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def policy():
    """deny.toml's lists. Not with tomllib: Python 3.10 does not have it."""
    text = re.sub(r"^\s*#.*$", "", (ROOT / "deny.toml").read_text(), flags=re.M)
    block = lambda key: re.search(rf"^{key} = \[(.*?)\]", text, flags=re.M | re.S).group(1)
    strings = lambda key: set(re.findall(r'"([^"]+)"', block(key)))
    once = set(re.findall(r'name = "([^"]+)", deny-multiple-versions = true', block("deny")))
    return strings("allow"), once


def allowed(expression, allow):
    """Whether an SPDX expression can be met by allowed licences. `A/B` is the old way to write `A OR B`."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either():
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = both() or value
        return value

    def both():
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = one() and value
        return value

    def one():
        token = tokens.pop(0)
        if token == "(":
            value = either()
            tokens.pop(0)
            return value
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            token = f"{token} WITH {tokens.pop(0)}"
        return token in allow or token.removesuffix("+") in allow

    return either() and not tokens


def main():
    allow, once = policy()
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    packages = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    problems, versions = [], defaultdict(set)
    for package in packages:
        name = f"{package['name']} {package['version']}"
        versions[package["name"]].add(package["version"])
        if not package["license"]:
            problems.append(f"{name} states no licence")
        elif not allowed(package["license"], allow):
            problems.append(f"{name}: the licence {package['license']} is not on the list of deny.toml")
        source = package["source"]
        # cargo's own registry, which is deny.toml's default too, ends so; anything else is a git or another registry.
        if source and not (source.startswith("registry+") and source.endswith("-index")):
            problems.append(f"{name} comes from {source}; only cargo's own registry is allowed")
        for dependency in package["dependencies"]:
            if not source and dependency["req"] == "*" and not dependency.get("path"):
                problems.append(f"{name} takes any version of {dependency['name']}")
    for name in sorted(once):
        if len(versions[name]) > 1:
            problems.append(f"{name} is there in {len(versions[name])} versions: {', '.join(sorted(versions[name]))}")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{len(packages)} packages: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
