"""A site's models that extend the app's, for use with common versioning apps."""

from django.db import models
from simple_history.models import HistoricalRecords

from bunce_sync.models import Segment


class Vip(Segment):
    """A segment with an additional field, in a separate table."""

    owner = models.CharField(max_length=50, default="")


class Numbered(Segment):
    """A segment with a primary key defined by the site."""

    segment = models.OneToOneField(Segment, on_delete=models.CASCADE, parent_link=True)
    number = models.IntegerField(primary_key=True)


class Tracked(Segment):
    """A segment of which django-simple-history keeps every version."""

    history = HistoricalRecords()

    class Meta:
        proxy = True
