#!/usr/bin/env python3
"""Times one supernet training step of masktas beside the same step in PyTorch, in turn.

    make bench-training                                  # docs/measurements/training.md, but for the compiled bf16
    make bench-training ARGS="--spaces vit-micro --batches 64 --threads 2 --rounds 10"
    make bench-training ARGS="--device vulkan"           # on a GPU, both programs

The script starts the bench `supernet_step` as a worker, takes its first weights, batch, masks and subnets, and lets
every program step in turn, another one first in each round: masktas in f32 and, where the processor has it, bf16;
PyTorch eager and compiled, in f32 and under bf16 autocast. PyTorch is given the whole batch at once, masktas takes it
in micro-batches as it always does. It stops if losses differ: then it would not be the same
model. Each program is a process of its own, so that its peak memory is its own.

On a GPU a round is 20 steps, as nothing waits for a single one, after 120 that warm up: terms are read each step until
then, and kernels found and compiled. Memory is what each program reserved on the GPU.

Then, on the CPU, it measures what a second core is worth (two processes that only multiply matrices), and what reading a subnet out
of a supernet costs over a net of its own.

Wall time counts on an idle machine. The load average at begin and end is printed; beside other work, look at ratios
on one thread.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

EPSILON = 1e-6
BUILD = ["cargo", "bench", "--workspace", "--bench", "supernet_step"]
# How far loss terms may be apart, by precision. Under bf16 the smallest one, of relations that nearly agree, moves most.
SAME = {"f32": 1e-3, "bf16": 0.15, "f16": 0.05, "tf32": 0.02}
MODES = ["eager", "eager-tf32", "eager-bf16", "compiled", "compiled-tf32", "compiled-bf16"]
# Compiling takes minutes for each shape and number of threads.
DEFAULT = ["eager", "eager-bf16", "compiled"]

if "--torch" in sys.argv:
    import torch
    import torch.nn.functional as F


def read_safetensors(path):
    """Tensors by name; 32-bit floats only."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = bytearray(file.read())
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            tensors[name] = torch.frombuffer(data[begin:end], dtype=torch.float32).reshape(entry["shape"]).clone()
    return tensors


class Parameters(dict):
    """Parameters by name in PyTorch's layout: linear weights `[out, in]`, everything of one row a vector."""

    def __init__(self, tensors, learn):
        super().__init__()
        self.decayed = []
        for name, value in tensors.items():
            linear = name.endswith(".weight") and value.shape[0] > 1
            value = value.t().contiguous() if linear else value.squeeze(0) if value.shape[0] == 1 else value
            self[name] = value.requires_grad_(learn)
            if linear:
                self.decayed.append(name)

    def linear(self, name, x, out):
        return F.linear(x, self[name + ".weight"][:out, : x.shape[-1]], self[name + ".bias"][:out])

    def norm(self, name, x):
        width = x.shape[-1]
        return F.layer_norm(x, (width,), self[name + ".weight"][:width], self[name + ".bias"][:width], EPSILON)

    def block(self, name, x, heads, head_dim, hidden, skip=0):
        """For the tokens from `skip` on, which look at all."""
        inner = self.norm(name + ".norm1", x)
        x = x[:, skip:]
        batch, tokens, width = x.shape

        def split(part, inner):
            flat = self.linear(f"{name}.attn.{part}", inner, heads * head_dim)
            return flat.reshape(batch, -1, heads, head_dim).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(split("q", inner[:, skip:]), split("k", inner), split("v", inner))
        x = x + self.linear(name + ".attn.proj", mixed.transpose(1, 2).reshape(batch, tokens, heads * head_dim), width)
        inner = F.gelu(self.linear(name + ".mlp.fc1", self.norm(name + ".norm2", x), hidden))
        return x + self.linear(name + ".mlp.fc2", inner, width)

    def encode(self, arch, patches, seen, taps):
        """Tokens after the last norm, and after each block of `taps` (counted from 1) before it."""
        width = arch["embed"]
        positions = self["pos_embed"][:, :width]
        x = self.linear("patch_embed.proj", patches, width) + positions[1:][seen]
        first = (self["cls_token"][:width] + positions[0]).expand(x.shape[0], 1, width)
        x = torch.cat([first, x], 1)
        tapped = {}
        for i, block in enumerate(arch["blocks"], 1):
            x = self.block(f"blocks.{i - 1}", x, block["heads"], arch["head_dim"], block["hidden"])
            if i in taps:
                tapped[i] = x
        return self.norm("norm", x), [tapped[tap] for tap in taps]

    def decode(self, shape, tokens, seen, masked, pixels):
        width, heads = shape["embed"], shape["heads"]
        positions = self["decoder_pos_embed"]
        batch, count, _ = tokens.shape
        first = positions[:1].expand(batch, 1, width)
        known = self.linear("decoder_embed", tokens, width) + torch.cat([first, positions[1:][seen]], 1)
        x = torch.cat([known, self["mask_token"] + positions[1:][masked]], 1)
        for i in range(shape["depth"]):
            # Nobody reads what the last block makes of the tokens that were seen.
            skip = count if i + 1 == shape["depth"] else 0
            x = self.block(f"decoder_blocks.{i}", x, heads, width // heads, 4 * width, skip)
        return self.linear("decoder_pred", self.norm("decoder_norm", x), pixels)


def block_at(share, depth):
    return min(max(math.floor(share * depth + 0.5), 1), depth)


def log_relations(features, tau):
    unit = features / (features.square().sum(-1, keepdim=True) + EPSILON).sqrt()
    similarity = unit @ unit.transpose(1, 2) / tau
    return F.log_softmax(similarity + torch.eye(similarity.shape[-1], device=similarity.device) * -1e9, -1)


def relation(student, teacher, tau):
    teacher = log_relations(teacher, tau)
    return (teacher.exp() * (teacher - log_relations(student, tau))).sum(-1).mean()


class Step:
    """The step of `benches/supernet_step`, written as one would in PyTorch."""

    def __init__(self, about, tensors, mode, device):
        self.about, recipe = about, about["recipe"]
        self.where, self.device = device, torch.device(device).type
        # As masktas does, a step brings its images and masks to the device.
        batch = tensors.pop("pixels"), tensors.pop("seen").long(), tensors.pop("masked").long()
        self.batch = [part.pin_memory() if self.device == "cuda" else part for part in batch]
        tensors = {name: value.to(device) for name, value in tensors.items()}
        teacher = {k[len("teacher.") :]: v for k, v in tensors.items() if k.startswith("teacher.")}
        student = {k: v for k, v in tensors.items() if not k.startswith("teacher.")}
        self.teacher, self.student = Parameters(teacher, False), Parameters(student, True)
        decayed = [self.student[name] for name in self.student.decayed]
        others = [value for name, value in self.student.items() if name not in self.student.decayed]
        groups = [
            {"params": decayed, "weight_decay": recipe["supernet"]["weight_decay"]},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=about["rate"], betas=recipe["supernet"]["betas"], eps=1e-8, fused=True)
        self.weights = dict(recipe["objective"], in_place=recipe["supernet"]["in_place"])
        self.means = {}
        self.done = 0
        self.bf16 = mode.endswith("bf16")
        if mode.endswith("tf32"):
            # What masktas on CUDA may do in f32: matrix units that read 11 bits of mantissa.
            torch.set_float32_matmul_precision("high")
        if mode.startswith("compiled"):
            # Every subnet is a shape of its own, not a sign that shapes change.
            torch._dynamo.config.recompile_limit = 64
            compiled = lambda work: torch.compile(work, dynamic=False)
            self.terms, self.taught = compiled(self.terms), compiled(self.taught)

    def note(self, values):
        """Means of the terms over the first steps."""
        for name, value in values:
            mean = self.means.setdefault(name, [0.0, 0])
            mean[0] += value.item()
            mean[1] += 1

    def factor(self, term):
        """One over the term's mean over earlier steps."""
        total, count = self.means.get(term, [0.0, 0])
        return self.weights[term] * (count / total if total > 0 else 1.0)

    def cut(self):
        """Seen patches, and masked ones normalised to mean 0 and variance 1."""
        arch = self.about["subnets"][0]
        grid, patch = arch["image"] // arch["patch"], arch["patch"]
        x = self.pixels.reshape(-1, 3, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5)
        x = x.reshape(x.shape[0], grid * grid, -1)
        pick = lambda places: torch.gather(x, 1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        masked = pick(self.masked)
        variance, mean = torch.var_mean(masked, -1, keepdim=True)
        return pick(self.seen), (masked - mean) / (variance + EPSILON).sqrt()

    def taught(self, patches):
        """The teacher's features."""
        arch, layers = self.about["teacher"], self.about["recipe"]["teacher"]["layers"]
        taps = [block_at(share, len(arch["blocks"])) for share in layers]
        last, tapped = self.teacher.encode(arch, patches, self.seen, taps)
        wanted = [F.layer_norm(tap[:, 1:], (tap.shape[-1],), eps=EPSILON) for tap in tapped]
        return last[:, 1:], wanted

    def terms(self, arch, patches, target, last, wanted, largest):
        """The terms of one subnet, and its features."""
        recipe, layers = self.about["recipe"], self.about["recipe"]["teacher"]["layers"]
        tau, depth = self.weights["temperature"], len(arch["blocks"])
        taps = [block_at(share, depth) for share in layers] if wanted else []
        tokens, tapped = self.student.encode(arch, patches, self.seen, taps)
        guess = self.student.decode(recipe["supernet"]["decoder"], tokens, self.seen, self.masked, target.shape[-1])
        features = tokens[:, 1:]
        terms = {"pixel": F.mse_loss(guess, target)}
        parts = []
        for i, (tap, want) in enumerate(zip(tapped, wanted)):
            # The last block is read after the final norm.
            tap = tokens if taps[i] == depth else tap
            parts.append(F.smooth_l1_loss(self.student.linear(f"projector.{i}", tap[:, 1:], want.shape[-1]), want))
        terms["feature"] = sum(parts) / len(parts)
        terms["relation"] = relation(features, last, tau)
        if largest is not None:
            terms["in_place"] = relation(features, largest, tau)
        return terms, features.detach()

    def run(self):
        self.pixels, self.seen, self.masked = (part.to(self.where, non_blocking=True) for part in self.batch)
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bf16):
            patches, target = self.cut()
            with torch.no_grad():
                last, wanted = self.taught(patches)
            if not self.means:
                with torch.no_grad():
                    self.note(self.subnets(patches, target, last, wanted, False))
            values = self.subnets(patches, target, last, wanted, True)
        if 0 < self.done < self.about["recipe"]["objective"]["scale_steps"]:
            self.note(values)
        torch.nn.utils.clip_grad_norm_(self.student.values(), self.about["recipe"]["supernet"]["clip"])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        sums = {}
        for name, value in values:
            sums.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in sums.items()}

    def subnets(self, patches, target, last, wanted, learn):
        largest, found = None, []
        for arch in self.about["subnets"]:
            terms, features = self.terms(arch, patches, target, last, wanted, largest)
            largest = features if largest is None else largest
            if learn:
                sum(term * self.factor(name) for name, term in terms.items()).backward()
            found.extend((name, term.detach()) for name, term in terms.items())
        return found

    def timed(self, steps):
        """Some steps and the terms of the last, which are waited for."""
        wall = time.perf_counter()
        for _ in range(steps):
            terms = self.run()
        terms = {name: value.item() for name, value in terms.items()}
        reserved = torch.cuda.max_memory_reserved() if self.device == "cuda" else None
        return {"wall": time.perf_counter() - wall, "terms": terms, "reserved": reserved}


def torch_worker(arguments):
    """Steps as the bench does: one line of JSON for each line of input."""
    torch.set_num_threads(arguments.threads[0])
    with open(arguments.about) as file:
        about = json.load(file)
    step = Step(about, read_safetensors(arguments.start), arguments.torch, arguments.torch_device)
    print(json.dumps({"version": torch.__version__}), flush=True)
    for line in sys.stdin:
        if line.startswith("matmul"):
            print(json.dumps({"rate": matmul_rate(about, float(line.split()[1]), step.device)}), flush=True)
        else:
            print(json.dumps(step.timed(int(line))), flush=True)


def matmul_rate(about, seconds, device):
    """Best FLOP/s of torch.matmul in f32 over products of the step, of its whole batch on a GPU."""
    best, arch = 0.0, about["subnets"][0]
    width, hidden = arch["embed"], arch["blocks"][0]["hidden"]
    rows = about["batch"] if device == "cuda" else 64
    for m, k, n in [(256, 256, 256), (rows * 17, width, hidden), (rows * 17, hidden, width), (rows * 16, 128, 512)]:
        # As many at once as keep a GPU from waiting for the next one.
        a, b, times = torch.rand(m, k, device=device), torch.rand(k, n, device=device), 100 if device == "cuda" else 1
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            begun = time.perf_counter()
            for _ in range(times):
                torch.matmul(a, b)
            if device == "cuda":
                torch.cuda.synchronize()
            best = max(best, 2 * m * k * n * times / (time.perf_counter() - begun))
    return best


class Worker:
    """A program that steps when it is told to."""

    def __init__(self, name, command, environment=None):
        self.name, self.times, self.reserved = name, [], None
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **(environment or {})}
        )
        self.about = json.loads(self.answer())

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended early; see its message above")
        return line

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.answer())

    def steps(self, count):
        """Seconds a step, over some of them, and the terms of the last."""
        answer = self.ask(str(count))
        self.reserved = answer.get("reserved")
        return {"wall": answer["wall"] / count, "terms": answer["terms"]}

    def peak_mib(self):
        """Most memory the process ever held; on a GPU, what it reserved there."""
        if self.reserved is not None:
            return self.reserved / 2**20
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def check(ours, worker, step):
    same = SAME[next((name for name in ["bf16", "tf32", "f16"] if worker.name.endswith(name)), "f32")]
    for name, value in ours["terms"].items():
        other = step["terms"][name]
        if not abs(other - value) <= same * abs(value):
            sys.exit(f"{name} is {value} in masktas and {other} in {worker.name}")


def spread(values):
    """Median and median absolute deviation from it."""
    middle = statistics.median(values)
    return middle, statistics.median(abs(value - middle) for value in values)


def rate(program, precision, seconds, processes=1):
    """FLOP/s of products in each of some processes at once, one thread each."""
    command = program + ["--products", precision, str(seconds)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return [json.loads(one.communicate()[0]) for one in started]


def compare(arguments, program, space, batch, threads, halves):
    """Every program on one shape, in turn; returns the rows of the table."""
    with tempfile.TemporaryDirectory() as folder:
        start, about = os.path.join(folder, "start.safetensors"), os.path.join(folder, "about.json")
        shape = ["--space", space, "--batch", str(batch), "--device", arguments.device]
        worker = lambda name, more: Worker(name, program + ["--worker", str(threads)] + shape + more)
        ours = [worker("masktas", ["--start", start])]
        ours += [worker(f"masktas {half}", ["--precision", half]) for half in halves]
        with open(about, "w") as file:
            json.dump(ours[0].about, file)
        torch_command = [sys.executable, os.path.abspath(__file__), "--start", start, "--about", about]
        torch_command += ["--torch-device", arguments.torch_device]
        # Freed memory stays with the process, as it does in masktas.
        environment = {
            "OMP_NUM_THREADS": str(threads),
            "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
            "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        }
        theirs = [
            Worker(f"PyTorch {mode}", torch_command + ["--threads", str(threads), "--torch", mode], environment)
            for mode in arguments.modes
            if not mode.startswith("compiled") or threads == max(arguments.threads)
        ]
        workers = ours + theirs
        for one in workers:
            one.at_rest = f"{one.peak_mib():.0f}" if arguments.device == "flex" else ""
        for _ in range(arguments.warmups):
            steps = [worker.steps(arguments.steps) for worker in workers]
            for one, step in zip(workers, steps):
                check(steps[0], one, step)
        for number in range(arguments.rounds):
            turn = number % len(workers)
            steps = {}
            for worker in workers[turn:] + workers[:turn]:
                steps[worker.name] = worker.steps(arguments.steps)
                worker.times.append(steps[worker.name]["wall"])
            for worker in workers:
                check(steps["masktas"], worker, steps[worker.name])
        flops = ours[0].about["flops_per_image"]
        products = theirs[0].ask("matmul 1")["rate"] if theirs else 0.0
        if arguments.device == "flex":
            products = max(products, threads * rate(program, "f32", 2)[0]["best"])
        floor = batch * flops / products if products else math.nan
        where = f"{threads} thread{'s' if threads > 1 else ''}" if arguments.device == "flex" else arguments.device
        print(f"\n## {space}, batch {batch}, {where}\n")
        print(
            f"{flops / 1e9:.3f} GFLOP an image in products; best rate of f32 products {products / 1e9:.0f} GFLOP/s, so the"
            f" floor of a step is {floor:.3f} s\n"
        )
        base = next((worker for worker in theirs if worker.name == "PyTorch eager"), None)
        fastest = min(theirs, key=lambda worker: spread(worker.times)[0], default=None)
        print("| program | s a step, median and MAD | images/s | over PyTorch eager | over its fastest here | f32 floor | peak MiB | at rest |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        rows = {}
        for worker in workers:
            middle, deviation = spread(worker.times)
            ratio = lambda other: "" if other is None else "{:.2f} ± {:.2f}".format(
                *spread([b / a for a, b in zip(worker.times, other.times)])
            )
            rows[worker.name] = {"times": worker.times, "peak_mib": worker.peak_mib(), "floor": floor}
            print(
                f"| {worker.name} | {middle:.3f} ± {deviation:.3f} | {batch / middle:.1f} | {ratio(base)} | {ratio(fastest)} |"
                f" {100 * floor / middle:.0f} % | {worker.peak_mib():.0f} | {worker.at_rest} |",
                flush=True,
            )
        for worker in workers:
            worker.close()
        return rows


def second_core(arguments, program, found):
    """What a second core is worth: to products alone in two processes, to masktas, to PyTorch."""
    gains = []
    for _ in range(5):
        alone = rate(program, "f32", 2)[0]["mean"]
        gains.append(sum(one["mean"] for one in rate(program, "f32", 2, 2)) / alone)
    both, deviation = spread(gains)
    print("\n## The second core\n")
    print(f"Two processes that only multiply matrices: {both:.2f} ± {deviation:.2f} times one (5 pairs).\n")
    print("| space | batch | masktas | of the two processes' gain | PyTorch eager |")
    print("| --- | --- | --- | --- | --- |")
    for (space, batch, threads), rows in found.items():
        if threads != 2 or (space, batch, 1) not in found:
            continue
        one = found[(space, batch, 1)]
        gain = {name: spread(one[name]["times"])[0] / spread(rows[name]["times"])[0] for name in rows if name in one}
        print(
            f"| {space} | {batch} | {gain['masktas']:.2f} | {gain['masktas'] / both:.2f} |"
            f" {gain.get('PyTorch eager', float('nan')):.2f} |"
        )


def slicing(arguments, program):
    """One random subnet, read out of the supernet and as a net of its own."""
    print("\n## Slices beside nets of their own\n")
    print("| space | threads | slice, s | own net, s | slice over own net, round by round |")
    print("| --- | --- | --- | --- | --- |")
    for space in arguments.spaces:
        for threads in arguments.threads:
            shape = ["--worker", str(threads), "--space", space, "--batch", str(arguments.batches[0])]
            shape += ["--device", arguments.device]
            slice_, own = [Worker(kind, program + shape + ["--subnet", kind]) for kind in ["slice", "own"]]
            for _ in range(arguments.warmups):
                slice_.steps(arguments.steps), own.steps(arguments.steps)
            for number in range(2 * arguments.rounds + 5):
                for worker in [slice_, own] if number % 2 == 0 else [own, slice_]:
                    worker.times.append(worker.steps(arguments.steps)["wall"])
            ratio = spread([a / b for a, b in zip(slice_.times, own.times)])
            print(
                f"| {space} | {threads} | {spread(slice_.times)[0]:.3f} | {spread(own.times)[0]:.3f} |"
                f" {ratio[0]:.3f} ± {ratio[1]:.3f} |",
                flush=True,
            )
            slice_.close(), own.close()


def built(device):
    """The bench, built for a device, without running it."""
    features = {"vulkan": ["--features", "gpu"], "wgpu": ["--features", "gpu-wgsl"], "cuda": ["--features", "cuda"]}
    command = BUILD + features.get(device, []) + ["--no-run", "--message-format=json"]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = [json.loads(line) for line in answer.stdout.splitlines() if '"supernet_step"' in line]
    return [next(one["executable"] for one in found if one.get("executable"))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warmups", type=int, help="rounds before the first that counts; 2, on a GPU 6")
    parser.add_argument("--steps", type=int, help="of each round; 1, on a GPU 20")
    parser.add_argument("--device", choices=["flex", "vulkan", "wgpu", "cuda"], default="flex", help="of masktas")
    parser.add_argument("--torch-device", help="of PyTorch; cpu, or cuda when masktas is on a GPU")
    parser.add_argument("--threads", type=int, nargs="+", help="1 and 2; on a GPU 1")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--spaces", nargs="+", default=["vit-micro", "vit-tiny"])
    parser.add_argument(
        "--modes", nargs="*", choices=MODES, help=f"of PyTorch; {' '.join(DEFAULT)}, on a GPU all; compiled ones run with the most threads only"
    )
    parser.add_argument("--program", help="the built bench, instead of building it with cargo")
    parser.add_argument("--json", metavar="FILE", help="keep every round's times")
    for hidden in ["--torch", "--start", "--about"]:
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.torch:
        return torch_worker(arguments)
    cpu = arguments.device == "flex"
    arguments.steps = arguments.steps or (1 if cpu else 20)
    arguments.warmups = (2 if cpu else 6) if arguments.warmups is None else arguments.warmups
    arguments.threads = arguments.threads or ([1, 2] if cpu else [1])
    arguments.modes = arguments.modes if arguments.modes is not None else DEFAULT if cpu else MODES
    arguments.torch_device = arguments.torch_device or ("cpu" if cpu else "cuda")
    program = [arguments.program] if arguments.program else built(arguments.device)
    asked = program + ["--precisions", "--device", arguments.device]
    has = json.loads(subprocess.run(asked, stdout=subprocess.PIPE, check=True).stdout)
    halves = [half for half in ["bf16", "f16"] if has[half]]
    import importlib.metadata

    print(f"PyTorch {importlib.metadata.version('torch')}, Python {platform.python_version()}; {arguments.rounds} rounds")
    print(f"load average {os.getloadavg()[0]:.1f}; on {arguments.device} masktas has " + ", ".join(["f32"] + halves))
    found = {}
    for space in arguments.spaces:
        for batch in arguments.batches:
            for threads in arguments.threads:
                found[(space, batch, threads)] = compare(arguments, program, space, batch, threads, halves)
    if cpu:
        second_core(arguments, program, found)
    slicing(arguments, program)
    print(f"\nload average at the end: {os.getloadavg()[0]:.1f}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump([dict(space=s, batch=b, threads=t, programs=rows) for (s, b, t), rows in found.items()], file)


if __name__ == "__main__":
    main()
