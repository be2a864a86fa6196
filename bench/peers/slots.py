"""Times one worker of two slots against two independent processes of one slot, in turn, whole commands.

    python slots.py --out slots.jsonl            two shapes, five turns: about two minutes
    python slots.py --out slots.jsonl --quick    one turn of little

The work is equal runs of one shape that differ in their seed. Together: `slalom run --slots 2` trains them all on two cores. Apart:
two `slalom run --slots 1` at the same time, each pinned to a core of its own, train half of them each. Characters per second
are those trained, over the time of the whole command. Apart, each process has its own rate, to its own end, and the two are added: neither is
charged for waiting on the other, while together the slot that ends first does wait. So the ratio flatters nobody but the processes.
"""

import argparse
import tempfile
import time
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
