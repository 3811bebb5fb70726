"""Shared code of both services' pages: users, sessions, layout, charts.

How to write a page: a view in the service's `pages` package declares its guard (`signed_in`), calls
the core for its data (no SQL in a view), and renders a template that extends `pages/base.html` and
imports its macros (badges, timestamps, forms) from `pages/parts.html`. A form is a POST with
`{{ form_token() }}` in it; its view reads it with `forms.parse_form`, makes the change in one
transaction, flashes a message, and redirects with 303.
"""
