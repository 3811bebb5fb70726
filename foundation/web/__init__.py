"""Incoming HTTP of both services: the Flask application, errors, health, OpenAPI, the server."""
