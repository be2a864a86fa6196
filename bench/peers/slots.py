"""Times one worker of two slots against two independent processes of one slot, in turn, whole commands.

    python slots.py --out slots.jsonl            two shapes, nine turns: about six minutes
    python slots.py --out slots.jsonl --quick    one turn of little

The work is equal runs of one shape that differ in their seed. Together: `slalom run --slots 2` trains them
all on two cores. Apart: two `slalom run --slots 1` at the same time, each pinned to a core of its own, train
half of them each. Characters per second are those trained, over the time of the whole command. Apart, each
process has its own rate, to its own end, and the two are added: neither is charged for waiting on the other,
while together the slot that ends first does wait. So the ratio flatters nobody but the processes.

A turn is apart, together, apart: together is compared with the mean of the two beside it, so that a machine
that slows down or speeds up meanwhile moves the ratio little, and the two tell how far the machine's own noise
goes: what the same commands come to when they are timed against themselves.
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


def span(ratios):
    return f"{ratios[0]:.3f} to {ratios[-1]:.3f}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    turns.add_common(parser)
    parser.add_argument("--turns", type=int, default=9, help="turns a shape (default: 9)")
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
            [side(args, shape, steps, runs, where) for side in (apart, together, apart)]
            for _ in range(args.turns)
        ]
        row["together_per_s"] = median([one for _, one, _ in rates])
        row["apart_per_s"] = median([(before + after) / 2 for before, _, after in rates])
        row["ratios"] = sorted(one / ((before + after) / 2) for before, one, after in rates)
        row["ratio"] = median(row["ratios"])
        row["apart_to_itself"] = sorted(after / before for before, _, after in rates)
        rows.append(row)
        turns.say(f"slots {shape}: {row['ratio']:.3f} ({span(row['ratios'])})")
    turns.record(args.out, rows)

    print(
        f"## Two slots\n\n{runs} equal runs on two cores, characters trained per second of whole commands, medians of {args.turns} turns:\n"
    )
    print(
        "| shape (N, B, T), steps a run | one worker, two slots | two processes of one slot | ratio (least to most) | target | | the processes to themselves |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        shape = f"({row['nodes']}, {row['batch_size']}, {row['unrollings']}), {row['steps']:,}"
        rates = f"{row['together_per_s']:,.0f} | {row['apart_per_s']:,.0f}"
        ratio = f"{row['ratio']:.3f} ({span(row['ratios'])}) | {TARGET} | {turns.met(row['ratio'], TARGET)}"
        print(f"| {shape} | {rates} | {ratio} | {span(row['apart_to_itself'])} |")


if __name__ == "__main__":
    main()
