#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace backburn {

/// A uniform draw in [0, 1) with 24 bits, a pure function of its arguments: Philox4x32-10 (Salmon 2011, "Parallel
/// random numbers: as easy as 1, 2, 3"). `seed` is the key; `stream` and `counter` are the counter. No state, so a
/// draw does not depend on what was drawn before it or beside it.
float uniform(uint64_t seed, uint64_t stream, uint64_t counter);

/// 64 random bits of the same generator.
uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t counter);

/// Names a stream by several numbers (step, prompt, index): distinct tuples give unrelated streams.
uint64_t stream_of(std::initializer_list<uint64_t> parts);

/// The numbers 0 … count − 1 in an order that `seed` and `stream` decide.
std::vector<size_t> shuffled(size_t count, uint64_t seed, uint64_t stream);

}  // namespace backburn
