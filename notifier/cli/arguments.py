"""What only eAssessment's commands take: numbers of rows, titles."""

import click

from foundation.arguments import Words
from notifier.models import MAX_ID

ROW_ID = click.IntRange(1, MAX_ID)
TITLE = Words(shortest=1)
