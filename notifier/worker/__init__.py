"""The worker: claims deliveries, sends them, settles them."""
