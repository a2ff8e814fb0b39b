"""What runs beside the training: APScheduler jobs that only read files or empty queues."""
