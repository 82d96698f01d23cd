#include "backburn/text/wordings.h"

#include <algorithm>
#include <string_view>

#include "backburn/base/error.h"
#include "backburn/base/rng.h"

namespace backburn::text {
namespace {

constexpr std::string_view prompts_place = "{}";
constexpr uint64_t wording_stream = 0x776f7264;

}  // namespace

std::pair<std::string, std::string> around_prompt(const std::string& text, const std::string& what) {
  const size_t place = text.find(prompts_place);
  if (place == std::string::npos) {
    fail_usage("the {} \"{}\" has no {} where the prompt goes", what, text, prompts_place);
  }
  return {text.substr(0, place), text.substr(place + prompts_place.size())};
}

std::string worded(const std::string& wording, const std::string& prompt) {
  const auto [before, behind] = around_prompt(wording, "wording");
  return before + prompt + behind;
}

std::vector<size_t> variants_of(size_t index, size_t count, double share, uint64_t seed, uint64_t share_stream,
                                uint64_t order_stream) {
  auto order = shuffled(count, seed, stream_of({order_stream, index}));
  const auto wanted = static_cast<size_t>(share + uniform(seed, share_stream, index));
  order.resize(std::min(wanted, order.size()));
  return order;
}

std::vector<std::string> reworded(const std::string& prompt, size_t index, const std::vector<std::string>& wordings,
                                  double share, uint64_t seed) {
  std::vector<std::string> texts;
  for (const size_t which : variants_of(index, wordings.size(), share, seed, wording_stream, wording_stream)) {
    texts.push_back(worded(wordings[which], prompt));
  }
  return texts;
}

}  // namespace backburn::text
