#!/usr/bin/env python3
"""The parity table of docs/architectures.md, from a run of the tests.

    tools/parity_table.py [--build build/release]            prints it
    tools/parity_table.py [--build build/release] --write    puts it into docs/architectures.md
    tools/parity_table.py --exports FILE …                   with what tools/check_exports.py --json wrote, instead of running it

The tests record how far each tiny model is from the reference (RecordProperty in tests/model/parity_test.cc); of the models of
an architecture the worst figure is shown. A failed test shows as FAILS. The last two columns are what tools/check_exports.py finds (`make exports`
sets up the peers that it needs).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/architectures.md"
BEGIN, END = "<!-- parity -->\n", "<!-- /parity -->\n"
# The tests behind each column; those in the first group record a figure under the column's name.
FIGURES = {"logits": "LogitsAreThoseOfTransformers", "hidden states": "EveryLayersHiddenStatesAreThoseOfTransformers",
           "LoRA gradients": "AdapterGradientsAreThoseOfPeft", "greedy tokens": "GreedyTokensAreThoseOfTransformers"}
CHECKS = {"cached = whole": ["DecodingWithACacheIsTheWholeSequence", "PackedTreesAreTheirSequences"],
          "merged": ["AMergedAdapterIsTheSameModel"],
          "saved and loaded": ["SavedAndLoadedAgainItIsTheSameModel", "AnAdapterSavedAndLoadedAgainIsTheSame"]}
# Tests of tests/model/gguf_model_test.cc, over files of llama.cpp's converter.
GGUF_READ, GGUF_WRITTEN = "LogitsAreThoseOfTheCheckpointInTransformers", "WrittenAgainItIsWhatLlamaCppsConverterWrote"
OPENED_IN = {"Transformers": "opened in Transformers, PEFT", "llama-cpp-python": "in llama-cpp-python"}
# tests/text/data/templates, which ChatTemplate.RendersTheFamiliesAsJinja2Does renders.
TEMPLATES = {"llama": ["llama2", "llama31"], "mistral": ["mistral", "mistral_small"], "qwen2": ["qwen25"], "qwen3": ["qwen3"],
             "qwen3_moe": ["qwen3"], "smollm3": ["smollm3"], "olmo2": ["olmo2"], "granite": ["granite"], "gemma3_text": ["gemma3"],
             "phi3": ["phi3", "phi4"]}


def run(binary, tests):
    """[(test's name, its entry in GoogleTest's report)]"""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        subprocess.run([binary, f"--gtest_filter={tests}", f"--gtest_output=json:{report}", "--gtest_brief=1"], stdout=sys.stderr)
        suites = json.loads(report.read_text())["testsuites"]
    return [(test["name"].split("/")[0], test) for suite in suites for test in suite["testsuite"]]


def passed(test):
    return "failures" not in test


def worst(column, test_name, tests):
    found = [test for name, test in tests if name == test_name and test["result"] == "COMPLETED"]
    if not all(map(passed, found)):
        return "**FAILS**"
    key = column.replace(" ", "_")
    values = [test[key] for test in found if key in test]
    numbers = [float(value) for value in values if "equal" not in value]
    return f"{max(numbers):.1e}" if numbers else (values[0] if values else "–")


def all_pass(test_names, tests):
    found = [passed(test) for name, test in tests if name in test_names]
    return "yes" if found and all(found) else "**FAILS**"


def of_architectures(tests):
    """{architecture: [(test's name, its entry)]}"""
    groups = {}
    for name, test in tests:
        groups.setdefault(test["architecture"], []).append((name, test))
    return groups


def opened(exports, architecture, program):
    found = [each for each in exports if each["architecture"] == architecture and each["in"] == program]
    return ("**FAILS**" if any(each["wrong"] for each in found) else "yes") if found else "–"


def check_exports(build):
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "exports.json")
        subprocess.run([ROOT / ".venv-tools/bin/python", ROOT / "tools/check_exports.py", "--build", build, "--json", report],
                       stdout=sys.stderr)
        return json.loads(report.read_text())


def table(build, exports):
    by_architecture = of_architectures(run(build / "tests/test_model", "Parity/Tiny.*"))
    gguf = of_architectures(run(build / "tests/test_model", "Tiny/GgufFamilies.*"))
    templates = run(build / "tests/test_text", "ChatTemplate.RendersTheFamiliesAsJinja2Does")
    rendered = bool(templates) and all(passed(test) for _, test in templates)
    lines = ["| `model_type` | tiny models | " + " | ".join([*FIGURES, *CHECKS]) + " | chat template | GGUF read, logits | GGUF written | " +
             " | ".join(OPENED_IN.values()) + " |",
             "|---" * (len(FIGURES) + len(CHECKS) + len(OPENED_IN) + 5) + "|"]
    for architecture, tests in by_architecture.items():
        models = {test["value_param"].strip('"').split('"')[-1] for _, test in tests}
        cells = [worst(column, test, tests) for column, test in FIGURES.items()]
        cells += [all_pass(names, tests) for names in CHECKS.values()]
        known = TEMPLATES.get(architecture, [])
        cells.append((", ".join(known) if rendered else "**FAILS**") if known else "–")
        files = gguf.get(architecture)
        cells += [worst("GGUF logits", GGUF_READ, files), all_pass([GGUF_WRITTEN], files)] if files else ["–", "–"]
        cells += [opened(exports, architecture, program) for program in OPENED_IN]
        lines.append(f"| `{architecture}` | {len(models)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build/release")
    parser.add_argument("--exports", type=Path, help="what tools/check_exports.py --json wrote (default: it is run)")
    parser.add_argument("--write", action="store_true", help="into docs/architectures.md")
    options = parser.parse_args()
    made = table(options.build, json.loads(options.exports.read_text()) if options.exports else check_exports(options.build))
    print(made, end="")
    if options.write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(before + BEGIN + made + END + after, encoding="utf-8")
    sys.exit("FAILS" in made)


if __name__ == "__main__":
    main()
