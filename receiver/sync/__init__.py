"""The grade sync, a pipeline of stages."""
