// SPDX-License-Identifier: MIT
// The commands: what each is told, and the function that does it. `run` prints to stdout and fills
// the report; an error it returns is printed as one line on stderr, and the exit status is 1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>
#include <crayon/model/sampler.hpp>
#include <crayon/train/pool_options.hpp>

#include "cli.hpp"
#include "embedding_options.hpp"

namespace crayon::cli {

struct info_options {
  std::string path;
};

struct generate_options {
  model_options model;
  std::vector<std::string> adapters;
  std::string prompt;
  std::size_t tokens = 256;
  model::sampling_options sampling{0, 0, 1};
  std::uint64_t seed = 1;
};

struct logits_options {
  model_options model;
  std::vector<std::string> adapters;
  std::vector<std::int32_t> ids;
  std::string out;
};

struct perplexity_options {
  model_options model;
  std::vector<std::string> adapters;
  std::string text;
  std::size_t context = 0;
};

struct blend_options {
  std::string pool;
  std::vector<float> weights;
  std::vector<std::string> adapters;
  std::string policy;           ///< empty: the pool's own, else concat
  std::size_t rank = 0;         ///< 0: the largest of those blended
  double error = 0;             ///< 0: no target
  double density = 0.5;         ///< of the sparse policies
  bool frequency_sign = false;  ///< of ties: by count, not by sum
  std::uint64_t seed = 0;       ///< of dare
  bool align = false;
  bool report = false;
  std::string type;                ///< of the factors on disk; empty: the sources', or f32
  std::vector<std::string> given;  ///< those of --rank ... --seed that are on the command line
  std::string out;
};
/// The first of these options that the policy does not use; empty: it uses all.
[[nodiscard]] std::string unused_option(const std::string& policy,
                                        const std::vector<std::string>& given);

struct pool_options {
  model_options model;
  std::string data;
  std::string out;
  train::pool_options how;
  std::string embedding = "error_pooling";
  std::optional<dtype> stored;  ///< of the factors on disk; without: f32
  bool single = false;      ///< one adapter on all data instead of a pool
  std::string add;          ///< pool that gets one more adapter instead; empty: none
  std::string name;         ///< of that adapter; empty: the last part of `data`
  std::size_t threads = 0;  ///< 0: as many as the machine has
};

/// An adapter into a pool: a new one, or in the place of the one of that name.
struct pool_entry_options {
  model_options model;
  std::string pool;
  std::string adapter;
  std::string name;     ///< empty: the last part of the adapter's path
  std::string samples;  ///< of what the adapter is for; empty: no index vector, or the old one
  std::size_t spare = 0;
  bool replace = false;
};

struct pool_remove_options {
  std::string pool;
  std::string name;
  std::size_t spare = 0;
};

/// The R factors of a pool are computed and kept in its file.
struct pool_cores_options {
  std::string pool;
};

/// Existing adapters of one base model become a pool.
struct pool_import_options {
  model_options model;
  std::vector<std::string> adapters;
  std::vector<std::string> samples;  ///< one file per adapter, or none
  std::string out;
  embedding_options index;
  std::string matcher = "cosine_softmax";
  std::optional<float> tau;          ///< without: 0.1, of arrow 1
  std::optional<std::size_t> top_k;  ///< without: all, of arrow 3
  std::size_t spare = 0;
  bool align = false;
  std::optional<dtype> stored;  ///< of the factors on disk; without: that of all adapters, or f32
};

/// tau, top_k and layer chosen on validation data.
struct pool_tune_options {
  model_options model;
  std::string pool;
  std::string data;
  std::vector<std::string> samples;  ///< one file per adapter, or none
  embedding_options index;
  std::vector<float> taus{0.02F, 0.05F, 0.1F, 0.2F, 0.5F};
  std::vector<std::size_t> top_ks{1, 2, 4, 8};
  std::vector<std::size_t> layers;
  std::size_t users = 20;
  std::size_t per_user = 8;
  train::user_mix mix;
  std::uint64_t seed = 1;
  std::string out;  ///< empty: nothing is written
};

struct customize_options {
  model_options model;
  std::string pool;
  std::string samples;
  std::string out;
  std::size_t search = 0;  ///< evaluations of the few-shot search; 0: none
  float search_l1 = 0.05F;
  std::uint64_t seed = 1;
  std::string policy;  ///< empty: the one the pool was trained with
  std::string server;  ///< whose pool it is, instead of one here
  double epsilon = 0;  ///< of the noise on the scores that are sent; 0: none
  double delta = 1e-5;
  bool bytes = false;  ///< scores of 8 bits
};

struct route_domains_options {
  model_options model;
  std::string texts;  ///< JSON lines whose tasks are "domain/task"
  float sharpness = 0.125F;
  std::string out;
};

struct ask_options {
  model_options model;
  std::vector<std::string> adapters;
  std::string pool;
  std::string samples;
  std::string domains;  ///< a space of domains; empty: none
  std::string router;
  std::string budget_count;  ///< of a router with a budget
  std::string server;
  std::string server_model;
  std::string prompt;
  generation_options generation;
  std::size_t context = 0;  ///< 0: see engine::base_model::context
  std::uint32_t deadline_ms = 10'000;
  std::size_t retries = 2;
  std::string hedge;  ///< a second endpoint; empty: none
  std::uint32_t hedge_after_ms = 1'000;
  bool no_fallback = false;
};

struct serve_options {
  model_options model;
  std::vector<std::string> adapters;
  std::string host = "127.0.0.1";
  std::uint16_t port = 8080;
  std::string name = "crayon";
  std::string adapter_folder;  ///< of PEFT directories that requests may name; empty: none
  std::string pool;            ///< that devices may ask to blend; empty: none
  std::size_t sessions = 1;
  std::size_t context = 0;
  std::size_t queue = 64;  ///< requests that wait for a session at most
  std::size_t most_tokens = 1024;
  std::size_t body_kb = 1024;
  double read_timeout = 10;   ///< s, for a whole request to arrive
  double write_timeout = 10;  ///< s, that an answer waits for its reader in all
  double timeout = 120;  ///< s, of an answer
  double grace = 5;      ///< s, for running answers when the server stops
};

/// A column by its name; where it was not asked for, the file need not have it.
struct route_column {
  std::string name;
  bool asked = false;
};

/// Where the rows of `crayon route` are, and what their columns are called.
struct route_columns {
  std::string file;
  std::vector<std::string> scores;  ///< NAME[:risk|confidence]; none: columns with signals' names
  std::string device_ok = "device_ok";
  std::string server_ok = "server_ok";
  route_column device_cost{"device_cost"};
  route_column server_cost{"server_cost"};
  route_column group{"group"};
  route_column scope{"scope"};
  route_column length{"length"};
  route_column split{"split"};
  double fit_share = -1;  ///< below 0: as the column splits, or `usual_share`
  double usual_share = 0.5;
  bool by_group = false;  ///< split and resample whole groups
  std::uint64_t seed = 1;
};

struct route_fit_options {
  route_columns columns;
  std::vector<std::string> signals;  ///< of a line through them; empty: a threshold on one score
  std::string promise;               ///< none, mean, probability
  double alpha = 0.1;
  double delta = 0.1;
  bool of_kept = false;        ///< risk among the queries that are kept
  bool after_prefill = false;  ///< when the signals were seen
  bool all_to_server = false;  ///< where nothing can be promised; else an error
  std::vector<float> grid;     ///< low, high; empty: the range of the signal
  double call_rate = -1;       ///< of no promise; below 0: the threshold that is right most often
  double budget = -1;          ///< share of the queries that may be sent; below 0: no limit
  std::size_t burst = 0;
  std::string domains;  ///< the space that domain_mismatch was measured in
  model_options model;
  std::vector<std::string> adapters;
  std::string pool;          ///< for adapters of any user, blended from it
  std::string server_model;  ///< empty: any
  std::string out;
};

struct route_eval_options {
  route_columns columns;
  double call_rate = -1;  ///< below 0: the threshold that is right most often
  std::size_t neighbours = 20;
  std::size_t draws = 1000;
  std::string svg;
};

result<void> run(const info_options& o, json& report);
result<void> run(const generate_options& o, json& report);
result<void> run(const logits_options& o, json& report);
result<void> run(const perplexity_options& o, json& report);
result<void> run(const blend_options& o, json& report);
result<void> run(const pool_options& o, json& report);
result<void> run(const pool_entry_options& o, json& report);
result<void> run(const pool_remove_options& o, json& report);
result<void> run(const pool_cores_options& o, json& report);
result<void> run(const pool_import_options& o, json& report);
result<void> run(const pool_tune_options& o, json& report);
result<void> run(const customize_options& o, json& report);
result<void> run(const ask_options& o, json& report);
result<void> run(const serve_options& o, json& report);
result<void> run(const route_eval_options& o, json& report);
result<void> run(const route_fit_options& o, json& report);
result<void> run(const route_domains_options& o, json& report);

}  // namespace crayon::cli
