"""The pages of ELMS's grade sync taken together, and how the navigation names them."""

from foundation.pages.ground import Place, Site
from receiver.web.pages.registry import registry_pages

SITE = Site("ELMS grade sync", "receiver", (Place("registry.show", "Registry"),))
PAGES = (registry_pages,)
