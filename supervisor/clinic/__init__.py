"""Faulty and healthy trainings, and the table that tells how well they are seen and treated."""
