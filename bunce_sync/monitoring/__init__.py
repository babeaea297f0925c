"""What an operator watches: health views, metrics, and a check of django-health-check."""
