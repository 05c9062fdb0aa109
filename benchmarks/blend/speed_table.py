# SPDX-License-Identifier: MIT
"""The README's table from `crayon_benchmark_blend --benchmark_filter=^linear --benchmark_out=F`."""
import json
import sys


def main(path):
    with open(path) as f:
        runs = json.load(f)["benchmarks"]
    print("| model | r | N | element | threads | pool, GB | read, GB/s | blend, ms |"
          " highway_dynamic | highway_static | xsimd | by hand |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for run in runs:
        _, model, rank, count, element, threads = run["name"].split("/")[:6]
        hand = run.get("intrinsics %", run.get("loop %"))
        percents = [run["highway_dynamic %"], run["highway_static %"], run["xsimd %"], hand]
        print(f"| {model} | {rank[1:]} | {count[1:]} | {element} | {threads[7:]}"
              f" | {run['pool GB']:.2f} | {run['read GB/s']:.1f}"
              f" | {run['blend ms']:.1f} | " + " | ".join(f"{p:.0f} %" for p in percents) + " |")


main(sys.argv[1])
