#include "backburn/generate/rollout.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "backburn/base/cancel.h"
#include "backburn/base/error.h"
#include "backburn/base/phases.h"
#include "backburn/base/rng.h"
#include "backburn/model/common_beginning.h"

namespace backburn::generate {
namespace {

// An answer that is being decoded.
struct Answer {
  int64_t index = 0;  // within its group
  uint64_t stream = 0;
};

// The answers of a group that have said the same so far: what comes next is computed once for all of them. A model that
// gives one refusal to everything needs one row a prompt.
struct Row {
  size_t request = 0;
  std::vector<Answer> answers;
};

constexpr int64_t least_prefill = 8;      // prompts that are prefilled together, where there are as many
constexpr int64_t prefill_tokens = 1024;  // … and their tokens, at the most (a longer prompt goes alone)

// Neighbouring requests' prompts, kept until all their answers have a row. What all of them begin with (the chat
// template's system message) is computed once.
struct Prefill {
  size_t first = 0, count = 0;  // requests
  int64_t shared = 0;           // tokens that all prompts begin with
  std::vector<int64_t> begins;  // first token of each prompt's own part, and the end
  std::vector<model::LayerKeyValues> key_values;
  at::Tensor states;   // [count, hidden], before the first token of an answer
  at::Tensor logits;   // [count, vocab], of that token
  size_t current = 0;  // the request whose answers are being admitted, and how many of them were
  int64_t admitted = 0;

  // Where the current request's keys and values are.
  std::vector<model::TokenRange> ranges() const {
    return {{0, shared}, {begins[current], begins[current + 1] - begins[current]}};
  }
};

// Tokens that all prompts begin with; the last token is always a prompt's own, since its state predicts.
int64_t shared_beginning(std::span<const RolloutRequest> requests) {
  const auto& first = requests.front().prompt;
  size_t shared = first.size() - 1;
  for (const RolloutRequest& request : requests) {
    shared = model::common_beginning(first, request.prompt, std::min(shared, request.prompt.size() - 1));
  }
  return static_cast<int64_t>(shared);
}

// Notes where the next pass puts the tokens of these prompts.
void record_prompts(RolloutRecord& record, const Prefill& prefill) {
  const int64_t begin = record.activations.used;
  for (size_t i = 0; i < prefill.count; ++i) {
    auto& rows = record.prompt_rows.emplace_back();
    for (int64_t at = 0; at < prefill.shared; ++at) rows.push_back(begin + at);
    for (int64_t at = prefill.begins[i]; at < prefill.begins[i + 1]; ++at) rows.push_back(begin + at);
  }
}

Prefill prefill(const model::Network& network, std::span<const RolloutRequest> all, size_t first, size_t count,
                RolloutRecord* record) {
  const Phase phase("prefill");
  const auto requests = all.subspan(first, count);
  Prefill result;
  result.first = first;
  result.count = count;
  result.shared = shared_beginning(requests);
  model::TokenTree tree{{requests[0].prompt.begin(), requests[0].prompt.begin() + result.shared}, {}};
  int64_t at = result.shared;
  for (const RolloutRequest& request : requests) {
    tree.branches.emplace_back(request.prompt.begin() + result.shared, request.prompt.end());
    result.begins.push_back(at);
    at += static_cast<int64_t>(tree.branches.back().size());
  }
  result.begins.push_back(at);
  if (record != nullptr) record_prompts(*record, result);
  const auto tokens = model::pack({&tree, 1});
  const auto hidden = record == nullptr ? hidden_states(network, tokens, &result.key_values)
                                        : hidden_states(network, tokens, &result.key_values, record->activations);
  std::vector<int64_t> last;
  for (size_t i = 1; i < result.begins.size(); ++i) last.push_back(result.begins[i] - 1);
  result.states = hidden.index_select(0, at::tensor(last, at::kLong).to(hidden.device()));
  result.logits = logits(network, result.states);
  return result;
}

class Rollout {
 public:
  Rollout(const model::Network& network, std::span<const RolloutRequest> requests, const RolloutOptions& options,
          RolloutRecord* record)
      : network_(network), requests_(requests), options_(options), record_(record), completions_(requests.size()) {
    int64_t longest = 0;
    int64_t total = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
      if (requests[i].prompt.empty()) fail("rollout: request {} has an empty prompt", i);
      longest = std::max(longest, static_cast<int64_t>(requests[i].prompt.size()));
      total += requests[i].num_generations;
      completions_[i].resize(requests[i].num_generations);
    }
    const int64_t capacity = longest + options.max_completion_length;
    if (capacity > network.config->max_position_embeddings) {
      fail(
          "the longest prompt ({} tokens) and max_completion_length ({}) exceed the model's context of {} tokens; "
          "shorten the prompt or lower max_completion_length",
          longest, options.max_completion_length, network.config->max_position_embeddings);
    }
    max_rows_ = std::max<int64_t>(1, std::min(options.max_rows, total));
    cache_ = model::KeyValueCache::allocate(*network.config, max_rows_, capacity, network.options());
  }

  std::vector<std::vector<Completion>> run(const std::function<void(int64_t)>& on_finished) {
    while (true) {
      throw_if_stopped();
      int64_t finished = admit();
      if (rows_.empty() && next_request_ == requests_.size() && !has_waiting()) {
        if (on_finished && finished > 0) on_finished(finished);
        return std::move(completions_);
      }
      if (!rows_.empty()) finished += decode();
      if (on_finished && finished > 0) on_finished(finished);
    }
  }

 private:
  bool has_waiting() const { return waiting_.current < waiting_.count; }

  // The next requests, as many as free places can take and some more.
  void prefill_next() {
    const int64_t wanted = std::max(max_rows_ - answers_, least_prefill);
    size_t count = 0;
    int64_t answers = 0;
    int64_t tokens = 0;
    while (next_request_ + count < requests_.size() && answers < wanted) {
      const RolloutRequest& request = requests_[next_request_ + count];
      tokens += static_cast<int64_t>(request.prompt.size());
      if (count > 0 && tokens > prefill_tokens) break;
      answers += request.num_generations;
      ++count;
    }
    waiting_ = prefill(network_, requests_, next_request_, count, record_);
    next_request_ += count;
  }

  // Gives free places to waiting answers; draws the first token of each from its prompt's prefill.
  int64_t admit() {
    int64_t finished = 0;
    while (answers_ < max_rows_) {
      if (!has_waiting()) {
        if (next_request_ == requests_.size()) break;
        prefill_next();
        continue;
      }
      const size_t which = waiting_.first + waiting_.current;
      const RolloutRequest& request = requests_[which];
      if (waiting_.admitted == request.num_generations) {
        ++waiting_.current;
        waiting_.admitted = 0;
        continue;
      }
      const int64_t index = waiting_.admitted++;
      const Answer answer{index, stream_of({request.stream, static_cast<uint64_t>(index)})};
      const auto place = static_cast<int64_t>(waiting_.current);
      const auto first_logits = waiting_.logits.narrow(0, place, 1);
      const float draw = uniform(options_.seed, answer.stream, 0);
      const SampledToken token = sample(first_logits, {&draw, 1}, options_.sampling).front();
      if (append(which, answer, token, waiting_.states, place)) {
        ++finished;
        continue;
      }
      ++answers_;
      const auto same = std::find_if(rows_.begin(), rows_.end(), [&](const Row& row) {
        const auto& said = so_far(row);
        return row.request == which && said.size() == 1 && said.front() == token.id;
      });
      if (same != rows_.end()) {
        same->answers.push_back(answer);
        continue;
      }
      cache_.load(static_cast<int64_t>(rows_.size()), waiting_.key_values, waiting_.ranges());
      rows_.push_back({which, {answer}});
    }
    return finished;
  }

  // What all answers of a row have said.
  const std::vector<int32_t>& so_far(const Row& row) const {
    return completions_[row.request][row.answers.front().index].ids;
  }

  // Records a token and, of the states [rows, hidden], the one that led to it; true when it was the answer's last.
  bool append(size_t request, const Answer& answer, const SampledToken& token, const at::Tensor& states, int64_t row) {
    Completion& completion = completions_[request][answer.index];
    completion.ids.push_back(token.id);
    completion.logprobs.push_back(token.logprob);
    completion.entropies.push_back(token.entropy);
    completion.normalizers.push_back(token.normalizer);
    if (options_.keep_states) completion.states.push_back(states.narrow(0, row, 1));
    const auto& stops = network_.config->stop_token_ids;
    completion.stopped = std::find(stops.begin(), stops.end(), token.id) != stops.end();
    return completion.stopped || static_cast<int64_t>(completion.ids.size()) >= options_.max_completion_length;
  }

  int64_t decode() {
    const Phase phase("decode");
    std::vector<int32_t> ids;
    std::vector<int64_t> row_of_answer;
    std::vector<float> draws;
    for (size_t row = 0; row < rows_.size(); ++row) {
      const auto& said = so_far(rows_[row]);
      ids.push_back(said.back());
      for (const Answer& answer : rows_[row].answers) {
        row_of_answer.push_back(static_cast<int64_t>(row));
        draws.push_back(uniform(options_.seed, answer.stream, said.size()));
      }
    }
    const auto states = step(ids);
    auto distributions = logits(network_, states);
    if (draws.size() > ids.size()) {
      const auto rows = at::tensor(row_of_answer, at::kLong).to(distributions.device());
      distributions = distributions.index_select(0, rows);
    }
    const auto tokens = sample(distributions, draws, options_.sampling);

    int64_t finished = 0;
    auto token = tokens.begin();
    for (size_t row = 0, count = rows_.size(); row < count; ++row) finished += advance(row, states, token);
    answers_ -= finished;
    remove_empty_rows();
    return finished;
  }

  // The hidden states that the rows' last tokens lead to, [rows, hidden].
  at::Tensor step(const std::vector<int32_t>& ids) {
    if (record_ == nullptr) return decode_step(network_, ids, cache_);
    for (size_t row = 0; row < rows_.size(); ++row) {
      for (const Answer& answer : rows_[row].answers) {
        completions_[rows_[row].request][answer.index].rows.push_back(record_->activations.used +
                                                                      static_cast<int64_t>(row));
      }
    }
    return decode_step(network_, ids, cache_, record_->activations);
  }

  // Gives each answer of a row its token, the next of `tokens`. Those that no longer say the same as the first of them
  // get rows of their own, at the end. Returns how many answers have finished; a row may be left without any.
  int64_t advance(size_t row, const at::Tensor& states, std::vector<SampledToken>::const_iterator& tokens) {
    const size_t request = rows_[row].request;
    const auto answers = std::exchange(rows_[row].answers, {});
    std::vector<std::pair<int32_t, size_t>> row_of_token;
    int64_t finished = 0;
    for (const Answer& answer : answers) {
      const SampledToken& token = *tokens++;
      if (append(request, answer, token, states, static_cast<int64_t>(row))) {
        ++finished;
        continue;
      }
      const auto same = std::find_if(row_of_token.begin(), row_of_token.end(),
                                     [&](const auto& each) { return each.first == token.id; });
      if (same != row_of_token.end()) {
        rows_[same->second].answers.push_back(answer);
        continue;
      }
      const size_t target = row_of_token.empty() ? row : rows_.size();
      if (target != row) {
        cache_.copy_row(static_cast<int64_t>(row), static_cast<int64_t>(target));
        rows_.push_back({request, {}});
      }
      rows_[target].answers.push_back(answer);
      row_of_token.emplace_back(token.id, target);
    }
    return finished;
  }

  void remove_empty_rows() {
    // From the back, so that the row that fills a gap is not empty itself.
    for (size_t row = rows_.size(); row-- > 0;) {
      if (!rows_[row].answers.empty()) continue;
      const size_t last = rows_.size() - 1;
      if (row != last) {
        cache_.copy_row(static_cast<int64_t>(last), static_cast<int64_t>(row));
        rows_[row] = std::move(rows_[last]);
      }
      rows_.pop_back();
    }
  }

  const model::Network network_;
  std::span<const RolloutRequest> requests_;
  const RolloutOptions& options_;
  RolloutRecord* record_;  // null: none
  std::vector<std::vector<Completion>> completions_;
  int64_t max_rows_ = 0;
  model::KeyValueCache cache_;
  std::vector<Row> rows_;
  int64_t answers_ = 0;  // in all rows
  size_t next_request_ = 0;
  Prefill waiting_;
};

}  // namespace

std::vector<std::vector<Completion>> rollout(const model::Network& network, std::span<const RolloutRequest> requests,
                                             const RolloutOptions& options,
                                             const std::function<void(int64_t)>& on_finished, RolloutRecord* record) {
  if (requests.empty()) return {};
  const at::NoGradGuard no_grad;
  if (network.adapter == nullptr) return Rollout(network, requests, options, record).run(on_finished);
  const model::Adapter adapter = model::frozen(*network.adapter, *network.config, *network.weights);
  return Rollout({network.config, network.weights, &adapter}, requests, options, record).run(on_finished);
}

}  // namespace backburn::generate
