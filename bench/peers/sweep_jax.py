"""A whole sweep in JAX as a careful user would run it: a process a core, compiled code kept per shape,
longest shapes first.

    python sweep_jax.py --nodes 8,16 --batch-size 16 --unrollings 1,5 --epochs 250,500 --corpus text8.zip --out trials.jsonl

A trial is trained by itself from step 0, as sweep tools do, and validated at its end. A shape's trials go to
one process, so that each shape is compiled once. Time the whole command: interpreters, imports and the corpus
are part of it.
"""

import argparse
import itertools
import json
import multiprocessing
import os

# A divisor of every `epochs`, so that one compiled call serves trials of any length.
STEPS_PER_CALL = 250


def trial(corpus, shape, epochs):
    import lstm_jax
    import weights

    nodes, batch_size, unrollings = shape
    run = lstm_jax.Trainer(weights.drawn(nodes), batch_size, STEPS_PER_CALL)
    for first in range(0, epochs, STEPS_PER_CALL):
        run.train(corpus.steps(batch_size, unrollings, first, STEPS_PER_CALL))
    return {
        "nodes": nodes,
        "batch_size": batch_size,
        "unrollings": unrollings,
        "epochs": epochs,
        "perplexity": run.validate(corpus.valid),
    }


def work(core, path, shapes, epochs, trials):
    """Trains shapes until there are none left, on one core."""
    os.sched_setaffinity(0, {core})
    from text import Corpus

    corpus = Corpus(path)
    while (shape := shapes.get()) is not None:
        for steps in epochs:
            trials.put(trial(corpus, shape, steps))
    trials.put(None)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    values = lambda text: [int(value) for value in text.split(",")]
    for axis in ("--nodes", "--batch-size", "--unrollings", "--epochs"):
        parser.add_argument(axis, type=values, required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    if odd := [epochs for epochs in args.epochs if epochs % STEPS_PER_CALL]:
        parser.error(f"epochs {odd} are no multiples of {STEPS_PER_CALL}")

    # A forked child would inherit whatever the parent's libraries have started.
    processes = multiprocessing.get_context("spawn")
    shapes, trials = processes.Queue(), processes.Queue()
    by_size = lambda shape: -(shape[0] ** 2) * shape[1] * shape[2]
    for shape in sorted(itertools.product(args.nodes, args.batch_size, args.unrollings), key=by_size):
        shapes.put(shape)
    workers = []
    for core in sorted(os.sched_getaffinity(0)):
        shapes.put(None)
        job = (core, args.corpus, shapes, args.epochs, trials)
        workers.append(processes.Process(target=work, args=job))
        workers[-1].start()
    with open(args.out, "w", encoding="utf-8") as out:
        for _ in workers:
            while (row := trials.get()) is not None:
                print(json.dumps(row), file=out, flush=True)
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
