# SPDX-License-Identifier: MIT
"""Races PEFT's add_weighted_adapter(combination_type="svd") against crayon's recompress.

    python peft_svd.py PROGRAM [--layers N] [--rounds R] [--threads T]

PROGRAM is crayon_recompress_race, built with the benchmarks. Both blend the same adapters
(8 of rank 8, f32, the projections of Llama 3.2 1B's layers) to rank 8, in turns on one machine:
PEFT first, then crayon, `rounds` times. PEFT's time is that of add_weighted_adapter alone, with all
adapters in memory; crayon's that of a blend with the R factors kept, and the R factors are timed
apart. Prints medians, the ratio, and how far the two results are from each other. Versions: PEFT
0.21.2.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("--layers", type=int, default=1)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--reduced", action="store_true",
                    help="svd_full_matrices=False, not PEFT's default")
parser.add_argument("--modules", default="q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj")
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)
torch.manual_seed(1)

config = LlamaConfig(hidden_size=2048, intermediate_size=8192, num_hidden_layers=arguments.layers,
                     num_attention_heads=32, num_key_value_heads=8, vocab_size=32)
modules = arguments.modules.split(",")
lora = LoraConfig(r=8, lora_alpha=16, target_modules=modules, init_lora_weights=False)
weights = [0.3, 0.05, 0.1, 0.2, 0.05, 0.1, 0.15, 0.05]
names = [f"a{k}" for k in range(len(weights))]
model = get_peft_model(LlamaForCausalLM(config), lora, adapter_name=names[0])
for name in names[1:]:
    model.add_adapter(name, lora)

with tempfile.TemporaryDirectory() as scratch:
    root = pathlib.Path(scratch)
    model.save_pretrained(root)
    directories = [str(root / name) for name in names]
    command = [arguments.program, str(arguments.threads), str(root / "blended"),
               ",".join(map(str, weights)), *directories]
    theirs, ours, factors = [], [], []
    with torch.inference_mode():
        for turn in range(arguments.rounds):
            start = time.perf_counter()
            model.add_weighted_adapter(names, weights, f"svd{turn}", combination_type="svd",
                                       svd_rank=8,
                                       svd_full_matrices=not arguments.reduced)
            theirs.append(time.perf_counter() - start)
            report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            ours.append(report["blend_seconds"])
            factors.append(report["r_factors_seconds"])
            print(f"turn {turn}: PEFT {theirs[-1]:.3f} s, crayon {1000 * ours[-1]:.3f} ms",
                  flush=True)

        # Both are the best of rank 8: the same change.
        blended = load_file(root / "blended" / "adapter_model.safetensors")
        state = model.state_dict()
        scale = model.peft_config["svd0"].lora_alpha / model.peft_config["svd0"].r
        worst = 0.0
        for key in [k for k in blended if "lora_A" in k]:
            theirs_of = key.replace(".lora_A.weight", ".lora_{}.svd0.weight")
            peft = scale * state[theirs_of.format("B")] @ state[theirs_of.format("A")]
            crayon = blended[key.replace("lora_A", "lora_B")] @ blended[key]
            worst = max(worst, ((peft - crayon).norm() / peft.norm()).item())

sites = arguments.layers * len(modules)
peft, crayon = statistics.median(theirs), statistics.median(ours)
print(f"{sites} sites, {arguments.threads} threads, medians of {arguments.rounds} turns")
print(f"PEFT svd           {1e3 * peft:12.2f} ms  {1e3 * peft / sites:10.3f} ms per site")
print(f"crayon recompress  {1e3 * crayon:12.3f} ms  {1e3 * crayon / sites:10.4f} ms per site")
print(f"R factors, once    {1e3 * statistics.median(factors):12.2f} ms")
print(f"ratio              {peft / crayon:12.0f}")
print(f"largest relative difference of the two changes at a site: {worst:.2e}")
