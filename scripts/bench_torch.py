#!/usr/bin/env python3
"""Times one supernet training step of masktas beside the same step in plain PyTorch, in turn.

    python3 -m venv /tmp/torch && /tmp/torch/bin/pip install numpy torch
    /tmp/torch/bin/python scripts/bench_torch.py            # run it from the root of the repository

Nothing else needs PyTorch. The script starts the bench `supernet_step` as a worker, takes its first weights, batch,
masks and subnets, and lets both programs step in turn, the first one of each round alternating. It stops if the
losses differ: then it would not be the same model.

Wall time counts on an idle machine. On a busy one look at processor time on one lane: the other programs take turns
with both of ours, but a program that waits for a second core may spin meanwhile, which counts as processor time.
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

import torch
import torch.nn.functional as F

EPSILON = 1e-6
BUILD = ["cargo", "bench", "--workspace", "--bench", "supernet_step"]
SAME = 1e-3


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

    def block(self, name, x, heads, head_dim, hidden):
        batch, tokens, width = x.shape
        inner = self.norm(name + ".norm1", x)

        def split(part):
            flat = self.linear(f"{name}.attn.{part}", inner, heads * head_dim)
            return flat.reshape(batch, tokens, heads, head_dim).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(split("q"), split("k"), split("v"))
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
            x = self.block(f"decoder_blocks.{i}", x, heads, width // heads, 4 * width)
        return self.linear("decoder_pred", self.norm("decoder_norm", x[:, count:]), pixels)


def block_at(share, depth):
    return min(max(math.floor(share * depth + 0.5), 1), depth)


def log_relations(features, tau):
    unit = features / (features.square().sum(-1, keepdim=True) + EPSILON).sqrt()
    similarity = unit @ unit.transpose(1, 2) / tau
    return F.log_softmax(similarity + torch.eye(similarity.shape[-1]) * -1e9, -1)


def relation(student, teacher, tau):
    teacher = log_relations(teacher, tau)
    return (teacher.exp() * (teacher - log_relations(student, tau))).sum(-1).mean()


class Step:
    """The step of `benches/supernet_step`, written as one would in PyTorch."""

    def __init__(self, about, tensors):
        self.about, recipe = about, about["recipe"]
        self.pixels = tensors.pop("pixels")
        self.seen, self.masked = tensors.pop("seen").long(), tensors.pop("masked").long()
        teacher = {k[len("teacher.") :]: v for k, v in tensors.items() if k.startswith("teacher.")}
        student = {k: v for k, v in tensors.items() if not k.startswith("teacher.")}
        self.teacher, self.student = Parameters(teacher, False), Parameters(student, True)
        decayed = [self.student[name] for name in self.student.decayed]
        others = [value for name, value in self.student.items() if name not in self.student.decayed]
        groups = [
            {"params": decayed, "weight_decay": recipe["supernet"]["weight_decay"]},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=about["rate"], betas=recipe["supernet"]["betas"], eps=1e-8)
        self.means = {}
        self.done = 0

    def factor(self, term, value):
        """One over the term's mean during the first steps."""
        limit = self.about["recipe"]["objective"]["scale_steps"]
        if limit == 0:
            return 1.0
        mean = self.means.setdefault(term, [0.0, 0])
        if self.done < limit or mean[1] == 0:
            mean[0] += value
            mean[1] += 1
        return mean[1] / mean[0] if mean[0] > 0 else 1.0

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

    def run(self):
        recipe, layers = self.about["recipe"], self.about["recipe"]["teacher"]["layers"]
        weights = dict(recipe["objective"], in_place=recipe["supernet"]["in_place"])
        tau = weights["temperature"]
        patches, target = self.cut()
        with torch.no_grad():
            arch = self.about["teacher"]
            taps = [block_at(share, len(arch["blocks"])) for share in layers]
            last, tapped = self.teacher.encode(arch, patches, self.seen, taps)
            last = last[:, 1:]
            wanted = [F.layer_norm(tap[:, 1:], (tap.shape[-1],), eps=EPSILON) for tap in tapped]
        largest, sums = None, {}
        for arch in self.about["subnets"]:
            depth = len(arch["blocks"])
            taps = [block_at(share, depth) for share in layers]
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
            else:
                largest = features.detach()
            loss = 0.0
            for name, term in terms.items():
                value = term.item()
                loss = loss + term * (weights[name] * self.factor(name, value))
                sums.setdefault(name, []).append(value)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.values(), recipe["supernet"]["clip"])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        return {name: sum(values) / len(values) for name, values in sums.items()}

    def timed(self):
        wall, cpu = time.perf_counter(), time.process_time()
        terms = self.run()
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "terms": terms}


class Worker:
    """The bench of masktas, step by step."""

    def __init__(self, command, lanes, environment):
        folder = tempfile.mkdtemp()
        start = os.path.join(folder, "start.safetensors")
        command = command + ["--worker", str(lanes), "--start", start]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **environment})
        self.about = json.loads(self.answer())
        self.tensors = read_safetensors(start)
        os.remove(start)
        os.rmdir(folder)

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the bench ended early; see its message above")
        return line

    def timed(self):
        self.process.stdin.write("1\n")
        self.process.stdin.flush()
        return json.loads(self.answer())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def check(step, ours, theirs):
    for name, value in theirs["terms"].items():
        if abs(ours["terms"][name] - value) > SAME * abs(value):
            sys.exit(f"step {step}: {name} is {ours['terms'][name]} in masktas and {value} in PyTorch")


def gemm_rate(seconds=1.0):
    """Best FLOP/s of torch.matmul in f32 over products of the step, each short enough to catch a moment undisturbed."""
    best = 0.0
    for m, k, n in [(256, 256, 256), (64 * 17, 160, 640), (64 * 17, 640, 160), (16 * 65, 128, 512)]:
        a, b = torch.rand(m, k), torch.rand(k, n)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            begun = time.perf_counter()
            torch.matmul(a, b)
            best = max(best, 2 * m * k * n / (time.perf_counter() - begun))
    return best


def spread(values):
    """Median and median absolute deviation from it."""
    middle = statistics.median(values)
    return middle, statistics.median(abs(value - middle) for value in values)


def compare(arguments, command, lanes):
    torch.set_num_threads(lanes)
    worker = Worker(command, lanes, dict(pair.split("=", 1) for pair in arguments.env))
    about = worker.about
    step = Step(about, worker.tensors)
    for number in range(arguments.warmups):
        check(number, worker.timed(), step.timed())
    ours, theirs = [], []
    for number in range(arguments.rounds):
        pair = [(ours, worker.timed), (theirs, step.timed)]
        for times, timed in pair if number % 2 == 0 else pair[::-1]:
            times.append(timed())
        check(arguments.warmups + number, ours[-1], theirs[-1])
    worker.close()
    batch, flops = about["batch"], about["flops_per_image"]
    peak = gemm_rate()
    floor = batch * flops / peak
    print(f"\n{lanes} lane(s): batch {batch}, {flops / 1e9:.3f} GFLOP an image in products, {arguments.rounds} rounds")
    print(f"  torch.matmul f32, best: {peak / 1e9:.0f} GFLOP/s; floor of the step {floor:.3f} s")
    for clock in ["wall", "cpu"]:
        if ours[0][clock] is None:
            continue
        rows = {}
        for name, times in [("masktas", ours), ("PyTorch", theirs)]:
            middle, deviation = spread([one[clock] for one in times])
            rows[name] = middle
            print(
                f"  {clock:4} {name}: median {middle:.3f} s, MAD {deviation:.3f} s; {batch / middle:.1f} images/s,"
                f" {batch * flops / middle / 1e9:.0f} GFLOP/s"
                + (f", {100 * floor / middle:.0f} % of the floor's speed" if clock == "wall" or lanes == 1 else "")
            )
        pairs, deviation = spread([b[clock] / a[clock] for a, b in zip(ours, theirs)])
        print(
            f"  {clock:4} speed over PyTorch's: {rows['PyTorch'] / rows['masktas']:.2f} (ratio of medians);"
            f" {pairs:.2f}, MAD {deviation:.2f} (round by round)"
        )
    return {"lanes": lanes, "flops_per_image": flops, "gemm": peak, "masktas": ours, "torch": theirs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warmups", type=int, default=2)
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2], help="threads of both programs")
    parser.add_argument("--program", help="the built bench, instead of building it with cargo")
    parser.add_argument("--env", action="append", default=[], metavar="KEY=VALUE", help="for masktas alone")
    parser.add_argument("--json", metavar="FILE", help="keep every round's times")
    arguments = parser.parse_args()
    command = [arguments.program] if arguments.program else BUILD + ["--"]
    print(f"PyTorch {torch.__version__}, Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f}")
    found = [compare(arguments, command, lanes) for lanes in arguments.lanes]
    print(f"\nload average at the end: {os.getloadavg()[0]:.1f}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(found, file)


if __name__ == "__main__":
    main()
