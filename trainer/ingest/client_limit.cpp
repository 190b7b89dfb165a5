#include "trainer/ingest/client_limit.h"

#include <algorithm>

namespace stemfabric {

Client client_of(const std::array<uint8_t, 16>& ipv6) {
  constexpr std::array<uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  const bool ipv4 = std::equal(kMapped.begin(), kMapped.end(), ipv6.begin());
  const auto* first = ipv6.begin() + (ipv4 ? 12 : 0);
  Client client = 0;
  for (const auto* byte = first; byte != first + (ipv4 ? 4 : 8); ++byte) {
    client = client << 8 | *byte;
  }
  return client;
}

ClientLimit::ClientLimit(int64_t per_minute, std::size_t remembered)
    : interval_(Clock::duration(std::chrono::minutes(1)) / per_minute),
      tolerated_(interval_ * (per_minute - 1)),
      generation_(std::max<std::size_t>(remembered / 2, 1)) {}

std::optional<std::chrono::seconds> ClientLimit::take(Client client, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  const Clock::time_point full = std::max(full_at(client), now);
  const Clock::duration wait = full - now - tolerated_;
  const bool taken = wait <= Clock::duration::zero();
  if (!recent_.contains(client) && recent_.size() == generation_) {
    earlier_ = std::move(recent_);
    recent_.clear();
  }
  recent_[client] = taken ? full + interval_ : full;  // who is refused is not forgotten
  if (taken) {
    return std::nullopt;
  }
  return std::chrono::ceil<std::chrono::seconds>(wait);
}

std::size_t ClientLimit::remembered() const {
  const std::lock_guard lock(mutex_);
  return recent_.size() + earlier_.size();
}

ClientLimit::Clock::time_point ClientLimit::full_at(Client client) const {
  for (const auto* clients : {&recent_, &earlier_}) {
    if (const auto found = clients->find(client); found != clients->end()) {
      return found->second;
    }
  }
  return {};
}

}  // namespace stemfabric
