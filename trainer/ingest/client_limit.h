// How many snapshots one client may send: a bucket of tokens for each address, full at first, that
// is filled again by as many a minute. Addresses are kept in memory alone, and only so many.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

namespace stemfabric {

// Who shares a bucket: an IPv4 address (also if it is written as IPv6, ::ffff:1.2.3.4), or the
// first 64 bits of an IPv6 address, which one household has.
using Client = uint64_t;
Client client_of(const std::array<uint8_t, 16>& ipv6);

class ClientLimit {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::size_t kRemembered = 65536;

  // per_minute > 0. Of more clients than `remembered`, those are forgotten that sent nothing for
  // the longest time; their buckets are full when they come again.
  explicit ClientLimit(int64_t per_minute, std::size_t remembered = kRemembered);

  // Takes a token, or says how long it is until there is one. From any thread.
  std::optional<std::chrono::seconds> take(Client client, Clock::time_point now);

  std::size_t remembered() const;

 private:
  Clock::time_point full_at(Client client) const;

  const Clock::duration interval_;  // one token's
  const Clock::duration tolerated_;
  const std::size_t generation_;
  mutable std::mutex mutex_;
  // When a client's bucket is full again. What is not among the recent ones when these are
  // `generation_` is forgotten.
  std::map<Client, Clock::time_point> recent_, earlier_;
};

}  // namespace stemfabric
