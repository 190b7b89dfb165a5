#include "runtime/collectives/mpi_transport.h"

#include <dlfcn.h>
#include <fmt/core.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <vector>

#include "runtime/collectives/mpi_functions.h"
#include "runtime/core/check.h"

namespace stemfabric {
namespace {

const MpiFunctions* g_mpi = nullptr;  // set once MPI is initialised

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// A rank or a number of ranks.
int number(const char* name, int least) {
  const std::string text = variable(name);
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least) {
    throw DeviceError(
        "the environment variable {} is '{}', which is no number of a rank; start "
        "the ranks with mpirun or srun",
        name, text);
  }
  return value;
}

RankEnvironment from(const char* launcher, const char* size, const char* rank,
                     const char* local_rank) {
  RankEnvironment found{.size = number(size, 1),
                        .rank = number(rank, 0),
                        .local_rank = variable(local_rank).empty() ? 0 : number(local_rank, 0),
                        .launcher = launcher};
  found.variables = fmt::format("{}={} {}={}", size, found.size, rank, found.rank);
  if (found.rank >= found.size) {
    throw DeviceError("{}: there is no such rank; start the ranks with mpirun or srun",
                      found.variables);
  }
  return found;
}

void check_mpi(int code, const char* what) {
  if (code != 0) {
    std::array<char, 256> text{};
    g_mpi->error_text(code, text.data(), text.size());
    throw CollectiveError("MPI: {} failed: {}", what, text.data());
  }
}

int as_int(int64_t n, const char* what) {
  if (n > std::numeric_limits<int>::max()) {
    // Comes again in every run of this size: no CollectiveError, after which one may try again.
    throw DeviceError("MPI: {} of {} bytes or elements: more than 2^31 - 1, which MPI counts to",
                      what, n);
  }
  return static_cast<int>(n);
}

MpiType mpi_type(DType type) {
  switch (type) {
    case DType::kF32:
      return MpiType::kFloat;
    case DType::kF64:
      return MpiType::kDouble;
    case DType::kI64:
      return MpiType::kInt64;
    default:
      throw InternalError("sums over ranks of {}", dtype_name(type));
  }
}

// Sizes and offsets of segments that follow each other.
struct Layout {
  std::vector<int> bytes, at;
  Layout(std::span<const int64_t> sizes, const char* what) {
    int64_t end = 0;
    for (const int64_t size : sizes) {
      bytes.push_back(as_int(size, what));
      at.push_back(as_int(end, what));
      end += size;
    }
  }
};

class MpiTransport final : public Transport {
 public:
  MpiTransport(int rank, int size)
      : rank_(rank), size_(size), heard_(static_cast<std::size_t>(size), -1) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Request all_reduce(void* data, int64_t elements, DType type) override {
    void* request = nullptr;
    check_mpi(g_mpi->all_reduce(data, as_int(elements, "all-reduce"), mpi_type(type), &request),
              "all-reduce");
    return request;
  }

  Request exchange(const void* send, std::span<const int64_t> bytes, void* receive) override {
    const std::vector<int64_t> mine(static_cast<std::size_t>(size_),
                                    bytes[static_cast<std::size_t>(rank_)]);
    auto kept = std::make_unique<Kept>(Layout(bytes, "exchange"), Layout(mine, "exchange"));
    return start(std::move(kept), "exchange", [&](const Kept& layouts, void** request) {
      return g_mpi->exchange(send, layouts.send.bytes.data(), layouts.send.at.data(), receive,
                             layouts.receive.bytes.data(), layouts.receive.at.data(), request);
    });
  }

  Request all_gather(void* data, std::span<const int64_t> bytes) override {
    auto kept = std::make_unique<Kept>(Layout({}, ""), Layout(bytes, "all-gather"));
    return start(std::move(kept), "all-gather", [&](const Kept& layouts, void** request) {
      return g_mpi->all_gather(data, layouts.receive.bytes.data(), layouts.receive.at.data(),
                               request);
    });
  }

  Request broadcast(void* data, int64_t bytes) override {
    void* request = nullptr;
    check_mpi(g_mpi->broadcast(data, as_int(bytes, "broadcast"), &request), "broadcast");
    return request;
  }

  bool test(Request request) override {
    int done = 0;
    check_mpi(g_mpi->test(request, &done), "a collective");
    if (done != 0) {
      std::erase_if(kept_, [&](const auto& entry) { return entry.first == request; });
    }
    return done != 0;
  }

  void tell(int64_t sequence) override {
    for (int r = 0; r < size_; ++r) {
      if (r != rank_) {
        check_mpi(g_mpi->tell(r, sequence), "telling a rank");
      }
    }
  }

  int64_t heard(int rank) override {
    for (int more = 1; more != 0;) {
      int from = 0;
      int64_t value = 0;
      check_mpi(g_mpi->hear(&from, &value, &more), "hearing a rank");
      if (more != 0) {
        int64_t& last = heard_[static_cast<std::size_t>(from)];
        last = std::max(last, value);
      }
    }
    return heard_[static_cast<std::size_t>(rank)];
  }

 private:
  // MPI may read sizes and offsets until the operation is done.
  struct Kept {
    Layout send, receive;
  };
  template <typename Call>
  Request start(std::unique_ptr<Kept> layouts, const char* what, const Call& call) {
    void* request = nullptr;
    check_mpi(call(*layouts, &request), what);
    kept_.emplace_back(request, std::move(layouts));
    return request;
  }

  int rank_, size_;
  std::vector<int64_t> heard_;
  std::vector<std::pair<Request, std::unique_ptr<Kept>>> kept_;
};

const MpiFunctions& load_module(const RankEnvironment& environment) {
#if SF_HAVE_MPI
  // Open MPI loads plugins of its own, which find its symbols in the whole process.
  void* module = ::dlopen(kMpiModule, RTLD_NOW | RTLD_GLOBAL);
  auto* entry = module == nullptr ? nullptr : ::dlsym(module, kMpiSymbol);
  if (entry == nullptr) {
    const char* reason = ::dlerror();
    throw DeviceError(
        "{} started {} ranks ({}), but MPI cannot be loaded: {}; install Open MPI 4 (on Debian: "
        "openmpi-bin), or start one process",
        environment.launcher, environment.size, environment.variables,
        reason == nullptr ? "unknown reason" : reason);
  }
  return *reinterpret_cast<MpiEntry>(entry)();
#else
  throw DeviceError(
      "{} started {} ranks ({}), but this build has no MPI: build with -DSTEMFABRIC_MPI=ON (on "
      "Debian: libopenmpi-dev), or start one process",
      environment.launcher, environment.size, environment.variables);
#endif
}

}  // namespace

RankEnvironment rank_environment() {
  if (!variable("OMPI_COMM_WORLD_SIZE").empty()) {
    return from("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK",
                "OMPI_COMM_WORLD_LOCAL_RANK");
  }
  if (!variable("SLURM_STEP_ID").empty() && !variable("SLURM_STEP_NUM_TASKS").empty()) {
    return from("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID");
  }
  return {};
}

std::unique_ptr<Transport> join_ranks() {
  SF_CHECK(g_mpi == nullptr, "the ranks were joined before");
  const RankEnvironment environment = rank_environment();
  if (environment.size == 1) {
    return nullptr;
  }
  const MpiFunctions& mpi = load_module(environment);
  int rank = 0;
  int size = 0;
  if (const int code = mpi.initialise(&rank, &size); code != 0) {
    throw DeviceError(
        "{} started {} ranks ({}), but MPI does not start: error {}; see what it printed before",
        environment.launcher, environment.size, environment.variables, code);
  }
  g_mpi = &mpi;
  if (size != environment.size) {
    throw DeviceError(
        "{} started {} ranks ({}), but MPI sees {}: it was not told of the others; use the mpirun "
        "of {}, or srun --mpi=pmix",
        environment.launcher, environment.size, environment.variables, size, mpi_library());
  }
  return std::make_unique<MpiTransport>(rank, size);
}

std::string mpi_library() {
  if (g_mpi == nullptr) {
    return {};
  }
  std::array<char, 256> text{};
  g_mpi->library(text.data(), text.size());
  return text.data();
}

void leave_ranks(int status, bool in_order) {
  if (g_mpi == nullptr) {
    return;
  }
  const MpiFunctions& mpi = *g_mpi;
  g_mpi = nullptr;
  if (in_order) {
    mpi.finalise();
  } else {
    mpi.abort_all(status);
  }
}

}  // namespace stemfabric
