"""The web pages of ELMS."""
