#!/usr/bin/env python3
"""Makes tests/text/data/template_families.json: the templates of tests/text/data/templates rendered by Jinja2, set up as
Transformers does.

    python tools/make_template_families.py

Needs the package `jinja2`. The templates are written from knowledge of what the families' published ones do (Llama 2 and 3.1,
Mistral, Qwen2.5 and 3, SmolLM3, Gemma 3, Phi-3 and 4, OLMo 2, Granite); none is a copy. Each is rendered for each context, with and
without a generation prompt. strftime_now gives "<now:FORMAT>", which the test puts in for the day it runs on.
"""

import json
from pathlib import Path

from make_template_goldens import make_environment

DATA = Path(__file__).resolve().parent.parent / "tests/text/data"
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "It's <sunny> & warm?", "parameters": {
        "type": "object", "properties": {"place": {"type": "string", "description": "Where – é"}, "days": {"type": "integer"},
                                         "units": {"type": ["string", "null"]}, "hours": {"type": "array", "items": {"type": "number"}}},
        "required": ["place"]}, "strict": True, "extra": {"a": [1, 2.5, None]}}}
ADD = {"type": "function", "function": {"name": "add", "parameters": {
    "type": "object", "properties": {"b": {"type": "number"}, "a": {"type": "boolean"}}, "required": []}}}


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "get_weather", "arguments": {"place": "Rom \"é\"", "days": 3}}}
CONTEXTS = [
    {"messages": [user("Hi")]},
    {"messages": [system(" Be brief. "), user(" 2 < 3 & 'x' \"y\"\n\n")]},
    {"messages": [user("a"), assistant("<think>\nhm\n</think>\n\nb"), user("c é \U0001f600\tz")]},
    {"messages": [system("/no_think Be kind."), user("Line one\nLine two"), assistant("ok "), user("{{ x }}"), assistant("fine!")]},
    {"messages": [user("one"), user("two")]},
    {"messages": [system(""), user("")]},
    {"messages": []},
    {"messages": [user("Weather?")], "tools": [WEATHER]},
    {"messages": [system("S"), user("Weather?"), assistant("", tool_calls=[CALL]),
                  {"role": "tool", "name": "get_weather", "content": "21 °C", "tool_call_id": "abcdefghi"}, assistant("Warm."),
                  user("And add?")], "tools": [WEATHER, ADD]},
    {"messages": [user("x"), assistant(None, tool_calls=[CALL, CALL]), {"role": "tool", "content": "1"},
                  {"role": "tool", "content": "2"}]},
    {"messages": [user([{"type": "text", "text": " look "}, {"type": "image"}, {"type": "text", "text": "here"}]), assistant("I see.")]},
    {"messages": [user("q"), assistant("a", reasoning_content="\nbecause\n")], "enable_thinking": False},
    {"messages": [user("q")], "documents": [{"text": "D0"}, {"text": "D1"}], "controls": {"citations": True, "length": "short"}},
    {"messages": [system("/system_override You."), user("q /no_think")], "tools_in_user_message": False, "tools": [ADD],
     "date_string": "1 Jan 2025"},
]


def main():
    import jinja2
    environment = make_environment()
    environment.globals["strftime_now"] = lambda form: f"<now:{form}>"
    goldens = {"made_by": "tools/make_template_families.py", "jinja2": jinja2.__version__, "contexts": CONTEXTS, "templates": {}}
    for path in sorted((DATA / "templates").glob("*.jinja")):
        template = environment.from_string(path.read_text(encoding="utf-8"))
        renders = []
        for context in CONTEXTS:
            for prompt in (False, True):
                variables = {"tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>", **context}
                try:
                    renders.append({"text": template.render(add_generation_prompt=prompt, **variables)})
                except Exception as error:  # whatever Jinja2 refuses must be refused
                    renders.append({"error": f"{type(error).__name__}: {error}"})
        goldens["templates"][path.stem] = renders
        print(path.stem, [r["error"] for r in renders if "error" in r and "UndefinedError" not in r["error"]][:3])
    out = DATA / "template_families.json"
    out.write_text(json.dumps(goldens, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    print(out, out.stat().st_size)


if __name__ == "__main__":
    main()
