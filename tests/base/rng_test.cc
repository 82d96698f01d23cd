#include "backburn/base/rng.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <set>

namespace backburn {
namespace {

using testing::IsEmpty;
using testing::UnorderedElementsAreArray;

// kat_vectors of Random123 (Salmon 2011): philox4x32, 10 rounds; the first two words of four.
TEST(Rng, IsPhilox) {
  EXPECT_EQ(random_bits(0, 0, 0), 0xe169c58d6627e8d5);
  const uint64_t ones = ~uint64_t{0};
  EXPECT_EQ(random_bits(ones, ones, ones), 0x41c83b0e408f276d);
  EXPECT_EQ(random_bits(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88), 0x94fdccebd16cfe09);
}

TEST(Rng, UniformsAreUniform) {
  EXPECT_EQ(uniform(0, 0, 0), static_cast<float>(0x6627e8) / 0x1p24F);
  double sum = 0, square = 0;
  for (uint64_t i = 0; i < 100'000; ++i) {
    const double u = uniform(5, 6, i);
    ASSERT_TRUE(u >= 0 && u < 1);
    sum += u / 1e5;
    square += u * u / 1e5;
  }
  EXPECT_NEAR(sum, 0.5, 0.004);  // four standard deviations
  EXPECT_NEAR(square, 1.0 / 3, 0.004);
}

TEST(Rng, StreamsOfDifferentNumbersDiffer) {
  std::set<uint64_t> streams = {stream_of({}), stream_of({0}), stream_of({0, 0}), stream_of({1, 2, 3})};
  for (uint64_t i = 1; i < 50; ++i) {
    for (uint64_t j = 1; j < 50; ++j) streams.insert(stream_of({i, j}));
  }
  EXPECT_EQ(streams.size(), 4 + 49 * 49);
  EXPECT_EQ(stream_of({4, 5}), stream_of({4, 5}));
}

TEST(Rng, ShufflesArePermutations) {
  std::vector<size_t> all(100);
  std::iota(all.begin(), all.end(), size_t{0});
  const auto order = shuffled(100, 1, 2);
  EXPECT_THAT(order, UnorderedElementsAreArray(all));
  EXPECT_NE(order, all);
  EXPECT_EQ(order, shuffled(100, 1, 2));
  EXPECT_NE(order, shuffled(100, 1, 3));
  EXPECT_NE(order, shuffled(100, 2, 2));
  EXPECT_THAT(shuffled(0, 1, 2), IsEmpty());
  // Every order of three comes up about as often.
  std::map<std::vector<size_t>, int> counts;
  for (uint64_t i = 0; i < 6000; ++i) ++counts[shuffled(3, 1, i)];
  ASSERT_EQ(counts.size(), 6);
  for (const auto& [each, count] : counts) EXPECT_NEAR(count, 1000, 120);
}

}  // namespace
}  // namespace backburn
