"""What the model's tests borrow from eAssessment's: its databases, factories and sinks."""

from tests.notifier.conftest import attempts_of as attempts_of
from tests.notifier.conftest import database as database
from tests.notifier.conftest import database_url as database_url
from tests.notifier.conftest import delivery_of as delivery_of
from tests.notifier.conftest import endpoint_of as endpoint_of
from tests.notifier.conftest import make_delivery as make_delivery
from tests.notifier.conftest import make_endpoint as make_endpoint
from tests.notifier.conftest import make_sink as make_sink
from tests.notifier.conftest import make_transport as make_transport
from tests.notifier.conftest import sink as sink
from tests.notifier.conftest import subscribed as subscribed
from tests.notifier.conftest import vault as vault
