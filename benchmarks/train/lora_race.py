# SPDX-License-Identifier: MIT
"""Trains the same LoRA adapter with PyTorch + PEFT and with crayon, step by step in turns.

    python lora_race.py build/bin/crayon_lora_race [--shapes 1M,15M,110M] [--threads 2] [--rounds 9]

Rank 8 on all seven projections of a Llama model with random weights, one batch of 16 sequences of
128 scored tokens, f32, AdamW, gradients clipped to norm 1. Both start from the same files and see
the same ids, and their losses are compared at every step. Each runs in a process of its own, whose
highest resident memory is reported. Prints medians, quartiles and the median of the ratios of
neighbours in time, of the clock and of processor time (cpu: what a loaded machine disturbs less,
where threads that wait do not spin: --threads 1).
"""
import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

SHAPES = {
    "1M": dict(hidden_size=128, intermediate_size=352, num_hidden_layers=5, num_attention_heads=4,
               num_key_value_heads=2, vocab_size=512),
    "15M": dict(hidden_size=288, intermediate_size=768, num_hidden_layers=6, num_attention_heads=6,
                num_key_value_heads=6, vocab_size=32000),
    "110M": dict(hidden_size=768, intermediate_size=2048, num_hidden_layers=12,
                 num_attention_heads=12, num_key_value_heads=12, vocab_size=32000),
}
BATCH, LENGTH = 16, 128


def make(shape, root):
    """Model, adapter and ids that both sides read."""
    import numpy
    import peft
    import torch
    import transformers
    torch.manual_seed(1)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=True, **SHAPES[shape]))
    model.save_pretrained(os.path.join(root, "model"))
    lora = peft.get_peft_model(model, peft.LoraConfig(r=8, lora_alpha=16, target_modules=[
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))
    lora.save_pretrained(os.path.join(root, "adapter"))
    ids = numpy.random.default_rng(1).integers(0, SHAPES[shape]["vocab_size"], (BATCH, LENGTH + 1))
    ids.astype("<i4").tofile(os.path.join(root, "ids"))


def with_peft(root, threads):
    """PyTorch's side: answers as crayon_lora_race does."""
    import numpy
    import peft
    import torch
    import transformers
    torch.set_num_threads(threads)
    model = transformers.LlamaForCausalLM.from_pretrained(os.path.join(root, "model"))
    model = peft.PeftModel.from_pretrained(model, os.path.join(root, "adapter"), is_trainable=True)
    ids = torch.from_numpy(
        numpy.fromfile(os.path.join(root, "ids"), "<i4").reshape(-1, LENGTH + 1).astype("int64"))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0)
    model.train()
    print(f"torch {torch.__version__}, peft {peft.__version__}, "
          f"transformers {transformers.__version__}, {torch.get_num_threads()} threads", flush=True)
    for line in sys.stdin:
        if line.strip() == "memory":
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
            continue
        start, cpu = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        took = [1000 * (time.perf_counter() - start), 1000 * (time.process_time() - cpu)]
        print(*took, loss.item(), flush=True)


class worker:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.name = self.process.stdout.readline().strip()

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return [float(x) for x in self.process.stdout.readline().split()]


def quartiles(values):
    q = statistics.quantiles(values, n=4)
    return f"{statistics.median(values):9.1f} [{q[0]:.1f}, {q[2]:.1f}]"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("program", nargs="?")
    p.add_argument("--shapes", default="1M,15M,110M")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--make", nargs=2)
    p.add_argument("--peft")
    o = p.parse_args()
    if o.make:
        return make(*o.make)
    if o.peft:
        return with_peft(o.peft, o.threads)
    for shape in o.shapes.split(","):
        with tempfile.TemporaryDirectory() as root:
            this = [sys.executable, __file__]
            subprocess.run(this + ["--make", shape, root], check=True, stderr=subprocess.DEVNULL)
            theirs = worker(this + ["--peft", root, "--threads", str(o.threads)])
            ours = worker([o.program] + [os.path.join(root, n) for n in ["model", "adapter", "ids"]]
                          + [str(LENGTH + 1), str(o.threads)])
            if shape == o.shapes.split(",")[0]:
                print(theirs.name, "and", ours.name, sep="\n")
                print(f"{'':6}{'PEFT ms per step':>28}{'crayon ms':>28}{'tokens/s':>10}"
                      f"{'ratio':>8}{'cpu':>7}{'PEFT MB':>10}{'crayon MB':>10}")
            times = []
            for r in range(o.rounds + 2):
                t, their_busy, their_loss = theirs.ask("step")
                time.sleep(0.05)  # their threads stop waiting for more work
                c, our_busy, our_loss = ours.ask("step")
                assert abs(their_loss - our_loss) < 1e-4 * their_loss, (r, their_loss, our_loss)
                if r >= 2:
                    times.append((t, c, their_busy / our_busy))
            middle = statistics.median(c for _, c, _ in times)
            print(f"{shape:6}{quartiles([t for t, _, _ in times]):>28}"
                  f"{quartiles([c for _, c, _ in times]):>28}{1000 * BATCH * LENGTH / middle:10.0f}"
                  f"{statistics.median(t / c for t, c, _ in times):7.2f}x"
                  f"{statistics.median(b for _, _, b in times):6.2f}x"
                  f"{theirs.ask('memory')[0]:10.0f}{ours.ask('memory')[0]:10.0f}", flush=True)
            for side in [theirs, ours]:
                side.process.stdin.close()
                side.process.wait()


main()
