"""The usual code without the app: a model, and a Celery task that posts it."""
