"""A site's models that extend the app's, for use with common versioning apps."""

from django.db import models
from simple_history.models import HistoricalRecords

from bunce_sync.models import Segment


class Vip(Segment):
    """A segment with an additional field, in a separate table."""

    owner = models.CharField(max_length=50, default="")


class Campaign(Segment):
    """A segment with fields of many kinds."""

    groups = models.ManyToManyField("auth.Group", blank=True)
    starts = models.DateTimeField(null=True, blank=True)
    paid = models.BooleanField(null=True, blank=True)
    rules = models.JSONField(default=dict, blank=True)
    budget = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    owner = models.ForeignKey("auth.User", models.SET_NULL, null=True, blank=True)
    attachment = models.FileField(blank=True)
    slug = models.CharField(max_length=50, default="", blank=True)
    editor = models.CharField(max_length=50, default="", editable=False)
    saved = models.DateTimeField(auto_now=True)


class Numbered(Segment):
    """A segment with a primary key defined by the site."""

    segment = models.OneToOneField(Segment, on_delete=models.CASCADE, parent_link=True)
    number = models.IntegerField(primary_key=True)


class Tracked(Segment):
    """A segment of which django-simple-history keeps every version."""

    history = HistoricalRecords()

    class Meta:
        proxy = True
