#include "backburn/base/rng.h"

#include <array>
#include <numeric>
#include <utility>

namespace backburn {
namespace {

using Block = std::array<uint32_t, 4>;

Block philox(uint64_t seed, uint64_t stream, uint64_t counter) {
  Block x = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), static_cast<uint32_t>(stream),
             static_cast<uint32_t>(stream >> 32)};
  uint32_t key0 = static_cast<uint32_t>(seed);
  uint32_t key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * x[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * x[2];
    x = {static_cast<uint32_t>(product1 >> 32) ^ x[1] ^ key0, static_cast<uint32_t>(product1),
         static_cast<uint32_t>(product0 >> 32) ^ x[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return x;
}

}  // namespace

float uniform(uint64_t seed, uint64_t stream, uint64_t counter) {
  return static_cast<float>(philox(seed, stream, counter)[0] >> 8) * 0x1p-24F;
}

uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t counter) {
  const Block block = philox(seed, stream, counter);
  return (uint64_t{block[1]} << 32) | block[0];
}

uint64_t stream_of(std::initializer_list<uint64_t> parts) {
  // Chained through the generator itself, so that (1, 2) and (2, 1) differ as much as any two streams do.
  uint64_t stream = 0;
  for (const uint64_t part : parts) stream = random_bits(0x6261636b6275726e, stream, part);
  return stream;
}

std::vector<size_t> shuffled(size_t count, uint64_t seed, uint64_t stream) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  for (size_t i = count; i > 1; --i) std::swap(order[i - 1], order[random_bits(seed, stream, i) % i]);
  return order;
}

}  // namespace backburn
