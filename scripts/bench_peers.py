#!/usr/bin/env python3
"""Times the wgpu runtime beside burn's wgpu backend and beside wonnx: same architecture, same driver, in turn.

    bench_peers.py --ours WORKER --burn WORKER --wonnx WORKER [--drivers FOLDER] NAME=FILE...

Each is a process of its own that runs when asked, one after the other, round by round (`bench_runtime.py` has the protocol).
burn runs a forward pass written in its own operations with the weights of FILE; wonnx a file spelt in what it has (`plain_vit.py`), and
so do we beside it. Answers are compared before anything is timed, and a peer that names another adapter than ours is not timed; wonnx
names none, so the driver file is all that is known of its. A share is our time divided by the peer's: its speed as a part of ours.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
from pathlib import Path

import numpy

import plain_vit
from bench_runtime import Worker

# Largest difference over the largest element.
AGREES = 1e-3
SIDE = 32
# Share of our speed that a peer may have: lavapipe, SwiftShader.
BARS = {"burn": (0.5, 0.15), "wonnx": (0.1, 0.1)}


def begin(command: list[str], environment: dict[str, str], patience: float) -> Worker | str:
    """A worker that has given its first answer, or why there is none."""
    started: list[Worker] = []
    error: list[str] = []

    class Patient(Worker):
        def line(self) -> str:
            if not hasattr(self, "about"):
                clock = threading.Timer(patience, self.process.kill)
                clock.start()
                try:
                    return super().line()
                finally:
                    clock.cancel()
            return super().line()

    try:
        started.append(Patient(command, environment))
    except SystemExit:
        error.append(f"{Path(command[0]).name} ended early, or had no answer in {patience:.0f} s")
    return started[0] if started else error[0]


def bench(name: str, model: str, peer: str, command: str, driver: Path | None, arguments: argparse.Namespace) -> dict:
    environment = dict(os.environ)
    if driver:
        environment |= {"VK_DRIVER_FILES": str(driver), "VK_ICD_FILENAMES": str(driver)}
    row = {"model": name, "peer": peer, "driver": driver.stem if driver else "default"}
    with tempfile.TemporaryDirectory() as folder:
        pixels = Path(folder, "input")
        numpy.random.default_rng(1).uniform(-1, 1, (1, 3, SIDE, SIDE)).astype(numpy.float32).tofile(pixels)
        # The peer first: while it tunes its kernels nothing else runs.
        other = begin([command, model, str(pixels)], environment, arguments.patience)
        if isinstance(other, str):
            return row | {"error": other}
        ours = begin([arguments.ours, model, str(pixels)], environment, arguments.patience)
        if isinstance(ours, str):
            raise SystemExit(f"bench_peers: {name} on {row['driver']}: {ours}")
        row |= {"adapter": ours.about["adapter"], "about": other.about}
        # Ours is the name with kind and driver behind it. A peer that names none is told as such.
        theirs = row["peer_adapter"] = other.about.get("adapter")
        if theirs is not None and not (theirs and called(row["adapter"], theirs)):
            ours.close()
            other.close()
            return row | {"error": f"it ran on the adapter '{theirs}'"}
        answers = []
        for worker, file in ((ours, "ours"), (other, "theirs")):
            path = Path(folder, file)
            try:
                worker.ask(f"answer {path}")
            except (BrokenPipeError, SystemExit):
                return row | {"error": f"{file} ended after its first answer"}
            answers.append(numpy.fromfile(path, dtype=numpy.float32))
        if answers[0].shape != answers[1].shape:
            return row | {"error": f"answers of {answers[0].size} and {answers[1].size} numbers"}
        difference = float(numpy.abs(answers[0] - answers[1]).max() / numpy.abs(answers[0]).max())
        row["difference"] = difference
        if not difference <= AGREES:
            return row | {"error": f"the answers differ by {difference:.1e}, at most {AGREES} is allowed; nothing was timed"}
        load = os.getloadavg()[0]
        for _ in range(arguments.rounds):
            for worker in (ours, other):
                worker.turn(arguments.runs)
        count = arguments.rounds * arguments.runs
        row |= {"runs": count, "load": [load, os.getloadavg()[0]]}
        for worker, who in ((ours, "ours"), (other, peer)):
            row[who] = {
                "wall_ms": statistics.median(worker.wall),
                "least_ms": min(worker.wall),
                "processor_ms": worker.spent / count,
            }
            worker.close()
        row["share"] = {key: row["ours"][key] / row[peer][key] for key in row["ours"]}
        # Neither bar speaks of GPUs.
        bars = dict(zip(("llvmpipe", "SwiftShader"), BARS[peer]))
        row["bar"] = next((bar for word, bar in bars.items() if word in row["adapter"]), None)
    return row


def called(adapter: str, name: str) -> bool:
    """Whether `adapter`, as our runtime writes one, has this name."""
    return adapter == name or adapter.startswith(f"{name} (")


def show(row: dict) -> str:
    head = f"{row['model']} on {row.get('adapter', row['driver'])}, beside {row['peer']}"
    if "share" not in row:
        return f"{head}: no time, because {row['error']}"
    lines = [f"{head}: answers differ by {row['difference']:.1e}, load {row['load'][0]:.1f} to {row['load'][1]:.1f}"]
    if row["peer_adapter"] is None:
        lines.append(f"  {row['peer']} names no adapter: which one it ran on is not known")
    for title, key in (("wall, median", "wall_ms"), ("wall, least", "least_ms"), ("processor", "processor_ms")):
        a, b = row["ours"][key], row[row["peer"]][key]
        lines.append(f"  {title:13} ours {a:9.1f} ms   {row['peer']:5} {b:9.1f} ms   share of our speed {a / b:.3f}")
    if row["bar"] is not None:
        met = "met" if row["share"]["wall_ms"] <= row["bar"] else "missed"
        lines.append(f"  bar: at most {row['bar']}, {met}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="NAME=FILE", help="files of `write_vit`, batch 1, 32 x 32 images")
    parser.add_argument("--ours", required=True, help="the program runtime/examples/bench_worker.rs")
    parser.add_argument("--burn", help="the program benches/peers/burn")
    parser.add_argument("--wonnx", help="the program benches/peers/wonnx")
    parser.add_argument("--drivers", type=Path, help="folder of driver files (NAME.json)")
    parser.add_argument("--driver", action="append", default=[], metavar="NAME",
                        help="only these: names in that folder, `default` for the default one; all of them if left out")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--runs", type=int, default=2, help="runs of each in a round")
    parser.add_argument("--patience", type=float, default=900, help="seconds a peer may take to its first answer")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    drivers: list[Path | None] = [None, *sorted(arguments.drivers.glob("*.json"))] if arguments.drivers else [None]
    named = lambda driver: driver.stem if driver else "default"
    drivers = [driver for driver in drivers if not arguments.driver or named(driver) in arguments.driver]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "plain-vit-tiny.onnx")
        plain_vit.write(plain)
        tasks = [(name, file, "burn", arguments.burn) for name, file in (text.split("=", 1) for text in arguments.models)]
        tasks.append(("plain-vit-tiny", str(plain), "wonnx", arguments.wonnx))
        for driver in drivers:
            for name, file, peer, command in tasks:
                if command:
                    rows.append(bench(name, file, peer, command, driver, arguments))
                    if not arguments.json:
                        print(show(rows[-1]), flush=True)
    if arguments.json:
        print(json.dumps({"version": 1, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
