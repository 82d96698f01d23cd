#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>

#include "backburn/base/json.h"

namespace backburn::text {

/// One turn of a conversation.
struct Message {
  std::string role;     ///< "system", "user" or "assistant"
  std::string content;  ///< UTF-8
};

/// A model's chat template: the subset of Jinja2 that chat templates use, rendered as Transformers does
/// (trim_blocks and lstrip_blocks on, loop controls, tojson, raise_exception, strftime_now, `{% generation
/// %}`). A template is a stranger's text: nesting depth, loop steps and output size are bounded, so that
/// rendering ends. A value: copies share the parsed template; safe to use from many threads.
class ChatTemplate {
 public:
  /// Errors: a construct that is not Jinja2 or not supported, with `origin` and line.
  static ChatTemplate parse(std::string source, std::string origin);

  /// The prompt text. The template sees `messages`, `add_generation_prompt`, `bos_token`, `eos_token`, and
  /// `tools` and `documents` as none. Errors: what the template raises ("roles must alternate"), a wrong
  /// type, a limit reached.
  std::string render(std::span<const Message> messages, bool add_generation_prompt, const std::string& bos_token,
                     const std::string& eos_token) const;

  /// The text for any variables: "messages" with tool calls, "tools", "documents", "enable_thinking", … What is missing
  /// is undefined, so Transformers' defaults ("tools" null, …) must be given. Errors: as above, or not an object.
  std::string render(const Json& variables) const;

  /// The template as it was given.
  const std::string& source() const;

 private:
  struct Parsed;
  explicit ChatTemplate(std::shared_ptr<const Parsed> parsed) : parsed_(std::move(parsed)) {}
  std::shared_ptr<const Parsed> parsed_;
};

}  // namespace backburn::text
