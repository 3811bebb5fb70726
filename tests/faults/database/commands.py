"""Every command of both programs, with arguments and an input that it accepts."""

from contract.signatures import Secret
from contract.tokens import CourseToken

COURSE = "CS101-2026"
SITE = "eassessment"
MOODLE = "moodle"
USER = "grace"

_TOKEN = CourseToken.generate().reveal()
_SECRET = Secret.generate().reveal()
_PASSWORD = "correct horse battery"

# Arguments by command.
COMMANDS = {
    "notifier init": "",
    "notifier db upgrade": "",
    "notifier db check": "",
    "notifier db backup": "copy.db",
    "notifier db rotate-key": "",
    "notifier db prune": "--older-than 400d",
    "notifier serve": "",
    "notifier work": "--once",
    "notifier audit list": "",
    "notifier courses add": "CS102 --title Algorithms",
    "notifier courses import": "- --tokens-to tokens.csv",
    "notifier courses list": "",
    "notifier courses show": COURSE,
    "notifier courses delete": COURSE,
    "notifier courses restore": COURSE,
    "notifier courses regenerate-token": COURSE,
    "notifier courses announce-token": "7 --unknown",
    "notifier grades import": "grades.csv",
    "notifier grades forget": "--user ada --yes",
    "notifier endpoints add": "https://other.example/webhooks",
    "notifier endpoints list": "",
    "notifier endpoints disable": "1",
    "notifier endpoints set-event-types": "1 course.deleted",
    "notifier endpoints enable": "2",
    "notifier endpoints set-name": "1 ELMS",
    "notifier endpoints set-token-claims": "1 on",
    "notifier endpoints correct-url": "2 https://right.example/webhooks",
    "notifier endpoints rotate-secret": "1",
    "notifier endpoints ping": "1",
    "notifier endpoints check": "1",
    "notifier trigger": "course.deleted --endpoint 1",
    "notifier endpoints remove": "1 --yes",
    "notifier deliveries list": "",
    "notifier deliveries show": "1",
    "notifier deliveries replay": "1",
    "notifier users add": "ada",
    "notifier users list": "",
    "notifier users set-password": USER,
    "notifier users remove": USER,
    "notifier doctor": "",
    "receiver init": "",
    "receiver db upgrade": "",
    "receiver db check": "",
    "receiver db backup": "copy.db",
    "receiver db rotate-key": "",
    "receiver db prune": "--older-than 400d",
    "receiver serve": "",
    "receiver audit list": "",
    "receiver sources add": "other --url https://e.example",
    "receiver sources list": "",
    "receiver sources add-secret": SITE,
    "receiver sources set-url": f"{SITE} https://moved.example",
    "receiver sources remove": f"{MOODLE} --yes",
    "receiver sources remove-secret": f"{SITE} 1 --yes",
    "receiver sources set-site-token": MOODLE,
    "receiver registry add": f"CS102 --source {SITE}",
    "receiver registry list": "",
    "receiver registry show": COURSE,
    "receiver registry remove": f"{COURSE} --source {SITE}",
    "receiver registry set-token": f"{COURSE} --source {SITE}",
    "receiver registry export": "",
    "receiver registry import": "-",
    "receiver registry set-activity": f"{COURSE} --source {SITE} --course 4 --activity 12",
    "receiver sync-grades": "",
    "receiver grades forget": "--user ada --yes",
    "receiver inbox list": "",
    "receiver verify": "- --id msg_1 --timestamp 1795338000 --signature v1,c2lnbmVk",
    "receiver runs list": "",
    "receiver runs show": "1",
    "receiver runs pause": "",
    "receiver runs resume": "",
    "receiver users add": "ada",
    "receiver users list": "",
    "receiver users set-password": USER,
    "receiver users remove": USER,
    "receiver doctor": "",
}
# Commands that open no database.
WITHOUT_DATABASE = ["receiver listen"]
# What is typed or piped into a command.
STDIN = {
    "notifier users add": _PASSWORD,
    "notifier users set-password": _PASSWORD,
    "notifier courses import": "course_id,title\nCS104,Logic\n",
    "receiver users add": _PASSWORD,
    "receiver users set-password": _PASSWORD,
    "receiver sources add": _SECRET,
    "receiver sources add-secret": _SECRET,
    "receiver sources set-site-token": "0123456789abcdef" * 2,
    "receiver registry add": _TOKEN,
    "receiver registry set-token": _TOKEN,
    "receiver registry import": f"source,course_id,token\n{SITE},CS103,{_TOKEN}\n",
}
DOCTORS = ("notifier doctor", "receiver doctor")
