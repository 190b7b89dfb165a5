#include "trainer/doctor/doctor.h"

#include <fmt/core.h>
#include <simdjson.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/collectives/nccl_functions.h"
#include "runtime/core/check.h"
#include "runtime/core/library_versions.h"
#include "runtime/device/cudnn_graph.h"
#include "runtime/device/device.h"
#include "runtime/device/device_choice.h"
#include "trainer/doctor/self_test.h"
#include "trainer/version.h"

namespace stemfabric {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

std::string gib(double bytes) { return fmt::format("{:.1f} GiB", bytes / kGiB); }

// "MemAvailable:   12345 kB" of /proc/meminfo in bytes; 0 if there is none.
double available_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string key;
    double kib = 0;
    if (words >> key >> kib && key == "MemAvailable:") {
      return kib * 1024.0;
    }
  }
  return 0;
}

Finding examine_cpu() {
  const DeviceInfo cpu = list_devices().front();
  Finding finding{"cpu", FindingStatus::kOk,
                  fmt::format("{}, {}, {} thread{}", cpu.name, cpu.capability, cpu.processors,
                              cpu.processors == 1 ? "" : "s"),
                  ""};
  if (cpu.capability == "SSE2" || cpu.capability == "generic") {
    finding.status = FindingStatus::kWarning;
    finding.advice = "training will be several times slower than on a CPU with AVX2 or AVX-512";
  }
  return finding;
}

Finding examine_memory() {
  const double total = static_cast<double>(list_devices().front().memory_bytes);
  const double available = available_memory();
  Finding finding{"memory", FindingStatus::kOk,
                  fmt::format("{} available of {}", gib(available), gib(total)), ""};
  if (available > 0 && available < 0.5 * kGiB) {
    finding.status = FindingStatus::kWarning;
    finding.advice =
        "training the default model takes about 0.3 GiB: close programs or lower "
        "training.batch_size";
  }
  return finding;
}

Finding examine_cuda() {
  const std::string reason = cuda_unavailable_reason();
  if (!reason.empty()) {
    return {"cuda", FindingStatus::kNote, "not usable: " + reason,
            "everything runs on the CPU meanwhile (training.device: cpu)"};
  }
  std::string gpus;
  const DeviceSurvey survey = survey_devices();
  for (const DeviceInfo& device : survey.devices) {
    if (device.device.kind == DeviceKind::kCuda) {
      gpus += (gpus.empty() ? "" : "; ") + describe_device(device);
    }
  }
  try {
    choose_device("cuda", "device", survey);
  } catch (const DeviceError& error) {
    return {"cuda", FindingStatus::kWarning, gpus + ": " + error.what(),
            "build with -DCMAKE_CUDA_ARCHITECTURES for this GPU, or use training.device: cpu"};
  }
  return {"cuda", FindingStatus::kOk, gpus, ""};
}

Finding examine_nccl() {
#if SF_HAVE_NCCL
  try {
    return {"nccl", FindingStatus::kNote,
            fmt::format("{}: ranks of train can have a GPU each (docs/scaling.md); no release has "
                        "run so on GPUs yet",
                        nccl_version()),
            ""};
  } catch (const DeviceError& error) {
    return {"nccl", FindingStatus::kNote, error.what(), "only training on several GPUs needs it"};
  }
#else
  return {"nccl", FindingStatus::kNote, "not in this build",
          "only training on several GPUs needs it"};
#endif
}

Finding examine_cudnn() {
  try {
    return {"cudnn", FindingStatus::kNote,
            fmt::format("{}: softmax attention in bf16 on a GPU (docs/gpu.md); no release has run "
                        "so on GPUs yet",
                        cuda::cudnn_version()),
            ""};
  } catch (const DeviceError& error) {
    return {"cudnn", FindingStatus::kNote, error.what(),
            "only softmax attention in bf16 would use it"};
  }
}

Finding examine_mpi() {
#if SF_HAVE_MPI
  return {"mpi", FindingStatus::kOk, "in this build: train runs on several ranks (docs/scaling.md)",
          ""};
#else
  return {"mpi", FindingStatus::kNote, "not in this build",
          "only training on several ranks needs it"};
#endif
}

Finding examine_libraries() {
  std::string text;
  auto libraries = runtime_library_versions();
  libraries.push_back({"yaml-cpp", SF_YAML_CPP_VERSION});
  libraries.push_back({"simdjson", fmt::format("{}.{}.{} ({})", simdjson::SIMDJSON_VERSION_MAJOR,
                                               simdjson::SIMDJSON_VERSION_MINOR,
                                               simdjson::SIMDJSON_VERSION_REVISION,
                                               simdjson::get_active_implementation()->name())});
  libraries.push_back({"Highway", SF_HIGHWAY_VERSION});
  for (const auto& library : libraries) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", library.name, library.version);
  }
  return {"libraries", FindingStatus::kOk, text, ""};
}

Finding examine_open_files() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return {"open files", FindingStatus::kWarning, "the limit could not be read", ""};
  }
  Finding finding{"open files", FindingStatus::kOk,
                  fmt::format("limit {} (at most {})", limit.rlim_cur, limit.rlim_max), ""};
  constexpr rlim_t kComfortable = 256;
  if (limit.rlim_cur < kComfortable) {
    finding.status = FindingStatus::kWarning;
    finding.advice = fmt::format("data sets of many shards need more: ulimit -n {}",
                                 std::min<rlim_t>(4096, limit.rlim_max));
  }
  return finding;
}

Finding examine_directory(const std::string& name, const std::filesystem::path& path) {
  Finding finding{name, FindingStatus::kOk, path.string(), ""};
  std::string probe = (path / ".stemfabric-doctor-XXXXXX").string();
  const int file = mkstemp(probe.data());
  if (file < 0) {
    finding.status = FindingStatus::kWarning;
    finding.text += fmt::format(": not writable ({})", std::strerror(errno));
    finding.advice = "give --output-dir a folder that you may write to";
    return finding;
  }
  close(file);
  unlink(probe.c_str());
  struct statvfs disk {};
  if (statvfs(path.c_str(), &disk) == 0) {
    const double free = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
    finding.text += fmt::format(": writable, {} free", gib(free));
    if (free < kGiB) {
      finding.status = FindingStatus::kWarning;
      finding.advice = "checkpoints of the default model take 56 MiB each: make room";
    }
  }
  return finding;
}

Finding run_self_test(const SelfTest& test) {
  const std::string problem = test.run();
  return {test.name + " self-test", problem.empty() ? FindingStatus::kOk : FindingStatus::kFailure,
          problem.empty() ? test.what : problem,
          problem.empty() ? "" : "do not trust results of this installation; please report this"};
}

Finding guarded(const std::string& name, const std::function<Finding()>& check) {
  try {
    return check();
  } catch (const std::exception& error) {
    return {name, FindingStatus::kFailure, error.what(), "please report this as a bug"};
  }
}

}  // namespace

std::string_view finding_status_name(FindingStatus status) {
  switch (status) {
    case FindingStatus::kOk:
      return "ok";
    case FindingStatus::kNote:
      return "note";
    case FindingStatus::kWarning:
      return "warning";
    case FindingStatus::kFailure:
      return "failure";
  }
  return "unknown";
}

std::vector<Finding> examine_installation() {
  std::vector<Finding> findings = {
      guarded("cpu", examine_cpu),
      guarded("memory", examine_memory),
      guarded("cuda", examine_cuda),
      guarded("nccl", examine_nccl),
      guarded("cudnn", examine_cudnn),
      guarded("mpi", examine_mpi),
      guarded("libraries", examine_libraries),
      guarded("open files", examine_open_files),
      guarded("current folder",
              [] { return examine_directory("current folder", std::filesystem::current_path()); }),
      guarded("temporary folder",
              [] {
                return examine_directory("temporary folder",
                                         std::filesystem::temp_directory_path());
              }),
  };
  for (const SelfTest& test : self_tests()) {
    findings.push_back(guarded(test.name + " self-test", [&] { return run_self_test(test); }));
  }
  return findings;
}

bool essentials_work(const std::vector<Finding>& findings) {
  return std::none_of(findings.begin(), findings.end(), [](const Finding& finding) {
    return finding.status == FindingStatus::kFailure;
  });
}

std::string findings_to_json(const std::vector<Finding>& findings) {
  nlohmann::ordered_json checks = nlohmann::ordered_json::array();
  for (const Finding& finding : findings) {
    checks.push_back({{"name", finding.name},
                      {"status", finding_status_name(finding.status)},
                      {"text", finding.text},
                      {"advice", finding.advice}});
  }
  const nlohmann::ordered_json json = {{"version", version()},
                                       {"revision", code_revision()},
                                       {"ok", essentials_work(findings)},
                                       {"checks", checks}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace stemfabric
