# SPDX-License-Identifier: MIT
"""What crayon_clinc150 wrote, as tables: python clinc150_table.py OUT/own-*.json

One line per contestant: the mean over users and training seeds, a 95 % interval (percentile
bootstrap over the users, each with the mean of its seeds), the spread of the seeds' means, and the
paired difference to the one adapter for all of the pool's size with its interval.
"""
import json
import random
import sys

runs = {}
for path in sys.argv[1:]:  # several files of one seed are one run; of a contestant the last counts
    with open(path) as file:
        part = json.load(file)
    seeds = runs.setdefault((part["base"], part["setting"]), {})
    run = seeds.setdefault(part["seed"], part)
    for key in ("methods", "seconds"):
        run.setdefault(key, {}).update(part.get(key, {}))
    for key in ("embed_ms", "match_ms"):
        if key in part:
            run[key] = part[key]
runs = {key: list(seeds.values()) for key, seeds in runs.items()}


def interval(values, draws=4000):
    rng = random.Random(1)
    n = len(values)
    means = sorted(sum(rng.choices(values, k=n)) / n for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws) - 1]


CONTROL = "one for all, pool's size"
ORACLE = "oracle, told the convention"
for (base, setting), of in sorted(runs.items()):
    asked = of[0]["questions"]
    users = len(of[0]["domains"])
    print(f"\n{base}, setting {setting}: {len(of)} seeds {[r['seed'] for r in of]}, {users} users "
          f"of {asked} questions, {of[0]['split']} texts")
    shares = {}
    for name in dict.fromkeys(n for r in of for n in r["methods"]):
        have = [r["methods"][name] for r in of if name in r["methods"]]
        shares[name] = [sum(h["right"][u] for h in have) * 100 / asked / len(have)
                        for u in range(users)]
    mean = {name: sum(s) / users for name, s in shares.items()}
    for name, share in sorted(shares.items(), key=lambda item: -mean[item[0]]):
        have = [r["methods"][name] for r in of if name in r["methods"]]
        low, high = interval(share)
        per_seed = [sum(h["right"]) * 100 / asked / users for h in have]
        line = (f"| {name} | {len(have)} | {mean[name]:.1f} [{low:.1f}, {high:.1f}] | "
                f"{min(per_seed):.1f} .. {max(per_seed):.1f} | "
                f"{sum(h['rank'] for h in have) / len(have):.1f} |")
        if CONTROL in shares:
            paired = [a - b for a, b in zip(share, shares[CONTROL])]
            low, high = interval(paired)
            line += f" {sum(paired) / users:+.1f} [{low:+.1f}, {high:+.1f}] |"
        if ORACLE in shares and CONTROL in shares:
            way = (mean[name] - mean[CONTROL]) / (mean[ORACLE] - mean[CONTROL])
            line += f" {100 * way:.0f} % |"
        ms = [h["ms"] for h in have if "ms" in h]
        line += f" {sorted(ms)[len(ms) // 2]:.2f} |" if ms else " |"
        print(line)
    print("ms for a user: embedding", [round(r.get("embed_ms", 0), 1) for r in of], "matching",
          [round(r.get("match_ms", 0), 2) for r in of])
    print("seconds of training:", of[0].get("seconds"))
