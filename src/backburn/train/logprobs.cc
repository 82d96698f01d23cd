#include "backburn/train/logprobs.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "backburn/kernels/parallel.h"
#include "backburn/kernels/vocabulary.h"
#include "backburn/model/packed.h"
#include "backburn/model/products.h"

namespace backburn::train {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Logits held at a time: small enough to be reused by malloc instead of being mapped, and page-faulted, anew each time.
constexpr int64_t chunk_bytes = 16 << 20;

template <typename Body>
void for_each_chunk(int64_t rows, const Tensor& head, const Body& body) {
  const int64_t chunk = std::max<int64_t>(16, chunk_bytes / (4 * head.size(0)));
  for (int64_t begin = 0; begin < rows; begin += chunk) body(begin, std::min(chunk, rows - begin));
}

// softcap 0: none.
Tensor chunk_logits(const Tensor& hidden, const Tensor& head, int64_t begin, int64_t size, double temperature,
                    double softcap) {
  auto logits = model::linear_product(hidden.narrow(0, begin, size), head).to(at::kFloat);
  if (softcap != 0) logits.div_(softcap).tanh_().mul_(softcap);
  return temperature == 1.0 ? logits : logits.div_(temperature);
}

// What a slope of capped logits is for the logits before the cap: times 1 − tanh².
void uncap_slope(Tensor& slope, const Tensor& logits, double temperature, double softcap) {
  if (softcap != 0) slope.mul_(1 - (logits * (temperature / softcap)).square_());
}

// The gradients for hidden states and head, made part by part; the head's is undefined where it is not trained.
class Gradients {
 public:
  Gradients(AutogradContext* context, size_t head_input, const Tensor& hidden, const Tensor& head)
      : of_hidden(at::empty_like(hidden)), hidden_(hidden), head_(head) {
    if (context->needs_input_grad(head_input)) of_head = at::zeros(head.sizes(), head.options().dtype(at::kFloat));
  }
  // slope [rows, vocab] of the logits of the hidden states from `begin` on.
  void add(int64_t begin, const Tensor& slope) {
    const Tensor narrow = slope.to(head_.scalar_type());
    of_hidden.narrow(0, begin, slope.size(0)).copy_(model::matrix_product(narrow, head_));
    if (of_head.defined()) of_head.add_(model::matrix_product(narrow.t(), hidden_.narrow(0, begin, slope.size(0))));
  }

  Tensor of_hidden, of_head;

 private:
  Tensor hidden_, head_;
};

class SelectedLogprob : public torch::autograd::Function<SelectedLogprob> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& hidden, const Tensor& head,
                               const Tensor& targets, double temperature, double softcap) {
    const int64_t rows = hidden.size(0);
    const auto options = hidden.options().dtype(at::kFloat);
    auto logprobs = at::empty({rows}, options);
    auto entropies = at::empty({rows}, options);
    auto normalizers = at::empty({rows}, options);
    for_each_chunk(rows, head, [&](int64_t begin, int64_t size) {
      const auto logits = chunk_logits(hidden, head, begin, size, temperature, softcap);
      const auto normalizer = logits.logsumexp(-1);
      const auto chosen = logits.gather(1, targets.narrow(0, begin, size).unsqueeze(1)).squeeze(1);
      // H = ln Z − Σ p·logit
      const auto mean_logit = (at::exp(logits - normalizer.unsqueeze(1)).mul_(logits)).sum(-1);
      logprobs.narrow(0, begin, size).copy_(chosen - normalizer);
      entropies.narrow(0, begin, size).copy_(normalizer - mean_logit);
      normalizers.narrow(0, begin, size).copy_(normalizer);
    });
    context->save_for_backward({hidden, head, targets, normalizers});
    context->saved_data["temperature"] = temperature;
    context->saved_data["softcap"] = softcap;
    context->mark_non_differentiable({entropies});
    return {logprobs, entropies};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &hidden = saved[0], &head = saved[1], &targets = saved[2], &normalizers = saved[3];
    const double temperature = context->saved_data["temperature"].toDouble();
    const double softcap = context->saved_data["softcap"].toDouble();
    Gradients made(context, 1, hidden, head);
    for_each_chunk(hidden.size(0), head, [&](int64_t begin, int64_t size) {
      // d ln π(target) / d logit = (1[target] − p) / T
      const auto logits = chunk_logits(hidden, head, begin, size, temperature, softcap);
      auto slope = at::exp(logits - normalizers.narrow(0, begin, size).unsqueeze(1)).neg_();
      const auto index = targets.narrow(0, begin, size).unsqueeze(1);
      slope.scatter_add_(1, index, at::ones({size, 1}, slope.options()));
      slope.mul_(gradients[0].narrow(0, begin, size).unsqueeze(1) / temperature);
      uncap_slope(slope, logits, temperature, softcap);
      made.add(begin, slope);
    });
    return {made.of_hidden, made.of_head, Tensor(), Tensor(), Tensor()};
  }
};

class Entropy : public torch::autograd::Function<Entropy> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& hidden, const Tensor& head, double temperature,
                        double softcap) {
    auto entropies = at::empty({hidden.size(0)}, hidden.options().dtype(at::kFloat));
    for_each_chunk(hidden.size(0), head, [&](int64_t begin, int64_t size) {
      const auto logprobs = at::log_softmax(chunk_logits(hidden, head, begin, size, temperature, softcap), -1);
      entropies.narrow(0, begin, size).copy_((logprobs.exp() * logprobs).sum(-1).neg_());
    });
    context->save_for_backward({hidden, head, entropies});
    context->saved_data["temperature"] = temperature;
    context->saved_data["softcap"] = softcap;
    return entropies;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &hidden = saved[0], &head = saved[1], &entropies = saved[2];
    const double temperature = context->saved_data["temperature"].toDouble();
    const double softcap = context->saved_data["softcap"].toDouble();
    Gradients made(context, 1, hidden, head);
    for_each_chunk(hidden.size(0), head, [&](int64_t begin, int64_t size) {
      // d H / d logit = −p · (ln p + H) / T
      const auto logits = chunk_logits(hidden, head, begin, size, temperature, softcap);
      const auto logprobs = at::log_softmax(logits, -1);
      auto slope = logprobs.exp().mul_(logprobs + entropies.narrow(0, begin, size).unsqueeze(1));
      slope.mul_(gradients[0].narrow(0, begin, size).unsqueeze(1) / -temperature);
      uncap_slope(slope, logits, temperature, softcap);
      made.add(begin, slope);
    });
    return {made.of_hidden, made.of_head, Tensor(), Tensor()};
  }
};

class Divergence : public torch::autograd::Function<Divergence> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& student, const Tensor& teacher, const Tensor& head,
                        const Tensor& teacher_head, double softcap) {
    auto divergence = at::empty({student.size(0)}, student.options().dtype(at::kFloat));
    for_each_chunk(student.size(0), head, [&](int64_t begin, int64_t size) {
      const auto wanted = at::log_softmax(chunk_logits(teacher, teacher_head, begin, size, 1.0, softcap), -1);
      const auto given = at::log_softmax(chunk_logits(student, head, begin, size, 1.0, softcap), -1);
      divergence.narrow(0, begin, size).copy_((wanted.exp() * (wanted - given)).sum(-1));
    });
    context->save_for_backward({student, teacher, head, teacher_head});
    context->saved_data["softcap"] = softcap;
    return divergence;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &student = saved[0], &teacher = saved[1], &head = saved[2], &teacher_head = saved[3];
    const double softcap = context->saved_data["softcap"].toDouble();
    Gradients made(context, 2, student, head);
    for_each_chunk(student.size(0), head, [&](int64_t begin, int64_t size) {
      const auto logits = chunk_logits(student, head, begin, size, 1.0, softcap);
      auto slope = at::softmax(logits, -1);
      slope.sub_(at::softmax(chunk_logits(teacher, teacher_head, begin, size, 1.0, softcap), -1));
      slope.mul_(gradients[0].narrow(0, begin, size).unsqueeze(1));
      uncap_slope(slope, logits, 1.0, softcap);
      made.add(begin, slope);
    });
    return {made.of_hidden, Tensor(), made.of_head, Tensor(), Tensor()};
  }
};

// The same two with the kernels of kernels/vocabulary.h, for bf16 hidden states.

using PackedHead = std::shared_ptr<const model::PackedWeights>;

struct HeldHead : torch::CustomClassHolder {
  explicit HeldHead(PackedHead packed) : head(std::move(packed)) {}
  PackedHead head;
};

void hold(AutogradContext* context, const PackedHead& head) {
  context->saved_data["head"] = c10::IValue::make_capsule(c10::make_intrusive<HeldHead>(head));
}

const model::PackedWeights& held_head(AutogradContext* context) {
  return *static_cast<const HeldHead&>(*context->saved_data["head"].toCapsule()).head;
}

bool fits(const PackedHead& head, const Tensor& hidden) {
  return head != nullptr && hidden.scalar_type() == at::kBFloat16 && hidden.size(1) == head->head().k();
}

// Whether both hold the same values, without the detour of at::equal, which takes five times as long for bf16. Of the
// CPU.
bool has_same_bytes(const Tensor& left, const Tensor& right) {
  if (!left.defined() || !right.defined() || left.scalar_type() != right.scalar_type() ||
      left.sizes() != right.sizes() || !left.is_contiguous() || !right.is_contiguous()) {
    return false;
  }
  return left.const_data_ptr() == right.const_data_ptr() ||
         std::memcmp(left.const_data_ptr(), right.const_data_ptr(), left.nbytes()) == 0;
}

kernels::bf16* bits(const Tensor& tensor) { return reinterpret_cast<kernels::bf16*>(tensor.data_ptr()); }
float* floats(const Tensor& tensor) { return tensor.data_ptr<float>(); }

// What is known of targets before their gradient is asked for.
struct Described {
  Tensor logprobs, entropies, normalizers;  // [rows] f32
};

Described describe(const Tensor& hidden, const PackedHead& packed, const Tensor& targets, double temperature) {
  const int64_t rows = hidden.size(0);
  Described result{at::empty({rows}, at::kFloat), at::empty({rows}, at::kFloat), at::empty({rows}, at::kFloat)};
  kernels::parallel([&] {
    kernels::team_token_logprobs(rows, bits(hidden), hidden.size(1), packed->head(), targets.data_ptr<int64_t>(),
                                 static_cast<float>(temperature), floats(result.logprobs), floats(result.entropies),
                                 floats(result.normalizers));
  });
  return result;
}

class PackedSelectedLogprob : public torch::autograd::Function<PackedSelectedLogprob> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& hidden, const PackedHead& packed, const Tensor& targets,
                        double temperature, const Tensor& logprobs, const Tensor& normalizers) {
    context->save_for_backward({hidden, targets, normalizers});
    context->saved_data["temperature"] = temperature;
    hold(context, packed);
    return logprobs.clone();
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &hidden = saved[0], &targets = saved[1], &normalizers = saved[2];
    const auto& packed = held_head(context);
    const auto temperature = static_cast<float>(context->saved_data["temperature"].toDouble());
    const auto gradient = gradients[0].to(at::kFloat).contiguous();
    const auto& transposed = packed.head_transposed();
    auto hidden_gradient = at::empty_like(hidden);
    kernels::parallel([&] {
      kernels::team_token_logprobs_gradient(hidden.size(0), bits(hidden), hidden.size(1), packed.head(), transposed,
                                            targets.data_ptr<int64_t>(), temperature, floats(normalizers),
                                            floats(gradient), bits(hidden_gradient));
    });
    return {hidden_gradient, Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

class PackedDivergence : public torch::autograd::Function<PackedDivergence> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& student_states, const Tensor& teacher_states,
                        const PackedHead& packed) {
    const auto student = student_states.contiguous(), teacher = teacher_states.contiguous();
    const int64_t rows = student.size(0);
    auto divergence = at::empty({rows}, at::kFloat);
    const auto normalizers = at::empty({2, rows}, at::kFloat);
    kernels::parallel([&] {
      kernels::team_divergence(rows, bits(student), bits(teacher), student.size(1), packed->head(), floats(divergence),
                               floats(normalizers), floats(normalizers) + rows);
    });
    context->save_for_backward({student, teacher, normalizers});
    hold(context, packed);
    return divergence;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &student = saved[0], &teacher = saved[1], &normalizers = saved[2];
    const auto& packed = held_head(context);
    const int64_t rows = student.size(0);
    const auto gradient = gradients[0].to(at::kFloat).contiguous();
    const auto& transposed = packed.head_transposed();
    auto student_gradient = at::empty_like(student);
    kernels::parallel([&] {
      kernels::team_divergence_gradient(rows, bits(student), bits(teacher), student.size(1), packed.head(), transposed,
                                        floats(normalizers), floats(normalizers) + rows, floats(gradient),
                                        bits(student_gradient));
    });
    return {student_gradient, Tensor(), Tensor()};
  }
};

}  // namespace

Predictions branch_predictions(const model::PackedTokens& tokens) {
  std::vector<int64_t> lengths;
  for (const auto& span : tokens.spans) lengths.insert(lengths.end(), span.branches.begin(), span.branches.end());
  return branch_predictions(tokens, lengths);
}

Predictions branch_predictions(const model::PackedTokens& tokens, std::span<const int64_t> lengths) {
  std::vector<int64_t> rows, targets;
  const int64_t* ids = tokens.ids.data_ptr<int64_t>();
  size_t branch = 0;
  for (const auto& span : tokens.spans) {
    int64_t begin = span.begin + span.prefix;
    for (const int64_t size : span.branches) {
      const int64_t end = begin + size;
      for (int64_t at = end - lengths[branch]; at < end; ++at) {
        // The first token of a branch follows the prefix in the tree, not in the packed order.
        rows.push_back(at == begin ? span.begin + span.prefix - 1 : at - 1);
        targets.push_back(ids[at]);
      }
      begin = end;
      ++branch;
    }
  }
  return {at::tensor(rows, at::kLong), at::tensor(targets, at::kLong), {lengths.begin(), lengths.end()}};
}

Predictions answer_predictions(const model::PackedTokens& tokens,
                               std::span<const std::vector<int32_t>* const> answers) {
  std::vector<int64_t> rows, targets, lengths;
  auto answer = answers.begin();
  for (const auto& span : tokens.spans) {
    int64_t begin = span.begin + span.prefix;
    for (const int64_t size : span.branches) {
      const std::vector<int32_t>& ids = **answer++;
      rows.push_back(span.begin + span.prefix - 1);
      for (int64_t at = begin; at < begin + size; ++at) rows.push_back(at);
      targets.insert(targets.end(), ids.begin(), ids.end());
      lengths.push_back(size + 1);
      begin += size;
    }
  }
  return {at::tensor(rows, at::kLong), at::tensor(targets, at::kLong), std::move(lengths)};
}

TokenLogprobs token_logprobs(const model::Network& network, const Tensor& hidden, const Tensor& targets,
                             double temperature) {
  const auto& packed = network.weights->packed;
  if (!fits(packed, hidden)) {
    const auto result = SelectedLogprob::apply(hidden, whole_head(*network.weights), targets.to(hidden.device()),
                                               temperature, network.config->logit_softcap);
    return {result[0].cpu(), result[1].cpu()};
  }
  const auto rows = hidden.contiguous(), ids = targets.contiguous();
  const auto found = describe(rows, packed, ids, temperature);
  return {PackedSelectedLogprob::apply(rows, packed, ids, temperature, found.logprobs, found.normalizers),
          found.entropies};
}

Tensor sampled_token_logprobs(const model::Network& network, const Tensor& hidden, const Tensor& targets,
                              double temperature, const Tensor& logprobs, const Tensor& normalizers) {
  const auto& packed = network.weights->packed;
  if (!fits(packed, hidden)) throw std::logic_error("sampled_token_logprobs: not on kernels");
  return PackedSelectedLogprob::apply(hidden.contiguous(), packed, targets.contiguous(), temperature, logprobs,
                                      normalizers);
}

Tensor token_entropies(const model::Network& network, const Tensor& hidden, double temperature) {
  return Entropy::apply(hidden, whole_head(*network.weights), temperature, network.config->logit_softcap).cpu();
}

Tensor token_divergence(const model::Network& network, const Tensor& student, const Tensor& teacher,
                        const Tensor& teacher_head) {
  const auto& packed = network.weights->packed;
  // A quantised head is not in memory as a tensor; teacher and student hold the same one then.
  const bool shares_head = !teacher_head.defined();
  if (fits(packed, student) && fits(packed, teacher) &&
      (shares_head || has_same_bytes(teacher_head, network.weights->head))) {
    return PackedDivergence::apply(student, teacher, packed);
  }
  const Tensor own = whole_head(*network.weights);
  return Divergence::apply(student, teacher, own, shares_head ? own : teacher_head, network.config->logit_softcap)
      .cpu();
}

Tensor states_at(const Tensor& hidden, const Predictions& predictions) {
  return hidden.index_select(0, predictions.rows.to(hidden.device()));
}

Tensor predicting_states(const model::Network& network, const model::PackedTokens& tokens,
                         const Predictions& predictions) {
  return states_at(hidden_states(network, tokens), predictions);
}

}  // namespace backburn::train
