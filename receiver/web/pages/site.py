"""The pages of ELMS's grade sync taken together, and how the navigation names them."""

from foundation.pages.ground import Place, Site
from receiver.web.pages.entries import entry_pages
from receiver.web.pages.inbox import inbox_pages
from receiver.web.pages.runs import run_pages
from receiver.web.pages.sources import source_pages
from receiver.web.pages.ways import WAYS

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
