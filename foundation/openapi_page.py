"""The OpenAPI document as a page for people: plain, and without a script."""

import json
from typing import Any

from flask import render_template_string

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ document.info.title }}: the API</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
code, pre { font-family: ui-monospace, monospace }
pre { background: #f4f4f4; overflow-x: auto; padding: .5rem }
table { border-collapse: collapse }
td, th { border-bottom: 1px solid #ccc; padding: .25rem .75rem .25rem 0; text-align: left;
  vertical-align: top }
</style>
<main>
<h1>{{ document.info.title }}</h1>
<p>{{ document.info.description }} As a document: <a href="openapi.json">openapi.json</a>.</p>
{% macro operation(name, said) %}
<section>
<h3><code>{{ name }}</code></h3>
<p>{{ said.summary }}
{% for proof in said.security|default([]) %}
{% for scheme in proof %} Needs: {{ scheme }}.{% endfor %}
{% endfor %}</p>
{% if said.parameters %}
<table>
<tr><th>name<th>where<th>meaning
{% for one in said.parameters %}
<tr><td><code>{{ one.name }}</code><td>{{ one.in }}<td>{{ one.description|default("") }}
{% endfor %}
</table>
{% endif %}
{% if said.requestBody is defined %}
<details><summary>Body</summary><pre>{{ written(said.requestBody) }}</pre></details>
{% endif %}
<table>
<tr><th>answer<th>meaning
{% for code, answer in said.responses.items() %}
<tr><td><code>{{ code }}</code><td>{{ answer.description }}
{% endfor %}
</table>
</section>
{% endmacro %}
<h2>Calls</h2>
{% for path, methods in document.paths.items() %}{% for method, said in methods.items() %}
{{ operation(method.upper() ~ " " ~ path, said) }}
{% endfor %}{% endfor %}
{% if document.webhooks %}
<h2>Webhooks that it sends</h2>
{% for type, methods in document.webhooks.items() %}
{{ operation(type, methods.post) }}
{% endfor %}
{% endif %}
<h2>Shapes</h2>
{% for name, schema in document.components.schemas.items() %}
<details><summary><code>{{ name }}</code></summary><pre>{{ written(schema) }}</pre></details>
{% endfor %}
</main>
</html>
"""


def page(document: dict[str, Any]) -> str:
    """Return the document as HTML."""
    return render_template_string(_PAGE, document=document, written=_written)


def _written(part: Any) -> str:
    return json.dumps(part, indent=2, ensure_ascii=False)
