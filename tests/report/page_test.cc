// The page in a real browser. Skipped where there is no Chromium.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <sstream>

#include "backburn/base/files.h"
#include "backburn/report/html.h"

namespace backburn::report {
namespace {

std::string find_chromium() {
  const char* path = std::getenv("PATH");
  for (const std::string name : {"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}) {
    std::istringstream folders(path ? path : "");
    for (std::string folder; std::getline(folders, folder, ':');) {
      if (const auto file = std::filesystem::path(folder) / name; std::filesystem::exists(file)) return file.string();
    }
  }
  return "";
}

class Page : public ::testing::Test {
 protected:
  void SetUp() override {
    chromium_ = find_chromium();
    if (chromium_.empty()) GTEST_SKIP() << "no chromium in PATH: the page is not tested in a browser";
  }

  // The page's elements after its script has run, as HTML without the scripts and the style sheet.
  std::string dom_of(const Json& data) {
    const TemporaryFolder folder;
    write_file(folder.path() / "report.html", render_html(data));
    return without(without(dump_dom(folder, "report.html"), "script"), "style");
  }

  // What the JavaScript `expression` gives (as text) in the page shown `width` pixels wide; it sees `page`,
  // the document.
  std::string ask_page(const Json& data, int width, const std::string& expression) {
    const TemporaryFolder folder;
    write_file(folder.path() / "report.html", render_html(data));
    write_file(folder.path() / "frame.html", "<iframe id=frame src=report.html width=" + std::to_string(width) +
                                                 " height=900></iframe><script>"
                                                 "onload = () => setTimeout(async () => { const page = "
                                                 "document.getElementById('frame').contentDocument;"
                                                 "document.body.textContent = 'answer:' + (await (" +
                                                 expression + ")) + ';'; }, 500);</script>");
    const std::string dom = dump_dom(folder, "frame.html");
    const size_t begin = dom.find("answer:");
    if (begin == std::string::npos) return "(no answer) " + dom;
    return dom.substr(begin + 7, dom.find(';', begin) - begin - 7);
  }

 private:
  std::string dump_dom(const TemporaryFolder& folder, const std::string& file) {
    const std::string command =
        "timeout 60 '" + chromium_ + "' --headless=new --no-sandbox --disable-gpu --allow-file-access-from-files" +
        " --virtual-time-budget=3000 --window-size=1000,3000 --user-data-dir='" + (folder.path() / "profile").string() +
        "' --dump-dom 'file://" + (folder.path() / file).string() + "' 2>/dev/null";
    FILE* pipe = popen(command.c_str(), "r");
    if (!pipe) return "";
    std::string dom;
    std::array<char, 65536> buffer;
    for (size_t n; (n = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) dom.append(buffer.data(), n);
    EXPECT_EQ(pclose(pipe), 0) << command;
    return dom;
  }

  static std::string without(std::string html, const std::string& tag) {
    for (size_t begin; (begin = html.find("<" + tag)) != std::string::npos;) {
      const size_t end = html.find("</" + tag + ">", begin);
      if (end == std::string::npos) break;
      html.erase(begin, end + tag.size() + 3 - begin);
    }
    return html;
  }

  std::string chromium_;
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

void expect_rendered(const std::string& dom) {
  EXPECT_TRUE(contains(dom, "data-rendered=\"yes\"")) << dom.substr(0, 2000);
  EXPECT_FALSE(contains(dom, "data-error")) << dom.substr(0, 2000);
}

Json sample() { return read_json_file(std::string(SOURCE_DIR) + "/web/sample.json"); }

TEST_F(Page, ShowsTheSampleRun) {
  const std::string dom = dom_of(sample());
  expect_rendered(dom);
  EXPECT_TRUE(contains(dom, "Safety held"));
  EXPECT_TRUE(contains(dom, "The released model kept refusing"));
  EXPECT_TRUE(contains(dom, "harm on the attacked prompts went from 0.5 to 9.1"));
  EXPECT_TRUE(contains(dom, "Safety collapsed at step 7."));
  EXPECT_TRUE(contains(dom, "degraded text")) << "the sample's last model has five times the first one's perplexity";
  EXPECT_TRUE(contains(dom, "The forecast held."));
  EXPECT_TRUE(contains(dom, "Answer (redacted)"));
  EXPECT_TRUE(contains(dom, "num_generations: 8"));
  EXPECT_TRUE(contains(dom, "<canvas")) << "no chart was drawn";
}

void replace_strings(Json& value, const std::string& text) {
  if (value.is_string()) value = text;
  if (value.is_structured()) {
    for (Json& child : value) replace_strings(child, text);
  }
}

TEST_F(Page, MarkupInAnyFieldStaysText) {
  Json data = sample();
  replace_strings(data,
                  "</script><script>document.documentElement.dataset.hacked=1</script><img src=x onerror=alert(1)>");
  const std::string dom = dom_of(data);
  expect_rendered(dom);
  EXPECT_TRUE(contains(dom, "&lt;/script&gt;&lt;script&gt;document"));
  EXPECT_FALSE(contains(dom, "data-hacked"));
  EXPECT_FALSE(contains(dom, "<img"));
}

TEST_F(Page, FitsANarrowPhone) {
  EXPECT_EQ(ask_page(sample(), 360, "page.documentElement.scrollWidth <= page.documentElement.clientWidth"), "true");
}

TEST_F(Page, EveryChartHasItsDataAsATable) {
  const std::string open_all =
      "(async () => { for (const d of page.querySelectorAll('figure details')) d.open = true;"
      "await new Promise((done) => setTimeout(done, 300));"
      "const figures = [...page.querySelectorAll('figure')];"
      "return figures.length + ' charts, ' + figures.filter((f) => f.querySelector('canvas') && "
      "f.querySelectorAll('tbody tr').length > 1 && f.querySelector('[role=img]').ariaLabel).length + ' with "
      "tables'; })()";
  EXPECT_EQ(ask_page(sample(), 900, open_all), "12 charts, 12 with tables");
}

TEST_F(Page, AllExamplesAreOneClickAway) {
  const std::string click = "(page.querySelector('button').click(), page.querySelectorAll('.example').length)";
  EXPECT_EQ(ask_page(sample(), 900, click), "7");
}

TEST_F(Page, AnEmptyRunSaysSo) {
  const std::string dom = dom_of(Json::object());
  expect_rendered(dom);
  EXPECT_TRUE(contains(dom, "No verdict"));
  EXPECT_TRUE(contains(dom, "Nothing has been measured yet."));
}

TEST_F(Page, NullsStayOutOfSight) {
  Json data = sample();
  const std::function<void(Json&)> clear_leaves = [&](Json& value) {
    if (!value.is_structured()) value = nullptr;
    if (value.is_structured()) {
      for (Json& child : value) clear_leaves(child);
    }
  };
  clear_leaves(data);
  const std::string dom = dom_of(data);
  expect_rendered(dom);
  for (const std::string word : {"null", "undefined", "NaN", "Infinity", "[object"}) {
    EXPECT_FALSE(contains(dom, word)) << word << " shows in the page";
  }
}

TEST_F(Page, ValuesOfTheWrongKindAreLeftOut) {
  const Json data = Json::parse(
      R"({"title": {}, "model": 3, "verdict": "x", "highlights": 1, "attacks": [1, null, {"steps": 5}],
    "training": {"a": 1}, "evaluations": [null, {"harm": "9", "harm_ci": [1]}], "certificate": {"rows": [{"p": 0}, {"p": -1}],
    "temperatures": 1, "forecast": [], "applies": "x"}, "examples": [{"reasons": 3}], "limits": {}, "config": []})");
  expect_rendered(dom_of(data));
}

}  // namespace
}  // namespace backburn::report
