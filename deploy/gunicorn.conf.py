"""Gunicorn behind nginx, for a site that needs more than one process for a service.

    pip install 'course-webhooks[gunicorn]'
    gunicorn -c gunicorn.conf.py 'notifier.app:create_app()'

nginx has to buffer requests and responses, as in nginx/: without it, a few slow clients occupy
every thread. `notifier serve` and `receiver serve` do not need a proxy for that, and they refuse
to start on a database with another schema; run `notifier db check` before this.
"""

bind = "127.0.0.1:8001"  # 8002 for 'receiver.app:create_app()'
workers = 4
threads = 4
max_requests = 50_000
max_requests_jitter = 5_000
limit_request_line = 8190
limit_request_fields = 64
# The service decides itself whose X-Forwarded-For it believes.
forwarded_allow_ips = ""
control_socket_disable = True
