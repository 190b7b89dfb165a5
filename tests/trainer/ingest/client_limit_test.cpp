// The limit per client: what it takes and when, whom it knows, and how much it remembers.
#include "trainer/ingest/client_limit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace stemfabric {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Time = ClientLimit::Clock::time_point;
using testing::Optional;

const Time kStart = Time(seconds(1000));

TEST(ClientLimit, TakesABurstAndThenTheRate) {
  ClientLimit limit(4);  // a token every 15 s
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(limit.take(1, kStart), std::nullopt) << i;
  }
  EXPECT_THAT(limit.take(1, kStart), Optional(seconds(15)));
  EXPECT_THAT(limit.take(1, kStart + milliseconds(14500)), Optional(seconds(1)));
  EXPECT_EQ(limit.take(1, kStart + seconds(15)), std::nullopt);
  EXPECT_THAT(limit.take(1, kStart + seconds(15)), Optional(seconds(15)));
  // Refusals cost nothing, and the bucket holds no more than four, however long it fills.
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(limit.take(1, kStart + seconds(1000)), std::nullopt) << i;
  }
  EXPECT_THAT(limit.take(1, kStart + seconds(1000)), Optional(seconds(15)));
}

TEST(ClientLimit, EachClientHasItsOwn) {
  ClientLimit limit(1);
  EXPECT_EQ(limit.take(1, kStart), std::nullopt);
  EXPECT_THAT(limit.take(1, kStart), Optional(seconds(60)));
  EXPECT_EQ(limit.take(2, kStart), std::nullopt);
}

TEST(ClientLimit, RemembersOnlySoMany) {
  ClientLimit limit(1, 8);
  for (Client client = 1; client <= 1000; ++client) {
    EXPECT_EQ(limit.take(client, kStart), std::nullopt) << client;
    EXPECT_LE(limit.remembered(), 8U);
  }
  for (Client client = 997; client <= 1000; ++client) {  // the last ones in any case
    EXPECT_THAT(limit.take(client, kStart), Optional(seconds(60))) << client;
  }
  EXPECT_EQ(limit.take(1, kStart), std::nullopt);
}

TEST(ClientLimit, WhoSendsOnIsNotForgotten) {
  ClientLimit limit(100, 8);
  int taken = 0;
  for (Client other = 2; other < 500; ++other) {
    taken += limit.take(1, kStart) ? 0 : 1;
    limit.take(other, kStart);
  }
  EXPECT_EQ(taken, 100);
}

TEST(ClientLimit, Clients) {
  using Address = std::array<uint8_t, 16>;
  const Address v4 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
  Address neighbour = v4;
  neighbour.back() = 2;
  EXPECT_EQ(client_of(v4), 0xc0000201U);
  EXPECT_NE(client_of(neighbour), client_of(v4));
  const Address v6 = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8};
  Address same_network = v6;
  same_network[8] = 99;
  Address other_network = v6;
  other_network[7] = 8;
  EXPECT_EQ(client_of(v6), 0x20010db800000007U);
  EXPECT_EQ(client_of(same_network), client_of(v6));
  EXPECT_NE(client_of(other_network), client_of(v6));
}

}  // namespace
}  // namespace stemfabric
