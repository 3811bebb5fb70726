"""The pages of eAssessment taken together, and how the navigation names them."""

from foundation.pages.ground import Place, Site
from notifier.web.pages.courses import courses
from notifier.web.pages.credentials import credentials
from notifier.web.pages.deletion import deletion
from notifier.web.pages.deliveries import deliveries
from notifier.web.pages.endpoints import endpoints
from notifier.web.pages.overview import overview
from notifier.web.pages.ways import WAYS

SITE = Site(
    "eAssessment",
    "notifier",
    (
        Place("overview.show", "Overview"),
        Place("courses.listed", "Courses", ("deletion",)),
        Place("deliveries.listed", "Deliveries"),
        Place("endpoints.listed", "Endpoints", ("credentials",)),
    ),
    WAYS,
)
PAGES = (overview, courses, deletion, deliveries, endpoints, credentials)
