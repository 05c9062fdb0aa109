// SPDX-License-Identifier: MIT
#include <dirent.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <utility>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/io/file.hpp>
#include <crayon/serve/blend_service.hpp>
#include <crayon/serve/engine_generator.hpp>
#include <crayon/serve/http_server.hpp>

#include "commands.hpp"
#include "models.hpp"

namespace crayon::cli {
namespace {

using generator = serve::engine_generator<config>;
using shelf = generator::shelf_type;
using blend_service = serve::blend_service<adapter::pool<float>, backend>;

/// The directories of a folder that have an adapter_config.json, by name.
result<std::vector<std::string>> adapters_in(const std::string& folder) {
  DIR* open = ::opendir(folder.c_str());
  if (open == nullptr) return io::file_error("open", folder, errno);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(open)) {
    const std::string name = entry->d_name;
    const std::string file = folder + "/" + name + "/" + std::string(adapter::peft_config_name);
    if (!name.starts_with('.') && io::mapped_file::open(file)) names.push_back(name);
  }
  ::closedir(open);
  if (names.empty()) return error{errc::not_found, folder + ": no PEFT directories in it"};
  std::sort(names.begin(), names.end());
  return names;
}

/// The adapters that requests may name, and the one that `first` has now for all others.
result<std::shared_ptr<shelf>> fill_shelf(const serve_options& o, const device& first) {
  std::vector<adapter::lora_adapter<float>> adapters;
  std::vector<std::string> names;
  if (!o.adapter_folder.empty()) {
    CRAYON_TRY(names, adapters_in(o.adapter_folder));
    for (const auto& name : names) {
      const std::string path = o.adapter_folder + "/" + name;
      if (name == o.name || name == "blend") {
        return error{errc::bad_value, path + ": a model of that name is there already; --name " +
                                          "gives the base another"};
      }
      CRAYON_TRY(auto one, load_adapter(path, first.base().weights, first.base().hash));
      if (const auto fits = delta::bind(first.base().weights.config(), one.adapter); !fits) {
        return error{fits.error().code, path + ": " + fits.error().text};
      }
      adapters.push_back(std::move(one.adapter));
    }
  }
  shelf::shared own;
  if (first.blended() != nullptr) {
    own = std::make_shared<adapter::lora_adapter<float>>(*first.blended());
  }
  return shelf::make(std::move(adapters), std::move(names), std::move(own));
}

}  // namespace

result<void> run(const serve_options& o, json& report) {
  // Blocked before any thread starts, so that sigwait below is the one that sees them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);  // a client that has gone away

  CRAYON_TRY(device first, open_device(o.model, o.adapters, o.context));
  CRAYON_TRY(const auto known, fill_shelf(o, first));
  std::shared_ptr<const blend_service> blends;
  if (!o.pool.empty()) {
    CRAYON_TRY(auto pool, adapter::load_pool<float>(o.pool));
    auto made = blend_service::make(std::move(pool));
    if (!made) return error{made.error().code, o.pool + ": " + made.error().text};
    blends = std::make_shared<const blend_service>(*std::move(made));
  }
  std::vector<generator> generators;
  for (std::size_t i = 1; i < o.sessions; ++i) {
    generators.emplace_back(first.fork(std::make_shared<thread_pool>(1)), known);
  }
  if (o.sessions > 1) first = first.fork(std::make_shared<thread_pool>(1));
  generators.emplace_back(std::move(first), known);

  const auto milliseconds = [](double seconds) {
    return std::chrono::milliseconds(static_cast<std::int64_t>(1000 * seconds));
  };
  serve::server_options server_options;
  server_options.host = o.host;
  server_options.port = o.port;
  server_options.model = o.name;
  server_options.adapters = known->names();
  server_options.blends = !known->names().empty();
  server_options.queue = o.queue;
  server_options.limits.max_tokens = o.most_tokens;
  server_options.max_body_bytes = o.body_kb << 10;
  server_options.connections.read = milliseconds(o.read_timeout);
  server_options.connections.write = milliseconds(o.write_timeout);
  server_options.answer_timeout = milliseconds(o.timeout);
  server_options.grace = milliseconds(o.grace);
  serve::http_server<generator> server(server_options, std::move(generators));
  if (blends != nullptr) server.add_pool(blends);
  CRAYON_TRY(const std::uint16_t port, server.start());
  std::printf("http://%s:%u/v1\n", o.host.c_str(), unsigned{port});
  std::fflush(stdout);
  int received = 0;
  sigwait(&signals, &received);
  server.stop();
  report["host"] = o.host;
  report["port"] = port;
  report["adapters"] = known->names();
  report["stopped_by"] = received == SIGINT ? "SIGINT" : "SIGTERM";
  return {};
}

}  // namespace crayon::cli
