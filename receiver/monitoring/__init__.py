"""What operations watch: metrics and doctor."""
