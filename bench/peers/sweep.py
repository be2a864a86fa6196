"""Times a whole sweep of 96 trials on two cores, `slalom run` and JAX (`sweep_jax.py`) in turn, whole
commands.

    python sweep.py --out sweep.jsonl            three turns: about four minutes
    python sweep.py --out sweep.jsonl --quick    8 trials, one turn

Each command starts from nothing: a fresh folder for Slalom's store and corpora; a fresh interpreter and no
compiled code for JAX, which keeps what it compiles per shape (compiling anew for each trial, as a tool with a
process a trial does, takes far longer). Both sides' mean perplexities are printed: they start from other
random weights, so they are near each other, not equal.
"""

import argparse
import csv
import json
import sys
import tempfile
from pathlib import Path

import turns
from turns import median

GRID = {
    "--nodes": "8,16,32,64",
    "--batch-size": "16,64",
    "--unrollings": "1,5,10,20",
    "--epochs": "250,500,1000",
}
QUICK = {"--nodes": "8,16", "--batch-size": "16", "--unrollings": "1,5", "--epochs": "250,500"}
TARGET = 10


def slalom(args, grid, where, folder):
    """Seconds, and the perplexity of each trial."""
    out = folder / "out"
    command = [args.slalom, "run", *grid, "--name", "sweep", "--slots", len(where)]
    command += ["--corpus", args.corpus, "--dir", out, "--cache", folder / "cache"]
    seconds = turns.seconds_of(command, where)
    with open(out / "sweep" / "results.csv", encoding="utf-8") as file:
        return seconds, [float(row["perplexity"]) for row in csv.DictReader(file)]


def jax(args, grid, where, folder):
    """Seconds, and the perplexity of each trial."""
    out = folder / "trials.jsonl"
    command = [sys.executable, turns.HERE / "sweep_jax.py", *grid, "--corpus", args.corpus, "--out", out]
    seconds = turns.seconds_of(command, where)
    return seconds, [json.loads(line)["perplexity"] for line in out.read_text().splitlines()]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    turns.add_common(parser)
    parser.add_argument("--turns", type=int, default=3, help="turns (default: 3)")
    args = turns.parsed(parser)
    grid = QUICK if args.quick else GRID
    if args.quick:
        args.turns = 1
    trials = 1
    for values in grid.values():
        trials *= len(values.split(","))
    words = [word for flag in grid.items() for word in flag]
    where = turns.cores(2)

    rows = []
    for turn in range(args.turns):
        row = {"kind": "sweep", "turn": turn, "trials": trials}
        for side in (slalom, jax):
            with tempfile.TemporaryDirectory() as folder:
                seconds, perplexities = side(args, words, where, Path(folder))
            if len(perplexities) != trials:
                sys.exit(f"error: {side.__name__} has {len(perplexities)} of {trials} trials")
            row |= {f"{side.__name__}_s": seconds, f"{side.__name__}_perplexity": sum(perplexities) / trials}
        rows.append(row)
        turns.say(f"sweep: slalom {row['slalom_s']:.1f} s, jax {row['jax_s']:.1f} s")
    turns.record(args.out, rows)

    ratio = median([row["jax_s"] / row["slalom_s"] for row in rows])
    print(f"## A whole sweep\n\n{trials} trials on two cores, seconds of whole commands, in turn:\n")
    print(
        "| turn | `slalom run` | JAX, a process a core, code kept per shape | JAX / Slalom |\n| --- | --- | --- | --- |"
    )
    for row in rows:
        print(
            f"| {row['turn'] + 1} | {row['slalom_s']:.2f} | {row['jax_s']:.1f} | {row['jax_s'] / row['slalom_s']:.2f} |"
        )
    print(
        f"\nMedian ratio {ratio:.2f}; the target is {TARGET}: {turns.met(ratio, TARGET)}. The mean perplexity of the trials is",
        end=" ",
    )
    print(
        f"{rows[0]['slalom_perplexity']:.2f} with Slalom and\n{rows[0]['jax_perplexity']:.2f} with JAX, from other random weights."
    )


if __name__ == "__main__":
    main()
