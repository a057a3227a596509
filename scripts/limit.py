"""Reads the runs of scripts/limit.

    limit.py run RUN.JSON LABEL     one line about one run
    limit.py summary DIRECTORY      the table of all rounds
"""

import json
import statistics
import sys
from pathlib import Path

PROGRAMS = "limit", "uproar", "baseline", "again"
# The pairs that are compared. "again" is the baseline once more: what differs between the two is the machine.
RATIOS = ("uproar", "limit"), ("baseline", "limit"), ("uproar", "baseline"), ("again", "baseline")
# If a core was busy for so many times the process time, something else ran on it: the kernel's own work is about a
# fifth.
FOREIGN_SHARE = 2.0
# The two figures for each delivery, and their titles.
COSTS = ("core_us", "whole core"), ("process_us", "process")


def read(path):
    """CPU in µs for each delivery, of the whole core and of the process, the share of the latter in user space,
    and memory in bytes for each idle connection, with why the run is invalid, if it is."""
    run = json.loads(path.read_text())
    server = run["server"]
    user, system = server["cpu"]["user_us"], server["cpu"]["system_us"]
    before, connected = server["resident_before_connect"], server["resident_connected"]
    cores = server["cores"]
    # Late sends do not affect CPU time; all other reasons for INVALID do.
    failed = [gate for gate in run["validity"]["gates"] if not gate["passed"] and gate["name"] != "send_lag"]
    reasons = [gate["finding"] for gate in failed]
    # If loadgen worked on the core, too, its time is not the server's cost.
    if cores is None or cores["shared_with_loadgen"] or cores["whole_machine"]:
        reasons.append("the server had no core of its own")
    return {
        "core_us": cores and cores["us_per_delivery"],
        "process_us": server["cpu_us_per_delivery"],
        "thin": server["cpu_thin"] or bool(cores and cores["thin"]),
        "stolen_share": cores["stolen_us"] / cores["busy_us"] if cores and cores["busy_us"] else 0.0,
        "user_share": user / (user + system) if user + system else 0.0,
        "idle_bytes": (connected - before) / run["connections"]["ready"] if before and connected else None,
        "invalid": "; ".join(reasons) or ("" if server["deliveries"] else "nothing was delivered"),
    }


def spread(values, unit, digits=2):
    return f"{statistics.median(values):.{digits}f} {unit} ({min(values):.{digits}f}..{max(values):.{digits}f})"


def summary(directory):
    """Prints the tables. True if each dialect has something to compare."""
    return all([table(directory, dialect) for dialect in ("raw", "chat")])


def table(directory, dialect):
    # For each round, the runs that count, by program.
    measured, rounds = set(), {}
    for path in directory.glob(f"{dialect}-*/run.json"):
        _, number, program = path.parent.name.split("-")
        measured.add(program)
        run = read(path)
        counting = rounds.setdefault(int(number), {})
        if not run["invalid"]:
            counting[program] = run
    programs = [program for program in PROGRAMS if program in measured]
    print(f"{dialect}: median (least..most) of {len(rounds)} rounds, µs a delivery")
    for program in programs:
        runs = [counting[program] for counting in rounds.values() if program in counting]
        if not runs:
            print(f"  {program:9} no valid run")
            continue
        costs = "   ".join(f"{name} {spread([run[cost] for run in runs], 'µs')}" for cost, name in COSTS)
        share = spread([100 * run["user_share"] for run in runs], "% of it in user space", 1)
        marks = f"   {len(runs)} valid" * (len(runs) < len(rounds)) + "   thin" * any(run["thin"] for run in runs)
        print(f"  {program:9} {costs}, {share}{marks}")
        if any(run["core_us"] > FOREIGN_SHARE * run["process_us"] for run in runs):
            print(f"  {program:9} something else ran on its core: the figures of the whole core cannot be used")
        stolen = max(run["stolen_share"] for run in runs)
        if stolen > 0.01:
            print(f"  {program:9} a hypervisor had up to {100 * stolen:.1f} % of the core's time")
    for one, other in RATIOS:
        pairs = [(counting[one], counting[other]) for _, counting in sorted(rounds.items())
                 if one in counting and other in counting]
        for cost, name in COSTS:
            if pairs:
                ratios = [run[cost] / beside[cost] for run, beside in pairs]
                each = "  ".join(f"{ratio:.3f}" for ratio in ratios)
                print(f"  {one} ÷ {other}, {name}: {each}   median {statistics.median(ratios):.3f}")
    for program in programs:
        runs = [counting[program] for counting in rounds.values() if program in counting]
        idle = [run["idle_bytes"] / 1024 for run in runs if run["idle_bytes"] is not None]
        if idle and program != "limit":
            print(f"  {program:9} " + spread(idle, "KiB resident for each idle connection"))
    print()
    return any({"uproar", "limit"} <= counting.keys() for counting in rounds.values())


def main(arguments):
    match arguments:
        case ["run", path, label]:
            run = read(Path(path))
            costs = [f"{name} {run[cost]:.2f}" for cost, name in COSTS if run[cost]]
            told = ", ".join(costs) + " µs a delivery" if costs else "no deliveries"
            marks = ", thin" * run["thin"] + (f"  INVALID: {run['invalid']}" if run["invalid"] else "")
            print(f"  {label}: {told}{marks}", flush=True)
        case ["summary", directory]:
            sys.exit(0 if summary(Path(directory)) else 3)
        case _:
            sys.exit(__doc__)


main(sys.argv[1:])
