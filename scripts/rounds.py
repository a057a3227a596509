"""Reads the runs of scripts/compare-peers: decides which count, and makes a table of medians."""

import statistics

from peers import Failure

# Failed checks that do not affect what is compared.
TOLERATED = {"send_lag"}
# A server with one of these is not compared.
WRONG = "altered", "duplicates", "disorder", "misdelivered", "id_conflicts", "server_errors"
# If a core was busy for so many times the process time, something else ran on it: the kernel's own work is about a
# fifth.
FOREIGN_SHARE = 2.0
STOLEN_SHARE_MAX = 0.01


def quantile_ms(summary, quantile):
    return next(entry["value_ns"] for entry in summary["quantiles"] if entry["quantile"] == quantile) / 1e6


class Run:
    """The figures of one run.json."""

    def __init__(self, run, name):
        deliveries, server = run["deliveries"], run["server"]
        cores = server["cores"]
        wrong = [f"{deliveries[what]} {what}" for what in WRONG if deliveries[what]]
        if wrong:
            raise Failure(f"{name}: {', '.join(wrong)}")
        failed = [gate for gate in run["validity"]["gates"] if not gate["passed"]]
        self.is_late = any(gate["name"] in TOLERATED for gate in failed)
        # Why the run does not count.
        self.reasons = [gate["finding"] for gate in failed if gate["name"] not in TOLERATED]
        if cores is None or cores["shared_with_loadgen"] or cores["whole_machine"]:
            self.reasons.append("the server had no core of its own")
        self.remarks = []
        if cores and cores["us_per_delivery"]:
            if cores["busy_us"] > FOREIGN_SHARE * (server["cpu"]["user_us"] + server["cpu"]["system_us"]):
                self.remarks.append("something else ran on its core: the figures of the core cannot be used")
            if cores["stolen_us"] > STOLEN_SHARE_MAX * cores["busy_us"]:
                self.remarks.append(f"a hypervisor had {cores['stolen_us'] / cores['busy_us']:.1%} of the core's time")
            if cores["thin"]:
                self.remarks.append("the core's time is thin: measure longer")
        latency = run["latency"]
        if any(entry["thin"] for entry in latency["quantiles"] if entry["quantile"] == 0.99):
            self.remarks.append("p99 is thin: fewer than 10 messages reach beyond it")
        self.values = {
            "core": cores and cores["us_per_delivery"],
            "process": server["cpu_us_per_delivery"],
            "p50": quantile_ms(latency, 0.5),
            "p99": quantile_ms(latency, 0.99),
            "carried": deliveries["received_in_window"] / run["measured_seconds"],
            "idle": kibibytes_per_connection(server, run["connections"]["ready"]),
            "resident": server["resident_connected"] and server["resident_connected"] / (1 << 20),
        }

    @property
    def counts(self):
        return not self.reasons

    def told(self, columns):
        values = [f"{title} {cell([self], key, digits)}" for title, key, digits in columns]
        late = ["loadgen sent late"] if self.is_late else []
        return "; ".join([", ".join(values), *late, *(f"DOES NOT COUNT: {reason}" for reason in self.reasons),
                          *self.remarks])


class JoinRun(Run):
    """A crowd of clients that joined, and the echo beside it."""

    def __init__(self, crowd, echo, name):
        wrong = [f"{run['deliveries'][what]} {what}" for run in (crowd, echo) for what in WRONG
                 if run["deliveries"][what]]
        if wrong:
            raise Failure(f"{name}: {', '.join(wrong)}")
        self.is_late, self.reasons, self.remarks = False, [], []
        connections, wanted = crowd["connections"], crowd["settings"]["clients"]
        if connections["ready"] < wanted:
            self.reasons.append(f"{connections['ready']} of {wanted} clients joined")
        self.reasons += [gate["finding"] for gate in echo["validity"]["gates"]
                         if not gate["passed"] and gate["name"] not in TOLERATED]
        # The crowd has no warm-up, so its run begins when its last client has joined.
        joined = crowd["started_unix_seconds"]
        begin = joined - connections["seconds"]
        at, beside, before = echo["started_unix_seconds"], [], []
        for stage in echo["stages"]:
            end = at + stage["duration_seconds"]
            p99 = quantile_ms(stage["latency"], 0.99)
            if end <= begin:
                before.append(p99)
            elif at < joined:
                beside.append(p99)
            at = end
        if not before or not beside or at < joined:
            self.reasons.append("the echo did not run before and all through the joins")
        self.values = {
            "joined": connections["seconds"],
            "join p99": quantile_ms(connections["join"], 0.99),
            "echo before": statistics.median(before) if before else None,
            "echo p99": max(beside, default=None),
        }


def kibibytes_per_connection(server, ready):
    before, connected = server["resident_before_connect"], server["resident_connected"]
    return (connected - before) / ready / 1024 if ready and before and connected else None


# Title, key and decimals.
COSTS = [
    ("core, µs", "core", 2),
    ("process, µs", "process", 2),
    ("p50, ms", "p50", 3),
    ("p99, ms", "p99", 3),
    ("carried/s", "carried", 0),
]
# Memory that a server reserves before clients connect counts only in the total. The kernel's memory for sockets, the
# same for all servers, counts in neither.
MEMORY = [("KiB a connection", "idle", 1), ("MiB in total", "resident", 1)]
JOINS = [
    ("all joined, s", "joined", 2),
    ("a join p99, ms", "join p99", 0),
    ("echo p99 before, ms", "echo before", 2),
    ("worst half second beside, ms", "echo p99", 2),
]


def cell(runs, key, digits):
    values = [run.values[key] for run in runs if run.values[key] is not None]
    if not values:
        return "-"
    middle = f"{statistics.median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def counting(runs):
    return [run for run in runs if run.counts]


def reference(name):
    """The server to compare with: uproar, with as many shards if it is another build."""
    return name.replace("baseline", "uproar") if name.startswith("baseline") else "uproar"


def ratio(runs, name, key):
    """The reference's figure divided by this server's, round by round."""
    other = reference(name)
    if name == other or other not in runs:
        return "-"
    ratios = [one.values[key] / beside.values[key] for one, beside in zip(runs[other], runs[name])
              if one.counts and beside.counts and one.values[key] and beside.values[key]]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})" if ratios else "-"


def table(title, runs, columns):
    """The lines of a table: medians of the runs that count, with minimum and maximum."""
    first = columns[0]
    rows = [[title, *(name for name, *_ in columns), f"uproar ÷ it, {first[0].split(',')[0]}", "runs that count"]]
    for name, taken in runs.items():
        valid = counting(taken)
        late = sum(run.is_late for run in valid)
        verdict = f"{len(valid)} of {len(taken)}" + (f", {late} late" if late else "")
        # "carried" is known for all runs.
        cells = [cell(taken if key == "carried" else valid, key, digits) for _, key, digits in columns]
        rows.append([name, *cells, ratio(runs, name, first[1]), verdict])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))])
             for row in rows]
    for name, taken in runs.items():
        for remark in sorted({remark for run in taken for remark in run.remarks}):
            lines.append(f"{name}: {remark} ({sum(remark in run.remarks for run in taken)} of {len(taken)} runs)")
        for number, run in enumerate(taken, 1):
            lines += [f"{name}, round {number} does not count: {reason}" for reason in run.reasons]
    return lines


def is_comparable(runs):
    """True when each server has a run that counts."""
    return all(counting(taken) for taken in runs.values())
