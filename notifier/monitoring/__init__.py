"""What operations watch: metrics, doctor, statistics, endpoint summaries."""
