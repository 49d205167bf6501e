#!/usr/bin/env python3
"""Times the wgpu runtime beside ONNX Runtime's WebGPU provider: same file, same driver, in turn.

Two processes, one for each runtime, load one ONNX file on one software driver and answer when asked, one after the
other, round by round. Their answers are compared before anything is timed. Printed are the medians of the wall times
and, because a busy machine stretches those, the processor time of both processes; the ratio is ours divided by theirs,
so below 1 we are faster.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy

HERE = Path(__file__).resolve().parent
# Largest difference over the largest element.
AGREES = 1e-4
PROVIDER = "WebGpuExecutionProvider"


def theirs(model: str, pixels: str) -> None:
    """The worker of ONNX Runtime; the protocol of `runtime/examples/bench_worker.rs`."""
    import time

    import onnxruntime

    start = time.perf_counter()
    options = onnxruntime.SessionOptions()
    # A node that this provider lacks is an error, not the processor's.
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = onnxruntime.InferenceSession(model, options, providers=[PROVIDER])
    if session.get_providers()[0] != PROVIDER:
        sys.exit(f"bench_runtime: ONNX Runtime uses {session.get_providers()}, not {PROVIDER}")
    port = session.get_inputs()[0]
    given = {port.name: numpy.fromfile(pixels, dtype=numpy.float32).reshape(port.shape)}
    session.run(None, given)
    first = (time.perf_counter() - start) * 1e3
    print(json.dumps({"version": onnxruntime.__version__, "first_answer_ms": first}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        outputs = session.run(None, given)
        milliseconds = (time.perf_counter() - start) * 1e3
        if line.startswith("answer "):
            numpy.asarray(outputs[0], dtype=numpy.float32).tofile(line[7:].strip())
        print(milliseconds, flush=True)


class Worker:
    """A process that runs the model once a line."""

    def __init__(self, command: list[str], environment: dict[str, str]):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, bufsize=1
        )
        self.about = json.loads(self.line())
        self.wall: list[float] = []
        self.spent = 0.0

    def line(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"bench_runtime: {' '.join(self.process.args)} ended early")
        return line

    def ask(self, text: str = "run") -> float:
        self.process.stdin.write(text + "\n")
        return float(self.line())

    def processor(self) -> float:
        """Milliseconds of all threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") * 1e3

    def turn(self, runs: int) -> None:
        before = self.processor()
        self.wall.extend(self.ask() for _ in range(runs))
        self.spent += self.processor() - before

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def bench(name: str, model: str, driver: Path | None, arguments: argparse.Namespace) -> dict:
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    if driver:
        environment |= {"VK_DRIVER_FILES": str(driver), "VK_ICD_FILENAMES": str(driver)}
    with tempfile.TemporaryDirectory() as folder:
        pixels = Path(folder, "input")
        batch, side = arguments.shapes[name]
        generator = numpy.random.default_rng(1)
        generator.uniform(-1, 1, (batch, 3, side, side)).astype(numpy.float32).tofile(pixels)
        ours = Worker([arguments.worker, model, str(pixels)], environment)
        other = Worker([sys.executable, __file__, "--worker", model, str(pixels)], environment)
        answers = []
        for worker, file in ((ours, "ours"), (other, "theirs")):
            path = Path(folder, file)
            worker.ask(f"answer {path}")
            answers.append(numpy.fromfile(path, dtype=numpy.float32))
        difference = float(numpy.abs(answers[0] - answers[1]).max() / numpy.abs(answers[1]).max())
        if answers[0].shape != answers[1].shape or not difference <= AGREES:
            raise SystemExit(f"bench_runtime: the answers on {name} differ by {difference}, at most {AGREES} is allowed")
        for _ in range(arguments.rounds):
            for worker in (ours, other):
                worker.turn(arguments.runs)
        count = arguments.rounds * arguments.runs
        row = {
            "model": name,
            "driver": driver.stem if driver else "default",
            "adapter": ours.about["adapter"],
            "dispatches": ours.about["dispatches"],
            "pipelines": ours.about["pipelines"],
            "difference": difference,
            "runs": count,
        }
        for worker, who in ((ours, "ours"), (other, "onnxruntime-webgpu")):
            row[who] = {
                "wall_ms": statistics.median(worker.wall),
                "least_ms": min(worker.wall),
                "processor_ms": worker.spent / count,
                "first_answer_ms": worker.about["first_answer_ms"],
            }
            worker.close()
        return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", metavar="NAME=FILE:BATCH:SIDE")
    parser.add_argument("--bench-worker", dest="worker", required=True, help="the program runtime/examples/bench_worker.rs")
    parser.add_argument("--drivers", type=Path, help="folder of driver files (NAME.json); without it the default driver")
    parser.add_argument("--only", action="append", default=[], metavar="NAME=DRIVER", help="a model for one driver alone")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--runs", type=int, default=2, help="runs of each runtime in a round")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.shapes, files = {}, {}
    for text in arguments.models:
        name, rest = text.split("=", 1)
        file, batch, side = rest.rsplit(":", 2)
        files[name], arguments.shapes[name] = file, (int(batch), int(side))
    drivers: list[Path | None] = sorted(arguments.drivers.glob("*.json")) if arguments.drivers else [None]
    only = dict(text.split("=", 1) for text in arguments.only)
    rows = []
    for driver in drivers:
        for name, file in files.items():
            if driver and only.get(name, driver.stem) != driver.stem:
                continue
            row = bench(name, file, driver, arguments)
            rows.append(row)
            if not arguments.json:
                a, b = row["ours"], row["onnxruntime-webgpu"]
                print(f"{name} on {row['adapter']}: {row['dispatches']} dispatches, {row['pipelines']} pipelines,"
                      f" answers differ by {row['difference']:.1e}")
                for title, key in (("wall, median", "wall_ms"), ("wall, least", "least_ms"), ("processor", "processor_ms"),
                                   ("load to first answer", "first_answer_ms")):
                    print(f"  {title:22} ours {a[key]:9.1f} ms   onnxruntime-webgpu {b[key]:9.1f} ms   ratio {a[key] / b[key]:.2f}")
    if arguments.json:
        print(json.dumps({"version": 1, "rows": rows}, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        theirs(sys.argv[2], sys.argv[3])
    else:
        main()
