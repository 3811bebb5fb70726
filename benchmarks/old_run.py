"""The run of old: every course by itself, one after another, whatever became of it."""

import time
from collections.abc import Sequence

import requests
from sqlalchemy import select

from benchmarks.cost import Cost
from benchmarks.stage import Stage
from contract.grades import GradesAnswer
from foundation.database import Database
from receiver import gradebook
from receiver.eassessment import url_of
from receiver.models import Entry
from receiver.outcomes import Question
