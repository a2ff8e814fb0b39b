"""Where runs are written for people: figures on disk, the MLflow mirror, the report and its story."""
