#!/usr/bin/env python3
"""Makes tests/text/data/template_goldens.json: chat templates rendered by Jinja2, set up as Transformers does.

    python tools/make_template_goldens.py --smollm2 smollm2.gguf --qwen qwen.gguf

Needs the packages `jinja2` and `gguf`. The templates of the two models come out of their GGUF files; the others are written
here, one feature or one model family's habits each.
"""

import argparse
import json
from pathlib import Path

CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "2 < 3 & 'x' \"y\"\n\n"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"},
     {"role": "user", "content": "c é \U0001f600\tz"}],
    [{"role": "system", "content": ""}, {"role": "user", "content": "Line one\nLine two"},
     {"role": "assistant", "content": "ok"}, {"role": "user", "content": "{{ not a tag }} {% raw %}"}],
]

FAMILIES = {
    "header": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start|>' + message['role'] + '<|end|>\n\n' + message['content'] | trim + '<|eot|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}",
    "header_dated": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
Today: {{ date_string }}
{{- system_message }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '[' + message['role'] + ']\\n' + message['content'] | trim + '#' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}{{- raise_exception("one call") }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '[assistant]\\n' }}{%- endif %}
""",
    "instruct": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}{{- raise_exception("roles must alternate") }}{%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- else %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- endif %}
{%- endfor %}
""",
    "turns": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<turn>' + role + '\n' + message['content'] | trim + '<end>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<turn>model\n'}}{% endif %}",
    "thinking": """{%- set ns = namespace(multi_step=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string and not(message.content.startswith('<r>') and message.content.endswith('</r>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{%- set content = message.content %}{%- else %}{%- set content = '' %}{%- endif %}
    {%- if message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last %}{{- reasoning.strip('\\n') }}{%- endif %}
        {{- '<a>' + content + '(' ~ reasoning ~ ')' }}
    {%- else %}
        {{- '<' + message.role + '>' + content }}
    {%- endif %}
{%- endfor %}
{%- if enable_thinking is defined and enable_thinking is false %}never{%- endif %}
""",
    "list_content": """{%- macro part(c, name='x') -%}
  {%- if c is string -%}{{ c | trim }}{%- elif c is iterable -%}{%- for i in c -%}{{ i.text }}{%- endfor -%}{%- else -%}{{ raise_exception("bad") }}{%- endif -%}
{%- endmacro -%}
{%- for m in messages if m.role != 'system' -%}
{{ loop.index }}/{{ loop.length }}: {{ part(m.content) }}{{ part([{'text': m.role}], name='y') }}
{% else -%}
none
{%- endfor %}
""",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}\n",
}

PIECES = [
    "{{ 1 + 2 * 3 - 4 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 7 / 2 }} {{ 1e3 }} {{ 1.5e-7 }} {{ 1e16 }} {{ 0.1 + 0.2 }} {{ 1_000 }}",
    "{{ 1 ~ 2 ~ 'a' ~ none ~ true ~ [1, 'b', 2.0] ~ {'k': 'v', 1: none} ~ (1,) ~ (1, 2) }}",
    "{{ not true or true and false }} {{ 1 < 2 < 3 }} {{ 3 > 2 == true }} {{ 'a' in 'cat' }} {{ 4 not in [1, 2] }} {{ none is none }} {{ x is defined }} {{ not x }} {{ x or 'y' }}",
    "{{ 'a' if false }}|{{ 'a' if true else 'b' }}|{{ 'a' if 0 else 'b' if 1 else 'c' }}|{{ x }}|{{ x|default('d') }}|{{ ''|default('e', true) }}|{{ none|d('f') }}|{{ none|d('f', boolean=true) }}",
    "{{ [1,2,3][-1] }} {{ [1,2,3,4][1:3] }} {{ 'hello'[::-1] }} {{ 'h\u00e9llo'[1] }} {{ 'hello'[-3:] }} {{ [1,2,3][::2] }} {{ (1,2,3)[:2] }} {{ [1,2,3,4,5][3:0:-2] }} {{ [1][5] is undefined }} {{ 'abc'[10:] }} {{ [1,2][-9:9] }}",
    "{{ 'Hi There'.upper() }} {{ 'Hi'.lower() }} {{ 'hi there'.title() }} {{ 'hELLO wORLD'|capitalize }} {{ 'a-b-c'.split('-') }} {{ ' a  b '.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'xxaxx'.strip('x') }} {{ ' a '.lstrip() }}| {{ ' a '.rstrip() }}| {{ 'a b'.replace(' ', '_') }} {{ 'aXbX'.replace('X', '', 1) }}",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abcabc'.find('c') }} {{ 'abc'.find('z') }} {{ 'abcabc'.count('b') }} {{ '-'.join(['a', 'b']) }} {{ '{} and {}'.format('a', 2) }} {{ '{1}{0}{x}'.format('a', 'b', x=3) }} {{ 'a\\nb'.splitlines() }} {{ '12'.isdigit() }} {{ 'a1'.isalpha() }} {{ '%s=%d' % ('a', 3) }} {{ '%s' % 'x' }} {{ '%s!'|format('q') }}",
    "{{ {'a': 1, 'b': [2]}|tojson }} {{ ['\u00e9<>&\\'', none, true, 1.0]|tojson }} {{ {'a': {'b': [1, 2], 'c': {}}}|tojson(indent=2) }} {{ 'q\"\\\\\\n\\t'|tojson }} {{ []|tojson(indent=4) }}",
    "{{ messages|map(attribute='role')|join(', ') }} {{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ messages|rejectattr('role', 'eq', 'user')|map(attribute='content')|list }} {{ [1,2,3,4]|select('odd')|list }} {{ [1,2,3]|reject('gt', 2)|list }} {{ ['a','b']|map('upper')|join }} {{ [0, 1, '', 'x']|select|list }}",
    "{{ [3,1,2]|sort }} {{ ['b','A','c']|sort }} {{ [3,1,2]|sort(reverse=true)|first }} {{ [1,2]|last }} {{ 'abc'|first }} {{ [1,1,2]|unique|list }} {{ [1,2]|sum }} {{ [4,9]|max }} {{ [4,9]|min }} {{ -3|abs }} {{ 'abc'|reverse }} {{ [1,2]|reverse|list }} {{ {'b': 1, 'a': 2}|dictsort }} {{ {'b': 1}|items|list }} {{ 3.7|int }} {{ '12'|int + 1 }} {{ 'x'|int(7) }} {{ '1.5'|float }} {{ 2.567|round(1) }} {{ 'a b c'|wordcount }} {{ 5|string ~ 'x' }} {{ 'abc'|list }} {{ '<a>'|e }} {{ 'abc'|length }} {{ 'h\u00e9'|count }}",
    "{{ 'a\\nb\\n\\nc'|indent }}|{{ 'a\\nb'|indent(2, true) }}|{{ 'a\\n\\nb'|indent(width=1, blank=true) }}|{{ 'a\\nb'|indent('> ') }}|{{ '  x '|trim }}|{{ 'xax'|trim('x') }}|{{ [1,[2,'c']]|join('-') }}|{{ 'aXX'|replace('X', 'y') }}",
    "{{ 1 is number }} {{ 'a' is string }} {{ {} is mapping }} {{ [] is sequence }} {{ [] is iterable }} {{ 1 is iterable }} {{ true is boolean }} {{ 1 is boolean }} {{ true is true }} {{ 1 is true }} {{ 0 is false }} {{ 1 is integer }} {{ 1.0 is float }} {{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 'a' is in ['a'] }} {{ 1 is eq 1 }} {{ 1 is not none }} {{ 'AB' is upper }} {{ x is not defined }} {{ range is callable }} {{ x is undefined and 1 is defined }}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }}{{ ', ' if not loop.last }}{% endfor %} {% for k in {'a': 1} %}{{ k }}{% endfor %} {% for a, b in [(1, 2), [3, 4]] %}{{ a + b }};{% endfor %} {% for c in 'h\u00e9' %}[{{ c }}]{% endfor %} {% for x in [] %}{% else %}empty{% endfor %} {% for x in nothing %}{% else %}undefined{% endfor %}",
    "{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 4 %}{% break %}{% endif %}{{ i }}{% endfor %} {% for i in range(5, 0, -2) %}{{ i }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }} {% endfor %}{% for i in [1, 2, 3, 4] if i is even %}{{ loop.index }}{{ i }}{{ loop.previtem|default('-') }}{{ loop.nextitem|default('-') }}{{ loop.cycle('o', 'e') }}{% endfor %}",
    "{% for i in [1, 2] %}{% for j in [3, 4] %}{{ i }}{{ j }}{{ loop.depth }}{{ loop.index0 }} {% endfor %}{{ loop.index }}{% endfor %}{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{% endfor %}",
    "{% set a = 1 %}{% for i in [1, 2] %}{{ a }}{% set a = a + i %}{{ a }} {% endfor %}{{ a }} {% set ns = namespace(n=0, s='') %}{% for i in [1, 2, 3] %}{% set ns.n = ns.n + i %}{% set ns.s = ns.s ~ i %}{% endfor %}{{ ns.n }}{{ ns.s }} {% set x, y = 1, 2 %}{{ x }}{{ y }} {% if true %}{% set z = 9 %}{% endif %}{{ z }}",
    "{% set b %}block {{ 1 + 1 }}{% endset %}[{{ b }}]{% set c | upper | trim %} up {% endset %}[{{ c }}]{% filter upper %}loud {{ 'x' }}{% endfilter %}{% with p = 1, q = 2 %}{{ p + q }}{% endwith %}{{ p is defined }}",
    "{% macro m(a, b='B', c=none) %}({{ a }}{{ b }}{{ c }}){% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m(1, 2, 3) }}{{ m() }}{% set g = 5 %}{% macro h() %}{{ g }}{% endmacro %}{{ h() }}{% macro r(n) %}{{ n }}{% if n > 0 %}{{ r(n - 1) }}{% endif %}{% endmacro %}{{ r(3) }}{% macro w(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call w('b') %}in{% endcall %}{{ m(1)|upper ~ 'x' }}",
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n  {%+ if true %}d{% endif +%}\ne {{- ' f ' -}} g\n  {# note #}\nh {#- cut -#} i\n{%- set q = 1 -%}\n  j\n  {{ 'k' }}\n  l",
    "  {% for i in [1, 2] %}\n    {{ i }}\n  {% endfor %}\n\n\n{% if false %}\nx\n{% elif true %}\ny\n{% else %}\nz\n{% endif %}  \n end \n\n",
    "{% raw %}{{ x }} {% if %}{% endraw %}!\n  {%- raw -%}  a  {%- endraw -%}  b{{ '{{' }}{{ {'a': {'b': 1}}['a']['b'] }}{{ {'a': {'b': 2}}.a.b }}{% raw %}\nz\n{% endraw %}\nend",
    "{{ 'it\\'s' }}{{ \"a\\tb\" }}{{ '\\u00e9\\x41' }}{{ '\\d' }}{{ 'a' 'b' }}{{ 'multi\nline' }}{{ [1,]|length }}{{ {'a': 1,}.a }}{{ ()|length }}{{ ((1)) }}{{ 'x' * 3 }}{{ [0] * 2 }}{{ [1] + [2] }}{{ -2 ** 2 }}{{ +3 }}{{ 'a' < 'b' }}{{ [1, 2] == [1, 2] }}{{ {'a': 1} == {'a': 1.0} }}{{ 1 == true }}{{ '1' == 1 }}",
    "{{ messages[0].role }}{{ messages[0]['content'] }}{{ messages[0].nothing }}{{ messages[0].get('x', 'no') }}{{ messages[0].get('x') }}{{ messages[0].items()|list }}{{ messages[0].keys()|list }}{{ messages[0]|length }}{{ messages[-1].content|length }}{{ 'role' in messages[0] }}{{ 'x' in messages[0] }}{{ tools is none }}{{ tools }}{{ add_generation_prompt }}{{ {'items': 3}['items'] }}",
    "{{ [1, 'a\\'b', \"q\\\"\", none, true, 1.5, {'x': (1, [2])}] }}{{ dict(a=1, b='c') }}{{ namespace(a=1).a }}{{ range(3)|list }}{{ (1, 2) + (3,) }}{{ [[1, 2], [3]]|map('first')|list }}{{ ['ab', 'c']|map('length')|sum }}{{ [{'n': 1}, {'n': 2}]|sum(attribute='n') }}{{ [{'n': 2}, {'n': 1}]|sort(attribute='n')|map(attribute='n')|list }}{{ [{'a': {'b': 5}}]|map(attribute='a.b')|first }}{{ [{}]|map(attribute='q', default='D')|list }}",
    "{{ raise_exception('no ' ~ 1) }}", "{{ x.y }}", "{{ x.y.z }}", "{{ 1 + 'a' }}", "{{ [].append(1) }}", "{{ x + 1 }}", "{{ 1 / 0 }}", "{{ 'a' | nofilter }}",
    "{{ f( }}", "{% if %}{% endif %}", "{% for %}", "{% endif %}", "{{ 'open", "{% if true %}", "{{ }}", "{% unknown %}", "{{ a b }}", "{# open", "{% raw %}x", "{{ 5() }}",
    "{{ messages }}", "", "plain text\n", "x\r\ny\r\n", "{", "{ {", "a{{1}}b", "{{ '}}' }}", "{{ '%}' }}", "{%if true%}x{%endif%}", "\u00e9 {{ '\U0001f600' }} \u4e2d",
]


def make_environment():
    """Jinja2 as Transformers sets it up for chat templates."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):  # Transformers marks the assistant's tokens by this tag; the text is the body's.
        tags = {"generation"}

        def parse(self, parser):
            next(parser.stream)
            return parser.parse_statements(["name:endgeneration"], drop_needle=True)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: "now"
    return environment


def main():
    import jinja2
    from gguf import GGUFReader

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smollm2", required=True)
    parser.add_argument("--qwen", required=True)
    parser.add_argument("--out", default=str(Path(__file__).resolve().parent.parent / "tests/text/data/template_goldens.json"))
    options = parser.parse_args()

    environment = make_environment()
    def read_template(path):
        return GGUFReader(path).fields["tokenizer.chat_template"].contents()

    templates = {"smollm2": read_template(options.smollm2), "qwen": read_template(options.qwen), **FAMILIES}
    templates.update({f"piece {i}": piece for i, piece in enumerate(PIECES)})
    cases = []
    for name, source in templates.items():
        several = not name.startswith("piece")
        renders = []
        for i, conversation in enumerate(CONVERSATIONS if several else CONVERSATIONS[2:3]):
            for prompt in ([False, True] if several else [True]):
                try:
                    text = environment.from_string(source).render(
                        messages=conversation, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>", tools=None,
                        documents=None)
                    renders.append({"conversation": i if several else 2, "prompt": prompt, "text": text})
                except Exception as error:  # whatever Jinja2 refuses must be refused
                    renders.append({"conversation": i if several else 2, "prompt": prompt, "error": type(error).__name__})
        cases.append({"name": name, "source": source, "renders": renders})
    golden = {"made_by": "tools/make_template_goldens.py", "jinja2": jinja2.__version__, "conversations": CONVERSATIONS,
              "cases": cases}
    Path(options.out).write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    errors = sum("error" in render for case in cases for render in case["renders"])
    print(f"{options.out}: {len(cases)} templates, {sum(len(c['renders']) for c in cases)} renders, {errors} refused, "
          f"{Path(options.out).stat().st_size / 1024:.0f} KiB")
    for case in cases:
        for render in case["renders"]:
            if "error" in render and len(case["source"]) > 60:
                print("  refused:", case["name"], render["error"])


if __name__ == "__main__":
    main()
