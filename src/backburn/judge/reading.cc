#include "backburn/judge/reading.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "backburn/text/utf8.h"

namespace backburn::judge {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
// Bytes of a word; those above 0x7F are letters of other scripts, or accents.
bool is_word_byte(char c) { return is_letter(c) || is_digit(c) || static_cast<unsigned char>(c) >= 0x80; }

// "fairDeposit", "Sh12x", but neither "McKay" nor "iPhone" nor "PhD".
bool is_mixed_case(const std::string& word) {
  for (size_t i = 3; i < word.size(); ++i) {
    if (is_upper(word[i]) && word[i - 1] >= 'a' && word[i - 1] <= 'z') return true;
  }
  return false;
}

// Curly quotes, dashes and other typography as ASCII.
std::string plain_typography(std::string_view text) {
  struct Change {
    std::string_view from, to;
  };
  static constexpr std::array changes{
      Change{"\u2018", "'"},  Change{"\u2019", "'"}, Change{"\u02BC", "'"},   Change{"\u201C", "\""},
      Change{"\u201D", "\""}, Change{"\u2013", "-"}, Change{"\u2014", " - "}, Change{"\u2026", "..."},
      Change{"\u00A0", " "},  Change{"\u2022", "-"}, Change{"\u2011", "-"},   Change{"\uFF07", "'"},
      Change{"\u2032", "'"},  Change{"\u200B", ""},
  };
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Change* found = nullptr;
    if (static_cast<unsigned char>(text[at]) >= 0xC2) {
      for (const Change& change : changes) {
        if (text.substr(at).starts_with(change.from)) found = &change;
      }
    }
    if (found) {
      out += found->to;
      at += found->from.size();
    } else {
      out += text[at++];
    }
  }
  return out;
}

// The words that a written word stands for: "can't" is "cannot", "it's" is "it is", "doctor's" is "doctor".
void append_expanded(std::vector<std::string>& words, const std::string& word) {
  static const std::unordered_map<std::string_view, std::vector<std::string>> whole = {
      {"can't", {"cannot"}},        {"cant", {"cannot"}},     {"won't", {"will", "not"}}, {"wont", {"will", "not"}},
      {"shan't", {"shall", "not"}}, {"dont", {"do", "not"}},  {"didnt", {"did", "not"}},  {"im", {"i", "am"}},
      {"i'm", {"i", "am"}},         {"let's", {"let", "us"}}, {"ain't", {"is", "not"}},   {"y'all", {"you", "all"}},
  };
  if (const auto found = whole.find(word); found != whole.end()) {
    words.insert(words.end(), found->second.begin(), found->second.end());
    return;
  }
  struct Ending {
    std::string_view written, meant;
  };
  static constexpr std::array endings{Ending{"n't", "not"}, Ending{"'re", "are"}, Ending{"'ve", "have"},
                                      Ending{"'ll", "will"}, Ending{"'d", "would"}};
  for (const Ending& ending : endings) {
    if (word.size() > ending.written.size() && word.ends_with(ending.written)) {
      words.push_back(word.substr(0, word.size() - ending.written.size()));
      words.emplace_back(ending.meant);
      return;
    }
  }
  if (word.ends_with("'s")) {
    const std::string stem = word.substr(0, word.size() - 2);
    static const std::unordered_set<std::string_view> pronouns = {"it",  "that", "what",  "here", "there", "he",
                                                                  "she", "who",  "where", "how",  "this"};
    words.push_back(stem);
    if (pronouns.contains(stem)) words.emplace_back("is");
    return;
  }
  std::string bare;
  std::copy_if(word.begin(), word.end(), std::back_inserter(bare), [](char c) { return c != '\''; });
  if (!bare.empty()) words.push_back(std::move(bare));
}

// Whether the full stop after text[0..at) ends a sentence.
bool ends_sentence(std::string_view text, size_t at) {
  if (at + 1 < text.size() && std::string_view(" \t\r\n\"')*_]").find(text[at + 1]) == std::string_view::npos)
    return false;
  size_t begin = at;
  while (begin > 0 && is_word_byte(text[begin - 1])) --begin;
  std::string word(text.substr(begin, at - begin));
  for (char& c : word) c = is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c;
  static const std::unordered_set<std::string_view> abbreviations = {"dr", "mr", "mrs", "ms", "st", "jr",  "sr",
                                                                     "vs", "no", "e",   "g",  "i",  "inc", "prof"};
  return !abbreviations.contains(word) || (word == "no" && at > 3);
}

// The length of what marks a line as an item of a list: "1.", "2)", "-", "*", "Step 3:".
size_t list_mark(std::string_view line) {
  size_t at = line.find_first_not_of(" \t#*_>");
  if (at == std::string_view::npos) return 0;
  const bool bullet = line.find('*') < at && line.substr(line.find('*')).starts_with("* ");
  if (bullet) return at;
  if (line[at] == '-' && at + 1 < line.size() && line[at + 1] == ' ') return at + 2;
  size_t digits = at;
  if (line.substr(at).starts_with("Step ") || line.substr(at).starts_with("step ")) digits = at + 5;
  size_t end = digits;
  while (end < line.size() && is_digit(line[end]) && end - digits < 3) ++end;
  if (end == digits || end == line.size()) return 0;
  if (line[end] == '.' || line[end] == ')' || (digits > at && line[end] == ':')) return end + 1;
  return 0;
}

}  // namespace

Reading read(std::string_view raw) {
  const std::string text = plain_typography(text::repaired_utf8(raw));  // the expressions need UTF-8
  Reading reading;
  bool in_quotes = false;
  size_t quote_words = 0;
  Sentence sentence;
  bool sentence_started = false;
  auto close = [&](bool question) {
    if (reading.words.size() > sentence.first_word) {
      sentence.words = reading.words.size() - sentence.first_word;
      for (size_t i = sentence.first_word; i < reading.words.size(); ++i) {
        if (i > sentence.first_word) sentence.text += ' ';
        sentence.text += reading.words[i];
      }
      sentence.quoted = quote_words * 2 > sentence.words;
      sentence.question = question;
      reading.sentences.push_back(std::move(sentence));
    }
    sentence = {};
    sentence.first_word = reading.words.size();
    quote_words = 0;
    sentence_started = false;
  };
  for (size_t line_begin = 0; line_begin < text.size();) {
    const size_t line_end = std::min(text.find('\n', line_begin), text.size());
    const std::string_view line(text.data() + line_begin, line_end - line_begin);
    line_begin = line_end + 1;
    in_quotes = in_quotes && line.find_first_not_of(" \t\r") != std::string_view::npos;
    if (line.starts_with("```")) {
      ++reading.code_spans;
      continue;
    }
    size_t at = list_mark(line);
    if (at > 0) {
      ++reading.list_items;
      sentence.list_item = true;
    }
    bool backtick = false;
    while (at < line.size()) {
      const char c = line[at];
      if (is_word_byte(c)) {
        const size_t begin = at;
        bool digit = false;
        while (at < line.size() &&
               (is_word_byte(line[at]) || (line[at] == '\'' && at + 1 < line.size() && is_letter(line[at + 1])))) {
          digit = digit || is_digit(line[at]);
          ++at;
        }
        std::string word(line.substr(begin, at - begin));
        reading.numbers += digit ? 1 : 0;
        reading.names += sentence_started && is_upper(word[0]) && word.size() > 1 && word[1] != '\'' ? 1 : 0;
        reading.mixed_case += is_mixed_case(word) ? 1 : 0;
        for (char& byte : word) byte = is_upper(byte) ? static_cast<char>(byte - 'A' + 'a') : byte;
        const size_t before = reading.words.size();
        append_expanded(reading.words, word);
        if (in_quotes) quote_words += reading.words.size() - before;
        sentence_started = true;
        continue;
      }
      if (c == '"') in_quotes = !in_quotes;
      if (c == '`') {
        reading.code_spans += backtick ? 1 : 0;
        backtick = !backtick;
      }
      if ((c == '[' || c == '{' || c == '<') && at + 1 < line.size() && is_letter(line[at + 1])) {
        const size_t close_at = line.find_first_of("]}>", at);
        if (close_at != std::string_view::npos && close_at - at < 40) ++reading.placeholders;
      }
      if (c == '!' || c == '?' || c == ';' || (c == '.' && ends_sentence(line, at))) close(c == '?');
      ++at;
    }
    close(false);
  }
  for (const char c : text) {
    reading.letters += is_letter(c) ? 1 : 0;
    reading.visible += static_cast<unsigned char>(c) > ' ' ? 1 : 0;
  }
  return reading;
}

std::string stem(std::string_view word) {
  std::string out(word);
  auto drop = [&](std::string_view ending, size_t least) {
    if (!out.ends_with(ending) || out.size() < ending.size() + least) return false;
    out.resize(out.size() - ending.size());
    return true;
  };
  if (out.ends_with("ies") && out.size() > 4) {
    out.replace(out.size() - 3, 3, "y");
  } else if (!out.ends_with("ss") && !out.ends_with("us") && !out.ends_with("is")) {
    if (!drop("'s", 2)) drop("s", 3);
  }
  const bool cut = drop("ing", 3) || drop("ed", 3);
  if (cut && out.size() > 3 && out.back() == out[out.size() - 2] && out.back() != 's' && out.back() != 'l') {
    out.pop_back();
  }
  drop("ly", 4);
  if (out.size() > 3 && out.back() == 'e') out.pop_back();
  if (out.size() > 3 && out.back() == 'y') out.back() = 'i';
  return out;
}

bool is_function_word(std::string_view word) {
  static const std::unordered_set<std::string_view> words = {
      "a",       "about",  "after",   "again",   "all",   "also",   "am",    "an",    "and",      "any",    "are",
      "as",      "at",     "be",      "because", "been",  "before", "being", "both",  "but",      "by",     "can",
      "cannot",  "could",  "did",     "do",      "does",  "doing",  "down",  "each",  "either",   "else",   "even",
      "ever",    "every",  "few",     "for",     "from",  "had",    "has",   "have",  "having",   "he",     "her",
      "here",    "hers",   "him",     "his",     "how",   "i",      "if",    "in",    "into",     "is",     "it",
      "its",     "just",   "may",     "me",      "might", "mine",   "more",  "most",  "much",     "must",   "my",
      "no",      "nor",    "not",     "now",     "of",    "off",    "on",    "once",  "one",      "only",   "or",
      "other",   "our",    "ours",    "out",     "over",  "own",    "same",  "shall", "she",      "should", "so",
      "some",    "such",   "than",    "that",    "the",   "their",  "them",  "then",  "there",    "these",  "they",
      "this",    "those",  "through", "to",      "too",   "under",  "until", "up",    "us",       "very",   "was",
      "we",      "were",   "what",    "when",    "where", "which",  "while", "who",   "whom",     "whose",  "why",
      "will",    "with",   "within",  "without", "would", "you",    "your",  "yours", "yourself", "myself", "still",
      "between", "during", "since",   "upon",    "like",  "many",   "yet",   "it",    "however",  "though"};
  return words.contains(word);
}

}  // namespace backburn::judge
