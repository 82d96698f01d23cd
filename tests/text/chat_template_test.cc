#include "backburn/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/base/json.h"

namespace backburn::text {
namespace {

using testing::HasSubstr;

std::string render(const std::string& source, const std::vector<Message>& messages = {{"user", "Hi"}}) {
  return ChatTemplate::parse(source, "t.jinja").render(messages, true, "<s>", "</s>");
}

std::string error_of(const std::string& source) {
  try {
    return "no error, but: " + render(source).substr(0, 200);
  } catch (const Error& error) {
    return error.what();
  }
}

// Every template and conversation of tools/make_template_goldens.py: Jinja2's text, or refused where Jinja2
// refuses.
TEST(ChatTemplate, RendersAsJinja2Does) {
  const Json golden = read_json_file(TEST_DATA_DIR "/template_goldens.json");
  int renders = 0;
  for (const Json& entry : golden["cases"]) {
    for (const Json& wanted : entry["renders"]) {
      std::vector<Message> messages;
      for (const Json& message : golden["conversations"][wanted["conversation"].get<size_t>()]) {
        messages.push_back({message["role"].get<std::string>(), message["content"].get<std::string>()});
      }
      std::string text;
      bool refused = false;
      try {
        const ChatTemplate parsed = ChatTemplate::parse(entry["source"].get<std::string>(), "golden");
        text = parsed.render(messages, wanted["prompt"].get<bool>(), "<s>", "</s>");
      } catch (const Error& error) {
        refused = true;
        text = error.what();
      }
      EXPECT_EQ(refused, wanted.contains("error")) << entry["name"] << entry["source"] << ": " << text;
      if (!refused && wanted.contains("text")) {
        EXPECT_EQ(text, wanted["text"].get<std::string>()) << entry["name"] << entry["source"];
      }
      ++renders;
    }
  }
  EXPECT_GE(renders, 100);
}

// `text` with "<now:FORMAT>" as strftime_now gives it today.
std::string with_todays_date(std::string text) {
  const std::string mark = "<now:";
  for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark)) {
    const size_t end = text.find('>', at);
    const std::string format = text.substr(at + mark.size(), end - at - mark.size());
    text.replace(at, end + 1 - at, render("{{ strftime_now('" + format + "') }}"));
  }
  return text;
}

// The templates of the model families (tools/make_template_families.py) with system prompts, tools, tool calls,
// documents, several turns: Jinja2's text, or refused where Jinja2 refuses.
TEST(ChatTemplate, RendersTheFamiliesAsJinja2Does) {
  const Json golden = read_json_file(TEST_DATA_DIR "/template_families.json");
  int renders = 0;
  for (const auto& [name, expected] : golden["templates"].items()) {
    const std::string file = TEST_DATA_DIR "/templates/" + name + ".jinja";
    const ChatTemplate parsed = ChatTemplate::parse(read_file(file), name);
    size_t next = 0;
    for (const Json& context : golden["contexts"]) {
      for (const bool prompt : {false, true}) {
        Json variables = {{"tools", nullptr}, {"documents", nullptr}, {"bos_token", "<s>"}, {"eos_token", "</s>"}};
        variables["add_generation_prompt"] = prompt;
        for (const auto& [key, value] : context.items()) variables[key] = value;
        const Json& wanted = expected[next++];
        std::string text;
        bool refused = false;
        try {
          text = parsed.render(variables);
        } catch (const Error& error) {
          refused = true;
          text = error.what();
        }
        ++renders;
        EXPECT_EQ(refused, wanted.contains("error")) << name << " " << context.dump() << ": " << text << wanted.dump();
        if (refused || wanted.contains("error")) continue;
        EXPECT_EQ(text, with_todays_date(wanted["text"].get<std::string>())) << name << " " << context.dump();
      }
    }
  }
  EXPECT_GE(renders, 300);
}

TEST(ChatTemplate, TellsTheDate) {
  const std::string year = render("{{ strftime_now('%Y') }}");
  EXPECT_GE(std::stoi(year), 2025);
  EXPECT_EQ(render("{{ strftime_now('%d %b %Y') }}").substr(7), year);
}

TEST(ChatTemplate, SaysWhatIsWrongAndWhere) {
  EXPECT_THAT(error_of("a\nb\n{{ raise_exception('roles must alternate') }}"),
              HasSubstr("t.jinja:3: the chat template refuses this conversation: roles must alternate"));
  EXPECT_THAT(error_of("\n{{ x.y }}"), HasSubstr("t.jinja:2: \"x\" is undefined"));
  EXPECT_THAT(error_of("{% if true %}\n\n"), HasSubstr("\"endif\" is missing"));
  EXPECT_THAT(error_of("{{ 1 + 'a' }}"), HasSubstr("\"+\" between int and str"));
  EXPECT_THAT(error_of("{{ 'a'|wobble }}"), HasSubstr("the filter \"wobble\" is not known"));
  EXPECT_THAT(error_of("{% include 'x' %}"), HasSubstr("\"include\""));
  EXPECT_THAT(error_of("\xFF"), HasSubstr("not UTF-8"));
}

TEST(ChatTemplate, EndsAStrangersTemplate) {
  const auto start = std::chrono::steady_clock::now();
  const std::string many = "range(99999)";
  const std::vector<std::string> hostile = {
      "{% for a in " + many + " %}{% for b in " + many + " %}{% endfor %}{% endfor %}",
      "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
      "{% set ns = namespace(x=[1]) %}{% for i in " + many + " %}{% set ns.x = [ns.x] %}{% endfor %}",
      "{% set ns = namespace(x=1) %}{% for i in " + many +
          " %}{% set ns.x = namespace(p=ns.x) %}{% endfor %}{{ 1 / 0 }}",
      "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
      "{{ 'x' * 999999999999 }}",
      "{{ range(10 ** 15) }}",
      "{{ 9 ** 999 }}",
      "{{ " + std::string(100'000, '(') + "1" + std::string(100'000, ')') + " }}",
      "{{ " + std::string(100'000, '-') + "1 }}",
      "{{ 1" +
          [] {
            std::string s;
            for (int i = 0; i < 50'000; ++i) s += "+1";
            return s;
          }() +
          " }}",
      [] {
        std::string s;
        for (int i = 0; i < 50'000; ++i) s += "{% if 1 %}";
        return s;
      }(),
      "{{ 'a'" +
          [] {
            std::string s;
            for (int i = 0; i < 50'000; ++i) s += "|upper";
            return s;
          }() +
          " }}",
      "{% set s = 'ab' * 1000000 %}{% for i in range(9999) %}{{ s.replace('a', s) }}{% endfor %}",
      "{% set s = 'ab' * 4000000 %}{% for i in range(99999) %}{% if s == s ~ '' %}{% endif %}{% endfor %}"};
  for (const std::string& source : hostile) {
    EXPECT_THAT(error_of(source), testing::Not(HasSubstr("no error"))) << source.substr(0, 100);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.self = ns %}{% set ns.list = [ns] %}ok"), "ok");
}

TEST(ChatTemplate, SurvivesDamagedTemplates) {
  const Json golden = read_json_file(TEST_DATA_DIR "/template_goldens.json");
  std::mt19937 random(3);
  int rendered = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string bad = golden["cases"][random() % golden["cases"].size()]["source"].get<std::string>();
    for (unsigned i = 0; i <= random() % 3 && !bad.empty(); ++i) {
      const size_t at = random() % bad.size();
      switch (random() % 3) {
        case 0: bad[at] = "{}%-()[]'\"|.,:~*x1 \n\xC3"[random() % 23]; break;
        case 1: bad.erase(at, 1 + random() % 12); break;
        default: bad.insert(at, bad.substr(random() % bad.size(), random() % 25));
      }
    }
    try {
      render(bad);
      ++rendered;
    } catch (const Error&) {
    }
  }
  EXPECT_GT(rendered, 500);
}

TEST(ChatTemplate, SurvivesDamagedFamilies) {
  const Json golden = read_json_file(TEST_DATA_DIR "/template_families.json");
  std::mt19937 random(4);
  int rendered = 0;
  for (const auto& [name, expected] : golden["templates"].items()) {
    const std::string good = read_file(TEST_DATA_DIR "/templates/" + name + ".jinja");
    for (int round = 0; round < 100; ++round) {
      std::string bad = good;
      for (unsigned i = 0; i <= random() % 3; ++i) {
        const size_t at = random() % bad.size();
        if (random() % 2 == 0) {
          bad[at] = "{}%-()[]'\"|.,:~*x1 \n\xC3"[random() % 23];
        } else {
          bad.erase(at, 1 + random() % 12);
        }
      }
      try {
        ChatTemplate::parse(bad, "bad").render(golden["contexts"][random() % golden["contexts"].size()]);
        ++rendered;
      } catch (const Error&) {
      }
    }
  }
  EXPECT_GT(rendered, 50);
}

}  // namespace
}  // namespace backburn::text
