"""For those who run gunicorn themselves: gunicorn -c gunicorn.conf.py 'notifier.app:create_app()'.

`notifier serve` and `receiver serve` are this and more: they refuse to start on a schema that is
not theirs, and take address, processes and threads from the settings.
"""

bind = "127.0.0.1:8001"  # 8002 for 'receiver.app:create_app()'
workers = 2
threads = 4
# Limits on slow and malformed requests, answered as problem documents.
worker_class = "foundation.web.connections.Connections"
worker_connections = 500
graceful_timeout = 30
keepalive = 15
max_requests = 50_000
max_requests_jitter = 5_000
limit_request_line = 8190
limit_request_field_size = 16 * 1024
limit_request_fields = 64
forwarded_allow_ips = ""
control_socket_disable = True
