#!/usr/bin/env python3
"""Compares the milliseconds of `masktas profile` with a plain timing loop over Python's onnxruntime.

    make bench-latency ARGS="model.onnx other.onnx"
    make bench-latency ARGS="runs/demo/models/*.onnx --rounds 10"

The loop is that of ONNX Runtime's own onnxruntime_perf_test: one session, one input, warm-up runs, then run after run,
each with its time. Both sides use the same release of the library, one thread inside operations, and do not spin. They
take turns, another one first in each round, so that a machine that slows down slows both; the ratio is the median over
rounds of the ratio within a round.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy
import onnxruntime


def session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def feed(model):
    """Random values for each input; what is symbolic is 1."""
    random = numpy.random.default_rng(0)
    shapes = {i.name: [d if isinstance(d, int) else 1 for d in i.shape] for i in model.get_inputs()}
    return {name: random.standard_normal(shape, dtype=numpy.float32) for name, shape in shapes.items()}


def python_ms(model, inputs, seconds):
    """Median milliseconds of a run, after warm-up."""
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 20:
        begin = time.perf_counter()
        model.run(None, inputs)
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times[len(times) // 5 :])


def masktas_ms(program, path, threads):
    command = [program, "profile", path, "--engine", "ort", "--run-threads", str(threads), "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    measured = json.loads(done.stdout)["rows"][0]["outcome"]["measured"]
    return measured["ms"], measured["verdict"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="FILE", help="ONNX files")
    parser.add_argument("--masktas", default="masktas", help="the program")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="of the loop, in each round")
    args = parser.parse_args()
    print(f"onnxruntime {onnxruntime.__version__}, {args.threads} thread(s), {args.rounds} rounds")
    print(f"{'masktas ms':>11} {'loop ms':>9} {'ratio':>7} {'lowest':>7} {'highest':>8}  steady  file")
    ratios = []
    for path in args.models:
        model = session(path, args.threads)
        inputs = feed(model)
        ours, theirs, steady = [], [], 0
        for at in range(args.rounds):
            if at % 2:
                theirs.append(python_ms(model, inputs, args.seconds))
            ms, verdict = masktas_ms(args.masktas, path, args.threads)
            ours.append(ms)
            steady += verdict == "steady"
            if not at % 2:
                theirs.append(python_ms(model, inputs, args.seconds))
        each = [a / b for a, b in zip(ours, theirs)]
        ratio = statistics.median(each)
        ratios.append(ratio)
        print(
            f"{statistics.median(ours):11.3f} {statistics.median(theirs):9.3f} {ratio:7.3f} {min(each):7.3f}"
            f" {max(each):8.3f}  {steady:>2}/{args.rounds:<3}  {path}",
            flush=True,
        )
    print(f"largest distance of a ratio from 1: {100 * max(abs(r - 1) for r in ratios):.1f} %")


if __name__ == "__main__":
    main()
