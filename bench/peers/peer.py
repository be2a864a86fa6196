"""One peer as a process that stays: it compiles once and then times a burst whenever it is asked, so that
taking turns is cheap.

`peer.py NAME CORPUS`, NAME one of jax, jax50, torch. A request is a line of JSON on standard input, its
answer a line on standard output:

    {"prepare": "step" or "validation", "nodes": N, "batch_size": B, "unrollings": T}   {"version": ...}, once compiled and warm
    {"time": SECONDS}                                                                   {"median_us": per step or pass, "calls": ...}
    {"train": STEPS, "weights": FILE, "batch_size": B, "unrollings": T}                 {"losses": [...], "perplexity": ...}
"""

import itertools
import json
import statistics
import sys
import time

import numpy as np

import weights
from text import Corpus

STEPS_PER_CALL = {"jax": 1, "jax50": 50, "torch": 1}
# The text costs no time by its length: so much is enough for columns that differ.
CHARS = 1_000_000
FEEDS = 8


def trainer(name, initial, batch_size):
    if name == "torch":
        import lstm_torch

        return lstm_torch.Trainer(initial, batch_size), lstm_torch.version()
    import lstm_jax

    return lstm_jax.Trainer(initial, batch_size, STEPS_PER_CALL[name]), lstm_jax.version()


def prepared(name, corpus, request):
    """What a burst calls, how many steps a call is, and the peer's version."""
    run, version = trainer(name, weights.drawn(request["nodes"]), request["batch_size"])
    if request["prepare"] == "validation":
        return lambda: run.validate(corpus.valid), 1, version
    per_call = run.steps_per_call
    shape = request["batch_size"], request["unrollings"]
    feeds = [run.feed(corpus.steps(*shape, k * per_call, per_call)) for k in range(FEEDS)]
    feed = itertools.cycle(feeds)
    return lambda: run.train(next(feed)), per_call, version


def burst(call, seconds):
    """Seconds of each call: as many as fit, at least three unless those take seconds each."""
    times = []
    begin = now = time.perf_counter()
    while now - begin < seconds or (len(times) < 3 and now - begin < 2.0):
        start = now
        call()
        now = time.perf_counter()
        times.append(now - start)
    return times


def train(name, corpus, request):
    run, _ = trainer(name, weights.stored(request["weights"]), request["batch_size"])
    losses = []
    while len(losses) < request["train"]:
        columns = corpus.steps(request["batch_size"], request["unrollings"], len(losses), run.steps_per_call)
        losses += np.atleast_1d(run.train(run.feed(columns))).tolist()
    return {"losses": losses, "perplexity": run.validate(corpus.valid)}


def main():
    name, corpus = sys.argv[1], Corpus(sys.argv[2], CHARS)
    call, per_call = None, 1
    for line in sys.stdin:
        request = json.loads(line)
        if "prepare" in request:
            call, per_call, version = prepared(name, corpus, request)
            burst(call, 0.2)
            answer = {"version": version}
        elif "train" in request:
            answer = train(name, corpus, request)
        else:
            times = burst(call, request["time"])
            answer = {"median_us": statistics.median(times) / per_call * 1e6, "calls": len(times)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
