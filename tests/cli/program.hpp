// SPDX-License-Identifier: MIT
// Runs the crayon program in a directory of small files that were made for it.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include <crayon/adapter/peft.hpp>
#include <crayon/model/llama2c.hpp>
#include <crayon/tokenizer/llama2c_tokenizer.hpp>
#include <crayon/train/initialise.hpp>
#include <crayon/train/lora_factors.hpp>

#include "../catch.hpp"

namespace crayon::cli_test {

namespace fs = std::filesystem;

inline std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

struct outcome {
  int status = -1;
  std::string out;
  std::string err;
};

/// A directory of its own, removed at the end.
class workplace {
 public:
  workplace() {
    std::string name = (fs::temp_directory_path() / "crayon-cli-XXXXXX").string();
    root_ = ::mkdtemp(name.data());
    files_ = root_ / "files";
    fs::create_directory(files_);
  }
  ~workplace() { fs::remove_all(root_); }
  workplace(const workplace&) = delete;
  workplace& operator=(const workplace&) = delete;

  /// Where the program's files are; it runs there.
  [[nodiscard]] const fs::path& files() const { return files_; }
  [[nodiscard]] fs::path operator/(const std::string& name) const { return files_ / name; }

  /// `arguments` as a shell reads them.
  [[nodiscard]] outcome run(const std::string& arguments) const {
    const std::string line = "cd '" + files_.string() + "' && '" CRAYON_PROGRAM "' " + arguments +
                             " > ../out 2> ../err < /dev/null";
    const int status = std::system(line.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read(root_ / "out"), read(root_ / "err")};
  }

  /// Every file and its bytes.
  [[nodiscard]] std::map<std::string, std::string> snapshot() const {
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(files_)) {
      all[entry.path().string()] = entry.is_regular_file() ? read(entry.path()) : "";
    }
    return all;
  }

 private:
  fs::path root_;
  fs::path files_;
};

inline model::llama_config tiny_config() {
  model::llama_config c;
  c.dim = 16;
  c.hidden = 24;
  c.layers = 2;
  c.heads = 2;
  c.kv_heads = 1;
  c.head_dim = 8;
  c.vocab = 259;
  c.context = 64;
  return c;
}

/// <unk>, <s>, </s> and the bytes, and `more` pieces that no text has.
inline tokenizer::llama2c_tokenizer byte_pieces(std::size_t more = 0) {
  std::vector<tokenizer::scored_piece> pieces{{"<unk>", 0}, {"<s>", 0}, {"</s>", 0}};
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", byte);
    pieces.push_back({text, 0});
  }
  for (std::size_t i = 0; i < more; ++i) pieces.push_back({"\x01" + std::to_string(i), -1});
  return *tokenizer::llama2c_tokenizer::make(pieces);
}

inline adapter::lora_adapter<float> random_adapter(const model::llama_config& config,
                                                   std::uint64_t seed) {
  rng random(seed);
  constexpr std::array sites{model::projection::q, model::projection::down};
  auto made = train::initial_adapter(train::lora_shapes(config, 2, 4, sites), random);
  for (std::size_t i = 0; i < made.size(); ++i) {
    const auto b = made.b(i);
    for (std::size_t j = 0; j < b.size(); ++j) b.data[j] = 0.1F * random.normal();
  }
  return made;
}

/// model.bin, tokenizer.bin, adapter/, samples.jsonl
inline void make_files(const workplace& w) {
  rng random(1);
  const auto weights = train::initial_weights(tiny_config(), random, 0.2F);
  REQUIRE(model::write_llama2c((w / "model.bin").string(), weights));
  REQUIRE(byte_pieces().save((w / "tokenizer.bin").string()));
  adapter::peft_info info;
  info.base_model = "model.bin";
  info.base_hash = weights.hash();
  REQUIRE(adapter::save_peft((w / "adapter").string(), random_adapter(tiny_config(), 2), info));
  std::string samples;
  for (int i = 0; i < 40; ++i) {
    const std::string n = std::to_string(i);
    samples += R"({"prompt": ")" + std::string(i % 2 == 0 ? "next " : "twice ") + n +
               R"(", "completion": ")" + std::to_string(i % 2 == 0 ? i + 1 : 2 * i) +
               R"(", "task": ")" + (i % 2 == 0 ? "next" : "twice") + "\"}\n";
  }
  write(w / "samples.jsonl", samples);
}

}  // namespace crayon::cli_test
