#include "trainer/training/ranks.h"

#include <fmt/core.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/device/device.h"
#include "runtime/io/file.h"
#include "runtime/memory/host_access.h"

namespace stemfabric {
namespace {

using Json = nlohmann::json;

std::string machine() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return host.data();
}

// The machine and the cores of it that this process may use, as one text.
std::string cores_of_process() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::string cores;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      cores += CPU_ISSET(core, &set) ? fmt::format(" {}", core) : "";
    }
  }
  return machine() + cores;
}

// The configuration without what each rank may have of its own.
std::string common_config(const RunIdentity& identity) {
  Json json = Json::parse(identity.config_json);
  json["training"].erase("threads");
  json["training"].erase("init_from");
  json["data"].erase("dataset_dir");
  return json.dump();
}

void collect_differences(const Json& first, const Json& other, const std::string& prefix,
                         std::string& text) {
  for (const auto& [key, value] : first.items()) {
    const std::string name = prefix.empty() ? key : prefix + "." + key;
    const Json there = other.contains(key) ? other[key] : Json();
    if (value.is_object() && there.is_object()) {
      collect_differences(value, there, name, text);
    } else if (value != there) {
      text += fmt::format("; {} is {} on rank 0 and {} there", name, value.dump(), there.dump());
    }
  }
}

// The hashes of one thing by rank, all equal; else a ConfigError.
void require_equal(const char* thing, const std::vector<std::string>& hashes,
                   const std::vector<std::string>& configs) {
  for (std::size_t r = 1; r < hashes.size(); ++r) {
    if (hashes[r] == hashes[0]) {
      continue;
    }
    std::string keys;
    if (!configs.empty()) {
      collect_differences(Json::parse(configs[0]), Json::parse(configs[r]), "", keys);
    }
    throw ConfigError(
        "the ranks do not train the same thing: {} of rank {} has the hash {:.16}, that of rank 0 "
        "{:.16}{}; start all ranks with the same program, options, configuration and data set",
        thing, r, hashes[r], hashes[0], keys);
  }
}

std::string hash_of(const ExecutionContext& ctx, const ConstTensorView& of_context) {
  const HostView host(ctx, of_context);
  const ConstTensorView tensor = host.view();
  Sha256 hash;
  hash.update(std::span(static_cast<const std::byte*>(tensor.data()), tensor.bytes()));
  return hash.hex();
}

}  // namespace

void on_every_rank(Collectives& ranks, const std::function<void()>& work) {
  std::exception_ptr error;
  std::string text;
  try {
    work();
  } catch (const std::exception& thrown) {
    error = std::current_exception();
    text = thrown.what();
  }
  std::optional<Collectives::Failure> failure;
  if (!ranks.alone()) {
    try {
      failure = ranks.agree_on_failure(text);
    } catch (const CollectiveError&) {
      if (!error) {  // one's own error says more
        throw;
      }
    }
  }
  if (error) {
    std::rethrow_exception(error);
  }
  if (failure) {
    throw CollectiveError("rank {} cannot go on", failure->first);
  }
}

int64_t threads_of_rank(Collectives& ranks, int64_t configured) {
  if (ranks.alone()) {
    return configured;
  }
  // Every rank asks, whatever it has configured: the others may have left it open.
  const std::string mine = cores_of_process();
  const auto all = ranks.all_gather(mine, "cores of each rank");
  const auto sharing = std::ranges::count(all, mine);
  return configured > 0 ? configured : std::max<int64_t>(1, available_cores() / sharing);
}

void require_own_devices(Collectives& ranks, const DeviceInfo& mine) {
  if (ranks.alone()) {
    return;
  }
  const bool on_gpu = mine.device.kind == DeviceKind::kCuda;
  const auto all = ranks.all_gather(
      on_gpu ? fmt::format("{} {} {}", machine(), mine.device.to_string(), mine.id) : "",
      "device of each rank");
  on_every_rank(ranks, [&] {
    for (std::size_t r = 1; r < all.size(); ++r) {
      if (all[r].empty() != all[0].empty()) {
        throw DeviceError(
            "training.device: rank 0 computes on {}, rank {} on {}: start ranks only where there "
            "is a GPU for each, or use --device cpu",
            all[0].empty() ? "a CPU" : "a GPU", r, all[r].empty() ? "a CPU" : "a GPU");
      }
      const auto here = all.begin() + static_cast<std::ptrdiff_t>(r);
      const auto same = std::find(all.begin(), here, all[r]);
      if (on_gpu && same != here) {
        throw DeviceError(
            "training.device: ranks {} and {} have the same GPU ({}): start at most as many ranks "
            "on a machine as it has GPUs, or use --device cpu",
            same - all.begin(), r, all[r]);
      }
    }
  });
}

void require_equal_ranks(const ExecutionContext& ctx, Collectives& ranks,
                         const RunIdentity& identity, const ConstTensorView& weights) {
  if (ranks.alone()) {
    return;
  }
  const auto configs = ranks.all_gather(common_config(identity), "configuration of each rank");
  std::vector<std::string> hashes;
  std::ranges::transform(configs, std::back_inserter(hashes), sha256_hex);
  const auto data = ranks.all_gather(identity.data_hash, "data hash of each rank");
  const auto parameters =
      ranks.all_gather(hash_of(ctx, weights), "initial parameters of each rank");
  on_every_rank(ranks, [&] {
    require_equal("the configuration", hashes, configs);
    require_equal("the data set", data, {});
    require_equal("the set of initial parameters", parameters, {});
  });
}

void require_equal_results(const ExecutionContext& ctx, Collectives& ranks,
                           const ConstTensorView& weights, const TrainingState& state) {
  if (ranks.alone()) {
    return;
  }
  const std::string mine = fmt::format(
      "weights {:.16}, learning rate {}, epochs without progress {}", hash_of(ctx, weights),
      state.schedule.lr, state.early_stopping.epochs_without_progress);
  const auto all = ranks.all_gather(mine, "weights and decisions of each rank");
  on_every_rank(ranks, [&] {
    for (std::size_t r = 1; r < all.size(); ++r) {
      if (all[r] != all[0]) {
        throw InternalError(
            "after step {} rank {} has {}, and rank 0 has {}; ranks of one run must not differ: "
            "are their machines of one kind? The last checkpoint is whole",
            state.step, r, all[r], all[0]);
      }
    }
  });
}

void broadcast(const ExecutionContext& ctx, Collectives& ranks, const TensorView& tensor,
               const std::string& what) {
  SF_CHECK(tensor.contiguous(), "broadcast of '{}', which is not contiguous", what);
  write_on_host(ctx, tensor, [&](const TensorView& host) {
    if (!ctx.is_cpu() && ranks.first()) {
      copy_to_host(ctx, host.data(), tensor);
    }
    ranks.broadcast(std::span(static_cast<std::byte*>(host.data()), host.bytes()), what);
  });
}

}  // namespace stemfabric
