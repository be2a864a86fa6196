"""Times one worker of two slots against two independent processes of one slot, in turn, whole commands.

    python slots.py --out slots.jsonl            two shapes, five turns: about two minutes
    python slots.py --out slots.jsonl --quick    one turn of little

The work is equal runs of one shape that differ in their seed. Together: `slalom run --slots 2` trains them
all on two cores. Apart: two `slalom run --slots 1` at the same time, each pinned to a core of its own, train
half of them each. Characters per second are those trained, over the time of the whole command. Apart, each
process has its own rate, to its own end, and the two are added: neither is charged for waiting on the other,
while together the slot that ends first does wait. So the ratio flatters nobody but the processes.
"""

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import turns
from turns import median

# (nodes, batch_size, unrollings), steps a run: a quarter of a second each and a second on a core that reaches 50 GFLOP/s.
SHAPES = [((32, 32, 10), 1000), ((128, 64, 10), 200)]
RUNS = 24
TARGET = 0.97


def command(args, folder, shape, steps, seeds, slots):
    nodes, batch_size, unrollings = shape
    return [
        *(args.slalom, "run", "--nodes", nodes, "--batch-size", batch_size, "--unrollings", unrollings),
        *("--epochs", steps, "--seeds", seeds, "--name", "slots", "--slots", slots),
        *("--corpus", args.corpus, "--dir", folder / "out", "--cache", folder / "cache"),
    ]


def seeds(first, count):
    return f"{first}..={first + count - 1}"


def together(args, shape, steps, runs, where):
    """Characters per second of one command of two slots."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = turns.seconds_of(
            command(args, Path(folder), shape, steps, seeds(0, runs), len(where)), where
        )
    return runs * characters(shape, steps) / seconds


def apart(args, shape, steps, runs, where):
    """Characters per second of a command a core, started at once, added up."""
    share = runs // len(where)
    with tempfile.TemporaryDirectory() as folder:
        commands = [
            command(args, Path(folder) / str(core), shape, steps, seeds(number * share, share), 1)
            for number, core in enumerate(where)
        ]
        with ThreadPoolExecutor() as at_once:
            seconds = list(at_once.map(turns.seconds_of, commands, [[core] for core in where]))
    return sum(share * characters(shape, steps) / one for one in seconds)


def characters(shape, steps):
    _, batch_size, unrollings = shape
    return batch_size * unrollings * steps


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    turns.add_common(parser)
    parser.add_argument("--turns", type=int, default=5, help="turns a shape (default: 5)")
    args = turns.parsed(parser)
    shapes, runs = SHAPES, RUNS
    if args.quick:
        shapes, runs, args.turns = SHAPES[:1], 4, 1
    where = turns.cores(2)

    rows = []
    for shape, steps in shapes:
        row = {"kind": "slots", "nodes": shape[0], "batch_size": shape[1], "unrollings": shape[2]}
        row |= {"turns": args.turns, "runs": runs, "steps": steps}
        rates = [
            (together(args, shape, steps, runs, where), apart(args, shape, steps, runs, where))
            for _ in range(args.turns)
        ]
        row["together_per_s"] = median([one for one, _ in rates])
        row["apart_per_s"] = median([two for _, two in rates])
        row["ratio"] = median([one / two for one, two in rates])
        rows.append(row)
        turns.say(f"slots {shape}: {row['ratio']:.3f}")
    turns.record(args.out, rows)

    print(
        f"## Two slots\n\n{runs} equal runs on two cores, characters trained per second of whole commands, medians of {args.turns} turns:\n"
    )
    print(
        "| shape (N, B, T), steps a run | one worker, two slots | two processes of one slot | ratio | target | |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        shape = f"({row['nodes']}, {row['batch_size']}, {row['unrollings']}), {row['steps']:,}"
        rates = f"{row['together_per_s']:,.0f} | {row['apart_per_s']:,.0f}"
        print(f"| {shape} | {rates} | {row['ratio']:.3f} | {TARGET} | {turns.met(row['ratio'], TARGET)} |")


if __name__ == "__main__":
    main()
