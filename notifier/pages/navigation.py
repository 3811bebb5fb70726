"""The pages of eAssessment taken together, and how the navigation names them."""

from foundation.pages.context import Place, Site
from notifier.pages.course_deletion import deletion
from notifier.pages.courses import courses
from notifier.pages.dashboard import overview
from notifier.pages.deliveries import deliveries
from notifier.pages.endpoint_secrets import credentials
from notifier.pages.endpoints import endpoints
from notifier.pages.ways import WAYS

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
