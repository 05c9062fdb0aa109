// SPDX-License-Identifier: MIT
// All of crayon that needs the standard library alone. Not here, because they cost more:
// core/thread_pool.hpp, engine/hot_swap.hpp, the SIMD backends, files (io/, adapter/peft.hpp,
// adapter/pool_file.hpp, adapter/mapped_pool.hpp, model/load_llama.hpp, engine/open.hpp), train/,
// serve/, interop/, and what needs Eigen (blend/recompress.hpp, ties, dare, magnitude_prune,
// procrustes, error_report; match/discriminant, whitening, arrow, few_shot_search;
// router/fit_mahalanobis, engine/mahalanobis_distance, engine/arrow_task).
#pragma once

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/blend/activations.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/merge.hpp>
#include <crayon/blend/peft_linear.hpp>
#include <crayon/blend/peft_sparse.hpp>
#include <crayon/blend/promises.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/engine/config.hpp>
#include <crayon/engine/device_engine.hpp>
#include <crayon/engine/hybrid_engine.hpp>
#include <crayon/match/centroid.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/match/top_k.hpp>
#include <crayon/match/uniform.hpp>
#include <crayon/model/generate.hpp>
#include <crayon/model/llama.hpp>
#include <crayon/model/sampler.hpp>
#include <crayon/router/all_of.hpp>
#include <crayon/router/always.hpp>
#include <crayon/router/any_of.hpp>
#include <crayon/router/budgeted.hpp>
#include <crayon/router/chance.hpp>
#include <crayon/router/confidence.hpp>
#include <crayon/router/conformal_risk_control.hpp>
#include <crayon/router/decision_points.hpp>
#include <crayon/router/fit_learned.hpp>
#include <crayon/router/fixed_sequence.hpp>
#include <crayon/router/index_distance.hpp>
#include <crayon/router/learned.hpp>
#include <crayon/router/logit_signals.hpp>
#include <crayon/router/oracle.hpp>
#include <crayon/router/quantile_sketch.hpp>
#include <crayon/router/rules.hpp>
#include <crayon/router/scope.hpp>
#include <crayon/router/signals.hpp>
#include <crayon/router/threshold.hpp>
#include <crayon/simd/scalar.hpp>
#include <crayon/tokenizer/byte_tokenizer.hpp>
#include <crayon/tokenizer/llama2c_tokenizer.hpp>
#include <crayon/version.hpp>
