// SPDX-License-Identifier: MIT
// The command line of each command. The only file that pays for CLI11, with main.cpp and the demo.
#include "commands.hpp"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <crayon/engine/base_model.hpp>

#include "add_command.hpp"

namespace crayon::cli {

void add_model_options(CLI::App& command, model_options& options, bool with_tokenizer) {
  command.add_option("--model,-m", options.model, "llama2.c checkpoint or Hugging Face directory")
      ->type_name("FILE|DIR")
      ->required();
  if (with_tokenizer) {
    command
        .add_option("--tokenizer", options.tokenizer,
                    "llama2.c tokenizer.bin (default: tokenizer.bin beside the model)")
        ->type_name("FILE");
  }
}

void add_adapter_option(CLI::App& command, std::vector<std::string>& adapters) {
  command.add_option("--adapter", adapters, "PEFT adapter, with a factor; repeat to add several")
      ->type_name("DIR[:SCALE]")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

namespace {

/// A finite number above 0, or of 0 or more. CLI11's own checks let NaN through, and name the
/// largest double where there is no upper bound.
CLI::Validator finite_number(bool above_zero) {
  return CLI::Validator(
      [above_zero](std::string& text) {
        double value = 0;
        const bool good = CLI::detail::lexical_cast(text, value) && std::isfinite(value) &&
                          (above_zero ? value > 0 : value >= 0);
        return good ? std::string()
                    : text + " is not a number " + (above_zero ? "above 0" : "of 0 or more");
      },
      above_zero ? "POSITIVE" : "NONNEGATIVE");
}

/// CLI11 reads "-1" as the largest count there is.
CLI::Validator count() {
  return CLI::Range(std::size_t{0}, std::size_t{1} << 30);
}

/// Where a prompt may be sent.
CLI::Validator http_url() {
  return CLI::Validator(
      [](std::string& text) {
        const bool good = (text.starts_with("http://") && text.size() > 7) ||
                          (text.starts_with("https://") && text.size() > 8);
        return good ? std::string() : text + " is not an http:// or https:// URL";
      },
      "");
}

void add_context_option(CLI::App& command, std::size_t& context) {
  command
      .add_option("--context", context,
                  "Tokens that prompt and answer have room for (default: the model's context, at "
                  "most " +
                      std::to_string(engine::default_context) + ")")
      ->check(finite_number(true));
}

void add_info(CLI::App& parent, selection& chosen) {
  auto o = std::make_shared<info_options>();
  CLI::App& c =
      *add_command(parent, chosen, "info", "What a model, an adapter or a pool file holds", o, run);
  c.add_option("path", o->path,
               "llama2.c checkpoint, Hugging Face or PEFT directory, pool, safetensors file")
      ->type_name("FILE|DIR")
      ->required();
}

void add_generate(CLI::App& parent, selection& chosen) {
  auto o = std::make_shared<generate_options>();
  CLI::App& c = *add_command(parent, chosen, "generate", "Continue a prompt", o, run);
  add_model_options(c, o->model, true);
  add_adapter_option(c, o->adapters);
  c.add_option("--prompt,-p", o->prompt, "Text to continue")->required();
  c.add_option("--tokens,-n", o->tokens, "Tokens to draw at most")
      ->check(count())
      ->capture_default_str();
  c.add_option("--temperature,-t", o->sampling.temperature, "0 takes the likeliest token")
      ->check(finite_number(false))
      ->capture_default_str();
  c.add_option("--top-k", o->sampling.top_k, "Only the K likeliest tokens; 0: all")
      ->check(count())
      ->capture_default_str();
  c.add_option("--top-p", o->sampling.top_p, "Only the likeliest tokens up to this probability")
      ->check(CLI::Range(0.0, 1.0) & finite_number(false))
      ->capture_default_str();
  c.add_option("--seed,-s", o->seed, "Of the random draws")->capture_default_str();
}

/// "1,2,3"; the parser's own lists skip what is empty.
std::vector<std::int32_t> ids_of(std::string_view text) {
  std::vector<std::int32_t> ids;
  for (const char *at = text.data(), *end = at + text.size();; ++at) {
    const auto read = std::from_chars(at, end, ids.emplace_back());
    at = read.ptr;
    if (read.ec != std::errc{} || (at != end && *at != ',')) {
      throw CLI::ValidationError("--ids", "not ids, separated by commas: " + std::string(text));
    }
    if (at == end) return ids;
  }
}

void add_logits(CLI::App& parent, selection& chosen) {
  auto o = std::make_shared<logits_options>();
  CLI::App& c = *add_command(parent, chosen, "logits", "Write the logits after each token", o, run);
  add_model_options(c, o->model, false);
  add_adapter_option(c, o->adapters);
  c.add_option_function<std::string>(
       "--ids", [o](const std::string& text) { o->ids = ids_of(text); },
       "Token ids, separated by commas")
      ->type_name("ID,ID,...")
      ->required();
  c.add_option("--out,-o", o->out, "safetensors file; tensor \"logits\", F32 [tokens, vocabulary]")
      ->type_name("FILE")
      ->required();
}

void add_perplexity(CLI::App& parent, selection& chosen) {
  auto o = std::make_shared<perplexity_options>();
  CLI::App& c =
      *add_command(parent, chosen, "perplexity", "How surprised a model is by a text", o, run);
  add_model_options(c, o->model, true);
  add_adapter_option(c, o->adapters);
  c.add_option("--text", o->text, "Text file")->type_name("FILE")->required();
  c.add_option("--context", o->context, "Tokens per window (default: the model's context)")
      ->check(count());
}

void add_blend(CLI::App& parent, selection& chosen) {
  auto o = std::make_shared<blend_options>();
  CLI::App& c =
      *add_command(parent, chosen, "blend", "Several adapters and weights -> one adapter", o, run);
  auto* pool = c.add_option("--pool", o->pool, "Pool file")->type_name("FILE");
  auto* given = c.add_option("--weights", o->weights, "One weight per adapter of the pool")
                    ->type_name("W,W,...")
                    ->delimiter(',')
                    ->needs(pool);
  pool->needs(given);
  auto* adapters = c.add_option("--adapter", o->adapters, "PEFT adapter and its weight; repeat")
                       ->type_name("DIR:WEIGHT")
                       ->expected(1)
                       ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
                       ->excludes(pool);
  auto* policy =
      c.add_option(
           "--policy", o->policy,
           "(default: what the pool was made for, else concat) concat: the exact sum, ranks add "
           "up; recompress: the best of a rank; linear: factor "
           "by factor; ties, dare, dare_ties, magnitude_prune: sparse, of the best of a rank; "
           "knots_...: the same in aligned bases; peft_...: as PEFT does it")
          ->check(CLI::IsMember({"concat", "recompress", "linear", "ties", "dare", "dare_ties",
                                 "magnitude_prune", "knots_ties", "knots_dare", "knots_dare_ties",
                                 "knots_magnitude_prune", "peft_linear", "peft_ties",
                                 "peft_dare_linear", "peft_dare_ties", "peft_magnitude_prune"}));
  auto* rank = c.add_option("--rank", o->rank,
                            "Of the result, where the policy chooses it (default: the largest)")
                   ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 20));
  auto* error =
      c.add_option("--error", o->error,
                   "recompress: the smallest ranks with this relative error over all sites")
          ->check(finite_number(true))
          ->excludes(rank);
  auto* density =
      c.add_option("--density", o->density, "Share of the values that sparse policies keep")
          ->check(CLI::Range(1e-9, 1.0))
          ->capture_default_str();
  auto* sign =
      c.add_flag("--frequency-sign", o->frequency_sign,
                 "ties, dare_ties: elect the sign that most adapters have, not that of the sum");
  auto* seed = c.add_option("--seed", o->seed, "Of what dare drops")->capture_default_str();
  c.add_flag("--align", o->align,
             "First bring the adapters into one gauge (equal ranks; for linear and peft_linear)");
  c.add_flag("--report", o->report, "Print the error against the exact sum, site by site");
  c.add_option("--dtype", o->type,
               "Of the factors that are written (default: that of all adapters, else f32)")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
  c.add_option("--out,-o", o->out, "PEFT directory to write")->type_name("DIR")->required();
  c.callback([&chosen, o, pool, adapters, policy, rank, error, density, sign, seed] {
    if (pool->count() + adapters->count() == 0) {
      throw CLI::RequiredError("--pool or --adapter");
    }
    for (const auto* option : {rank, error, density, sign, seed}) {
      if (option->count() != 0) o->given.push_back(option->get_name());
    }
    if (policy->count() == 0 && pool->count() == 0) o->policy = "concat";
    if (const std::string unused = unused_option(o->policy, o->given); !unused.empty()) {
      throw CLI::ValidationError(unused + " is not used by the policy " + o->policy);
    }
    chosen.run = [o](json& report) { return run(*o, report); };
  });
}

void add_spare_option(CLI::App& c, std::size_t& spare) {
  c.add_option("--spare", spare,
               "Free slots to leave where the file has to be written anew: adapters that find one "
               "do not move the others")
      ->check(CLI::Range(std::size_t{0}, std::size_t{4096}))
      ->capture_default_str();
}

void add_pool_edits(CLI::App& pool, selection& chosen) {
  const auto pool_option = [](CLI::App& c, std::string& path) {
    c.add_option("--pool", path, "Pool file, replaced as a whole or not at all")
        ->type_name("FILE")
        ->required();
  };
  for (const bool replace : {false, true}) {
    auto o = std::make_shared<pool_entry_options>();
    o->replace = replace;
    CLI::App& c =
        *add_command(pool, chosen, replace ? "replace" : "add",
                     replace ? "Put an adapter in the place of another, under its name"
                             : "Put an adapter into a pool: the same sites, ranks and scales",
                     o, run);
    pool_option(c, o->pool);
    c.add_option("--adapter", o->adapter, "PEFT directory")->type_name("DIR")->required();
    auto* name = c.add_option(
        "--name", o->name,
        replace ? "Of the adapter that goes" : "In the pool (default: the last part of DIR)");
    if (replace) name->required();
    auto* samples = c.add_option("--samples", o->samples,
                                 "JSON lines of what the adapter is for: its index vector")
                        ->type_name("FILE");
    auto* model = c.add_option("--model", o->model.model, "The pool's base model, for --samples")
                      ->type_name("FILE|DIR");
    c.add_option("--tokenizer", o->model.tokenizer, "Default: tokenizer.bin beside the model")
        ->type_name("FILE");
    samples->needs(model);
    model->needs(samples);
    add_spare_option(c, o->spare);
  }
  auto o = std::make_shared<pool_remove_options>();
  CLI::App& c = *add_command(pool, chosen, "remove", "Take an adapter out of a pool", o, run);
  pool_option(c, o->pool);
  c.add_option("--name", o->name, "Of the adapter")->required();
  add_spare_option(c, o->spare);
  auto cores = std::make_shared<pool_cores_options>();
  pool_option(*add_command(pool, chosen, "cores",
                           "Compute a pool's R factors once and keep them in its file: what the "
                           "policies recompress, ties, dare and magnitude_prune need of it",
                           cores, run),
              cores->pool);
}

/// What index vectors are made from, for the commands that make some.
void add_index_options(CLI::App& c, embedding_options& o) {
  c.add_option("--embedding", o.embedding, "What stands for a sample")
      ->check(CLI::IsMember({"error_pooling", "mean_pooling", "last_token"}))
      ->capture_default_str();
  c.add_option("--space", o.space,
               "Where samples are compared: discriminant keeps the adapters apart, pca and zca "
               "whiten, centre subtracts the mean")
      ->check(CLI::IsMember({"discriminant", "pca", "zca", "centre"}))
      ->capture_default_str();
  c.add_option("--directions", o.directions, "Of pca and zca (default: all)");
  c.add_option("--shrinkage", o.shrinkage, "Of the covariance, 0 to 1")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  c.add_option("--centroids", o.centroids, "Of each adapter's samples")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 10))
      ->capture_default_str();
}

CLI::Option* add_dtype(CLI::App& c, std::optional<dtype>& type, const std::string& fallback) {
  return c
      .add_option_function<std::string>(
          "--dtype",
          [&type](const std::string& text) {
            type = text == "bf16" ? dtype::bf16 : text == "f16" ? dtype::f16 : dtype::f32;
          },
          "Of the factors that are written (default: " + fallback + ")")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
}

void add_pool_import(CLI::App& pool, selection& chosen) {
  auto o = std::make_shared<pool_import_options>();
  CLI::App& c = *add_command(pool, chosen, "import",
                             "Existing PEFT adapters of one model become a pool", o, run);
  add_model_options(c, o->model, true);
  c.add_option("--adapter", o->adapters, "PEFT adapter; repeat")
      ->type_name("DIR")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->required();
  auto* samples =
      c.add_option(
           "--samples", o->samples,
           "JSON lines that an adapter is for; one file per adapter, in their order. Without "
           "any, the index vectors come from the weights, one per site, and so do a user's "
           "weights (arrow)")
          ->type_name("FILE")
          ->expected(1)
          ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  c.add_option("--out,-o", o->out, "Pool file to write")->type_name("FILE")->required();
  add_index_options(c, o->index);
  c.add_option("--layer", o->index.layer,
               "Blocks that the states have been through (default: all)");
  c.add_option("--matcher", o->matcher, "Similarities -> weights")
      ->check(CLI::IsMember({"cosine_softmax", "centroid"}))
      ->capture_default_str();
  for (const char* of_texts : {"--embedding", "--space", "--directions", "--shrinkage",
                               "--centroids", "--layer", "--matcher"}) {
    c.get_option(of_texts)->needs(samples);
  }
  c.add_option("--tau", o->tau, "Temperature of the similarities (default: 0.1; of arrow 1)")
      ->check(finite_number(true));
  c.add_option("--top-k", o->top_k,
               "Adapters that a blend keeps at most (default: all), or arrow for a token (3)")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 20));
  add_spare_option(c, o->spare);
  c.add_flag("--align", o->align,
             "Bring the factors into one gauge, for factor-wise blending, and show what it does");
  add_dtype(c, o->stored, "that of all adapters, else f32");
  c.footer(
      "Adapters may differ in ranks, scales and target modules: each is padded with zeros to the\n"
      "largest rank at every site that any of them has, and its change of the model stays.");
}

/// "1,3"
CLI::Option* add_mix_option(CLI::App& c, train::user_mix& mix) {
  return c
      .add_option_function<std::pair<std::size_t, std::size_t>>(
          "--mix",
          [&mix](const std::pair<std::size_t, std::size_t>& range) {
            mix = {range.first, range.second};
            if (const auto good = mix.check(); !good) {
              throw CLI::ValidationError("--mix", good.error().text);
            }
          },
          "Tasks of a simulated user, at least and at most (default: 1,3); its samples are of one "
          "\"group\" where the data name such")
      ->type_name("N,N")
      ->delimiter(',');
}

void add_pool_tune(CLI::App& pool, selection& chosen) {
  auto o = std::make_shared<pool_tune_options>();
  CLI::App& c =
      *add_command(pool, chosen, "tune", "Choose tau, top-k and layer on validation data", o, run);
  add_model_options(c, o->model, true);
  c.add_option("--pool", o->pool, "Pool file")->type_name("FILE")->required();
  c.add_option("--data", o->data,
               "JSON lines that no adapter was trained on; simulated users bring some of their "
               "tasks, and are measured on others")
      ->type_name("FILE")
      ->required();
  c.add_option("--tau", o->taus, "Temperatures to try")
      ->type_name("T,T,...")
      ->delimiter(',')
      ->capture_default_str();
  c.add_option("--top-k", o->top_ks, "Numbers of adapters to try, besides all, at the best tau")
      ->type_name("K,K,...")
      ->delimiter(',')
      ->capture_default_str();
  c.add_option("--layer", o->layers, "Layers to try (0: the last); needs --samples")
      ->type_name("L,L,...")
      ->delimiter(',');
  c.add_option("--samples", o->samples,
               "JSON lines that an adapter is for; one file per adapter, in the pool's order: the "
               "index vectors are made again")
      ->type_name("FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_index_options(c, o->index);
  const auto positive = CLI::Range(std::size_t{1}, std::size_t{1} << 16);
  c.add_option("--users", o->users, "Simulated users")->check(positive)->capture_default_str();
  c.add_option("--per-user", o->per_user, "Samples of each")
      ->check(positive)
      ->capture_default_str();
  add_mix_option(c, o->mix);
  c.add_option("--seed", o->seed, "Of the users")->capture_default_str();
  c.add_option("--out,-o", o->out, "Pool file to write with the best choice (default: none)")
      ->type_name("FILE");
}

/// One of two or three words for a value.
template <class Value>
CLI::Option* add_choice(CLI::App& c, const std::string& name, Value& value,
                        const std::vector<std::pair<std::string, Value>>& choices,
                        const std::string& what) {
  std::vector<std::string> words;
  for (const auto& [word, meaning] : choices) words.push_back(word);
  return c
      .add_option_function<std::string>(
          name,
          [&value, choices](const std::string& text) {
            for (const auto& [word, meaning] : choices) {
              if (word == text) value = meaning;
            }
          },
          what + " (default: " + words[0] + ")")
      ->check(CLI::IsMember(words));
}

CLI::Option* add_targets(CLI::App& c, std::vector<model::projection>& targets) {
  std::vector<std::string> names;
  for (std::size_t p = 0; p < model::projections_per_layer; ++p) {
    const std::string module = model::llama_config::module(p);
    names.push_back(module.substr(module.rfind('.') + 1));
  }
  return c
      .add_option_function<std::vector<std::string>>(
          "--targets",
          [&targets, names](const std::vector<std::string>& chosen) {
            targets.clear();
            for (const auto& name : chosen) {
              const auto at = std::find(names.begin(), names.end(), name) - names.begin();
              targets.push_back(static_cast<model::projection>(at));
            }
          },
          "Layers that adapters are at, as PEFT's target_modules: q_proj,v_proj (default: all)")
      ->delimiter(',')
      ->check(CLI::IsMember(names));
}

void add_pool_build(CLI::App& pool, selection& chosen) {
  auto o = std::make_shared<pool_options>();
  CLI::App& c = *add_command(pool, chosen, "build",
                             "Texts -> a pool of adapters that are trained together", o, run);
  add_model_options(c, o->model, true);
  c.add_option("--data", o->data,
               "JSON lines of prompt, completion and, if known, task and group (whose it is: a "
               "convention, say); of a folder all *.jsonl, each a task")
      ->type_name("FILE|DIR")
      ->required();
  c.add_option("--out,-o", o->out, "Pool file to write; with --single a PEFT directory")
      ->type_name("FILE")
      ->required();
  train::pool_options& how = o->how;
  const auto positive = CLI::Range(std::size_t{1}, std::size_t{1} << 20);
  auto* adapters = c.add_option("--adapters", how.adapters, "Number of adapters")
                       ->check(positive)
                       ->capture_default_str();
  auto* rank =
      c.add_option("--rank", how.rank, "Of each adapter")->check(positive)->capture_default_str();
  auto* alpha =
      c.add_option("--alpha", how.alpha, "Scale is alpha / rank (default: twice the rank)")
          ->check(finite_number(false));
  auto* targets = add_targets(c, how.targets);
  auto* type = add_dtype(c, o->stored, "f32");
  auto* tau = c.add_option("--tau", how.tau, "Temperature of the similarities")
                  ->check(finite_number(true))
                  ->capture_default_str();
  auto* init = add_choice(
      c, "--init", how.init,
      {{"auto", train::pool_init::automatic},
       {"kmeans", train::pool_init::k_means},
       {"tasks", train::pool_init::tasks}},
      "Index vectors: one per task, or centres of clusters; auto: tasks where they are as "
      "many as the adapters");
  add_choice(c, "--start", how.start,
             {{"copies", train::pool_start::copies}, {"random", train::pool_start::random}},
             "Adapters begin as copies of one that was trained on all data, or at random");
  using kind = train::chosen_gates::kind;
  add_choice(c, "--weights", how.weights.which,
             {{"group", kind::leave_one_out},
              {"whole-group", kind::whole_group},
              {"sample", kind::per_sample}},
             "A sample trains with the weights of its user's other samples, of all of them, or of "
             "its own");
  auto* policy = add_choice(c, "--policy", how.by_factors, {{"concat", false}, {"linear", true}},
                            "The blend that is trained through, and deployed");
  auto* index = c.add_flag("--train-index", how.train_index, "Index vectors learn, too");
  c.add_option("--index-rate", how.index_rate, "How far they turn in a step, times --rate")
      ->check(finite_number(true))
      ->needs(index)
      ->capture_default_str();
  c.add_option("--balance", how.balance, "How dear it is to use adapters unevenly")
      ->check(finite_number(false))
      ->needs(index)
      ->capture_default_str();
  auto* alone = c.add_flag("--independent", how.independent,
                           "Each adapter trains alone, on its task or cluster")
                    ->excludes(index);
  auto* single =
      c.add_flag("--single", o->single, "One adapter on all data: what a pool is compared with")
          ->excludes(index)
          ->excludes(alone);
  auto* add = c.add_option("--add", o->add,
                           "A finished pool gets one more adapter, trained beside the others, "
                           "which stay as they are to the bit; the first task of a simulated user "
                           "is its own; --out may be the same file")
                  ->type_name("FILE")
                  ->excludes(index)
                  ->excludes(single);
  auto* embedding =
      c.add_option("--embedding", o->embedding, "f(x) of a sample, which the index vectors are of")
          ->check(CLI::IsMember({"error_pooling", "mean_pooling", "last_token"}))
          ->capture_default_str();
  auto* layer = c.add_option("--layer", how.layer,
                             "Blocks that the embedded states have been through (default: all)")
                    ->check(count());
  for (auto* option : {adapters, rank, alpha, targets, type, tau, init, policy, embedding, layer}) {
    add->excludes(option);
  }
  c.add_option("--name", o->name, "Of that adapter (default: that of --data)")->needs(add);
  c.add_option("--steps", how.steps, "Of joint training; of each adapter that trains alone")
      ->check(positive)
      ->capture_default_str();
  c.add_option("--shared-steps", how.shared_steps,
               "Of the adapter that all start from (default: a quarter of the steps)")
      ->check(count());
  c.add_option("--users", how.users, "Simulated users per step")
      ->check(positive)
      ->capture_default_str();
  c.add_option("--samples", how.samples,
               "Of each user; an adapter that trains alone has users * samples in a batch")
      ->check(positive)
      ->capture_default_str();
  add_mix_option(c, how.mix)->excludes(alone)->excludes(single);
  c.add_option("--rate", how.training.schedule.peak, "Peak learning rate")
      ->check(finite_number(true))
      ->capture_default_str();
  c.add_option("--warm-up", how.training.schedule.warm_up, "Steps until then")
      ->check(count())
      ->capture_default_str();
  using schedule = train::chosen_schedule::kind;
  add_choice(c, "--schedule", how.training.schedule.which,
             {{"cosine", schedule::cosine},
              {"linear", schedule::linear},
              {"constant", schedule::constant}},
             "How the rate falls from there");
  c.add_option("--floor", how.training.schedule.floor,
               "What cosine and linear end at, as a part of --rate")
      ->check(CLI::Range(0.0, 1.0) & finite_number(false))
      ->capture_default_str();
  c.add_option("--clip", how.training.clip, "Largest norm of a gradient; 0: no limit")
      ->check(finite_number(false))
      ->capture_default_str();
  c.add_option("--accumulate", how.training.accumulate, "Batches of --users per step")
      ->check(positive)
      ->capture_default_str();
  c.add_option("--decay", how.training.optimizer.decay, "Of AdamW")
      ->check(finite_number(false))
      ->capture_default_str();
  c.add_option("--dropout", how.training.dropout.rate, "Of what adapters read")
      ->check(CLI::Range(0.0, 0.99) & finite_number(false))
      ->capture_default_str();
  c.add_flag("--recompute", how.training.spread.recompute,
             "Keep one layer's activations instead of all: less memory, a third more time");
  using activation_type = train::activation_type;
  add_choice(c, "--activations", how.training.spread.activations,
             {{"f32", activation_type::f32}, {"bf16", activation_type::bf16}},
             "What waits for the backward pass; bf16 takes half of the memory or less");
  c.add_option("--checkpoint", how.checkpoint.file,
               "The same command goes on from there after an interruption, to the same bits")
      ->type_name("FILE");
  c.add_option("--checkpoint-every", how.checkpoint.every_steps,
               "Steps between two of them (default: 30 seconds)")
      ->check(positive)
      ->needs("--checkpoint");
  c.add_option("--threads", o->threads,
               "Default: as many as the machine has; part of what the "
               "result depends on")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1024}));
  c.add_option("--seed", how.seed, "Of everything random")->capture_default_str();
}

void add_pool(CLI::App& parent, selection& chosen) {
  CLI::App& pool = *parent.add_subcommand("pool", "Make a pool of adapters, or change one");
  pool.require_subcommand(1);
  add_pool_edits(pool, chosen);
  add_pool_import(pool, chosen);
  add_pool_tune(pool, chosen);
  add_pool_build(pool, chosen);
}

void add_customize(CLI::App& parent, selection& chosen) {
  auto o = std::make_shared<customize_options>();
  CLI::App& c =
      *add_command(parent, chosen, "customize",
                   "A user's samples and a pool -> one adapter, without training", o, run);
  add_model_options(c, o->model, true);
  auto* pool = c.add_option("--pool", o->pool, "Pool file")->type_name("FILE");
  c.add_option("--samples", o->samples, "JSON lines of prompt and completion")
      ->type_name("FILE")
      ->required();
  c.add_option("--out,-o", o->out, "PEFT directory to write")->type_name("DIR")->required();
  auto* server = c.add_option("--server", o->server,
                              "The pool is there: http://host:port/v1 of crayon serve --pool. "
                              "Only one score per adapter and the pool's hash are sent")
                     ->type_name("URL")
                     ->excludes(pool);
  auto* epsilon = c.add_option("--epsilon", o->epsilon,
                               "Noise on the scores: what one request tells of any one sample "
                               "(differential privacy; smaller is more noise)")
                      ->check(CLI::Range(1e-6, 100.0) & finite_number(true))
                      ->needs(server);
  c.add_option("--delta", o->delta, "With --epsilon: how likely the promise may fail")
      ->check(CLI::Range(1e-300, 0.5) & finite_number(true))
      ->needs(epsilon)
      ->capture_default_str();
  c.add_option_function<std::string>(
       "--scores", [o](const std::string& text) { o->bytes = text == "8bit"; },
       "How scores are sent: f32, or rounded to 8bit (default: f32)")
      ->check(CLI::IsMember({"f32", "8bit"}))
      ->needs(server);
  c.add_option("--search", o->search,
               "Refine the weights on the samples themselves, with so many evaluations at most "
               "(default: no search)")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 20))
      ->excludes(server);
  c.add_option("--l1", o->search_l1, "Of the search: how dear the magnitude of a weight is")
      ->check(CLI::Range(0.0, 1e3))
      ->capture_default_str();
  c.add_option("--seed", o->seed, "Of the search")->capture_default_str();
  c.add_option("--policy", o->policy, "Another blend than the one the pool was trained with")
      ->check(CLI::IsMember({"concat", "linear"}))
      ->excludes(server);
  c.callback([&chosen, o] {
    if (o->pool.empty() && o->server.empty()) throw CLI::RequiredError("--pool or --server");
    chosen.run = [o](json& report) { return run(*o, report); };
  });
}

void add_ask(CLI::App& parent, selection& chosen) {
  auto o = std::make_shared<ask_options>();
  CLI::App& c =
      *add_command(parent, chosen, "ask",
                   "Answer on the device, or ask a server where a router says so", o, run);
  add_model_options(c, o->model, true);
  add_adapter_option(c, o->adapters);
  auto* pool = c.add_option("--pool", o->pool, "Customize from this pool instead of --adapter")
                   ->type_name("FILE")
                   ->excludes("--adapter");
  auto* samples =
      c.add_option("--samples", o->samples, "and these samples: then the scope is measured")
          ->type_name("FILE")
          ->needs(pool);
  pool->needs(samples);
  c.add_option("--domains", o->domains,
               "A space of crayon route domains: then the mismatch of the question's domain with "
               "the samples' is measured, and the question's perplexity")
      ->type_name("FILE")
      ->needs(pool);
  c.add_option("--router", o->router, "Thresholds as JSON")->type_name("FILE")->required();
  c.add_option("--budget-count", o->budget_count,
               "Where a router with a budget keeps its count of questions and calls; those that "
               "share one are answered one after the other")
      ->type_name("FILE");
  c.add_option("--server", o->server, "OpenAI-compatible endpoint: http://host:port/v1")
      ->type_name("URL")
      ->check(http_url())
      ->required();
  c.add_option("--server-model", o->server_model, "The model's name there");
  c.add_option("--deadline", o->deadline_ms, "Milliseconds the server may take, all attempts")
      ->check(finite_number(true))
      ->capture_default_str();
  c.add_option("--retries", o->retries, "Attempts after the first, before anything has come")
      ->check(CLI::Range(std::size_t{0}, std::size_t{20}))
      ->capture_default_str();
  auto* hedge = c.add_option("--hedge", o->hedge,
                             "A second endpoint, asked when the first is slow or fails; the first "
                             "to answer is taken")
                    ->type_name("URL")
                    ->check(http_url());
  c.add_option("--hedge-after", o->hedge_after_ms, "Milliseconds without a token of the first")
      ->check(finite_number(true))
      ->needs(hedge)
      ->capture_default_str();
  c.add_flag("--no-fallback", o->no_fallback,
             "A failure of the server is an error, not an answer of the device");
  c.add_option("--tokens,-n", o->generation.max_tokens, "Tokens of the answer at most")
      ->check(count())
      ->capture_default_str();
  add_context_option(c, o->context);
  c.add_option("prompt", o->prompt, "What to ask")->type_name("PROMPT")->required();
  c.footer(
      "The answer goes to stdout; one line on stderr says who answered and, where the server\n"
      "failed (no connection, an HTTP error, a page of HTML, too late), why. Then the device\n"
      "answers, and the exit status is 0. It is 1 where there is no whole answer: with\n"
      "--no-fallback, or when the server fails in the middle of its answer. --json has the\n"
      "record: who answered and why, by which signal, its score, threshold and promise, attempts,\n"
      "bytes sent, what is left of the deadline.\n"
      "An API key is read from CRAYON_API_KEY (for --hedge from CRAYON_HEDGE_API_KEY), and\n"
      "goes to that server only.");
}

void add_serve(CLI::App& parent, selection& chosen) {
  auto o = std::make_shared<serve_options>();
  CLI::App& c = *add_command(parent, chosen, "serve",
                             "OpenAI-compatible HTTP endpoint, until SIGINT or SIGTERM", o, run);
  add_model_options(c, o->model, true);
  add_adapter_option(c, o->adapters);
  c.add_option("--host", o->host, "Address to listen on")->capture_default_str();
  c.add_option("--port", o->port, "0: any free port")->capture_default_str();
  c.add_option("--name", o->name, "The model's name in requests")->capture_default_str();
  c.add_option("--adapters", o->adapter_folder,
               "Folder of PEFT directories: a request may name one as its model, or mix them: "
               "\"model\": \"blend\", \"blend\": {\"one\": 0.5, \"other\": 0.5}")
      ->type_name("DIR");
  c.add_option("--pool", o->pool,
               "Pool file: devices get its index at /v1/pool/index, and one adapter for the scores "
               "that they send to /v1/blend")
      ->type_name("FILE");
  c.add_option("--sessions", o->sessions, "Requests answered at once; with one it uses all cores")
      ->check(CLI::Range(std::size_t{1}, std::size_t{64}))
      ->capture_default_str();
  add_context_option(c, o->context);
  c.add_option("--queue", o->queue, "Requests that wait at most; others get HTTP 429")
      ->check(CLI::Range(std::size_t{0}, std::size_t{4096}))
      ->capture_default_str();
  c.add_option("--max-tokens", o->most_tokens, "Of an answer, whatever a request asks for")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 20))
      ->capture_default_str();
  c.add_option("--max-body", o->body_kb, "KB of a request")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 20))
      ->capture_default_str();
  c.add_option("--read-timeout", o->read_timeout,
               "Seconds that a request may take to arrive, header and body; then HTTP 408. Half a "
               "second is enough to lose its place to others, where all are taken")
      ->check(CLI::Range(0.001, 86400.0) & finite_number(true))
      ->capture_default_str();
  c.add_option("--write-timeout", o->write_timeout,
               "Seconds that an answer may wait for a client to read it, all waits together; then "
               "it ends there")
      ->check(CLI::Range(0.001, 86400.0) & finite_number(true))
      ->capture_default_str();
  c.add_option("--timeout", o->timeout, "Seconds after which an answer ends as it is")
      ->check(CLI::Range(0.001, 86400.0) & finite_number(true))
      ->capture_default_str();
  c.add_option("--grace", o->grace, "Seconds that running answers get when the server is stopped")
      ->check(CLI::Range(0.0, 3600.0) & finite_number(false))
      ->capture_default_str();
}

void add_route_columns(CLI::App& c, route_columns& o) {
  c.add_option("--scores", o.file, "CSV file with a header row; one row per query")
      ->type_name("FILE")
      ->required();
  c.add_option("--score", o.scores,
               "Column of a score; risk: larger is riskier, which is taken for granted of names "
               "that are no signal's; repeat to add several (default: the columns named as "
               "signals, score, risk, confidence)")
      ->type_name("NAME[:risk|:confidence]")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  c.add_option("--device-ok", o.device_ok, "Column: the device's answer is right (0, 1)")
      ->capture_default_str();
  c.add_option("--server-ok", o.server_ok, "Column: the server's answer is right")
      ->capture_default_str();
  const auto optional = [&](const char* option, route_column& column, const char* text) {
    c.add_option_function<std::string>(
         option,
         [&column](const std::string& name) {
           column = {name, true};
         },
         std::string("Column, where there is one: ") + text + " (default: " + column.name + ")")
        ->type_name("NAME");
  };
  optional("--device-cost", o.device_cost, "what the device's answer costs");
  optional("--server-cost", o.server_cost, "what the server's answer costs");
  optional("--group", o.group, "of what kind the query is");
  optional("--scope", o.scope, "in, or near or far out of scope");
  optional("--length", o.length, "length of the query, a baseline");
  optional("--split", o.split, "fit or eval");
  c.add_option("--fit-share", o.fit_share,
               "Share of the rows to fit on, chosen at random (default: as the column of the split "
               "says, or " +
                   std::string(o.usual_share < 1 ? "0.5" : "all") + ")")
      ->check(CLI::Range(0.0, 0.99) & finite_number(false));
  c.add_flag("--by-group", o.by_group, "Split, and draw for intervals, whole groups");
  c.add_option("--seed", o.seed, "Of the split and the draws")->capture_default_str();
}

void add_route_fit(CLI::App& route, selection& chosen) {
  auto o = std::make_shared<route_fit_options>();
  o->columns.usual_share = 1;
  CLI::App& c =
      *add_command(route, chosen, "fit",
                   "A threshold on a signal, or on a line that is fitted through several, with or "
                   "without a promise, as a router file",
                   o, run);
  add_route_columns(c, o->columns);
  auto policy = std::make_shared<std::string>("threshold");
  c.add_option("--policy", *policy,
               "threshold: on one score; linear: on the probability that the device is wrong, by "
               "logistic regression on --signals")
      ->check(CLI::IsMember({"threshold", "linear"}))
      ->capture_default_str();
  c.add_option("--signals", o->signals, "Of linear: columns with the names of signals")
      ->type_name("A,B,...")
      ->delimiter(',')
      ->excludes("--score");
  c.callback([&chosen, o, policy] {
    if (*policy == "linear" && o->signals.empty()) throw CLI::RequiredError("--signals");
    if (*policy != "linear" && !o->signals.empty()) {
      throw CLI::ValidationError("--signals: they are for --policy linear");
    }
    chosen.run = [o](json& report) { return run(*o, report); };
  });
  c.add_option(
       "--promise", o->promise,
       "none: right most often, or a call rate; mean: the risk is at most alpha in the mean "
       "(conformal risk control); probability: with probability 1 - delta "
       "(Clopper-Pearson, fixed sequence)")
      ->check(CLI::IsMember({"none", "mean", "probability"}))
      ->required();
  const auto level = [&](const char* option, double& value, const char* text) {
    c.add_option(option, value, text)
        ->check(CLI::Range(0.0, 1.0) & finite_number(true))
        ->capture_default_str();
  };
  level("--alpha", o->alpha, "The risk: of all queries, those that the device answers wrongly");
  level("--delta", o->delta, "Of probability: how likely the promise may fail");
  c.add_flag("--of-kept", o->of_kept,
             "Of probability: the risk among the queries that the device answers");
  c.add_option("--grid", o->grid,
               "Of probability: the range of thresholds, chosen before the scores were looked at "
               "(default: the range that the signal has)")
      ->type_name("LOW HIGH")
      ->expected(2);
  c.add_option("--call-rate", o->call_rate,
               "Of none: send at most this share (default: what is right most often)")
      ->check(CLI::Range(0.0, 1.0) & finite_number(false));
  c.add_flag("--after-prefill", o->after_prefill,
             "The scores were seen before the first token, not after the answer");
  c.add_flag("--all-to-server", o->all_to_server,
             "Where nothing can be promised: a router that sends everything, not an error");
  auto* budget =
      c.add_option("--budget", o->budget,
                   "Of none: send at most this share of the questions, whatever they are like")
          ->check(CLI::Range(0.0, 1.0) & finite_number(false));
  c.add_option("--burst", o->burst, "Calls that may go ahead of the budget")
      ->check(count())
      ->needs(budget);
  c.add_option("--domains", o->domains, "The space that domain_mismatch was measured in")
      ->type_name("FILE");
  add_model_options(c, o->model, true);
  add_adapter_option(c, o->adapters);
  c.add_option("--pool", o->pool, "Holds for any adapter that is blended from this pool")
      ->type_name("FILE")
      ->excludes("--adapter");
  c.add_option("--server-model", o->server_model, "Holds for this server's model (default: any)");
  c.add_option("--out,-o", o->out, "Router file to write")->type_name("FILE")->required();
  c.footer(
      "The threshold is fitted on all rows, or on those that a split gives; the others show what\n"
      "it does. With --policy linear the line is fitted on the rows that a split gives (half of\n"
      "them by default) and the threshold on the others. The file is bound to the model and "
      "adapter: crayon ask refuses it with others.\n"
      "A promise holds for queries that come as the rows came.");
}

void add_route_domains(CLI::App& route, selection& chosen) {
  auto o = std::make_shared<route_domains_options>();
  CLI::App& c = *add_command(route, chosen, "domains",
                             "A space that tells the domains of questions apart, for the signal "
                             "domain_mismatch of crayon ask",
                             o, run);
  add_model_options(c, o->model, true);
  c.add_option("--data", o->texts,
               "JSON lines, or a folder of them: prompt, and task as \"domain/task\"")
      ->type_name("FILE")
      ->required();
  c.add_option("--sharpness", o->sharpness,
               "Of the tasks' Gaussians: 1 is what these texts say, which is too sure of others")
      ->check(CLI::Range(1e-6, 1e6) & finite_number(true))
      ->capture_default_str();
  c.add_option("--out,-o", o->out, "File to write")->type_name("FILE")->required();
}

void add_route(CLI::App& parent, selection& chosen) {
  CLI::App* route = parent.add_subcommand("route", "Fit and judge routers on recorded outcomes");
  route->require_subcommand(1);
  add_route_fit(*route, chosen);
  add_route_domains(*route, chosen);
  auto o = std::make_shared<route_eval_options>();
  CLI::App& c = *add_command(*route, chosen, "eval",
                             "What scores are worth as routers: quality against calls, errors "
                             "found, calibration, with intervals",
                             o, run);
  add_route_columns(c, o->columns);
  c.add_option("--call-rate", o->call_rate,
               "Realise a threshold that sends at most this share of the rows to fit on "
               "(default: the threshold that is right most often there)")
      ->check(CLI::Range(0.0, 1.0) & finite_number(false));
  c.add_option("--neighbours", o->neighbours, "Of the kNN baseline on all scores; 0: none")
      ->check(count())
      ->capture_default_str();
  c.add_option("--draws", o->draws, "Of the bootstrap; 0: no intervals")
      ->check(CLI::Range(std::size_t{0}, std::size_t{100000}))
      ->capture_default_str();
  c.add_option("--svg", o->svg, "Plot of quality against calls or cost")->type_name("FILE");
  c.footer(
      "Maps, thresholds and the kNN baseline are fitted on one part of the rows; every figure is\n"
      "of the other. APGR, CPT50, CPT80: share of the gap between device and server that is\n"
      "recovered, over all call rates, and the call rates that recover 50 and 80 % (RouteLLM).\n"
      "AUGRC: Traub et al. 2024, smaller is better. ECE: 15 bins.");
}

}  // namespace

void add_commands(CLI::App& parent, selection& chosen) {
  add_info(parent, chosen);
  add_generate(parent, chosen);
  add_logits(parent, chosen);
  add_perplexity(parent, chosen);
  add_blend(parent, chosen);
  add_pool(parent, chosen);
  add_customize(parent, chosen);
  add_ask(parent, chosen);
  add_serve(parent, chosen);
  add_route(parent, chosen);
}

}  // namespace crayon::cli
