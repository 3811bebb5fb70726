"""The ground that both services' pages stand on: users, sessions, layout, charts.

How a page is written: a view in the service's `web/pages` states its guard (`signed_in`), asks the
module named after its noun for facts (no SQL in a view), and renders a template that extends
`pages/base.html` and takes its parts (badges, times, tables, forms) from `pages/parts.html`.
A form is a POST with `{{ form_token() }}` in it; its view reads it with `forms.parse_form`, changes
what it is asked to in one transaction, flashes a sentence, and redirects with 303.
"""
