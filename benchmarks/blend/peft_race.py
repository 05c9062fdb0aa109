# SPDX-License-Identifier: MIT
"""Blends the same adapters with PEFT and with crayon, one after the other in turns.

    python peft_race.py build/bin/crayon_peft_race [--dtype f32|bf16] [--threads 2] [--rounds 15]

N LoRA adapters of rank 8 on all seven projections of a model of Llama-3.2-1B's shapes (random
weights; the base model takes no part in a blend). The clock runs from the weights to the adapter in
use by the model: PEFT's add_weighted_adapter into a model whose adapters are in memory, crayon's
blend of a pool in memory into a hot_swap. Prints medians, spread and the median of the ratios of
neighbours in time, after it has compared the results.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import warnings

import numpy
import peft
import safetensors.torch
import torch
import transformers


def model_with(count, rank, dtype, root):
    config = transformers.LlamaConfig(
        hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, head_dim=64, vocab_size=128, tie_word_embeddings=True)
    f32 = dtype == "f32"
    with torch.device("meta"):
        base = transformers.LlamaForCausalLM(config)
    # One zero seen as a matrix: a blend does not read the base model, only its shapes and type.
    zero = torch.zeros(1, dtype=torch.float32 if f32 else torch.bfloat16)
    for module in base.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            module.register_parameter(
                name, torch.nn.Parameter(zero.expand(value.shape), requires_grad=False))
    lora = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=[
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
    model = peft.get_peft_model(base, lora, adapter_name="a0", autocast_adapter_dtype=f32)
    for k in range(1, count):
        model.add_adapter(f"a{k}", lora, autocast_adapter_dtype=f32)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.normal_(0, 0.02)
    model.save_pretrained(root)
    return model


def weights_of(count):
    return [2 * (k + 1) / (count * (count + 1)) for k in range(count)]


def deltas(directory):
    """The change of each module, of the first layer."""
    with open(os.path.join(directory, "adapter_config.json")) as f:
        config = json.load(f)
    tensors = safetensors.torch.load_file(os.path.join(directory, "adapter_model.safetensors"))
    made = {}
    for name, a in tensors.items():
        if ".layers.0." not in name or "lora_A" not in name:
            continue
        module = name.split("base_model.model.")[-1].split(".lora_A")[0]
        alpha = config.get("alpha_pattern", {}).get(module, config["lora_alpha"])
        rank = config.get("rank_pattern", {}).get(module, config["r"])
        b = tensors[name.replace("lora_A", "lora_B")]
        made[module] = (alpha / rank) * (b.double() @ a.double())
    return made


def main():
    warnings.filterwarnings("ignore")
    p = argparse.ArgumentParser()
    p.add_argument("program")
    p.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=15)
    p.add_argument("--adapters", type=int, default=8)
    p.add_argument("--rank", type=int, default=8)
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    print(f"torch {torch.__version__}, peft {peft.__version__}, "
          f"transformers {transformers.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as root:
        model = model_with(o.adapters, o.rank, o.dtype, root)
        names = [f"a{k}" for k in range(o.adapters)]
        weights = weights_of(o.adapters)
        crayon = subprocess.Popen(
            [o.program, o.dtype, str(o.threads)] + [os.path.join(root, n) for n in names],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def ask(line):
            crayon.stdin.write(line + "\n")
            crayon.stdin.flush()
            return crayon.stdout.readline().strip()

        print(crayon.stdout.readline().strip())

        def with_peft(kind):
            start = time.perf_counter()
            model.add_weighted_adapter(names, weights, "blend", combination_type=kind)
            model.set_adapter("blend")
            took = 1000 * (time.perf_counter() - start)
            model.delete_adapter("blend")
            return took

        pairs = [("linear", "peft_linear"), ("linear", "linear"), ("cat", "concat")]
        for kind, policy in pairs:
            ask(policy)
            if policy == "linear":
                continue  # another blend than PEFT's, of the same cost: the mean of the factors
            model.add_weighted_adapter(names, weights, "blend", combination_type=kind)
            model.save_pretrained(root, selected_adapters=["blend"])
            model.delete_adapter("blend")
            saved = os.path.join(root, "crayon-" + policy)
            assert ask(f"save {policy} {saved}") == "saved"
            theirs, ours = deltas(os.path.join(root, "blend")), deltas(saved)
            assert theirs.keys() == ours.keys() and len(theirs) == 7
            worst = max(float((theirs[m] - ours[m]).norm() / theirs[m].norm()) for m in theirs)
            print(f"PEFT {kind} and crayon {policy}: relative difference {worst:.1e}")
            assert worst < (1e-5 if o.dtype == "f32" else 2e-2)

        print(f"{'':28}{'PEFT ms':>22}{'crayon ms':>24}{'ratio':>10}")
        for kind, policy in pairs:
            times = [(with_peft(kind), float(ask(policy))) for _ in range(o.rounds)]

            def line(values):
                q = numpy.percentile(values, [25, 75])
                return f"{statistics.median(values):9.2f} [{q[0]:.2f}, {q[1]:.2f}]"

            theirs, ours = [t[0] for t in times], [t[1] for t in times]
            ratio = statistics.median(t / c for t, c in times)
            print(f"{kind + ' / ' + policy:24}{line(theirs):>26}{line(ours):>24}{ratio:9.1f}x")
        crayon.stdin.close()
        crayon.wait()


main()
