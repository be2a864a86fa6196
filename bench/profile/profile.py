"""Where a training step's time goes, kernel by kernel: samples of the processor's cycles, by `perf`.

    cargo build --release --config 'profile.release.package.slalom-worker.debug="line-tables-only"'
    python3 bench/profile/profile.py 8,8,5 64,64,10 64,1,10

Kernels are inlined into one function an instruction set, so a sample is told apart by the inlined calls that `addr2line` finds at
its address: it counts for the algorithm that was run last. Needs perf and binutils, and a kernel that lets perf count cycles, or else `--event cpu-clock`. Prints a
table of shares in Markdown; what `slalom bench` does beside training (the peak of the core, its own start) is left out.
"""

import argparse
import collections
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLALOM = ROOT / "target/release/slalom"
KERNELS = ROOT / "worker/src/kernels"

# An algorithm of worker/src/kernels and what it does of a step.
ALGORITHMS = {
    "RowTile": "products of rows: recurrent, back through it, classifier",
    "NodeTile": "weight gradients",
    "TimeStepForward": "cells forward: activations; at batch 1 the recurrent product, too",
    "TimeStepBackward": "cells backward",
    "Loss": "softmax and loss",
    "GateGradients": "input kernel's gradient and bias sums",
    "ClassifierGradients": "classifier's bias sums",
    "PackForward": "packing weights for the forward pass",
    "PackBackward": "packing weights for the backward pass",
    "SumOfSquares": "norm",
    "Update": "update",
}
OTHER = "all else of a step: batches, zeroing, calls"
# Not part of a step.
ASIDE = ("kernels::peak", "bench::peak", "clock_gettime", "Instant", "philox", "params::draw", "bench::text")
EXECUTABLE = re.compile(r"PERF_RECORD_MMAP2 .*?\[0x(\w+)\(0x\w+\) @ (?:0x)?(\w+) [^\]]*\]: r-xp (\S+)")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def segment(binary):
    """Offset in the file and address of the code."""
    for line in output("readelf", "-lW", binary).splitlines():
        fields = line.split()
        if fields[:1] == ["LOAD"] and "E" in "".join(fields[6:-1]):
            return int(fields[1], 16), int(fields[2], 16)
    raise SystemExit(f"error: {binary} has no code")


def samples(binary, shape, folder, seconds, event):
    """Addresses in the binary, None for those outside it, and how often each was sampled."""
    data = Path(folder) / "perf.data"
    bench = [binary, "bench", "--shapes", shape, "--seconds", str(seconds), "--output", "json"]
    every = ["-c", "300000"] if event.startswith("cycles") else ["-F", "2000"]
    subprocess.run(["perf", "record", "-q", "-e", event, *every, "-o", data, *bench], check=True, stdout=subprocess.DEVNULL)
    script = output("perf", "script", "-i", data, "-F", "ip", "--show-mmap-events")
    (start, offset), *_ = [(int(a, 16), int(b, 16)) for a, b, path in EXECUTABLE.findall(script) if path == str(binary)]
    file_offset, address = segment(binary)
    size = binary.stat().st_size
    counts = collections.Counter()
    for line in script.splitlines():
        if re.fullmatch(r"\s*[0-9a-f]+", line):
            place = int(line, 16) - start + offset
            counts[place - file_offset + address if 0 <= place < size else None] += 1
    return counts


def algorithm(place):
    """The algorithm whose implementation a line of the kernels' source is in, if it is in one."""
    found = re.match(r".*/worker/src/kernels/(\w+\.rs):(\d+)", place)
    if not found:
        return None
    lines = (KERNELS / found[1]).read_text().splitlines()[: int(found[2])]
    impls = (re.match(r"impl.* Algorithm for (\w+)", line) for line in reversed(lines))
    return next((impl[1] for impl in impls if impl), None)


def kernel(frames):
    """What a sample counts for, by the calls inlined at its address, the innermost first: (function, file:line) each."""
    if any(aside in name for name, _ in frames for aside in ASIDE):
        return None
    for _, place in reversed(frames):
        if found := algorithm(place):
            return None if found == "Peak" else ALGORITHMS.get(found, OTHER)
    return OTHER


def shares(binary, shape, folder, seconds, event):
    counts = samples(binary, shape, folder, seconds, event)
    outside = counts.pop(None, 0)
    addresses = list(counts)
    resolved = output("addr2line", "-e", binary, "-f", "-i", "-C", "-a", *map(hex, addresses))
    blocks = re.split(r"^0x[0-9a-f]+\n", resolved, flags=re.MULTILINE)[1:]
    told = collections.Counter({OTHER: outside})
    for address, block in zip(addresses, blocks, strict=True):
        lines = block.splitlines()
        if name := kernel(list(zip(lines[0::2], lines[1::2], strict=True))):
            told[name] += counts[address]
    total = sum(told.values())
    return {name: count / total for name, count in told.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="+", help="as N,B,T")
    parser.add_argument("--slalom", type=Path, default=SLALOM, help="built as above")
    parser.add_argument("--seconds", type=float, default=6, help="of `slalom bench` a shape (default: 6)")
    parser.add_argument("--event", default="cycles:u", help="of perf; cpu-clock where no cycles are counted (default: cycles:u)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = [shares(args.slalom.resolve(), shape, folder, args.seconds, args.event) for shape in args.shapes]
    names = sorted({name for one in found for name in one}, key=lambda name: -found[0].get(name, 0))
    print("| kernel | " + " | ".join(f"({shape.replace(',', ', ')})" for shape in args.shapes) + " |")
    print("| --- |" + " --- |" * len(args.shapes))
    for name in names:
        print(f"| {name} | " + " | ".join(f"{one.get(name, 0):.1%}" for one in found) + " |")


if __name__ == "__main__":
    main()
