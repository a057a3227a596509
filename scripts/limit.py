"""Reads the runs of scripts/limit.

    limit.py run RUN.JSON LABEL     one line about one run
    limit.py summary DIRECTORY      the table of all pairs
"""

import json
import statistics
import sys
from pathlib import Path


def read(path):
    """CPU in µs for each delivery, the share of it in user space, and memory in bytes for each idle
    connection, with why the run is invalid, if it is."""
    run = json.loads(path.read_text())
    server = run["server"]
    user, system = server["cpu"]["user_us"], server["cpu"]["system_us"]
    before, connected = server["resident_before_connect"], server["resident_connected"]
    # CPU time is what it is when a message was sent late; anything else that spoils a run spoils it too.
    failed = [gate for gate in run["validity"]["gates"] if not gate["passed"] and gate["name"] != "send_lag"]
    return {
        "cpu_us": server["cpu_us_per_delivery"],
        "user_share": user / (user + system) if user + system else 0.0,
        "idle_bytes": (connected - before) / run["connections"]["ready"] if before and connected else None,
        "invalid": "; ".join(gate["finding"] for gate in failed),
    }


def spread(values, unit, digits=2):
    return f"{statistics.median(values):.{digits}f} {unit} ({min(values):.{digits}f}..{max(values):.{digits}f})"


def summary(directory):
    """Prints the table; says whether there was something to compare in each dialect."""
    complete = True
    for dialect in ("raw", "chat"):
        pairs = []
        for path in directory.glob(f"{dialect}-*-uproar/run.json"):
            other = Path(str(path).replace("-uproar/run.json", "-limit/run.json"))
            if other.exists():
                pairs.append((int(path.parent.name.split("-")[1]), read(other), read(path)))
        pairs.sort(key=lambda pair: pair[0])
        good = [(limit, uproar) for _, limit, uproar in pairs if not limit["invalid"] and not uproar["invalid"]]
        print(f"{dialect}: {len(good)} of {len(pairs)} pairs; median (least..most)")
        if not good:
            complete = False
            print()
            continue
        limits, uproars = zip(*good)
        for name, runs in (("limit", limits), ("uproar", uproars)):
            cpu = spread([run["cpu_us"] for run in runs], "µs a delivery")
            share = spread([100 * run["user_share"] for run in runs], "% in user space", 1)
            print(f"  {name:7} {cpu}   {share}")
        ratios = [uproar["cpu_us"] / limit["cpu_us"] for limit, uproar in good]
        print("ratio     " + "  ".join(f"{ratio:.3f}" for ratio in ratios) + f"   median {statistics.median(ratios):.3f}")
        idle = [run["idle_bytes"] / 1024 for run in uproars if run["idle_bytes"] is not None]
        if idle:
            print("  uproar  " + spread(idle, "KiB resident for each idle connection"))
        print()
    return complete


def main(arguments):
    match arguments:
        case ["run", path, label]:
            run = read(Path(path))
            cpu = f"{run['cpu_us']:.2f} µs a delivery" if run["cpu_us"] else "no deliveries"
            print(f"  {label}: {cpu}" + (f"  INVALID: {run['invalid']}" if run["invalid"] else ""), flush=True)
        case ["summary", directory]:
            sys.exit(0 if summary(Path(directory)) else 3)
        case _:
            sys.exit(__doc__)


main(sys.argv[1:])
