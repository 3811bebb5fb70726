"""Search for courses by parts of ids and titles: the condition and the order of a search."""

import unicodedata

from sqlalchemy import ColumnElement, and_, case, true

from foundation.db.pagination import Key
from notifier.models import Course

# Characters of id and title that are searched; at four bytes each they fit into an index.
LONGEST_KEY = 600
_LAST = "\U0010ffff"


def key(words: str) -> str:
    """Return text normalised for comparison: no accents, one case, limited length."""
    normal = unicodedata.normalize("NFKD", words[:LONGEST_KEY])
    plain = unicodedata.normalize("NFKD", normal.casefold())
    bare = "".join(char for char in plain if not unicodedata.combining(char))
    return " ".join(bare.split())[:LONGEST_KEY]


def condition(words: str) -> ColumnElement[bool]:
    """Return the condition for the courses whose id and title contain all words of a search."""
    found = (Course.search_key.contains(word, autoescape=True) for word in key(words).split())
    return and_(true(), *found)


def relevance(words: str) -> tuple[Key, ...]:
    """Return the keys of the order in which ids that start with the search come first."""
    prefix = key(words)
    starts = and_(Course.search_key >= prefix, Course.search_key < prefix + _LAST)
    return (case((starts, 0), else_=1), Course.search_key, Course.id)
