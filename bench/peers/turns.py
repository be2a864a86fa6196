"""What the three measurements share: cores to be pinned to, whole commands timed, medians and lines of JSON."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SLALOM = HERE.parents[1] / "target/release/slalom"
TEXT8 = HERE.parents[2] / "shared/data/text8-head.zip"


def add_common(parser):
    parser.add_argument("--slalom", type=Path, default=SLALOM, help="the release binary, built beforehand")
    parser.add_argument(
        "--corpus", type=Path, default=TEXT8, help="a .txt or .zip of a-z and space, such as text8.zip"
    )
    parser.add_argument("--out", type=Path, required=True, help="figures, an object a line")
    parser.add_argument(
        "--quick", action="store_true", help="a small version in seconds, to see that all of it runs"
    )


def parsed(parser):
    """The arguments, once what they name is known to be there."""
    args = parser.parse_args()
    for path, remedy in ((args.slalom, "cargo build --release"), (args.corpus, "slalom corpus fetch text8")):
        if not path.exists():
            parser.error(f"{path} is absent (try `{remedy}`)")
    # Commands run in folders of their own.
    args.slalom, args.corpus = args.slalom.resolve(), args.corpus.resolve()
    return args


def cores(count):
    """The last cores that this process may use: the first one serves most interrupts."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < count:
        sys.exit(f"error: needs {count} cores, may use {len(usable)}")
    return usable[-count:]


def started(command, where, **options):
    """A process that may use these cores from its first instruction on: libraries count them when they load."""
    pinned = ["taskset", "--cpu-list", ",".join(map(str, where)), *map(str, command)]
    return subprocess.Popen(pinned, **options)


def seconds_of(command, where):
    """How long a whole command takes on these cores, start and end included; what it prints is shown only if it fails."""
    begin = time.perf_counter()
    process = started(command, where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    printed, _ = process.communicate()
    took = time.perf_counter() - begin
    if process.returncode != 0:
        sys.exit(f"error: {command[0]} ended with {process.returncode}\n{printed}")
    return took


def median(values):
    return statistics.median(values)


def say(what):
    print(what, file=sys.stderr, flush=True)


def record(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def met(value, target):
    return "met" if value >= target else "missed"
