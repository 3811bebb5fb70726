"""The pages of ELMS's grade sync taken together, and how the navigation names them."""

from foundation.pages.context import Place, Site
from receiver.pages.course import entry_pages
from receiver.pages.inbox import inbox_pages
from receiver.pages.runs import run_pages
from receiver.pages.sources import source_pages
from receiver.pages.ways import WAYS

SITE = Site(
    "ELMS grade sync",
    "receiver",
    (
        Place("registry.show", "Registry"),
        Place("runs.show", "Runs"),
        Place("inbox.show", "Inbox"),
        Place("sources.show", "Sources"),
    ),
    WAYS,
)
PAGES = (entry_pages, run_pages, inbox_pages, source_pages)
