// SPDX-License-Identifier: MIT
#include <crayon/train/batch.hpp>

#include <string>
#include <vector>

#include "../catch.hpp"

using namespace crayon;

namespace {

using token_ids = std::vector<std::int32_t>;

model::llama_config config() {
  model::llama_config c;
  c.vocab = 10;
  c.context = 4;
  return c;
}

std::string problem(const train::packed_batch& batch) {
  const auto checked = batch.check(config());
  return checked ? "" : checked.error().text;
}

}  // namespace

TEST_CASE("rows are scored on the next token where the completion begins", "[train]") {
  train::packed_batch batch;
  batch.add(token_ids{5, 6, 7, 8}, 2);
  batch.add(token_ids{1, 2}, std::vector<std::uint8_t>{1, 1});
  batch.add(token_ids{3}, 0);
  CHECK(token_ids(batch.inputs().begin(), batch.inputs().end()) == token_ids{5, 6, 7, 1});
  CHECK(token_ids(batch.targets().begin(), batch.targets().end()) ==
        token_ids{train::no_target, 7, 8, 2});
  CHECK(batch.loss_rows() == 3);
  CHECK(batch.sequences() == 3);
  const auto second = train::sequences_of(batch, 1, 3);
  CHECK(second.rows() == 1);
  CHECK(second.begin(0) == 0);
  CHECK(second.length(0) == 1);
  CHECK(second.length(1) == 0);
  CHECK(second.first_sequence == 1);
  batch.clear();
  CHECK(batch.rows() == 0);
  CHECK(batch.sequences() == 0);
}

TEST_CASE("what does not fit the model is named", "[train]") {
  train::packed_batch batch;
  CHECK(problem(batch) == "the batch has no scored token");
  batch.add(token_ids{1, 2, 3, 4, 5}, 1);
  CHECK(problem(batch).empty());
  batch.add(token_ids{1, 2, 3, 4, 5, 6}, 1);
  CHECK(problem(batch) == "sequence 1 has 5 positions, the context is 4");
  batch.clear();
  batch.add(token_ids{1, 10}, 1);
  CHECK(problem(batch) == "sequence 0 has token id 10, the vocabulary has 10");
  batch.clear();
  batch.add(token_ids{1, 2}, 1);
  batch.add(token_ids{-1, 2}, 1);
  CHECK(problem(batch) == "sequence 1 has token id -1, the vocabulary has 10");
  batch.clear();
  batch.add(token_ids{1, -1}, 1);
  CHECK(problem(batch) == "sequence 0 has token id -1, the vocabulary has 10");
}
