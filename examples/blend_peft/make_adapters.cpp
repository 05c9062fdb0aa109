// SPDX-License-Identifier: MIT
// Two adapters of a pool as PEFT directories: dates/ and numbers/.
#include <algorithm>
#include <cstddef>
#include <string>

#include <crayon/adapter/peft.hpp>
#include <crayon/adapter/pool_file.hpp>

int main() {
  const auto pool = crayon::adapter::load_pool<float>("pool.safetensors");
  if (!pool) return 1;
  const auto save = [&](const std::string& task, const std::string& directory) {
    const auto& names = pool->info().names;
    const auto slot =
        static_cast<std::size_t>(std::find(names.begin(), names.end(), task) - names.begin());
    if (slot == names.size()) return false;
    crayon::adapter::peft_info info;
    info.base_model = pool->info().base_model;
    info.base_hash = pool->info().base_hash;
    return bool{crayon::adapter::save_peft(directory, pool->extract(slot), info)};
  };
  return save("date/month day", "dates") && save("number/roman", "numbers") ? 0 : 1;
}
