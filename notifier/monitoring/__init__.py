"""What operations watch: metrics, doctor, dashboard, endpoint status."""
