"""Reads saved runs with Python's hdrhistogram, and compares the result with run.json and run.hgrm.

    interop.py DIR...

loadgen writes the format of HdrHistogram itself, the Java library. Two differences of the package are allowed:

- Steps. Within each half of the distance to 100 %, HdrHistogram's percentile iterator has steps of the
  same size. The package leaves out the rounding that makes it so, and its steps shrink from line to line.
- The footer. The package prints the standard deviation in unscaled units, and "TotalCount", with decimals,
  where HdrHistogram prints "Total count", without.

And one of loadgen, on purpose: six decimals instead of three, because its histograms count nanoseconds.
"""

import io
import json
import math
import pathlib
import re
import sys

from hdrh.histogram import HdrHistogram
from hdrh.iterators import PercentileIterator
from hdrh.log import HistogramLogReader

NS_PER_MS = 1_000_000.0
DECIMALS = 6
TIME_NS_MAX = 60_000_000_000
SIGNIFICANT_DIGITS = 3


def increment_iteration_level(self):
    """HdrHistogram's PercentileIterator.incrementIterationLevel: `(long)` rounds the exponent down."""
    self.percentile_to_iterate_from = self.percentile_to_iterate_to
    gap = 100.0 - self.percentile_to_iterate_to
    if gap:
        half_distance = 2 ** (int(math.log2(100.0 / gap)) + 1)
        self.percentile_to_iterate_to += 100.0 / (self.percentile_ticks_per_half_distance * half_distance)


PercentileIterator.increment_iteration_level = increment_iteration_level

checks = 0


def check(where, name, found, expected):
    global checks
    checks += 1
    if found != expected:
        sys.exit(f"interop: {where}: {name}: hdrhistogram has {found!r}, loadgen {expected!r}")


def read_log(path):
    """All intervals merged, and the histograms of the whole run by tag."""
    latency = HdrHistogram(1, TIME_NS_MAX, SIGNIFICANT_DIGITS)
    tagged = {}
    reader = HistogramLogReader(str(path), latency)
    while (histogram := reader.get_next_interval_histogram()) is not None:
        if histogram.get_tag():
            tagged[histogram.get_tag()] = histogram
        else:
            latency.add(histogram)
    reader.close()
    return latency, tagged


def values_at(histogram, quantiles):
    """The values at ranks rounded up, as HdrHistogram defines them; the package rounds half up."""
    recorded = [(step.total_count_to_this_value, step.value_iterated_to)
                for step in histogram.get_recorded_iterator()]
    for quantile in quantiles:
        rank = max(1, math.ceil(quantile * histogram.get_total_count()))
        value = next((value for count, value in recorded if count >= rank), 0)
        yield histogram.get_highest_equivalent_value(value)


def compare_summary(where, histogram, summary):
    check(where, "count", histogram.get_total_count(), summary["count"])
    quantiles = summary["quantiles"]
    found = values_at(histogram, [quantile["quantile"] for quantile in quantiles])
    values = [(f"p{quantile['quantile'] * 100:g}", value, quantile["value_ns"], quantile["at_least"])
              for quantile, value in zip(quantiles, found)]
    values.append(("max", histogram.get_max_value(), summary["max_ns"], summary["undelivered"] > 0))
    for name, found, expected, at_least in values:
        if at_least:
            # A lower bound must not be rounded up: it is the time waited so far, within the same bucket.
            found, expected = (histogram.get_lowest_equivalent_value(value) for value in (found, expected))
        elif name in ("p50", "p99") and summary["count"] % 100 == 0:
            check(where, f"{name} by the package", histogram.get_value_at_percentile(float(name[1:])), expected)
        check(where, name, found, expected)


def compare_distribution(where, histogram, text):
    printed = io.BytesIO()
    # It only sets the number of printed decimals.
    histogram.significant_figures = DECIMALS
    histogram.output_percentile_distribution(printed, NS_PER_MS)
    lines = printed.getvalue().decode().splitlines()
    deviation = histogram.get_stddev() / NS_PER_MS
    lines[-3] = re.sub(r"StdDeviation   = .*\]", f"StdDeviation   = {deviation:12.{DECIMALS}f}]", lines[-3])
    total = histogram.get_total_count()
    lines[-2] = re.sub(r"TotalCount     = .*\]", f"Total count    = {total:12d}]", lines[-2])
    check(where, "number of lines", len(lines), len(text.splitlines()))
    for number, (found, expected) in enumerate(zip(lines, text.splitlines()), 1):
        check(where, f"line {number}", found, expected)


def main():
    for directory in map(pathlib.Path, sys.argv[1:]):
        result = json.loads((directory / "run.json").read_text())
        latency, tagged = read_log(directory / "run.hlog")
        name = directory.name
        summaries = {"service": "service", "send-lag": "send_lag", "first": "first", "complete": "complete",
                     "spread": "spread"}
        compare_summary(f"{name}/latency", latency, result["latency"])
        expected_tags = {tag for tag, field in summaries.items() if result[field] and result[field]["count"]}
        check(name, "tags", set(tagged), expected_tags)
        for tag, histogram in tagged.items():
            compare_summary(f"{name}/{tag}", histogram, result[summaries[tag]])
        compare_distribution(f"{name}/run.hgrm", latency, (directory / "run.hgrm").read_text())
        undelivered = result["latency"]["undelivered"]
        check(name, "deliveries that never arrived", undelivered > 0, name == "stopped")
        print(f"{name}: {latency.get_total_count()} latencies ({undelivered} never arrived), "
              f"{len(tagged)} tags and run.hgrm agree")
    print(f"interop: {checks} comparisons, no difference")


if __name__ == "__main__":
    main()
