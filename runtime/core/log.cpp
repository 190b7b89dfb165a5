#include "runtime/core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>
#include <utility>

namespace stemfabric {
namespace {

LogFormat g_format = LogFormat::kText;
LogLevel g_level = LogLevel::kInfo;
std::string g_origin;

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

spdlog::logger& logger() {
  static const auto instance = [] {
    auto created = spdlog::stderr_color_mt("stemfabric");
    created->set_pattern("%H:%M:%S %^%l%$ %v");
    created->set_level(spdlog::level::debug);
    return created;
  }();
  return *instance;
}

}  // namespace

void set_log_level(LogLevel level) { g_level = level; }

void set_log_format(LogFormat format) {
  g_format = format;
  // In JSON the level and the message are encoded here, so that spdlog only adds the time.
  logger().set_pattern(format == LogFormat::kJson ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z",%v})"
                                                  : "%H:%M:%S %^%l%$ %v");
}

LogLevel log_level() { return g_level; }
LogFormat log_format() { return g_format; }

void set_log_origin(std::string origin) { g_origin = std::move(origin); }
const std::string& log_origin() { return g_origin; }

void log_message(LogLevel level, std::string_view text) {
  if (level < g_level) {
    return;
  }
  const std::string message =
      g_origin.empty() ? std::string(text) : fmt::format("{}: {}", g_origin, text);
  const auto spd = to_spdlog(level);
  if (g_format == LogFormat::kText) {
    logger().log(spd, "{}", message);
    return;
  }
  const auto name = spdlog::level::to_string_view(spd);
  const std::string quoted =
      nlohmann::json(message).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  logger().log(spd, R"("level":"{}","message":{})", std::string_view(name.data(), name.size()),
               quoted);
}

}  // namespace stemfabric
