"""Times a training step and a validation pass of Slalom, JAX (a step and 50 steps a call) and PyTorch in
turn, on one core.

    python steps.py --out steps.jsonl            ten shapes, nine turns each: about six minutes
    python steps.py --out steps.jsonl --quick    two shapes, two turns

Only ratios from one run count: machines differ, and neighbours come and go. So a turn is a burst of each, one
after the other, on the same core; each figure is the median of its turns, and the ratio to the best peer is
the median of the turns' own ratios. Compiling is not counted. Before anything is timed, all train the same 50
steps from the same weights, and must agree.

Markdown on standard output, an object a shape in the file.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import turns
from turns import median

# (nodes, batch_size, unrollings): least share of the core's peak, least ratio to the best peer.
STEP_TARGETS = {
    (8, 8, 5): (0.14, 8),
    (16, 16, 10): (0.25, 6),
    (32, 32, 10): (0.48, 2.5),
    (64, 64, 10): (0.60, 1.8),
    (128, 64, 10): (0.70, 1.6),
    (128, 64, 15): (0.70, 1.6),
    (256, 64, 20): (0.72, 1.6),
    (512, 128, 20): (0.75, 1.35),
    (64, 1, 10): (0.25, 3),
    (128, 16, 40): (0.65, 2),
}
VALIDATION_NODES = (64, 128)
VALIDATION_PRODUCTS_AT_MOST = 1.35
VALIDATION_RATIO_AT_LEAST = 2
TITLES = {"jax": "JAX", "jax50": "JAX, 50 steps a call", "torch": "PyTorch"}

# What a row of `slalom bench` says beside its time, all figures.
FIELDS = {
    "step": ("core_share", "characters_per_second", "gflops", "peak_gflops", "share_of_peak"),
    "validation": ("core_share", "products_us", "over_products"),
}
# `slalom bench` never waits: if it has less of its core than this, somebody else has the rest.
IDLE = 0.9

BURST_S = 0.4
# Slalom and a peer differ by the roundings of some 50 steps; another model differs by far more.
AGREEMENT = 1e-3
AGREED_SHAPE = (16, 8, 10)
AGREED_STEPS = 50


class Peer:
    """A peer's process, see `peer.py`."""

    def __init__(self, name, corpus, where):
        self.name = name
        self.version = None
        command = [sys.executable, turns.HERE / "peer.py", name, corpus]
        pipe = subprocess.PIPE
        self.process = turns.started(command, where, stdin=pipe, stdout=pipe, text=True)

    def ask(self, **request):
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # its end is read below
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"error: the peer {self.name} ended with {self.process.wait()}")
        return json.loads(answer)

    def prepare(self, what, shape):
        nodes, batch_size, unrollings = shape
        answer = self.ask(prepare=what, nodes=nodes, batch_size=batch_size, unrollings=unrollings)
        self.version = answer["version"]

    def median_us(self):
        return self.ask(time=BURST_S)["median_us"]

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def bench(slalom, kind, shape, where):
    """The row of `slalom bench` for a step of one shape, or for a validation of its nodes."""
    what = ["--shapes", ",".join(map(str, shape))] if kind == "step" else ["--validations", shape[0]]
    # Half of the time goes to what it prints first, the core's peak.
    command = [slalom, "bench", *what, "--seconds", 2 * BURST_S, "--output", "json"]
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    (row,) = [row for row in lines_of(command, where) if row["kind"] == kind]
    after, took = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - begin
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return row | {"core_share": worked / took}


def lines_of(command, where):
    """What a command prints, a value of JSON a line."""
    process = turns.started(command, where, stdout=subprocess.PIPE, text=True)
    printed, _ = process.communicate()
    if process.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))} ended with {process.returncode}")
    return [json.loads(line) for line in printed.splitlines()]


def agreement(args, peers, where):
    """The largest relative difference of a loss, or of the perplexity at the end, between Slalom and each peer."""
    nodes, batch_size, unrollings = AGREED_SHAPE
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "initial.safetensors"
        train = [
            args.slalom,
            "train",
            "--nodes",
            nodes,
            "--batch-size",
            batch_size,
            "--unrollings",
            unrollings,
        ]
        train += ["--corpus", args.corpus, "--corpus-chars", 1_000_000, "--output", "json"]
        turns.seconds_of([*train, "--steps", 0, "--final", weights], where)
        rows = lines_of([*train, "--steps", AGREED_STEPS, "--init", weights], where)
        ours = [row["loss"] for row in rows if "loss" in row]
        ours += [row["valid_perplexity"] for row in rows if "valid_perplexity" in row]
        assert len(ours) == AGREED_STEPS + 1, rows
        differences = {}
        for peer in peers:
            theirs = peer.ask(
                train=AGREED_STEPS, weights=str(weights), batch_size=batch_size, unrollings=unrollings
            )
            pairs = zip(ours, theirs["losses"] + [theirs["perplexity"]], strict=True)
            differences[peer.name] = max(abs(b / a - 1) for a, b in pairs)
    for name, difference in differences.items():
        if not difference < AGREEMENT:
            sys.exit(
                f"error: {name} trains another model: its losses or perplexity differ by {difference:.1e}"
            )
    return differences


def in_turn(args, peers, where, kind, shape):
    """One row: Slalom's own figures, each peer's, and the ratio to the best of them."""
    for peer in peers:
        peer.prepare(kind, shape)
    ours, theirs = [], {peer.name: [] for peer in peers}
    for _ in range(args.turns):
        ours.append(bench(args.slalom, kind, shape, where))
        for peer in peers:
            theirs[peer.name].append(peer.median_us())
    times = [row["median_us"] for row in ours]
    medians = {name: median(values) for name, values in theirs.items()}
    best = min(medians, key=medians.get)
    row = {
        "kind": kind,
        "nodes": shape[0],
        "batch_size": shape[1],
        "unrollings": shape[2],
        "turns": args.turns,
    }
    row["slalom_us"] = median(times)
    row |= {field: median([turn[field] for turn in ours]) for field in FIELDS[kind]}
    row |= {f"{name}_us": value for name, value in medians.items()}
    row["best"] = best
    row["ratio"] = median([peer / slalom for peer, slalom in zip(theirs[best], times)])
    turns.say(
        f"{kind} {shape}: slalom {row['slalom_us']:.0f} us, best {best} {medians[best]:.0f} us, {row['ratio']:.2f}"
    )
    return row


def microseconds(value):
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def table(head, lines):
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *lines])


def shape_of(row):
    return row["nodes"], row["batch_size"], row["unrollings"]


def peak_table(rows):
    lines = []
    for row in rows:
        shape, share = shape_of(row), row["share_of_peak"]
        least, _ = STEP_TARGETS[shape]
        lines.append(
            [str(shape), microseconds(row["slalom_us"]), f"{row['characters_per_second']:,.0f}"]
            + [f"{row['gflops']:.1f}", f"{row['peak_gflops']:.1f}"]
            + [f"{share:.1%}", f"{least:.0%}", turns.met(share, least)]
        )
    head = [
        "shape (N, B, T)",
        "µs a step",
        "characters/s",
        "GFLOP/s",
        "core's peak",
        "share of peak",
        "target",
        "",
    ]
    return table(head, lines)


def ratio_table(rows, names):
    lines = []
    for row in rows:
        shape = shape_of(row)
        _, least = STEP_TARGETS[shape]
        times = [microseconds(row[f"{name}_us"]) for name in ("slalom", *names)]
        lines.append([str(shape), *times, f"{row['ratio']:.2f}", f"{least}", turns.met(row["ratio"], least)])
    head = [
        "shape (N, B, T)",
        "Slalom",
        *(TITLES[name] for name in names),
        "best peer / Slalom",
        "target",
        "",
    ]
    return table(head, lines)


def validation_table(rows, names):
    lines = []
    for row in rows:
        times = [microseconds(row[f"{name}_us"]) for name in ("slalom", *names)]
        products = row["over_products"]
        lines.append(
            [f"{row['nodes']}", *times, f"{row['ratio']:.2f}", f"{VALIDATION_RATIO_AT_LEAST}"]
            + [turns.met(row["ratio"], VALIDATION_RATIO_AT_LEAST), f"{products:.2f}"]
            + [f"{VALIDATION_PRODUCTS_AT_MOST}", turns.met(VALIDATION_PRODUCTS_AT_MOST, products)]
        )
    head = ["nodes", "Slalom", *(TITLES[name] for name in names), "best peer / Slalom", "target", ""]
    return table(head + ["/ its products alone", "at most", ""], lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    turns.add_common(parser)
    parser.add_argument(
        "--peers", default="jax,jax50,torch", help="which, comma between (default: all three)"
    )
    parser.add_argument("--turns", type=int, default=9, help="turns a shape (default: 9)")
    args = turns.parsed(parser)
    names = args.peers.split(",")
    if unknown := set(names) - TITLES.keys():
        parser.error(f"no peer is called {', '.join(sorted(unknown))}: {', '.join(TITLES)}")
    validators = [name for name in names if name != "jax50"]
    if not validators:
        parser.error("a validation pass is one call: jax50 needs jax or torch beside it")
    shapes, validated = list(STEP_TARGETS), list(VALIDATION_NODES)
    if args.quick:
        shapes, validated, args.turns = [(8, 8, 5), (64, 64, 10)], validated[:1], 2
    where = turns.cores(1)
    peers = [Peer(name, args.corpus, where) for name in names]

    differences = agreement(args, peers, where)
    turns.say(f"largest relative difference of a loss or the perplexity: {differences}")
    steps = [in_turn(args, peers, where, "step", shape) for shape in shapes]
    of_validation = [peer for peer in peers if peer.name in validators]
    validations = [in_turn(args, of_validation, where, "validation", (nodes, 64, 10)) for nodes in validated]
    for peer in peers:
        peer.end()
    turns.record(args.out, [{"kind": "agreement", "differences": differences}, *steps, *validations])

    core_share = min(row["core_share"] for row in steps + validations)
    busy = f"**The machine was busy:** at one shape Slalom had only {core_share:.0%} of its core. These figures mean little."
    if core_share < IDLE:
        turns.say(busy)

    versions = ", ".join(dict.fromkeys(peer.version for peer in peers))
    print(
        f"## A training step\n\nMedians of {args.turns} turns on one core, against {versions}. In 50 steps from the same weights no loss"
    )
    print(f"and no perplexity differed from Slalom's by more than {max(differences.values()):.0e} of it.\n")
    if core_share < IDLE:
        print(busy + "\n")
    print(peak_table(steps) + "\n")
    print("Microseconds a step, and how many times faster than the best peer:\n")
    print(ratio_table(steps, names) + "\n")
    print(
        "## A validation pass\n\n1,000 characters at batch 1, microseconds a pass; of the peers one compiled call.\n"
    )
    print(validation_table(validations, validators))


if __name__ == "__main__":
    main()
