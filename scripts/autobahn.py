"""Checks the results of the Autobahn test suite: every case must pass strictly.

    autobahn.py INDEX.json... [--table=FILE --commit=COMMIT]
"""

import collections
import json
import pathlib
import sys

SECTIONS = {
    "1": "framing", "2": "pings and pongs", "3": "reserved bits", "4": "opcodes", "5": "fragmentation",
    "6": "UTF-8", "7": "closing", "9": "long messages, many messages", "10": "automatic fragmentation",
}
NAMES = {"server": "the server's `/echo`", "library": "the library's server", "library-client": "the library's client"}
# "Informational" cases have no right answer, such as how soon a failed connection is closed.
PASSED = {"OK", "INFORMATIONAL"}


def main():
    options = dict(argument[2:].split("=", 1) for argument in sys.argv[1:] if argument.startswith("--"))
    agents = {}
    for path in sys.argv[1:]:
        if not path.startswith("--"):
            agents.update(json.loads(pathlib.Path(path).read_text()))
    if set(agents) != set(NAMES):
        sys.exit(f"autobahn: results of {sorted(agents)}, not of {sorted(NAMES)}")
    everything = set().union(*agents.values())
    if missing := [(name, case) for name in NAMES for case in sorted(everything - set(agents[name]))]:
        sys.exit(f"autobahn: cases without a result: {missing}")
    counts = {name: collections.Counter() for name in NAMES}
    bad = []
    for name, cases in agents.items():
        for case, result in cases.items():
            section = case.split(".")[0]
            passed = result["behavior"] in PASSED and result["behaviorClose"] in PASSED
            counts[name][section] += passed
            counts[name][section, "all"] += 1
            if not passed:
                bad.append((name, case, result["behavior"], result["behaviorClose"], result["remoteCloseCode"]))
    rows = ["| | " + " | ".join(NAMES.values()) + " |", "| --- |" + " --- |" * len(NAMES)]
    for section, title in SECTIONS.items():
        if any(counts[name][section, "all"] for name in NAMES):
            cells = (f"{counts[name][section]} of {counts[name][section, 'all']}" for name in NAMES)
            rows.append(f"| {section}: {title} | " + " | ".join(cells) + " |")
    print("\n".join(rows))
    for case in sorted(bad):
        print("FAILED: {}: case {}: {}, close {} ({})".format(*case))
    total = sum(counts[name][section, "all"] for name in NAMES for section in SECTIONS)
    if not total or bad:
        sys.exit(f"autobahn: {len(bad)} of {total} cases did not pass strictly")
    print(f"autobahn: all {total} cases pass strictly")
    if table := options.get("table"):
        pathlib.Path(table).write_text(
            "# Conformance\n\nCases of the [Autobahn test suite](https://github.com/crossbario/autobahn-testsuite), "
            f"release 0.8.2, that pass strictly at commit {options['commit']}. Written by `scripts/autobahn --table`. "
            "Cases 12 and 13 test compression, which is not supported.\n\n" + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
